"""A model's tensors by name and shape, from its Architecture alone: what the reference model would hold, without torch.

A test holds this list to the reference model's own for every type whose checkpoint names are known, and a list whose
elements are not ``params.total`` is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from txcalc import architecture as arch
from txcalc.errors import RequestError
from txcalc.formulas.params import params
from txcalc.reference.parts import Part, in_layer, layer_part, stored_layers
from txcalc.stored.sublayer_tensors import Named, linear, norm, sublayer_tensors

BUFFERS = ("router.correction", "directions_HR", ".scalar", ".fixed_bias")


def tensors_of(model: arch.Model) -> dict[str, Part]:
    """Every parameter and buffer of a model, under the names of ``reference.parts``.

    Raises:
        RequestError: a part of the model whose tensors are not listed by name.
    """
    found: dict[str, Part] = {}
    for stack in model.stacks:
        found |= {f"{stack.role}.{name}": Part("", shape, None, {}) for name, shape in _of_stack(stack)}
        found |= dict(_of_layers(stack))
    loose = [*_heads(model), *_connectors(model), *_unused(model)]
    found |= {name: Part("", shape, None, {}) for name, shape in loose}
    _require_complete(model, found)
    return found


def is_buffer(model: arch.Model, name: str, part: Part) -> bool:
    """Whether a tensor is stored without being a parameter."""
    stored = isinstance(part.sublayer, arch.MixtureOfExperts) and part.sublayer.router.correction_bias_stored
    return name.endswith(BUFFERS) and not stored


def _require_complete(model: arch.Model, found: dict[str, Part]) -> None:
    listed = sum(prod(part.shape) for name, part in found.items() if not is_buffer(model, name, part))
    total = int(params(model).figures()["params.total"])
    if listed != total:
        raise RequestError(f"the tensors of {model.model_type} are not all listed by name: {listed:,} of {total:,}")


# ---- layers ---------------------------------------------------------------------------------------------------------


def _of_layers(stack: arch.Stack) -> Iterator[tuple[str, Part]]:
    made: dict[int, list[tuple[str, tuple[int, ...], arch.Sublayer | None]]] = {}
    for index, layer in enumerate(stored_layers(stack)):
        if id(layer) not in made:
            made[id(layer)] = list(layer_tensors(layer))
        for name, shape, sublayer in made[id(layer)]:
            yield layer_part(stack.role, index, layer, name, shape, sublayer)


def layer_tensors(layer: arch.Layer) -> Iterator[tuple[str, tuple[int, ...], arch.Sublayer | None]]:
    """(name within the layer, shape, sublayer) of every tensor of a layer."""
    for path, shape in _paths(layer):
        name, sublayer = in_layer(layer, path)
        yield name, shape, sublayer
    if layer.scalar:
        yield "scalar", (1,), None


def _paths(layer: arch.Layer) -> Iterator[Named]:
    for s, step in enumerate(layer.steps):
        yield from norm(f"steps.{s}.norm_in", step.norm_in)
        for b, branch in enumerate(step.branches):
            place = f"steps.{s}.branches.{b}"
            yield from norm(f"{place}.norm_in", branch.norm_in)
            yield from ((f"{place}.sublayer.{name}", shape) for name, shape in sublayer_tensors(branch.sublayer))
            yield from norm(f"{place}.norm_out", branch.norm_out)
            if branch.scalar_gate:
                yield f"{place}.scalar_gate", (1,)
            if branch.layer_scale:
                yield f"{place}.layer_scale", (branch.sublayer.hidden_size,)
        yield from norm(f"steps.{s}.norm_out", step.norm_out)
        yield from norm(f"steps.{s}.norm_after", step.norm_after)


# ---- what is around them --------------------------------------------------------------------------------------------


def _of_stack(stack: arch.Stack) -> Iterator[Named]:
    D = stack.hidden_size
    yield from ((f"embedding.{name}", shape) for name, shape in _embedding(stack.embedding))
    yield from norm("final_norm", stack.final_norm)
    yield from _projection("out_projection", stack.out_projection)
    if stack.relative_bias:
        yield "relative_bias.table.weight", (stack.relative_bias.num_buckets, stack.relative_bias_heads)
    if stack.disentangled:
        yield "disentangled.table.weight", (2 * stack.disentangled.span, D)
        yield from norm("disentangled.norm", stack.disentangled_norm)
    if stack.pooler:
        out = stack.pooler.out_size or stack.pooler.hidden_size
        yield from linear("pooler.dense", stack.pooler.hidden_size, out, bias=stack.pooler.bias)
    if stack.pooled_projection:
        raise RequestError("the tensors of pooled_projection are not listed by name")
    if stack.attention_pooling:
        yield from ((f"attention_pooling.{name}", shape) for name, shape in _pooling(stack.attention_pooling))


def _pooling(pooling: arch.AttentionPooling) -> Iterator[Named]:
    yield "probe", (1, pooling.attention.hidden_size)
    yield from ((f"attention.{name}", shape) for name, shape in sublayer_tensors(pooling.attention))
    yield from norm("norm", pooling.norm)
    yield from ((f"feed_forward.{name}", shape) for name, shape in sublayer_tensors(pooling.feed_forward))


def _embedding(e: arch.InputEmbedding) -> Iterator[Named]:
    match e:
        case arch.TokenEmbedding():
            yield from _token_embedding(e)
        case arch.PatchEmbedding():
            yield from _patch_embedding(e)
        case arch.AudioEmbedding(hidden_size=D, conv_kernel=kernel):
            yield from (("conv1.weight", (D, e.num_mel_bins, kernel)), ("conv1.bias", (D,)))
            yield from (("conv2.weight", (D, D, kernel)), ("conv2.bias", (D,)))
            yield from _table(e.positions)


def _token_embedding(e: arch.TokenEmbedding) -> Iterator[Named]:
    if e.extra_tokens or e.other_types:
        raise RequestError("the tensors of extra_tokens and other_types are not listed by name")
    if e.shared_with is None:
        yield "tokens.weight", (e.vocab_size, e.embedding_size)
    yield from _table(e.positions)
    if e.token_types:
        yield "token_types.weight", (e.token_types, e.embedding_size)
    yield from norm("norm", e.norm)
    yield from _projection("projection", e.projection)


def _table(positions: arch.LearnedPositions | arch.Sinusoidal | None) -> Iterator[Named]:
    if isinstance(positions, arch.LearnedPositions) or (positions is not None and positions.stored):
        yield "positions.table.weight", (positions.rows, positions.width)


def _patch_embedding(e: arch.PatchEmbedding) -> Iterator[Named]:
    if e.temporal_patch_size != 1:
        raise RequestError("the tensors of patches over several frames are not listed by name")
    yield "patches.weight", (e.hidden_size, e.num_channels, e.patch_size, e.patch_width or e.patch_size)
    if e.bias:
        yield "patches.bias", (e.hidden_size,)
    if e.extra_tokens:
        yield "extra_tokens", (e.extra_tokens, e.hidden_size)
    if e.mask_token:
        yield "mask_token", (1, e.hidden_size)
    yield from _table(e.positions)
    yield from norm("norm", e.norm)


def _projection(name: str, made: arch.Projection | None) -> Iterator[Named]:
    if made is not None:
        yield from linear(f"{name}.linear", made.in_size, made.out_size, bias=made.bias)


def _heads(model: arch.Model) -> Iterator[Named]:
    for name, head in (("head", model.head), ("pooled_head", model.pooled_head)):
        if head is None:
            continue
        width = head.input_size
        if head.transform:
            yield from _projection(f"{name}.dense", head.transform.dense)
            yield from norm(f"{name}.norm", head.transform.norm)
            width = head.transform.dense.out_size
        if not head.tied:
            yield f"{name}.matrix", (head.output_size, width)
        if head.bias:
            yield f"{name}.bias", (head.output_size,)
        if head.fixed_bias:
            yield f"{name}.fixed_bias", (head.output_size,)


def _connectors(model: arch.Model) -> Iterator[Named]:
    for each in model.connectors:
        yield from norm(f"connectors.{each.tower}.norm", each.norm)
        for index, projection in enumerate(each.projections):
            yield from _projection(f"connectors.{each.tower}.projections.{index}", projection)


def _unused(model: arch.Model) -> Iterator[Named]:
    for each in model.unused:
        yield from ((f"unused.{each.name.replace('.', '_')}_{i}", each.shape) for i in range(each.count))
