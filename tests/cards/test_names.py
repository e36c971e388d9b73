"""What people type for a name: forgiven where it can only mean one model, and never guessed where it could mean two."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cards.conftest import refused
from txcalc.cards import find, load
from txcalc.cards.names import dense_key_of, index_of, key_of, nearest


@pytest.mark.parametrize(
    "typed",
    [
        "llama3-8b",
        "LLAMA3-8B",
        "Llama 3 8B",
        "llama_3_8b",
        "llama-3.8b",
        "llama3:8b",
        "llama38b",
        "  llama3-8b ",
        "meta-llama/Meta-Llama-3-8B",
        "Meta-Llama-3-8B",
        "meta-llama/Meta-Llama-3-8B-Instruct",
    ],
)
def test_one_model_many_spellings(typed: str) -> None:
    assert load(typed).name == "llama3-8b"


@pytest.mark.parametrize(
    ("typed", "card"),
    [
        ("opt-1.3b", "opt-1.3b"),
        ("opt-1-3b", "opt-1.3b"),
        ("opt_13b", "opt-13b"),
        ("opt13b", "opt-13b"),
        ("llama-3-1-8b", "llama3.1-8b"),
        ("gemma-2b", "gemma-2b"),
        ("gemma-2-2b", "gemma-2-2b"),
        ("qwen2.5-7b", "qwen2.5-7b"),
        ("qwen2-7b", "qwen2-7b"),
        ("gpt-3", "gpt3-175b"),
        ("mistral-7b-v0.1", "mistral-7b"),
    ],
)
def test_digits_keep_their_separators(typed: str, card: str) -> None:
    """1.3 and 13 are two sizes: a separator between digits is kept, whichever it is."""
    assert find(typed).name == card


@pytest.mark.parametrize("typed", ["pythia14b", "llama31-8b", "qwen257b"])
def test_what_could_be_another_size_is_not_guessed(typed: str) -> None:
    """Pythia has a 1.4B and no 14B: dropping the dot would answer for a model that was not asked for."""
    with refused("no model is known", hint="did you mean"):
        load(typed)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("llama3-9b", "llama3-8b"),
        ("lama3-8b", "llama3-8b"),
        ("mixtrall-8x7b", "mixtral-8x7b"),
        ("deepsek-v3", "deepseek-v3"),
        ("gpt2-xxl", "gpt2-xl"),
    ],
)
def test_the_nearest_names_are_suggested(typed: str, meant: str) -> None:
    with refused(typed, hint=meant):
        load(typed)


def test_a_name_like_nothing_gets_no_suggestion() -> None:
    with refused("zzzzzz", hint="txcalc cards"):
        load("zzzzzz")


def test_a_name_of_a_million_characters_is_refused_at_once() -> None:
    with refused("no model is known"):
        load("x" * 10**6)


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_keys_hold_letters_digits_and_dots_between_digits(name: str) -> None:
    for key in (key_of(name), dense_key_of(name)):
        assert all(each.isascii() and (each.isalnum() or each == ".") for each in key)
        assert all(a.isdigit() and b.isdigit() for a, dot, b in zip(key, key[1:], key[2:], strict=False) if dot == ".")


@given(st.from_regex(r"[a-z]{1,5}[0-9]{1,2}([-_. :][0-9]{1,2}){0,2}[-_.]?b", fullmatch=True))
@settings(max_examples=200, deadline=None)
def test_any_separator_means_the_same(name: str) -> None:
    assert len({key_of(name.translate({ord(each): other for each in "-_. :"})) for other in "-_. :/"}) == 1


def test_a_name_that_means_two_cards_finds_neither() -> None:
    index = index_of({"a-1": ["x/same"], "b-2": ["y/same"]})
    assert index["xsame"] == "a-1"
    assert "same" not in index


def test_a_cards_own_name_comes_before_what_is_derived_from_anothers() -> None:
    assert index_of({"same": [], "b": ["org/same"]})["same"] == "same"


def test_dashes_may_be_dropped_where_that_is_unambiguous() -> None:
    assert index_of({"a1-2b": []})["a12b"] == "a1-2b"
    assert index_of({"a1-2b": [], "a12b": []})["a12b"] == "a12b"
    assert "a123b" not in index_of({"a1-23b": [], "a12-3b": []})


def test_a_family_comes_before_a_later_version_of_it() -> None:
    index = index_of({"qwen3.5-2b": [], "qwen3-30b": [], "qwen3-235b": [], "qwen2-7b": []})
    assert nearest("qwen3", index) == ["qwen3-30b", "qwen3-235b", "qwen3.5-2b"]


def test_nearest_begins_with_what_was_typed() -> None:
    assert nearest("mamba", {"mamba130m": "mamba-130m", "mambo": "mambo"})[0] == "mamba-130m"
