"""BERT and its kin, with the head of each published task."""

from __future__ import annotations

from typing import Final

from txcalc import architecture as arch
from txcalc.reference.names.table import Table

_LAYERS: Final = """
    layers.{i}.attn.q_proj        BASE.encoder.layer.{i}.attention.self.query
    layers.{i}.attn.k_proj        BASE.encoder.layer.{i}.attention.self.key
    layers.{i}.attn.v_proj        BASE.encoder.layer.{i}.attention.self.value
    layers.{i}.attn.o_proj        BASE.encoder.layer.{i}.attention.output.dense
    layers.{i}.attn.norm_after    BASE.encoder.layer.{i}.attention.output.LayerNorm
    layers.{i}.ffn.up_proj        BASE.encoder.layer.{i}.intermediate.dense
    layers.{i}.ffn.down_proj      BASE.encoder.layer.{i}.output.dense
    layers.{i}.ffn.norm_after     BASE.encoder.layer.{i}.output.LayerNorm
"""
_EMBEDDING: Final = """
    embedding.tokens             BASE.embeddings.word_embeddings
    embedding.positions.table    BASE.embeddings.position_embeddings
    embedding.token_types        BASE.embeddings.token_type_embeddings
    embedding.norm               BASE.embeddings.LayerNorm
"""
_POOLER: Final = """
    pooler.dense    BASE.pooler.dense
"""
_ALBERT: Final = """
    embedding.projection.linear   BASE.encoder.embedding_hidden_mapping_in
    layers.{i}.attn.q_proj        LAYER.attention.query
    layers.{i}.attn.k_proj        LAYER.attention.key
    layers.{i}.attn.v_proj        LAYER.attention.value
    layers.{i}.attn.o_proj        LAYER.attention.dense
    layers.{i}.attn.norm_after    LAYER.attention.LayerNorm
    layers.{i}.ffn.up_proj        LAYER.ffn
    layers.{i}.ffn.down_proj      LAYER.ffn_output
    layers.{i}.ffn.norm_after     LAYER.full_layer_layer_norm
    pooler.dense                  BASE.pooler
"""
_DISTILBERT: Final = """
    layers.{i}.attn.q_proj        BASE.transformer.layer.{i}.attention.q_lin
    layers.{i}.attn.k_proj        BASE.transformer.layer.{i}.attention.k_lin
    layers.{i}.attn.v_proj        BASE.transformer.layer.{i}.attention.v_lin
    layers.{i}.attn.o_proj        BASE.transformer.layer.{i}.attention.out_lin
    layers.{i}.attn.norm_after    BASE.transformer.layer.{i}.sa_layer_norm
    layers.{i}.ffn.up_proj        BASE.transformer.layer.{i}.ffn.lin1
    layers.{i}.ffn.down_proj      BASE.transformer.layer.{i}.ffn.lin2
    layers.{i}.ffn.norm_after     BASE.transformer.layer.{i}.output_layer_norm
"""
_CLASSIFIER: Final = """
    head.matrix    classifier.weight
    head.bias      classifier.bias
    head.matrix    qa_outputs.weight
    head.bias      qa_outputs.bias
    head.matrix    cls.seq_relationship.weight
    head.bias      cls.seq_relationship.bias
"""
TWO_LAYERS: Final = """
    head.dense.linear    classifier.dense
    head.matrix          classifier.out_proj.weight
    head.bias            classifier.out_proj.bias
"""
_POSITION_IDS: Final = ("*embeddings.position_ids", "*embeddings.token_type_ids")
# TensorFlow's words for a norm's weight and bias, in the first releases' files.
_OLDER: Final = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))


def table(model: arch.Model, base: str, text: str, head: str) -> Table:
    """The table of a type whose language model ends in ``head``, or of a classifier of that type."""
    if model.head is not None and model.head.kind == "classifier":
        head = TWO_LAYERS if model.head.transform and base != "distilbert" else _CLASSIFIER
    text = text.replace("LAYER", "BASE.encoder.albert_layer_groups.{a}.albert_layers.{b}").replace("BASE", base)
    return Table.of(text + head, base=f"{base}.", older=_OLDER, not_weights=_POSITION_IDS)


def lm_head(model: arch.Model, *, dense: str, norm: str, matrix: str, bias: str, second: str) -> str:
    """Lines of a masked-language head.

    A tied head's bias is stored under two names, as one tensor; untied, they are two, of which the ``second`` is read.
    """
    tied = model.head is not None and model.head.tied
    biases = f"""
    head.bias    {bias}
    head.bias    {second}
""" if tied else f"""
    head.bias    {second}
    unused.second output bias_0    {bias}
"""  # fmt: skip
    return f"""
    head.dense.linear    {dense}
    head.norm            {norm}
    head.matrix          {matrix}.weight
    {biases}
"""


def bert(model: arch.Model, base: str = "bert") -> Table:
    """BERT's names, and those of its kin, whose checkpoints say ``base``."""
    at = "cls.predictions"
    head = lm_head(
        model,
        dense=f"{at}.transform.dense",
        norm=f"{at}.transform.LayerNorm",
        matrix=f"{at}.decoder",
        bias=f"{at}.bias",
        second=f"{at}.decoder.bias",
    )
    next_sentence = """
    pooled_head.matrix    cls.seq_relationship.weight
    pooled_head.bias      cls.seq_relationship.bias
"""
    return table(model, base, _EMBEDDING + _LAYERS + _POOLER, head + next_sentence)


def roberta(model: arch.Model, base: str = "roberta") -> Table:
    """RoBERTa's names, and those of its kin, whose checkpoints say ``base``."""
    head = lm_head(
        model,
        dense="lm_head.dense",
        norm="lm_head.layer_norm",
        matrix="lm_head.decoder",
        bias="lm_head.bias",
        second="lm_head.decoder.bias",
    )
    return table(model, base, _EMBEDDING + _LAYERS + _POOLER, head)


def _albert(model: arch.Model) -> Table:
    head = lm_head(
        model,
        dense="predictions.dense",
        norm="predictions.LayerNorm",
        matrix="predictions.decoder",
        bias="predictions.bias",
        second="predictions.decoder.bias",
    )
    order = """
    pooled_head.matrix    sop_classifier.classifier.weight
    pooled_head.bias      sop_classifier.classifier.bias
"""
    return table(model, "albert", _EMBEDDING + _ALBERT, head + order)


def _distilbert(model: arch.Model) -> Table:
    classifier = model.head is not None and model.head.kind == "classifier"
    dense = f"""
    head.dense.linear    {"pre_classifier" if classifier else "vocab_transform"}
"""
    head = """
    head.norm      vocab_layer_norm
    head.matrix    vocab_projector.weight
    head.bias      vocab_projector.bias
"""
    return table(model, "distilbert", _EMBEDDING + _DISTILBERT + dense, head)


TABLES: Final = {"bert": bert, "roberta": roberta, "albert": _albert, "distilbert": _distilbert}
