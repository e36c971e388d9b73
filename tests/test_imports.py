"""Who may import whom: read from the source, so that no test order can hide an import; and what a start-up loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.stored.files import written

PACKAGE = Path(__file__).parent.parent / "txcalc"
PURE = {"architecture", "errors", "units", "record", "expression", "result", "symbols"}
CALCULATOR = PURE | {"configs", "cards", "formulas", "hardware", "report"}
# The parts of the reference model that are read without torch; test_shapes holds them to that.
TORCH_FREE = ("txcalc.reference.names", "txcalc.reference.parts")
HEAVY = {"torch", "numpy", "transformers", "safetensors", "tokenizers", "gguf"}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at any depth, outside TYPE_CHECKING."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def part_of(path: Path) -> str:
    """The room of the house that a file is in."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py" and path.parent != PACKAGE) + [
    PACKAGE / f"{name}.py" for name in sorted(PURE) if (PACKAGE / f"{name}.py").exists()
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    room, found = part_of(path), imports(path)
    roots = {name.split(".")[0] for name in found}
    ours = {name.split(".")[1] for name in found if name.startswith("txcalc.")}
    if room in PURE:
        allowed = {"txcalc", "typing_extensions", *sys.stdlib_module_names}
        assert roots <= allowed
        assert ours <= PURE
    if room in CALCULATOR:
        assert not roots & HEAVY
        assert not ours & {"reference", "measure", "cli"}
    if room == "stored":  # tables of names and lists of parts, and nothing else of the reference model
        assert not roots & HEAVY
        assert not ours & {"measure", "cli"}
        assert all(name.startswith(TORCH_FREE) for name in found if name.startswith("txcalc.reference"))
    if room == "reference":
        assert not ours & {"formulas", "report", "cli", "measure"}
    if room == "report":
        assert not ours & {"formulas", "configs", "cards", "architecture"}


def test_the_rule_notices_a_forbidden_import(tmp_path: Path) -> None:
    """Negative control: an import inside a function is seen."""
    path = tmp_path / "sly.py"
    path.write_text("def f():\n    from torch import nn\n    return nn\n")
    assert "torch" in imports(path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["params", "llama3-8b"],
        ["params", "llama3-8b", "--json"],
        ["kvcache", "--ctx", "32k", "--gqa", "8"],
        ["flops", "llama3-8b", "--convention", "all", "--tokens", "15T", "--gpu", "h100-sxm", "--mfu", "0.4"],
        ["attention", "llama3-8b", "--plot", "memory"],
        ["memory", "llama3-8b", "--train"],
        ["explain", "claims"],
        ["cards"],
    ],
    ids=" ".join,
)
def test_calculators_load_no_heavy_module(arguments: list[str]) -> None:
    program = (
        "import sys; from txcalc.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'huggingface_hub', 'transformers', 'socket', 'ssl'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, "loaded" in done.stderr) == (0, False), done.stderr


def test_weights_are_told_without_a_heavy_module(tmp_path: Path) -> None:
    """The config and the file that lie beside each other, compared tensor by tensor."""
    state = {"model.embed_tokens.weight": torch.zeros(67, 32), "model.norm.weight": torch.zeros(32)}
    config = {"model_type": "llama", "hidden_size": 32, "vocab_size": 67}
    test_calculators_load_no_heavy_module(["params", written(tmp_path, config, state)])


def test_importing_the_package_loads_no_heavy_module() -> None:
    program = (
        "import sys, txcalc, txcalc.cli;"
        "print(sorted({'torch', 'numpy', 'huggingface_hub', 'yaml', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
