"""How ``quantization_config`` stores a matrix: the tensors that stand in a file in the place of one weight.

Layouts are those of the exporters: AutoGPTQ 0.7.1 (qlinear_cuda), AutoAWQ 0.2.9 (gemm, gemv), transformers 5.23
(fine-grained fp8, mxfp4), compressed-tensors 0.20 (pack-quantized, float-, int- and naive-quantized, nvfp4), and
bitsandbytes (4 and 8 bits).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from math import ceil, prod
from typing import Any, Final

from txcalc.configs.reader import shown
from txcalc.errors import ModelError
from txcalc.record import Record

Shape = tuple[int, ...]
Entries = dict[str, tuple[str, Shape]]  # ending of a name -> (type, shape)

MAIN: Final = ".weight"


class Scheme(Record):
    """One method with its settings.

    ``pack``: a matrix [out, in] -> what is stored for it, by the ending that takes the place of ``.weight``;
    ``optional``: endings that files may have too. ``excludes``: whether a module is left as it is. ``open``: what the
    config alone does not settle, so that stored bytes told from it are an estimate.
    """

    method: str
    pack: Callable[[Shape], Entries]
    optional: tuple[str, ...] = ()
    excludes: Callable[[str], bool] = lambda name: False
    open: tuple[str, ...] = ()
    stacked: bool = False  # whole stacks of experts are packed, and nothing else (mxfp4)
    head: bool = False  # the output matrix is packed too

    def endings(self) -> tuple[str, ...]:
        """Every ending that a packed weight's tensors may have, the longest first."""
        probe: Shape = (1, 1024, 1024) if self.stacked else (1024, 1024)
        return tuple(sorted({*self.pack(probe), *self.optional}, key=len, reverse=True))

    @property
    def main(self) -> str:
        """What a plain weight's name ends in."""
        return "" if self.stacked else MAIN


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
    if method not in _METHODS:
        raise ModelError(f"quant_method {shown(method)} is not known", f"known: {', '.join(_METHODS)}")
    return _METHODS[method](_Settings(found))


class _Settings:
    """The fields of a quantization_config, checked."""

    def __init__(self, found: Mapping[str, Any], path: str = "quantization_config") -> None:
        self.found, self.path = found, path

    def whole(self, key: str, default: int | None = None, *, among: Iterable[int] | None = None) -> int:
        value = self.found.get(key, default)
        value = default if value is None else value
        if type(value) is not int or not -1 <= value <= 2**20 or (among and value not in among):
            raise ModelError(f"{self.path}: {key} is {shown(value)}; expected a whole number")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.found.get(key, default)
        if value is not None and not isinstance(value, bool):
            raise ModelError(f"{self.path}: {key} is {shown(value)}; expected true or false")
        return bool(value)

    def text(self, key: str, default: str = "") -> str:
        value = self.found.get(key, default)
        return value if isinstance(value, str) else default

    def texts(self, key: str) -> list[str]:
        value = self.found.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ModelError(f"{self.path}: {key} is {shown(value)}; expected a list of names")
        return value

    def inner(self, key: str) -> _Settings | None:
        value = self.found.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise ModelError(f"{self.path}: {key} is {shown(value)}; expected an object")
        return _Settings(value, f"{self.path}.{key}")


# ---- which modules are left as they are -----------------------------------------------------------------------------

_LONGEST: Final = 300
_PLAIN: Final = re.compile(r"[\w.-]+")
_COSTLY: Final = re.compile(r"\)[+*{]|(?:[+*{].*){3}")  # repeated groups and many repetitions may take for ever


def _compiled(pattern: str, ending: str = "") -> re.Pattern[str]:
    """A pattern of a config, which somebody else wrote.

    Raises:
        ModelError: none, or one that could run for ever.
    """
    if len(pattern) <= _LONGEST and not _COSTLY.search(pattern):
        try:
            return re.compile(f"(?:{pattern}){ending}")
        except re.error:
            pass
    raise ModelError(f"quantization_config: pattern {shown(pattern)} is not read", "write it simpler")


def _not_converted(patterns: list[str]) -> Callable[[str], bool]:
    """As transformers compares: a module or what is above it, a regex that ends with a part, or any ending."""
    plain = {each for each in patterns if _PLAIN.fullmatch(each)}
    endings = tuple(patterns)
    matchers = [_compiled(each, r"(?:(?<=\.)|(?=\.|$))") for each in patterns if each not in plain]

    def excludes(name: str) -> bool:
        if name.endswith(endings):
            return True
        parts = name.split(".")
        above = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
        return any(each in plain for each in above) or any(matcher.match(name) for matcher in matchers)

    return excludes


def _ignored(patterns: list[str]) -> Callable[[str], bool]:
    """As compressed-tensors compares: the whole name, or a regex after ``re:``."""
    exact = {each for each in patterns if not each.startswith("re:")}
    matchers = [_compiled(each[3:]) for each in patterns if each.startswith("re:")]
    return lambda name: name in exact or any(matcher.match(name) for matcher in matchers)


# ---- integers in groups ---------------------------------------------------------------------------------------------


def _gptq(s: _Settings) -> Scheme:
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
        excludes=_not_converted(excluded),
        head=s.flag("lm_head"),
        open=_dynamic(s),
    )


def _dynamic(s: _Settings) -> tuple[str, ...]:
    given = [key for key in ("dynamic", "modules_in_block_to_quantize") if s.found.get(key)]
    return tuple(f"quantization_config.{key}: settings by module are not read" for key in given)


def _awq(s: _Settings) -> Scheme:
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
        excludes=_contained(s.texts("modules_to_not_convert")),
    )


def _contained(parts: list[str]) -> Callable[[str], bool]:
    """As AutoAWQ compares: anywhere in a module's name."""
    return lambda name: any(part in name for part in parts)


# ---- eight bits -----------------------------------------------------------------------------------------------------


def _fp8(s: _Settings) -> Scheme:
    """One fp32 scale a block (DeepSeek-V3, section 3.3.2), or a matrix."""
    given = s.found.get("weight_block_size")
    block = None if given is None else _two(given)
    static = s.text("activation_scheme", "dynamic") == "static"

    def pack(shape: Shape) -> Entries:
        scale = tuple(ceil(size / each) for size, each in zip(shape, block, strict=True)) if block else ()
        entries: Entries = {MAIN: ("F8_E4M3", shape), ".weight_scale_inv": ("F32", scale)}
        return {**entries, ".activation_scale": ("F32", ())} if static else entries

    excluded = s.texts("modules_to_not_convert") + s.texts("ignored_layers")
    return Scheme(method="fp8", pack=pack, optional=(".input_scale",), excludes=_not_converted(excluded))


def _two(value: object) -> tuple[int, int]:
    """The two sizes of a block."""
    if isinstance(value, list) and len(value) == 2 and all(type(each) is int and each > 0 for each in value):
        return value[0], value[1]
    raise ModelError(f"quantization_config: a block of {shown(value)}; expected two whole numbers")


# ---- four bits in blocks --------------------------------------------------------------------------------------------


def _mxfp4(s: _Settings) -> Scheme:
    """Stacked experts [E, in, out]: two numbers a byte in blocks of 32 along the input, one exponent a block."""

    def pack(shape: Shape) -> Entries:
        experts, size_in, out = shape
        blocks = (experts, out, ceil(size_in / 32))
        return {"_blocks": ("U8", (*blocks, 16)), "_scales": ("U8", blocks)}

    return Scheme(method="mxfp4", pack=pack, excludes=_not_converted(s.texts("modules_to_not_convert")), stacked=True)


def _bitsandbytes(s: _Settings) -> Scheme:
    """NF4 or FP4 in blocks of 64 (QLoRA, section 3), or int8 with a scale a row (LLM.int8, section 3)."""
    excludes = _not_converted(s.texts("llm_int8_skip_modules"))
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


# ---- compressed-tensors ---------------------------------------------------------------------------------------------


def _compressed(s: _Settings) -> Scheme:
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
        excludes=_ignored(s.texts("ignore")),
        head=True,
    )


def _scales(w: _Settings) -> Callable[[Shape], Shape]:
    """The shape of the scales, by the strategy."""
    strategy, group = w.text("strategy", "tensor"), w.whole("group_size", -1)
    block = w.found.get("block_structure")
    sizes = _two(block) if strategy == "block" else (1, 1)

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


def _packed(w: _Settings, inputs: _Settings | None) -> Callable[[Shape], Entries]:
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


def _eight_bits(w: _Settings, inputs: _Settings | None) -> Callable[[Shape], Entries]:
    kind, scales = {"float": "F8_E4M3", "int": "I8"}.get(w.text("type"), ""), _scales(w)
    if not kind or w.whole("num_bits", 8) != 8:
        raise ModelError("quantization_config: weights of other than 8 bits in this format are not read")
    static = inputs is not None and not inputs.flag("dynamic")

    def pack(shape: Shape) -> Entries:
        entries: Entries = {MAIN: (kind, shape), ".weight_scale": ("", scales(shape))}
        return {**entries, ".input_scale": ("", (1,))} if static else entries

    return pack


def _nvfp4(w: _Settings, inputs: _Settings | None) -> Callable[[Shape], Entries]:
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
_METHODS: Final = {
    "gptq": _gptq,
    "awq": _awq,
    "fp8": _fp8,
    "mxfp4": _mxfp4,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed,
}
