"""DeepSeek-V4: compressed attention between several residual streams, the first experts chosen by token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from txcalc.architecture import (
    Branch,
    CompressedAttention,
    CompressedIndexer,
    Compressor,
    HyperConnection,
    Layer,
    MixtureOfExperts,
    Model,
    Residual,
    Rotary,
    Router,
    StreamHead,
)
from txcalc.configs import deepseek, moe, rope
from txcalc.configs.common import activation, decoder_of, each_once, layer_kinds, rms_norm
from txcalc.configs.heads import published
from txcalc.configs.reader import Reader, shown
from txcalc.configs.registry import ModelType

LOCAL, SPARSE, HEAVY = "sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"
_RATES: Final = {SPARSE: 4, HEAVY: 128}
_KIND_OF_RATIO: Final = {0: LOCAL, 4: SPARSE, 128: HEAVY}
_SCORING: Final[Mapping[str, Literal["sqrt_softplus", "sigmoid"]]] = {
    "sqrtsoftplus": "sqrt_softplus", "sigmoid": "sigmoid",
}  # fmt: skip


def _deepseek_v4(r: Reader) -> Model:
    r.ignore("num_key_value_heads", "norm_topk_prob", "n_shared_experts", "expert_dtype")
    r.unused("attention_bias", False)
    r.unused("topk_method", "noaux_tc")
    deepseek.predicted_tokens(r)
    hidden, eps = r.integer("hidden_size"), r.number("rms_norm_eps")
    norm, kinds = rms_norm(hidden, eps), _kinds(r)
    mixers = {kind: _attention(r, kind) for kind in dict.fromkeys(kinds)}
    streams = r.integer("hc_mult")
    hyper = HyperConnection(
        streams=streams,
        hidden_size=hidden,
        eps=r.number("hc_eps"),
        norm_eps=eps,
        mixing=r.integer("hc_sinkhorn_iters"),
    )

    def layer(key: tuple[str, bool]) -> Layer:
        kind, hashed = key
        branches = (Branch(sublayer=each, norm_in=norm) for each in (mixers[kind], _experts(r, hashed=hashed)))
        return Layer(steps=tuple(Residual(branches=(branch,), streams=hyper) for branch in branches))

    layers = each_once(zip(kinds, _hashed(r), strict=True), layer)
    joined = StreamHead(streams=streams, hidden_size=hidden, eps=r.number("hc_eps"), norm_eps=eps)
    return decoder_of(r, layers, final_norm=norm, stream_head=joined, head=published("DeepseekV4", ""))


# ---- which layer is what --------------------------------------------------------------------------------------------


def _kinds(r: Reader) -> list[str]:
    """``layer_types``, or the rate of each layer as published files have it; lists may be longer than the model."""
    num_layers = r.layers()
    r.ignore("compress_ratios")
    for name in ("layer_types", "mlp_layer_types"):
        _shorten(r, name, num_layers)
    return layer_kinds(r, num_layers, lambda: _default_kinds(r, num_layers), known=(LOCAL, SPARSE, HEAVY))


def _default_kinds(r: Reader, num_layers: int) -> list[str]:
    if r.config.get("compress_ratios") is None:
        return [HEAVY if i < 2 or i % 2 == 0 else SPARSE for i in range(num_layers)]
    ratios = r.integers("compress_ratios")
    unknown = sorted(set(ratios) - set(_KIND_OF_RATIO))
    if unknown or len(ratios) < num_layers:
        raise r.error("compress_ratios", f"must say 0, 4 or 128 for each of {num_layers} layers")
    return [_KIND_OF_RATIO[each] for each in ratios[:num_layers]]


def _shorten(r: Reader, name: str, num_layers: int) -> None:
    given = r.config.get(name)
    if isinstance(given, list | tuple) and len(given) > num_layers:
        r.config = {**r.config, name: list(given[:num_layers])}


def _hashed(r: Reader) -> list[bool]:
    """Which layers choose experts by token: ``mlp_layer_types``, or the first so many."""
    num_layers = r.layers()
    r.ignore("mlp_layer_types", "num_hash_layers")
    if r.config.get("mlp_layer_types") is None:
        first = r.integer("num_hash_layers", minimum=0) if r.config.get("num_hash_layers") is not None else 3
        return [i < first for i in range(num_layers)]
    kinds = r.texts("mlp_layer_types", length=num_layers)
    unknown = sorted(set(kinds) - {"hash_moe", "moe"})
    if unknown:
        raise r.error("mlp_layer_types", f"holds {unknown[0]!r}; layers are hash_moe or moe")
    return [kind == "hash_moe" for kind in kinds]


# ---- sublayers ------------------------------------------------------------------------------------------------------


def _attention(r: Reader, kind: str) -> CompressedAttention:
    heads, width, groups = r.integer("num_attention_heads"), r.integer("head_dim"), r.integer("o_groups")
    if heads * width % groups:
        raise r.error("o_groups", f"is {groups}; it must divide {heads} heads of {width}")
    r.ignore("index_n_heads", "index_head_dim", "index_topk")
    return CompressedAttention(
        hidden_size=r.integer("hidden_size"),
        num_attention_heads=heads,
        head_dim=width,
        q_lora_rank=r.integer("q_lora_rank"),
        o_groups=groups,
        o_lora_rank=r.integer("o_lora_rank"),
        window=r.integer("sliding_window"),
        norm_eps=r.number("rms_norm_eps"),
        position=_rotary(r, width, "main" if kind == LOCAL else "compress"),
        compressor=_compressor(r, kind),
    )


def _compressor(r: Reader, kind: str) -> Compressor | None:
    rates = _rates(r)
    if kind == LOCAL:
        return None
    if kind == HEAVY:
        return Compressor(rate=rates[HEAVY], overlapping=False)
    indexer = CompressedIndexer(
        num_heads=r.integer("index_n_heads"), head_dim=r.integer("index_head_dim"), top_k=r.integer("index_topk")
    )
    return Compressor(rate=rates[SPARSE], overlapping=True, indexer=indexer)


def _rates(r: Reader) -> dict[str, int]:
    """``compress_rates`` by kind; older files have a key each, which overrules."""
    given = r.mapping("compress_rates") or _RATES
    rates: dict[str, int] = {}
    for kind, older in ((SPARSE, "compress_rate_csa"), (HEAVY, "compress_rate_hca")):
        value: Any = r.integer(older) if r.config.get(older) is not None else given.get(kind)
        r.ignore(older)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise r.error("compress_rates", f"has {shown(value)} for {kind}; expected a whole number of at least 1")
        rates[kind] = value
    return rates


def _rotary(r: Reader, width: int, label: str) -> Rotary:
    """Two settings: for windows alone, and for layers with entries, which may be scaled; the last channels are turned.

    Where YaRN scales, its temperature is left out.
    """
    r.ignore("rope_parameters", "rope_scaling", "partial_rotary_factor", "qk_rope_head_dim", "rope_theta")
    r.ignore("compress_rope_theta")
    theta = r.number("rope_theta" if label == "main" else "compress_rope_theta")
    given = r.mapping("rope_scaling") or r.mapping("rope_parameters")
    part = {"rope_theta": theta, "partial_rotary_factor": _turned(r, width)}
    if isinstance(given.get("main"), Mapping) and isinstance(given.get("compress"), Mapping):
        return rope.rotary(r, width, interleaved=True, settings={**part, **given[label]})
    if label == "main":
        return rope.rotary(r, width, interleaved=True, settings=part)
    flat = {key: value for key, value in given.items() if key not in ("main", "compress")}
    yarn = {"attention_factor": 1.0} if "yarn" in (flat.get("rope_type"), flat.get("type")) else {}
    return rope.rotary(r, width, interleaved=True, settings={**yarn, **flat, **part})


def _turned(r: Reader, width: int) -> float:
    if r.config.get("partial_rotary_factor") is not None:
        return r.number("partial_rotary_factor")
    if r.config.get("qk_rope_head_dim") is not None:
        return r.integer("qk_rope_head_dim") / width
    return 0.125


def _experts(r: Reader, *, hashed: bool) -> MixtureOfExperts:
    """All clamped before their gates; one shared expert, whatever its number says."""
    hidden, width, act = r.integer("hidden_size"), r.integer("moe_intermediate_size"), activation(r)
    experts, bias = r.integer("n_routed_experts"), r.flag("mlp_bias")
    limit = r.number("swiglu_limit")
    scoring = _SCORING[r.choice("scoring_func", tuple(_SCORING))]
    return MixtureOfExperts(
        hidden_size=hidden,
        num_experts=experts,
        num_experts_per_tok=moe.top_k(r, experts),
        expert=moe.gated(hidden, width, act).replace(limit=limit),
        router=Router(
            scoring=scoring,
            correction_bias=not hashed,
            norm_topk_prob=True,
            scaling_factor=r.number("routed_scaling_factor"),
            hashed=hashed,
        ),
        shared_expert=moe.gated(hidden, width, act, bias=bias).replace(limit=limit),
    )


TYPES: Final = {
    "deepseek_v4": ModelType(
        build=_deepseek_v4,
        defaults={
            "vocab_size": 129_280, "hidden_size": 4096, "moe_intermediate_size": 2048, "num_hidden_layers": 43,
            "num_attention_heads": 64, "head_dim": 512, "q_lora_rank": 1024, "num_experts_per_tok": 6,
            "n_routed_experts": 256, "scoring_func": "sqrtsoftplus", "routed_scaling_factor": 1.5,
            "max_position_embeddings": 1_048_576, "rope_theta": 1e4, "compress_rope_theta": 1.6e5, "hc_mult": 4,
            "hc_sinkhorn_iters": 20, "hc_eps": 1e-6, "swiglu_limit": 10.0, "sliding_window": 128, "o_groups": 8,
            "o_lora_rank": 1024, "index_n_heads": 64, "index_head_dim": 128, "index_topk": 512, "hidden_act": "silu",
            "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "mlp_bias": False,
        },
        aliases={
            "num_local_experts": "n_routed_experts", "num_experts": "n_routed_experts",
            "intermediate_size": "moe_intermediate_size", "num_mtp_layers": "num_nextn_predict_layers",
        },
        origin="transformers 5.23 DeepseekV4Config",
    ),
}  # fmt: skip
