"""Packed weights give the plain model's numbers, and say where they cannot be used."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.reference.kinds import DELTA, LATENT, MAMBA, MAMBA2
from tests.reference.tiny import V, attention, awake, decoder, feed_forward, layer, tokens
from txcalc.architecture import Head, Sublayer
from txcalc.errors import RequestError
from txcalc.reference import Transformer, build
from txcalc.reference.packing import FusedPart, pack, reason_against_packing

KINDS: dict[str, tuple[Sublayer, ...]] = {
    "llama": (attention(), feed_forward()),
    "biases": (
        attention(q_bias=True, k_bias=True, v_bias=True, o_bias=True),
        feed_forward(up_bias=True, down_bias=True, gated=False, activation="gelu"),
    ),
    "query bias alone": (attention(q_bias=True), feed_forward()),
    "keys as values": (attention(k_equals_v=True),),
    "keys of another layer": (attention(),),
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
