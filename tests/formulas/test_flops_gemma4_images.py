"""Gemma 4 with an image: what its tower and the way into the decoder cost, against torch's counter on real tensors."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from tests.strategies import read
from txcalc.architecture import Model
from txcalc.formulas.flops import flops

VISION = {"hidden_size": 16, "intermediate_size": 10, "num_hidden_layers": 2, "num_attention_heads": 2,
          "num_key_value_heads": 2, "head_dim": 8, "patch_size": 2, "position_embedding_size": 8,
          "pooling_kernel_size": 2, "default_output_length": 4}  # fmt: skip
TEXT = {"hidden_size": 32, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 8, "global_head_dim": 8, "vocab_size": 50, "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 0, "layer_types": ["sliding_attention", "full_attention"]}  # fmt: skip
CONFIG: dict[str, Any] = {"model_type": "gemma4", "architectures": ["Gemma4ForConditionalGeneration"],
                          "text_config": TEXT, "vision_config": VISION, "audio_config": None}  # fmt: skip


def images_alone(model: Model, **view: Any) -> int:
    """What two sequences with an image each cost beyond their text."""
    name = "flops.backward" if view else "flops.matmul"
    with_one, without = (flops(model, batch=2, seq=9, images=n, **view).figures()[name] for n in (1, 0))
    return int(with_one - without)


def test_an_image_is_pooled_by_a_product() -> None:
    """16 patches of 12 numbers to 4 tokens; backward, the shares of the pooling get no gradient."""
    made = transformers.AutoConfig.for_model(**CONFIG)
    theirs = transformers.Gemma4ForConditionalGeneration._from_config(made, attn_implementation="eager")
    places = torch.cartesian_prod(torch.arange(4), torch.arange(4)).expand(2, 16, 2)
    with FlopCounterMode(display=False) as forward:
        seen = theirs.model.get_image_features(torch.rand(2, 16, 12), places).pooler_output
    with FlopCounterMode(display=False) as backward:
        torch.cat(tuple(seen)).sum().backward()
    ours = read(CONFIG)
    assert images_alone(ours) == forward.get_total_flops()
    assert images_alone(ours, phase="train") == backward.get_total_flops()
    (connector,) = ours.connectors
    averaged = ours.replace(connectors=(connector.replace(pool_by_product=False),))  # negative control
    assert images_alone(averaged) == forward.get_total_flops() - 2 * 2 * 4 * 16 * 16
