"""Rotary positions: turn each pair of channels by an angle that grows with the position.

RoFormer (Su et al. 2021), equation 34: a query at m and a key at n, both turned, have a product that depends on m - n.
Long contexts change the frequencies: one function a method.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from txcalc import architecture as arch

Turns = tuple[Tensor, Tensor]  # cosines and sines, each [1 or B, T, 1, rotary_dim / 2]


def turns(positions_BT: Tensor, frequencies_R: Tensor, size: float, dtype: torch.dtype) -> Turns:
    """Cosines and sines of every position, times ``size``: each [1 or B, T, 1, rotary_dim / 2]."""
    angles = positions_BT[..., None].float() * frequencies_R
    return (angles.cos() * size).to(dtype)[:, :, None], (angles.sin() * size).to(dtype)[:, :, None]


def rotate(x_BTNH: Tensor, cos_sin: Turns, interleaved: bool) -> Tensor:
    """Turn the first ``rotary_dim`` channels of each head; the rest stay as they are: [B, T, N, H] -> the same.

    (a, b) -> (a cos - b sin, b cos + a sin), where b is a's neighbour (``interleaved``) or half a width away.
    """
    cos, sin = cos_sin
    turned = x_BTNH[..., : 2 * cos.shape[-1]]
    kept = x_BTNH[..., 2 * cos.shape[-1] :]
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)
    else:
        a, b = turned.chunk(2, dim=-1)
        turned = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
    return torch.cat((turned, kept), dim=-1) if kept.shape[-1] else turned


def depends_on_length(rotary: arch.Rotary) -> bool:
    """Whether the frequencies change with the length of the sequence."""
    return isinstance(rotary.scaling, arch.DynamicScaling | arch.LongRopeScaling)


def frequencies(rotary: arch.Rotary, length: int) -> Tensor:
    """Radians per token of each pair of channels, [rotary_dim / 2] in fp32 on the CPU.

    ``length``: how long the sequence is or may become; dynamic NTK and LongRoPE choose by it.
    """
    radians_R = _frequencies(rotary, length)
    if rotary.still_pairs:
        radians_R = torch.cat((radians_R[: -rotary.still_pairs], torch.zeros(rotary.still_pairs, device="cpu")))
    return radians_R


def _frequencies(rotary: arch.Rotary, length: int) -> Tensor:
    scaling = rotary.scaling
    match scaling:
        case None:
            return _plain(rotary, rotary.theta)
        case arch.LinearScaling():
            return _plain(rotary, rotary.theta) / scaling.factor
        case arch.DynamicScaling():
            return _plain(rotary, _grown_base(rotary, scaling, length))
        case arch.YarnScaling():
            return _yarn(rotary, scaling)
        case arch.LongRopeScaling():
            return _longrope(rotary, scaling, length)
        case arch.Llama3Scaling():
            return _llama3(rotary, scaling)


def turn_size(rotary: arch.Rotary) -> float:
    """The factor of cosines and sines: 1, unless the scaling makes scores of long sequences sharper."""
    match rotary.scaling:
        case arch.YarnScaling():
            return yarn_factor(rotary.scaling)
        case arch.LongRopeScaling():
            return _longrope_factor(rotary.scaling)
        case _:
            return 1.0


def _plain(rotary: arch.Rotary, theta: float) -> Tensor:
    """theta ** (-2 i / width) for each pair i (equation 15)."""
    width = rotary.frequency_dim or rotary.rotary_dim
    pairs = torch.arange(0, rotary.rotary_dim, 2, dtype=torch.float32, device="cpu")
    return 1.0 / (theta ** (pairs / width))


def _grown_base(rotary: arch.Rotary, scaling: arch.DynamicScaling, length: int) -> float:
    """NTK-aware: past the trained length the base grows, so that the slowest pair is stretched and the fastest not."""
    trained, width = scaling.original_max_position_embeddings, rotary.rotary_dim
    stretch = scaling.factor * max(length, trained) / trained - (scaling.factor - 1)
    return float(rotary.theta * stretch ** (width / (width - 2)))


def _yarn(rotary: arch.Rotary, scaling: arch.YarnScaling) -> Tensor:
    """YaRN (Peng et al. 2023), section 3.2: pairs that turn often are kept, slow ones stretched, a ramp between."""
    width = rotary.rotary_dim

    def pair_that_turns(times: float) -> float:
        wavelengths = scaling.original_max_position_embeddings / (times * 2 * math.pi)
        return width * math.log(wavelengths) / (2 * math.log(rotary.theta))

    low, high = pair_that_turns(scaling.beta_fast), pair_that_turns(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    high += 0.001 if low == high else 0  # a ramp of no width
    ramp = ((torch.arange(width // 2, dtype=torch.float32, device="cpu") - low) / (high - low)).clamp(0, 1)
    plain = _plain(rotary, rotary.theta)
    return plain / scaling.factor * ramp + plain * (1 - ramp)


def yarn_factor(scaling: arch.YarnScaling) -> float:
    """YaRN's factor of the rotated vectors; its square is the temperature of the scores (section 3.3)."""
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.mscale and scaling.mscale_all_dim:
        return _mscale(scaling.factor, scaling.mscale) / _mscale(scaling.factor, scaling.mscale_all_dim)
    return _mscale(scaling.factor, 1.0)


def _mscale(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def _longrope(rotary: arch.Rotary, scaling: arch.LongRopeScaling, length: int) -> Tensor:
    """LongRoPE (Ding et al. 2024): one searched factor a pair, from the long set past the trained length."""
    long = length > scaling.original_max_position_embeddings
    factors = scaling.long_factor if long else scaling.short_factor
    return _plain(rotary, rotary.theta) / torch.tensor(factors, dtype=torch.float32, device="cpu")


def _longrope_factor(scaling: arch.LongRopeScaling) -> float:
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.factor <= 1:
        return 1.0
    return math.sqrt(1 + math.log(scaling.factor) / math.log(scaling.original_max_position_embeddings))


def _llama3(rotary: arch.Rotary, scaling: arch.Llama3Scaling) -> Tensor:
    """Llama 3.1: stretch wavelengths beyond trained length / low_freq_factor, keep short ones, blend between."""
    plain = _plain(rotary, rotary.theta)
    turns_in_training = scaling.original_max_position_embeddings * plain / (2 * math.pi)
    band = scaling.high_freq_factor - scaling.low_freq_factor
    keep = ((turns_in_training - scaling.low_freq_factor) / band).clamp(0, 1)
    return plain * keep + plain / scaling.factor * (1 - keep)
