"""Loaded once by the process that those of ``check`` are forked from, so that they share what torch is.

Where the one that asked has ended, a process that is just starting finds nothing any more: that is no news to anybody.
A fault of a process that works reaches the pool, which says so.
"""

from __future__ import annotations

import sys

sys.excepthook = lambda *_: None

import torch._dynamo  # noqa: E402, F401  # fake tensors load it late, and it takes as long as torch itself

import txcalc.measure.check  # noqa: E402
import txcalc.measure.check_activations  # noqa: E402, F401
