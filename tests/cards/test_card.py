"""A card's schema is strict: a slip is an error that names the file, the key, and the nearest key that there is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cards.conftest import refused
from txcalc.cards.card import Published, card_from, plain

WHOLE: dict[str, Any] = {
    "name": "mine",
    "title": "Mine",
    "family": "mine",
    "publisher": "me",
    "released": "2026",
    "licence": "MIT",
    "aliases": ["org/mine"],
    "context_length": 2048,
    "read_from": "my disk",
    "config": {"model_type": "llama"},
    "published": [{"figure": "params.total", "value": 7, "source": "me", "relation": "exact"}],
    "notes": "none",
}


def test_a_card_goes_through_its_record_unchanged() -> None:
    assert plain(card_from(WHOLE, "mine.yaml", complete=True)) == WHOLE


def test_a_card_of_ones_own_needs_a_config_and_a_name() -> None:
    assert card_from({"config": {}}, "x.yaml", name="x").name == "x"
    assert card_from({"config": {}, "name": "own"}, "x.yaml", name="x").name == "own"
    with refused("x.yaml: config is missing"):
        card_from({"name": "x"}, "x.yaml")


@pytest.mark.parametrize("key", ["title", "family", "publisher", "released", "licence", "read_from", "config"])
def test_a_shipped_card_needs_all(key: str) -> None:
    with refused(f"mine.yaml: {key} is missing"):
        card_from({name: value for name, value in WHOLE.items() if name != key}, "mine.yaml", complete=True)


@pytest.mark.parametrize("key", ["aliases", "context_length", "published", "notes"])
def test_a_shipped_card_may_lack(key: str) -> None:
    assert card_from({name: value for name, value in WHOLE.items() if name != key}, "mine.yaml", complete=True)


@pytest.mark.parametrize(
    ("key", "value", "words", "hint"),
    [
        ("titel", "x", "titel is not a key", "title"),
        ("license", "MIT", "license is not a key", "licence"),
        ("zzzz", 1, "zzzz is not a key", "known keys"),
        ("config", [1], "config is [1]; expected an object", ""),
        ("name", 7, "name is 7; expected a text", ""),
        ("released", 2024, "released is 2024; expected a text", ""),
        ("title", "", 'title is ""; expected a text', ""),
        ("aliases", "org/mine", 'aliases is "org/mine"; expected a list', ""),
        ("aliases", [1], "aliases is 1; expected a list of names", ""),
        ("context_length", "8k", 'context_length is "8k"; expected a whole number', ""),
        ("context_length", 0, "context_length is 0; expected a positive number", ""),
        ("context_length", True, "context_length is true; expected a whole number", ""),
        ("published", {}, "published is {}; expected a list", ""),
        ("published", [3], "published[0] is 3; expected an object", ""),
    ],
)
def test_a_wrong_field_is_named(key: str, value: Any, words: str, hint: str) -> None:
    with refused(f"mine.yaml: {words}", hint=hint):
        card_from({**WHOLE, key: value}, "mine.yaml")


@pytest.mark.parametrize(
    ("changes", "words", "hint"),
    [
        ({"vale": 1}, "published[0].vale is not a key", "value"),
        ({"value": None}, "published[0].value is null; expected a whole number", ""),
        ({"value": 7.5}, "published[0].value is 7.5; expected a whole number", ""),
        ({"source": ...}, "published[0].source is missing", ""),
        ({"relation": "counts buffers"}, "published[0].difference is missing", "relation is exact"),
        ({"relation": "rounded"}, "published[0].rounded_to is missing", "relation is exact"),
        ({"difference": 3}, "published[0].difference does not go with relation", "relation is exact"),
        ({"relation": "rounded", "rounded_to": 1, "difference": 1}, "published[0].difference does not go", ""),
    ],
)
def test_a_wrong_published_figure_is_named(changes: dict[str, Any], words: str, hint: str) -> None:
    entry = {key: value for key, value in {**WHOLE["published"][0], **changes}.items() if value is not ...}
    with refused(f"mine.yaml: {words}", hint=hint):
        card_from({**WHOLE, "published": [entry]}, "mine.yaml")


def published(**fields: Any) -> Published:
    return Published(**{"figure": "params.total", "value": 100, "source": "me", "relation": "exact", **fields})


def test_exact_means_equal() -> None:
    assert published().agrees(100)
    assert not published().agrees(101)


def test_a_difference_is_published_less_computed() -> None:
    explained = published(relation="counts 10 buffers", difference=10)
    assert explained.agrees(90)
    assert not explained.agrees(110)
    assert not explained.agrees(91)


def test_rounded_means_within_half_a_unit() -> None:
    rounded = published(relation="rounded", rounded_to=10)
    assert [each for each in range(80, 120) if rounded.agrees(each)] == list(range(95, 106))
