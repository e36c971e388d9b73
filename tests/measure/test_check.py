"""``check`` finds nothing where formulas are right, and finds each formula that is broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.reference import published, tiny
from tests.reference.kinds import CACHING
from txcalc.architecture import Model, SelfAttention, Stack
from txcalc.configs import architecture_of
from txcalc.expression import Expression
from txcalc.formulas import cache_shapes, flops, flops_attention, kv_cache, params, params_sublayers
from txcalc.formulas.cache_shapes import CacheRow
from txcalc.measure import check, counting
from txcalc.measure.check import check_model
from txcalc.measure.comparing import Comparison, Quantity
from txcalc.reference import build
from txcalc.result import Node

ALL: tuple[Quantity, ...] = ("params", "kv", "flops")


def model_of(model_type: str, **changes: Any) -> Model:
    return architecture_of(published.config(model_type, **changes), name=model_type)


def failures(model: Model, *quantities: Quantity) -> list[Comparison]:
    return [each for each in check_model(model, quantities or ALL) if each.verdict != "passed"]


# ---- nothing is wrong -----------------------------------------------------------------------------------------------

ONE_OF_EACH = (
    "llama gpt2 bert t5 gemma3_text gpt_oss deepseek_v3 mixtral mamba jamba qwen3_next albert opt falcon".split()
)


@pytest.mark.parametrize("model_type", ONE_OF_EACH)
def test_every_quantity_agrees(model_type: str) -> None:
    assert failures(model_of(model_type)) == []


def test_a_vision_tower_beside_a_decoder() -> None:
    vision = {**published.config("gemma3")["vision_config"], "vision_use_head": False}
    assert failures(model_of("gemma3", vision_config=vision)) == []


@pytest.mark.parametrize("kind", ["window", "chunk", "latent", "differential", "mamba-2", "linear attention", "rg-lru"])
def test_kinds_that_cache_unlike_each_other_agree(kind: str) -> None:
    assert failures(tiny.decoder(tiny.layer(CACHING[kind]), tiny.layer(CACHING[kind], tiny.feed_forward()))) == []


def test_a_classifier_on_every_token_agrees() -> None:
    assert failures(model_of("llama", architectures=["LlamaForSequenceClassification"])) == []


def test_flops_are_skipped_where_the_reference_multiplies_otherwise() -> None:
    found = check_model(tiny.decoder(tiny.layer(CACHING["latent, indexer"])), ALL)
    assert {(each.quantity, each.verdict) for each in found} == {
        ("params", "passed"),
        ("kv", "passed"),
        ("flops", "skipped"),
    }


def test_full_is_every_layer() -> None:
    found = check_model(model_of("llama", num_hidden_layers=4), ("flops",), full=True)
    assert {each.work.split(",")[0] for each in found} == {"all 4 layers"}
    assert {each.verdict for each in found} == {"passed"}


def test_what_was_compared_by_hand() -> None:
    """Llama, hidden 32, 4 heads of 8 over 2, feed-forward 48, vocabulary 67, 3 layers.

    A layer: q and o 2 * 32 * 32, k and v 2 * 32 * 16, three matrices of 32 * 48, two norms of 32: 7,744. With both
    tables, 2 * 67 * 32, and the last norm: 3 * 7,744 + 4,288 + 32 = 27,552. A cached token: 3 layers * 2 * 16 * 4 bytes
    in fp32 = 384 (bf16: 192). Forward of one layer, 2 rows of 11 tokens: each of 22 tokens multiplies 7,680 weights of
    matrices and 67 * 32 of the head, 2 FLOPs each, and 2 products of 4 heads * 11 * 8: 2 * 22 * (7,680 + 2,144 + 704).
    """
    found = {(each.figure, each.work): each.measured for each in check_model(model_of("llama"), ALL)}
    assert found["params.total", "all 3 layers"] == 27_552
    assert found["kv_cache.bytes_per_token", "token 2"] == 192
    assert found["flops.forward", "1/3 layers, 2 x 11 tokens"] == 2 * 22 * (7_680 + 2_144 + 704)
    assert found["flops.backward", "1/3 layers, 2 x 11 tokens"] == 4 * 22 * (7_680 + 2_144 + 704)


def test_a_model_that_the_reference_does_not_build_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from txcalc.errors import RequestError

    def refuse(*_: Any, **__: Any) -> None:
        raise RequestError("the reference model does not build telepathy yet")

    monkeypatch.setattr(check, "build", refuse)
    found = check_model(model_of("llama"), ALL)
    assert [(each.quantity, each.verdict, each.note) for each in found] == [
        (quantity, "skipped", "the reference model does not build telepathy yet") for quantity in ALL
    ]


# ---- broken formulas ------------------------------------------------------------------------------------------------


def found_in(model: Model) -> set[str]:
    """Figures that disagree."""
    return {each.figure for each in failures(model) if each.verdict == "failed"}


def without_child(module: Any, name: str, child: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A formula that forgets one part of its sum."""
    formula: Callable[..., Node] = getattr(module, name)

    def broken(*arguments: Any, **named: Any) -> Node:
        node = formula(*arguments, **named)
        return node.replace(children=tuple(part for part in node.children if part.name != child))

    monkeypatch.setattr(module, name, broken)


def test_a_bias_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = params_sublayers.blocks
    monkeypatch.setattr(params_sublayers, "blocks", lambda *sizes, bias: blocks(*sizes, bias=False))
    assert found_in(model_of("qwen2")) == {"params.total"}
    assert found_in(model_of("llama")) == set()  # it has no bias to drop


def test_tying_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = params.heads_params

    def untied(head: Any, pooled: Any) -> Node | None:
        return heads(head and head.replace(tied=False), pooled)

    monkeypatch.setattr(params, "heads_params", untied)
    assert found_in(model_of("gpt2")) == {"params.total"}
    assert found_in(model_of("gpt2", tie_word_embeddings=False)) == set()


def test_a_norm_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "norm_params", lambda name, norm: None)
    assert found_in(model_of("llama")) == {"params.total"}


def test_shared_layers_counted_as_often_as_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "_stored", lambda layer, count, seen: Expression(count))
    assert found_in(model_of("albert")) == {"params.total"}


def cache_of(monkeypatch: pytest.MonkeyPatch, change: Callable[[CacheRow], CacheRow]) -> None:
    rows = cache_shapes.cache_rows
    monkeypatch.setattr(
        kv_cache, "cache_rows", lambda sublayer, count: tuple(change(row) for row in rows(sublayer, count))
    )


KV = {"kv_cache.total_bytes", "kv_cache.bytes_per_token", "kv_cache.marginal_bytes_per_token"}


def test_kv_heads_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    cache_of(monkeypatch, lambda row: row.replace(elements=2 * row.elements))
    assert found_in(model_of("llama")) == KV
    assert found_in(model_of("deepseek_v3")) == KV


def test_a_window_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a cache beyond the window can tell: what a token costs before it is full is right."""
    cache_of(monkeypatch, lambda row: row.replace(limit=row.limit and 2 * row.limit))
    assert found_in(model_of("gemma3_text")) == {"kv_cache.total_bytes"}
    assert found_in(model_of("llama")) == set()


def test_a_window_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    cache_of(monkeypatch, lambda row: row.replace(limit=None))
    assert found_in(model_of("gemma3_text")) == {"kv_cache.total_bytes", "kv_cache.marginal_bytes_per_token"}


def test_a_cross_cache_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    cache_of(monkeypatch, lambda row: row.replace(elements=0 * row.elements) if row.cross else row)
    assert found_in(model_of("t5")) == {"kv_cache.total_bytes"}


def test_a_recurrent_state_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_cache, "state_of", lambda sublayer: None)
    assert found_in(model_of("jamba")) == {"kv_cache.state_bytes"}


def test_layers_counted_in_the_wrong_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts given to the wrong kind of layer: no two kinds of a shrunk model are all as often there."""
    counts = Stack.counts
    monkeypatch.setattr(Stack, "counts", lambda stack: tuple(reversed(counts(stack))))
    assert {"flops.forward", "flops.backward", "flops.decode", "params.total"} <= found_in(model_of("deepseek_v3"))


FLOPS = {"flops.forward", "flops.backward", "flops.decode"}


@pytest.mark.parametrize("lost", ["q_proj", "v_proj", "o_proj", "scores"])
def test_a_product_lost(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from txcalc.formulas import flops_sublayers

    without_child(flops_sublayers, "self_attention_flops", lost, monkeypatch)
    assert found_in(model_of("llama")) == FLOPS


def test_the_gate_of_a_feed_forward_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    from txcalc.formulas import flops_sublayers

    without_child(flops_sublayers, "feed_forward_flops", "gate_proj", monkeypatch)
    assert found_in(model_of("llama")) == FLOPS
    assert found_in(model_of("opt")) == set()  # it has none


def test_the_head_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops, "_head", lambda *_: None)
    assert found_in(model_of("llama")) == FLOPS


def test_grouped_heads_thought_to_save_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores counted for KV heads instead of query heads."""
    from txcalc.formulas import flops_sublayers

    right = flops_sublayers.self_attention_flops

    def wrong(a: SelfAttention, work: Any) -> Node:
        few = right(a.replace(num_attention_heads=a.num_key_value_heads), work)
        scores = [part for part in few.children if part.name == "scores"]
        node = right(a, work)
        return node.replace(children=(*(part for part in node.children if part.name != "scores"), *scores))

    monkeypatch.setattr(flops_sublayers, "self_attention_flops", wrong)
    assert found_in(model_of("llama")) == FLOPS
    assert found_in(model_of("gpt2")) == set()


def test_a_backward_pass_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    training = flops.training_flops

    def once(forward: Node) -> Node:
        node = training(forward)
        backward = node.find("flops.backward")
        assert backward.expression is not None
        return node.replace(children=(node.children[0], backward.replace(expression=backward.expression // 2)))

    monkeypatch.setattr(flops, "training_flops", once)
    assert found_in(model_of("llama")) == {"flops.backward"}


def test_a_window_forgotten_while_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = flops_attention.score_pairs
    monkeypatch.setattr(
        flops_attention, "score_pairs", lambda work, *, causal, window=None, chunk=None: pairs(work, causal=causal)
    )
    assert found_in(model_of("gemma3_text")) == {"flops.decode"}


def test_a_batch_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes of unlike batches: a formula for one row cannot agree with either."""
    whole = check.flops
    monkeypatch.setattr(check, "flops", lambda model, **asked: whole(model, **{**asked, "batch": 1}))
    assert found_in(model_of("llama")) == FLOPS


# ---- the oracle itself ----------------------------------------------------------------------------------------------


def test_the_oracle_counts_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference without one of its projections is another count: it is run, not computed."""
    from txcalc.reference import feed_forward

    def skip(layer: Any, x_BTD: torch.Tensor, *_: Any) -> torch.Tensor:
        out: torch.Tensor = layer.down_proj(layer.up_proj(x_BTD))
        return out

    monkeypatch.setattr(feed_forward.FeedForward, "forward", skip)
    assert found_in(model_of("llama")) == FLOPS


def test_depthwise_convolutions_backward() -> None:
    """Twice the forward's: 2 rows, 11 tokens, 64 channels of 4 taps, both gradients; torch's own counter says more."""
    built = build(model_of("mamba"), device="meta")
    forward, backward = counting.forward_and_backward(built, counting.Work(2, 11))
    assert backward == 2 * forward


@pytest.mark.parametrize("model_type", ["llama", "deepseek_v3", "t5", "bert"])
def test_the_counter_adds_up_what_torchs_own_does(model_type: str) -> None:
    """FlopCounterMode itself, forward and backward; by itself, as it sees nothing of a call that ours remembers."""
    built = build(model_of(model_type), device="meta")
    work = counting.Work(2, 11, source=13 if model_type == "t5" else None)
    with FlopCounterMode(display=False) as counter:
        counting._loss(counting._forward(built, work)).backward()
    assert sum(counting.forward_and_backward(built, work)) == counter.get_total_flops()
