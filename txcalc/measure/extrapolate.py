"""A whole model's times from two shorter ones: what one more layer takes, and what stands around the layers."""

from __future__ import annotations

from txcalc.measure.figures import Figure


def extrapolated(many: list[Figure], few: list[Figure], *, layers: tuple[int, int], whole: int) -> list[Figure]:
    """Seconds of ``whole`` layers: t(n) = around + n * layer through the two depths that were timed (n, fewer).

    A machine's noise may make the deeper one look faster: then nothing is said.
    """
    n, m = layers
    shorter = {figure.key: figure.measured for figure in few if figure.unit == "seconds"}
    made = []
    for figure in many:
        less = shorter.get(figure.key)
        if figure.unit != "seconds" or figure.measured is None or less is None or n == m:
            continue
        layer = (figure.measured - less) / (n - m)
        if layer > 0:
            made.append(
                Figure(
                    name=f"{figure.name}, all {whole} layers",
                    unit="seconds",
                    what=figure.what,
                    measured=figure.measured + (whole - n) * layer,
                    estimated=f"through {m} and {n} layers",
                    note=f"{layer * 1e3:,.2f} ms a layer",
                )
            )
    return made
