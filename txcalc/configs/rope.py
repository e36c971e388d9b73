"""Rotary settings as configs write them: ``rope_theta`` and ``rope_scaling``, or ``rope_parameters`` in newer files.

They bear on no count, but the reference model runs them. A scaling that is not known makes the result an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    RopeScaling,
    Rotary,
    YarnScaling,
)
from txcalc.configs.reader import Reader, shown

MOST_TURNED: Final = 4  # times the width of a head: nothing published turns more than once
DEFAULTS: Final = {"rope_theta": 10_000.0, "rope_scaling": None, "rope_parameters": None, "partial_rotary_factor": None}


def rotary(
    r: Reader,
    head_dim: int,
    *,
    theta: float | None = None,
    factor: float = 1.0,
    interleaved: bool = False,
    layer_type: str = "",
    scaled: bool = True,
    settings: Mapping[str, Any] | None = None,
    whole: bool = False,
) -> Rotary:
    """The rotary setting of a layer, on ``head_dim`` channels or the part of them that the config says.

    ``theta`` and ``factor`` are the type's defaults; ``layer_type`` picks one of several settings where
    ``rope_parameters`` holds one per kind of layer; ``scaled=False`` leaves ``rope_scaling`` to other layers. An
    adapter that merges settings in a way of its own hands them in as ``settings``. ``whole``: the type always turns
    whole heads, so that a config which asks for part of one is not understood.
    """
    settings = parameters(r, layer_type) if settings is None else settings
    number = _numbers(r, settings)
    base = number("rope_theta", 0.0) or _plain(r, "rope_theta") or theta or 10_000.0
    part = number("partial_rotary_factor", 0.0) or _plain(r, "partial_rotary_factor") or factor
    if base <= 0:
        raise r.error("rope_theta", f"is {base}; expected a positive number")
    if not 0 < part <= MOST_TURNED:
        raise r.error("partial_rotary_factor", f"is {part}; expected more than 0, at most {MOST_TURNED}")
    if whole and part != 1:
        r.reasons.append(f"partial_rotary_factor = {part}: transformers turns whole heads in this type")
        part = 1
    width = int(head_dim * part)
    if width == head_dim == 1:
        r.reasons.append("one channel a head: rotary positions turn pairs, and transformers makes it two as it runs")
    odd = width % 2 == 1 and width < head_dim  # a pair more is rotated, with frequencies spread over the odd width
    return Rotary(
        theta=float(base),
        rotary_dim=width + odd,
        interleaved=interleaved,
        scaling=_scaling(r, settings) if scaled else None,
        frequency_dim=width if odd else None,
        max_position_embeddings=_plain(r, "max_position_embeddings") or 0,
    )


def proportional(r: Reader, head_dim: int, given: Mapping[str, Any]) -> Rotary:
    """Whole heads at the settings ``given``; ``proportional``: the fastest share of the pairs turns, at the rates of
    the whole width, and the others stand."""
    settings = dict(given)
    if settings.get("rope_type") != "proportional":
        return rotary(r, head_dim, settings=settings, whole=True)
    share, factor = settings.pop("partial_rotary_factor", 1.0), settings.pop("factor", 1.0)
    if not all(isinstance(each, int | float) for each in (share, factor)) or not 0 <= share <= 1 or factor <= 0:
        raise r.error("rope_parameters", f"turns {shown(share)} of the pairs, divided by {shown(factor)}")
    whole = rotary(r, head_dim, settings={**settings, "rope_type": "default"}, whole=True)
    scaling = None if factor == 1 else LinearScaling(factor=float(factor))
    return whole.replace(scaling=scaling, still_pairs=head_dim // 2 - int(share * head_dim // 2))


def parameters(r: Reader, layer_type: str = "") -> Mapping[str, Any]:
    """The settings object: ``rope_scaling`` first, then ``rope_parameters``, the entry of ``layer_type`` if nested."""
    chosen = r.mapping("rope_scaling") or r.mapping("rope_parameters")
    r.ignore("rope_scaling", "rope_parameters", "rope_theta", "partial_rotary_factor")
    inner = chosen.get(layer_type) if layer_type else None
    if isinstance(inner, Mapping):
        return inner
    return {} if any(isinstance(value, Mapping) for value in chosen.values()) else chosen


def entry(r: Reader, layer_type: str) -> Mapping[str, Any]:
    """What ``rope_parameters`` says of one kind of layer: its entry, or all of it where it has no entries."""
    chosen = r.mapping("rope_parameters")
    r.ignore("rope_scaling", "rope_theta", "partial_rotary_factor")
    inner = chosen.get(layer_type)
    if isinstance(inner, Mapping):
        return inner
    return {} if any(isinstance(value, Mapping) for value in chosen.values()) else chosen


def _plain(r: Reader, name: str) -> Any:
    value = r.raw(name) if r.has(name) or name in r.defaults else None
    return None if value is None else r.number(name) if name != "max_position_embeddings" else r.integer(name)


def _scaling(r: Reader, settings: Mapping[str, Any]) -> RopeScaling | None:
    kind = settings.get("rope_type") or settings.get("type") or "default"
    number = _numbers(r, settings)
    trained = int(
        (_plain(r, "original_max_position_embeddings") if r.has("original_max_position_embeddings") else 0)
        or number("original_max_position_embeddings", 0)
        or _plain(r, "max_position_embeddings")
        or 0
    )
    match kind:
        case "default" | "mrope":
            return None
        case "linear":
            return LinearScaling(factor=number("factor", 1.0))
        case "dynamic":
            return DynamicScaling(factor=number("factor", 1.0), original_max_position_embeddings=trained)
        case "yarn":
            return _yarn(settings, number, trained)
        case "longrope" | "su":
            return _longrope(r, settings, number, trained)
        case "llama3":
            return Llama3Scaling(
                factor=number("factor", 8.0),
                low_freq_factor=number("low_freq_factor", 1.0),
                high_freq_factor=number("high_freq_factor", 4.0),
                original_max_position_embeddings=trained,
            )
    r.reasons.append(f"rope_scaling of kind {kind!r} is not known")
    return None


def _yarn(settings: Mapping[str, Any], number: Any, trained: int) -> YarnScaling:
    optional = {
        name: number(name, 0.0) for name in ("mscale", "mscale_all_dim", "attention_factor") if settings.get(name)
    }
    return YarnScaling(
        factor=number("factor", 1.0),
        original_max_position_embeddings=trained,
        beta_fast=number("beta_fast", 32.0),
        beta_slow=number("beta_slow", 1.0),
        truncate=bool(settings.get("truncate", True)),
        **optional,
    )


def _longrope(r: Reader, settings: Mapping[str, Any], number: Any, trained: int) -> LongRopeScaling:
    longest = _plain(r, "max_position_embeddings") or trained
    factor = number("factor", 0.0) or (longest / trained if trained else 1.0)
    return LongRopeScaling(
        short_factor=_factors(r, settings, "short_factor"),
        long_factor=_factors(r, settings, "long_factor"),
        original_max_position_embeddings=trained,
        factor=factor,
        attention_factor=number("attention_factor", 0.0) or None,
    )


def _factors(r: Reader, settings: Mapping[str, Any], name: str) -> tuple[float, ...]:
    values = settings.get(name) or ()
    if not isinstance(values, list | tuple):
        raise r.error("rope_scaling", f"has {name} {shown(values)}; expected a list of numbers")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise r.error("rope_scaling", f"has {shown(value)} in {name}; expected numbers")
    return tuple(float(value) for value in values)


def _numbers(r: Reader, settings: Mapping[str, Any]) -> Any:
    def number(name: str, default: float) -> float:
        value = settings.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise r.error("rope_scaling", f"has {name} {shown(value)}; expected a number")
        return float(value)

    return number
