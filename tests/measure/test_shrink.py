"""Few layers instead of many: every kind is there, unlike often, and what refers to another layer still does."""

from __future__ import annotations

from tests.reference.tiny import attention, decoder, feed_forward, layer
from txcalc.architecture import SelfAttention
from txcalc.cards import load
from txcalc.measure.shrink import at_depth, at_most, in_turns, layers_of, outline


def test_one_kind_runs_once_then_twice() -> None:
    model = load("llama3.1-405b")
    assert [layers_of(at_depth(model, times)) for times in (1, 2, 3)] == [1, 2, 3]
    assert layers_of(model) == 126


def test_every_kind_is_kept_in_order_and_unlike_often() -> None:
    """Gemma 3: windowed layers first, then a full one; the second kind runs three times where the first runs twice."""
    model = load("gemma-3-27b-text")
    once, several = (at_depth(model, times).main for times in (1, 2))
    assert once.runs == ((0, 1), (1, 1))
    assert several.runs == ((0, 2), (1, 3))
    assert set(once.layers) == set(several.layers) == set(model.main.layers)


def test_kinds_have_one_layer_and_two_in_turns() -> None:
    """No kind is as often in one as in the other; one kind alone is never a single layer."""
    model = load("gemma-3-27b-text")
    assert [in_turns(model, turn).main.runs for turn in (1, 2)] == [((0, 2), (1, 1)), ((0, 1), (1, 2))]
    assert [layers_of(in_turns(load("llama3.1-405b"), turn)) for turn in (1, 2)] == [2, 3]


def test_a_kind_that_is_there_once_stays_alone() -> None:
    """DeepSeek-V2-Lite: one dense layer, then 26 with experts."""
    assert at_most(load("deepseek-v2-lite"), 2).main.runs == ((0, 1), (1, 2))


def test_layers_that_differ_in_a_constant_are_one_kind() -> None:
    """MiniMax-01: 70 decays in 80 layers, and softmax attention: two kinds."""
    model = load("minimax-text-01")
    assert len(model.main.layers) == 71
    assert [layers_of(at_depth(model, times)) for times in (1, 2)] == [2, 5]


def test_both_stacks_shrink() -> None:
    small = at_depth(load("t5-small"), 1)
    assert [stack.num_hidden_layers for stack in small.stacks] == [1, 1]


def test_layers_that_read_the_keys_of_another_still_do() -> None:
    """Depths 0 to 5: own, own windowed, four that read 0 and 1 in turn. Small: the kinds at 0, 1, 2, 3."""
    own, windowed = layer(attention(), feed_forward()), layer(attention(window=4), feed_forward())
    reads = [layer(attention(kv_source=source), feed_forward()) for source in (0, 1, 0, 1)]
    model = decoder(own, windowed, *reads)

    def sources(times: int) -> list[int | None]:
        stack = at_depth(model, times).main
        found = [each.sublayers()[0] for each in stack.sequence()]
        return [each.kv_source for each in found if isinstance(each, SelfAttention)]

    assert sources(1) == [None, None, 0, 1]
    assert sources(2) == [None, None, None, None, None, 0, 0, 2, 2, 2]


def test_layers_with_a_bias_elsewhere_are_kinds_of_their_own() -> None:
    """Negative control: the same layer again, with a default written out, is no kind of its own."""
    usual, other, written = (
        attention(**bias) for bias in ({"q_bias": True}, {"o_bias": True}, {"q_bias": True, "sinks": False})
    )
    assert at_depth(decoder(layer(usual), layer(other), layer(usual)), 1).main.num_hidden_layers == 2
    assert at_depth(decoder(layer(usual), layer(written), layer(usual)), 1).main.num_hidden_layers == 1


def test_layers_that_share_parameters_still_do() -> None:
    small = at_depth(load("albert-base"), 2)
    assert {each.shared for each in small.main.sequence()} == {load("albert-base").main.layers[0].shared} != {""}


def test_an_outline_is_what_a_model_is_made_of_whatever_its_sizes() -> None:
    """Llama 3's 8B and 70B run the same operators; a bias, a window, a tied table, one KV head make another model."""
    assert outline(load("llama3-8b")) == outline(load("llama3-70b"))
    hash(outline(load("llama3-8b")))
    plain = decoder(layer(attention(), feed_forward()))
    others = [
        decoder(layer(attention(q_bias=True), feed_forward())),
        decoder(layer(attention(o_bias=True), feed_forward())),  # what is true is the same, where it is not
        decoder(layer(attention(window=4), feed_forward())),
        decoder(layer(attention(num_key_value_heads=1), feed_forward())),
        decoder(layer(attention(num_key_value_heads=attention().num_attention_heads), feed_forward())),
        decoder(layer(attention())),
        decoder(layer(attention(), feed_forward()), layer(attention())),
    ]
    assert len({outline(each) for each in (plain, *others)}) == 8
    assert outline(load("llama3.2-1b")) != outline(load("llama3-8b"))  # tied
