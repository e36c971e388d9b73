"""A checkpoint's tensors beside those of its config: every difference named, every element accounted for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Final

from txcalc.architecture import Model
from txcalc.cards.checkpoint import Checkpoint, Held
from txcalc.errors import RequestError
from txcalc.formulas.params import params
from txcalc.record import Record
from txcalc.reference.names import table_of
from txcalc.reference.names.gguf import gguf_table_of
from txcalc.reference.names.plan import Plan
from txcalc.reference.names.table import Source
from txcalc.stored import kinds
from txcalc.stored.tensors import is_buffer, tensors_of


class Difference(Record):
    """One way in which stored elements differ from ``params.total``.

    ``elements``: what it adds to them (negative: takes away); ``nbytes``: of the tensors named, where the file has
    them. ``expected``: the files of such a model hold this, so that the two still agree.
    """

    what: str
    names: tuple[str, ...]
    elements: int
    nbytes: int
    expected: bool = True
    details: tuple[str, ...] = ()


class Accounting(Record):
    """A checkpoint told by component and held against a model.

    ``components``: component -> names of its tensors. ``total``: ``params.total``, None where there is no config.
    ``differences`` lead from it to the stored elements. ``uncompared``: why tensors were not compared one by one.
    """

    checkpoint: Checkpoint
    components: Mapping[str, tuple[str, ...]]
    total: int | None = None
    differences: tuple[Difference, ...] = ()
    uncompared: str = ""

    @property
    def agrees(self) -> bool:
        """Whether every tensor is where the config puts it, or is known to be no weight."""
        return not self.uncompared and all(each.expected for each in self.differences)


AGAIN: Final = "stored again"
TIED: Final = "tied tensors stored once more"
BUFFERS: Final = "buffers, which are no parameters"
EXTRA: Final = "multi-token-prediction blocks"
MISSING: Final = "missing: the config has them, the file has not"
SHAPES: Final = "of another shape than the config's"
LEFT: Final = "left over: the config has no place for them"
UNEXPLAINED: Final = "not compared by name"


def by_name(checkpoint: Checkpoint, *, uncompared: str = "") -> Accounting:
    """A checkpoint alone: components as its names suggest."""
    return Accounting(
        checkpoint=checkpoint,
        components=_grouped({name: kinds.component_by_name(name) for name in checkpoint.tensors}),
        uncompared=uncompared,
    )


def compare(checkpoint: Checkpoint, model: Model) -> Accounting:
    """A checkpoint beside the model that its config describes."""
    total = int(params(model).figures()["params.total"])
    try:
        return _Comparison(checkpoint, model).accounting(total)
    except RequestError as unknown:
        alone = by_name(checkpoint, uncompared=unknown.message)
        rest = checkpoint.numel - total
        names = () if not rest else (f"{abs(rest):,} elements {'more' if rest > 0 else 'fewer'} than the config's",)
        unexplained = Difference(what=UNEXPLAINED, names=names, elements=rest, nbytes=0, expected=not rest)
        return alone.replace(total=total, differences=(unexplained,) if rest else ())


class _Comparison:
    """One checkpoint, one model, and the table of names between them.

    Raises:
        RequestError: names or tensors of this model's type are not known.
    """

    def __init__(self, checkpoint: Checkpoint, model: Model) -> None:
        self.held, self.checkpoint, self.model = checkpoint.tensors, checkpoint, model
        table = gguf_table_of(model) if checkpoint.kind == "gguf" else table_of(model)
        self.parts = tensors_of(model)
        self.plan = Plan(self.parts, model, table)
        self.keys = self.plan.keys_in(self.held)

    def accounting(self, total: int) -> Accounting:
        place = self._places()
        surplus = [name for name in self.held if name not in place]
        for name in surplus:
            place[name] = self._kind_of_surplus(name)
        named = [
            self._of(BUFFERS, (name for name, kind in place.items() if kind == kinds.BUFFERS)),
            self._of(TIED, (name for name, kind in place.items() if kind == AGAIN)),
            self._of(EXTRA, (name for name in surplus if place[name] == kinds.MULTI_TOKEN)),
            self._of(LEFT, (name for name in surplus if place[name] == kinds.OTHER), expected=False),
            self._missing(),
            self._misshapen(),
        ]
        differences = [each for each in named if each is not None]
        rest = self.checkpoint.numel - total - sum(each.elements for each in differences)
        if rest:
            differences.append(_difference(UNEXPLAINED, (), rest, 0, expected=False))
        return Accounting(
            checkpoint=self.checkpoint, components=_grouped(place), total=total, differences=tuple(differences)
        )

    def _places(self) -> dict[str, str]:
        """Component of every tensor that the config has a place for."""
        place = dict.fromkeys(self.plan.second_copies(self.keys), AGAIN)
        for ways in self.plan.groups:
            present = self.plan.present(ways, self.keys)
            place |= {self.keys[name]: AGAIN for way in present[1:] for name in way.theirs}
            for way in present[:1] or ways:
                found = {self.keys[name]: self._component(way) for name in way.theirs if name in self.keys}
                place |= found if present else {name: kind for name, kind in found.items() if name not in place}
        return place

    def _component(self, way: Source) -> str:
        name = way.ours[0]
        return kinds.BUFFERS if is_buffer(self.model, name, self.parts[name]) else kinds.component_of(name)

    def _kind_of_surplus(self, name: str) -> str:
        if self.plan.no_weight(name):
            return kinds.BUFFERS
        if kinds.is_multi_token(name):
            return kinds.MULTI_TOKEN
        return kinds.BUFFERS if kinds.is_buffer(name) else kinds.OTHER

    def _of(self, what: str, names: Iterable[str], *, expected: bool = True) -> Difference | None:
        listed = tuple(names)
        held = [self.held[name] for name in listed]
        return _difference(what, listed, _elements(held), _bytes(held), expected=expected) if listed else None

    def _missing(self) -> Difference | None:
        """Tensors of ours that nothing in the file makes, or not all of what makes them."""
        names = tuple(self.plan.missing(self.keys))
        elements = 0
        for ways in self.plan.groups:
            ours = ways[0].ours
            if not self.plan.present(ways, self.keys) and not is_buffer(self.model, ours[0], self.parts[ours[0]]):
                partly = {self.keys[name] for way in ways for name in way.theirs if name in self.keys}
                elements += _elements(self.held[name] for name in partly)
                elements -= sum(prod(self.parts[name].shape) for name in ours)
        return _difference(MISSING, names, elements, 0, expected=False) if names else None

    def _misshapen(self) -> Difference | None:
        shapes = {name: each.shape for name, each in self.held.items()}
        wrong = tuple(self.plan.misshapen(shapes, self.keys))
        return _difference(SHAPES, wrong, self._growth(), 0, expected=False) if wrong else None

    def _growth(self) -> int:
        """Elements that parameters in the file have more than in the config."""
        growth = 0
        for ways in self.plan.groups:
            for way in self.plan.present(ways, self.keys)[:1]:
                if not is_buffer(self.model, way.ours[0], self.parts[way.ours[0]]):
                    growth += _elements(self.held[self.keys[name]] for name in way.theirs)
                    growth -= sum(prod(shape) for shape in way.goal.shapes)
        return growth


def _difference(what: str, names: tuple[str, ...], elements: int, nbytes: int, *, expected: bool = True) -> Difference:
    return Difference(what=what, names=names, elements=elements, nbytes=nbytes, expected=expected)


def _elements(held: Iterable[Held]) -> int:
    return sum(each.numel for each in held)


def _bytes(held: Iterable[Held]) -> int:
    return sum(each.nbytes for each in held)


def _grouped(place: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name, component in place.items():
        found.setdefault(component, []).append(name)
    return {component: tuple(names) for component, names in found.items()}
