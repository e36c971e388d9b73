"""Nothing that a layer can have is passed over in silence: the walk reads it, refuses it, or it holds no storage."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from tests.formulas.test_tape import LLAMA, OTHERS
from txcalc import architecture as arch
from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.formulas.memory import memory
from txcalc.formulas.training import training_memory
from txcalc.record import Record

ROOT = Path(__file__).parent.parent.parent / "txcalc" / "formulas"
# Numbers that a kernel takes, and choices between entries of a tensor that is there anyway: no storage of their own.
NO_STORAGE: dict[type[Record], set[str]] = {
    arch.SelfAttention: set(),
    arch.LatentAttention: {"norm_eps"},
    arch.FeedForward: {"alpha"},
    arch.MixtureOfExperts: {"latent_bias"},
    arch.Router: {
        *("correction_bias", "correction_bias_stored", "jitter", "scaling_factor"),
        *("n_group", "topk_group", "group_score"),
    },
    arch.QKNorm: {"eps"},
    arch.Norm: {"eps"},
    arch.Rotary: {"theta", "scaling", "frequency_dim", "max_position_embeddings", "reversed"},
}


def read_by_the_walk() -> set[str]:
    """Every attribute that the walk reads, or by which it refuses."""
    found: set[str] = set()
    for path in [*(ROOT / "tape").glob("*.py"), ROOT / "memory.py", ROOT / "training.py"]:
        found |= {n.attr for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Attribute)}
    return found


@pytest.mark.parametrize("kind", NO_STORAGE, ids=lambda kind: kind.__name__)
def test_every_field_is_considered(kind: type[Record]) -> None:
    """A field that is new in a description fails here until the walk knows it, refuses it, or it is named above."""
    fields = set(kind.__annotations__)
    assert fields - read_by_the_walk() - NO_STORAGE[kind] == set()
    assert NO_STORAGE[kind] <= fields


def test_a_new_field_is_noticed() -> None:
    assert "a_field_of_tomorrow" not in read_by_the_walk()


def changed(config: dict[str, Any], sublayer: type[Record], **changes: Any) -> arch.Model:
    """A model with one kind of sublayer changed in every layer."""
    model = architecture_of(config)

    def walk(value: Any) -> Any:
        if isinstance(value, sublayer):
            return value.replace(**changes)
        if isinstance(value, tuple):
            return tuple(walk(each) for each in value)
        if isinstance(value, Record):
            return value.replace(**{name: walk(getattr(value, name)) for name in value.__annotations__})
        return value

    return model.replace(stacks=walk(model.stacks))


@pytest.mark.parametrize(
    ("sublayer", "changes", "says"),
    [
        (arch.SelfAttention, {"transient_global": arch.TransientGlobal(block_size=4)}, "summaries of blocks"),
        (arch.SelfAttention, {"gate": "channel", "gate_activation": "softplus"}, "gates other than"),
        (arch.SelfAttention, {"gate": "channel", "gate_bias": True}, "gates other than"),
        (arch.Rotary, {"axes": 2}, "several axes"),
        (arch.FeedForward, {"gate_scale": 2.0}, "scaled gates"),
    ],
)
def test_what_has_no_walk_is_named(sublayer: type[Record], changes: dict[str, Any], says: str) -> None:
    """Inference calls its activations an estimate and leaves them out of the sum; training is refused."""
    model = changed(LLAMA, sublayer, **changes)
    activations = memory(model, ctx=16).find("memory.activations")
    assert (activations.basis, activations.aside) == ("estimated", True)
    assert says in activations.reason
    with pytest.raises(RequestError, match=says):
        training_memory(model, seq=16)


@pytest.mark.parametrize("name", ["llama", *OTHERS])
def test_the_walked_ones_are_not_refused(name: str) -> None:
    """Negative control: without such a change nothing is named."""
    model = architecture_of({"llama": LLAMA, **OTHERS}[name])
    assert "no memory formula" not in memory(model, ctx=16).find("memory.activations").reason
