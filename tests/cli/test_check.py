"""``txcalc check`` through its one door: verdicts, exit codes, documents, and what happens when somebody stops it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Ran
from tests.reference import published
from txcalc.cards.yaml_subset import load
from txcalc.configs import architecture_of
from txcalc.formulas import params_sublayers

Run = Callable[..., Ran]


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., str]:
    """A small config.json of some type, in a directory of its own."""

    def write(model_type: str = "llama", **changes: Any) -> str:
        path = tmp_path / model_type / "config.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(published.config(model_type, **changes)))
        return str(path)

    return write


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every projection of attention counted without its bias."""
    blocks = params_sublayers.blocks
    monkeypatch.setattr(params_sublayers, "blocks", lambda *sizes, bias: blocks(*sizes, bias=False))


# ---- verdicts -------------------------------------------------------------------------------------------------------


def test_one_model_agrees(txcalc: Run, tiny: Callable[..., str]) -> None:
    """27,552 parameters by hand (``tests/measure/test_check.py``)."""
    ran = txcalc("check", tiny())
    assert (ran.code, ran.err) == (0, "")
    assert "0 disagree" in ran.out.splitlines()[0]
    line = next(line for line in ran.out.splitlines() if "all 3 layers" in line)
    assert line.split()[-3:] == ["27,552", "27,552", "equal"]
    assert "architecture to formula: proved for 1 of 1 by the reference model" in ran.out
    assert "config to architecture: parameters proved for 0 of 1" in ran.out


def test_tables_fit_80_columns(txcalc: Run) -> None:
    ran = txcalc("check", "llama3-8b", "--quantity", "params,kv")
    assert max(len(line) for line in ran.out.splitlines()[1:] if not line.startswith("note:")) <= 80, ran.out


def test_a_published_count_is_the_other_link(txcalc: Run) -> None:
    ran = txcalc("check", "llama3-8b", "--quantity", "params")
    assert ran.code == 0
    assert "config to architecture: parameters proved for 1 of 1 by published figure" in ran.out
    changed = txcalc("check", "llama3-8b", "--quantity", "params", "--set", "num_hidden_layers=3")
    assert changed.code == 0
    assert "published figure" not in changed.out  # what was published is not this model


@pytest.mark.usefixtures("broken")
def test_a_broken_formula_is_exit_3_with_the_difference(txcalc: Run, tiny: Callable[..., str]) -> None:
    """Qwen2's biases of one layer: q 32, k and v 16 each; three layers lack 192 parameters."""
    ran = txcalc("check", tiny("qwen2"))
    assert ran.code == 3
    assert "1 disagree" in ran.out.splitlines()[0]
    assert "DIFFERS -192" in ran.out


def test_the_document(txcalc: Run, tiny: Callable[..., str]) -> None:
    document = txcalc("check", tiny(), tiny("gpt2"), "--json").json()
    assert document["schema"] == "txcalc.check/1"
    compared = document["comparisons"]
    assert document["check"] == {"passed": len(compared), "failed": 0, "skipped": 0}
    assert document["models"] == {"passed": 2, "failed": 0, "skipped": 0}
    assert document["interrupted"] is False
    whole = next(each for each in compared if each["figure"] == "params.total" and each["model"] == "llama")
    assert (whole["predicted"], whole["measured"], whole["difference"], whole["verdict"]) == (27552, 27552, 0, "passed")
    assert (whole["oracle"], whole["link"]) == ("reference model", "architecture to formula")
    assert {each["quantity"] for each in compared} == {"params", "kv", "flops", "activations"}


def test_many_models_are_summed_up_and_failures_listed(
    txcalc: Run, tiny: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tiny(kind) for kind in ("llama", "gpt2", "gemma", "opt")]
    assert "4 agree, 0 disagree, 0 skipped" in txcalc("check", *paths, "--quantity", "params").out
    blocks = params_sublayers.blocks
    monkeypatch.setattr(params_sublayers, "blocks", lambda *sizes, bias: blocks(*sizes, bias=False))
    ran = txcalc("check", *paths, "--quantity", "params")
    assert ran.code == 3
    assert "2 agree, 2 disagree, 0 skipped" in ran.out  # gpt2 and opt have biases
    assert "disagreements" in ran.out
    document = txcalc("check", *paths, "--quantity", "params", "--json").json()
    assert {each["model"] for each in document["comparisons"] if each["verdict"] == "failed"} == {"gpt2", "opt"}


def test_what_cannot_be_built_is_skipped_and_counted(
    txcalc: Run, tiny: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from txcalc.errors import RequestError
    from txcalc.measure import check

    build = check.build

    def some(model: Any, **options: Any) -> Any:
        if model.model_type == "gpt2":
            raise RequestError("the reference model does not build telepathy yet")
        return build(model, **options)

    monkeypatch.setattr(check, "build", some)
    paths = [tiny(kind) for kind in ("llama", "gpt2", "gemma", "opt")]
    ran = txcalc("check", *paths, "--quantity", "params")
    assert ran.code == 0
    assert "3 agree, 0 disagree, 1 skipped" in ran.out
    assert "the reference model does not build telepathy yet" in " ".join(ran.out.split())
    alone = txcalc("check", paths[1], "--quantity", "params")
    assert alone.code == 1
    assert "error: nothing could be compared: the reference model does not build telepathy yet" in alone.err


def test_a_fault_with_one_of_many_is_a_failed_row(
    txcalc: Run, tiny: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from txcalc.measure import check

    params = check.params
    monkeypatch.setattr(check, "params", lambda model: 1 // (model.model_type != "gpt2") and params(model))
    ran = txcalc("check", tiny(), tiny("gpt2"), "--quantity", "params")
    assert ran.code == 3
    assert "a fault in txcalc: ZeroDivisionError" in " ".join(ran.out.split())
    assert "--debug" in " ".join(ran.out.split())
    alone = txcalc("check", tiny("gpt2"), "--quantity", "params")
    assert (alone.code, "ZeroDivisionError" in alone.err) == (1, True)


def test_what_ifs_are_checked_too(txcalc: Run, tiny: Callable[..., str]) -> None:
    ran = txcalc("check", tiny(), "--gqa", "1", "--set", "num_hidden_layers=2")
    assert ran.code == 0
    assert "1 KV head" in ran.out.splitlines()[0]
    assert "all 2 layers" in ran.out


def test_an_estimated_model_says_so(txcalc: Run, tiny: Callable[..., str]) -> None:
    ran = txcalc("check", tiny(flux_capacitor=3), "--quantity", "params")
    assert "flux_capacitor" in ran.err
    assert txcalc("check", tiny(flux_capacitor=3), "--quantity", "params", "--strict").code == 1


# ---- the other link -------------------------------------------------------------------------------------------------


def test_against_transformers(txcalc: Run, tiny: Callable[..., str]) -> None:
    ran = txcalc("check", tiny(), "--against", "transformers", "--quantity", "params")
    assert ran.code == 0
    assert "parameters proved for 1 of 1 by transformers" in ran.out


def test_against_a_checkpoint(txcalc: Run, tiny: Callable[..., str]) -> None:
    from safetensors.torch import save_file

    from txcalc.reference import build
    from txcalc.reference.weights import to_checkpoint

    path = tiny()
    directory = Path(path).parent
    save_file(to_checkpoint(build(architecture_of(published.config("llama")))), directory / "model.safetensors")
    assert txcalc("check", path, "--against", str(directory), "--quantity", "params").code == 0
    wrong = txcalc("check", tiny(num_key_value_heads=4), "--against", str(directory), "--quantity", "params")
    assert wrong.code == 3
    assert "DIFFERS +3,072" in wrong.out  # 3 layers * 2 * 32 * 16


# ---- files and annotations ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("broken")
def test_junit_and_annotations(
    txcalc: Run, tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    path, out = tiny("qwen2"), tmp_path / "out.xml"
    ran = txcalc("check", path, "--quantity", "params,kv", "--junit", str(out), "--json")
    assert ran.code == 3
    assert ran.json()["check"]["failed"] == 1
    suite = ElementTree.parse(out).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("5", "1")
    (line,) = [line for line in ran.err.splitlines() if line.startswith("::error")]
    assert f"file={path}" in line
    assert "difference -192" in line


@pytest.mark.parametrize("place", ["none/out.xml", "."])
def test_an_unwritable_file_is_found_before_the_work(txcalc: Run, tmp_path: Path, place: str) -> None:
    ran = txcalc("check", "--junit", str(tmp_path / place))
    assert ran.code == 1
    assert "cannot be written" in ran.err


# ---- limits ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def limits(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "limits.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_limits_kept_and_not(txcalc: Run, limits: Callable[[str], str]) -> None:
    """Llama-3-8B: 8,030,261,248 parameters; 32 layers * 2 * 8 * 128 * 2 bytes = 128 KiB a token."""
    path = limits("models:\n  llama3-8b:\n  - params <= 8.1B\n  - kv_cache.bytes_per_token <= 128KiB\n")
    assert txcalc("check", "--limits", path).code == 0
    path = limits("models:\n  llama3-8b:\n  - params <= 8B\n  - kv_cache.bytes_per_token <= 128KiB\n")
    ran = txcalc("check", "--limits", path)
    assert ran.code == 3
    assert "1 not kept" in ran.out
    document = txcalc("check", "--limits", path, "--json").json()
    assert document["check"] == {"passed": 1, "failed": 1, "skipped": 0}
    assert document["limits"][0]["value"] == 8_030_261_248


def test_limits_of_a_named_model(txcalc: Run, limits: Callable[[str], str], tiny: Callable[..., str]) -> None:
    path = limits("limits: [params <= 27552]")
    assert txcalc("check", tiny(), "--limits", path).code == 0
    assert txcalc("check", tiny(attention_bias=True), "--limits", path).code == 3
    assert txcalc("check", tiny(), "--set", "num_hidden_layers=4", "--limits", path).code == 3


def test_limits_and_proof_together(txcalc: Run, limits: Callable[[str], str], tiny: Callable[..., str]) -> None:
    ran = txcalc("check", tiny(), "--limits", limits("limits: [params <= 1k]"), "--quantity", "params", "--json")
    assert ran.code == 3
    document = ran.json()
    assert document["check"] == {"passed": 1, "failed": 1, "skipped": 0}
    assert len(document["comparisons"]) == len(document["limits"]) == 1


def test_limits_need_no_torch(limits: Callable[[str], str]) -> None:
    path = limits("models: {llama3-8b: [params <= 8.1B, kv_cache at 32k <= 4GiB, flops at 2k <= 33T]}")
    program = (
        "import sys; from txcalc.cli import main; code = main(sys.argv[1:]); sys.exit(code or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, "check", "--limits", path], check=False, capture_output=True)
    assert done.returncode == 0


# ---- what cannot be read or run -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["llama3-8c"], 1, ["no model is known as", "llama3-8b"]),
        (["llama3-8b", "--quantity", "param"], 2, ["'param'", "params, kv, flops"]),
        (["llama3-8b", "--quantity", ","], 2, ["names none"]),
        (["--gqa", "4"], 2, ["--gqa changes a model, and none is named"]),
        (["--set", "a=1"], 2, ["--set changes a model, and none is named"]),
        (["--against", "./weights"], 2, ["needs the model that it is of"]),
        (["llama3-8b", "--against", "./none"], 1, ["./none does not exist"]),
        (["llama3-8b", "--gqa", "4", "--against", "transformers"], 2, ["not the config", "num_key_value_heads"]),
        (["--jobs", "0"], 2, ["--jobs"]),
        (["--limits", "none.yaml"], 1, ["none.yaml does not exist", "a file of limits"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_bad_input_is_one_line_and_a_hint(txcalc: Run, arguments: list[str], code: int, words: list[str]) -> None:
    ran = txcalc("check", *arguments)
    assert (ran.code, ran.out) == (code, "")
    for word in words:
        assert word in ran.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty", "a file of limits"]),
        ("limits: [params <= -1]", ["'-1' is not a number of param", "1.4B"]),
    ],
)
def test_limits_are_told_as_limits(txcalc: Run, limits: Callable[[str], str], text: str, words: list[str]) -> None:
    ran = txcalc("check", "gpt2", "--limits", limits(text))
    assert (ran.code, ran.out, [word in ran.err for word in words]) == (1, "", [True] * len(words))


def test_limits_without_a_model(txcalc: Run, limits: Callable[[str], str]) -> None:
    ran = txcalc("check", "--limits", limits("limits: [params <= 8B]"))
    assert (ran.code, "names no model" in ran.err) == (2, True)
    ran = txcalc("check", "gpt2", "--limits", limits("models: {llama3-8b: [params <= 8B]}"))
    assert (ran.code, "has no limit for gpt2" in ran.err) == (1, True)


@pytest.mark.parametrize(
    ("missing", "arguments", "install"),
    [
        ("torch", [], "hint: pip install 'txcalc[torch]'"),
        ("transformers", ["--against", "transformers"], "hint: pip install transformers"),
    ],
)
def test_a_missing_package_is_the_command_that_installs_it(
    txcalc: Run, monkeypatch: pytest.MonkeyPatch, missing: str, arguments: list[str], install: str
) -> None:
    from txcalc.cli import torch_extra

    find = torch_extra.find_spec
    monkeypatch.setattr(torch_extra, "find_spec", lambda name: None if name == missing else find(name))
    ran = txcalc("check", "llama3-8b", *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert install in ran.err


def test_help_has_examples(txcalc: Run) -> None:
    ran = txcalc("check", "--help")
    assert "txcalc check --limits limits.yaml" in ran.out


# ---- hooks ----------------------------------------------------------------------------------------------------------


def test_the_hooks_for_pre_commit_run(
    txcalc: Run, tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pre-commit calls them: the entry, its args, and the files that changed."""
    text = (Path(__file__).parents[2] / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    path = tiny("llama")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "limits.yaml").write_text("limits: [params <= 1k]\n", encoding="utf-8")
    codes = {}
    for hook in load(text, max_depth=4):
        program, *arguments = hook["entry"].split()
        assert program == "txcalc"
        assert re.search(hook["files"], path)
        quick = ["--quantity", "params"] if hook["id"] == "txcalc-check" else []
        codes[hook["id"]] = txcalc(*arguments, *hook.get("args", []), *quick, path).code
    assert codes == {"txcalc-limits": 3, "txcalc-check": 0}


# ---- everything -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_card_agrees() -> None:
    """In a process of its own, whose memory and that of its children is what the system counts."""
    done = subprocess.run(
        [sys.executable, "-m", "txcalc", "check", "--json"], capture_output=True, text=True, check=False
    )
    document = json.loads(done.stdout)
    failed = [each for each in document["comparisons"] if each["verdict"] == "failed"]
    assert (done.returncode, failed) == (0, [])
    assert document["models"]["skipped"] == 0
    assert document["check"]["passed"] > 1500
