"""BLT (Pagnoni et al. 2024, arXiv 2412.09871): bytes joined into patches, a model of patches, bytes again.

Its parameters are known. A patch is as long as the text's entropy says, so that no pass follows from a length.
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import CountedPart, InputTable, Model, Stack, TokenEmbedding
from txcalc.configs.common import decoder_model
from txcalc.configs.counted_towers import INERT, Tensors, kept, linear
from txcalc.configs.heads import causal_head, published
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

BLT_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 260,
    "max_position_embeddings": 4096,
    "patch_in_forward": True,
    "cross_attn_k": 2,
    "encoder_hash_byte_group_size": None,
    "encoder_hash_byte_group_vocab": 500_002,
    "encoder_hash_byte_group_nb_functions": 1,
    "tie_word_embeddings": False,
}
_LAYERS: Final = {
    "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": None, "intermediate_size": None,
    "num_hidden_layers": 1,
}  # fmt: skip
_ENCODER: Final = {**_LAYERS, "vocab_size": 260, "cross_attn_all_layers": False, "cross_attn_k": 2}
_DECODER: Final = {
    **_LAYERS, "num_hidden_layers": 9, "intermediate_size": 2816, "cross_attn_all_layers": True, "cross_attn_k": 2,
    "hidden_size_global": 2048,
}  # fmt: skip
_GLOBAL: Final = {**_LAYERS, "hidden_size": 2048, "num_hidden_layers": 25, "intermediate_size": 5632}
_PATCHER: Final = {
    **_LAYERS, "hidden_size": 768, "num_hidden_layers": 14, "num_attention_heads": 12, "intermediate_size": 2048,
    "vocab_size": 260,
}  # fmt: skip
_GROUPS: Final = 6  # sizes of groups of bytes, where the config names none
_PATCHED: Final = "its layers run on patches of bytes, whose number depends on the text"
_WITHOUT_BEARING: Final = (
    "patch_size", "patching_mode", "patching_threshold", "patching_batch_size", "max_patch_length",
    "local_attention_window_len", "rope_parameters", "rope_theta", "rope_scaling", "realtime_patching",
    "patching_threshold_add", "patching_device", "monotonicity", "pm_size",
)  # fmt: skip
_WITHOUT_BEARING_INSIDE: Final = (
    *INERT, "max_position_embeddings", "sliding_window", "head_dim", "tie_word_embeddings", "rope_scaling",
    "hidden_size_global", "encoder_cross_output_size", "vocab_size", "pm_size", "attn_impl", "attn_bias_type",
)  # fmt: skip


def _blt(r: Reader) -> Model:
    r.ignore("patcher_config", *_WITHOUT_BEARING)
    encoder, decoder = r.nested("encoder_config", defaults=_ENCODER), r.nested("decoder_config", defaults=_DECODER)
    width, vocab = encoder.integer("hidden_size"), r.integer("vocab_size")
    groups = len(r.integers("encoder_hash_byte_group_size")) or _GROUPS
    rows = r.integer("encoder_hash_byte_group_vocab") * r.integer("encoder_hash_byte_group_nb_functions") * groups
    embedding = TokenEmbedding(
        vocab_size=encoder.integer("vocab_size"),
        embedding_size=width,
        tables=(InputTable(name="byte_groups", rows=rows, width=width),),
    )
    out = decoder.integer("hidden_size")
    stack = Stack(role="decoder", hidden_size=out, embedding=embedding, layers=(), runs=())
    head = causal_head(r, input_size=out, vocab_size=vocab, **published("Blt", ""))
    if head and head.tied and (width, embedding.vocab_size) != (out, vocab):
        raise r.error(
            "tie_word_embeddings", f"is true; the table is {embedding.vocab_size} x {width}, not {vocab} x {out}"
        )
    parts = {"encoder": _encoder(encoder), "patches": _patches(r, width), "decoder": _decoder(decoder)}
    if r.raw("patch_in_forward"):
        parts["patcher"] = _patcher(r)
        r.notes.append(
            "the small model that cuts the text into patches is counted: it is frozen, and published with it"
        )
    counted = tuple(CountedPart(name=name, tensors=kept(tensors)) for name, tensors in parts.items())
    return decoder_model(r, stack, head, counted=counted, only_params=_PATCHED)


def _encoder(v: Reader) -> Tensors:
    """Layers over bytes, and attention of every patch over its bytes."""
    width = v.integer("hidden_size")
    return [
        *_layers(v, across=_across(v)),
        *linear("patch_projection", width, width * v.integer("cross_attn_k"), bias=False),
    ]


def _patches(r: Reader, width: int) -> Tensors:
    """Llama's layers over patches, after a matrix where these are not as wide."""
    v = r.nested("global_config", defaults=_GLOBAL)
    made, hidden = width * r.integer("cross_attn_k"), v.integer("hidden_size")
    return [*_layers(v), *(linear("projection", made, hidden, bias=False) if made != hidden else [])]


def _decoder(v: Reader) -> Tensors:
    """Layers over bytes that attend over patches, and a norm."""
    width, seen = v.integer("hidden_size"), v.integer("hidden_size_global")
    return [
        *_layers(v, across=_across(v)),
        *linear("patch_projection", seen, width * v.integer("cross_attn_k"), bias=False),
        ("norm", (width,), 1),
    ]


def _patcher(r: Reader) -> Tensors:
    """A language model of bytes, whose surprise ends a patch."""
    v = r.nested("patcher_config", defaults=_PATCHER)
    width, vocab = v.integer("hidden_size"), v.integer("vocab_size")
    return [("table_and_head", (vocab, width), 2), *_layers(v), ("norm", (width,), 1)]


def _across(v: Reader) -> int:
    """How many layers attend between bytes and patches."""
    every = v.raw("cross_attn_all_layers") is not None and v.flag("cross_attn_all_layers")
    return v.layers() if every else 1


def _layers(v: Reader, *, across: int = 0) -> Tensors:
    """Llama's layers; attention across has norms of queries and keys as wide as the model."""
    v.ignore(*_WITHOUT_BEARING_INSIDE)
    width, heads, layers = v.integer("hidden_size"), v.integer("num_attention_heads"), v.layers()
    head, kv_heads = width // heads, v.optional_integer("num_key_value_heads") or heads
    if not head or heads % kv_heads:
        raise v.error("num_attention_heads", f"is {heads}; the width is {width}, KV heads are {kv_heads}")
    wide = v.optional_integer("intermediate_size") or int(8 * width / 3)
    return [
        *linear("q_and_o_proj", width, heads * head, bias=False, count=2 * (layers + across)),
        *linear("k_and_v_proj", width, kv_heads * head, bias=False, count=2 * (layers + across)),
        *linear("gate_up_and_down_proj", width, wide, bias=False, count=3 * layers),
        ("norms", (width,), 2 * (layers + across)),
    ]


TYPES: Final = {"blt": ModelType(build=_blt, defaults=BLT_DEFAULTS, origin="transformers 5.23 BltConfig")}
