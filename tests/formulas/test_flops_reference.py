"""FLOPs equal to FlopCounterMode over the reference model on the meta device: every kind of sublayer, each phase.

The reference runs recurrences step by step, so that form is asked for; transformers' chunked one is the other oracle.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.formulas.test_flops_meta import BART, BERT, DEEPSEEK, GEMMA3, GPT2, JAMBA, LLAMA, MIXTRAL, QWEN3_NEXT, T5
from tests.reference.kinds import ATTENTIONS, CACHING, LINEAR, RECURRENT
from tests.reference.tiny import decoder, feed_forward, layer
from txcalc.architecture import FourierMixing, LatentAttention, Model, Sublayer
from txcalc.configs import architecture_of
from txcalc.formulas.flops import flops
from txcalc.formulas.flops_work import Mask
from txcalc.reference import build

DEPTHWISE = torch.ops.aten.convolution_backward
KINDS: dict[str, Sublayer] = {
    **CACHING,
    "linear attention, both ways": LINEAR.replace(causal=False),
    "fourier": FourierMixing(hidden_size=32),
}


def apart(kind: str, batch: int, pairs: int) -> tuple[int, int]:
    """(forward, backward) that the reference counts above ours, in two layers.

    It sums an indexer's scores over the heads elementwise, where transformers multiplies matrices.
    """
    sublayer = KINDS[kind]
    if isinstance(sublayer, LatentAttention) and sublayer.indexer is not None:
        return -2 * 2 * batch * sublayer.indexer.num_heads * pairs, 0
    return 0, 0


def model_of(sublayer: Sublayer) -> Model:
    return decoder(layer(sublayer, feed_forward()), layer(sublayer, feed_forward()))


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, dtype=torch.long, device="meta")


def counted(model: Model, batch: int, seq: int, source: int | None = None) -> tuple[int, int]:
    """(forward, backward without depthwise convolutions, which torch counts once for every pair of channels)."""
    built = build(model, device="meta", backend="eager")
    inputs: dict[str, Any] = {} if source is None else {"source": zeros(batch, source)}
    with FlopCounterMode(display=False) as forward:
        output = built(zeros(batch, seq), **inputs)
    with FlopCounterMode(display=False) as backward:
        output.logits.sum().backward()
    products = backward.get_total_flops() - backward.get_flop_counts()["Global"].get(DEPTHWISE, 0)
    return int(forward.get_total_flops()), int(products)


def decoded(model: Model, batch: int, ctx: int) -> int:
    """One token after ``ctx`` of the cache, full to its last place."""
    built = build(model, device="meta", backend="eager")
    with torch.no_grad():
        cache = built.new_cache(batch=batch, ctx=ctx + 1)
        built(zeros(batch, ctx), cache=cache)
        with FlopCounterMode(display=False) as counter:
            built(zeros(batch, 1), cache=cache)
    return int(counter.get_total_flops())


def convolutions(model: Model, batch: int, seq: int) -> int:
    tree = flops(model, batch=batch, seq=seq, scan="recurrent").find("flops.matmul")
    layers = [node for _, node in tree.walk() if node.name.startswith("layers")]
    return sum(
        int(layers_.count or 1) * sum(int(leaf.value) for _, leaf in layers_.walk() if leaf.name == "conv")
        for layers_ in layers
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_forward_and_backward(kind: str) -> None:
    model = model_of(KINDS[kind])
    forward, backward = counted(model, 2, 9)
    found = flops(model, batch=2, seq=9, phase="train", scan="recurrent").figures()
    more, more_backward = apart(kind, 2, 9 * 9)
    assert found["flops.forward"] + more == forward
    assert found["flops.backward"] - 2 * convolutions(model, 2, 9) + more_backward == backward


@pytest.mark.parametrize("kind", [*ATTENTIONS, *RECURRENT])
def test_every_kind_decoding(kind: str) -> None:
    """The reference absorbs latent attention's matrices when it decodes, and keeps no chunk but the current one."""
    model = model_of(KINDS[kind])
    mask: Mask = "exact" if kind == "chunk" else "full"
    found = flops(model, batch=2, ctx=6, phase="decode", mask=mask, mla="absorbed").figures()
    assert found["flops.matmul"] + apart(kind, 2, 7)[0] == decoded(model, 2, 6)


@pytest.mark.parametrize(
    "config", [LLAMA, GPT2, MIXTRAL, GEMMA3, DEEPSEEK, JAMBA, QWEN3_NEXT, BERT], ids=lambda config: config["model_type"]
)
def test_published_types(config: dict[str, Any]) -> None:
    model = architecture_of(config)
    forward, backward = counted(model, 2, 9)
    found = flops(model, batch=2, seq=9, phase="train", scan="recurrent").figures()
    assert found["flops.forward"] == forward
    assert found["flops.backward"] - 2 * convolutions(model, 2, 9) == backward


@pytest.mark.parametrize("config", [T5, BART], ids=lambda config: config["model_type"])
def test_two_stacks(config: dict[str, Any]) -> None:
    model = architecture_of(config)
    found = flops(model, batch=2, seq=7, source_seq=11, phase="train").figures()
    assert (found["flops.forward"], found["flops.backward"]) == counted(model, 2, 7, source=11)


def test_the_oracle_notices_another_algorithm() -> None:
    """Negative control: chunks instead of steps, expanded instead of absorbed latents, one cached token more."""
    delta, latent, plain = (model_of(KINDS[kind]) for kind in ("gated delta", "latent", "grouped"))
    assert flops(delta, batch=2, seq=9).figures()["flops.matmul"] != counted(delta, 2, 9)[0]
    assert flops(latent, batch=2, ctx=6, phase="decode").figures()["flops.matmul"] != decoded(latent, 2, 6)
    assert flops(plain, batch=2, ctx=7, phase="decode").figures()["flops.matmul"] != decoded(plain, 2, 6)
