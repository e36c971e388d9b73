"""One small sublayer of every kind that keeps something between steps, and of every setting that changes how."""

from __future__ import annotations

from tests.reference.tiny import ROTARY, D, attention
from txcalc.architecture import (
    Alibi,
    Differential,
    GatedDeltaNet,
    Indexer,
    LatentAttention,
    LengthTemperature,
    LinearAttention,
    Mamba,
    Mamba2,
    QKNorm,
    RealGatedRecurrence,
    RelativeBias,
    Rotary,
    ShortConvolution,
    Sublayer,
)

LATENT = LatentAttention(
    hidden_size=D, num_attention_heads=4, q_lora_rank=12, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4,
    v_head_dim=6, norm_eps=1e-6, position=Rotary(theta=1e4, rotary_dim=4, interleaved=True),
)  # fmt: skip
# Eight heads, so that hardly a score is exactly 0 (every head's ReLU shut): among equal scores any choice is right.
INDEXER = Indexer(query_size=12, num_heads=8, head_dim=6, top_k=4, rope_dim=4)
MAMBA = Mamba(hidden_size=D, intermediate_size=24, state_size=5, conv_kernel=4, time_step_rank=3)
MAMBA2 = Mamba2(
    hidden_size=D, num_heads=4, head_dim=6, state_size=5, n_groups=2, conv_kernel=4, norm_groups=2,
)  # fmt: skip
DELTA = GatedDeltaNet(
    hidden_size=D, num_k_heads=2, num_v_heads=4, head_k_dim=6, head_v_dim=5, conv_kernel=4, norm_eps=1e-6,
)  # fmt: skip
LINEAR = LinearAttention(hidden_size=D, num_heads=4, head_dim=6, feature_map="elu")

ATTENTIONS: dict[str, Sublayer] = {
    "grouped": attention(),
    "multi-head": attention(num_key_value_heads=4),
    "multi-query": attention(num_key_value_heads=1),
    "wide values": attention(v_head_dim=12),
    "window": attention(window=4),
    "chunk": attention(chunk=4),
    "alibi": attention(position=Alibi()),
    "alibi, window": attention(position=Alibi(before_scaling=True), window=5),
    "relative bias": attention(
        position=RelativeBias(num_buckets=8, max_distance=16, bidirectional=False, table="layer")
    ),
    "head norm": attention(qk_norm=QKNorm(kind="rmsnorm", scope="head", eps=1e-6, v_norm=True)),
    "heads norm": attention(qk_norm=QKNorm(kind="layernorm", scope="heads", eps=1e-6)),
    "width norm": attention(qk_norm=QKNorm(kind="rmsnorm", scope="width", eps=1e-6, after_rotary=True)),
    "softcap, window": attention(softcap=5.0, window=5),
    "sinks, window": attention(sinks=True, window=3),
    "channel gate": attention(gate="channel"),
    "head gate": attention(gate="head"),
    "keys as values": attention(k_equals_v=True),
    "clipped": attention(clip_qkv=0.1),
    "partial rotary": attention(position=Rotary(theta=1e4, rotary_dim=4, interleaved=True)),
    "no position": attention(position=None),
    "differential": attention(differential=Differential(lambda_init=0.3, norm_eps=1e-6)),
    "temperature": attention(temperature=LengthTemperature(factor=0.5, length=3, first=1)),
    "scaled values, reversed rotary": attention(value_scale=0.5, position=ROTARY.replace(reversed=True)),
    "latent": LATENT,
    "latent, indexer": LATENT.replace(indexer=INDEXER),
    "latent, no query rank": LATENT.replace(q_lora_rank=None, position=None),
}
RECURRENT: dict[str, Sublayer] = {
    "mamba": MAMBA,
    "mamba, inner norms": MAMBA.replace(inner_norms="weighted"),
    "mamba-2": MAMBA2,
    "mamba-2, norm first": MAMBA2.replace(gate_first=False, time_step_limit=(0.01, 0.5)),
    "gated delta": DELTA,
    "kimi delta": DELTA.replace(num_k_heads=4, head_k_dim=5, decay="channel", gate_rank=5, gate_activation="sigmoid"),
    "linear attention": LINEAR,
    "performer": LINEAR.replace(feature_map="favor", features=16),
    "lightning": LINEAR.replace(feature_map="lightning", decay_scale=0.7),
    "rg-lru": RealGatedRecurrence(hidden_size=D, lru_width=24, num_heads=4, conv_kernel=4),
    "short convolution": ShortConvolution(hidden_size=D, conv_kernel=3),
}
CACHING = {**ATTENTIONS, **RECURRENT}
