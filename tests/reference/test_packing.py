"""Packed weights give the plain model's numbers, and say where they cannot be used."""

from __future__ import annotations

import copy
import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.reference.kinds import DELTA, LATENT, MAMBA, MAMBA2
from tests.reference.tiny import ROTARY, D, V, attention, awake, decoder, feed_forward, layer, tokens
from txcalc.architecture import Head, MixtureOfExperts, Norm, QKNorm, Rotary, Router, Sublayer
from txcalc.errors import RequestError
from txcalc.reference import Transformer, build
from txcalc.reference.lean import make_lean
from txcalc.reference.packing import FusedPart, PackedLinear, pack, reason_against_packing


def mixture(**changes: Any) -> MixtureOfExperts:
    fields = {"expert": feed_forward(intermediate_size=24), "router": Router(norm_topk_prob=True), **changes}
    return MixtureOfExperts(hidden_size=D, num_experts=4, num_experts_per_tok=2, **fields)


KINDS: dict[str, tuple[Sublayer, ...]] = {
    "llama": (attention(), feed_forward()),
    "biases": (
        attention(q_bias=True, k_bias=True, v_bias=True, o_bias=True),
        feed_forward(up_bias=True, down_bias=True, gated=False, activation="gelu"),
    ),
    "query bias alone": (attention(q_bias=True), feed_forward()),
    "keys as values": (attention(k_equals_v=True),),
    "keys of another layer": (attention(),),
    "neighbouring pairs": (attention(position=Rotary(theta=1e4, rotary_dim=8, interleaved=True)), feed_forward()),
    "some channels turned": (attention(position=Rotary(theta=1e4, rotary_dim=4)),),
    "turned the other way": (attention(position=ROTARY.replace(reversed=True)),),
    "normed heads": (
        attention(qk_norm=QKNorm(kind="rmsnorm", scope="head", eps=1e-6)),
        attention(qk_norm=QKNorm(kind="rmsnorm", scope="width", eps=1e-6, unit_offset=True)),
        attention(qk_norm=QKNorm(kind="rmsnorm", scope="heads", eps=1e-6, after_rotary=True)),
    ),
    "other gates": (feed_forward(activation="gelu"), feed_forward(norm=Norm(kind="rmsnorm", width=48, eps=1e-6))),
    "experts": (mixture(), mixture(shared_expert=feed_forward(), shared_expert_gate=True)),
    "experts with biases": (
        mixture(expert=feed_forward(activation="swiglu_oai", limit=7.0, up_bias=True, down_bias=True)),
        mixture(expert=feed_forward(activation="relu", gated=False)),
    ),
    "latent": (LATENT,),
    "recurrent": (MAMBA, MAMBA2, DELTA),
}


def model(name: str, tied: bool) -> Transformer:
    head = Head(kind="lm", input_size=32, output_size=V, tied=tied, bias=not tied)
    layers = [layer(*KINDS[name])] + ([layer(attention(kv_source=0))] if name == "keys of another layer" else [])
    built: Transformer = awake(build(decoder(*layers, head=head)))
    return built


@pytest.mark.skipif(bool(reason_against_packing(model("llama", True))), reason="no oneDNN here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_a_packed_model_gives_the_same_logits(name: str, tied: bool, dtype: torch.dtype) -> None:
    """Another order of the same sums: fp32 to the last bits; bf16 rounds each product once, to 2^-9."""
    plain = model(name, tied).to(dtype)
    if reason_against_packing(plain):
        pytest.skip(reason_against_packing(plain))
    packed = copy.deepcopy(plain)
    pack(packed)
    close = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.3}
    with torch.inference_mode():
        for ids in (tokens(2, 9), tokens(1, 1)):
            torch.testing.assert_close(packed(ids).logits, plain(ids).logits, **close)


@pytest.mark.parametrize("name", ["llama", "experts"])
def test_plain_matrices_are_let_go_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a model would need twice its weights while it is packed."""
    built = model(name, True)
    matrices = [weakref.ref(p) for p in built.parameters() if p.dim() > 1 and p is not built.table("decoder")]
    alive: list[int] = []
    make = PackedLinear.__init__

    def counting(*arguments: Any) -> None:
        alive.append(sum(each() is not None for each in matrices))
        make(*arguments)

    monkeypatch.setattr(PackedLinear, "__init__", counting)
    pack(built)
    assert alive[0] == len(matrices)
    assert alive[-1] <= 4, "the last attention's output or feed-forward's own matrices, and a router"


@pytest.mark.parametrize("name", KINDS)
def test_lean_modules_alone_agree_in_bf16(name: str) -> None:
    """Where a processor cannot pack bf16. Rounding to 8 bits at other places: a few times 2^-9 of each activation."""
    plain = model(name, True).bfloat16()
    lean = copy.deepcopy(plain)
    make_lean(lean)
    with torch.inference_mode():
        torch.testing.assert_close(lean(tokens(2, 9)).logits, plain(tokens(2, 9)).logits, rtol=0.1, atol=0.3)


class Operators(TorchDispatchMode):
    """How many operators torch dispatches."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operators_of_a_layer(packed: bool) -> int:
    """What a second layer adds to the operators of one decoding step."""
    counts = []
    for layers in (1, 2):
        built = awake(build(decoder(*[layer(attention(), feed_forward())] * layers)))
        if packed:
            pack(built)
        cache = built.new_cache(batch=1, ctx=8)
        with torch.inference_mode():
            built(tokens(1, 5), cache=cache)
            with Operators() as seen:
                built(tokens(1, 1), cache=cache)
        counts.append(seen.count)
    return counts[1] - counts[0]


def test_a_decoded_layer_is_few_operators() -> None:
    """At one token a layer takes as long as its operators are many: 7 products and what stands between them.

    Counted with torch 2.13, views among them; HF's Llama has 57. A change that makes more slows every token down.
    """
    assert operators_of_a_layer(packed=False) <= 66
    assert operators_of_a_layer(packed=True) <= 47


def test_a_fused_product_lets_go_of_its_activations() -> None:
    packed = model("llama", True)
    pack(packed)
    packed(tokens(2, 9))
    parts = [module for module in packed.modules() if isinstance(module, FusedPart)]
    assert len(parts) == 5
    assert all(part.fused.input is None and not part.fused.outputs for part in parts)


def test_what_cannot_be_packed_says_why() -> None:
    with pytest.raises(RequestError, match="not float16"):
        pack(model("llama", True).half())
    with pytest.raises(RequestError, match="this model is on meta"):
        pack(build(decoder(layer(attention())), device="meta"))
