"""Every card holds: its schema, its architecture in full, and every published figure, equal or explained."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.oracles import transformers_meta
from txcalc.cards import Card, all_cards, check, find, load, store
from txcalc.cards.checking import check_card
from txcalc.cards.store import YamlStore
from txcalc.configs import architecture_of
from txcalc.formulas.params import params

CARDS = {card.name: card for card in all_cards()}
NATIVE = {name for name, card in CARDS.items() if card.config["model_type"] == "transformer"}  # by hand, below
_ENTRIES = json.loads((Path(__file__).parents[1] / "data" / "oracle-open.json").read_text())["entries"]
_HUB_IDS = {alias: card.name for card in CARDS.values() for alias in card.aliases if "/" in alias}
RECORDED = {_HUB_IDS[entry["hf_id"]]: entry["params_total"] for entry in _ENTRIES if entry["hf_id"] in _HUB_IDS}
RENAMED = {"mpt": "MptForCausalLM", "phimoe": "PhimoeForCausalLM"}  # the hub's files name classes of their own code
DISTINCT = {
    str(card.config): name for name, card in CARDS.items()
}  # a name for each config: many embedders are one BERT


def total(config: Any) -> int:
    return int(params(architecture_of(config)).figures()["params.total"])


def changed(name: str, **config: Any) -> Card:
    return CARDS[name].replace(config={**CARDS[name].config, **config})


# ---- the cards that are shipped -------------------------------------------------------------------------------------


def test_every_card_holds_in_under_two_seconds() -> None:
    store.shipped.cache_clear()
    start = time.process_time()
    findings = check()
    assert findings == []
    assert time.process_time() - start < 2


def test_every_recorded_model_has_a_card() -> None:
    assert {entry["hf_id"] for entry in _ENTRIES} <= set(_HUB_IDS)


def test_the_models_that_must_be_there() -> None:
    wanted = """
    transformer-base transformer-big gpt2 gpt2-medium gpt2-large gpt2-xl gpt3-175b bert-base bert-large roberta-base
    roberta-large albert-base distilbert-base t5-small t5-base t5-large t5-3b t5-11b t5-v1_1-base bart-base bart-large
    llama-7b llama-13b llama-33b llama-65b llama2-7b llama2-13b llama2-70b llama3-8b llama3-70b llama3.1-8b
    llama3.1-70b llama3.1-405b llama3.2-1b llama3.2-3b llama3.3-70b codellama-7b codellama-34b mistral-7b
    mistral-7b-v0.3 mixtral-8x7b mixtral-8x22b gemma-2b gemma-7b gemma-2-9b gemma-3-1b gemma-3-27b phi-1.5 phi-2
    phi-3-mini phi-4 falcon-7b falcon-40b falcon-180b mpt-7b mpt-30b bloom-176b gpt-neox-20b gpt-j-6b pythia-70m
    opt-175b palm-540b deepseek-v2 deepseek-v2-lite deepseek-v3 deepseek-r1 qwen2.5-7b qwen3-4b qwen3-30b-a3b
    qwen3-next-80b-a3b gpt-oss-20b gpt-oss-120b jamba-v0.1 mamba-2.8b starcoder starcoder2-7b stablelm-3b command-r
    aya-23-8b olmo-2-7b
    """.split()
    assert len(CARDS) >= 60
    assert set(wanted) <= set(CARDS)


@pytest.mark.parametrize(
    ("name", "truth"),
    [
        ("llama3-8b", 8_030_261_248),
        ("mixtral-8x7b", 46_702_792_704),
        ("qwen3-4b", 4_022_468_096),
        ("deepseek-v3", 671_026_404_352),
        ("gemma-3-27b-text", 27_009_346_304),
        ("gpt-oss-20b", 20_914_757_184),
        ("qwen3-next-80b-a3b", 79_674_391_296),
        ("t5-small", 60_506_624),
    ],
)
def test_counts_measured_on_transformers_own_models(name: str, truth: int) -> None:
    """Measured once on the meta device with transformers 5.23, tied tensors counted once."""
    assert total(CARDS[name].config) == truth


def test_the_2017_transformer_by_hand() -> None:
    """One table of 37,000 * 512, shared by both stacks and the head. An encoder layer: 4 * 512^2 of attention without
    biases, 2 * 512 * 2048 + 2048 + 512 of feed-forward, two LayerNorms of 2 * 512. A decoder layer: 4 * 512^2 and a
    LayerNorm more. Six of each: 18,944,000 + 6 * 3,150,336 + 6 * 4,199,936.
    """
    assert total(CARDS["transformer-base"].config) == 63_045_632


def test_palm_by_hand() -> None:
    """D = 18,432, 48 query heads and 1 KV head of 256, F = 73,728 gated, V = 256,000 tied, no bias; a layer has one
    norm (parallel): 118 * (2*D*48*256 + 2*D*256 + 3*D*F + D) + V*D + D.
    """
    assert total(CARDS["palm-540b"].config) == 540_356_474_880


def test_differences_that_are_a_tied_matrix_are_its_size() -> None:
    explained = [(card, e) for card in CARDS.values() for e in card.published if "tied output matrix" in e.relation]
    assert len(explained) >= 5
    for card, entry in explained:
        embedding = load(card.name).main.embedding
        assert entry.difference == embedding.vocab_size * embedding.embedding_size  # type: ignore[union-attr]


def test_deepseek_v3s_files_hold_what_its_card_says() -> None:
    """The FP8 matrices have a scale per block of 128 * 128; the multi-token-prediction block is one more layer with
    experts, a projection of [2D, D], three norms, and copies of embedding and head.
    """

    def scales(rows: int, columns: int) -> int:
        return math.ceil(rows / 128) * math.ceil(columns / 128)

    D = 7168
    shapes = [(1536, D), (128 * 192, 1536), (576, D), (128 * 256, 512), (D, 128 * 128)]
    attention = sum(scales(*shape) for shape in shapes)
    experts = 257 * 3 * scales(2048, D)
    quantised = 61 * attention + 3 * 3 * scales(18_432, D) + 58 * experts + attention + experts
    layer = sum(rows * columns for rows, columns in shapes) + 1536 + 512 + 257 * 3 * 2048 * D + 256 * D + 256 + 2 * D
    prediction = layer + 2 * D * D + 3 * D + 2 * 129_280 * D
    v3 = next(e for e in CARDS["deepseek-v3"].published if e.value == 684_531_386_000)
    r1 = next(e for e in CARDS["deepseek-r1"].published if e.value == 684_489_845_504)
    assert v3.difference == prediction + quantised + 58 * 256
    assert r1.difference == prediction + 58 * 256


def test_context_lengths_are_the_configs_own() -> None:
    """Save where a config counts rows that are no positions (RoBERTa's two), says another length than its makers, or
    nothing.
    """
    two_more = {"esm"}
    otherwise = ("command-r", "lfm2", "nomic")
    for name, card in CARDS.items():
        own = architecture_of(card.config).max_position_embeddings
        if own is not None and card.context_length is not None and not name.startswith(otherwise):
            assert card.context_length == own - 2 * (card.config["model_type"] in two_more), name


def test_sources_are_public_places() -> None:
    for card in CARDS.values():
        for text in (card.read_from, *(entry.source for entry in card.published)):
            assert len(text) > 3
            assert not re.search(r"^/|/work|/tmp|shared|oracle", text), (card.name, text)


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_a_card_counts_as_was_recorded(name: str) -> None:
    """Truth measured on transformers' own models, by hub id; see tests/data/oracle-open.json."""
    assert total(CARDS[name].config) == RECORDED[name]


@pytest.mark.parametrize("name", sorted({*DISTINCT.values()} - RECORDED.keys() - NATIVE))
def test_a_card_counts_as_transformers_does(name: str) -> None:
    config = dict(CARDS[name].config)
    if config["model_type"] == "kimi_k2":
        config["model_type"] = "deepseek_v3"  # what transformers knows it as
    if config["model_type"] in RENAMED:
        config["architectures"] = [RENAMED[config["model_type"]]]
    figures = params(architecture_of(config)).figures()
    tied = config["model_type"] in {"t5", "mt5", "umt5"}  # by transformers 5, where the files hold a head of their own
    untied = figures["params.head"] if tied else 0
    assert figures["params.total"] - untied == transformers_meta.num_params(config)


# ---- what check finds -----------------------------------------------------------------------------------------------


def problems(card: Card) -> str:
    return " | ".join(f"{each.key}: {each.problem} ({each.hint})" for each in check_card(card))


def test_one_kv_head_less_is_found() -> None:
    found = problems(changed("llama3-8b", num_key_value_heads=4))
    assert "published.params.total" in found
    assert "published 8,030,261,248" in found
    assert "differ by" in found
    assert "source:" in found


def test_an_unexplained_bias_is_found() -> None:
    assert "differ by" in problems(changed("qwen3-4b", attention_bias=True))


def test_a_wrong_explanation_is_found() -> None:
    card = CARDS["qwen3-0.6b"]
    entry = next(each for each in card.published if each.difference)
    off_by_one = entry.replace(difference=entry.difference + 1)
    assert "explained are +155,582,465" in problems(card.replace(published=(off_by_one,)))


def test_a_rounding_that_does_not_hold_is_found() -> None:
    card = CARDS["gpt3-175b"]
    assert "differ by" in problems(card.replace(published=(card.published[0].replace(value=175_600_000_000),)))


def test_an_unknown_figure_is_found() -> None:
    card = CARDS["llama3-8b"]
    found = problems(card.replace(published=(card.published[0].replace(figure="params.totl"),)))
    assert "not a figure that txcalc computes (did you mean params.total?)" in found


def test_a_config_that_is_not_understood_in_full_is_found() -> None:
    assert "config: new_thing = 3" in problems(changed("llama3-8b", new_thing=3))
    assert "hidden_size is" in problems(changed("llama3-8b", hidden_size="4096"))
    without = {key: value for key, value in CARDS["llama3-8b"].config.items() if key != "architectures"}
    assert "config.architectures: is missing" in problems(CARDS["llama3-8b"].replace(config=without))


def test_two_cards_with_one_name_are_found() -> None:
    twin = CARDS["llama3-8b"].replace(name="twin", aliases=("LLAMA_3_8B",))
    (found,) = check([CARDS["llama3-8b"], twin])
    assert (found.card, found.key) == ("twin", "aliases")
    assert "llama3-8b" in found.problem


def test_a_card_that_cannot_be_read_is_a_finding_and_the_others_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (Path(__file__).parents[2] / "model_cards" / "gpt2.yaml").read_text()
    (tmp_path / "gpt2.yaml").write_text(source)
    (tmp_path / "broken.yaml").write_text(source.replace("title", "titel"))
    (tmp_path / "wrong.yaml").write_text(
        source.replace("name: gpt2", "name: wrong").replace("n_layer: 12", "n_layer: 13")
    )
    monkeypatch.setattr("txcalc.cards.checking.shipped", lambda: YamlStore(str(tmp_path)))
    found = check()
    assert {each.card for each in found} == {"broken", "wrong"}
    assert any("model_cards/broken.yaml: titel is not a key" in each.problem for each in found)
    assert any("differ by" in each.problem for each in found if each.card == "wrong")


def test_find_returns_the_record() -> None:
    card = find("meta-llama/Meta-Llama-3-8B")
    assert (card.name, card.family, card.context_length) == ("llama3-8b", "llama", 8192)
