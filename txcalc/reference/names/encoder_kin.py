"""Encoders that are BERT or RoBERTa but for some names: a few lines each, in place of theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from txcalc import architecture as arch
from txcalc.reference.names.encoders import bert, roberta
from txcalc.reference.names.table import Table

Maker = Callable[[arch.Model], Table]
Family = Callable[[arch.Model, str], Table]


_ATTENTION: Final = "BASE.encoder.layer.{i}.attention.self"


def _kin(family: Family, base: str, text: str = "", *, not_weights: tuple[str, ...] = ()) -> Maker:
    """A family's table with ``base`` as the prefix, and with ``text`` for what is named in another way.

    ``ATTENTION`` in it stands for the attention of layer ``i``.
    """

    def made(model: arch.Model) -> Table:
        table = family(model, base).with_lines(text.replace("ATTENTION", _ATTENTION).replace("BASE", base))
        return table._replace(not_weights=(*table.not_weights, *not_weights))

    return made


_PRE_NORMED: Final = """
    layers.{i}.attn.norm_in    BASE.encoder.layer.{i}.attention.LayerNorm
    layers.{i}.ffn.norm_in     BASE.encoder.layer.{i}.intermediate.LayerNorm
    final_norm                 BASE.LayerNorm
"""
_XL: Final = """
    layers.{i}.attn.norm_in    BASE.encoder.layer.{i}.attention.self_attn_layer_norm
    layers.{i}.ffn.norm_in     BASE.encoder.layer.{i}.LayerNorm
    final_norm                 BASE.encoder.LayerNorm
"""
_MEGATRON: Final = """
    layers.{i}.attn.norm_in    BASE.encoder.layer.{i}.attention.ln
    layers.{i}.ffn.norm_in     BASE.encoder.layer.{i}.ln
    final_norm                 BASE.encoder.ln
"""
_ESM: Final = """
    embedding.norm             BASE.embeddings.layer_norm
    layers.{i}.attn.norm_in    BASE.encoder.layer.{i}.attention.LayerNorm
    layers.{i}.ffn.norm_in     BASE.encoder.layer.{i}.LayerNorm
    final_norm                 BASE.encoder.emb_layer_norm_after
    unused.contact matrix_0    BASE.contact_head.regression.weight
    unused.contact bias_0      BASE.contact_head.regression.bias
"""
_MPNET: Final = """
    layers.{i}.attn.q_proj        BASE.encoder.layer.{i}.attention.attn.q
    layers.{i}.attn.k_proj        BASE.encoder.layer.{i}.attention.attn.k
    layers.{i}.attn.v_proj        BASE.encoder.layer.{i}.attention.attn.v
    layers.{i}.attn.o_proj        BASE.encoder.layer.{i}.attention.attn.o
    layers.{i}.attn.norm_after    BASE.encoder.layer.{i}.attention.LayerNorm
    relative_bias.table           BASE.encoder.relative_attention_bias
"""
_LONGFORMER: Final = """
    layers.{i}.attn.global_tokens.q_proj    BASE.encoder.layer.{i}.attention.self.query_global
    layers.{i}.attn.global_tokens.k_proj    BASE.encoder.layer.{i}.attention.self.key_global
    layers.{i}.attn.global_tokens.v_proj    BASE.encoder.layer.{i}.attention.self.value_global
"""
_ESM_HEAD: Final = """
    head.bias                  lm_head.bias
"""
# What was measured to compute in integers, and the integers themselves.
_INTEGERS: Final = tuple(
    f"*.{name}"
    for name in "x_min x_max act_scaling_factor fc_scaling_factor weight_scaling_factor weight_integer bias_integer "
    "shift".split()
)
_ELECTRA: Final = """
    embedding.projection.linear    BASE.embeddings_project
"""
_GENERATOR: Final = """
    head.dense.linear    generator_predictions.dense
    head.norm            generator_predictions.LayerNorm
    head.matrix          generator_lm_head.weight
    head.bias            generator_lm_head.bias
"""
_SUMMARY: Final = """
    head.dense.linear    classifier.dense
    head.dense.linear    sequence_summary.summary
    head.matrix          classifier.out_proj.weight
    head.bias            classifier.out_proj.bias
    head.matrix          classifier.weight
    head.bias            classifier.bias
"""
_DISCRIMINATOR: Final = """
    head.dense.linear    discriminator_predictions.dense
    head.matrix          discriminator_predictions.dense_prediction.weight
    head.bias            discriminator_predictions.dense_prediction.bias
"""
_REMBERT: Final = """
    embedding.projection.linear    BASE.encoder.embedding_hidden_mapping_in
"""
_REMBERT_HEAD: Final = """
    head.dense.linear    cls.predictions.dense
    head.norm            cls.predictions.LayerNorm
    head.bias            cls.predictions.decoder.bias
"""
_ROFORMER: Final = f"""
    {_ELECTRA}
    unused.stored table of rotary angles_0    BASE.encoder.embed_positions.weight
"""
_FNET: Final = """
    embedding.projection.linear         BASE.embeddings.projection
    layers.{i}.fourier.norm_after       BASE.encoder.layer.{i}.fourier.output.LayerNorm
"""
_DEBERTA: Final = """
    layers.{i}.attn.q_proj.weight+k_proj.weight+v_proj.weight  ATTENTION.in_proj.weight  by head
    layers.{i}.attn.q_proj.bias    ATTENTION.q_bias
    layers.{i}.attn.v_proj.bias    ATTENTION.v_bias
    layers.{i}.attn.content_scores.key_proj      ATTENTION.pos_proj
    layers.{i}.attn.content_scores.query_proj    ATTENTION.pos_q_proj
    disentangled.table    BASE.encoder.rel_embeddings
    embedding.projection.linear    BASE.embeddings.embed_proj
"""
_DEBERTA_V2: Final = """
    layers.{i}.attn.q_proj    ATTENTION.query_proj
    layers.{i}.attn.k_proj    ATTENTION.key_proj
    layers.{i}.attn.v_proj    ATTENTION.value_proj
    layers.{i}.attn.content_scores.key_proj      ATTENTION.pos_key_proj
    layers.{i}.attn.content_scores.query_proj    ATTENTION.pos_query_proj
    layers.{i}.tokenconv.conv        BASE.encoder.conv.conv
    layers.{i}.stream.norm_after     BASE.encoder.conv.LayerNorm
    disentangled.table    BASE.encoder.rel_embeddings
    disentangled.norm     BASE.encoder.LayerNorm
    embedding.projection.linear    BASE.embeddings.embed_proj
"""
# How the head is named that reads the token table (``legacy`` false), in words of the one beside it.
_DEBERTA_NEWER: Final = (
    ("lm_predictions.lm_head.bias", "cls.predictions.bias"),
    ("lm_predictions.lm_head", "cls.predictions.transform"),
)
_DEBERTA_CLASSIFIER: Final = """
    head.dense.linear    pooler.dense
    head.matrix          classifier.weight
    head.bias            classifier.bias
"""


def _kind(model: arch.Model) -> str:
    return "" if model.head is None else model.head.kind


def _electra(model: arch.Model) -> Table:
    table = _kin(bert, "electra", _ELECTRA)(model)
    deep = model.head is not None and model.head.transform is not None
    heads = {"discriminator": _DISCRIMINATOR, "lm": _GENERATOR, "masked_lm": _GENERATOR, "classifier": _SUMMARY}
    return table.with_lines(heads[_kind(model)]) if deep else table


def _rembert(model: arch.Model) -> Table:
    table = _kin(bert, "rembert", _REMBERT)(model)
    return table if _kind(model) == "classifier" else table.with_lines(_REMBERT_HEAD)


def _esm(model: arch.Model) -> Table:
    table = _kin(roberta, "esm", _ESM, not_weights=("*.inv_freq",))(model)
    return table if _kind(model) == "classifier" else table.with_lines(_ESM_HEAD)


def _generation(model: arch.Model) -> Table:
    """A plain output matrix under RoBERTa's name, with its biases."""
    bare = bert(model, "bert")
    head = tuple(line for line in roberta(model, "bert").lines if line.ours[0].startswith(("head.", "unused.")))
    return bare._replace(lines=(*(line for line in bare.lines if not line.ours[0].startswith("head.")), *head))


def _deberta(text: str) -> Maker:
    def made(model: arch.Model) -> Table:
        table = _kin(bert, "deberta", text)(model)
        table = table._replace(older=(*table.older, *_DEBERTA_NEWER))
        deep = model.head is not None and model.head.kind == "classifier" and model.head.transform
        return table.with_lines(_DEBERTA_CLASSIFIER if deep else "")

    return made


TABLES: Final[dict[str, Maker]] = {
    "xlm-roberta": _kin(roberta, "roberta"),
    "camembert": _kin(roberta, "roberta"),
    "data2vec-text": _kin(roberta, "data2vec_text"),
    "ibert": _kin(roberta, "ibert", not_weights=_INTEGERS),
    "roberta-prelayernorm": _kin(roberta, "roberta_prelayernorm", _PRE_NORMED),
    "xlm-roberta-xl": _kin(roberta, "roberta", _XL),
    "mpnet": _kin(roberta, "mpnet", _MPNET),
    "longformer": _kin(roberta, "longformer", _LONGFORMER),
    "esm": _esm,
    "ernie": _kin(bert, "ernie"),
    "megatron-bert": _kin(bert, "bert", _MEGATRON),
    "bert-generation": _generation,
    "electra": _electra,
    "rembert": _rembert,
    "roformer": _kin(bert, "roformer", _ROFORMER),
    "fnet": _kin(bert, "fnet", _FNET),
    "deberta": _deberta(_DEBERTA),
    "deberta-v2": _deberta(_DEBERTA_V2),
}
