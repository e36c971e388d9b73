"""What introductions to transformers say, checked: true, true under a condition, or false, each with our number.

Every verdict follows from a figure that is computed here, from the same formulas as every other answer; nothing but
the claim itself is written down.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, Literal

from txcalc.architecture import FeedForward, Model, SelfAttention
from txcalc.architecture.variants import with_kv_heads
from txcalc.cards import load
from txcalc.expression import exact, symbol
from txcalc.formulas.attention import attention
from txcalc.formulas.flops import flops
from txcalc.formulas.flops_work import Work
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.lora import lora_params
from txcalc.formulas.params import params
from txcalc.formulas.params_sublayers import sublayer_params
from txcalc.formulas.score_pairs import score_pairs
from txcalc.formulas.tape.walk import Lora
from txcalc.record import Record
from txcalc.result import Node, Unit, leaf

Verdict = Literal["true", "true under a condition", "false"]


class Claim(Record):
    """A sentence, the figures that judge it (label, unit, value), the verdict, and what the condition is."""

    says: str
    figures: tuple[tuple[str, Unit, float], ...]
    verdict: Verdict
    condition: str = ""

    def shown(self) -> str:
        """The figures as text."""
        return "; ".join(f"{label}: {_text(value)}{_unit(unit)}" for label, unit, value in self.figures)

    def node(self) -> Node:
        """The claim as a node with its figures below."""
        children = tuple(_figure(*figure) for figure in self.figures)
        return Node(
            name=self.says, unit="", children=children, note=self.verdict, convention=self.condition, aside=True
        )

    def plain(self) -> dict[str, Any]:
        """As data."""
        return {
            "claim": self.says,
            "verdict": self.verdict,
            "condition": self.condition,
            "ours": {label: value for label, _, value in self.figures},
        }


def _text(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _unit(unit: Unit) -> str:
    return "" if unit == "ratio" else f" {unit}"


def _figure(label: str, unit: Unit, value: float) -> Node:
    if isinstance(value, int):
        return leaf(label, unit, exact(value), aside=True)
    return Node(name=label, unit=unit, number=value, aside=True)


def _judged(always: bool, sometimes: bool) -> Verdict:
    """True as it stands, true in the case that the condition names, or neither."""
    return "true" if always else "true under a condition" if sometimes else "false"


@cache
def _card(name: str) -> Model:
    return load(name)


def claims() -> tuple[Claim, ...]:
    """Every claim, judged."""
    return tuple(make() for make in _CLAIMS)


# ---- scores ---------------------------------------------------------------------------------------------------------


def _scores(card: str, ctx: int) -> dict[str, int | float]:
    return attention(_card(card), ctx=ctx).figures()


def _four_thousand() -> Claim:
    found = int(_scores("llama3-8b", 4096)["attention.scores_per_head"])
    verdict = _judged(found == 16 * 2**20, False)
    return Claim(
        says="4,096 tokens make 16M scores per head", figures=(("per head", "scores", found),), verdict=verdict
    )


def _gpt3() -> Claim:
    found = _scores("gpt3-175b", 2048)
    head, layer = int(found["attention.scores_per_head"]), int(found["attention.scores_per_layer"])
    return Claim(
        says="GPT-3 at 2,048 tokens makes 4M scores in a layer",
        figures=(("per layer", "scores", layer), ("per head", "scores", head)),
        verdict=_judged(layer == 4 * 2**20, head == 4 * 2**20),
        condition=f"in each of a layer's {layer // head} heads",
    )


def _thirty_two_thousand() -> Claim:
    found = int(_scores("llama3-8b", 32 * 1024)["attention.scores_per_head"])
    return Claim(
        says="32k tokens make a billion scores per head",
        figures=(("per head", "scores", found),),
        verdict=_judged(found == 2**30, False),
    )


def _flash_memory() -> Claim:
    short, long = (attention(_card("llama3-8b"), ctx=ctx).figures()["attention.materialised"] for ctx in (4096, 8192))
    eager = attention(_card("llama3-8b"), ctx=8192, backend="eager").figures()["attention.materialised"]
    return Claim(
        says="Flash attention needs memory linear in the context, not n squared",
        figures=(
            ("twice the context, times", "ratio", long / short),
            ("eager over flash at 8,192", "ratio", eager / long),
        ),
        verdict=_judged(long == 2 * short, False),
    )


def _flash_time() -> Claim:
    short, long = (int(flops(_card("llama3-8b"), seq=seq).figures()["flops.attention"]) for seq in (4096, 8192))
    return Claim(
        says="Flash attention makes attention linear in time",
        figures=(("FLOPs at twice the context, times", "ratio", long / short),),
        verdict=_judged(long == 2 * short, False),
        condition="it saves traffic to memory, not products: every score is still computed",
    )


def _window() -> Claim:
    ctx, window = 32 * 1024, 4096
    T = symbol("T", ctx)
    work = Work(B=symbol("B", 1), T=T, S=T, rows=T, mask="exact")
    pairs = int(score_pairs(work, causal=True, window=window))
    short = int(score_pairs(work.replace(T=symbol("T", window), S=symbol("T", window)), causal=True, window=window))
    return Claim(
        says="A sliding window of 4,096 costs n * W",
        figures=(
            ("pairs over n W at 32k", "ratio", pairs / (ctx * window)),
            ("and at 4,096", "ratio", short / window**2),
        ),
        verdict=_judged(pairs == ctx * window, pairs / (ctx * window) > 0.9),
        condition="where n is well above W: the first W tokens see fewer, and up to W it is the plain triangle",
    )


def _cached_decoding() -> Claim:
    n = 8192
    whole = int(flops(_card("llama3-8b"), seq=n).figures()["flops.attention"])
    one = int(flops(_card("llama3-8b"), ctx=n - 1, phase="decode").figures()["flops.attention"])
    return Claim(
        says="The KV cache turns n squared work per token into n",
        figures=(("scores without a cache over those with one, at n = 8,192", "ratio", whole / one),),
        verdict=_judged(whole == n * one, False),
    )


# ---- parameters and cache -------------------------------------------------------------------------------------------


def _grouped(card: str) -> float:
    model = _card(card)
    many, own = (
        kv_cache(each, ctx=8192).figures()["kv_cache.total_bytes"] for each in (with_kv_heads(model, None), model)
    )
    return many / own


def _gqa_four() -> Claim:
    ratio = _grouped("llama3-8b")
    return Claim(
        says="Grouped heads make Llama-3-8B's cache four times smaller",
        figures=(("times", "ratio", ratio),),
        verdict=_judged(ratio == 4, False),
    )


def _gqa_eight() -> Claim:
    small, large = _grouped("llama3-8b"), _grouped("llama3-70b")
    return Claim(
        says="Grouped heads make Llama-3's cache eight times smaller",
        figures=(("8B, times", "ratio", small), ("70B, times", "ratio", large)),
        verdict=_judged(small == large == 8, large == 8),
        condition="with a key head for eight query heads, as in the 70B; the 8B has one for four",
    )


def _sublayers(card: str) -> tuple[int, int, int]:
    """(attention's parameters, the feed-forward's, hidden_size) of one layer."""
    found = _card(card).main.layers[0].sublayers()
    attention_, fed = (next(each for each in found if isinstance(each, kind)) for kind in (SelfAttention, FeedForward))
    return int(sublayer_params(attention_).value), int(sublayer_params(fed).value), attention_.hidden_size


def _four_d_squared() -> Claim:
    own, _, width = _sublayers("llama3-8b")
    return Claim(
        says="Attention has 4 d^2 parameters in a layer of Llama-3-8B",
        figures=(("its attention", "parameters", own), ("4 d^2", "parameters", 4 * width**2)),
        verdict=_judged(own == 4 * width**2, False),
        condition="keys and values have fewer heads than queries",
    )


def _two_thirds() -> Claim:
    shares = {}
    for card in ("gpt2", "llama3-8b"):
        own, fed, _ = _sublayers(card)
        shares[card] = fed / (own + fed)
    return Claim(
        says="The feed-forward is two thirds of a layer",
        figures=(("GPT-2", "ratio", shares["gpt2"]), ("Llama-3-8B", "ratio", shares["llama3-8b"])),
        verdict=_judged(*(abs(share - 2 / 3) < 0.001 for share in reversed(shares.values()))),
        condition="with two matrices of width 4 d and as many key heads as query heads, as in GPT-2",
    )


def _seven_billion() -> Claim:
    _, own, width = _sublayers("llama2-7b")
    plain = FeedForward(hidden_size=width, intermediate_size=4 * width, activation="gelu", gated=False)
    fed = int(sublayer_params(plain).value)
    return Claim(
        says="A 7B model's feed-forward has 134M parameters a layer",
        figures=(("two matrices of width 4 d", "parameters", fed), ("Llama-2-7B's three", "parameters", own)),
        verdict=_judged(_millions(own) == 134, _millions(fed) == 134),
        condition="with two matrices of width 4 d; Llama's three are narrower and come near it",
    )


def _millions(count: int) -> int:
    return count // 10**6


def _gpt2() -> Claim:
    found = int(params(_card("gpt2")).figures()["params.total"])
    return Claim(
        says="GPT-2 small has 117M parameters",
        figures=(("GPT-2", "parameters", found),),
        verdict=_judged(_millions(found) == 117, False),
        condition="its paper says so; the weights that were released have more",
    )


def _adapters() -> Claim:
    model = _card("llama3-8b")
    whole = int(params(model).figures()["params.total"])
    every = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    ratios = [
        whole / int(lora_params(model, Lora(rank=rank, projections=names)).value)
        for rank, names in ((64, every), (16, ("q_proj", "v_proj")))
    ]
    return Claim(
        says="LoRA shrinks the trainable state 10 to 100 times",
        figures=(
            ("Llama-3-8B, rank 64 on every projection, times", "ratio", ratios[0]),
            ("rank 16 on queries and values, times", "ratio", ratios[1]),
        ),
        verdict=_judged(all(10 <= ratio <= 100 for ratio in ratios), any(10 <= ratio <= 100 for ratio in ratios)),
        condition="with large ranks everywhere; with the usual small ones it is a thousand times and more",
    )


_CLAIMS: Final[tuple[Callable[[], Claim], ...]] = (
    _four_thousand,
    _gpt3,
    _thirty_two_thousand,
    _flash_memory,
    _flash_time,
    _cached_decoding,
    _window,
    _gqa_four,
    _gqa_eight,
    _four_d_squared,
    _two_thirds,
    _seven_billion,
    _gpt2,
    _adapters,
)
