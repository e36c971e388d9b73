"""Text from a model with weights: a directory with config.json and safetensors, a GGUF file, or a cached hub id."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from txcalc import units
from txcalc.cli.options import add_positive, named
from txcalc.cli.torch_extra import add_runtime, finite, readable, require_torch, torch_dtype

if TYPE_CHECKING:
    from txcalc.reference.generate import Sampling

EXAMPLES: Final = """\
  txcalc generate ./SmolLM2-135M-Instruct.Q4_1.gguf --prompt "The capital of France is"
  txcalc generate ./model --prompt "Once upon a time" --temperature 0.8 --top-p 0.95 --seed 1
  txcalc generate ./model --chat --prompt "What is the capital of Italy?"
  echo "A list of primes:" | txcalc generate ./model --prompt - --max-new-tokens 40 --stop "."
"""

DEFAULT_TOKENS: Final = 128
_CHUNK: Final = 64  # tokens of a prompt that a recurrence takes at once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL, the prompt, how tokens are chosen and where the model runs."""
    parser.add_argument("model", metavar="MODEL", help="a directory, a GGUF file, or a hub id that is in the cache")
    parser.add_argument("--prompt", metavar="TEXT", required=True, help="what to go on from; - reads it from stdin")
    add_positive(
        parser, "--max-new-tokens", f"at most so many tokens (default {DEFAULT_TOKENS})", default=DEFAULT_TOKENS
    )
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; repeatable")
    parser.add_argument("--chat", action="store_true", help="the prompt is a question to a chat model, in its own form")
    parser.add_argument("--echo", action="store_true", help="print the prompt before the text")
    group = parser.add_argument_group("how a token is chosen")
    for option, default, text in (
        ("--temperature", 0.0, "0 takes the likeliest token (default); 1 draws as the model says"),
        ("--top-p", 1.0, "draw from the likeliest tokens that have this share of the probability"),
        ("--repetition-penalty", 1.0, "above 1: tokens that were there become less likely"),
    ):
        group.add_argument(option, type=named(option, finite), default=default, metavar="X", help=text)
    group.add_argument(
        "--top-k", type=named("--top-k", units.positive), default=0, metavar="N", help="draw from so many"
    )
    group.add_argument("--seed", type=named("--seed", _seed), default=0, metavar="N", help="of the draws (default 0)")
    add_runtime(parser)
    parser.add_argument("--pack", action="store_true", help="lay the weights out for this CPU first: faster tokens")
    parser.add_argument("--json", action="store_true", help="one JSON document at the end instead of text as it comes")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run(options: argparse.Namespace) -> int:
    """Load, then write to stdout as the text is made. Returns the exit code."""
    require_torch("generate")
    from txcalc.reference.backends import Backend
    from txcalc.reference.pretrained import find, load
    from txcalc.reference.writing import write

    sampling = _sampling(options)
    pretrained = find(options.model)
    for reason in pretrained.model.reasons:
        print(f"warning: {reason}", file=sys.stderr)
    tokenizer, prompt = pretrained.tokenizer(), _prompt(options.prompt)
    text = pretrained.chat(prompt) if options.chat else prompt
    ctx = len(tokenizer.encode(text)) + options.max_new_tokens
    model = load(
        pretrained,
        device=options.device,
        dtype=torch_dtype(options.dtype),
        backend=Backend(options.backend, chunk=_CHUNK),
        ctx=ctx,
    )
    if options.pack:
        from txcalc.reference.packing import pack

        pack(model)
    pieces = write(
        pretrained,
        model,
        tokenizer,
        text,
        max_new_tokens=options.max_new_tokens,
        sampling=sampling,
        stop=[readable(stop) for stop in options.stop if stop],
        special=not options.chat,
    )
    return _document(options, prompt, pieces) if options.json else _stream(prompt if options.echo else "", pieces)


def _stream(before: str, pieces: Iterator[str]) -> int:
    """Text as it comes; what was printed stays when the user interrupts."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    begun = False
    try:
        for piece in pieces:
            sys.stdout.write(piece if begun else before + piece)
            sys.stdout.flush()
            begun = True
    finally:
        if begun:
            sys.stdout.write("\n")
            sys.stdout.flush()
    return 0


def _document(options: argparse.Namespace, prompt: str, pieces: Iterator[str]) -> int:
    import json

    settings = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed", "stop")
    document: dict[str, Any] = {"schema": "txcalc.generate/1", "model": options.model, "prompt": prompt}
    written: list[str] = []
    try:
        written.extend(pieces)
    except KeyboardInterrupt:
        if not written:
            raise
        document["interrupted"] = True
    document["text"] = "".join(written)
    document["inputs"] = {name: getattr(options, name) for name in settings}
    print(json.dumps(document, indent=2))
    return 130 if "interrupted" in document else 0


def _sampling(options: argparse.Namespace) -> Sampling:
    from txcalc.reference.generate import Sampling

    narrowing = {"--top-k": options.top_k > 0, "--top-p": options.top_p < 1, "--seed": options.seed > 0}
    idle = [name for name, given in narrowing.items() if given]
    if idle and options.temperature == 0:
        print(f"warning: {', '.join(idle)} without --temperature: the likeliest token is taken", file=sys.stderr)
    return Sampling(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        repetition_penalty=options.repetition_penalty,
        seed=options.seed,
    )


def _prompt(text: str) -> str:
    if text != "-":
        return readable(text)
    raw = getattr(sys.stdin, "buffer", None)
    return (raw.read().decode("utf-8", "replace") if raw else sys.stdin.read()).rstrip("\n")


def _seed(text: str) -> int:
    return 0 if text.strip() == "0" else units.positive(text)
