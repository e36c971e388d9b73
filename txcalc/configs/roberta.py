"""RoBERTa by other names, with other norms, and in integers.

Sources: XLM-R, Conneau et al. 2020 (arXiv 1911.02116); CamemBERT, Martin et al. 2020 (arXiv 1911.03894); data2vec,
Baevski et al. 2022 (arXiv 2202.03555); XLM-R XL, Goyal et al. 2021 (arXiv 2105.00572), section 2: pre-norm; I-BERT, Kim
et al. 2021 (arXiv 2101.01321).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from txcalc.architecture import Model
from txcalc.configs.bert import ROBERTA_DEFAULTS, TASKS, roberta_like
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

XLM_ROBERTA_DEFAULTS: Final[dict[str, Any]] = {**ROBERTA_DEFAULTS, "vocab_size": 30_522}
XLM_ROBERTA_XL_DEFAULTS: Final[dict[str, Any]] = {
    **ROBERTA_DEFAULTS,
    "vocab_size": 250_880,
    "hidden_size": 2560,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "intermediate_size": 10_240,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}


def _named(prefix: str, **layers: Any) -> Callable[[Reader], Model]:
    return lambda r: roberta_like(r, prefix, **layers)


def _ibert(r: Reader) -> Model:
    """I-BERT's parameters are RoBERTa's: without ``quant_mode`` it computes as RoBERTa does, with it in integers."""
    r.ignore("force_dequant")
    r.unused("quant_mode", False)
    r.unused("is_decoder", False)
    r.unused("add_cross_attention", False)
    return roberta_like(r, "IBert", tasks=TASKS.replace("causal_lm ", ""))


def _type(build: Callable[[Reader], Model], name: str, defaults: dict[str, Any] = XLM_ROBERTA_DEFAULTS) -> ModelType:
    return ModelType(build=build, defaults=defaults, origin=f"transformers 5.23 {name}Config")


TYPES: Final = {
    "xlm-roberta": _type(_named("XLMRoberta"), "XLMRoberta"),
    "camembert": _type(_named("Camembert"), "Camembert"),
    "data2vec-text": _type(_named("Data2VecText"), "Data2VecText"),
    "xlm-roberta-xl": _type(
        _named("XLMRobertaXL", pre_normed=True, embedding_normed=False), "XLMRobertaXL", XLM_ROBERTA_XL_DEFAULTS
    ),
    "roberta-prelayernorm": _type(
        _named("RobertaPreLayerNorm", pre_normed=True), "RobertaPreLayerNorm", ROBERTA_DEFAULTS
    ),
    "ibert": _type(_ibert, "IBert"),
}
