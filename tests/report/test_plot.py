"""Curves as text and SVG: labels that do not run into each other, marks where the values are."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from txcalc.report.plot import Plot, draw, svg

POINTS = (128, 256, 512, 1024, 2048, 4096, 8192, 9216)
PLOT = Plot(title="a <curve> & more", x=POINTS, curves={"line": POINTS, "square": [x * x for x in POINTS]}, unit="B")


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_labels_of_the_abscissa_are_whole(width: int) -> None:
    """Each is one of the contexts as it is written; the first and the last are there."""
    axis = draw(PLOT, width=width)[18]
    assert set(axis.split()) <= {f"{x:,}" for x in POINTS}
    assert axis.split()[-1] == "9,216"
    assert width < 40 or axis.split()[0] == "128"
    assert max(map(len, draw(PLOT, width=width))) <= max(width, 30)


def test_the_highest_and_the_lowest_are_at_the_ends() -> None:
    """9,216^2 bytes are 81 MiB, at the top right; 128 bytes at the bottom left."""
    lines = draw(PLOT, width=60)
    assert lines[1].strip().startswith("81 MiB")
    assert lines[1].endswith("+")
    assert lines[16].strip().startswith("128 B |*")


def test_svg_is_one_document_with_every_curve() -> None:
    root = ElementTree.fromstring(svg(PLOT))
    assert sum(each.tag.endswith("polyline") for each in root.iter()) == 2
    assert any(each.text == "a <curve> & more" for each in root.iter())


def test_one_point_is_drawn() -> None:
    assert draw(Plot(title="", x=(1,), curves={"one": [5]}, unit="FLOP"), width=40)
