"""What is asked about FLOPs, checked: phase, lengths, masks; and what that means for each stack."""

from __future__ import annotations

from collections.abc import Sequence

from txcalc.architecture import MixtureOfExperts, Model, Stack
from txcalc.errors import RequestError
from txcalc.expression import Expression, symbol
from txcalc.formulas.flops_work import (
    LATENTS,
    LOGITS,
    MASKS,
    PHASES,
    ROUTINGS,
    SCANS,
    Latent,
    Logits,
    Mask,
    Phase,
    Routing,
    Scan,
    Work,
)
from txcalc.formulas.workload import prompt_of, require_model, require_positive, source_length
from txcalc.record import Record

TOWERS = ("vision", "audio")


class Question(Record):
    """One question about one model, every default filled in.

    ``tokens`` are the query tokens of the main stack, ``keys`` what they can see; ``source``: the encoder's length.
    """

    phase: Phase
    tokens: int
    keys: int
    batch: int
    source: int | None
    images: int
    mask: Mask
    logits: Logits
    moe: Routing
    mla: Latent
    scan: Scan

    def work(self, model: Model, stack: Stack) -> Work | None:
        """The work of one stack; None where it does not run: an encoder while decoding, a tower without images."""
        decoding = self.phase == "decode"
        B = symbol("B", self.batch)
        if stack is model.main:
            T, S = self._main_lengths(prompt_of(stack))
        elif decoding:
            return None
        elif stack.role in TOWERS:
            if not self.images or stack.role == "audio":
                return None
            B = B * symbol("images", self.images)
            T, S = (symbol(letter, stack.fixed_length or self.tokens) for letter in "TS")
        else:
            T, S = (symbol(letter, self.source or self.tokens) for letter in "TS")
        return Work(
            B=B,
            T=T,
            S=S,
            rows=B * T,
            source=symbol("S_source", self.source) if self.source is not None else None,
            decoding=decoding,
            mask=self.mask,
            moe=self.moe,
            mla=self.mla,
            scan="recurrent" if decoding else self.scan,
        )

    def _main_lengths(self, prompt: int) -> tuple[Expression, Expression]:
        """(queries, keys) of the main stack, with what stands before every sequence."""
        T, S = symbol("T", self.tokens), symbol("S", self.keys)
        if not prompt:
            return T, S
        before = symbol("prompt_tokens", prompt)
        return T if self.phase == "decode" else T + before, S + before

    def convention(self, model: Model) -> str:
        """The choices that change the count, in words; of experts only where there are some."""
        masks = {
            "full": "the whole score square, windows ignored",
            "half": "half the score square where attention is causal",
            "exact": "only the scores that the masks keep",
        }
        experts = {"routed": "experts that a token visits", "all_experts": "every expert for every token"}
        words = [masks[self.mask], f"logits at {'every position' if self.logits == 'all' else 'the last position'}"]
        sublayers = (each for stack in model.stacks for layer in stack.layers for each in layer.sublayers())
        mixed = any(isinstance(each, MixtureOfExperts) for each in sublayers)
        return "; ".join([*words, experts[self.moe]] if mixed else words)


def question(
    model: Model,
    *,
    seq: int | None = None,
    ctx: int | None = None,
    batch: int = 1,
    phase: Phase = "forward",
    mask: Mask = "full",
    logits: Logits | None = None,
    source_seq: int | None = None,
    images: int | None = None,
    moe: Routing = "routed",
    mla: Latent = "expanded",
    scan: Scan = "chunked",
) -> Question:
    """The question with its defaults.

    Raises:
        RequestError: see ``txcalc.flops``.
    """
    require_described(model)
    for name, value, known in (
        ("phase", phase, PHASES),
        ("mask", mask, MASKS),
        ("logits", logits or "all", LOGITS),
        ("moe", moe, ROUTINGS),
        ("mla", mla, LATENTS),
        ("scan", scan, SCANS),
    ):
        require_one_of(name, value, known)
    require_positive(seq=seq, ctx=ctx, batch=batch, source_seq=source_seq)
    tokens, keys = _lengths(model, seq, ctx, phase)
    return Question(
        phase=phase,
        tokens=tokens,
        keys=keys,
        batch=batch,
        source=source_length(model, keys, source_seq),
        images=_images(model, images, tokens, phase),
        mask=mask,
        logits=logits or ("last" if phase in ("prefill", "decode") else "all"),
        moe=moe,
        mla=mla,
        scan=scan,
    )


def require_described(model: Model) -> None:
    """Refuse a model of which only the parameters are known.

    Raises:
        RequestError: naming why.
    """
    require_model(model)
    if model.only_params:
        raise RequestError(f"{model.name}: {model.only_params}", "txcalc params counts it")


def require_one_of(name: str, value: object, known: Sequence[str]) -> None:
    """Refuse a choice that there is not.

    Raises:
        RequestError: naming the value and the choices.
    """
    if value not in known:
        raise RequestError(f"{name} is {value!r}", f"known: {', '.join(known)}")


def _lengths(model: Model, seq: int | None, ctx: int | None, phase: Phase) -> tuple[int, int]:
    """(query tokens, keys) of the main stack."""
    if phase == "decode":
        return 1, _cached(model, seq, ctx) + 1
    if seq is not None and ctx is not None:
        raise RequestError("seq and ctx are both given, and mean the same here", "give seq; ctx is for phase decode")
    length = seq or ctx or model.main.fixed_length
    if length is None:
        raise RequestError("no length is given", "seq is the number of tokens in each sequence")
    return length, length


def _cached(model: Model, seq: int | None, ctx: int | None) -> int:
    if model.main.role != "decoder":
        raise RequestError(f"{model.name} has no decoder: it sees all tokens at once", "use phase forward")
    if model.main.looks_ahead:
        raise RequestError(f"{model.name} does not decode: its tokens see later ones", "use phase forward")
    if seq is not None:
        raise RequestError("a decode step takes one token after ctx cached ones; seq is not for it", "give ctx")
    if ctx is None:
        raise RequestError("no length is given", "ctx is the number of tokens in the cache")
    return ctx


def _images(model: Model, images: int | None, tokens: int, phase: Phase) -> int:
    """How many images a sequence holds; their tokens are part of its length."""
    if images is None or images == 0:
        return 0
    require_positive(images=images)
    tower = model.stack("vision")
    if tower is None or tower is model.main:
        raise RequestError(f"{model.name} has no vision tower beside its text model", "leave out images")
    if phase == "decode":
        raise RequestError("a decode step runs no vision tower: images are in its cache", "leave out images")
    taken = sum(images * (each.tokens or 0) for each in model.connectors if each.tower == "vision")
    if taken > tokens:
        raise RequestError(f"{images} images take {taken:,} tokens of a sequence of {tokens:,}", "give a longer seq")
    return images
