"""The errors a user can meet, each one line and a hint.

TxcalcError            base of all; never raised itself
|-- RequestError       the request cannot be answered             exit 1
|   |-- ModelError     a model's name, file or config is at fault
|   `-- MissingExtraError  an optional package is not installed
`-- UsageError         the command line cannot be read            exit 2
"""

from __future__ import annotations


class TxcalcError(Exception):
    """Anything that a user is told in one line: what is wrong with its value, then a hint."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RequestError(TxcalcError):
    """The request was understood and cannot be answered."""


class ModelError(RequestError):
    """A model's name, file or config is at fault."""


class MissingExtraError(RequestError):
    """An optional package that this request needs is not installed."""


class UsageError(TxcalcError):
    """The command line cannot be read."""

    exit_code = 2
