"""What the reference model really is and does: parameters, cache bytes, matrix products; counted, never computed.

Everything runs on torch's meta device, where tensors have shapes and no values: a model of any size costs nothing.
"""

from __future__ import annotations

from math import prod
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_backward_flop, flop_registry, shape_wrapper

from txcalc import architecture as arch
from txcalc.measure.recall import Recall, on_meta
from txcalc.reference import Output, Transformer
from txcalc.reference.cache import StateCache

META: Final = torch.device("meta")
DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Work(NamedTuple):
    """One pass: rows, tokens a row, tokens of the encoder's input where there is one, images a row."""

    batch: int
    tokens: int
    source: int | None = None
    images: int = 0


def num_params(built: Transformer) -> int:
    """Elements of every distinct parameter; tied and shared ones once, buffers never."""
    return sum(parameter.numel() for parameter in built.parameters())


def cache_bytes(built: Transformer, *, batch: int, ctx: int, source: int | None) -> tuple[int, int]:
    """Bytes of a decoder's cache: (places for tokens, states of fixed size); without a decoder none are kept."""
    if built.model.main.role != "decoder":
        return 0, 0
    cache = built.new_cache(batch=batch, ctx=ctx, source=source or 0)
    state = sum(t.nbytes for entry in cache.entries() if isinstance(entry, StateCache) for t in entry.tensors())
    return cache.nbytes - state, state


# ---- matrix products ------------------------------------------------------------------------------------------------


def forward_and_backward(built: Transformer, work: Work) -> tuple[int, int]:
    """FLOPs of a forward pass and of its backward pass, every parameter trained."""
    with Counter() as counter:
        output = _forward(built, work)
        forward = counter.flops
        torch.autograd.backward(_loss(output))
    built.zero_grad(set_to_none=True)
    return forward, counter.flops - forward


def prefill(built: Transformer, *, batch: int, ctx: int) -> int:
    """FLOPs of a prompt of ``ctx`` tokens a row, logits of the last one."""
    cache = built.new_cache(batch=batch, ctx=ctx)
    with torch.no_grad(), Counter() as counter:
        built(_tokens(batch, ctx), cache=cache, last_only=True)
    return counter.flops


def decode(built: Transformer, *, batch: int, ctx: int, source: int | None) -> int:
    """FLOPs of one new token a row after ``ctx`` cached ones."""
    with torch.no_grad():
        encoded = built.encode(_source(built.model, batch, source, dtype_of(built))) if source else None
        cache = built.new_cache(batch=batch, ctx=ctx + 1, source=source or 0)
        if source:
            built(_tokens(batch, 1), encoded=encoded, cache=cache)  # keys of the source are made at the first step
        cache.advance([ctx - max(cache.lengths)] * batch)
        with Counter() as counter:
            built(_tokens(batch, 1), encoded=encoded, cache=cache)
    return counter.flops


class Counter(TorchDispatchMode):
    """FLOPs of the matrix products that run inside, each by torch's own formula for the operator.

    What FlopCounterMode adds up, without its bookkeeping of modules, which takes as long as the passes. Mended where
    torch counts a depthwise convolution's backward once for every pair of channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and add what it multiplies."""
        out, multiplied = _RECALL(func, args, kwargs or {}, on_meta)
        self.flops += multiplied
        return out

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled: no guard around every operator."""
        return False


def _convolution_backward(gradient: Any, x: Any, weight: Any, *rest: Any, out_shape: Any, **named: Any) -> int:
    groups, wanted = rest[-2], rest[-1]
    if groups == 1:
        return int(conv_backward_flop(gradient, x, weight, *rest, out_val=out_shape, **named))
    product: int = 2 * prod(gradient) * prod(weight[1:])
    return product * sum(map(bool, wanted[:2]))  # the gradients of input and weight, where asked for


_FORMULAS: Final[dict[Any, Any]] = {
    **flop_registry,
    torch.ops.aten.convolution_backward: shape_wrapper(_convolution_backward),
}


def _multiplied(func: Any, args: Any, named: Any, out: Any) -> int:
    """FLOPs of one operator."""
    formula = _FORMULAS.get(func._overloadpacket)
    return 0 if formula is None else int(formula(*args, **named, out_val=out))


_RECALL: Final = Recall(_multiplied)


# ---- inputs and outputs ---------------------------------------------------------------------------------------------


def _forward(built: Transformer, work: Work) -> Output:
    """One pass over every stack that the work reaches."""
    model, dtype, more = built.model, dtype_of(built), dict[str, Any]()
    if work.source:
        more["source"] = _source(model, work.batch, work.source, dtype)
    if work.images:
        images = _pixels(model.stack("vision"), work.batch * work.images, dtype)
        more["seen_MD"] = built.tower("vision", images)
        more["seen_BT"] = torch.zeros(work.batch, work.tokens, dtype=torch.bool, device=META)
    output: Output = built(_inputs(model.main, work.batch, work.tokens, dtype), **more)
    return output


def _inputs(stack: arch.Stack, batch: int, tokens: int, dtype: torch.dtype) -> Tensor:
    """Tokens, images or mel frames, as the stack's embedding takes them."""
    match stack.embedding:
        case arch.TokenEmbedding():
            return _tokens(batch, tokens)
        case arch.PatchEmbedding():
            return _pixels(stack, batch, dtype)
        case arch.AudioEmbedding():
            return torch.zeros(batch, stack.embedding.num_mel_bins, 2 * tokens, device=META, dtype=dtype)


def _source(model: arch.Model, batch: int, source: int, dtype: torch.dtype) -> Tensor:
    stack = model.stack("encoder") or model.stack("audio")
    assert stack is not None  # a source is asked for only where a stack reads it
    return _inputs(stack, batch, source, dtype)


def dtype_of(built: Transformer) -> torch.dtype:
    """Of its parameters."""
    return next(built.parameters()).dtype


def _tokens(batch: int, tokens: int) -> Tensor:
    return torch.zeros(batch, tokens, dtype=torch.long, device=META)


def _pixels(stack: arch.Stack | None, batch: int, dtype: torch.dtype) -> Tensor:
    assert stack is not None
    assert isinstance(stack.embedding, arch.PatchEmbedding)
    e = stack.embedding
    return torch.zeros(batch, e.num_channels, e.image_size, e.image_width or e.image_size, device=META, dtype=dtype)


def _loss(output: Output) -> Tensor:
    """One number that every output of the model goes into."""
    outputs = (output.hidden_BTD, output.logits, output.pooled_BD, output.pooled_logits)
    return sum((each.float().sum() for each in outputs if each is not None), torch.zeros((), device=META))
