"""txcalc generate: stdout is the text alone; what cannot be done is said in one line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.cli.conftest import Ran
from tests.reference.text import CONFIG, byte_level, directory, gguf_model

Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return directory(tmp_path_factory.mktemp("models") / "tiny")


def expected(model: Path, prompt: str, count: int) -> str:
    """What transformers writes: the likeliest tokens up to the end token."""
    theirs = transformers.AutoModelForCausalLM.from_pretrained(model)
    ids = byte_level().encode(prompt).ids
    import torch

    out = theirs.generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False, pad_token_id=299)
    text: str = byte_level().decode(out[0, len(ids) :].tolist())
    return text


def test_stdout_is_the_text_alone(txcalc: Run, model: Path) -> None:
    ran = txcalc("generate", str(model), "--prompt", "the cat", "--max-new-tokens", "12")
    assert ran.code == 0
    assert ran.err == ""
    assert ran.out == expected(model, "the cat", 12) + "\n"


def test_the_prompt_can_be_echoed_and_can_come_from_stdin(
    txcalc: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = txcalc("generate", str(model), "--prompt", "the cat", "--max-new-tokens", "5").out
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat\n"))
    echoed = txcalc("generate", str(model), "--prompt", "-", "--max-new-tokens", "5", "--echo").out
    assert echoed == "the cat" + plain


def test_packed_weights_write_the_same_text(txcalc: Run, model: Path) -> None:
    arguments = ("generate", str(model), "--prompt", "the cat", "--max-new-tokens", "12")
    assert txcalc(*arguments, "--pack", "--dtype", "fp32") == txcalc(*arguments, "--dtype", "fp32")


def test_a_chat_is_the_prompt_in_the_models_own_form(txcalc: Run, tmp_path: Path) -> None:
    path = directory(tmp_path / "m")
    arguments = ("--max-new-tokens", "12")
    refused(txcalc("generate", str(path), "--chat", "--prompt", "cat"), "has no chat template", "leave --chat out")
    (path / "chat_template.jinja").write_text("the {{ messages[0].content }}, a hen:")
    assert (
        txcalc("generate", str(path), "--chat", "--prompt", "cat", *arguments).out
        == txcalc("generate", str(path), "--prompt", "the cat, a hen:", *arguments).out
    )


def test_json_is_one_document(txcalc: Run, model: Path) -> None:
    plain = txcalc("generate", str(model), "--prompt", "the cat", "--max-new-tokens", "5").out
    document = txcalc("generate", str(model), "--prompt", "the cat", "--max-new-tokens", "5", "--json").json()
    assert document["schema"] == "txcalc.generate/1"
    assert document["text"] + "\n" == plain
    assert document["inputs"]["max_new_tokens"] == 5


def test_a_gguf_file_gives_the_text_of_its_directory(txcalc: Run, model: Path, tmp_path: Path) -> None:
    path = gguf_model(tmp_path / "tiny.gguf")
    arguments = ("--prompt", "the cat", "--max-new-tokens", "12")
    assert txcalc("generate", str(path), *arguments).out == txcalc("generate", str(model), *arguments).out


def test_a_text_ends_before_a_stop(txcalc: Run, model: Path) -> None:
    whole = txcalc("generate", str(model), "--prompt", "the cat", "--max-new-tokens", "12").out.rstrip("\n")
    stop = whole[4:6]
    ran = txcalc("generate", str(model), "--prompt", "the cat", "--max-new-tokens", "12", "--stop", stop)
    assert ran.out == whole[: whole.index(stop)] + "\n"


def test_a_seed_fixes_a_draw(txcalc: Run, model: Path) -> None:
    def drawn(seed: int) -> str:
        options = ("--temperature", "1.5", "--top-k", "50", "--top-p", "0.99", "--seed", str(seed))
        return txcalc("generate", str(model), "--prompt", "the", "--max-new-tokens", "12", *options).out

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_what_narrows_a_draw_says_so_where_nothing_is_drawn(txcalc: Run, model: Path) -> None:
    arguments = ("generate", str(model), "--prompt", "the", "--max-new-tokens", "3")
    ran = txcalc(*arguments, "--top-k", "5", "--seed", "1")
    assert ran.err == "warning: --top-k, --seed without --temperature: the likeliest token is taken\n"
    assert ran.out == txcalc(*arguments).out
    assert txcalc(*arguments, "--top-k", "5", "--temperature", "1").err == ""


def test_an_encoder_decoder_reads_the_prompt_as_its_source(txcalc: Run, tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 32, "d_kv": 8, "d_ff": 48,
        "num_layers": 2, "num_heads": 4, "vocab_size": 300, "decoder_start_token_id": 0, "eos_token_id": 299,
        "pad_token_id": 0,
    }  # fmt: skip
    path = directory(tmp_path / "t5", fields)
    ran = txcalc("generate", str(path), "--prompt", "the cat", "--max-new-tokens", "8")
    assert (ran.code, ran.err) == (0, "")
    import torch

    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(path)
    out = theirs.generate(torch.tensor([byte_level().encode("the cat").ids]), max_new_tokens=8, do_sample=False)
    assert ran.out == byte_level().decode(out[0, 1:].tolist()) + "\n"


def test_an_interrupted_text_keeps_what_was_printed(txcalc: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = txcalc("generate", str(model), "--prompt", "the cat", "--max-new-tokens", "12").out

    def interrupted(*arguments: Any, **options: Any) -> Any:
        yield whole[:5]
        raise KeyboardInterrupt

    monkeypatch.setattr("txcalc.reference.writing.write", interrupted)
    ran = txcalc("generate", str(model), "--prompt", "the cat")
    assert ran == Ran(130, whole[:5] + "\n", "error: interrupted\n")


def test_an_interrupted_document_keeps_what_was_written(
    txcalc: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Any:
        yield "the "
        yield "cat"
        raise KeyboardInterrupt

    monkeypatch.setattr("txcalc.reference.writing.write", interrupted)
    ran = txcalc("generate", str(model), "--prompt", "the cat", "--json")
    assert (ran.code, ran.json()["text"], ran.json()["interrupted"]) == (130, "the cat", True)


# ---- what cannot be done --------------------------------------------------------------------------------------------


def refused(ran: Ran, *parts: str, code: int = 1) -> None:
    assert ran.code == code
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") <= 2
    for part in parts:
        assert part in ran.err


def test_without_torch_it_says_what_to_install(txcalc: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txcalc.cli.torch_extra.find_spec", lambda name: None)
    ran = txcalc("generate", str(model), "--prompt", "x")
    refused(ran, "needs torch", "hint: pip install 'txcalc[torch]'")


def test_what_has_no_weights_is_refused(txcalc: Run, tmp_path: Path) -> None:
    refused(txcalc("generate", "llama3-8b", "--prompt", "x"), "a card has none", "hint: give a directory")
    refused(txcalc("generate", "./nowhere", "--prompt", "x"), "does not exist")
    refused(txcalc("generate", str(tmp_path), "--prompt", "x"), "has no config.json")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    refused(txcalc("generate", str(tmp_path), "--prompt", "x"), "has no weights")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    refused(txcalc("generate", str(tmp_path), "--prompt", "x"), "a pickle can run code")


def test_an_id_that_is_not_in_the_cache_is_refused_without_the_network(
    txcalc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    refused(
        txcalc("generate", "no-one/nothing", "--prompt", "x"), "not in the hub's cache", "hf download no-one/nothing"
    )


def test_without_a_tokenizer_it_says_so(txcalc: Run, tmp_path: Path) -> None:
    (directory(tmp_path / "m") / "tokenizer.json").unlink()
    refused(txcalc("generate", str(tmp_path / "m"), "--prompt", "x"), "has no tokenizer.json")


def test_weights_that_are_not_the_configs_are_named(txcalc: Run, tmp_path: Path) -> None:
    path = directory(tmp_path / "m")
    (path / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 3}))
    refused(txcalc("generate", str(path), "--prompt", "x"), "missing: model.layers.2.", "check that config and weights")


def test_what_is_too_large_is_refused_with_the_sum(txcalc: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(txcalc("generate", str(model), "--prompt", "x", "--max-new-tokens", "1000000000000"), "together", "GiB")
    monkeypatch.setattr("txcalc.reference.device.Cpu.free_memory", lambda self: 2**20)
    refused(txcalc("generate", str(model), "--prompt", "x"), "0.00 GiB of weights", "are free on cpu", "hint:")


def test_an_encoder_writes_nothing(txcalc: Run, tmp_path: Path) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    fields = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 300, **shape}
    path = directory(tmp_path / "bert", fields)
    refused(txcalc("generate", str(path), "--prompt", "the"), "writes no text")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--temperature", "-1"], "temperature is -1"),
        (["--top-p", "2"], "top_p is 2"),
        (["--repetition-penalty", "0"], "repetition_penalty is 0"),
        (["--device", "tpu"], "'tpu' is not known"),
        (["--backend", "efficient"], "cannot run this"),
        (["--dtype", "fp16", "--pack"], "not float16"),
    ],
)
def test_values_out_of_range_are_named(txcalc: Run, model: Path, options: list[str], part: str) -> None:
    refused(txcalc("generate", str(model), "--prompt", "the", *options), part)


@pytest.mark.parametrize(
    "options",
    [["--temperature", "hot"], ["--temperature", "nan"], ["--top-k", "0"], ["--max-new-tokens", "0"], ["--seed", "-1"],
     ["--max-new-tokens", "ten"], ["--dtype", "fp12"], ["--unknown"]],
)  # fmt: skip
def test_a_command_line_that_cannot_be_read_is_code_2(txcalc: Run, options: list[str]) -> None:
    ran = txcalc("generate", "anything", "--prompt", "x", *options)
    refused(ran, options[0], code=2)


def test_a_prompt_is_asked_for(txcalc: Run) -> None:
    refused(txcalc("generate", "anything"), "--prompt", code=2)


def test_a_prompt_that_is_no_utf8_is_read_all_the_same(txcalc: Run, model: Path) -> None:
    prompt = b"the \xff".decode("utf-8", "surrogateescape")
    ran = txcalc("generate", str(model), "--prompt", prompt, "--max-new-tokens", "2")
    assert (ran.code, ran.err) == (0, "")
