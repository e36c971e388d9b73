"""What the headers of a checkpoint's files say: every tensor's name, type, shape and bytes; never a tensor itself."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any, Final, NamedTuple

from txcalc.cards import gguf_header, safetensors_header
from txcalc.cards.files import read_mapping
from txcalc.cards.finding import WEIGHTS
from txcalc.configs.gguf import FACTORS
from txcalc.configs.reader import shown
from txcalc.errors import ModelError
from txcalc.record import Record

INDEX, SINGLE = WEIGHTS
MAX_INDEX: Final = 2**26  # of the index alone: DeepSeek-V3's has 9 MB
_INDEX_ENDING: Final = ".safetensors.index.json"
_SPLIT: Final = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
MAX_FACTORS: Final = 4096
_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt")


class Held(NamedTuple):
    """One tensor as it is stored: ``dtype`` in the format's own spelling, ``nbytes`` its data's."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @property
    def numel(self) -> int:
        """Elements: of a packed tensor those of its container, of a block format (GGUF) the weights themselves."""
        return prod(self.shape)


class Checkpoint(Record):
    """The tensors of one file, or of several that belong together, by name.

    ``factors``: the values of a GGUF file's rotary factors, which stand for a setting of the config.
    """

    kind: str  # safetensors or gguf
    where: str
    files: int
    tensors: Mapping[str, Held]
    metadata: Mapping[str, Any]
    factors: tuple[float, ...] | None = None

    @property
    def numel(self) -> int:
        """Elements of all tensors."""
        return sum(each.numel for each in self.tensors.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, headers and padding apart."""
        return sum(each.nbytes for each in self.tensors.values())


def open_checkpoint(path: str) -> Checkpoint:
    """The headers of a .safetensors file, an index with its shards, a .gguf file with its parts, or a directory.

    Raises:
        ModelError: no weights there, or a file that does not hold what it says.
    """
    lower = path.lower()
    if os.path.isdir(path):
        return open_checkpoint(weights_in(path))
    if lower.endswith(".gguf"):
        return _gguf(path)
    if lower.endswith(_INDEX_ENDING):
        return _sharded(path)
    return safetensors_of({path: safetensors_header.read_header(path)}, path)


def safetensors_of(headers: Mapping[str, safetensors_header.SafetensorsHeader], where: str) -> Checkpoint:
    """The tensors of one or several files, by file name.

    Raises:
        ModelError: two files hold tensors of one name.
    """
    tensors: dict[str, Held] = {}
    metadata: dict[str, Any] = {}
    for file, header in headers.items():
        metadata |= header.metadata
        for each in header.tensors.values():
            if each.name in tensors:
                raise ModelError(f"{where}: tensor {shown(each.name)} is in {os.path.basename(file)} and in another")
            tensors[each.name] = Held(each.name, each.dtype, each.shape, each.end - each.start)
    return Checkpoint(kind="safetensors", where=where, files=len(headers), tensors=tensors, metadata=metadata)


# ---- which files ----------------------------------------------------------------------------------------------------


def weights_in(directory: str) -> str:
    """The file that stands for a directory's weights: its index, or its one file.

    Raises:
        ModelError: there are none, several without an index, or only pickles.
    """
    for name in (INDEX, SINGLE):
        if os.path.exists(os.path.join(directory, name)):
            return os.path.join(directory, name)
    try:
        files = sorted(os.listdir(directory))
    except OSError:
        files = []
    found = [file for file in files if file.endswith(".safetensors")]
    indices = [file for file in files if file.endswith(_INDEX_ENDING)]
    if len(indices) == 1 or len(found) == 1:
        return os.path.join(directory, (indices if len(indices) == 1 else found)[0])
    pickles = [file for file in files if file.endswith(_PICKLES)]
    if pickles and not found:
        raise ModelError(
            f"{directory} has no safetensors weights, only {pickles[0]}: a pickle can run code and is never read",
            "look for a safetensors version of the model, or convert it where that is safe",
        )
    what = f"{len(found)} safetensors files and no {INDEX}" if found else "no weights"
    raise ModelError(f"{directory} has {what}", f"expected {SINGLE}, or {INDEX} with its shards")


def weight_map(index: Mapping[str, Any], where: str) -> dict[str, str]:
    """Tensor -> file, from an index whose files can only stand beside it.

    Raises:
        ModelError: there is none, or a file that stands elsewhere.
    """
    found = index.get("weight_map")
    if not isinstance(found, dict) or not found:
        raise ModelError(f"{where} has no weight_map", "fetch the index again")
    for name, file in found.items():
        if not isinstance(file, str) or os.path.basename(file) != file or not file.endswith(".safetensors"):
            raise ModelError(f"{where}: tensor {shown(name)} is in {shown(file)}; expected a .safetensors beside it")
    return found


def require_listed(where: Mapping[str, str], held: Mapping[str, Iterable[str]], index: str) -> None:
    """An index and its files name the same tensors in the same places.

    Raises:
        ModelError: the first tensor that they do not agree about.
    """
    inside = {file: set(names) for file, names in held.items()}
    for name, file in where.items():
        if name not in inside[file]:
            raise ModelError(f"{index}: tensor {shown(name)} is not in {file}", "fetch the files again")
    for file, names in inside.items():
        if unlisted := sorted(name for name in names if where.get(name) != file):
            raise ModelError(f"{index} does not list tensor {shown(unlisted[0])} of {file}", "fetch the files again")


def _sharded(index: str) -> Checkpoint:
    where = weight_map(read_mapping(index, limit=MAX_INDEX), index)
    directory = os.path.dirname(index)
    files = sorted(set(where.values()))
    headers = {file: safetensors_header.read_header(os.path.join(directory, file)) for file in files}
    require_listed(where, {file: header.tensors for file, header in headers.items()}, index)
    return safetensors_of(headers, index)


# ---- GGUF -----------------------------------------------------------------------------------------------------------


def _gguf(path: str) -> Checkpoint:
    parts = list(_parts(path))
    headers = [gguf_header.read_header(part) for part in parts]
    tensors: dict[str, Held] = {}
    for part, header in zip(parts, headers, strict=True):
        for each in header.tensors.values():
            if each.name in tensors:
                raise ModelError(f"{part}: tensor {shown(each.name)} is in another part too", "fetch the files again")
            tensors[each.name] = Held(each.name, each.type, each.shape, each.end - each.start)
    metadata = dict(headers[0].metadata)
    count = metadata.get("split.tensors.count", len(tensors))
    if count != len(tensors):
        raise ModelError(f"{path}: {len(tensors):,} tensors in {len(parts)} files of {shown(count)}", _PARTS)
    factors = next((_factors(*pair) for pair in zip(parts, headers, strict=True) if FACTORS in pair[1].tensors), None)
    return Checkpoint(kind="gguf", where=path, files=len(parts), tensors=tensors, metadata=metadata, factors=factors)


def _factors(path: str, header: gguf_header.GgufHeader) -> tuple[float, ...] | None:
    """The one tensor that is read: a few dozen numbers."""
    tensor = header.tensors[FACTORS]
    if tensor.type != "F32" or not 0 < tensor.numel <= MAX_FACTORS:
        raise ModelError(f"{path}: {FACTORS} is {tensor.type} {list(tensor.shape)}; expected a few fp32 numbers")
    with open(path, "rb") as file:
        file.seek(tensor.start)
        return struct.unpack(f"<{tensor.numel}f", file.read(4 * tensor.numel))


_PARTS: Final = "all parts of a split file must stand in one directory"


def _parts(path: str) -> Iterator[str]:
    """All files of a split model, from the name of any of them; the first holds the metadata."""
    found = _SPLIT.fullmatch(path)
    if not found:
        yield path
        return
    count = int(found[3])
    if not 1 <= count <= 1000:
        raise ModelError(f"{path} is one of {count} parts", _PARTS)
    for part in range(1, count + 1):
        name = f"{found[1]}-{part:05d}-of-{found[3]}{path[-5:]}"
        if not os.path.exists(name):
            raise ModelError(f"{name} does not exist: part {part} of {count}", _PARTS)
        yield name
