"""From a result tree to what a reader sees: table, JSON, Markdown, CSV. Knows trees, not where they came from."""

from txcalc.report.document import Answer, Row
from txcalc.report.write import FORMATS, render

__all__ = ["FORMATS", "Answer", "Row", "render"]
