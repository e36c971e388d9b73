"""Which of a checkpoint's tensors make which of a model's, by names and shapes alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

from txcalc import architecture as arch
from txcalc.reference.names.shapes import SHAPES, Shape
from txcalc.reference.names.table import Source, Table, sources
from txcalc.reference.parts import Part, shared


class Plan:
    """A model's tensors, and every way in which a checkpoint may hold them.

    ``parts``: every tensor of the model, as ``parts.parts`` lists those of a module.

    Raises:
        RequestError: the table has no line for a tensor of this model.
    """

    def __init__(self, parts: Mapping[str, Part], architecture: arch.Model, table: Table) -> None:
        self.table, self.parts = table, parts
        role, kind = architecture.main.role, architecture.model_type
        self.groups = sources(table, parts, role, kind)
        self.again = self._again(architecture, role, kind)

    def _again(self, architecture: arch.Model, role: str, kind: str) -> list[tuple[str, list[Source]]]:
        """(name of ours, how a checkpoint may hold it a second time) for tensors that are shared."""
        owners = shared(architecture)
        second = {name: Part("", self.parts[owner].shape, None, {}) for name, owner in owners.items()}
        return [(owners[name], sources(self.table, {name: part}, role, kind)[0]) for name, part in second.items()]

    def ways(self) -> Iterator[Source]:
        """Every way in which a checkpoint may hold anything."""
        for ways in self.groups:
            yield from ways
        for _, ways in self.again:
            yield from ways

    def keys_in(self, names: Iterable[str]) -> dict[str, str]:
        """Name in the table -> key in this checkpoint, which may leave out the base's prefix or use older spellings."""
        wanted = {name for way in self.ways() for name in way.theirs}
        keys: dict[str, str] = {}
        for key in names:
            for name in self._spellings(key):
                if name in wanted and name not in keys:
                    keys[name] = key
                    break
        return keys

    def _spellings(self, key: str) -> Iterator[str]:
        yield key
        yield self.table.base + key
        newer = key
        for old, new in self.table.older:
            newer = newer.replace(old, new)
        yield newer
        yield self.table.base + newer

    def present(self, ways: list[Source], keys: Mapping[str, str]) -> list[Source]:
        """Those ways that this checkpoint has all tensors of."""
        return [way for way in ways if all(name in keys for name in way.theirs)]

    def missing(self, keys: Mapping[str, str]) -> list[str]:
        """Tensors that nothing in the checkpoint makes, in its spelling."""
        lacking = [ways for ways in self.groups if not (self.present(ways, keys) or self.is_optional(ways))]
        nearest = [max(ways, key=lambda way: sum(name in keys for name in way.theirs)) for ways in lacking]
        return [name for way in nearest for name in way.theirs if name not in keys]

    def is_optional(self, ways: list[Source]) -> bool:
        """Whether a checkpoint may leave this out."""
        return all(name in self.table.optional for name in ways[0].ours)

    def second_copies(self, keys: Mapping[str, str]) -> list[str]:
        """Tensors of the checkpoint that hold once more what is shared: a tied head, a table of two stacks."""
        return [keys[name] for _, ways in self.again for way in self.present(ways, keys) for name in way.theirs]

    def surplus(self, names: Iterable[str], keys: Mapping[str, str]) -> list[str]:
        """Tensors that the model has no place for, less those that are known to be no weights."""
        every = [*self.groups, *(ways for _, ways in self.again)]
        used = {keys[name] for ways in every for way in self.present(ways, keys) for name in way.theirs}
        return [key for key in names if key not in used and not self.no_weight(key)]

    def no_weight(self, key: str) -> bool:
        """Whether a tensor is known to follow from the config: masks, rotary tables, position numbers."""
        return any(fnmatchcase(key, pattern) for pattern in self.table.not_weights)

    def misshapen(self, shapes: Mapping[str, Shape], keys: Mapping[str, str]) -> list[str]:
        """Tensors of another shape than the model's."""
        wrong = []
        for way in self.ways():
            if all(name in keys for name in way.theirs):
                for name, expected in zip(way.theirs, SHAPES[way.layout](way.goal), strict=True):
                    found = shapes[keys[name]]
                    if found != expected:
                        wrong.append(f"{keys[name]} is {list(found)}, expected {list(expected)}")
        return list(dict.fromkeys(wrong))
