"""OLMo 2: norms on what each sublayer gives out, and one norm over all query heads and one over all key heads."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import Model, QKNorm
from txcalc.configs.common import llama_like, output_norm
from txcalc.configs.llama import LLAMA_DEFAULTS
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType


def _olmo2(r: Reader) -> Model:
    bias = r.flag("attention_bias")
    return llama_like(
        r,
        qkv_bias=bias,
        o_bias=bias,
        qk_norm=QKNorm(kind="rmsnorm", scope="width", eps=r.number("rms_norm_eps")),
        arrange=output_norm,
        head={"prefix": "Olmo2", "without": ("token_classification", "question_answering")},
    )


TYPES: Final = {
    "olmo2": ModelType(
        build=_olmo2,
        defaults={key: LLAMA_DEFAULTS[key] for key in LLAMA_DEFAULTS if key not in ("mlp_bias",)}
        | {"vocab_size": 50_304, "rms_norm_eps": 1e-5},
        origin="transformers 5.23 Olmo2Config",
    ),
}
