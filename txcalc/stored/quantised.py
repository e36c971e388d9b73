"""How ``quantization_config`` stores a matrix: the tensors that stand in a file in the place of one weight.

Layouts are those of the exporters: AutoGPTQ 0.7.1 (qlinear_cuda), AutoAWQ 0.2.9 (gemm, gemv), transformers 5.23
(fine-grained fp8, mxfp4), compressed-tensors 0.20 (pack-quantized, float-, int- and naive-quantized, nvfp4), and
bitsandbytes (4 and 8 bits).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, prod
from typing import Any, Final

from txcalc.configs.reader import shown
from txcalc.errors import ModelError
from txcalc.stored.compressed import compressed
from txcalc.stored.scheme import MAIN, Entries, Scheme, Settings, Shape, not_converted, two_sizes


def scheme_of(config: Mapping[str, Any]) -> Scheme | None:
    """The method of a config.json, None where it has none.

    Raises:
        ModelError: a method that is not known, or settings that are wrong.
    """
    found = config.get("quantization_config")
    if found is None and isinstance(config.get("text_config"), Mapping):
        found = config["text_config"].get("quantization_config")
    if found is None:
        return None
    if not isinstance(found, Mapping):
        raise ModelError(f"quantization_config is {shown(found)}; expected an object")
    method = found.get("quant_method", "bitsandbytes" if "load_in_4bit" in found else None)
    if not isinstance(method, str) or method not in _METHODS:
        raise ModelError(f"quant_method {shown(method)} is not known", f"known: {', '.join(_METHODS)}")
    return _METHODS[method](Settings(found))


# ---- integers in groups ---------------------------------------------------------------------------------------------


def _gptq(s: Settings) -> Scheme:
    """Rows of the input packed into int32; scales and packed zero points a group; the order of the input."""
    bits, group = s.whole("bits", 4, among=(2, 3, 4, 8)), s.whole("group_size", 128)

    def pack(shape: Shape) -> Entries:
        out, size_in = shape
        groups = 1 if group < 1 else ceil(size_in / group)
        return {
            ".qweight": ("I32", (size_in // 32 * bits, out)),
            ".qzeros": ("I32", (groups, out // 32 * bits)),
            ".scales": ("F16", (groups, out)),
            ".g_idx": ("I32", (size_in,)),
        }

    excluded = s.texts("modules_to_not_convert")
    return Scheme(
        method="gptq",
        pack=pack,
        optional=(".bias",),
        fills=(32, 32),
        excludes=not_converted(excluded),
        head=s.flag("lm_head"),
        open=_dynamic(s),
    )


def _dynamic(s: Settings) -> tuple[str, ...]:
    given = [key for key in ("dynamic", "modules_in_block_to_quantize") if s.found.get(key)]
    return tuple(f"quantization_config.{key}: settings by module are not read" for key in given)


def _awq(s: Settings) -> Scheme:
    """Columns of the output packed into int32 (gemm), or rows of the input (gemv)."""
    bits, group = s.whole("bits", s.whole("w_bit", 4), among=(4,)), s.whole("group_size", s.whole("q_group_size", 128))
    version, factor = s.text("version", "gemm").lower(), 32 // bits

    def gemm(shape: Shape) -> Entries:
        out, size_in = shape
        groups = size_in // (size_in if group < 1 else group)
        return {
            ".qweight": ("I32", (size_in, out // factor)),
            ".qzeros": ("I32", (groups, out // factor)),
            ".scales": ("F16", (groups, out)),
        }

    def gemv(shape: Shape) -> Entries:
        out, size_in = shape
        several = {64: 2, 32: 4}.get(group, 1)
        width = ceil(ceil(size_in // group / factor) / several) * several
        return {
            ".qweight": ("I32", (out, size_in // factor)),
            ".qzeros": ("I32", (out, width)),
            ".scales": ("F16", (out, width * factor)),
        }

    if version not in ("gemm", "gemv"):
        raise ModelError(f"quantization_config: AWQ version {shown(version)} is not known", "known: gemm, gemv")
    return Scheme(
        method="awq",
        pack=gemm if version == "gemm" else gemv,
        optional=(".bias",),
        fills=(8 if version == "gemm" else 1, max(group, 8)),
        excludes=_contained(s.texts("modules_to_not_convert")),
    )


def _contained(parts: list[str]) -> Callable[[str], bool]:
    """As AutoAWQ compares: anywhere in a module's name."""
    return lambda name: any(part in name for part in parts)


# ---- eight bits -----------------------------------------------------------------------------------------------------


def _fp8(s: Settings) -> Scheme:
    """One fp32 scale a block (DeepSeek-V3, section 3.3.2), or a matrix."""
    given = s.found.get("weight_block_size")
    block = None if given is None else two_sizes(given)
    static = s.text("activation_scheme", "dynamic") == "static"

    def pack(shape: Shape) -> Entries:
        scale = tuple(ceil(size / each) for size, each in zip(shape, block, strict=True)) if block else ()
        entries: Entries = {MAIN: ("F8_E4M3", shape), ".weight_scale_inv": ("F32", scale)}
        return {**entries, ".activation_scale": ("F32", ())} if static else entries

    excluded = s.texts("modules_to_not_convert") + s.texts("ignored_layers")
    return Scheme(method="fp8", pack=pack, optional=(".input_scale",), excludes=not_converted(excluded))


# ---- four bits in blocks --------------------------------------------------------------------------------------------


def _mxfp4(s: Settings) -> Scheme:
    """Stacked experts [E, in, out]: two numbers a byte in blocks of 32 along the input, one exponent a block."""

    def pack(shape: Shape) -> Entries:
        experts, size_in, out = shape
        blocks = (experts, out, ceil(size_in / 32))
        return {"_blocks": ("U8", (*blocks, 16)), "_scales": ("U8", blocks)}

    return Scheme(
        method="mxfp4",
        pack=pack,
        excludes=not_converted(s.texts("modules_to_not_convert")),
        stacked=True,
        fills=(32, 1),
    )


def _bitsandbytes(s: Settings) -> Scheme:
    """NF4 or FP4 in blocks of 64 (QLoRA, section 3), or int8 with a scale a row (LLM.int8, section 3)."""
    excludes = not_converted(s.texts("llm_int8_skip_modules"))
    if not (s.flag("load_in_4bit") or s.flag("_load_in_4bit")):
        return Scheme(method="bitsandbytes", pack=_int8_rows, optional=(".weight_format",), excludes=excludes)
    nested, kind = s.flag("bnb_4bit_use_double_quant"), s.text("bnb_4bit_quant_type", "fp4")

    def pack(shape: Shape) -> Entries:
        blocks = ceil(prod(shape) / 64)
        entries: Entries = {
            MAIN: ("U8", (ceil(prod(shape) / 2), 1)),
            ".weight.absmax": ("U8" if nested else "F32", (blocks,)),
            ".weight.quant_map": ("F32", (16,)),
        }
        inner: Entries = {
            ".weight.nested_absmax": ("F32", (ceil(blocks / 256),)),
            ".weight.nested_quant_map": ("F32", (256,)),
        }
        return {**entries, **inner} if nested else entries

    return Scheme(
        method="bitsandbytes",
        pack=pack,
        optional=(f".weight.quant_state.bitsandbytes__{kind}",),
        excludes=excludes,
        open=("bitsandbytes: a few hundred bytes of settings a matrix (quant_state) are known from the file alone",),
    )


def _int8_rows(shape: Shape) -> Entries:
    return {MAIN: ("I8", shape), ".SCB": ("F32", (shape[0],))}


_METHODS: Final = {
    "gptq": _gptq,
    "awq": _awq,
    "fp8": _fp8,
    "mxfp4": _mxfp4,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": compressed,
}
