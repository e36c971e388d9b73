"""The table on a terminal: figures are whole however narrow it is."""

from __future__ import annotations

import io

import pytest

from txcalc.cards import load
from txcalc.formulas.attention import attention
from txcalc.report.attention_sections import costs_section, scores_section
from txcalc.report.document import Answer
from txcalc.report.rich_table import print_rich


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 160])
def test_no_figure_is_cut(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    tree = attention(load("llama3-8b"), ctx=131_072)
    sections = (scores_section(tree), costs_section(tree))
    out = io.StringIO()
    print_rich(Answer(command="attention", title="a title", model={}, tree=tree, sections=sections), out)
    assert "…" not in out.getvalue()
    for section in sections:
        for row in section.rows:
            assert all(cell in out.getvalue() for cell in row.cells[1:])
