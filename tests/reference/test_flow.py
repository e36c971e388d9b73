"""What flows: shapes against the architecture, values against the modules' own, and nothing left behind."""

from __future__ import annotations

import pytest
import torch

from tests.oracles import transformers_tiny
from tests.reference.published import config, every
from txcalc.configs import architecture_of
from txcalc.reference import build
from txcalc.reference.flow import flow
from txcalc.reference.weights import load_state_dict_from

TOKENS = torch.arange(3, 12)[None]  # nine


def caught(name: str) -> dict[tuple[str, int | None, str], tuple[int, ...]]:
    model = build(architecture_of(every()[name]))
    both = {"encoder", "decoder"} <= set(model.stacks)
    found = flow(model, TOKENS, source=TOKENS[:, :5] if both else None)
    return {(each.stack, each.layer, each.name): each.shape for each in found.tensors}


def test_llama_by_hand() -> None:
    """Width 32, 4 query and 2 key heads of 8, 48 inside, vocabulary 67, three layers, nine tokens."""
    shapes = caught("llama")
    for layer in range(3):
        inside = {name: shape for (_, depth, name), shape in shapes.items() if depth == layer}
        assert inside == {
            "": (1, 9, 32), "attn.norm_in": (1, 9, 32), "attn": (1, 9, 32), "attn.q_proj": (1, 9, 32),
            "attn.k_proj": (1, 9, 16), "attn.v_proj": (1, 9, 16), "attn.weights": (1, 4, 9, 9),
            "attn.o_proj": (1, 9, 32), "mlp.norm_in": (1, 9, 32), "mlp": (1, 9, 32), "mlp.gate_proj": (1, 9, 48),
            "mlp.up_proj": (1, 9, 48), "mlp.down_proj": (1, 9, 32),
        }  # fmt: skip
    outside = {name: shape for (_, depth, name), shape in shapes.items() if depth is None}
    assert outside == {"embedding": (1, 9, 32), "final_norm": (1, 9, 32), "logits": (1, 9, 67)}


def test_both_stacks_of_an_encoder_decoder_flow() -> None:
    shapes = caught("t5")
    assert shapes["encoder", 2, "attn.q_proj"] == (1, 5, 40)
    assert shapes["decoder", 2, "cross.weights"] == (1, 4, 9, 5)
    assert shapes["decoder", None, "relative_bias"] == (1, 4, 9, 9)
    assert [stack for stack, _, _ in shapes] == sorted(
        (stack for stack, _, _ in shapes), key="encoder decoder ".split(" ").index
    )


def test_layers_that_share_their_parameters_flow_each_on_its_own() -> None:
    """ALBERT: one set of parameters, three layers."""
    assert [depth for _, depth, name in caught("albert") if name == "attn"] == [0, 1, 2]


@pytest.mark.parametrize("name", every())
def test_every_layer_of_every_type_leaves_its_hidden_states(name: str) -> None:
    shapes, model = caught(name), architecture_of(every()[name])
    stacks = [stack for stack in model.stacks if stack.role in ("encoder", "decoder")]
    for stack in stacks:
        tokens = 5 if stack.role == "encoder" and len(stacks) > 1 else 9
        for depth in range(stack.num_hidden_layers):
            assert shapes[stack.role, depth, ""] == (1, tokens, stack.hidden_size)


def test_hidden_states_are_transformers() -> None:
    """The root mean square of what leaves each layer."""
    fields = config("llama")
    theirs, model = transformers_tiny.made(fields), architecture_of(fields)
    ours = load_state_dict_from(build(model), model, theirs.state_dict())
    with torch.no_grad():
        states = theirs(TOKENS, output_hidden_states=True).hidden_states
    found = [each.rms for each in flow(ours, TOKENS).tensors if each.layer is not None and not each.name]
    expected = [float(state.square().mean().sqrt()) for state in states[1:-1]]  # their last one is after the norm
    assert found[:-1] == pytest.approx(expected, rel=1e-5)


def test_weights_are_a_distribution_over_keys() -> None:
    weights = flow(build(architecture_of(config("llama"))), TOKENS).output.weights
    assert set(weights) == {(0, "self"), (1, "self"), (2, "self")}
    torch.testing.assert_close(weights[1, "self"].sum(-1), torch.ones(1, 4, 9))
    assert weights[1, "self"][0, 0, 0, 1:].sum() == 0, "the first token looks at itself alone"


def test_no_hook_stays_behind() -> None:
    model = build(architecture_of(config("llama")))
    flow(model, TOKENS)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_meta_device_has_shapes_and_no_values() -> None:
    model = build(architecture_of(config("llama")), device="meta")
    found = flow(model, TOKENS.to("meta")).tensors
    assert {each.rms for each in found} == {None}
    assert [each.shape for each in found] == list(caught("llama").values())
