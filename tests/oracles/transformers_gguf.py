"""A GGUF file as transformers reads it: its config, its names, its order of rows, the gguf package's dequantising."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gguf
import torch
import transformers
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint


def model(path: Path, config: Mapping[str, Any] | None = None) -> Any:
    """The Llama of a GGUF file, in fp32; ``config`` where it is known, since reading it takes seconds.

    ``from_pretrained`` would ask for a further package; this is the function behind it.
    """
    config = transformers.AutoConfig.for_model(**(config or load_gguf_checkpoint(str(path))["config"]))
    with torch.device("meta"):
        made = transformers.LlamaForCausalLM._from_config(config, attn_implementation="eager")
    with patch.object(gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)):  # else made anew for each module
        read = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=made)["tensors"]
    made.to_empty(device="cpu")
    missing, unexpected = made.load_state_dict({name: tensor.float() for name, tensor in read.items()}, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    made.tie_weights()
    made.model.rotary_emb = type(made.model.rotary_emb)(config)  # its frequencies are no weights
    return made.eval()
