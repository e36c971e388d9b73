"""Memory of activations: what the formulas' walk says, beside what torch keeps and allocates under fake tensors.

Fake tensors are torch's own: every operator runs its rules of shape, dtype and autograd, and no memory is taken. The
reference runs with the attention kernel that a CPU would choose.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Final

import torch
from torch import Tensor

from txcalc import architecture as arch
from txcalc.errors import RequestError
from txcalc.expression import symbol
from txcalc.formulas.dtypes import config_dtype
from txcalc.formulas.tape.moments import pass_moments, training_step
from txcalc.formulas.tape.parts import How
from txcalc.formulas.tape.support import depends_on_data, unwalked_in
from txcalc.formulas.tape.walk import PRECISIONS, Pass
from txcalc.measure.comparing import Comparison, compared, skipped
from txcalc.measure.counting import DTYPES
from txcalc.measure.peaks import faked
from txcalc.measure.saved import saved_bytes
from txcalc.measure.shrink import in_turns
from txcalc.measure.tracker import Tracker
from txcalc.reference import Transformer
from txcalc.reference.backends import Backend
from txcalc.reference.context import Context
from txcalc.reference.experts import MixtureOfExperts

_PASSES: Final = ((2, 11), (3, 8192))  # batch and tokens: parameters rule the first peak, tokens the second
SAVED: Final = "activations.saved"
FIGURES: Final = ("activations.prefill", SAVED, "activations.forward", "activations.backward")


def check_activations(model: arch.Model, *, full: bool = False, light: bool = False) -> Iterator[Comparison]:
    """Peak of a prefill; of a training step what its layers keep, and the peaks up to the loss and after it.

    ``full``: of every layer. ``light``: at one depth instead of two. Of layers with experts, what they keep alone: it
    is the same whichever expert a token passes.

    Raises:
        RequestError: the model has something that the formulas do not walk.
    """
    _require_walked(model)
    routed = any(depends_on_data(layer) for layer in model.main.layers)
    depths = [model] if full else [in_turns(model, turn) for turn in (1, 2)]
    passes = tuple(zip(depths, _PASSES, strict=False))
    for small, (batch, tokens) in passes[light and not full :]:
        work = f"{small.main.num_hidden_layers}/{model.main.num_hidden_layers} layers, {batch} x {tokens:,} tokens"
        if routed:
            ours, torchs = predicted_saved(small, batch, tokens), measured_saved(small, batch, tokens)
            yield compared(model.name, "activations", SAVED, work, predicted=ours, measured=torchs)
            continue
        found = zip(FIGURES, predicted(small, batch, tokens), measured(small, batch, tokens), strict=True)
        for figure, foretold, seen in found:
            yield compared(model.name, "activations", figure, work, predicted=foretold, measured=seen)
    if routed:
        yield skipped(model.name, "activations", "peaks depend on which expert each token passes: on the data")


def _require_walked(model: arch.Model) -> None:
    stack = model.main
    if not isinstance(stack.embedding, arch.TokenEmbedding) or model.head is None:
        raise RequestError("activations are known for models of text with a head")
    if model.head.pooled:
        raise RequestError("activations are known for heads that read every position, not one vector a sequence")
    reasons = unwalked_in(stack, training=True)
    if reasons:
        raise RequestError(f"no memory formula yet for {', '.join(reasons)}")


# ---- predicted ------------------------------------------------------------------------------------------------------


def predicted(model: arch.Model, batch: int, tokens: int) -> tuple[int, int, int, int]:
    """Bytes of each figure, by the formulas."""
    assert model.head is not None
    asked, decoder = _asked(model, batch, tokens), model.main.role == "decoder"
    prefill = pass_moments(model.main, model.head, asked, last=decoder, observed=True)
    step = training_step(model.main, model.head, asked, How(observed=True))
    peaks: dict[bool, int] = {False: 0, True: 0}
    for moment in step.moments():
        after_loss = "backward" in moment.name
        peaks[after_loss] = max(peaks[after_loss], moment.bytes)
    saved = sum(part.kept_bytes for part in step.layers)
    return max(moment.bytes for moment in prefill), saved, peaks[False], peaks[True]


def predicted_saved(model: arch.Model, batch: int, tokens: int) -> int:
    """Bytes that the layers keep for the backward pass, by the formulas."""
    assert model.head is not None
    step = training_step(model.main, model.head, _asked(model, batch, tokens), How(observed=True))
    return sum(part.kept_bytes for part in step.layers)


def _asked(model: arch.Model, batch: int, tokens: int) -> Pass:
    T = symbol("T", tokens)
    return Pass(B=symbol("B", batch), T=T, S=T, precision=PRECISIONS[config_dtype(model.dtype).name])


# ---- measured -------------------------------------------------------------------------------------------------------


def measured(model: arch.Model, batch: int, tokens: int) -> tuple[int, int, int, int]:
    """Bytes of each figure, as torch runs the reference on fake tensors."""
    dtype = DTYPES[config_dtype(model.dtype).name]
    with faked(model, dtype=dtype, backend=Backend("auto")) as built:
        inputs_BT = torch.zeros(batch, tokens, dtype=torch.long)
        prefill = _prefill(built, inputs_BT)
        saved = _saved(built, batch, tokens)
        forward, backward = _training_step(built.train(), inputs_BT)
    return prefill, saved, forward, backward


def measured_saved(model: arch.Model, batch: int, tokens: int) -> int:
    """Bytes that the layers keep for the backward pass, as torch runs the reference on fake tensors."""
    dtype = DTYPES[config_dtype(model.dtype).name]
    with faked(model, dtype=dtype, backend=Backend("auto")) as built:
        for module in built.modules():
            if isinstance(module, MixtureOfExperts):
                module.visits = partial(_first_experts, module)  # type: ignore[method-assign]  # on this one
        return _saved(built, batch, tokens)


def _first_experts(module: MixtureOfExperts, chosen_MC: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Fake tensors have no values to choose by: every token passes the first experts, in their order."""
    tokens, choices = chosen_MC.shape
    for expert in range(choices):
        rows = torch.zeros(tokens, dtype=torch.long)
        yield expert, rows, torch.zeros_like(rows)


def _given(built: Transformer, *others: Tensor) -> list[Tensor]:
    return [*built.parameters(), *built.buffers(), *others]


def _prefill(built: Transformer, inputs_BT: Tensor) -> int:
    with torch.no_grad(), Tracker(_given(built, inputs_BT)) as seen:
        built(inputs_BT, last_only=built.model.main.role == "decoder")
    return int(seen.peak)


def _training_step(built: Transformer, inputs_BT: Tensor) -> tuple[int, int]:
    """(peak up to the loss, peak after it): mean cross-entropy in fp32 over every position."""
    targets_BT = torch.zeros_like(inputs_BT)
    with Tracker(_given(built, inputs_BT, targets_BT)) as seen:
        wide = built(inputs_BT).logits.float()
        loss = torch.nn.functional.cross_entropy(wide.flatten(0, -2), targets_BT.flatten())
        del wide
        forward = int(seen.peak)
        seen.reset()
        torch.autograd.backward(loss)
    return forward, int(seen.peak)


def _saved(built: Transformer, batch: int, tokens: int) -> int:
    """Bytes that autograd keeps of the layers, each kind run once; what all layers share is not counted."""
    context, stack = _context(built, batch, tokens), built.model.main
    leaf = torch.zeros(batch, tokens, stack.hidden_size, dtype=next(built.parameters()).dtype)
    x_BTD = leaf.requires_grad_() * 1  # hidden states are no leaves
    kinds = [index for index, count in stack.runs for _ in range(count)]
    layers = dict(zip(reversed(kinds), reversed(list(built.main.depths())), strict=True))
    size = 0
    for kind, layer in layers.items():
        apart = chain(built.parameters(), built.buffers(), _shared(context))
        kept = saved_bytes(lambda layer=layer: layer(x_BTD, context), apart)  # type: ignore[misc]  # bound now
        size += kinds.count(kind) * kept
    return size


def _context(built: Transformer, batch: int, tokens: int) -> Context:
    context = Context(
        starts=(0,) * batch,
        counts=(tokens,) * batch,
        tokens=tokens,
        device=torch.device("cpu"),
        backend=built.backend,
        length=tokens,
    )
    context.tables = built.main.tables()
    return context


def _shared(context: Context) -> Iterator[Tensor]:
    """Rotary tables, masks and biases of the pass."""
    yield from context.constants.values()
    for made in context.memo.values():
        yield from (each for each in (made if isinstance(made, tuple) else (made,)) if isinstance(each, Tensor))
