"""MPT: ALiBi, no biases, norms with a weight alone.

MosaicML's own code has more settings than transformers builds; a config that uses one of them gets a reason.
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import Alibi, FeedForward, Model
from txcalc.configs.common import dense_decoder, layer_norm
from txcalc.configs.dense import plain_heads
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

MPT_DEFAULTS: Final[dict[str, Any]] = {
    "hidden_size": 2048,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "max_position_embeddings": 2048,
    "vocab_size": 50_368,
    "layer_norm_epsilon": 1e-5,
    "logit_scale": None,
    "tie_word_embeddings": True,
}
ATTENTION_DEFAULTS: Final[dict[str, Any]] = {"clip_qkv": None, "softmax_scale": None, "alibi_bias_max": 8}
EXPANSION: Final = 4  # transformers builds this ratio, whatever expansion_ratio says


def _mpt(r: Reader) -> Model:
    plain_heads(r)
    r.ignore("init_device", "init_config", "embedding_fraction", "verbose", "tokenizer_name", "emb_pdrop", "fc_type")
    r.ignore("learned_pos_emb")  # without bearing where ALiBi is on
    r.unused("expansion_ratio", EXPANSION)
    r.unused("no_bias", True)
    r.unused("norm_type", "low_precision_layernorm", "layernorm")
    r.unused("ffn_config", None, {}, {"ffn_type": "mptmlp"}, {"ffn_type": "mptmlp", "fc_type": "torch"})
    if r.raw("logit_scale") is not None:
        r.notes.append("logit_scale: MosaicML's code multiplies the logits by it, transformers does not")
    hidden = r.integer("hidden_size")
    settings = _attention_settings(r)
    slopes = settings.number("alibi_bias_max")
    if slopes != ATTENTION_DEFAULTS["alibi_bias_max"]:
        r.notes.append(f"alibi_bias_max = {slopes:g} is the model's own; transformers 5.23 runs it with 8")
    return dense_decoder(
        r,
        norm=layer_norm(hidden, r.number("layer_norm_epsilon"), bias=False),
        feed_forward=FeedForward(
            hidden_size=hidden, intermediate_size=EXPANSION * hidden, activation="gelu", gated=False
        ),
        position=Alibi(max_bias=slopes),
        head={"prefix": "Mpt"},
        scale=settings.optional_number("softmax_scale"),
        clip_qkv=settings.optional_number("clip_qkv") or None,  # 0 clips nothing
    )


def _attention_settings(r: Reader) -> Reader:
    """``attn_config``; what transformers leaves out of it is fine only as long as it is off."""
    inner = r.nested("attn_config", defaults=ATTENTION_DEFAULTS)
    inner.ignore("attn_impl", "attn_pdrop", "attn_uses_sequence_id")
    inner.unused("attn_type", "multihead_attention")
    inner.unused("alibi", True)
    for name in ("qk_ln", "qk_gn", "prefix_lm", "rope"):
        inner.unused(name, False)
    inner.unused("sliding_window_size", -1)
    return inner


TYPES: Final = {
    "mpt": ModelType(
        build=_mpt,
        defaults=MPT_DEFAULTS,
        aliases={
            "hidden_size": "d_model",
            "num_attention_heads": "n_heads",
            "num_hidden_layers": "n_layers",
            "max_position_embeddings": "max_seq_len",
        },
        origin="transformers 5.23 MptConfig",
    ),
}
