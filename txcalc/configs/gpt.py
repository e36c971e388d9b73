"""GPT-2 and its descendants: GPT-BigCode (one KV head), GPT-J and GPT-NeoX (rotary, parallel branches)."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import Head, Layer, Model, Rotary, SelfAttention, UnusedTensor
from txcalc.configs import rope
from txcalc.configs.common import (
    decoder_model,
    decoder_stack,
    dense_decoder,
    head_dims,
    layer_norm,
    parallel,
    parallel_own_norms,
    pre_norm,
    self_attention,
)
from txcalc.configs.dense import mlp, plain_head_dim, plain_heads, with_learned_positions
from txcalc.configs.heads import causal_head, classifier
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

ALIASES: Final = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}

GPT2_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 50_257,
    "max_position_embeddings": 1024,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "n_inner": None,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}

SUMMARY: Final = ("summary_type", "summary_activation", "summary_use_proj", "summary_proj_to_labels")


def _inner(r: Reader) -> int:
    return r.optional_integer("n_inner") or 4 * r.integer("hidden_size")


def _block(r: Reader, attention: SelfAttention) -> Layer:
    norm = layer_norm(r.integer("hidden_size"), r.number("layer_norm_epsilon"))
    return pre_norm(attention, mlp(r, _inner(r), act="activation_function"), norm=norm)


def _with_embeddings(r: Reader, layers: list[tuple[Layer, int]], head: Head | None, **fields: Any) -> Model:
    norm = layer_norm(r.integer("hidden_size"), r.number("layer_norm_epsilon"))
    stack = decoder_stack(r, layers, final_norm=norm, embedding=with_learned_positions(r))
    return decoder_model(r, stack, head, unused=cross_attention_of(r), **fields)


def cross_attention_of(r: Reader) -> tuple[UnusedTensor, ...]:
    """The cross-attention of ``add_cross_attention``, idle without an encoder."""
    if not r.flag("add_cross_attention"):
        return ()
    from txcalc.configs.bert import idle_cross_attention  # rare; spares every other GPT-2 the module

    return idle_cross_attention(r, r.integer("hidden_size"), r.layers())


# ---- GPT-2 ----------------------------------------------------------------------------------------------------------


def _gpt2(r: Reader) -> Model:
    plain_heads(r)
    r.ignore("reorder_and_upcast_attn", "n_ctx", "n_special", "predict_special_tokens")  # arithmetic, old marks
    scale = None if r.flag("scale_attn_weights") else 1.0
    attention = self_attention(r, position=None, qkv_bias=True, o_bias=True, scale=scale)
    layers = [(_block(r, attention), r.layers())]
    if r.flag("scale_attn_by_inverse_layer_idx"):
        whole = attention.head_dim**-0.5 if scale is None else scale
        scaled = (attention.replace(scale=whole / (index + 1)) for index in range(r.layers()))
        layers = [(_block(r, each), 1) for each in scaled]
    head, second = heads_or_double(r, "GPT2")
    return _with_embeddings(r, layers, head, pooled_head=second)


def heads_or_double(r: Reader, prefix: str, **head: Any) -> tuple[Head | None, Head | None]:
    """The usual head; the class that ends in ``DoubleHeadsModel`` has a multiple-choice head beside it."""
    r.ignore(*SUMMARY)
    hidden, vocab = r.integer("hidden_size"), r.integer("vocab_size")
    if r.config.get("architectures") != [f"{prefix}DoubleHeadsModel"]:
        return causal_head(r, input_size=hidden, vocab_size=vocab, prefix=prefix, **head), None
    tied = r.flag("tie_word_embeddings")
    return Head(kind="lm", input_size=hidden, output_size=vocab, tied=tied), _summary(r, hidden)


def _summary(r: Reader, hidden: int) -> Head | None:
    """One vector a sequence to one score, or to ``hidden_size`` channels without ``summary_proj_to_labels``."""
    if not r.flag("summary_use_proj"):
        return None
    outputs = 1 if r.flag("summary_proj_to_labels") else hidden
    return classifier(hidden, outputs, role="decoder", bias=True, pooled=True)


def _gpt_bigcode(r: Reader) -> Model:
    plain_head_dim(r)
    r.ignore("attention_softmax_in_fp32", "scale_attention_softmax_in_fp32", *SUMMARY)  # arithmetic, unused heads
    r.ignore("inference_runner", "validate_runner_input", "pre_allocate_kv_cache", "pad_key_length")  # a runtime's
    r.ignore("max_sequence_length", "max_batch_size")
    kv_heads = 1 if r.flag("multi_query") else r.integer("num_attention_heads")
    r.unused("num_key_value_heads", kv_heads, None)
    if kv_heads == 1 and r.flag("add_cross_attention"):
        raise r.error("add_cross_attention", "is true: not with multi_query")
    scale = None if r.flag("scale_attn_weights") else 1.0
    attention = self_attention(r, position=None, qkv_bias=True, o_bias=True, scale=scale)
    layers = [(_block(r, attention.replace(num_key_value_heads=kv_heads)), r.layers())]
    head = causal_head(
        r,
        input_size=attention.hidden_size,
        vocab_size=r.integer("vocab_size"),
        prefix="GPTBigCode",
        without=("question_answering",),
    )
    return _with_embeddings(r, layers, head)


# ---- GPT-J and GPT-NeoX ---------------------------------------------------------------------------------------------


def _gptj(r: Reader) -> Model:
    plain_heads(r)
    r.ignore(*SUMMARY)
    r.unused("rotary", True)
    r.unused("scale_attn_weights", True)
    hidden, _, _, head_dim = head_dims(r)
    rotary_dim = r.integer("rotary_dim")
    if rotary_dim > head_dim:
        r.notes.append(f"rotary_dim = {rotary_dim} is more than the {head_dim} channels of a head: it cannot run")
    return dense_decoder(
        r,
        norm=layer_norm(hidden, r.number("layer_norm_epsilon")),
        feed_forward=mlp(r, _inner(r), act="activation_function"),
        position=Rotary(theta=10_000.0, rotary_dim=rotary_dim, interleaved=True),
        arrange=parallel,
        head={"bias": True, "prefix": "GPTJ", "without": ("token_classification",), "answers": None},
    )


def _gpt_neox(r: Reader) -> Model:
    plain_heads(r)
    hidden, _, _, head_dim = head_dims(r)
    bias = r.flag("attention_bias")
    own_names = {"rope_theta": r.number("rotary_emb_base"), "partial_rotary_factor": r.number("rotary_pct")}
    return dense_decoder(
        r,
        norm=layer_norm(hidden, r.number("layer_norm_eps")),
        feed_forward=mlp(r, r.integer("intermediate_size")),
        position=rope.rotary(r, head_dim, settings={**own_names, **rope.parameters(r)}),
        arrange=parallel_own_norms if r.flag("use_parallel_residual") else pre_norm,
        head={"prefix": "GPTNeoX"},
        qkv_bias=bias,
        o_bias=bias,
    )


_GPT2: Final = ModelType(
    build=_gpt2,
    defaults={
        **GPT2_DEFAULTS,
        "scale_attn_by_inverse_layer_idx": False,
        "summary_use_proj": True,
        "summary_proj_to_labels": True,
    },
    aliases=ALIASES,
    origin="transformers 5.23 GPT2Config",
)

TYPES: Final = {
    "gpt2": _GPT2,
    "gpt-sw3": _GPT2,  # a tokenizer of its own before the same model
    "gpt_bigcode": ModelType(
        build=_gpt_bigcode,
        defaults={**GPT2_DEFAULTS, "activation_function": "gelu_pytorch_tanh", "multi_query": True},
        aliases=ALIASES,
        origin="transformers 5.23 GPTBigCodeConfig",
    ),
    "gptj": ModelType(
        build=_gptj,
        defaults={
            "vocab_size": 50_400,
            "max_position_embeddings": 2048,
            "hidden_size": 4096,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "rotary_dim": 64,
            "n_inner": None,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": False,
        },
        aliases=ALIASES,
        origin="transformers 5.23 GPTJConfig",
    ),
    "gpt_neox": ModelType(
        build=_gpt_neox,
        defaults={
            "vocab_size": 50_432,
            "hidden_size": 6144,
            "num_hidden_layers": 44,
            "num_attention_heads": 64,
            "intermediate_size": 24_576,
            "hidden_act": "gelu",
            "max_position_embeddings": 2048,
            "layer_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "use_parallel_residual": True,
            "rotary_emb_base": 10_000,
            "rotary_pct": 0.25,
            "attention_bias": True,
        },
        origin="transformers 5.23 GPTNeoXConfig",
    ),
}
