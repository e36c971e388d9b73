"""Memory of activations, formulas against fake tensors: equal for whole small models, and a broken walk is found."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.reference import published
from txcalc.architecture import Layer, Model
from txcalc.configs import architecture_of
from txcalc.formulas.tape import core, moments, operators, products
from txcalc.measure.check import check_model
from txcalc.measure.check_activations import FIGURES, measured, predicted
from txcalc.measure.saved import saved_bytes
from txcalc.measure.shrink import at_depth

PREFILL, SAVED, FORWARD, BACKWARD = FIGURES


def model_of(model_type: str, **changes: Any) -> Model:
    return architecture_of(published.config(model_type, **changes), name=model_type)


def differing(model: Model) -> set[str]:
    return {each.figure for each in check_model(model, ("activations",)) if each.verdict == "failed"}


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma3_text", "bert", "bloom", "phi", "falcon", "opt"])
def test_activations_agree(model_type: str) -> None:
    """Two depths: 2 rows of 11 tokens, and 3 of 8,192, where scores, masks and activations rule the peak."""
    found = check_model(model_of(model_type), ("activations",))
    assert [each.sentence() for each in found if each.verdict != "passed"] == []
    assert {each.figure for each in found} == set(FIGURES)


@pytest.mark.parametrize("changes", [{}, {"num_hidden_groups": 2, "inner_group_num": 2}, {"vocab_size": 5}], ids=str)
@pytest.mark.parametrize("length", [(1, 2), (2, 11), (3, 300)], ids=str)
def test_layers_that_share_their_parameters_share_one_gradient(
    changes: dict[str, Any], length: tuple[int, int]
) -> None:
    """At few tokens the gradients rule: the first layer's are added to the last one's."""
    small = at_depth(model_of("albert", **changes), 3)
    assert predicted(small, *length) == measured(small, *length)


def test_by_hand() -> None:
    """GPT-2, hidden 32, 4 heads, feed-forward 128, bf16: b (8 h + 2 f) + 4 a + 4 b a token and layer.

    2 * (256 + 256) + 16 + 8 = 1,048 bytes; two layers, 22 tokens.
    """
    (found,) = [each for each in check_model(model_of("gpt2"), ("activations",))[:4] if each.figure == SAVED]
    assert found.measured == 2 * 22 * 1048


@pytest.mark.parametrize(
    ("model_type", "changes", "reason"),
    [
        ("mamba", {}, "no memory formula yet for state-space mixers"),
        ("t5", {}, "cross-attention"),
        ("llama", {"architectures": ["LlamaModel"]}, "with a head"),
        ("bert", {"architectures": ["BertForSequenceClassification"]}, "one vector a sequence"),
    ],
)
def test_what_the_formulas_do_not_know_is_skipped_with_the_reason(
    model_type: str, changes: dict[str, Any], reason: str
) -> None:
    (found,) = check_model(model_of(model_type, **changes), ("activations",))
    assert (found.verdict, reason in found.note) == ("skipped", True), found.note


@pytest.mark.parametrize("model_type", ["mixtral", "deepseek_v3", "gpt_oss"])
def test_what_experts_keep_does_not_depend_on_the_tokens(model_type: str) -> None:
    """Peaks do: they are skipped, and say why."""
    found = check_model(model_of(model_type), ("activations",))
    assert [(each.figure, each.verdict) for each in found] == [
        (SAVED, "passed"), (SAVED, "passed"), ("activations", "skipped"),
    ]  # fmt: skip
    assert "which expert each token passes" in found[-1].note


def test_a_node_that_nothing_leads_back_to_keeps_nothing() -> None:
    """Of the largest of 7, the index (8 bytes) is kept where its value is; of the square, its 28 bytes of input."""
    leaf = torch.ones(7, requires_grad=True)
    x = leaf * 1
    assert saved_bytes(lambda: (x.topk(1).indices, x.square())) == 28
    assert saved_bytes(lambda: (x.topk(1), x.square())) == 36


def test_a_layer_norm_of_one_plus_its_weight_keeps_the_sum() -> None:
    """Nemotron-like: 1 + weight is a vector of its own, kept beside the input and two statistics a row.

    A layer's two norms of 32 channels, bf16: 128 bytes more than GPT-2's, whatever the tokens.
    """
    plain = model_of("gpt2")
    layers = tuple(offset(each) for each in plain.main.layers)
    changed = plain.replace(stacks=(plain.main.replace(layers=layers),))
    found = [each for each in check_model(changed, ("activations",)) if each.figure == SAVED]
    assert {each.verdict for each in found} == {"passed"}
    assert found[0].measured == 2 * (22 * 1048 + 2 * 32 * 2)


def offset(layer: Layer) -> Layer:
    steps = [
        step.replace(
            branches=tuple(
                branch.replace(norm_in=branch.norm_in and branch.norm_in.replace(unit_offset=True))
                for branch in step.branches
            )
        )
        for step in layer.steps
    ]
    return layer.replace(steps=tuple(steps))


def test_a_bias_of_the_head_is_added_to_the_last_tokens_apart() -> None:
    """Phi with 5,000 words, bf16: logits of 2 rows are there twice, before and after their bias; of one row once."""
    small = at_depth(model_of("phi", vocab_size=5_000, hidden_size=32, num_attention_heads=4), 1)
    for batch in (1, 2):
        assert predicted(small, batch, 3) == measured(small, batch, 3)
    assert predicted(small, 2, 3)[0] >= 2 * 2 * 5_000 * 2


# ---- broken formulas ------------------------------------------------------------------------------------------------


def test_a_tensor_that_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix whose input is forgotten: what is saved, and with it both peaks."""
    record = core.Tape.record

    def forgetful(tape: Any, out: Any, inputs: Any, saved: Any, *rest: Any, **named: Any) -> Any:
        return record(tape, out, inputs, saved[1:], *rest, **named)

    monkeypatch.setattr(core.Tape, "record", forgetful)
    assert {SAVED, FORWARD, BACKWARD} <= differing(model_of("llama"))
    assert differing(model_of("mixtral")) == {SAVED}


def test_a_mask_that_python_still_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """BLOOM's bias and mask: the triangle is there until its function returns, a byte for each of 8,192^2 pairs."""
    triangle = products._triangle

    def dropped(w: Any, p: Any) -> Any:
        made = triangle(w, p)
        w.tape.drop(made)
        return None

    monkeypatch.setattr(products, "_triangle", dropped)
    (found,) = [
        each
        for each in check_model(model_of("bloom"), ("activations",))
        if (each.figure, each.verdict) == (PREFILL, "failed")
    ]
    assert found.difference == -8192 * 8192


def test_gradients_of_shared_layers_counted_as_often_as_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    part = moments.layer_part
    monkeypatch.setattr(
        moments, "layer_part", lambda layer, stream, asked, how: part(layer, stream, asked, how._replace(summed=False))
    )
    small = at_depth(model_of("albert", vocab_size=5), 3)
    ours, torchs = predicted(small, 1, 2), measured(small, 1, 2)
    assert ours[:3] == torchs[:3]
    assert ours[3] > torchs[3]


def test_statistics_of_a_norm_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    norm = operators.layer_norm

    def narrow(tape: Any, x: Any, parameters: Any, rows: Any, width: int) -> Any:
        return norm(tape, x, parameters, 0 * rows, width)

    monkeypatch.setattr(operators, "layer_norm", narrow)
    assert SAVED in differing(model_of("gpt2"))
    assert differing(model_of("llama")) == set()  # RMSNorm keeps none
