"""The attention product: a NumPy oracle for the eager path, every backend against it, and refusals that say why."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
import torch

from tests.reference.tiny import attention, awake, decoder, layer, tokens
from txcalc.errors import RequestError
from txcalc.reference import Backend, build
from txcalc.reference.backends import Name, Product, attend, eager, reason_against

ON_CPU: tuple[Name, ...] = ("eager", "flash", "math", "auto")


def numpy_attention(q: Any, k: Any, v: Any, allowed: Any, scale: float) -> Any:
    """Vaswani et al. 2017, equation 1, for one head: [T, H], [S, H], [S, Hv] -> [T, Hv]."""
    scores = np.where(allowed, q @ k.T * scale, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def by_numpy(product: Product) -> torch.Tensor:
    """The oracle for every row and head; a query head n reads key head n // (N / K) (Ainslie et al. 2023, figure 2)."""
    q, k, v = (x.double().numpy() for x in product[:3])
    (B, N, T, _), K, S = q.shape, k.shape[1], k.shape[2]
    if isinstance(product.mask, torch.Tensor):
        allowed = product.mask.expand(B, 1, T, S)[:, 0].numpy()
    else:
        allowed = np.tril(np.ones((B, T, S), bool)) if product.mask == "causal" else np.ones((B, T, S), bool)
    heads = [
        [numpy_attention(q[b, n], k[b, n * K // N], v[b, n * K // N], allowed[b], product.scale) for n in range(N)]
        for b in range(B)
    ]
    return torch.tensor(np.array(heads)).float()


def product(N: int = 4, K: int = 2, T: int = 7, S: int = 7, H: int = 8, **fields: Any) -> Product:
    g = torch.Generator().manual_seed(N * 1000 + K * 100 + T * 10 + S)
    q, k, v = (torch.randn(2, heads, length, H, generator=g) for heads, length in ((N, T), (K, S), (K, S)))
    return Product(q, k, v, **{"mask": "none", "scale": H**-0.5, **fields})


def window(T: int, S: int, width: int) -> torch.Tensor:
    """The last T of S tokens, each seeing itself and width - 1 before it."""
    behind = torch.arange(S - T, S)[:, None] - torch.arange(S)
    return ((behind >= 0) & (behind < width))[None, None]


RAGGED = torch.arange(7)[None, None, None, :] < torch.tensor([4, 7])[:, None, None, None]
CASES = {
    "multi-head": product(K=4),
    "grouped": product(),
    "multi-query": product(K=1),
    "causal": product(mask="causal"),
    "odd sizes": product(N=6, K=3, T=5, S=11, H=5),
    "one token": product(T=1, S=9),
    "one token, multi-head": product(K=4, T=1, S=9),
    "one token, one key": product(T=1, S=1),
    "window": product(mask=window(7, 7, 3)),
    "window, chunk of tokens": product(T=3, S=9, mask=window(3, 9, 4)),
    "unequal rows": product(mask=RAGGED),
    "one token, unequal rows": product(T=1, mask=RAGGED),
    "another scale": product(scale=1.0),
}


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_backend_equals_the_oracle(case: Product, name: Name) -> None:
    out = attend(case, Backend(name))
    torch.testing.assert_close(out, by_numpy(case), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(("eager", "flash", "math"), 2)))
def test_backends_agree_with_a_bias(one: Name, other: Name, dtype: torch.dtype) -> None:
    """bf16 keeps 8 bits: outputs of size 1 from weights rounded to bf16 differ by a few times 2^-8."""
    bias = torch.randn(1, 4, 7, 7, generator=torch.Generator().manual_seed(0))
    close = {"rtol": 1e-5, "atol": 2e-6} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    for mask in ("none", "causal", RAGGED):
        case = product(mask=mask, bias=bias)
        case = case._replace(**{x: getattr(case, x).to(dtype) for x in ("q_BNTH", "k_BKSH", "v_BKSH", "bias")})
        torch.testing.assert_close(attend(case, Backend(one)), attend(case, Backend(other)), **close)


def test_the_oracle_notices_a_wrong_group() -> None:
    """Negative control: query heads dealt to key heads in turn (0, 1, 0, 1) are not the groups (0, 0, 1, 1)."""
    case = product()
    dealt = case._replace(k_BKSH=case.k_BKSH.repeat(1, 2, 1, 1), v_BKSH=case.v_BKSH.repeat(1, 2, 1, 1))
    assert (eager(dealt) - by_numpy(case)).abs().max() > 0.1


def test_without_the_square_root_the_softmax_saturates() -> None:
    """Vaswani et al. 2017, section 3.2.1: products of vectors with unit channels have variance head_dim.

    Over 64 keys with head_dim 256, scores divided by sqrt(256) have a deviation of 1, and the largest weight stays
    small (the largest of 64 such draws, about 2.4, takes e^2.4 / (64 e^0.5) = 10%); undivided they have a deviation of
    16, and one key takes nearly everything, so that almost no gradient reaches the scores.
    """
    g = torch.Generator().manual_seed(0)
    q, k = torch.randn(1, 8, 64, 256, generator=g), torch.randn(1, 8, 64, 256, generator=g)
    largest, slopes = {}, {}
    for scale in (256**-0.5, 1.0):
        kept: list[torch.Tensor] = []
        eager(Product(q, k, k, mask="none", scale=scale), kept.append)
        weights = kept[0]
        largest[scale], slopes[scale] = weights.max(-1).values.mean(), (weights * (1 - weights)).sum(-1).mean()
    assert 0.05 < largest[256**-0.5] < 0.2
    assert largest[1.0] > 0.85
    assert slopes[256**-0.5] > 0.8 > 5 * slopes[1.0]


def test_weights_sum_to_one_and_a_sink_takes_its_share() -> None:
    """A sink is one more key: with equal scores of 0 over 3 keys and a sink of 0, each key gets 1/4."""
    zeros = Product(*(torch.zeros(1, 2, 3, 4) for _ in range(3)), mask="none", scale=1.0)
    for sinks, share in ((None, 1 / 3), (torch.zeros(2), 1 / 4)):
        kept: list[torch.Tensor] = []
        eager(zeros._replace(sinks_N=sinks), kept.append)
        torch.testing.assert_close(kept[0], torch.full((1, 2, 3, 3), share))


def test_a_softcap_bounds_the_scores() -> None:
    """Scores of 100 and 0 under a cap of 1 are tanh(100) = 1 and 0: weights e / (e + 1) and 1 / (e + 1)."""
    q, k = torch.tensor([[[[100.0]]]]), torch.tensor([[[[1.0], [0.0]]]])
    kept: list[torch.Tensor] = []
    eager(Product(q, k, k, mask="none", scale=1.0, softcap=1.0), kept.append)
    torch.testing.assert_close(kept[0].flatten(), torch.tensor([1.0, 0.0]).softmax(0))


def test_folding_the_groups_changes_nothing() -> None:
    folded, plain = Backend("flash"), Backend("flash", fold_groups=False)
    for case in (product(T=1), product(T=1, K=1), product(T=1, K=4), product(T=1, mask=RAGGED)):
        torch.testing.assert_close(attend(case, folded), attend(case, plain), rtol=1e-5, atol=2e-6)
        low = case._replace(**{x: getattr(case, x).bfloat16() for x in case._fields[:3]})
        torch.testing.assert_close(attend(low, folded), attend(low, plain), rtol=2e-2, atol=2e-2)


# ---- what ran, what cannot ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["eager", "flash", "math"])
def test_a_forced_backend_is_the_one_that_ran(name: Name) -> None:
    built = awake(build(decoder(layer(attention()), layer(attention(window=3))), backend=name))
    built(tokens(2, 6))
    assert built.backend.ran == {name}


def test_auto_reports_what_it_chose() -> None:
    seen = {}
    for kind in ("plain", "softcap"):
        built = build(decoder(layer(attention(softcap=2.0 if kind == "softcap" else None))))
        built(tokens(2, 6))
        seen[kind] = built.backend.ran
    assert seen == {"plain": {"flash"}, "softcap": {"eager"}}


def test_auto_agrees_with_the_kernel_that_the_profiler_sees() -> None:
    """What ``ran`` says, against the operators that torch executed."""
    for width, operator in ((8, "aten::_scaled_dot_product_flash_attention_for_cpu"), (12, "_math")):
        backend = Backend()
        case = product()._replace(v_BKSH=torch.randn(2, 2, 7, width))
        with torch.profiler.profile() as profile:
            attend(case, backend)
        assert any(event.key.endswith(operator) for event in profile.key_averages()), operator
        assert backend.ran == {"flash" if "flash" in operator else "math"}


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("efficient", {}, "no efficient kernel on cpu"),
        ("cudnn", {}, "no cudnn kernel on cpu"),
        ("flash", {"dropout": 0.1}, "no dropout"),
        ("flash", {"softcap": 5.0}, "only eager caps the scores"),
        ("math", {"sinks_N": torch.zeros(4)}, "only eager has attention sinks"),
        ("flash", {"v_BKSH": torch.zeros(2, 2, 7, 12)}, "head_dim 8 of keys and 12 of values must be equal"),
        ("flash", {"bias": torch.zeros(1, 4, 7, 7, requires_grad=True)}, "no gradient for a learned bias"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_backend_that_cannot_run_says_why(name: Name, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestError, match=reason) as caught:
        attend(product()._replace(**fields), Backend(name))
    assert name in caught.value.message
    assert caught.value.hint == "use auto or eager"


def test_weights_are_eager_only() -> None:
    built = build(decoder(layer(attention())), backend="flash")
    with pytest.raises(RequestError, match="only eager has attention weights"):
        built(tokens(1, 4), weights=True)
    built.backend = Backend("auto")
    out = built(tokens(1, 4), weights=True)
    assert {key: weights.shape for key, weights in out.weights.items()} == {(0, "self"): (1, 4, 4, 4)}


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(RequestError, match="'fast' is not known"):
        Backend("fast")  # type: ignore[arg-type]  # the point


class OnCuda(torch.Tensor):
    """A tensor that says it lives on CUDA, to ask what would be refused there."""

    is_cuda = True


@pytest.mark.parametrize(
    ("name", "capability", "changes", "reason"),
    [
        ("flash", (9, 0), {}, "takes fp16 and bf16, not float32"),
        ("flash", (7, 5), {"dtype": torch.bfloat16}, r"needs compute capability 8.0, this GPU has \(7, 5\)"),
        ("flash", (9, 0), {"dtype": torch.bfloat16, "mask": RAGGED}, "no dense mask"),
        ("flash", (9, 0), {"dtype": torch.bfloat16, "width": 320}, "320 is over its limit of 256"),
        ("efficient", (9, 0), {}, "no grouped heads"),
        ("flash", (9, 0), {"dtype": torch.bfloat16}, "^$"),
        ("math", (6, 0), {}, "^$"),
    ],
)
def test_reasons_on_cuda(
    name: Name, capability: tuple[int, int], changes: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    case = product(H=changes.get("width", 8))._replace(mask=changes.get("mask", "causal"))
    tensors = {
        x: getattr(case, x).to(changes.get("dtype", torch.float32)).as_subclass(OnCuda) for x in case._fields[:3]
    }
    assert re.search(reason, reason_against(name, case._replace(**tensors)))


def test_what_torch_refuses_for_reasons_of_its_own_is_said_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels have limits by GPU and by torch that no list here can hold: no fall to math, no bare RuntimeError.

    Flash on a CPU wants values as wide as keys; with our own check of that taken away torch refuses.
    """
    monkeypatch.setattr("txcalc.reference.backends.reason_against", lambda *_, **__: "")
    case = product()._replace(v_BKSH=torch.randn(2, 2, 7, 12))
    with pytest.raises(RequestError, match=r"'flash' cannot run this: .*same last dimension"):
        attend(case, Backend("flash"))
    with pytest.raises(RequestError, match="'cudnn' cannot run this: torch has no kernel for it"):
        attend(product(), Backend("cudnn"))
