"""Heat maps in a terminal and as SVG."""

from __future__ import annotations

from xml.dom.minidom import parseString

import pytest

from txcalc.report.heatmap import PLAIN, HeatMap, draw, pooled
from txcalc.report.svg import svg

SMALL = HeatMap(
    title="layer 0, head 0", weights=[[1.0, 0.0], [0.25, 0.5]], rows=("the", " cat"), columns=("the", " cat")
)


def test_by_hand() -> None:
    assert draw(SMALL, width=80, colour=False) == [
        "layer 0, head 0",
        "                  0",
        "         the    0 ██",
        "        ·cat    1 ░░▒▒",
        "             strongest shade: 1.000",
    ]
    assert draw(SMALL, width=80, colour=False, shades=PLAIN)[2:4] == ["         the    0 ##", "        ·cat    1 ..::"]


def test_colour_only_where_it_is_asked_for() -> None:
    assert "\x1b" not in "".join(draw(SMALL, width=80, colour=False))
    line = draw(SMALL, width=80, colour=True)[2]
    assert "\x1b[48;5;255m  \x1b[48;5;232m  " in line
    assert line.endswith("\x1b[0m")


@pytest.mark.parametrize("size", [10, 31, 62, 63, 500])
def test_no_line_is_wider_than_asked_for(size: int) -> None:
    map_ = HeatMap(title="t", weights=[[1.0] * size] * size, rows=("x" * 50,) * size, columns=("x",) * size)
    lines = draw(map_, width=80, colour=False)
    assert max(map(len, lines)) <= 80
    assert ("each cell" in lines[-1]) == (size > 62)


def test_pooling_keeps_the_largest() -> None:
    assert pooled([[1, 2, 3], [4, 5, 6], [7, 8, 9]], 2) == [[5, 6], [8, 9]]


def test_odd_tokens_stay_in_their_line() -> None:
    map_ = HeatMap(title="t", weights=[[1.0]], rows=("\x1b[31m\n",), columns=("a",))
    lines = draw(map_, width=80, colour=False)
    assert not any("\x1b" in line or "\n" in line for line in lines)


def test_nothing_but_zeros_is_drawn_empty() -> None:
    map_ = HeatMap(title="t", weights=[[0.0, 0.0]], rows=("a",), columns=("a", "b"))
    assert draw(map_, width=80, colour=False)[2] == "           a    0 "


# ---- SVG ------------------------------------------------------------------------------------------------------------


def test_an_svg_has_a_square_for_every_weight() -> None:
    """Three weights above nothing: three squares, of one opacity each; a frame and a background."""
    document = parseString(svg([SMALL], "a title"))
    squares = [each for each in document.getElementsByTagName("rect") if each.getAttribute("fill-opacity")]
    assert [each.getAttribute("fill-opacity") for each in squares] == ["1.000", "0.250", "0.500"]
    assert squares[1].getAttribute("x") == squares[0].getAttribute("x")
    assert float(squares[1].getAttribute("y")) > float(squares[0].getAttribute("y"))
    texts = [each.firstChild.data for each in document.getElementsByTagName("text")]
    assert texts == ["a title", "layer 0, head 0 (darkest: 1.000)", "the", " cat", "the", " cat"]


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_panels_lie_inside_and_apart(count: int) -> None:
    document = parseString(svg([SMALL] * count, "t"))
    root = document.documentElement
    assert root is not None
    width, height = float(root.getAttribute("width")), float(root.getAttribute("height"))
    frames = [each for each in document.getElementsByTagName("rect") if each.getAttribute("fill") == "none"]
    boxes = [tuple(float(each.getAttribute(key)) for key in ("x", "y", "width", "height")) for each in frames]
    assert len(boxes) == count
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in boxes)
    for i, (x, y, w, h) in enumerate(boxes):
        for x2, y2, _, _ in boxes[:i]:
            assert abs(x - x2) >= w or abs(y - y2) >= h


def test_tokens_cannot_break_the_document() -> None:
    map_ = HeatMap(title="<&>", weights=[[1.0]], rows=("</text><script>",), columns=("\x00\x1b",))
    texts = [each.firstChild.data for each in parseString(svg([map_], "&")).getElementsByTagName("text")]
    assert "</text><script>" in texts


def test_long_maps_are_pooled() -> None:
    map_ = HeatMap(title="t", weights=[[1.0] * 600] * 600, rows=("x",) * 600, columns=("x",) * 600)
    text = svg([map_], "t")
    assert text.count("<rect") < 130**2
