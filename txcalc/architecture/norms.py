"""Normalisation layers: LayerNorm (Ba et al. 2016) and RMSNorm (Zhang and Sennrich 2019)."""

from __future__ import annotations

from typing import Literal

from txcalc.record import Record


class Norm(Record):
    """One normalisation over the last ``width`` channels.

    ``weight=False`` is a norm without parameters (OLMo 1); ``unit_offset`` scales by ``1 + weight`` (Gemma); ``l2``
    divides by the length of the vector (gated delta networks, Llama 4) and never has parameters. ``affine`` normalises
    nothing: a weight and a bias alone (MobileBERT).
    """

    kind: Literal["layernorm", "rmsnorm", "l2", "affine"]
    width: int
    eps: float = 1e-5
    weight: bool = True
    bias: bool = False
    unit_offset: bool = False
    gate_rank: int | None = None  # then times sigmoid(W2 silu(W1 y)) of its own result y, through this width (A.X K2)
