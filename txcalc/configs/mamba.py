"""Mamba: one selective state space a layer, nothing else (Gu and Dao 2023, arXiv 2312.00752)."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import Mamba, Model
from txcalc.configs.common import activation, decoder_of, older_name, pre_norm, rms_norm
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

MAMBA_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 50_280,
    "hidden_size": 768,
    "num_hidden_layers": 32,
    "state_size": 16,
    "expand": 2,
    "conv_kernel": 4,
    "time_step_rank": "auto",
    "use_bias": False,
    "use_conv_bias": True,
    "hidden_act": "silu",
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
}
# How a fresh model's time steps are drawn, which kernel runs, in which dtype the residual is kept.
_WITHOUT_BEARING: Final = (
    "time_step_scale", "time_step_min", "time_step_max", "time_step_init_scheme", "time_step_floor",
    "rescale_prenorm_residual", "residual_in_fp32", "use_mambapy", "use_associative_scan", "fused_add_norm",
    "pad_vocab_size_multiple",
)  # fmt: skip
_TASKS_WITHOUT_CLASS: Final = {"sequence_classification", "token_classification", "question_answering"}


def _mamba(r: Reader) -> Model:
    r.ignore(*_WITHOUT_BEARING)
    num_layers, hidden = r.layers(), r.integer("hidden_size")
    _older_names(r, num_layers, hidden)
    norm = rms_norm(hidden, r.number("layer_norm_epsilon"))
    mixer = Mamba(
        hidden_size=hidden,
        intermediate_size=_inner_size(r, hidden),
        state_size=r.integer("state_size"),
        conv_kernel=r.integer("conv_kernel"),
        time_step_rank=time_step_rank(r, "time_step_rank", hidden),
        conv_bias=r.flag("use_conv_bias"),
        bias=r.flag("use_bias"),
        activation=activation(r),
    )
    head = {"prefix": "Mamba", "without": _TASKS_WITHOUT_CLASS}
    return decoder_of(r, [(pre_norm(mixer, norm=norm), num_layers)], final_norm=norm, head=head)


def _inner_size(r: Reader, hidden: int) -> int:
    """``intermediate_size`` where the config has it, which wins over ``expand``."""
    r.ignore("expand")
    return r.integer("intermediate_size") if r.has("intermediate_size") else int(r.number("expand") * hidden)


def time_step_rank(r: Reader, name: str, hidden: int) -> int:
    """The rank of the time step's projection: a number, or ``auto`` for a sixteenth of the width, rounded up."""
    return -(-hidden // 16) if r.raw(name) == "auto" else r.integer(name)


def _older_names(r: Reader, num_layers: int, hidden: int) -> None:
    """What the checkpoints' first configs called things, left beside the names that count."""
    older_name(r, "n_layer", "num_hidden_layers", num_layers)
    older_name(r, "d_model", "hidden_size", hidden)
    older_name(r, "d_inner", "intermediate_size", _inner_size(r, hidden))
    r.unused("rms_norm", True)
    r.unused("ssm_cfg", {})


TYPES: Final = {
    "mamba": ModelType(build=_mamba, defaults=MAMBA_DEFAULTS, origin="transformers 5.23 MambaConfig"),
}
