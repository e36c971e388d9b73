"""CPM-Ant (Zeng et al. 2023): RMSNorm, GEGLU, T5's relative biases, and a learned prompt before every text."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import Model, RelativeBias, TokenEmbedding
from txcalc.configs import moe
from txcalc.configs.common import decoder_model, decoder_stack, foreign_spelling, pre_norm, rms_norm, self_attention
from txcalc.configs.heads import causal_head, published
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 30_720,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "head_dim": 128,
    "intermediate_size": 10_240,
    "num_hidden_layers": 48,
    "position_bias_num_buckets": 512,
    "position_bias_max_distance": 2048,
    "eps": 1e-6,
    "prompt_types": 32,
    "prompt_length": 32,
    "segment_types": 32,
    "tie_word_embeddings": False,
}


def _cpmant(r: Reader) -> Model:
    """The head is never tied: its rows are the vocabulary's alone, the table's the prompts' too."""
    foreign_spelling(r, "intermediate_size", "head_dim")
    r.ignore("dropout_p", "tie_word_embeddings")
    r.unused("mask_modules", None)
    r.unused("num_key_value_heads", None, r.integer("num_attention_heads"))
    r.notes.append("text given at once is seen in both directions; what is generated after it looks back")
    hidden, norm = r.integer("hidden_size"), rms_norm(r.integer("hidden_size"), r.number("eps"))
    bias = _segment_biases(r)
    attention = self_attention(r, position=bias)
    layer = pre_norm(attention, moe.gated(hidden, r.integer("intermediate_size"), "gelu"), norm=norm)
    stack = decoder_stack(
        r,
        [(layer, r.layers())],
        final_norm=norm,
        embedding=_embedding(r),
        relative_bias=bias,
        relative_bias_heads=attention.num_attention_heads,
    )
    head = causal_head(r, input_size=hidden, vocab_size=r.integer("vocab_size"), **published("CpmAnt", ""))
    return decoder_model(r, stack, head.replace(tied=False) if head else None)


def _embedding(r: Reader) -> TokenEmbedding:
    """Rows of every kind of prompt stand behind the vocabulary's; segments have vectors of their own."""
    length = r.integer("prompt_length", minimum=0)
    return TokenEmbedding(
        vocab_size=r.integer("vocab_size") + r.integer("prompt_types", minimum=0) * length,
        embedding_size=r.integer("hidden_size"),
        token_types=r.integer("segment_types"),
        prompt_tokens=length,
    )


def _segment_biases(r: Reader) -> RelativeBias:
    """A bias for every bucket of distances, and for every pair of segments."""
    return RelativeBias(
        num_buckets=r.integer("position_bias_num_buckets") + r.integer("segment_types") ** 2,
        max_distance=r.integer("position_bias_max_distance"),
        bidirectional=True,
    )


TYPES: Final = {
    "cpmant": ModelType(
        build=_cpmant,
        defaults=DEFAULTS,
        aliases={"head_dim": "dim_head", "intermediate_size": "dim_ff"},
        origin="transformers 5.23 CpmAntConfig",
    )
}
