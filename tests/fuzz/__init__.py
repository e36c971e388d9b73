"""Bytes that a stranger made, for the parsers of files: guided by coverage (atheris), or drawn (hypothesis)."""
