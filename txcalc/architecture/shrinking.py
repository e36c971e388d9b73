"""The same model, smaller: fewer layers of every kind, narrower widths. For looking at a shape that does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from txcalc.architecture.blocks import Layer
from txcalc.architecture.feed_forward import MixtureOfExperts
from txcalc.architecture.model import Head, Model, Stack, runs_of
from txcalc.record import Record

# Fields that are a width, whatever record they stand in: equal ones stay equal. Head widths are not among them, so that
# rotary pairs and head norms fit as they are.
_WIDTHS: Final = frozenset(
    """
    hidden_size intermediate_size width embedding_size in_size out_size source_size input_size query_size
    q_lora_rank kv_lora_rank lru_width gate_rank value_size own_channels
    """.split()
)
_LEAST: Final = 32  # narrower ones stay as they are
_LEAST_VOCABULARY: Final = 512


def with_layers(model: Model, layers: int) -> Model:
    """``model`` with ``layers`` layers in each stack: the first of every kind, then the earliest of the others.

    A layer whose keys and values another one reads is kept with it.
    """
    return model.replace(stacks=tuple(_first_layers(stack, layers) for stack in model.stacks))


def _first_layers(stack: Stack, layers: int) -> Stack:
    sequence = list(stack.sequence())
    firsts = sorted(sequence.index(layer) for layer in stack.layers if layer in sequence)
    chosen = (firsts + [i for i in range(len(sequence)) if i not in firsts])[:layers]
    kept = sorted({*chosen, *(source for i in chosen for source in _sources(sequence[i]))})
    place = {old: new for new, old in enumerate(kept)}
    distinct, runs = runs_of((_changed(sequence[i], lambda record: _resourced(record, place)), 1) for i in kept)
    return stack.with_layers(distinct, runs)


def _sources(layer: Layer) -> list[int]:
    """Layers whose keys and values this one reads."""
    found = (getattr(each, "kv_source", None) for each in layer.sublayers())
    return [source for source in found if source is not None]


def _resourced(record: Record, place: dict[int, int]) -> Record:
    source = record.all_fields().get("kv_source")
    return record if source is None else record.replace(kv_source=place[source])


def with_scale(model: Model, scale: int) -> Model:
    """``model`` with widths, heads, experts and vocabulary divided by ``scale``, as far as they can be."""
    if scale == 1:
        return model
    changed = _changed(model, lambda record: _narrower(record, scale))
    assert isinstance(changed, Model)
    return changed.replace(unused=(), counted=())


def _changed(value: Any, change: Callable[[Record], Record]) -> Any:
    """``value`` with every record in it changed, innermost first."""
    if isinstance(value, tuple):
        return tuple(_changed(each, change) for each in value)
    if not isinstance(value, Record):
        return value
    return change(value.replace(**{name: _changed(each, change) for name, each in value.all_fields().items()}))


def _narrower(record: Record, scale: int) -> Record:
    fields = record.all_fields()
    changes: dict[str, Any] = {
        name: _width(fields[name], scale) for name in _WIDTHS & fields.keys() if type(fields[name]) is int
    }
    changes |= _heads(fields, scale)
    if fields.get("out_norm"):  # over all heads side by side
        changes["out_norm"] = fields["out_norm"].replace(width=changes["num_attention_heads"] * fields["v_head_dim"])
    if "vocab_size" in fields:
        changes["vocab_size"] = _vocabulary(fields["vocab_size"], scale)
    if isinstance(record, Head) and record.kind in ("lm", "masked_lm"):
        changes["output_size"] = _vocabulary(record.output_size, scale)
    if isinstance(record, MixtureOfExperts):
        changes["num_experts"] = _experts(record, scale)
    if "lru_width" in changes:  # its gates are block-diagonal, a block a head
        changes["lru_width"] = max(changes["lru_width"] // changes["num_heads"], 1) * changes["num_heads"]
    return record.replace(**changes)


def _width(size: int, scale: int) -> int:
    """Even, so that what is cut in halves still can be."""
    return size if size <= _LEAST else max(size // scale // 2 * 2, _LEAST)


def _vocabulary(size: int, scale: int) -> int:
    return min(size, max(size // scale, _LEAST_VOCABULARY))


def _heads(fields: dict[str, Any], scale: int) -> dict[str, int]:
    """Fewer heads; grouped ones keep their group as long as more than one key head is left."""
    for many, few in (("num_attention_heads", "num_key_value_heads"), ("num_v_heads", "num_k_heads")):
        if few in fields:
            queries, keys = fields[many], fields[few]
            if keys >= scale:
                return {few: keys // scale, many: keys // scale * (queries // keys)}
            return {few: 1, many: max(queries // scale, 1)}
    single = ("num_attention_heads", "num_heads", "relative_bias_heads")
    fewer = {name: max(fields[name] // scale, 1) for name in single if fields.get(name)}
    if "n_groups" in fields:  # Mamba-2: groups divide heads
        groups = max(fields["n_groups"] // scale, 1)
        fewer |= {"n_groups": groups, "num_heads": max(fewer["num_heads"] // groups, 1) * groups, "norm_groups": groups}
    return fewer


def _experts(mixture: MixtureOfExperts, scale: int) -> int:
    """As many as are still chosen from, the same in each group."""
    router, chosen = mixture.router, mixture.num_experts_per_tok
    if router.n_group == 1:
        return min(mixture.num_experts, max(mixture.num_experts // scale, chosen))
    in_group = max(mixture.num_experts // scale // router.n_group, -(-chosen // router.topk_group), 2)
    return min(mixture.num_experts, router.n_group * in_group)
