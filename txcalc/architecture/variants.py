"""The same model with other numbers of KV heads: the question behind MHA, GQA and MQA."""

from __future__ import annotations

from collections.abc import Callable

from txcalc.architecture.attention import CrossAttention, LatentAttention, SelfAttention
from txcalc.architecture.blocks import Branch, Layer, Residual, Sublayer
from txcalc.architecture.compressed import CompressedAttention
from txcalc.architecture.model import Model, Stack
from txcalc.errors import RequestError

_TEXT = ("decoder", "encoder")  # a vision tower keeps its heads


def with_kv_heads(model: Model, kv_heads: int | None) -> Model:
    """``model`` with ``kv_heads`` key/value heads in every attention (None: as many as query heads, MHA).

    Raises:
        RequestError: the model has no such heads, latent attention, unlike KV widths, or heads that do not divide.
    """
    text = [stack for stack in model.stacks if stack.role in _TEXT]
    _require_grouping(model.name, text)
    return model.replace(
        stacks=tuple(
            _in_stack(stack, lambda each: _grouped(each, kv_heads)) if stack in text else stack
            for stack in model.stacks
        )
    )


def _require_grouping(name: str, stacks: list[Stack]) -> None:
    sublayers = [each for stack in stacks for layer in stack.layers for each in layer.sublayers()]
    if any(isinstance(each, LatentAttention | CompressedAttention) for each in sublayers):
        raise RequestError(
            f"{name} caches one latent per token, not heads: a number of KV heads means nothing for it",
            "leave out --gqa",
        )
    if any(isinstance(each, SelfAttention) and each.expert_heads for each in sublayers):
        raise RequestError(
            f"the query heads of {name} are those of chosen experts: another number of KV heads is another model",
            "leave out --gqa",
        )
    widths = {
        (each.num_key_value_heads, each.head_dim)
        for each in sublayers
        if isinstance(each, SelfAttention | CrossAttention)
    }
    if not widths:
        raise RequestError(f"{name} has no attention, so no KV heads", "leave out --gqa")
    if len(widths) > 1:
        raise RequestError(f"the layers of {name} have unlike KV heads {sorted(widths)}", "leave out --gqa")


def _grouped(sublayer: Sublayer, kv_heads: int | None) -> Sublayer:
    if not isinstance(sublayer, SelfAttention | CrossAttention):
        return sublayer
    heads = sublayer.num_attention_heads
    wanted = heads if kv_heads is None else kv_heads
    if not 1 <= wanted <= heads or heads % wanted:
        divisors = ", ".join(str(each) for each in range(1, heads + 1) if heads % each == 0)
        raise RequestError(f"{wanted} KV heads do not divide {heads} query heads", f"choose one of {divisors}, or mha")
    return sublayer.replace(num_key_value_heads=wanted)


def _in_stack(stack: Stack, change: Callable[[Sublayer], Sublayer]) -> Stack:
    return stack.replace(layers=tuple(_in_layer(layer, change) for layer in stack.layers))


def _in_layer(layer: Layer, change: Callable[[Sublayer], Sublayer]) -> Layer:
    return layer.replace(steps=tuple(_in_step(step, change) for step in layer.steps))


def _in_step(step: Residual, change: Callable[[Sublayer], Sublayer]) -> Residual:
    return step.replace(branches=tuple(_in_branch(branch, change) for branch in step.branches))


def _in_branch(branch: Branch, change: Callable[[Sublayer], Sublayer]) -> Branch:
    return branch.replace(sublayer=change(branch.sublayer))
