"""Decoders beside GPT-2 and GPT-NeoX: GPT, GPT-Neo, CodeGen, GPT-NeoX Japanese, XGLM, BioGPT, CTRL.

Sources: Radford et al. 2018, section 3 (GPT: a norm after each sublayer); Nijkamp et al. 2023
(arXiv 2203.13474, CodeGen); Lin et al. 2021 (arXiv 2112.10668, XGLM); Luo et al. 2022 (arXiv 2210.10341, BioGPT);
Keskar et al. 2019 (arXiv 1909.05858, CTRL).
"""

from __future__ import annotations

from typing import Final

from txcalc.architecture import LearnedPositions, Model, Rotary, Sinusoidal, TokenEmbedding
from txcalc.architecture.feed_forward import Activation
from txcalc.configs import rope
from txcalc.configs.common import (
    decoder_model,
    decoder_of,
    decoder_stack,
    dense_decoder,
    each_once,
    foreign_spelling,
    head_dims,
    layer_norm,
    parallel,
    post_norm,
    pre_norm,
    self_attention,
)
from txcalc.configs.dense import mlp, plain_heads, with_learned_positions
from txcalc.configs.encoders import plain_feed_forward
from txcalc.configs.gpt import ALIASES, SUMMARY, cross_attention_of, heads_or_double
from txcalc.configs.heads import published
from txcalc.configs.reader import Reader, shown
from txcalc.configs.registry import ModelType

_TORCH_EPS: Final = 1e-5  # what torch's LayerNorm takes where a type hands it none
_OFFSET: Final = 2  # the row of the first token in XGLM and BioGPT
_CODEGEN_BLOCKS: Final = 4  # its fused projection holds queries, values and keys of a quarter of the heads each

# ---- GPT ------------------------------------------------------------------------------------------------------------

_GPT_ACTIVATIONS: Final[dict[str, Activation]] = {
    "gelu": "gelu_tanh",  # the type's own table: its "gelu" is the tanh approximation
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def _openai_gpt(r: Reader) -> Model:
    plain_heads(r)
    r.ignore("n_ctx", "n_special", "predict_special_tokens")  # old marks
    hidden = r.integer("hidden_size")
    r.unused("n_inner", None, 4 * hidden)
    act = _GPT_ACTIVATIONS[r.choice("afn", tuple(_GPT_ACTIVATIONS))]
    attention = self_attention(r, position=None, qkv_bias=True, o_bias=True)
    norm = layer_norm(hidden, r.number("layer_norm_epsilon"))
    layer = post_norm(attention, plain_feed_forward(hidden, 4 * hidden, act), norm=norm)
    stack = decoder_stack(r, [(layer, r.layers())], final_norm=None, embedding=with_learned_positions(r))
    head, second = heads_or_double(r, **published("OpenAIGPT", "sequence"))
    return decoder_model(r, stack, head, pooled_head=second)


# ---- GPT-Neo --------------------------------------------------------------------------------------------------------

_KINDS: Final = ("global", "local")


def _gpt_neo(r: Reader) -> Model:
    """Scores are not scaled; local layers see ``window_size`` tokens, themselves included."""
    plain_heads(r)
    r.ignore("embed_dropout")
    hidden, window = r.integer("hidden_size"), r.integer("window_size")
    inner = r.optional_integer("intermediate_size") or 4 * hidden
    kinds = _attention_layers(r)
    return dense_decoder(
        r,
        norm=layer_norm(hidden, r.number("layer_norm_epsilon")),
        feed_forward=mlp(r, inner, act="activation_function"),
        position=None,
        layer_windows=[window if kind == "local" else None for kind in kinds],
        embedding=with_learned_positions(r),
        head={"prefix": "GPTNeo"},
        o_bias=True,
        scale=1.0,
    )


def _attention_layers(r: Reader) -> list[str]:
    """The kind of every layer: ``attention_layers``, else what ``attention_types`` repeats."""
    num_layers = r.layers()
    if r.config.get("attention_layers") is not None:
        r.ignore("attention_types")
        kinds = r.texts("attention_layers", length=num_layers)
    else:
        r.ignore("attention_layers")
        kinds = _repeated(r, num_layers)
    unknown = sorted(set(kinds) - set(_KINDS))
    if unknown:
        raise r.error("attention_types", f"holds {unknown[0]!r}; this type knows {' and '.join(_KINDS)}")
    return kinds


def _repeated(r: Reader, num_layers: int) -> list[str]:
    """``[[["global", "local"], 12]]``: 24 layers that take turns."""
    given = r.raw("attention_types")
    given = r.defaults["attention_types"] if given is None else given
    what = f'is {shown(given)}; expected pairs of kinds and how often, such as [[["global", "local"], 12]]'
    kinds: list[str] = []
    for pair in given if isinstance(given, list | tuple) else [None]:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], list | tuple):
            raise r.error("attention_types", what)
        names, times = pair
        if isinstance(times, bool) or not isinstance(times, int) or not all(isinstance(each, str) for each in names):
            raise r.error("attention_types", what)
        kinds += list(names) * min(max(times, 0), num_layers + 1)
    if len(kinds) != num_layers:
        several = "more" if len(kinds) > num_layers else str(len(kinds))
        hint = "give attention_types that many layers, or set num_layers"
        raise r.error("attention_types", f"describes {several} layers where num_layers is {num_layers}", hint)
    return kinds


# ---- CodeGen and GPT-NeoX Japanese ----------------------------------------------------------------------------------


def _codegen(r: Reader) -> Model:
    plain_heads(r)
    r.ignore("n_ctx", *SUMMARY)
    r.unused("scale_attn_weights", True)
    hidden, heads, _, head_dim = head_dims(r)
    rotary_dim = r.integer("rotary_dim")
    if rotary_dim > head_dim or heads % _CODEGEN_BLOCKS:
        r.notes.append(
            f"{heads} heads of {head_dim} channels, {rotary_dim} of them rotated: it cannot run, because heads come in "
            f"{_CODEGEN_BLOCKS} blocks and no more channels turn than a head has"
        )
    inner = r.optional_integer("n_inner") or 4 * hidden
    return dense_decoder(
        r,
        norm=layer_norm(hidden, r.number("layer_norm_epsilon")),
        feed_forward=mlp(r, inner, act="activation_function"),
        position=Rotary(theta=10_000.0, rotary_dim=rotary_dim, interleaved=True),
        arrange=parallel,
        head={**published("CodeGen", ""), "bias": True},
    )


def _gpt_neox_japanese(r: Reader) -> Model:
    """No biases but one: that of the last layer's output projection."""
    plain_heads(r)
    hidden, _, _, head_dim = head_dims(r)
    num_layers, inner = r.layers(), hidden * r.integer("intermediate_multiple_size")
    own_names = {"rope_theta": r.number("rotary_emb_base"), "partial_rotary_factor": r.number("rotary_pct")}
    position = rope.rotary(r, head_dim, settings={**own_names, **rope.parameters(r)})
    norm, feed_forward = layer_norm(hidden, r.number("layer_norm_eps")), mlp(r, inner, bias=False)
    return decoder_of(
        r,
        each_once(
            [index == num_layers - 1 for index in range(num_layers)],
            lambda last: pre_norm(self_attention(r, position=position, o_bias=last), feed_forward, norm=norm),
        ),
        final_norm=norm,
        head=published("GPTNeoXJapanese", ""),
    )


# ---- XGLM, BioGPT, CTRL ---------------------------------------------------------------------------------------------


def _scaled_embedding(r: Reader, positions: LearnedPositions | Sinusoidal, *, scaled: bool) -> TokenEmbedding:
    hidden = r.integer("hidden_size")
    scale = hidden**0.5 if scaled else 1.0
    return TokenEmbedding(vocab_size=r.integer("vocab_size"), embedding_size=hidden, scale=scale, positions=positions)


def _even_width(r: Reader) -> int:
    hidden = r.integer("hidden_size")
    if hidden % 2 or hidden < 4:
        raise r.error("hidden_size", f"is {hidden}; sines and cosines need an even width of at least 4")
    return hidden


def _xglm(r: Reader) -> Model:
    plain_heads(r)
    foreign_spelling(r, "intermediate_size")
    hidden = _even_width(r)
    rows = r.integer("max_position_embeddings") + _OFFSET
    if (r.config.get("pad_token_id") or 0) >= _OFFSET:
        r.notes.append(
            "transformers zeroes the position vector of row pad_token_id, which here is one that tokens have"
        )
    model = dense_decoder(
        r,
        norm=layer_norm(hidden, _TORCH_EPS),
        feed_forward=mlp(r, r.integer("intermediate_size"), act="activation_function"),
        position=None,
        embedding=_scaled_embedding(
            r, Sinusoidal(rows=rows, width=hidden, offset=_OFFSET), scaled=r.flag("scale_embedding")
        ),
        head=published("XGLM", ""),
        qkv_bias=True,
        o_bias=True,
    )
    return model.replace(unused=cross_attention_of(r))


def _biogpt(r: Reader) -> Model:
    plain_heads(r)
    r.ignore("layer_norm_eps")  # carried, and no norm of the type reads it
    hidden, rows = r.integer("hidden_size"), r.integer("max_position_embeddings") + _OFFSET
    return dense_decoder(
        r,
        norm=layer_norm(hidden, _TORCH_EPS),
        feed_forward=mlp(r, r.integer("intermediate_size")),
        position=None,
        embedding=_scaled_embedding(
            r, LearnedPositions(rows=rows, width=hidden, offset=_OFFSET), scaled=r.flag("scale_embedding")
        ),
        head=published("BioGpt", "sequence token"),
        qkv_bias=True,
        o_bias=True,
    )


def _ctrl(r: Reader) -> Model:
    """``layer_norm_epsilon`` is the final norm's alone."""
    plain_heads(r)
    foreign_spelling(r, "intermediate_size")
    r.ignore("n_ctx", "from_tf", *SUMMARY)
    hidden = _even_width(r)
    layer = pre_norm(
        self_attention(r, position=None, qkv_bias=True, o_bias=True),
        plain_feed_forward(hidden, r.integer("intermediate_size"), "relu"),
        norm=layer_norm(hidden, 1e-6),
    )
    positions = Sinusoidal(rows=r.integer("max_position_embeddings"), width=hidden, paper_rates=True)
    return decoder_of(
        r,
        [(layer, r.layers())],
        final_norm=layer_norm(hidden, r.number("layer_norm_epsilon")),
        embedding=_scaled_embedding(r, positions, scaled=True),
        head={**published("CTRL", "sequence"), "bias": True},
    )


TYPES: Final = {
    "openai-gpt": ModelType(
        build=_openai_gpt,
        defaults={
            "vocab_size": 40_478,
            "max_position_embeddings": 512,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "afn": "gelu",
            "layer_norm_epsilon": 1e-5,
            "summary_use_proj": True,
            "summary_proj_to_labels": True,
            "tie_word_embeddings": True,
        },
        aliases=ALIASES,
        origin="transformers 5.23 OpenAIGPTConfig",
    ),
    "gpt_neo": ModelType(
        build=_gpt_neo,
        defaults={
            "vocab_size": 50_257,
            "max_position_embeddings": 2048,
            "hidden_size": 2048,
            "num_hidden_layers": 24,
            "attention_types": [[["global", "local"], 12]],
            "num_attention_heads": 16,
            "intermediate_size": None,
            "window_size": 256,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": True,
        },
        aliases={"num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"},
        origin="transformers 5.23 GPTNeoConfig",
    ),
    "codegen": ModelType(
        build=_codegen,
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
        origin="transformers 5.23 CodeGenConfig",
    ),
    "gpt_neox_japanese": ModelType(
        build=_gpt_neox_japanese,
        defaults={
            "vocab_size": 32_000,
            "hidden_size": 2560,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "intermediate_multiple_size": 4,
            "hidden_act": "gelu",
            "max_position_embeddings": 2048,
            "layer_norm_eps": 1e-5,
            "rotary_emb_base": 10_000,
            "rotary_pct": 1.0,
            "tie_word_embeddings": True,
        },
        origin="transformers 5.23 GPTNeoXJapaneseConfig",
    ),
    "xglm": ModelType(
        build=_xglm,
        defaults={
            "vocab_size": 256_008,
            "max_position_embeddings": 2048,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "activation_function": "gelu",
            "scale_embedding": True,
            "add_cross_attention": False,
            "tie_word_embeddings": True,
        },
        aliases={
            "num_attention_heads": "attention_heads",
            "hidden_size": "d_model",
            "num_hidden_layers": "num_layers",
            "intermediate_size": "ffn_dim",
        },
        origin="transformers 5.23 XGLMConfig",
    ),
    "biogpt": ModelType(
        build=_biogpt,
        defaults={
            "vocab_size": 42_384,
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "hidden_act": "gelu",
            "max_position_embeddings": 1024,
            "scale_embedding": True,
            "tie_word_embeddings": True,
        },
        origin="transformers 5.23 BioGptConfig",
    ),
    "ctrl": ModelType(
        build=_ctrl,
        defaults={
            "vocab_size": 246_534,
            "max_position_embeddings": 256,
            "hidden_size": 1280,
            "intermediate_size": 8192,
            "num_hidden_layers": 48,
            "num_attention_heads": 16,
            "layer_norm_epsilon": 1e-6,
            "tie_word_embeddings": True,
        },
        aliases={**ALIASES, "intermediate_size": "dff"},
        origin="transformers 5.23 CTRLConfig",
    ),
}
