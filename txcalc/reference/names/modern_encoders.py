"""Encoders that are built as newer decoders are: ModernBERT, EuroBERT, NomicBERT, GTE, Jina v3, ESM C, UltraBERT."""

from __future__ import annotations

from typing import Final

from txcalc import architecture as arch
from txcalc.reference.names.encoders import TWO_LAYERS, bert, roberta
from txcalc.reference.names.llama import DECODER
from txcalc.reference.names.table import Table

_MODERN: Final = """
    embedding.tokens              model.embeddings.tok_embeddings
    embedding.norm                model.embeddings.norm
    layers.{i}.attn.norm_in       model.layers.{i}.attn_norm
    layers.{i}.attn.o_proj        model.layers.{i}.attn.Wo
    layers.{i}.mlp.norm_in        model.layers.{i}.mlp_norm
    layers.{i}.mlp.gate_proj+up_proj    model.layers.{i}.mlp.Wi
    layers.{i}.mlp.down_proj      model.layers.{i}.mlp.Wo
    final_norm                    model.final_norm
"""
_JOINED: Final = """
    layers.{i}.attn.q_proj+k_proj+v_proj    model.layers.{i}.attn.Wqkv
"""
_APART: Final = """
    layers.{i}.attn               model.layers.{i}.attn
"""
_EUROBERT: Final = """
    embedding.tokens              model.embed_tokens
    layers.{i}.attn               model.layers.{i}.self_attn
    layers.{i}.attn.norm_in       model.layers.{i}.input_layernorm
    layers.{i}.mlp                model.layers.{i}.mlp
    layers.{i}.mlp.norm_in        model.layers.{i}.post_attention_layernorm
    final_norm                    model.norm
    head.matrix                   lm_head.weight
"""
_CLASSIFIER: Final = """
    head.matrix    classifier.weight
    head.bias      classifier.bias
"""
_ESMC_HEAD: Final = """
    head.dense.linear    lm_head.dense
    head.norm            lm_head.layer_norm
    head.matrix          lm_head.decoder.weight
    head.bias            lm_head.decoder.bias
"""
_ULTRABERT_HEAD: Final = """
    head.dense.linear    head.linear1
    head.second.linear   head.linear2
    head.matrix          head.decoder.weight
"""
# The layers of newer encoders in transformers, which other code published under other names.
_POST_NORMED: Final = """
    layers.{i}.attn               BASE.layers.{i}.self_attn
    layers.{i}.attn.q_proj        BASE.layers.{i}.self_attn.q_proj
    layers.{i}.attn.k_proj        BASE.layers.{i}.self_attn.k_proj
    layers.{i}.attn.v_proj        BASE.layers.{i}.self_attn.v_proj
    layers.{i}.attn.o_proj        BASE.layers.{i}.self_attn.o_proj
    layers.{i}.attn.norm_after    BASE.layers.{i}.post_attention_layernorm
    layers.{i}.mlp                BASE.layers.{i}.mlp
    layers.{i}.mlp.norm_after     BASE.layers.{i}.post_mlp_layernorm
    layers.{i}.ffn.up_proj        BASE.layers.{i}.mlp.fc1
    layers.{i}.ffn.down_proj      BASE.layers.{i}.mlp.fc2
    layers.{i}.ffn.norm_after     BASE.layers.{i}.post_mlp_layernorm
"""
_NOMIC_HEAD: Final = """
    head.norm    cls.predictions.transform.layer_norm
"""
_GTE_HEAD: Final = """
    head.bias    lm_head.decoder.bias
"""


def _modern(attention: str, head: str) -> Table:
    """ModernBERT's names; ``head``: what its classes call the layer before the output matrix."""
    lines = f"""
    {_MODERN}
    {attention}
    head.dense.linear    {head}.dense
    head.norm            {head}.norm
    head.matrix          decoder.weight
    head.bias            decoder.bias
    """
    return Table.of(lines, base="model.", not_weights=("*_inv_freq",))


def _is_classifier(model: arch.Model) -> bool:
    return model.head is not None and model.head.kind == "classifier"


def _modernbert(model: arch.Model) -> Table:
    table = _modern(_JOINED, "head")
    return table.with_lines(_CLASSIFIER) if _is_classifier(model) else table


def _modernbert_decoder(model: arch.Model) -> Table:
    if _is_classifier(model):
        return _modern(_APART, "head").with_lines(_CLASSIFIER)
    return _modern(_APART, "lm_head")


def _eurobert(model: arch.Model) -> Table:
    table = Table.of(_EUROBERT, base="model.")
    return table.with_lines(_CLASSIFIER + "    head.dense.linear    dense") if _is_classifier(model) else table


def _nomic(model: arch.Model) -> Table:
    table = bert(model, "nomic_bert").with_lines(_POST_NORMED.replace("BASE", "nomic_bert"))
    return table if _is_classifier(model) else table.with_lines(_NOMIC_HEAD)


def _gte(model: arch.Model) -> Table:
    table = roberta(model, "gte").with_lines(_POST_NORMED.replace("BASE", "gte"))
    return table if _is_classifier(model) else table.with_lines(_GTE_HEAD)


def _jina(model: arch.Model) -> Table:
    return roberta(model, "roberta").with_lines(_POST_NORMED.replace("BASE", "roberta"))


def _esmc(model: arch.Model) -> Table:
    """The classifier of a sequence has a layer of its own; that of tokens is any type's."""
    table = Table.of(DECODER.replace("model.", "esmc."), base="esmc.")
    if _is_classifier(model):
        return table.with_lines(TWO_LAYERS) if model.head and model.head.transform else table
    return table.with_lines(_ESMC_HEAD)


def _ultrabert(model: arch.Model) -> Table:
    table = Table.of(DECODER, base="model.", older=(("ultrabert.", "model."), ("cls.", "head.decoder.")))
    return table if _is_classifier(model) else table.with_lines(_ULTRABERT_HEAD)


TABLES: Final = {
    "modernbert": _modernbert,
    "modernbert-decoder": _modernbert_decoder,
    "eurobert": _eurobert,
    "nomic_bert": _nomic,
    "gte": _gte,
    "jina_embeddings_v3": _jina,
    "esmc": _esmc,
    "ultrabert": _ultrabert,
}
