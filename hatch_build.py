"""Puts all model cards into the wheel as one JSON file, so that no command of an installed txcalc reads YAML.

The file is written outside the source tree: a checkout must never find one that is out of date.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CardsHook(BuildHookInterface):
    """Packs ``model_cards/*.yaml`` when a wheel is built; an editable installation reads the YAML files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Writes the file and tells the builder where it goes in the wheel."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from txcalc.cards.store import PACKED_NAME, YamlStore, pack

        store = YamlStore(os.path.join(self.root, "model_cards"))
        self._directory = tempfile.TemporaryDirectory()
        path = os.path.join(self._directory.name, PACKED_NAME)
        with open(path, "w", encoding="utf-8") as file:
            file.write(pack(store.card(name) for name in store.names()))
        build_data["force_include"][path] = f"txcalc/{PACKED_NAME}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes the file again."""
        if version != "editable":
            self._directory.cleanup()
