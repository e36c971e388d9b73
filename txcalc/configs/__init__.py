"""From a config.json to an architecture: one file per family, failing closed (see ``reader``)."""

from txcalc.configs.reader import Reader
from txcalc.configs.registry import architecture_of, known_types

__all__ = ["Reader", "architecture_of", "known_types"]
