"""For every test: the hub is offline unless a test has one of its own, so that no name is looked up on the network."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once
