"""Inkling and Inkling 2 (Thinking Machines): biases by distance made of tokens, short convolutions, experts."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    Branch,
    DepthAttention,
    FeedForward,
    Layer,
    MixtureOfExperts,
    Model,
    Norm,
    RelativeAttention,
    Residual,
    Router,
    TokenEmbedding,
)
from txcalc.configs import moe
from txcalc.configs.common import activation, decoder_of, each_once, layer_kinds, rms_norm, swiglu
from txcalc.configs.heads import published_text
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.configs.text_parts import untied

FULL, LOCAL = "hybrid", "hybrid_sliding"


def _attention(r: Reader, kind: str, **fields: Any) -> RelativeAttention:
    """Local layers have heads of their own, and profiles as long as the window."""
    mark, local = ("swa_", True) if kind == LOCAL else ("", False)
    heads, kv_heads = r.integer(f"{mark}num_attention_heads"), r.integer(f"{mark}num_key_value_heads")
    if heads % kv_heads:
        raise r.error(f"{mark}num_key_value_heads", f"is {kv_heads}; it must divide the {heads} query heads")
    window = r.integer("sliding_window_size")
    return RelativeAttention(
        hidden_size=r.integer("hidden_size"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=r.integer(f"{mark}head_dim"),
        rel_dim=r.integer("d_rel"),
        rel_extent=window if local else r.integer("rel_extent"),
        conv_kernel=r.integer("conv_kernel_size"),
        window=window if local else None,
        **fields,
    )


def _kinds(r: Reader, default: list[str]) -> list[str]:
    return layer_kinds(r, r.layers(), lambda: default, known=(FULL, LOCAL))


def _outside(r: Reader, norm: Norm) -> dict[str, Any]:
    """The table's rows are normed; rows that pad the vocabulary give no logits, but are there."""
    r.ignore("unpadded_vocab_size", "log_scaling_n_floor", "log_scaling_alpha", "rel_extent", "number_of_conv_states")
    r.ignore(*(f"{mark}{name}" for mark in ("", "swa_") for name in _HEADS))
    table = TokenEmbedding(vocab_size=r.integer("vocab_size"), embedding_size=r.integer("hidden_size"), norm=norm)
    return {"final_norm": norm, "embedding": table}


_HEADS: Final = ("num_attention_heads", "num_key_value_heads", "head_dim")


# ---- Inkling --------------------------------------------------------------------------------------------------------


def _inkling_text(r: Reader) -> Model:
    r.ignore("logits_mup_width_multiplier", "local_layer_ids", "rms_norm_eps_moe_gate", "dense_mlp_idx")
    r.ignore("mtp_local_layer_ids", "chain_hidden_post_norm", "mtp_hidden_states_first", "dense_intermediate_size")
    if r.config.get("num_mtp_layers") is not None and r.integer("num_mtp_layers", minimum=0):
        r.notes.append("num_mtp_layers: multi-token-prediction blocks are not counted")
    r.ignore("num_mtp_layers", *_EXPERT_KEYS)
    num_layers, norm = r.layers(), rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    local = range(num_layers) if r.config.get("local_layer_ids") is None else r.integers("local_layer_ids")
    given = r.config.get("local_layer_ids") is not None
    default = [LOCAL if i in local and (given or (i + 1) % 6) else FULL for i in range(num_layers)]
    kinds, taps = _kinds(r, default), r.integer("conv_kernel_size")
    dense = r.integer("dense_mlp_idx", minimum=0) if r.config.get("dense_mlp_idx") is not None else 0
    sparse = moe.sparse_layers(r, ["dense" if i < dense else "sparse" for i in range(num_layers)])
    mixers = {kind: _attention(r, kind) for kind in dict.fromkeys(kinds)}

    def layer(key: tuple[str, bool]) -> Layer:
        kind, experts = key
        fed: FeedForward | MixtureOfExperts = _inkling_experts(r) if experts else _inkling_dense(r)
        branches = (Branch(sublayer=each, norm_in=norm, out_conv=taps) for each in (mixers[kind], fed))
        return Layer(steps=tuple(Residual(branches=(branch,)) for branch in branches))

    divided = r.number("logits_mup_width_multiplier")
    if not divided:
        raise r.error("logits_mup_width_multiplier", "is 0; states are divided by it")
    head = {**published_text(r, "Inkling"), "scale": 1.0 / divided}
    layers = each_once(zip(kinds, sparse, strict=True), layer)
    return untied(r, decoder_of(r, layers, **_outside(r, norm), head=head))


_EXPERT_KEYS: Final = (
    "moe_intermediate_size", "n_routed_experts", "num_experts_per_tok", "n_shared_experts", "shared_expert_sink",
    "route_scale", "intermediate_size",
)  # fmt: skip


def _inkling_dense(r: Reader) -> FeedForward:
    """Older files call the experts' width ``intermediate_size``, and this one's ``dense_intermediate_size``."""
    older = r.config.get("dense_intermediate_size") is not None
    return swiglu(r, size="dense_intermediate_size" if older else "intermediate_size").replace(output_scale=True)


def _inkling_experts(r: Reader) -> MixtureOfExperts:
    """Shared experts are weighted by the router like the chosen ones."""
    hidden, act, experts = r.integer("hidden_size"), activation(r), r.integer("n_routed_experts")
    older = r.config.get("dense_intermediate_size") is not None
    width, shared = r.integer("intermediate_size" if older else "moe_intermediate_size"), r.integer("n_shared_experts")
    return MixtureOfExperts(
        hidden_size=hidden,
        num_experts=experts,
        num_experts_per_tok=moe.top_k(r, experts),
        expert=moe.gated(hidden, width, act),
        router=Router(
            scoring="sigmoid",
            correction_bias=True,
            norm_topk_prob=True,
            scaling_factor=r.number("route_scale"),
            scored_shared=shared,
            learned_scale=True,
        ),
        shared_expert=moe.gated(hidden, width * shared, act),
    )


# ---- Inkling 2 ------------------------------------------------------------------------------------------------------


def inkling2_layers(r: Reader) -> dict[str, Any]:
    """What ``decoder_stack`` takes: steps read from blocks of earlier layers too; full layers make filters."""
    r.ignore("qk_l2_clip_threshold", "rel_l2_clip_threshold")
    num_layers, every = r.layers(), r.integer("n_layers_per_attn_res_block")
    kinds = _kinds(r, [LOCAL if (i + 1) % 6 else FULL for i in range(num_layers)])
    norm, taps = rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps")), r.integer("conv_kernel_size")
    experts = _inkling2_experts(r)
    mixers = {
        kind: _attention(r, kind, clipped=True, gated=True, dynamic=kind == FULL, own_norms=kind == FULL)
        for kind in dict.fromkeys(kinds)
    }

    def layer(key: tuple[str, int, int]) -> Layer:
        kind, before, during = key
        mixer = Branch(sublayer=mixers[kind], norm_in=norm if kind == LOCAL else None, out_conv=taps)
        reading = _depth(r, 3 if kind == FULL else 1, before) if before else None
        fed = Branch(sublayer=experts, norm_in=norm, out_conv=taps)
        return Layer(
            steps=(
                Residual(branches=(mixer,), depth=reading),
                Residual(branches=(fed,), depth=_depth(r, 1, during)),
            )
        )

    # Sums to read from: whole blocks before, and the current one, which a block's first layer closes half-way.
    keys = ((kind, -(-i // every) + 1 if i else 0, i // every + 2) for i, kind in enumerate(kinds))
    final = _depth(r, 1, -(-num_layers // every) + 1)
    return {"layers": each_once(keys, layer), "depth": final, **_outside(r, norm)}


def _inkling2_text(r: Reader) -> Model:
    head = {**published_text(r, "Inkling2"), "softcap": r.number("final_logit_softcapping")}
    return untied(r, decoder_of(r, **inkling2_layers(r), head=head))


def _depth(r: Reader, queries: int, sources: int) -> DepthAttention:
    return DepthAttention(hidden_size=r.integer("hidden_size"), queries=queries, sources=sources)


def _inkling2_experts(r: Reader) -> MixtureOfExperts:
    activation(r)  # named, and softcapped anyway
    expert = moe.gated(r.integer("hidden_size"), r.integer("moe_intermediate_size"), "silu").replace(
        softcaps=(r.number("mlp_gate_softcap"), r.number("mlp_up_softcap"))
    )
    experts = r.integer("n_routed_experts")
    r.choice("scoring_func", ("sigmoid",))
    return MixtureOfExperts(
        hidden_size=r.integer("hidden_size"),
        num_experts=experts,
        num_experts_per_tok=moe.top_k(r, experts),
        expert=expert,
        router=Router(
            scoring="sigmoid", correction_bias=True, norm_topk_prob=True, scaling_factor=r.number("route_scale")
        ),
    )


_ALIASES: Final = {
    "sliding_window": "sliding_window_size", "num_local_experts": "n_routed_experts",
    "num_experts": "n_routed_experts", "sconv_kernel_size": "conv_kernel_size",
    "model_max_length": "max_position_embeddings",
}  # fmt: skip

TYPES: Final = {
    "inkling_text": ModelType(
        build=_inkling_text,
        defaults={
            "vocab_size": 201_024, "hidden_size": 6144, "num_hidden_layers": 66, "num_attention_heads": 64,
            "num_key_value_heads": 8, "head_dim": 128, "swa_num_attention_heads": 64, "swa_num_key_value_heads": 16,
            "swa_head_dim": 128, "sliding_window_size": 512, "d_rel": 16, "rel_extent": 1024,
            "max_position_embeddings": 131_072, "rms_norm_eps": 1e-6, "conv_kernel_size": 4,
            "intermediate_size": 24_576, "hidden_act": "silu", "moe_intermediate_size": 3072, "n_routed_experts": 256,
            "num_experts_per_tok": 6, "n_shared_experts": 2, "route_scale": 8.0, "logits_mup_width_multiplier": 24.0,
        },
        aliases={**_ALIASES, "embedding_multiplier": "logits_mup_width_multiplier"},
        origin="transformers 5.23 InklingTextConfig",
    ),
    "inkling2_text": ModelType(
        build=_inkling2_text,
        defaults={
            "vocab_size": 201_024, "hidden_size": 4608, "num_hidden_layers": 48, "num_attention_heads": 48,
            "num_key_value_heads": 8, "head_dim": 128, "swa_num_attention_heads": 48, "swa_num_key_value_heads": 8,
            "swa_head_dim": 128, "sliding_window_size": 1024, "d_rel": 16, "rel_extent": 1024,
            "max_position_embeddings": 1_048_576, "rms_norm_eps": 1e-6, "conv_kernel_size": 4, "hidden_act": "silu",
            "moe_intermediate_size": 2304, "n_routed_experts": 384, "num_experts_per_tok": 8, "route_scale": 8.0,
            "n_layers_per_attn_res_block": 6, "mlp_gate_softcap": 4.0, "mlp_up_softcap": 25.0,
            "final_logit_softcapping": 30.0, "scoring_func": "sigmoid",
        },
        aliases={
            **_ALIASES, "intermediate_size": "moe_intermediate_size", "routed_scaling_factor": "route_scale",
        },
        origin="transformers 5.23 Inkling2TextConfig",
    ),
}  # fmt: skip
