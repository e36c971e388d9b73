"""Hub ids: the cache's own layout, and a hub in this process; headers in ranged reads and never a weight."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests.cards.conftest import refused
from tests.cards.fake_hub import COMMIT, Blob, FakeHub, serving
from tests.reference import published
from txcalc.cards import load
from txcalc.cards.finding import find_source
from txcalc.errors import ModelError
from txcalc.formulas.params import params
from txcalc.stored.comparing import compare

CONFIG = published.config("llama")
TEMPLATE = "/{repo_id}/resolve/{revision}/{filename}"
SIZE = 27_552  # parameters, by hand in test_check


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with serving(FakeHub()) as made:
        monkeypatch.setattr(constants, "ENDPOINT", made.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", made.endpoint + TEMPLATE)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        yield made


def blob(shapes: dict[str, list[int]], *, padding: int = 0) -> Blob:
    """A safetensors file of fp32 zeros, which is never made."""
    header: dict[str, Any] = {"__metadata__": {"pad": "x" * padding}}
    at = 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return Blob(len(text).to_bytes(8, "little") + text, 8 + len(text) + at)


def shapes() -> dict[str, list[int]]:
    """Names and shapes of the tiny Llama's file, by hand."""
    layer = {"input_layernorm": [32], "post_attention_layernorm": [32], "self_attn.q_proj": [32, 32],
             "self_attn.k_proj": [16, 32], "self_attn.v_proj": [16, 32], "self_attn.o_proj": [32, 32],
             "mlp.gate_proj": [48, 32], "mlp.up_proj": [48, 32], "mlp.down_proj": [32, 48]}  # fmt: skip
    inside = {f"model.layers.{i}.{name}.weight": shape for i in range(3) for name, shape in layer.items()}
    outside = {"model.embed_tokens.weight": [67, 32], "model.norm.weight": [32], "lm_head.weight": [67, 32]}
    return {**inside, **outside}


def total(name: str) -> int | float:
    return params(load(name)).figures()["params.total"]


# ---- configs --------------------------------------------------------------------------------------------------------


def test_a_config_is_fetched_once_and_then_cached(hub: FakeHub) -> None:
    hub.add("org/tiny", {"config.json": CONFIG})
    assert total("org/tiny") == SIZE
    first = len(hub.requests)
    assert total("org/tiny") == SIZE
    assert len(hub.requests) == first


def test_a_revision_is_its_own(hub: FakeHub) -> None:
    hub.add("org/tiny", {"config.json": CONFIG})
    assert total("org/tiny@v1") == SIZE
    assert hub.asked("HEAD", "/resolve/v1/config.json")
    with refused("org/tiny@v9", "no such revision", hint="@", kind=ModelError):
        load("org/tiny@v9")


def test_the_caches_own_layout_is_read_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """models--org--name/refs/main names the commit; snapshots/COMMIT holds the files."""
    repo = tmp_path / "models--org--cached"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    (repo / "snapshots" / COMMIT).mkdir(parents=True)
    (repo / "snapshots" / COMMIT / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert total("org/cached") == SIZE
    assert total(f"org/cached@{COMMIT}") == SIZE
    with refused("org/other", "not in the cache", "offline", hint="HF_HUB_OFFLINE", kind=ModelError):
        load("org/other")


def test_a_card_comes_before_the_hub(hub: FakeHub) -> None:
    assert load("meta-llama/Meta-Llama-3-8B").name == "llama3-8b"
    assert hub.requests == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ((403, "GatedRepo"), ("is gated", "HF_TOKEN")),
        ((401, "GatedRepo"), ("is gated", "HF_TOKEN")),
        ((401, "RepoNotFound"), ("is not on the hub, or is private", "check the name")),
        ((404, "RepoNotFound"), ("is not on the hub, or is private", "check the name")),
        ((500, ""), ("cannot be reached", "HF_ENDPOINT")),
        ((429, ""), ("cannot be reached", "HF_ENDPOINT")),
    ],
    ids=str,
)
def test_what_the_hub_refuses_is_one_line_and_a_hint(
    hub: FakeHub, error: tuple[int, str], words: tuple[str, str]
) -> None:
    hub.add("org/tiny", {"config.json": CONFIG}, error=error)
    with refused("org/tiny", words[0], hint=words[1], kind=ModelError):
        load("org/tiny")


def test_a_model_that_is_not_there(hub: FakeHub) -> None:
    with refused("org/none", "is not on the hub", hint="check the name", kind=ModelError):
        load("org/none")


def test_a_repository_without_a_config(hub: FakeHub) -> None:
    hub.add("org/tiny", {"model.gguf": {}})
    with refused("org/tiny", "no config.json", hint="config.json", kind=ModelError):
        load("org/tiny")


def test_a_renamed_model_is_followed_and_said(hub: FakeHub) -> None:
    hub.add("org/new", {"config.json": CONFIG})
    hub.add("old/name", {}, moved="org/new")
    model = load("old/name")
    assert model.name == "org/new"
    assert "old/name is org/new on the hub now" in model.notes


def test_no_network_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9" + TEMPLATE)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with refused("org/tiny", "cannot be reached", hint="HF_ENDPOINT", kind=ModelError):
        load("org/tiny")


def test_a_config_of_gigabytes_is_not_fetched(hub: FakeHub) -> None:
    hub.add("org/tiny", {"config.json": Blob(b"{}", 2**33)})
    with refused("org/tiny", "8,589,934,592 bytes", kind=ModelError):
        load("org/tiny")
    assert hub.sent == 0


def test_a_token_goes_to_the_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.add("org/tiny", {"config.json": CONFIG})
    load("org/tiny")
    assert {token for *_, token in hub.requests} == {"Bearer hf_secret"}


# ---- headers --------------------------------------------------------------------------------------------------------


def compared(name: str) -> Any:
    checkpoint = find_source(name).checkpoint()
    assert checkpoint is not None
    return compare(checkpoint, load(name))


def test_a_header_is_read_and_never_a_weight(hub: FakeHub) -> None:
    """The file of 200 GB is a header and zeros that the hub would have to make."""
    many = {**shapes(), "model.layers.0.extra.weight": [50_000, 1_000_000]}
    hub.add("org/tiny", {"config.json": CONFIG, "model.safetensors": blob(many)})
    found = compared("org/tiny")
    assert found.checkpoint.numel == SIZE + 50_000_000_000
    assert not found.agrees
    assert hub.sent < 200_000


def test_a_sharded_model_is_read_shard_by_shard(hub: FakeHub) -> None:
    every = shapes()
    halves = [dict(list(every.items())[0::2]), dict(list(every.items())[1::2])]
    files = {f"model-{i}.safetensors": blob(half, padding=100_000 * i) for i, half in enumerate(halves)}
    where = {name: f"model-{i}.safetensors" for i, half in enumerate(halves) for name in half}
    hub.add("org/tiny", {"config.json": CONFIG, "model.safetensors.index.json": {"weight_map": where}, **files})
    found = compared("org/tiny")
    assert (found.agrees, found.total, found.checkpoint.files) == (True, SIZE, 2)
    assert len(hub.asked("GET", "model-0.safetensors")) == 2  # the redirect and the file
    assert len(hub.asked("GET", "model-1.safetensors")) == 4  # a long header takes two reads


def test_a_token_does_not_follow_to_another_host(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the header's way: the hub itself saw the token, the host of large files did not."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.add("org/tiny", {"config.json": CONFIG, "model.safetensors": blob(shapes())})
    assert compared("org/tiny").agrees
    tokens = {host.partition(":")[0]: token for host, method, _, _, token in hub.requests if method == "GET"}
    assert tokens == {"127.0.0.1": "Bearer hf_secret", "localhost": ""}


def test_a_server_that_ignores_ranges_is_read_no_further(hub: FakeHub) -> None:
    hub.ranges = False
    many = {**shapes(), "model.layers.0.extra.weight": [50_000, 1_000_000]}
    hub.add("org/tiny", {"config.json": CONFIG, "model.safetensors": blob(many)})
    assert compared("org/tiny").checkpoint.numel == SIZE + 50_000_000_000
    assert hub.sent < 20_000_000  # what lay in the sockets


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (Blob((2**60).to_bytes(8, "little"), 2**40), ("a header of", "the file has")),
        (Blob((10**9).to_bytes(8, "little"), 2**40), ("a header of 1,000,000,000 bytes", "allows")),
        (Blob(b"\1"), ("too few",)),
        (Blob((4).to_bytes(8, "little") + b"nope"), ("not JSON",)),
    ],
    ids=["longer than the file", "longer than the format", "short", "no JSON"],
)
def test_a_file_that_lies_is_one_line(hub: FakeHub, content: Blob, words: tuple[str, ...]) -> None:
    hub.add("org/tiny", {"config.json": CONFIG, "model.safetensors": content})
    with refused("org/tiny", *words, kind=ModelError):
        find_source("org/tiny").checkpoint()
    assert hub.sent < 200_000


def test_no_safetensors_is_said(hub: FakeHub) -> None:
    hub.add("org/tiny", {"config.json": CONFIG, "pytorch_model.bin": {}})
    with refused("org/tiny", "404", hint="safetensors", kind=ModelError):
        find_source("org/tiny").checkpoint()


def test_an_index_that_points_elsewhere_is_refused(hub: FakeHub) -> None:
    index = {"weight_map": {"w": "../../other/model.safetensors"}}
    hub.add("org/tiny", {"config.json": CONFIG, "model.safetensors.index.json": index})
    with refused("beside it", kind=ModelError):
        find_source("org/tiny").checkpoint()


# ---- the command ----------------------------------------------------------------------------------------------------


def test_the_command_line_and_its_environment(hub: FakeHub, tmp_path: Path) -> None:
    """HF_ENDPOINT and HF_HUB_CACHE as a user sets them, in a process of its own."""
    hub.add("org/tiny", {"config.json": CONFIG, "model.safetensors": blob(shapes())})
    environment = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_CACHE": str(tmp_path / "own"),
        "HOME": str(tmp_path),
        "PYTHONPATH": ":".join(sys.path),
    }
    command = [sys.executable, "-m", "txcalc", "params", "org/tiny", "--json"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert (answer["params"]["total"], answer["params"]["stored"]) == (SIZE, SIZE)
    assert answer["checkpoint"]["agrees"]
    assert ran.stderr == ""
