"""Tensors that are no weights of a model, told by their names alone."""

from __future__ import annotations

import re
from typing import Final

MULTI_TOKEN: Final = "multi-token prediction"
BUFFERS: Final = "buffers"
OTHER: Final = "other"

_BUFFER: Final = re.compile(
    r"(^|\.)(rotary_emb\.(inv_freq|cos_cached|sin_cached)|masked_bias|position_ids|attn\.(attention\.)?bias|inv_freq"
    r"|e_score_correction_bias|expert_bias|num_batches_tracked|rope_freqs\.weight)$"
)
_MULTI_TOKEN: Final = re.compile(
    r"(^|\.)(mtp(_[a-z_]+)?|nextn|eh_proj|enorm|hnorm|shared_head)\.|(^|\.)mtp_[a-z_]+(\.|$)"
)

# Where a tensor stands, where no config says: the first pattern that fits its name.
_COMPONENTS: Final = (
    ("norms", r"norm|(^|\.)ln_\w+\.|layernorm|(^|\.)norm\d?\."),
    ("router", r"(mlp|moe|ffn|block_sparse_moe|feed_forward)\.(gate|router)\.|ffn_gate_inp"),
    ("shared_expert", r"shared_expert|_shexp"),
    ("experts", r"experts|_exps"),
    ("head", r"(^|\.)(lm_head|output|score|classifier|cls|embed_out)\.|^output\.weight"),
    ("embedding", r"embed|wte|wpe|tok_emb|shared\.weight|token_embd|position_embd"),
    ("attention", r"attn|attention|q_proj|k_proj|v_proj|o_proj|qkv"),
    ("mixer", r"mamba|mixer|linear_attn|conv|ssm|delta"),
    ("feed_forward", r"mlp|ffn|feed_forward|fc\d|gate_proj|up_proj|down_proj|intermediate|dense"),
)


def is_buffer(name: str) -> bool:
    """Whether a name is one of masks, rotary tables and counters that old files hold, or a balancing bias."""
    return _BUFFER.search(name) is not None


def is_multi_token(name: str) -> bool:
    """Whether a name is one of a block that predicts further tokens."""
    return _MULTI_TOKEN.search(name) is not None


def component_by_name(name: str) -> str:
    """What a tensor most likely belongs to."""
    if is_multi_token(name):
        return MULTI_TOKEN
    if is_buffer(name):
        return BUFFERS
    return next((component for component, pattern in _COMPONENTS if re.search(pattern, name.lower())), OTHER)


_OF_LAYERS: Final = {
    "attn": "attention", "mla": "attention", "cross": "cross_attention", "mlp": "feed_forward", "ffn": "feed_forward",
    "mamba": "mamba", "mamba2": "mamba2", "delta": "gated_delta_net", "linear": "linear_attention",
    "rglru": "recurrence", "conv": "short_convolution", "tokenconv": "token_convolution",
}  # fmt: skip


def component_of(name: str) -> str:
    """The component of one of our own names, as the table of parameters has it."""
    first, _, rest = name.partition(".")
    if first in ("head", "pooled_head"):
        return "head"
    if first in ("connectors", "unused"):
        return first.rstrip("s")
    if not rest.startswith("layers."):
        return rest.partition(".")[0]
    label, _, inner = rest.split(".", 2)[2].partition(".")
    if not inner:  # a number of the whole layer
        return "norms"
    kind = label.rstrip("0123456789") if label not in _OF_LAYERS else label
    if inner.startswith(("norm_in", "norm_out", "norm_after")) or kind == "stream":
        return "norms"
    if kind == "moe":
        part = inner.partition(".")[0]
        return "shared_expert" if part.startswith("shared_expert") else part
    return _OF_LAYERS.get(kind, kind)
