"""Marian and FSMT: translation models with a vocabulary for each side.

Sources: Junczys-Dowmunt et al. 2018 (arXiv 1804.00344); Ng et al. 2019 (arXiv 1907.06616).
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import Head, Model, Stack, TokenEmbedding
from txcalc.configs.bart import BART_ALIASES, BART_DEFAULTS, Style, bart_like
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

MARIAN: Final = Style(
    prefix="Marian",
    tasks="seq2seq_lm causal_lm base",
    embedding_normed=False,
    positions="stored",
    paper_rates=True,
    offset=0,
)
FSMT: Final = Style(
    prefix="FSMT", tasks="seq2seq_lm base", embedding_normed=False, positions="stored", offset=None, fixed_bias=False
)
MARIAN_DEFAULTS: Final[dict[str, Any]] = {
    **BART_DEFAULTS,
    "vocab_size": 58_101,
    "decoder_vocab_size": None,
    "share_encoder_decoder_embeddings": True,
}
FSMT_DEFAULTS: Final[dict[str, Any]] = {
    **BART_DEFAULTS,
    "src_vocab_size": 42_024,
    "tgt_vocab_size": 42_024,
    "activation_function": "relu",
    "scale_embedding": True,
    "tie_word_embeddings": False,
    "pad_token_id": 1,
}


def _with_table(stack: Stack, **fields: Any) -> Stack:
    embedding = stack.embedding
    assert isinstance(embedding, TokenEmbedding)
    return stack.replace(embedding=embedding.replace(**fields))


# ---- Marian ---------------------------------------------------------------------------------------------------------


def _marian(r: Reader) -> Model:
    """BART's layers without norms on the embedding; one vocabulary for both sides, or one for each."""
    # the first release's words for what is built anyway
    r.ignore("add_bias_logits", "add_final_layer_norm", "classif_dropout", "extra_pos_embeddings", "length_penalty")
    r.unused("normalize_before", False)
    r.unused("normalize_embedding", False)
    r.unused("static_position_embeddings", True)
    source, target = r.integer("vocab_size"), r.optional_integer("decoder_vocab_size") or r.integer("vocab_size")
    shared = r.flag("share_encoder_decoder_embeddings")
    model = bart_like(r, MARIAN)
    if source != target and (shared or len(model.stacks) == 1):
        r.reasons.append(f"decoder_vocab_size = {target} beside vocab_size = {source}: one table cannot serve both")
    return model if shared or len(model.stacks) == 1 else _two_vocabularies(model, target)


def _two_vocabularies(model: Model, target: int) -> Model:
    """Each side its own table; the head is tied to the decoder's, or nothing is tied and no table stands beside."""
    encoder, decoder = model.stacks
    head: Head | None = model.head and model.head.replace(output_size=target, tied_to="decoder")
    stacks = (encoder, _with_table(decoder, vocab_size=target, shared_with=None))
    return model.replace(stacks=stacks, head=head, unused=())


# ---- FSMT -----------------------------------------------------------------------------------------------------------


def _fsmt(r: Reader) -> Model:
    """The output matrix is the decoder's own, in the bare model too; positions start behind the padding token's id."""
    r.ignore("langs", "decoder")
    source, target = r.integer("src_vocab_size"), r.integer("tgt_vocab_size")
    model = bart_like(r, FSMT)
    tied = r.flag("tie_word_embeddings")
    if tied and source != target:
        r.reasons.append(f"tie_word_embeddings = true: one table cannot serve {source} and {target} tokens")
    hidden = r.integer("hidden_size")
    head = Head(kind="lm", input_size=hidden, output_size=target, tied=tied, tied_to="decoder")
    encoder, decoder = model.stacks
    encoder = _with_table(encoder, vocab_size=source, shared_with="decoder" if tied else None)
    return model.replace(stacks=(encoder, _with_table(decoder, shared_with=None)), head=head, unused=())


TYPES: Final = {
    "marian": ModelType(
        build=_marian, defaults=MARIAN_DEFAULTS, aliases=BART_ALIASES, origin="transformers 5.23 MarianConfig"
    ),
    "fsmt": ModelType(
        build=_fsmt,
        defaults=FSMT_DEFAULTS,
        aliases={**BART_ALIASES, "vocab_size": "tgt_vocab_size"},
        origin="transformers 5.23 FSMTConfig",
    ),
}
