"""``--extra``: blocks of multi-token prediction beside a model, opened and added, or refused where there are none."""

from __future__ import annotations

from collections.abc import Callable

from tests.cli.conftest import Ran

Run = Callable[..., Ran]


def test_blocks_stand_apart(txcalc: Run) -> None:
    answer = txcalc("params", "deepseek-v3", "--json").json()["params"]
    assert answer["total"] == 671_026_404_352
    assert answer["extra"] == 11_610_067_968  # by hand in test_prediction
    assert "with_extra" not in answer


def test_with_extra_is_the_sum(txcalc: Run) -> None:
    ran = txcalc("params", "deepseek-v3", "--extra", "--json")
    assert ran.json()["params"]["with_extra"] == 671_026_404_352 + 11_610_067_968
    assert "11,610,067,968" in txcalc("params", "deepseek-v3", "--extra").out
    assert "682,636,472,320" in txcalc("params", "deepseek-v3", "--extra", "--explain").out


def test_nothing_beside_a_model_is_said(txcalc: Run) -> None:
    ran = txcalc("params", "llama3-8b", "--extra")
    assert ran.code == 1
    assert "names no multi-token-prediction blocks" in ran.err
    assert "extra" not in txcalc("params", "llama3-8b", "--json").json()["params"]


def test_a_what_if_names_blocks(txcalc: Run) -> None:
    """Two blocks are twice one."""

    def blocks(count: int) -> dict[str, int]:
        ran = txcalc("params", "deepseek-v3", "--set", f"num_nextn_predict_layers={count}", "--json")
        found: dict[str, int] = ran.json()["params"]
        return found

    one, two = blocks(1), blocks(2)
    assert two["extra"] == 2 * one["extra"]
    assert two["total"] == one["total"]
