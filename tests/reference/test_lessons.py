"""What the tutorials teach, each piece against its formula in NumPy or a picture drawn by hand."""

from __future__ import annotations

from math import erf
from typing import Any

import numpy as np
import pytest
import torch

from tests.reference.tiny import D, attention, awake, decoder, feed_forward, layer, tokens
from txcalc.architecture import (
    Alibi,
    Branch,
    DynamicScaling,
    Layer,
    LearnedPositions,
    LinearScaling,
    LongRopeScaling,
    MixtureOfExperts,
    Norm,
    Residual,
    Rotary,
    Router,
    Sinusoidal,
    TokenEmbedding,
)
from txcalc.reference import build
from txcalc.reference.backends import Backend
from txcalc.reference.blocks import Step
from txcalc.reference.context import Context
from txcalc.reference.initialise import initialise
from txcalc.reference.masks import visible
from txcalc.reference.positions import alibi_bias, alibi_slopes, sinusoidal
from txcalc.reference.rotary import frequencies, rotate, turns
from txcalc.reference.sublayers import make_sublayer


def started(module: torch.nn.Module) -> Any:
    initialise(module)
    return awake(module)


# ---- positions ------------------------------------------------------------------------------------------------------


def test_sinusoids_of_the_2017_paper() -> None:
    """PE(pos, 2i) = sin(pos / 10000^(2i / d)), PE(pos, 2i + 1) = cos of the same (section 3.5)."""
    table = sinusoidal(Sinusoidal(rows=20, width=8, interleaved=True), torch.arange(20)[None])[0]
    paper = np.zeros((20, 8))
    for position in range(20):
        for i in range(4):
            angle = position / 10000 ** (2 * i / 8)
            paper[position, 2 * i], paper[position, 2 * i + 1] = np.sin(angle), np.cos(angle)
    np.testing.assert_allclose(table.numpy(), paper, atol=1e-5)


def test_learned_positions_are_rows_that_are_added() -> None:
    embedding = TokenEmbedding(vocab_size=61, embedding_size=D, positions=LearnedPositions(rows=9, width=D, offset=2))
    built = awake(build(decoder(layer(attention(position=None)), embedding=embedding)))
    entered = built.main.embedding
    context = Context(starts=(3,), counts=(1,), tokens=1, device=torch.device("cpu"), backend=Backend(), length=4)
    at_three = entered(tokens(1, 1), None, context, entered.tokens.weight)
    torch.testing.assert_close(at_three, entered.tokens(tokens(1, 1)) + entered.positions.table.weight[5])


def test_a_rotation_depends_on_the_distance_alone() -> None:
    """RoFormer, equation 16: <R_m q, R_n k> is a function of m - n; and a turn leaves every length as it was."""
    rotary = Rotary(theta=100.0, rotary_dim=8)
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).unbind(0)

    def at(x: torch.Tensor, position: int) -> torch.Tensor:
        cos_sin = turns(torch.tensor([[position]]), frequencies(rotary, 1), 1.0, torch.float32)
        return rotate(x.view(1, 1, 1, 8), cos_sin, interleaved=False).flatten()

    torch.testing.assert_close(at(q, 7) @ at(k, 4), at(q, 103) @ at(k, 100), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(at(q, 50).norm(), q.norm())
    assert abs(float(at(q, 7) @ at(k, 4) - at(q, 8) @ at(k, 4))) > 1e-2


def test_longer_contexts_change_the_frequencies() -> None:
    """Linear: all slower. Dynamic: only past the trained length. LongRoPE: the short set up to it, the long past it."""
    plain = frequencies(Rotary(theta=1e4, rotary_dim=8), 64)

    def scaled(scaling: Any, length: int) -> torch.Tensor:
        return frequencies(Rotary(theta=1e4, rotary_dim=8, scaling=scaling), length)

    torch.testing.assert_close(scaled(LinearScaling(factor=4.0), 16), plain / 4)
    dynamic = DynamicScaling(factor=2.0, original_max_position_embeddings=16)
    assert torch.equal(scaled(dynamic, 16), plain)
    base = 1e4 * (2 * 64 / 16 - 1) ** (8 / 6)  # theta (s L / L0 - (s - 1))^(d / (d - 2))
    torch.testing.assert_close(scaled(dynamic, 64), torch.tensor([base ** (-2 * i / 8) for i in range(4)]))
    short, long = (1.0, 1.0, 1.5, 2.0), (1.0, 2.0, 4.0, 8.0)
    sets = LongRopeScaling(short_factor=short, long_factor=long, original_max_position_embeddings=16, factor=4.0)
    torch.testing.assert_close(scaled(sets, 16), plain / torch.tensor(short))
    torch.testing.assert_close(scaled(sets, 17), plain / torch.tensor(long))


def test_alibi_of_eight_heads_as_published() -> None:
    """Press et al. 2022, section 3: slopes 1/2, 1/4, ..., 1/256; figure 3: 0 for oneself, -slope a step back."""
    assert alibi_slopes(8, 8.0) == [2.0**-n for n in range(1, 9)]
    positions = torch.arange(3)[None]
    bias = alibi_bias(Alibi(), torch.tensor([0.5]), positions, positions)[0, 0]
    assert bias.tril().tolist() == [[0, 0, 0], [-0.5, 0, 0], [-1.0, -0.5, 0]]


# ---- who sees whom --------------------------------------------------------------------------------------------------

PICTURES: dict[str, tuple[dict[str, Any], str]] = {
    "bidirectional": ({"causal": False}, "xxxxx xxxxx xxxxx xxxxx xxxxx"),
    "causal": ({"causal": True}, "x.... xx... xxx.. xxxx. xxxxx"),
    "window of 2": ({"causal": True, "window": 2}, "x.... xx... .xx.. ..xx. ...xx"),
    "window of 2 to both sides": ({"causal": False, "window": 2}, "xx... xxx.. .xxx. ..xxx ...xx"),
    "chunks of 2": ({"causal": True, "chunk": 2}, "x.... xx... ..x.. ..xx. ....x"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_masks(name: str) -> None:
    """A row a query, a column a key."""
    how, picture = PICTURES[name]
    seen = visible(torch.arange(5)[None], torch.arange(5)[None], **how).expand(1, 1, 5, 5)[0, 0]
    assert " ".join("".join("x" if each else "." for each in row) for row in seen.tolist()) == picture


def test_chunks_do_not_see_each_other() -> None:
    """Without positions, six tokens in chunks of three are two sequences of three."""
    built = awake(build(decoder(layer(attention(chunk=3, position=None)))))
    ids = tokens(1, 6)
    apart = torch.cat([built(part).logits for part in ids.split(3, dim=1)], dim=1)
    torch.testing.assert_close(built(ids).logits, apart, rtol=1e-5, atol=1e-5)


# ---- feed-forward, experts, blocks ----------------------------------------------------------------------------------


def gelu(x: Any) -> Any:
    return x * np.vectorize(lambda each: (1 + erf(each / 2**0.5)) / 2)(x)  # x Phi(x): Hendrycks and Gimpel 2016


def silu(x: Any) -> Any:
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("name", "gated", "act"),
    [("relu", False, lambda x: np.maximum(x, 0)), ("gelu", False, gelu), ("silu", True, silu), ("gelu", True, gelu)],
    ids=["ReLU", "GELU", "SwiGLU", "GEGLU"],
)
def test_feed_forwards(name: Any, gated: bool, act: Any) -> None:
    module = started(make_sublayer(feed_forward(activation=name, gated=gated)))
    x = torch.randn(2, 3, D, generator=torch.Generator().manual_seed(0))
    weights = {key: value.double().numpy().T for key, value in module.state_dict().items()}
    up = x.double().numpy() @ weights["up_proj.weight"]
    inner = act(x.double().numpy() @ weights["gate_proj.weight"]) * up if gated else act(up)
    np.testing.assert_allclose(module(x).detach().numpy(), inner @ weights["down_proj.weight"], rtol=1e-4, atol=1e-5)


def test_a_token_passes_its_best_experts_and_the_shared_one() -> None:
    """y = shared(x) + sum over the top 2 of 4 of p_i FFN_i(x), p the softmax of all four (Shazeer et al. 2017)."""
    described = MixtureOfExperts(
        hidden_size=D, num_experts=4, num_experts_per_tok=2, expert=feed_forward(), router=Router(),
        shared_expert=feed_forward(),
    )  # fmt: skip
    module = started(make_sublayer(described))
    x = torch.randn(5, D, generator=torch.Generator().manual_seed(0))
    shares = (x @ module.router.weight.T).softmax(-1)
    for row, share in zip(x, shares, strict=True):
        best = share.argsort(descending=True)[:2].tolist()
        expected = sum((share[e] * module.experts(e, row[None])[0] for e in best), module.shared_expert(row[None])[0])
        torch.testing.assert_close(module(row[None, None])[0, 0], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module(x[None])[0], torch.stack([module(row[None, None])[0, 0] for row in x]))


@pytest.mark.parametrize("where", ["pre", "post"])
def test_pre_and_post_norm(where: str) -> None:
    """x + f(norm(x)) and norm(x + f(x)) (Xiong et al. 2020, table 1), in LayerNorm's NumPy."""
    norm = Norm(kind="layernorm", width=D, eps=1e-5)
    branch = Branch(sublayer=feed_forward(), norm_in=norm if where == "pre" else None)
    described = Residual(branches=(branch,), norm_after=norm if where == "post" else None)
    step = started(Step(Layer(steps=(described,)).steps[0]))
    f, weight = step.branches[0].sublayer, next(value for name, value in step.named_parameters() if "norm" in name)

    def normed(x: Any) -> torch.Tensor:
        x = x.detach().double().numpy()
        centred = x - x.mean(-1, keepdims=True)
        return torch.tensor(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)).float() * weight

    x = torch.randn(1, 3, D, generator=torch.Generator().manual_seed(0))
    context = Context(starts=(0,), counts=(3,), tokens=3, device=torch.device("cpu"), backend=Backend(), length=3)
    expected = x + f(normed(x)) if where == "pre" else normed(x + f(x))
    torch.testing.assert_close(step(x, context, [None], {}), expected, rtol=1e-4, atol=1e-5)
