"""Running the command line in process, through the same door as the console script."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from txcalc.cli import main

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}


class Ran(NamedTuple):
    """What one command did."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Standard output as one JSON document."""
        document: dict[str, Any] = json.loads(self.out)
        return document


@pytest.fixture
def txcalc(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run ``txcalc`` with arguments; nothing may reach the user as a traceback."""

    def run(*arguments: str) -> Ran:
        code = main([*arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., str]:
    """A config.json of Llama-3-8B's shape with changes; a value of ... drops the key."""

    def write(**changes: Any) -> str:
        fields = {key: value for key, value in {**CONFIG, **changes}.items() if value is not ...}
        path = tmp_path / "config.json"
        path.write_text(json.dumps(fields), encoding="utf-8")
        return str(path)

    return write
