"""FLOPs of heads: what is on every token and what on one vector, equal to torch's counter over each published class."""

from __future__ import annotations

from typing import Any

import pytest

from tests.formulas.test_flops_meta import BERT, GPT2, LLAMA
from tests.oracles import flop_counter
from txcalc.configs import architecture_of
from txcalc.formulas.flops import flops

_SIZES = {key: LLAMA[key] for key in ("hidden_size", "num_hidden_layers", "vocab_size")}
OPT = {**_SIZES, "model_type": "opt", "num_attention_heads": 4, "ffn_dim": 56, "word_embed_proj_dim": 24}
MODERN = {**_SIZES, "model_type": "modernbert-decoder", "num_attention_heads": 4, "intermediate_size": 56}
CLASSES: list[tuple[dict[str, Any], str]] = [
    *((LLAMA, f"LlamaFor{task}") for task in ("SequenceClassification", "TokenClassification", "QuestionAnswering")),
    (GPT2, "GPT2ForSequenceClassification"),
    (OPT, "OPTForSequenceClassification"),
    (MODERN, "ModernBertDecoderForSequenceClassification"),
    *((BERT, f"BertFor{task}") for task in ("SequenceClassification", "PreTraining", "NextSentencePrediction")),
]


@pytest.mark.parametrize(("config", "name"), CLASSES, ids=lambda value: value if isinstance(value, str) else "")
def test_forward(config: dict[str, Any], name: str) -> None:
    """A decoder that classifies a sequence is published with its matrix on every token, an encoder with it on one."""
    config = {**config, "architectures": [name], "num_labels": 5, **({} if config is GPT2 else {"pad_token_id": 0})}
    counted = flop_counter.forward(flop_counter.model_of(config), input_ids=flop_counter.tokens(1, 7))
    assert flops(architecture_of(config), seq=7).figures()["flops.matmul"] == counted


def test_the_last_token_alone_where_that_is_asked() -> None:
    """Llama: 2 x 48 x 3 labels a token; 6 of 7 tokens of two sequences are spared."""
    model = architecture_of({**LLAMA, "architectures": ["LlamaForSequenceClassification"], "num_labels": 3})
    every, last = (flops(model, batch=2, seq=7, logits=rows).figures()["flops.matmul"] for rows in ("all", "last"))
    assert every - last == 2 * 6 * (2 * 48 * 3)
