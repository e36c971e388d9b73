"""Linear attention against its quadratic form, FAVOR+ against the softmax that it estimates, Fourier against NumPy."""

from __future__ import annotations

import numpy as np
import torch

from tests.reference.kinds import LINEAR
from tests.reference.tiny import D
from txcalc.architecture import FourierMixing
from txcalc.reference.backends import Backend, Product, eager
from txcalc.reference.context import Context
from txcalc.reference.linear_attention import LinearAttention
from txcalc.reference.sublayers import make_sublayer

T, H = 9, 6


def context(counts: tuple[int, int] = (T, T)) -> Context:
    return Context(starts=(0, 0), counts=counts, tokens=T, device=torch.device("cpu"), backend=Backend(), length=T)


def heads(seed: int) -> list[torch.Tensor]:
    """Queries, keys and values [2, T, 4, H] of about unit length."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, T, 4, H, generator=generator) * 0.5 for _ in range(3)]


def quadratic(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """Katharopoulos et al. 2020, equation 4: similarities phi(q) . phi(k), masked, divided by their sum."""
    phi = [torch.where(x > 0, x + 1, x.exp()) for x in (q, k)]
    similarity = torch.einsum("btnh,bsnh->bnts", *phi) * allowed
    return torch.einsum("bnts,bsnh->btnh", similarity / similarity.sum(-1, keepdim=True), v)


def test_causal_linear_attention_equals_its_quadratic_form() -> None:
    module = LinearAttention(LINEAR)
    q, k, v = heads(0)
    expected = quadratic(q, k, v, torch.ones(T, T).tril())
    torch.testing.assert_close(module.causal(q, k, v, context(), None), expected, rtol=1e-5, atol=1e-6)
    assert (module.bidirectional(q, k, v, context()) - expected).abs().max() > 1e-2  # negative control


def test_bidirectional_linear_attention_leaves_padding_out() -> None:
    module = LinearAttention(LINEAR.replace(causal=False))
    q, k, v = heads(0)
    real = torch.arange(T)[None, None, None, :] < torch.tensor([5, T])[:, None, None, None]
    expected = quadratic(q, k, v, real.float())
    torch.testing.assert_close(module.bidirectional(q, k, v, context((5, T))), expected, rtol=1e-5, atol=1e-6)


def test_random_features_estimate_the_softmax() -> None:
    """Choromanski et al. 2021, theorem 1: the error falls with the square root of the number of features.

    From 64 to 4,096 features, 64 times as many, it must fall 8 times; half of that is asked for, one draw being one.
    """
    q, k, v = heads(1)
    by_head = [x.transpose(1, 2) for x in (q, k, v)]
    exact = eager(Product(*by_head, mask="none", scale=H**-0.5)).transpose(1, 2)
    errors = []
    for features in (64, 4096):
        module = make_sublayer(LINEAR.replace(feature_map="favor", features=features, causal=False))
        assert isinstance(module, LinearAttention)
        module.initialise()
        errors.append((module.bidirectional(q, k, v, context()) - exact).square().mean().sqrt().item())
    assert errors[1] < 0.02
    assert errors[1] < errors[0] / 4


def test_fourier_mixing_equals_numpy() -> None:
    x = torch.randn(2, T, D)
    mixed = make_sublayer(FourierMixing(hidden_size=D))(x, context())
    torch.testing.assert_close(mixed, torch.from_numpy(np.fft.fft2(x.numpy()).real).float(), rtol=1e-4, atol=1e-4)
