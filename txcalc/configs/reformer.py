"""Reformer (Kitaev et al. 2020, arXiv 2001.04451): attention inside buckets of alike tokens, two reversible streams.

Its parameters are known; which tokens share a bucket depends on the text, so that no pass follows from a length.
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    CountedPart,
    Head,
    HeadTransform,
    InputTable,
    LearnedPositions,
    Model,
    Projection,
    Role,
    Stack,
    TokenEmbedding,
)
from txcalc.configs.common import decoder_model
from txcalc.configs.counted_towers import Tensors, kept, linear
from txcalc.configs.heads import class_of, classifier, num_labels
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

REFORMER_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 320,
    "hidden_size": 256,
    "num_attention_heads": 12,
    "attention_head_size": 64,
    "attn_layers": ["local", "lsh"] * 3,
    "feed_forward_size": 512,
    "axial_pos_embds": True,
    "axial_pos_shape": [64, 64],
    "axial_pos_embds_dim": [64, 192],
    "max_position_embeddings": 4096,
    "local_num_chunks_after": 0,
    "lsh_num_chunks_after": 0,
}
_WITHOUT_BEARING: Final = (
    "axial_norm_std", "chunk_size_lm_head", "hash_seed", "hidden_act", "layer_norm_eps", "num_buckets", "num_hashes",
    "local_num_chunks_before", "local_attn_chunk_length", "local_attention_probs_dropout_prob", "tie_word_embeddings",
    "lsh_num_chunks_before", "lsh_attn_chunk_length", "lsh_attention_probs_dropout_prob", "chunk_size_feed_forward",
    "num_chunks_after", "num_chunks_before", "sinusoidal_pos_embds", "intermediate_size", "axial_pos_shape",
    "axial_pos_embds_dim",
)  # fmt: skip
_HASHED: Final = "its attention stays inside buckets of alike tokens, and what a pass costs is not described"
_LANGUAGE, _MASKED = "ReformerModelWithLMHead", "ReformerForMaskedLM"
_SEQUENCE, _QUESTION, _BARE = "ReformerForSequenceClassification", "ReformerForQuestionAnswering", "ReformerModel"


def _reformer(r: Reader) -> Model:
    r.ignore(*_WITHOUT_BEARING)
    decodes = r.config.get("is_decoder") is True
    usual = _LANGUAGE if decodes else _MASKED
    name = class_of(r, usual, *{_LANGUAGE, _MASKED, _SEQUENCE, _QUESTION, _BARE} - {usual})
    if name in (_LANGUAGE, _MASKED) and name != usual:
        raise r.error("is_decoder", f"is {str(decodes).lower()}; transformers builds no {name} of that")
    hidden = r.integer("hidden_size")
    kinds = _kinds(r)
    for kind in sorted(set(kinds)):
        if name == _LANGUAGE and r.integer(f"{kind}_num_chunks_after", minimum=0):
            raise r.error(f"{kind}_num_chunks_after", "is not 0: a decoder does not look ahead")
    stack = Stack(role=_role(r), hidden_size=hidden, embedding=_embedding(r, hidden), layers=(), runs=())
    part = CountedPart(name="layers", tensors=kept(_layers(r, hidden, kinds)))
    return decoder_model(r, stack, _head(r, name, hidden), counted=(part,), only_params=_HASHED)


def _kinds(r: Reader) -> list[str]:
    """The kind of every layer: of the first ``num_hidden_layers`` where the config numbers them."""
    kinds = r.texts("attn_layers")
    if not kinds or set(kinds) - {"lsh", "local"}:
        raise r.error("attn_layers", f"is {kinds}; expected lsh and local, one a layer")
    layers = r.layers() if r.has("num_hidden_layers") else len(kinds)
    if len(set(kinds)) == 1:
        return kinds[:1] * layers
    if layers > len(kinds):
        raise r.error("num_hidden_layers", f"is {layers}; attn_layers names {len(kinds)}")
    return kinds[:layers]


def _role(r: Reader) -> Role:
    return "decoder" if r.config.get("is_decoder") is True else "encoder"


def _embedding(r: Reader, hidden: int) -> TokenEmbedding:
    """Positions of their own, or a few tables by axis side by side, which make a row as wide (section 4, axial)."""
    vocab, rows = r.integer("vocab_size"), r.integer("max_position_embeddings")
    r.ignore("local_num_chunks_after", "lsh_num_chunks_after")
    if not r.flag("axial_pos_embds"):
        positions = LearnedPositions(rows=rows, width=hidden)
        return TokenEmbedding(vocab_size=vocab, embedding_size=hidden, positions=positions)
    shape, widths = r.integers("axial_pos_shape", minimum=1), r.integers("axial_pos_embds_dim", minimum=1)
    if sum(widths) != hidden or len(shape) < len(widths):
        raise r.error("axial_pos_embds_dim", f"is {widths} for axes {shape}; their sum is not the width, {hidden}")
    tables = tuple(InputTable(name=f"axis_{i}", rows=shape[i], width=width) for i, width in enumerate(widths))
    return TokenEmbedding(vocab_size=vocab, embedding_size=hidden, tables=tables)


def _layers(r: Reader, hidden: int, kinds: list[str]) -> Tensors:
    """Hashed layers have one matrix for queries and keys; both streams pass the last norm side by side."""
    inner, wide = r.integer("num_attention_heads") * r.integer("attention_head_size"), r.integer("feed_forward_size")
    layers, hashed = len(kinds), kinds.count("lsh")
    return [
        *linear("q_k_and_v_proj", hidden, inner, bias=False, count=3 * (layers - hashed)),
        *linear("qk_and_v_proj", hidden, inner, bias=False, count=2 * hashed),
        *linear("o_proj", inner, hidden, bias=False, count=layers),
        *linear("up_proj", hidden, wide, count=layers),
        *linear("down_proj", wide, hidden, count=layers),
        ("norms", (hidden,), 4 * layers),
        ("final_norm", (2 * hidden,), 2),
    ]


def _head(r: Reader, name: str, hidden: int) -> Head | None:
    """All read both streams; nothing is tied, whatever the config says: a row of the table is half as wide."""
    both, role = 2 * hidden, _role(r)
    match name:
        case "ReformerModel":
            return None
        case "ReformerForQuestionAnswering":
            return classifier(both, num_labels(r), role=role, bias=True)
        case "ReformerForSequenceClassification":
            dense = Projection(in_size=both, out_size=hidden, bias=True, activation="tanh")
            found = classifier(hidden, num_labels(r), role=role, bias=True, pooled=True)
            return found.replace(transform=HeadTransform(dense=dense))
        case _:
            vocab = r.integer("vocab_size")
            found = Head(kind="lm", input_size=both, output_size=vocab, tied=False, bias=True, tied_to=role)
            return found if name == _LANGUAGE else found.replace(kind="masked_lm")


TYPES: Final = {
    "reformer": ModelType(build=_reformer, defaults=REFORMER_DEFAULTS, origin="transformers 5.23 ReformerConfig")
}
