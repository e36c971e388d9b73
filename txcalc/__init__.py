"""txcalc: the shape and the cost of transformer models: exact, shown and checked."""

__version__ = "0.1.0"
