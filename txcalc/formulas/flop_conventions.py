"""Whose FLOPs: the conventions of papers and tools for one training step, and where each differs from matmul-full.

Each preset is the formula of its source applied to the model; ``differences`` are signed terms that add up, to the
FLOP, to its distance from matmul-full (``MEANS`` says what each is). What they leave is ``other``: nothing in a model
of attention, feed-forwards and experts.
For a mixture of experts a formula in parameters takes the active ones, unless its source does otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, get_args

from txcalc.architecture import Model
from txcalc.errors import RequestError
from txcalc.expression import Expression, symbol
from txcalc.formulas.flop_facts import Facts, require_one_text_stack
from txcalc.formulas.flops_question import question, require_one_of
from txcalc.formulas.flops_work import RECOMPUTES, Recompute
from txcalc.formulas.recomputation import recomputed
from txcalc.record import Record
from txcalc.result import Node, leaf, total

Term = Literal[
    "attention", "logits", "embedding", "recompute", "softmax", "norms", "projections", "feed_forward", "experts",
    "routing", "other",
]  # fmt: skip
TERMS: Final[tuple[Term, ...]] = get_args(Term)
MEANS: Final[Mapping[Term, str]] = {
    "attention": "score and value products",
    "logits": "the output matrix",
    "embedding": "input tables",
    "recompute": "activations made again",
    "softmax": "operations on scores",
    "norms": "norms, biases and scales: parameters that are no matrix",
    "projections": "matrices of attention: the formula has 4 h^2, a KV head for each query head",
    "feed_forward": "the formula has 8 h^2, two matrices of width 4 h",
    "experts": "experts that a token does not visit",
    "routing": "the router, and gates of shared experts",
    "other": "products without a matrix of their own (states, convolutions), matrices that run more than once, "
    "and those that no gradient reaches",
}

Counted = tuple[list[Node], Mapping[Term, Expression]]


class Convention(Record):
    """A way to count: ``count`` gives the parts and the named differences."""

    name: str
    says: str
    source: str
    count: Callable[[Facts], Counted]
    one_stack: bool = True


def conventions(
    model: Model,
    *,
    seq: int | None = None,
    batch: int = 1,
    names: Sequence[str] | None = None,
    source_seq: int | None = None,
    recompute: Recompute = "none",
) -> list[Node]:
    """One node a convention: FLOPs of a training step, with its parts, and aside its differences to matmul-full.

    ``names=None``: every convention that is defined for the model. ``recompute`` changes ``executed`` alone.

    Raises:
        RequestError: an unknown convention, or one that is not defined for the model; a length below 1.
    """
    require_one_of("recompute", recompute, RECOMPUTES)
    facts = Facts(model, question(model, seq=seq, batch=batch, phase="train", source_seq=source_seq))
    known = {**PRESETS, "executed": executed(recompute)}
    chosen = list(known) if names is None else [_named(name, known) for name in names]
    made = []
    for name in chosen:
        try:
            made.append(_counted(known[name], facts))
        except RequestError:
            if names is not None:
                raise
    return made


def _named(name: str, known: Mapping[str, Convention]) -> str:
    if name not in known:
        raise RequestError(f"unknown convention {name!r}", f"known: {', '.join(known)}, or all")
    return name


def _counted(convention: Convention, facts: Facts) -> Node:
    if convention.one_stack:
        require_one_text_stack(convention.name, facts.model)
    parts, named = convention.count(facts)
    value = sum(int(part.value) for part in parts)
    return total(
        convention.name,
        "FLOPs",
        [*parts, _differences(named, value - facts.training)],
        key=f"conventions.{convention.name}",
        source=convention.source,
        convention=convention.says,
    )


def _differences(named: Mapping[Term, Expression], whole: int) -> Node:
    """Signed terms that add up to ``whole``; ``other`` is the rest of it."""
    rest = whole - sum(int(value) for value in named.values())
    given: dict[Term, Expression] = {**named, "other": symbol("other", rest)}
    terms = [leaf(term, "FLOPs", given[term], note=MEANS[term]) for term in TERMS if int(given.get(term, 0))]
    return total("difference", "FLOPs", terms, aside=True, note="to matmul-full")


# ---- matrix products ------------------------------------------------------------------------------------------------


def _products(f: Facts) -> list[Node]:
    """Three times each product of the forward pass, less what has no gradient (see ``flops``)."""
    rest = symbol("no_gradient", 3 * int(f.forward.value) - f.training)
    matrices = 3 * f.matrices - rest if int(rest) else 3 * f.matrices
    return [leaf("matrices", "FLOPs", matrices), leaf("logits", "FLOPs", 3 * f.logits)]


def _matmul_full(f: Facts) -> Counted:
    return [*_products(f), leaf("attention", "FLOPs", 3 * f.attention)], {}


def _matmul_causal(f: Facts) -> Counted:
    kept = f.attention_with("exact")
    return [*_products(f), leaf("attention", "FLOPs", 3 * kept)], {"attention": 3 * kept - 3 * f.attention}


def _megatron(f: Facts) -> Counted:
    half = f.attention_with("half")
    parts = [
        leaf("matrices", "FLOPs", 3 * (f.matrices - f.routing) if int(f.routing) else 3 * f.matrices),
        leaf("attention", "FLOPs", 3 * half),
        leaf("logits", "FLOPs", 3 * f.logits),
    ]
    return parts, {"attention": 3 * half - 3 * f.attention, "routing": -3 * f.routing}


def _chinchilla(f: Facts) -> Counted:
    embedding, softmax = 3 * f.embedding_as_matmul, 3 * (3 * f.score_count())
    parts = [
        *_products(f),
        leaf("attention", "FLOPs", 3 * f.attention),
        leaf("embedding", "FLOPs", embedding),
        leaf("softmax", "FLOPs", softmax),
    ]
    return parts, {"embedding": embedding, "softmax": softmax}


# ---- parameters times tokens ----------------------------------------------------------------------------------------


def _parameters(f: Facts, count: Expression) -> Node:
    return leaf("parameters", "FLOPs", 6 * count * f.tokens)


def _embedding(f: Facts) -> Expression:
    """Input tables in N, less the one that stands for the logits."""
    tables = f.embedding_params - f.tied_params if int(f.tied_params) else f.embedding_params
    return 6 * tables * f.tokens


def _norms(f: Facts) -> Expression:
    """Norms and biases in N, those of the heads too."""
    return 6 * (f.vectors + f.head_vectors) * f.tokens if int(f.head_vectors) else 6 * f.vectors * f.tokens


def _kaplan(f: Facts) -> Counted:
    count = f.active_params - f.embedding_params - f.head_params
    named: dict[Term, Expression] = {"attention": -3 * f.attention, "logits": -3 * f.logits}
    return [_parameters(f, count)], {**named, "norms": 6 * f.vectors * f.tokens}


def _six_nd(f: Facts) -> Counted:
    named: dict[Term, Expression] = {"attention": -3 * f.attention, "embedding": _embedding(f), "norms": _norms(f)}
    return [_parameters(f, f.active_params)], named


def _palm(f: Facts) -> Counted:
    parts = [_parameters(f, f.active_params), leaf("attention", "FLOPs", 3 * f.attention)]
    return parts, {"embedding": _embedding(f), "norms": _norms(f)}


def _torchtitan(f: Facts) -> Counted:
    """A tied head is counted all the same: the formula is evaluated before the two are tied."""
    count = f.active_params - f.embedding_params
    count = count + f.tied_params if int(f.tied_params) else count
    return [_parameters(f, count), leaf("attention", "FLOPs", 3 * f.attention)], {"norms": _norms(f)}


def _hf_trainer(f: Facts) -> Counted:
    named: dict[Term, Expression] = {"attention": -3 * f.attention, "norms": _norms(f)}
    if int(f.idle_params):
        named["experts"] = 6 * f.idle_params * f.tokens
    if int(f.tied_params):
        named["logits"] = -6 * f.tied_params * f.tokens
    return [_parameters(f, f.total_params - f.embedding_params)], named


# ---- printed formulas of a GPT of one shape -------------------------------------------------------------------------


def _printed(f: Facts, passes: int, squares: int) -> Counted:
    """``24 * passes * B * s * L * h^2 + squares * 4 * B * s^2 * L * h + 6 * B * s * V * h``."""
    h, L = symbol("D", f.model.main.hidden_size), symbol("L", f.model.main.num_hidden_layers)
    matrices, square = 24 * f.tokens * L * h * h, 4 * f.tokens * f.T * L * h
    logits = 6 * f.tokens * f.vocabulary * h
    parts = [
        leaf("matrices", "FLOPs", passes * matrices),
        leaf("attention", "FLOPs", squares * square),
        leaf("logits", "FLOPs", logits),
    ]
    named: dict[Term, Expression] = {
        "attention": 3 * square - 3 * f.attention,
        "logits": logits - 3 * f.logits,
        "projections": 3 * (8 * f.tokens * L * h * h) - 3 * f.projections,
        "feed_forward": 3 * (16 * f.tokens * L * h * h) - 3 * f.feed_forward,
    }
    if squares > 3:
        scores = (squares - 3) * square
        named["recompute"] = (passes - 3) * matrices + scores if passes > 3 else scores
    return parts, named


# ---- what runs ------------------------------------------------------------------------------------------------------


def executed(recompute: Recompute) -> Convention:
    """What a training step runs, with that recomputation."""

    def count(f: Facts) -> Counted:
        again = f.attention // 2
        parts = [*_products(f), leaf("attention", "FLOPs", 3 * f.attention + again)]
        named: dict[Term, Expression] = {"attention": again}
        if recompute != "none":
            repeated = symbol("repeated", recomputed(f.model, f.asked, recompute))
            parts.append(leaf("recompute", "FLOPs", repeated))
            named["recompute"] = 1 * repeated
        return parts, named

    says = f"what runs: fused attention makes its scores again in the backward pass; recomputation: {recompute}"
    source = "FlashAttention-2 (Dao 2023, arXiv 2307.08691), section 4.1: backward 2.5 times forward"
    return Convention(name="executed", says=says, source=source, count=count, one_stack=False)


_MEGATRON: Final = "Megatron-LM, megatron/training/training.py, num_floating_point_operations (2025)"
_TITAN: Final = "torchtitan, torchtitan/models/utils.py, get_dense_model_nparams_and_flops (2025)"

PRESETS: Final[Mapping[str, Convention]] = {
    each.name: each
    for each in (
        Convention(
            name="matmul-full",
            says="every matrix product, the whole score square, logits; as torch's FlopCounterMode",
            source="derived: forward, and twice its products backward",
            count=_matmul_full,
            one_stack=False,
        ),
        Convention(
            name="matmul-causal",
            says="every matrix product, only the scores that the masks keep, logits",
            source="derived: as matmul-full, pairs counted under the causal, window and chunk masks",
            count=_matmul_causal,
            one_stack=False,
        ),
        Convention(
            name="palm",
            says="6 N + 12 L H Q T a token: all parameters, the input table among them; full square",
            source="PaLM (Chowdhery et al. 2022, arXiv 2204.02311), appendix B",
            count=_palm,
        ),
        Convention(
            name="kaplan",
            says="6 N a token, N without embedding and head; no attention square, no logits",
            source="Kaplan et al. 2020 (arXiv 2001.08361), section 2.1",
            count=_kaplan,
        ),
        Convention(
            name="gpt3-6nd",
            says="6 N a token, N all parameters; no attention square",
            source="GPT-3 (Brown et al. 2020, arXiv 2005.14165), appendix D",
            count=_six_nd,
        ),
        Convention(
            name="chinchilla",
            says="every product, the input table as one too, full square and 3 operations a score for the softmax",
            source="Chinchilla (Hoffmann et al. 2022, arXiv 2203.15556), appendix F",
            count=_chinchilla,
        ),
        Convention(
            name="megatron",
            says="every matrix product but the router's, half the score square, logits",
            source=_MEGATRON,
            count=_megatron,
        ),
        Convention(
            name="torchtitan",
            says="6 N + 12 L H Q T a token, N without the input table; full square",
            source=_TITAN,
            count=_torchtitan,
        ),
        Convention(
            name="narayanan-hw",
            says="96 B s L h^2 (1 + s / 6h + V / 16Lh): a GPT with full recomputation",
            source="Narayanan et al. 2021 (arXiv 2104.04473), equation 3",
            count=lambda f: _printed(f, 4, 4),
        ),
        Convention(
            name="korthikanti",
            says="72 B s L h^2 (1 + s / 6h + V / 12Lh): a GPT without recomputation",
            source="Korthikanti et al. 2022 (arXiv 2205.05198), equation 7",
            count=lambda f: _printed(f, 3, 3),
        ),
        Convention(
            name="korthikanti-hw",
            says="72 B s L h^2 (1 + s / 3h + V / 12Lh): the same with scores made again, counted three times",
            source="Korthikanti et al. 2022 (arXiv 2205.05198), equation 8",
            count=lambda f: _printed(f, 3, 6),
        ),
        Convention(
            name="hf-trainer",
            says="6 N a token, N without input tables, every expert; no attention square; logits only if untied",
            source="transformers 5.23, Trainer.floating_point_ops",
            count=_hf_trainer,
        ),
    )
}
