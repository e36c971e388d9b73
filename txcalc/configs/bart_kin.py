"""Encoder-decoders built as BART is, with other norms, positions and attention.

Sources: mBART, Liu et al. 2020 (arXiv 2001.08210); Pegasus, Zhang et al. 2020 (arXiv 1912.08777); PEGASUS-X, Phang et
al. 2022 (arXiv 2208.04347), section 3; BigBird-Pegasus, Zaheer et al. 2020 (arXiv 2007.14062), section 4.1; M2M-100,
Fan et al. 2020 (arXiv 2010.11125); NLLB, Costa-jussa et al. 2022 (arXiv 2207.04672), section 6.2; Blenderbot, Roller et
al. 2020 (arXiv 2004.13637); PLBART, Ahmad et al. 2021 (arXiv 2103.06333); LED, Beltagy et al. 2020 (arXiv 2004.05150),
section 7; TrOCR, Li et al. 2021 (arXiv 2109.10282); MVP, Tang et al. 2022 (arXiv 2206.12131).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from txcalc.architecture import (
    FeedForward,
    GlobalAttention,
    GlobalStream,
    MixtureOfExperts,
    Model,
    Role,
    Router,
    SelfAttention,
    TokenEmbedding,
    UnusedTensor,
)
from txcalc.configs.bart import BART_ALIASES, BART_DEFAULTS, Style, bart_like
from txcalc.configs.long_encoders import attention_windows, sparse_blocks
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

_TASKS: Final = "seq2seq_lm causal_lm base"

MBART: Final = Style(prefix="MBart", pre_normed=True, final_normed=True)
PLBART: Final = Style(prefix="PLBart", tasks=f"{_TASKS} sequence_classification")
MVP: Final = Style(prefix="Mvp")
PEGASUS: Final = Style(
    prefix="Pegasus",
    tasks=_TASKS,
    pre_normed=True,
    final_normed=True,
    embedding_normed=False,
    positions="stored",
    paper_rates=True,
    offset=0,
)
BLENDERBOT: Final = PEGASUS.replace(prefix="Blenderbot", positions="learned", paper_rates=False)
BLENDERBOT_SMALL: Final = Style(
    prefix="BlenderbotSmall", tasks=_TASKS, offset=0, scaled=("encoder",), norm_first=("decoder",)
)
M2M_100: Final = BLENDERBOT.replace(
    prefix="M2M100", tasks="seq2seq_lm base", positions="computed", offset=None, fixed_bias=False
)
NLLB_MOE: Final = M2M_100.replace(prefix="NllbMoe")
TROCR: Final = Style(prefix="TrOCR", tasks="causal_lm", default="causal_lm")
PEGASUS_X: Final = BLENDERBOT.replace(
    prefix="PegasusX", tasks="seq2seq_lm base", positions="computed", bias=False, fixed_bias=False
)
LED: Final = Style(
    prefix="LED", tasks="seq2seq_lm base question_answering", offset=0, rows="max_{role}_position_embeddings"
)
BIGBIRD_PEGASUS: Final = BLENDERBOT.replace(
    prefix="BigBirdPegasus", tasks=f"{_TASKS} sequence_classification question_answering"
)


def _plain(style: Style) -> Callable[[Reader], Model]:
    return lambda r: bart_like(r, style)


def _pegasus(r: Reader) -> Model:
    # the first release's words for what is built anyway
    r.unused("normalize_before", True)
    r.unused("add_final_layer_norm", True)
    r.unused("normalize_embedding", False)
    r.unused("static_position_embeddings", True)
    r.unused("add_bias_logits", False)
    r.ignore("extra_pos_embeddings", "classif_dropout", "force_bos_token_to_be_generated", "length_penalty")
    return bart_like(r, PEGASUS)


def _mvp(r: Reader) -> Model:
    r.ignore("prompt_length", "prompt_mid_dim")
    if r.flag("use_prompt"):
        r.reasons.append("use_prompt = true: learned prompts before keys and values are not described")
    return bart_like(r, MVP)


def _trocr(r: Reader) -> Model:
    """A decoder that is published behind an image encoder, whose width its cross-attention's keys have."""
    learned, normed = r.flag("use_learned_position_embeddings"), r.flag("layernorm_embedding")
    style = TROCR.replace(embedding_normed=normed)
    if not learned:
        style = style.replace(positions="computed", offset=None)
    hidden, source = r.integer("hidden_size"), r.optional_integer("cross_attention_hidden_size")
    model = bart_like(r, style)
    if source is None or source == hidden:
        return model
    depth, (_, *others) = r.layers(), model.unused
    square = UnusedTensor(name="cross-attention matrices", shape=(2, hidden, hidden), count=depth)
    wide = UnusedTensor(name="cross-attention keys and values", shape=(2, hidden, source), count=depth)
    return model.replace(unused=(square, wide, *others))


# ---- BigBird-Pegasus ------------------------------------------------------------------------------------------------


def _bigbird_pegasus(r: Reader) -> Model:
    """The encoder sees blocks; a decoder alone has a head of its own, whatever the config says of tying."""
    r.ignore("block_size", "num_random_blocks")
    blocks = sparse_blocks(r, "encoder")

    def mixers(role: Role, plain: SelfAttention, depth: int) -> Sequence[SelfAttention]:
        return [plain.replace(sparse_blocks=blocks) if role == "encoder" else plain] * depth

    model = bart_like(r, BIGBIRD_PEGASUS.replace(bias=r.flag("use_bias")), mixers=mixers)
    if len(model.stacks) == 1 and model.head is not None:
        return model.replace(head=model.head.replace(tied=False))
    return model


# ---- PEGASUS-X ------------------------------------------------------------------------------------------------------


def _pegasus_x(r: Reader) -> Model:
    """The encoder sees its block and learned tokens that see everything; every second layer's blocks are staggered."""
    block, tokens = r.integer("block_size"), r.integer("num_global_tokens")
    stagger = r.flag("stagger_local_blocks")

    def mixers(role: Role, plain: SelfAttention, depth: int) -> Sequence[SelfAttention]:
        if role == "decoder":
            return [plain] * depth
        local = plain.replace(chunk=block)
        streams = [GlobalStream(num_tokens=tokens, staggered=stagger and index % 2 == 1) for index in range(depth)]
        return [local.replace(global_stream=stream) for stream in streams]

    encoder, decoder = (model := bart_like(r, PEGASUS_X, mixers=mixers)).stacks
    table = encoder.embedding
    assert isinstance(table, TokenEmbedding)
    encoder = encoder.replace(embedding=table.replace(extra_tokens=tokens))
    return model.replace(stacks=(encoder, decoder))


# ---- LED ------------------------------------------------------------------------------------------------------------


def _led(r: Reader) -> Model:
    """The encoder is Longformer's, windows and global tokens; both stacks have positions of their own, from row 0."""
    r.unused("scale_embedding", False)
    r.ignore("max_position_embeddings", "classif_dropout")
    r.unused("normalize_before", False)
    r.unused("normalize_embedding", True)
    depth = r.layers()
    windows = attention_windows(r, depth)

    def mixers(role: Role, plain: SelfAttention, depth: int) -> Sequence[SelfAttention]:
        if role == "decoder":
            return [plain] * depth
        return [plain.replace(window=window, in_blocks=True, global_tokens=GlobalAttention()) for window in windows]

    return bart_like(r, LED, mixers=mixers)


# ---- NLLB's mixture -------------------------------------------------------------------------------------------------


def _nllb_moe(r: Reader) -> Model:
    """Every fourth layer of both stacks sends a token to two experts."""
    r.ignore("expert_capacity", "router_dtype", "router_ignore_padding_tokens", "second_expert_policy")
    r.ignore("normalize_router_prob_before_dropping", "batch_prioritized_routing")
    r.ignore("moe_eval_capacity_token_fraction", "router_bias", "num_experts")

    def feed_forwards(role: Role, plain: FeedForward, depth: int) -> Sequence[FeedForward | MixtureOfExperts]:
        step = r.integer(f"{role}_sparse_step", minimum=0)
        mixture = _mixture(r, plain)
        return [mixture if step and (index + 1) % step == 0 else plain for index in range(depth)]

    return bart_like(r, NLLB_MOE, feed_forwards=feed_forwards)


def _mixture(r: Reader, expert: FeedForward) -> MixtureOfExperts:
    """What training drops of an expert's outputs, ``moe_token_dropout``, is taken off their size afterwards."""
    kept = 1.0 - r.number("moe_token_dropout")
    experts = r.integer("num_experts")
    return MixtureOfExperts(
        hidden_size=expert.hidden_size,
        num_experts=experts,
        num_experts_per_tok=min(2, experts),
        expert=expert,
        router=Router(bias=r.flag("router_bias"), norm_topk_prob=True, scaling_factor=kept),
    )


# ---- types ----------------------------------------------------------------------------------------------------------


def _defaults(**changes: Any) -> dict[str, Any]:
    return {**BART_DEFAULTS, **changes}


def _both(name: str, value: int) -> dict[str, int]:
    return {f"encoder_{name}": value, f"decoder_{name}": value}


MBART_DEFAULTS: Final = _defaults()
PLBART_DEFAULTS: Final = _defaults(
    vocab_size=50_005,
    d_model=768,
    scale_embedding=True,
    **_both("layers", 6),
    **_both("ffn_dim", 3072),
    **_both("attention_heads", 12),
)
MVP_DEFAULTS: Final = _defaults(vocab_size=50_267, use_prompt=False)
PEGASUS_DEFAULTS: Final = _defaults()
BLENDERBOT_DEFAULTS: Final = _defaults(
    vocab_size=8008,
    d_model=2560,
    encoder_layers=2,
    decoder_layers=24,
    max_position_embeddings=128,
    **_both("ffn_dim", 10_240),
    **_both("attention_heads", 32),
)
BLENDERBOT_SMALL_DEFAULTS: Final = _defaults(
    d_model=512, max_position_embeddings=512, **_both("layers", 8), **_both("ffn_dim", 2048)
)
M2M_100_DEFAULTS: Final = _defaults(
    vocab_size=128_112, activation_function="relu", scale_embedding=True, pad_token_id=1
)
NLLB_MOE_DEFAULTS: Final = {
    **M2M_100_DEFAULTS,
    **_both("sparse_step", 4),
    "num_experts": 128,
    "router_bias": False,
    "moe_token_dropout": 0.2,
}
PEGASUS_X_DEFAULTS: Final = _defaults(
    vocab_size=96_103,
    max_position_embeddings=16_384,
    scale_embedding=True,
    num_global_tokens=32,
    block_size=512,
    stagger_local_blocks=True,
    **_both("layers", 16),
)
TROCR_DEFAULTS: Final = _defaults(
    max_position_embeddings=512,
    use_learned_position_embeddings=True,
    layernorm_embedding=True,
    cross_attention_hidden_size=None,
    pad_token_id=1,
)
TROCR_ALIASES: Final = {
    "hidden_size": "d_model",
    "num_hidden_layers": "decoder_layers",
    "num_attention_heads": "decoder_attention_heads",
}
LED_DEFAULTS: Final = _defaults(
    max_encoder_position_embeddings=16_384, max_decoder_position_embeddings=1024, attention_window=512
)
BIGBIRD_PEGASUS_DEFAULTS: Final = _defaults(
    vocab_size=96_103,
    max_position_embeddings=4096,
    activation_function="gelu_new",
    scale_embedding=True,
    attention_type="block_sparse",
    block_size=64,
    num_random_blocks=3,
    use_bias=False,
    **_both("layers", 16),
)


def _type(build: Callable[[Reader], Model], name: str, defaults: Mapping[str, Any]) -> ModelType:
    return ModelType(build=build, defaults=defaults, aliases=BART_ALIASES, origin=f"transformers 5.23 {name}Config")


TYPES: Final = {
    "mbart": _type(_plain(MBART), "MBart", MBART_DEFAULTS),
    "plbart": _type(_plain(PLBART), "PLBart", PLBART_DEFAULTS),
    "mvp": _type(_mvp, "Mvp", MVP_DEFAULTS),
    "pegasus": _type(_pegasus, "Pegasus", PEGASUS_DEFAULTS),
    "blenderbot": _type(_plain(BLENDERBOT), "Blenderbot", BLENDERBOT_DEFAULTS),
    "blenderbot-small": _type(_plain(BLENDERBOT_SMALL), "BlenderbotSmall", BLENDERBOT_SMALL_DEFAULTS),
    "pegasus_x": _type(_pegasus_x, "PegasusX", PEGASUS_X_DEFAULTS),
    "led": _type(_led, "LED", LED_DEFAULTS),
    "m2m_100": _type(_plain(M2M_100), "M2M100", M2M_100_DEFAULTS),
    "nllb-moe": _type(_nllb_moe, "NllbMoe", NLLB_MOE_DEFAULTS),
    "trocr": ModelType(
        build=_trocr, defaults=TROCR_DEFAULTS, aliases=TROCR_ALIASES, origin="transformers 5.23 TrOCRConfig"
    ),
    "bigbird_pegasus": _type(_bigbird_pegasus, "BigBirdPegasus", BIGBIRD_PEGASUS_DEFAULTS),
}
