"""compressed-tensors 0.20: one group of settings for all linear maps, in one of several formats."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Final

from txcalc.configs.reader import shown
from txcalc.errors import ModelError
from txcalc.stored.scheme import MAIN, Entries, Scheme, Settings, Shape, ignored, two_sizes


def compressed(s: Settings) -> Scheme:
    """One group of settings for all linear maps, less those that are ignored."""
    groups = s.inner("config_groups")
    names = list(groups.found) if groups else []
    if groups is None or len(names) != 1:
        what = f"{len(names)} groups of settings; one is read"
        raise ModelError(f"quantization_config.config_groups has {what}", "name its safetensors file: that is read")
    group = groups.inner(names[0])
    weights = group.inner("weights") if group else None
    if group is None or weights is None:
        raise ModelError("quantization_config.config_groups says nothing of weights")
    if group.texts("targets") not in (["Linear"], []):
        raise ModelError(f"quantization_config: targets {shown(group.texts('targets'))} are not read")
    form = group.text("format") or s.text("format")
    if form not in _FORMS:
        raise ModelError(f"quantization_config: format {shown(form)} is not known", f"known: {', '.join(_FORMS)}")
    inputs = group.inner("input_activations")
    return Scheme(
        method="compressed-tensors",
        pack=_FORMS[form](weights, inputs),
        optional=(".weight_g_idx", ".input_scale", ".weight_zero_point", ".input_global_scale", ".output_scale"),
        fills=(1, 16) if form.startswith("nvfp4") else (1, 1),
        excludes=ignored(s.texts("ignore")),
        head=True,
    )


def _scales(w: Settings) -> Callable[[Shape], Shape]:
    """The shape of the scales, by the strategy."""
    strategy, group = w.text("strategy", "tensor"), w.whole("group_size", -1)
    block = w.found.get("block_structure")
    sizes = two_sizes(block) if strategy == "block" else (1, 1)

    def of(shape: Shape) -> Shape:
        match strategy:
            case "tensor":
                return (1,)
            case "channel":
                return (shape[0], 1)
            case "group" | "tensor_group":
                return (shape[0], ceil(shape[1] / (shape[1] if group < 1 else group)))
            case "block":
                return (ceil(shape[0] / sizes[0]), ceil(shape[1] / sizes[1]))
        raise ModelError(f"quantization_config: strategy {shown(strategy)} is not known")

    return of


def _packed(w: Settings, inputs: Settings | None) -> Callable[[Shape], Entries]:
    bits, scales, symmetric = w.whole("num_bits", 4, among=range(1, 9)), _scales(w), w.flag("symmetric", True)
    ordered = w.text("actorder") == "group"

    def pack(shape: Shape) -> Entries:
        out, size_in = shape
        scale = scales(shape)
        entries: Entries = {
            ".weight_packed": ("I32", (out, ceil(size_in * bits / 32))),
            ".weight_scale": ("", scale),
            ".weight_shape": ("I64", (2,)),
        }
        if not symmetric:
            entries[".weight_zero_point"] = ("I32", (ceil(out * bits / 32), scale[-1]))
        return {**entries, ".weight_g_idx": ("I32", (size_in,))} if ordered else entries

    return pack


def _eight_bits(w: Settings, inputs: Settings | None) -> Callable[[Shape], Entries]:
    kind, scales = {"float": "F8_E4M3", "int": "I8"}.get(w.text("type"), ""), _scales(w)
    if not kind or w.whole("num_bits", 8) != 8:
        raise ModelError("quantization_config: weights of other than 8 bits in this format are not read")
    static = inputs is not None and not inputs.flag("dynamic")

    def pack(shape: Shape) -> Entries:
        entries: Entries = {MAIN: (kind, shape), ".weight_scale": ("", scales(shape))}
        return {**entries, ".input_scale": ("", (1,))} if static else entries

    return pack


def _nvfp4(w: Settings, inputs: Settings | None) -> Callable[[Shape], Entries]:
    def pack(shape: Shape) -> Entries:
        entries: Entries = {
            ".weight_packed": ("U8", (shape[0], shape[1] // 2)),
            ".weight_scale": ("F8_E4M3", (shape[0], ceil(shape[1] / 16))),
            ".weight_global_scale": ("F32", (1,)),
        }
        return {**entries, ".input_global_scale": ("F32", (1,))} if inputs else entries

    return pack


_FORMS: Final = {
    "pack-quantized": _packed,
    "float-quantized": _eight_bits,
    "int-quantized": _eight_bits,
    "naive-quantized": _eight_bits,
    "nvfp4-pack-quantized": _nvfp4,
}
