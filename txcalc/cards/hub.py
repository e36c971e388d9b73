"""A model by its hub id: config.json through huggingface-hub, and the headers of its safetensors files, never weights.

The cache is asked first, and then the network: endpoint, token and offline mode are huggingface-hub's own
(``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HUB_OFFLINE``, ``HF_HUB_CACHE``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlparse

from txcalc.cards.checkpoint import MAX_INDEX, Checkpoint, open_checkpoint, require_listed, safetensors_of, weight_map
from txcalc.cards.files import MAX_BYTES, read_mapping
from txcalc.cards.finding import CONFIG, WEIGHTS
from txcalc.cards.ranged import Remote, safetensors_header
from txcalc.errors import ModelError

MAX_SHARDS: Final = 2000
_AT_ONCE: Final = 8
_TIMEOUT: Final = 10.0
_REPOSITORY: Final = re.compile(r"/(?:api/resolve-cache/models/)?([^/]+/[^/]+)/")


class Repository(NamedTuple):
    """A model on the hub: ``name`` is what it is called there now, ``revision`` what was asked for, if anything."""

    name: str
    revision: str | None = None
    asked: str = ""

    @property
    def renamed(self) -> bool:
        """Whether the hub knows the model by another name than was asked for."""
        return bool(self.asked) and self.asked.lower() != self.name.lower()


def repository(text: str) -> Repository:
    """``org/name`` or ``org/name@revision``."""
    name, _, revision = text.partition("@")
    return Repository(name, revision or None)


def config_of_hub(repo: Repository) -> tuple[dict[str, Any], Repository]:
    """A model's config.json, and the model under its present name.

    Raises:
        ModelError: no such model or revision, a gated one, no config.json, no network.
    """
    path = _cached(repo, CONFIG)
    if path is None:
        repo, path = _fetched(repo, CONFIG, MAX_BYTES[False])
    return read_mapping(path), repo


def checkpoint_of_hub(repo: Repository) -> Checkpoint:
    """The headers of a model's safetensors files, in ranged reads.

    Raises:
        ModelError: no safetensors files, no network, or files that do not hold what they say.
    """
    index, single = WEIGHTS
    for name in WEIGHTS:
        path = _cached(repo, name)
        if path is not None and (name == single or _all_cached(path)):
            return open_checkpoint(path)
    where = f"{repo.name}: {index}"
    try:
        repo, path = _fetched(repo, index, MAX_INDEX)
    except _MissingFileError:
        header = safetensors_header(_remote(repo, single), f"{repo.name}: {single}")
        return safetensors_of({single: header}, f"{repo.name}/{single}")
    listed = weight_map(read_mapping(path, limit=MAX_INDEX), where)
    files = sorted(set(listed.values()))
    if len(files) > MAX_SHARDS:
        raise ModelError(f"{where} names {len(files):,} files", "no model has so many")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        headers = dict(zip(files, pool.map(partial(_header, repo), files), strict=True))
    require_listed(listed, {file: header.tensors for file, header in headers.items()}, where)
    return safetensors_of(headers, f"{repo.name}/{index}")


def _all_cached(index: str) -> bool:
    """Whether every shard lies beside a cached index."""
    listed = weight_map(read_mapping(index, limit=MAX_INDEX), index)
    return all(os.path.exists(os.path.join(os.path.dirname(index), file)) for file in set(listed.values()))


def _header(repo: Repository, file: str) -> Any:
    return safetensors_header(_remote(repo, file), f"{repo.name}: {file}")


# ---- huggingface-hub ------------------------------------------------------------------------------------------------


class _MissingFileError(ModelError):
    """The repository is there, and has no such file."""


def _cached(repo: Repository, file: str) -> str | None:
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(repo.name, file, cache_dir=constants.HF_HUB_CACHE, revision=repo.revision)
    return found if isinstance(found, str) else None


def _fetched(repo: Repository, file: str, limit: int) -> tuple[Repository, str]:
    """A small file through huggingface-hub, which keeps it in its cache.

    One look first, so that no network is an answer at once and a file that is no config is not fetched.
    """
    import huggingface_hub as hub
    from huggingface_hub import constants

    _quiet()
    try:
        if constants.HF_HUB_OFFLINE:
            raise hub.errors.OfflineModeIsEnabled("offline")
        url = hub.hf_hub_url(repo.name, file, revision=repo.revision)
        seen = hub.get_hf_file_metadata(url, token=hub.get_token(), timeout=_TIMEOUT)
        if seen.size is not None and seen.size > limit:
            raise ModelError(f"{repo.name}: {file} has {seen.size:,} bytes", f"{limit:,} are read at most")
        repo = repo._replace(name=_name_in(seen.location, constants.ENDPOINT) or repo.name, asked=repo.name)
        path = hub.hf_hub_download(repo.name, file, revision=repo.revision, cache_dir=constants.HF_HUB_CACHE)
    except ModelError:
        raise
    except Exception as error:  # the hub's own errors and its HTTP client's, which versions name differently
        raise _told(repo, file, error) from None
    return repo, str(path)


def _quiet() -> None:
    """The hub's own progress bars, warnings and retries are not part of an answer."""
    import logging

    from huggingface_hub import utils

    utils.disable_progress_bars()  # type: ignore[attr-defined]  # exported, if not by __all__
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)


def _name_in(location: str, endpoint: str) -> str:
    """The repository that an address on the hub belongs to; empty for one elsewhere."""
    here, there = urlparse(endpoint), urlparse(location)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        return ""
    found = _REPOSITORY.match(unquote(there.path).removeprefix(here.path.rstrip("/")))
    return found[1] if found else ""


def _remote(repo: Repository, file: str) -> Remote:
    """Where to read pieces of a file, and how."""
    import huggingface_hub as hub
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise _told(repo, file, hub.errors.OfflineModeIsEnabled("offline"))
    url = hub.hf_hub_url(repo.name, file, revision=repo.revision)
    return Remote(url, hub.get_token(), _TIMEOUT)


# ---- what went wrong ------------------------------------------------------------------------------------------------

_TOKEN: Final = "hf auth login, or HF_TOKEN, with an account that has access"
_OFFLINE: Final = "unset HF_HUB_OFFLINE, or name a local config.json"


def _told(repo: Repository, file: str, error: Exception) -> ModelError:
    """One line and a hint for an error, told by the names of its classes."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    name = repo.name if repo.revision is None else f"{repo.name}@{repo.revision}"
    known: Mapping[str, tuple[str, str]] = {
        "GatedRepoError": ("is gated: its owners let no one read it without asking", _TOKEN),
        "DisabledRepoError": ("was disabled on the hub", "name a local config.json"),
        "RevisionNotFoundError": ("has no such revision", "leave out the part after @"),
        "RepositoryNotFoundError": ("is not on the hub, or is private", f"check the name; for a private one: {_TOKEN}"),
        "OfflineModeIsEnabled": (f"is not in the cache ({file}), and the hub is offline", _OFFLINE),
        "HFValidationError": ("is not a hub id", "a hub id is org/name or org/name@revision"),
    }
    if "LocalEntryNotFoundError" not in kinds and "EntryNotFoundError" in kinds:
        return _MissingFileError(f"{name} has no {file} on the hub", "txcalc reads config.json and safetensors files")
    for kind, (what, hint) in known.items():
        if kind in kinds:
            return ModelError(f"{name} {what}", hint)
    first = (str(error).splitlines() or [""])[0]
    return ModelError(
        f"{name}: the hub cannot be reached ({type(error).__name__}: {first[:200]})",
        "check the network, HF_ENDPOINT and proxies, or name a local config.json",
    )
