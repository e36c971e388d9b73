"""The parsers of files under atheris, which follows what the bytes reach: an answer, or one ``TxcalcError``.

    pip install atheris
    python -m tests.fuzz.parsers gguf -max_total_time=60

Anything else that is raised, a hang (``-timeout``) or two gigabytes (``-rss_limit_mb``) is a crash, whose bytes
libFuzzer writes to a file. A further argument that is a directory is a corpus to begin with and to add to.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from txcalc.cards import gguf_header, safetensors_header
from txcalc.cards.finding import read_card
from txcalc.configs import architecture_of
from txcalc.configs.gguf import config_of
from txcalc.errors import TxcalcError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params
from txcalc.measure.limits import read_limits

Target = Callable[[bytes, Path], None]


def gguf(data: bytes, path: Path) -> None:
    """A header, then the model that its metadata describes."""
    path.write_bytes(data)
    header = gguf_header.read_header(str(path))
    model = architecture_of(config_of(header.metadata, header.tensors))
    params(model).figures()


def safetensors(data: bytes, path: Path) -> None:
    """A header: every tensor lies in the file."""
    path.write_bytes(data)
    for tensor in safetensors_header.read_header(str(path)).tensors.values():
        assert 0 <= tensor.start <= tensor.end <= len(data)


def card(data: bytes, path: Path) -> None:
    """A card or a config, as JSON or YAML, then every calculator that a name reaches first."""
    path.write_bytes(data)
    model = architecture_of(read_card(str(path)).config)
    params(model).figures()
    with suppress(TxcalcError):  # an encoder has no cache
        kv_cache(model, ctx=5).figures()
    flops(model, seq=5).figures()


def limits(data: bytes, path: Path) -> None:
    """A team's limits."""
    path.write_bytes(data)
    read_limits(str(path))


TARGETS: Final[dict[str, tuple[str, Target]]] = {
    "gguf": ("x.gguf", gguf),
    "safetensors": ("x.safetensors", safetensors),
    "card": ("x.yaml", card),
    "config": ("config.json", card),
    "limits": ("limits.yaml", limits),
}


def accepts(name: str, data: bytes, directory: Path) -> bool:
    """Whether the parser had an answer; False where it refused. Whatever else it raises passes through."""
    file, target = TARGETS[name]
    try:
        target(data, directory / file)
    except TxcalcError:
        return False
    return True


def main(arguments: list[str]) -> None:
    """Fuzz one target until libFuzzer's own options say stop."""
    if len(arguments) < 2 or arguments[1] not in TARGETS:
        raise SystemExit(f"usage: python -m tests.fuzz.parsers {'|'.join(TARGETS)} [libFuzzer options] [corpus]")
    import atheris  # type: ignore[import-not-found, unused-ignore]  # here: only this needs it

    name = arguments.pop(1)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        atheris.instrument_all()
        atheris.Setup(arguments, lambda data: accepts(name, data, place) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
