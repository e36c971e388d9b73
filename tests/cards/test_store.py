"""Where cards are kept: YAML in a checkout, one JSON in a wheel, and both say the same."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cards.conftest import refused
from txcalc.cards import all_cards, find, store
from txcalc.cards.store import PackedStore, YamlStore, pack

ROOT = Path(__file__).parents[2]
CARD = """
name: {name}
title: A
family: f
publisher: p
released: '2026'
licence: MIT
read_from: here
config: {{model_type: llama, architectures: [LlamaForCausalLM]}}
aliases: {aliases}
"""


@pytest.fixture
def packed(tmp_path: Path) -> PackedStore:
    path = tmp_path / "model_cards.json"
    path.write_text(pack(all_cards()))
    return PackedStore(str(path))


@pytest.fixture
def _fresh() -> Iterator[None]:
    store.shipped.cache_clear()
    yield
    store.shipped.cache_clear()


def directory_of(path: Path, **aliases: str) -> YamlStore:
    path.mkdir(parents=True, exist_ok=True)
    for name, listed in aliases.items():
        (path / f"{name}.yaml").write_text(CARD.format(name=name, aliases=listed))
    return YamlStore(str(path))


def test_the_wheels_cards_are_the_checkouts(packed: PackedStore) -> None:
    checkout = YamlStore(str(ROOT / "model_cards"))
    assert packed.names() == checkout.names()
    assert [packed.card(name) for name in packed.names()] == [checkout.card(name) for name in checkout.names()]
    assert packed.index() == checkout.index()


def test_every_name_and_alias_finds_its_card_in_both(packed: PackedStore) -> None:
    for card in all_cards():
        for name in (card.name, *card.aliases):
            assert find(name) == card
            assert packed.get(name) == card


def test_the_changelog_counts_them() -> None:
    line = next(line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if "model cards with" in line)
    said = int(line.split("Over ")[1].split()[0])
    assert said < len(all_cards()) <= said + 100


def test_packing_depends_on_the_cards_alone() -> None:
    assert pack(all_cards()) == pack(reversed(all_cards()))


def test_the_wheels_path_does_not_import_yaml(tmp_path: Path) -> None:
    path = tmp_path / "model_cards.json"
    path.write_text(pack(all_cards()))
    code = (
        "import sys\n"
        "from txcalc.cards.store import PackedStore\n"
        "import txcalc.cards, txcalc.configs\n"
        "card = PackedStore(sys.argv[1]).get('Meta-Llama-3-8B')\n"
        "txcalc.configs.architecture_of(card.config)\n"
        "assert not {'yaml', 'torch', 'numpy', 'huggingface_hub'} & set(sys.modules), 'too much loaded'\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=ROOT)


def test_a_hit_by_file_name_reads_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = directory_of(tmp_path, one="[]", two="[org/zwei]", three="[]")
    read: list[str] = []
    real = store.read_mapping
    monkeypatch.setattr(store, "read_mapping", lambda path: read.append(Path(path).stem) or real(path))
    assert cards.get("T.W.O") is not None
    assert read == ["two"]
    assert cards.get("zwei") is not None
    assert sorted(read) == ["one", "three", "two"]  # an alias needs them all, each once


def test_a_cards_name_is_its_files(tmp_path: Path) -> None:
    cards = directory_of(tmp_path, one="[]")
    (tmp_path / "one.yaml").rename(tmp_path / "two.yaml")
    with refused("one.yaml does not exist"):
        cards.card("one")
    with refused("model_cards/two.yaml", "name is 'one'"):
        YamlStore(str(tmp_path)).card("two")


def test_names_of_nothing(packed: PackedStore) -> None:
    assert packed.get("no such model") is None
    assert YamlStore(str(ROOT / "model_cards")).get("no such model") is None


def test_a_card_is_found_without_parsing_the_others(packed: PackedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    real = json.loads

    def loads(text: bytes) -> Any:
        parsed.append(len(text))
        return real(text)

    monkeypatch.setattr("txcalc.cards.store.json.loads", loads)
    assert packed.get("Meta-Llama-3-8B") == find("llama3-8b")
    assert len(parsed) == 2  # its line of the index, and its own
    assert sum(parsed) < 3000
    assert packed.get("llama3-8b\n") == find("llama3-8b")  # no name reaches into another line
    assert packed.get('gpt2":') == packed.get("gpt2")


def test_a_hit_by_file_name_lists_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = directory_of(tmp_path / "cards", one="[]", two="[]")
    monkeypatch.setattr("txcalc.cards.store.os.listdir", lambda _: pytest.fail("listed"))
    assert cards.get("one") is not None
    monkeypatch.undo()
    assert cards.get("ONE") == cards.get("o.n.e") == cards.get("one")
    assert cards.get("../cards/one") is None


@pytest.mark.usefixtures("_fresh")
def test_a_checkout_never_reads_a_packed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "txcalc"
    package.mkdir()
    (package / store.PACKED_NAME).write_text(pack([]))
    monkeypatch.setattr(store, "_PACKAGE", str(package))
    assert isinstance(store.shipped(), PackedStore)
    store.shipped.cache_clear()
    directory_of(tmp_path / "model_cards", one="[]")
    assert isinstance(store.shipped(), PackedStore)  # some other package's directory
    store.shipped.cache_clear()
    (tmp_path / "pyproject.toml").write_text("")
    assert store.shipped().names() == ["one"]


@pytest.mark.usefixtures("_fresh")
def test_an_installation_without_its_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = YamlStore(str(ROOT / "model_cards"))
    whole = pack(map(checkout.card, ["gpt2", "llama3-8b"]))
    monkeypatch.setattr(store, "_PACKAGE", str(tmp_path))
    with refused("has no model cards", hint="install it again"):
        find("llama3-8b")
    for content in ("", "[]", '{"cards": {}}', "{" * 10, whole[:-9], whole[9:], whole.replace('","', '",')):
        (tmp_path / store.PACKED_NAME).write_text(content)
        with refused("cannot be read", hint="install it again"):
            find("llama3-8b")


def test_the_build_hook_puts_the_cards_into_a_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for hatchling, which is there only when a wheel is built; CI builds and installs a real one."""
    interface = types.ModuleType("hatchling.builders.hooks.plugin.interface")
    interface.BuildHookInterface = type("BuildHookInterface", (), {"root": str(ROOT)})  # type: ignore[attr-defined]
    for name in ("hatchling", "hatchling.builders", "hatchling.builders.hooks", "hatchling.builders.hooks.plugin"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    hook, build_data = module.CardsHook(), {"force_include": {}}
    hook.initialize("standard", build_data)
    (written,) = build_data["force_include"]
    assert build_data["force_include"][written] == "txcalc/model_cards.json"
    assert set(json.loads(Path(written).read_text())["cards"]) == {card.name for card in all_cards()}
    hook.finalize("standard", build_data, "")
    assert not Path(written).exists()
    editable: dict[str, Any] = {"force_include": {}}
    hook.initialize("editable", editable)
    assert editable["force_include"] == {}
