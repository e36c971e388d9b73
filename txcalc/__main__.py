"""``python -m txcalc``."""

from txcalc.cli import entry_point

entry_point()
