"""dots3: latent attention with a gate on each head; local layers of widths of their own, the others with an indexer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from txcalc.architecture import Branch, FeedForward, Indexer, LatentAttention, Layer, MixtureOfExperts, Model, Residual
from txcalc.configs import deepseek, moe, rope
from txcalc.configs.common import decoder_of, each_once, layer_kinds, rms_norm, swiglu
from txcalc.configs.heads import published_text
from txcalc.configs.latent import indexer
from txcalc.configs.reader import Reader, shown
from txcalc.configs.registry import ModelType
from txcalc.configs.sigmoid_moe import EXPERT_KEYS

LOCAL: Final = "sliding_attention"
_WIDTHS: Final = (
    "num_attention_heads", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
)  # fmt: skip
# What published files say of local layers; head_dim gives what is turned.
_SWA: Final = {
    "num_attention_heads": 64, "q_lora_rank": 1024, "kv_lora_rank": 1024, "head_dim": 256, "qk_nope_head_dim": 192,
    "v_head_dim": 128,
}  # fmt: skip
_WITHOUT_BEARING: Final = ("head_dim", "num_key_value_heads")
_LEGACY: Final = (
    "use_dsa", "use_sliding_window", "sliding_window_size", "first_k_dense_replace", "moe_layer_freq",
    "moe_shared_expert_intermediate_size", "swa_num_key_value_heads", "swa_qk_rope_head_dim", "swa_rope_theta",
    *(f"swa_{name}" for name in _SWA),
)  # fmt: skip
_SHARED: Final = "shared_experts_intermediate_size"
Widths = tuple[int, ...]


def dots3_layers(r: Reader) -> dict[str, Any]:
    """What ``decoder_stack`` takes."""
    r.ignore(
        *_WITHOUT_BEARING, *_LEGACY, "per_layer_config", "sliding_window", *EXPERT_KEYS, "intermediate_size", _SHARED
    )
    r.ignore("index_n_heads", "index_head_dim", "index_topk")
    r.unused("mlp_bias", False)
    deepseek.predicted_tokens(r)
    norm, kinds = rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps")), _kinds(r)

    def layer(key: tuple[str, Widths, bool]) -> Layer:
        kind, widths, experts = key
        mixer = _attention(r, kind, dict(zip(_WIDTHS, widths, strict=True)))
        fed: FeedForward | MixtureOfExperts = _experts(r) if experts else swiglu(r)
        branches = (Branch(sublayer=each, norm_in=norm) for each in (mixer, fed))
        return Layer(steps=tuple(Residual(branches=(branch,)) for branch in branches))

    keys = zip(kinds, _widths_by_layer(r, kinds), _sparse(r), strict=True)
    return {"layers": each_once(keys, layer), "final_norm": norm}


def _dots3_note_text(r: Reader) -> Model:
    return decoder_of(r, **dots3_layers(r), head=published_text(r, "Dots3Note"))


# ---- which layer is what --------------------------------------------------------------------------------------------


def _kinds(r: Reader) -> list[str]:
    """Published files call layers with an indexer full; ``use_dsa`` false takes all indexers away."""
    num_layers, said = r.layers(), r.config.get("use_dsa", None if _by_layer(r) is not None else True)
    windowed = r.flag("use_sliding_window") if r.has("use_sliding_window") else True
    plain = "full_attention" if said is False else "indexed_attention"
    default = [plain if not windowed or i < 2 or i % 4 == 1 else LOCAL for i in range(num_layers)]
    kinds = layer_kinds(r, num_layers, lambda: default, known=("full_attention", "indexed_attention", LOCAL))
    return kinds if said is None else [kind if kind == LOCAL else plain for kind in kinds]


def _sparse(r: Reader) -> list[bool]:
    first = r.integer("first_k_dense_replace", minimum=0) if r.has("first_k_dense_replace") else 1
    if isinstance(r.config.get("moe_layer_freq"), list | tuple):
        sparse = [bool(each) for each in r.integers("moe_layer_freq", length=r.layers())]
    else:
        step = r.integer("moe_layer_freq") if r.has("moe_layer_freq") else 1
        sparse = [i % step == 0 for i in range(r.layers())]
    return moe.sparse_layers(r, ["sparse" if i >= first and each else "dense" for i, each in enumerate(sparse)])


def _by_layer(r: Reader) -> Mapping[str, Any] | None:
    """What a newer file says of single layers; null is such a file too, which says nothing of any."""
    return r.mapping("per_layer_config") if "per_layer_config" in r.config else None


def _widths_by_layer(r: Reader, kinds: list[str]) -> Iterator[Widths]:
    """The widths of every layer's attention: ``per_layer_config`` as newer files write it, else the swa_ keys."""
    base = {name: r.integer(name) for name in _WIDTHS}
    by_layer = _by_layer(r)
    if by_layer is None:
        local = _local_widths(r) if LOCAL in kinds else base
        found = ((local if kind == LOCAL else base) for kind in kinds)
    else:
        entries = {int(key) if str(key).isdecimal() else -1: value for key, value in by_layer.items()}
        found = ({**base, **_entry(r, i, entries.get(i, {}))} for i in range(len(kinds)))
    for widths in found:
        yield tuple(widths[name] for name in _WIDTHS)


def _entry(r: Reader, index: int, entry: Any) -> dict[str, int]:
    if not isinstance(entry, Mapping):
        raise r.error("per_layer_config", f"is {shown(entry)} for layer {index}; expected an object")
    inner = Reader(entry, defaults={}, origin="", path=f"{r.path}per_layer_config.{index}.")
    inner.ignore(*_WITHOUT_BEARING)
    widths = {name: inner.integer(name) for name in _WIDTHS if inner.has(name)}
    r.reasons.extend(reason for reason in inner.all_reasons() if reason not in r.reasons)
    return widths


def _local_widths(r: Reader) -> dict[str, int]:
    widths = {name: r.integer(f"swa_{name}") if r.has(f"swa_{name}") else value for name, value in _SWA.items()}
    turned = widths["head_dim"] - widths["qk_nope_head_dim"]
    if r.has("swa_qk_rope_head_dim"):
        turned = r.integer("swa_qk_rope_head_dim")
    if turned < 1:
        raise r.error("swa_qk_nope_head_dim", f"is {widths['qk_nope_head_dim']}; it leaves nothing of a head to turn")
    return {**widths, "qk_rope_head_dim": turned}


# ---- sublayers ------------------------------------------------------------------------------------------------------


def _attention(r: Reader, kind: str, widths: Mapping[str, int]) -> LatentAttention:
    """Both latents are scaled up to the stream's width, the shared rotary key is normed."""
    hidden, local = r.integer("hidden_size"), kind == LOCAL
    name, theta = ("swa_rope_theta", 5e4) if local else ("rope_theta", 8e7)
    base = r.number(name) if r.has(name) else theta
    settings = {"rope_theta": base, **rope.parameters(r, kind), "partial_rotary_factor": 1.0}
    return LatentAttention(
        hidden_size=hidden,
        num_attention_heads=widths["num_attention_heads"],
        q_lora_rank=widths["q_lora_rank"],
        kv_lora_rank=widths["kv_lora_rank"],
        qk_nope_head_dim=widths["qk_nope_head_dim"],
        qk_rope_head_dim=widths["qk_rope_head_dim"],
        v_head_dim=widths["v_head_dim"],
        norm_eps=r.number("rms_norm_eps"),
        position=rope.rotary(r, widths["qk_rope_head_dim"], interleaved=True, settings=settings),
        bias=r.flag("attention_bias"),
        indexer=_indexer(r, widths) if kind == "indexed_attention" else None,
        q_lora_scale=(hidden / widths["q_lora_rank"]) ** 0.5,
        kv_lora_scale=(hidden / widths["kv_lora_rank"]) ** 0.5,
        window=_window(r) if local else None,
        key_norm=True,
        gate="head",
    )


def _indexer(r: Reader, widths: Mapping[str, int]) -> Indexer:
    made = indexer(r, interleaved=True)
    return made.replace(query_size=widths["q_lora_rank"], rope_dim=widths["qk_rope_head_dim"])


def _window(r: Reader) -> int:
    if r.config.get("sliding_window") is not None:
        return r.integer("sliding_window")
    return r.integer("sliding_window_size") if r.has("sliding_window_size") else 512


def _experts(r: Reader) -> MixtureOfExperts:
    """Shared experts have a width of their own."""
    older = "moe_shared_expert_intermediate_size"
    return moe.mixture(
        r,
        size="moe_intermediate_size",
        num_experts="n_routed_experts",
        router=deepseek.router_v3(r),
        shared=r.integer(older if r.has(older) else _SHARED) * r.integer("n_shared_experts"),
    )


DOTS3_DEFAULTS: Final[dict[str, Any]] = {
    **deepseek.DEEPSEEK_V3_DEFAULTS,
    "vocab_size": 152_064, "hidden_size": 5120, "intermediate_size": 13_824, "moe_intermediate_size": 1536,

    "num_hidden_layers": 46, "routed_scaling_factor": 1.0, "q_lora_rank": 1024, "n_group": 1, "topk_group": 1,
    "max_position_embeddings": 524_288, "rms_norm_eps": 1e-5, "index_topk": 2048, "index_head_dim": 128,
    "index_n_heads": 64, "head_dim": 256, "sliding_window": None, "shared_experts_intermediate_size": 1536,
}  # fmt: skip

ALIASES: Final = {"num_local_experts": "n_routed_experts", "num_experts": "n_routed_experts"}

TYPES: Final = {
    "dots3_note_text": ModelType(
        build=_dots3_note_text,
        defaults=DOTS3_DEFAULTS,
        aliases=ALIASES,
        origin="transformers 5.23 Dots3NoteTextConfig",
    ),
}
