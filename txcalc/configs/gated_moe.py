"""Experts chosen by sigmoid scores behind attention that others do not have: Flint, Beam and MiniMax M3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import (
    BlockIndexer,
    Branch,
    FeedForward,
    Layer,
    LengthTemperature,
    MixtureOfExperts,
    Model,
    Residual,
    Rotary,
    Router,
    SelfAttention,
)
from txcalc.configs import deepseek, moe, rope
from txcalc.configs.common import (
    decoder_of,
    each_once,
    head_dims,
    layer_kinds,
    optional,
    pre_norm,
    rms_norm,
    self_attention,
    swiglu,
    windows_of,
)
from txcalc.configs.heads import published, published_text
from txcalc.configs.llama import LLAMA_DEFAULTS
from txcalc.configs.llama_kin import both_biases, head_norm
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.configs.sigmoid_moe import EXPERT_KEYS

LOCAL: Final = "sliding_attention"


# ---- Flint ----------------------------------------------------------------------------------------------------------


def _flint(r: Reader) -> Model:
    """Sinks and normed heads; windows, and with them rotation, but in the first two layers, every fourth, the last."""
    num_layers = r.layers()
    default = ["full_attention" if i < 2 or i % 4 == 1 or i == num_layers - 1 else LOCAL for i in range(num_layers)]
    windows = windows_of(r, layer_kinds(r, num_layers, lambda: default))
    position = rope.rotary(r, head_dims(r)[3], whole=True)
    router = Router(scoring="sigmoid", norm_topk_prob=r.flag("norm_topk_prob"))

    def attention(window: int | None) -> SelfAttention:
        turned = position if window is not None else None
        return self_attention(
            r, position=turned, window=window, qk_norm=head_norm(r), sinks=True, **both_biases(r)
        )  # fmt: skip

    return moe.sparse_decoder(
        r,
        sparse=_flint_sparse(r, num_layers),
        mixture=lambda: moe.mixture(
            r,
            size="moe_intermediate_size",
            router=router,
            shared=r.integer("shared_expert_intermediate_size", minimum=0),
        ),
        dense=lambda: swiglu(r),
        attention=attention,
        kinds=windows,
        head=published("Flint", ""),
    )


def _flint_sparse(r: Reader, num_layers: int) -> list[bool]:
    r.ignore(*EXPERT_KEYS, "intermediate_size")
    dense = [0, 1] if r.raw("mlp_only_layers") is None else r.integers("mlp_only_layers")
    experts, step = r.integer("num_experts", minimum=0) > 0, r.integer("decoder_sparse_step")
    return [i not in dense and experts and (i + 1) % step == 0 for i in range(num_layers)]


# ---- Beam -----------------------------------------------------------------------------------------------------------


def _beam(r: Reader) -> Model:
    """Sandwich norms; each sum counts what it adds like everything before it together; full layers are not turned."""
    num_layers = r.layers()
    default = ["full_attention" if not (i + 1) % 6 or i == num_layers - 1 else LOCAL for i in range(num_layers)]
    kinds = layer_kinds(r, num_layers, lambda: default)
    r.ignore(*EXPERT_KEYS, "intermediate_size", "sliding_window")
    sparse = moe.sparse_layers(r, ["dense" if i < 3 else "sparse" for i in range(num_layers)])
    norm = rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    mixers = {kind: _beam_attention(r, kind) for kind in dict.fromkeys(kinds)}
    fed: dict[bool, FeedForward | MixtureOfExperts] = {
        each: _beam_experts(r) if each else swiglu(r) for each in dict.fromkeys(sparse)
    }

    def layer(key: tuple[int, str, bool]) -> Layer:
        index, kind, experts = key
        sublayers = enumerate((mixers[kind], fed[experts]), start=2 * (index + 1))
        return Layer(
            steps=tuple(
                Residual(
                    branches=(Branch(sublayer=each, norm_in=norm, norm_out=norm, scale=n**-0.5),),
                    skip_scale=((n - 1) / n) ** 0.5,
                )
                for n, each in sublayers
            )
        )

    layers = each_once(zip(range(num_layers), kinds, sparse, strict=True), layer)
    softcap = r.optional_number("final_logit_softcapping")
    return decoder_of(r, layers, final_norm=norm, head={**published("Beam", ""), "softcap": softcap})


def _beam_attention(r: Reader, kind: str) -> SelfAttention:
    position = _beam_rotary(r, kind)
    return self_attention(
        r,
        position=position,
        window=optional(r, "sliding_window") if kind == LOCAL else None,
        qk_norm=head_norm(r),
        gate="channel",
        gate_bias=False,
        gate_head_bias=True,
        temperature=LengthTemperature(factor=0.1, length=2048, first=1, power=True) if position is None else None,
        **both_biases(r),
    )


def _beam_rotary(r: Reader, kind: str) -> Rotary | None:
    """``rope_parameters`` has an entry for each kind of layer; null is no rotation."""
    given = r.mapping("rope_parameters")
    r.ignore("rope_theta", "rope_scaling", "partial_rotary_factor")
    settings: Any = given.get(kind) if given else {"rope_theta": 1e4} if kind == LOCAL else None
    if given and kind not in given:
        r.reasons.append(f"rope_parameters says nothing of {kind}")
    if settings is None:
        return None
    if not isinstance(settings, Mapping):
        raise r.error("rope_parameters", f"has {settings!r} for {kind}; expected an object or null")
    return rope.rotary(r, head_dims(r)[3], settings=settings, whole=True)


def _beam_experts(r: Reader) -> MixtureOfExperts:
    return moe.mixture(r, size="moe_intermediate_size", router=deepseek.router_v3(r, "num_experts"))


# ---- MiniMax M3 -----------------------------------------------------------------------------------------------------

_SPARSE: Final = "minimax_m3_sparse"
# What published files say of the indexer, in an object of its own.
_OLDER: Final = {
    "index_n_heads": "sparse_num_index_heads",
    "index_head_dim": "sparse_index_dim",
    "index_block_size": "sparse_block_size",
    "index_topk_blocks": "sparse_topk_blocks",
    "index_local_blocks": "sparse_local_block",
}


def minimax_m3_layers(r: Reader) -> dict[str, Any]:
    """What ``decoder_stack`` takes: some layers look at blocks of keys that an indexer picks, all gates are clamped."""
    r.ignore("hidden_act", "rotary_dim", *EXPERT_KEYS)  # the gate is swiglu_oai; how much is turned stands elsewhere
    r.ignore(
        "intermediate_size", "dense_intermediate_size", "shared_intermediate_size", *_OLDER, "sparse_attention_config"
    )
    older = r.nested("sparse_attention_config", defaults={})
    older.ignore("sparse_attention_freq", *_OLDER.values())
    kinds, sparse = _m3_kinds(r, older), _m3_sparse(r)
    norm = rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"), unit_offset=True)
    position = rope.rotary(r, head_dims(r)[3], theta=5e6)
    mixers = {
        kind: self_attention(
            r,
            position=position,
            qk_norm=head_norm(r, unit_offset=True),
            block_indexer=_m3_indexer(r, older, position) if kind == _SPARSE else None,
        )
        for kind in dict.fromkeys(kinds)
    }

    def layer(key: tuple[str, bool]) -> Layer:
        kind, experts = key
        fed = _m3_experts(r) if experts else _m3_dense(r, "dense_intermediate_size")
        return pre_norm(mixers[kind], fed, norm=norm)

    return {"layers": each_once(zip(kinds, sparse, strict=True), layer), "final_norm": norm}


def _minimax_m3_vl_text(r: Reader) -> Model:
    return decoder_of(r, **minimax_m3_layers(r), head=published_text(r, "MiniMaxM3VL"))


def _m3_kinds(r: Reader, older: Reader) -> list[str]:
    num_layers = r.layers()

    def default() -> list[str]:
        if "sparse_attention_freq" not in older.config:
            return ["full_attention"] * num_layers
        marks = older.integers("sparse_attention_freq", length=num_layers)
        return [_SPARSE if each else "full_attention" for each in marks]

    return layer_kinds(r, num_layers, default, known=("full_attention", _SPARSE))


def _m3_sparse(r: Reader) -> list[bool]:
    num_layers = r.layers()
    r.ignore("moe_layer_freq")
    if r.config.get("moe_layer_freq") is None:
        return moe.sparse_layers(r, ["sparse"] * num_layers)
    marks = r.integers("moe_layer_freq", length=num_layers)
    return moe.sparse_layers(r, ["sparse" if each else "dense" for each in marks])


def _m3_indexer(r: Reader, older: Reader, position: Rotary) -> BlockIndexer:
    def number(name: str, minimum: int = 1) -> int:
        legacy = _OLDER[name]
        return older.integer(legacy, minimum=minimum) if legacy in older.config else r.integer(name, minimum=minimum)

    heads, width = number("index_n_heads"), number("index_head_dim")
    if head_dims(r)[1] % heads:
        raise r.error("index_n_heads", f"is {heads}; it must divide the {head_dims(r)[1]} query heads")
    if width < position.rotary_dim:
        r.reasons.append(f"index_head_dim = {width}: fewer channels than the {position.rotary_dim} that are turned")
    return BlockIndexer(
        num_heads=heads,
        head_dim=width,
        block_size=number("index_block_size"),
        top_k=number("index_topk_blocks"),
        local_blocks=number("index_local_blocks", minimum=0),
        norm_eps=r.number("rms_norm_eps"),
    )


def _m3_dense(r: Reader, size: str) -> FeedForward:
    return moe.gated(r.integer("hidden_size"), r.integer(size), "swiglu_oai").replace(
        limit=r.number("swiglu_limit"), alpha=r.number("swiglu_alpha")
    )


def _m3_experts(r: Reader) -> MixtureOfExperts:
    experts = r.integer("num_local_experts")
    return MixtureOfExperts(
        hidden_size=r.integer("hidden_size"),
        num_experts=experts,
        num_experts_per_tok=moe.top_k(r, experts),
        expert=_m3_dense(r, "intermediate_size"),
        router=Router(
            scoring="sigmoid",
            correction_bias=True,
            norm_topk_prob=True,
            scaling_factor=r.number("routed_scaling_factor"),
        ),
        shared_expert=_m3_dense(r, "shared_intermediate_size"),
    )


MINIMAX_M3_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 200_064, "hidden_size": 6144, "intermediate_size": 3072, "num_hidden_layers": 60,
    "num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 128, "max_position_embeddings": 524_288,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "num_experts_per_tok": 4, "num_local_experts": 128,
    "dense_intermediate_size": 12_288, "shared_intermediate_size": 3072, "routed_scaling_factor": 2.0,
    "swiglu_alpha": 1.702, "swiglu_limit": 7.0, "index_n_heads": 4, "index_head_dim": 128, "index_block_size": 128,
    "index_topk_blocks": 16, "index_local_blocks": 1,
}  # fmt: skip

TYPES: Final = {
    "flint": ModelType(
        build=_flint,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 150_144, "hidden_size": 2048, "intermediate_size": 6144,
            "num_hidden_layers": 49, "num_key_value_heads": 4, "head_dim": 128, "max_position_embeddings": 262_144,
            "sliding_window": 513, "decoder_sparse_step": 1, "moe_intermediate_size": 512,
            "shared_expert_intermediate_size": 1024, "num_experts_per_tok": 6, "num_experts": 256,
            "norm_topk_prob": True, "mlp_only_layers": None,
        },
        origin="transformers 5.23 FlintConfig",
    ),
    "beam": ModelType(
        build=_beam,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 151_936, "hidden_size": 5120, "intermediate_size": 20_480,
            "num_hidden_layers": 52, "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128,
            "max_position_embeddings": 8192, "sliding_window": 512, "moe_intermediate_size": 2560,
            "num_experts_per_tok": 8, "num_experts": 256, "norm_topk_prob": True, "n_group": 8, "topk_group": 4,
            "routed_scaling_factor": 2.5, "final_logit_softcapping": 30.0,
        },
        origin="transformers 5.23 BeamConfig",
    ),
    "minimax_m3_vl_text": ModelType(
        build=_minimax_m3_vl_text,
        defaults=MINIMAX_M3_DEFAULTS,
        aliases={"num_experts": "num_local_experts"},
        origin="transformers 5.23 MiniMaxM3VLTextConfig",
    ),
}  # fmt: skip
