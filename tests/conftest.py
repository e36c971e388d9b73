"""For every test: the hub is offline unless a test has one of its own, so that no name is looked up on the network.

Drawn shapes are the same in every run, so that a change is judged by what it changed; ``HYPOTHESIS_PROFILE=explore``
draws new ones.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("repeat", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once
