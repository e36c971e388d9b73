"""A checkpoint's tensors beside those of its config: every difference named, every element accounted for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, Final

from txcalc.architecture import Model
from txcalc.cards.checkpoint import Checkpoint, Held
from txcalc.errors import RequestError
from txcalc.formulas.params import params
from txcalc.record import Record
from txcalc.reference.names import table_of
from txcalc.reference.names.gguf import gguf_names_of
from txcalc.reference.names.plan import Plan
from txcalc.reference.names.shapes import SHAPES
from txcalc.reference.names.table import Source
from txcalc.stored import kinds
from txcalc.stored.extra import extra_tensors
from txcalc.stored.quantised import scheme_of
from txcalc.stored.scheme import MAIN, Scheme
from txcalc.stored.tensors import is_buffer, tensors_of
from txcalc.stored.units import packing_faults, units_of


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
SHAPES_DIFFER: Final = "of another shape than the config's"
ZEROS: Final = "biases of zeros, which exporters add"
PACKED: Final = "packed weights: containers and scales in place of elements"
EXCLUDED: Final = "packed, and the config says that they are not"
NO_EXTRA: Final = "multi-token-prediction blocks of the config, which the file leaves out"
LEFT: Final = "left over: the config has no place for them"
UNEXPLAINED: Final = "not compared by name"
_APART: Final = (kinds.BUFFERS, kinds.MULTI_TOKEN, kinds.OTHER, AGAIN, ZEROS)


def by_name(checkpoint: Checkpoint, *, uncompared: str = "") -> Accounting:
    """A checkpoint alone: components as its names suggest."""
    return Accounting(
        checkpoint=checkpoint,
        components=grouped({name: kinds.component_by_name(name) for name in checkpoint.tensors}),
        uncompared=uncompared,
    )


def compare(checkpoint: Checkpoint, model: Model, config: Mapping[str, Any] | None = None) -> Accounting:
    """A checkpoint beside the model that its config describes; ``config`` says how it is quantised, if it is."""
    total = int(params(model).figures()["params.total"])
    try:
        scheme = scheme_of(config or {}) if checkpoint.kind == "safetensors" else None
        return _Comparison(checkpoint, model, scheme).accounting(total)
    except RequestError as unknown:
        alone = by_name(checkpoint, uncompared=unknown.message)
        rest = checkpoint.numel - total
        unexplained = Difference(what=UNEXPLAINED, names=(), elements=rest, nbytes=0, expected=False)
        return alone.replace(total=total, differences=(unexplained,) if rest else ())


class _Comparison:
    """One checkpoint, one model, and the table of names between them.

    Raises:
        RequestError: names or tensors of this model's type are not known.
    """

    def __init__(self, checkpoint: Checkpoint, model: Model, scheme: Scheme | None) -> None:
        self.held, self.checkpoint, self.model, self.scheme = checkpoint.tensors, checkpoint, model, scheme
        table = gguf_names_of(model) if checkpoint.kind == "gguf" else table_of(model)
        self.parts = tensors_of(model)
        self.plan = Plan(self.parts, model, table)
        self.units = units_of(self.held, scheme)
        self.keys = self.plan.keys_in(self.units)
        self.extra = extra_tensors(model, table) if checkpoint.kind == "safetensors" else {}
        self.faults: list[str] = []
        self.shapes = self._shapes()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight: of a packed one the one that its tensors pack, faults apart."""
        shapes = {key: self.held[unit.names[""]].shape for key, unit in self.units.items() if "" in unit.names}
        shapes |= {
            key: self.held[u.names[MAIN]].shape for key, u in self.units.items() if not u.packed and "" not in u.names
        }
        for way in self.plan.ways():
            for name, expected in zip(way.theirs, SHAPES[way.layout](way.goal), strict=True):
                key = self.keys.get(name, "")
                if key and self.units[key].packed and key not in shapes and self.scheme:
                    shapes[key] = expected
                    self.faults += packing_faults(self.units[key], key, expected, self.held, self.scheme)
        return shapes

    def accounting(self, total: int) -> Accounting:
        place = self._places()
        surplus = [key for key in self.units if key not in place]
        blocks = {key.rpartition(".eh_proj.")[0] for key in surplus if ".eh_proj." in key}
        place |= {key: self._kind_of_surplus(key, blocks) for key in surplus}
        named = [
            self._of(BUFFERS, [key for key, kind in place.items() if kind == kinds.BUFFERS]),
            self._of(TIED, [key for key, kind in place.items() if kind == AGAIN]),
            self._of(EXTRA, [key for key in surplus if place[key] == kinds.MULTI_TOKEN]),
            self._packing([key for key, kind in place.items() if kind not in _APART]),
            *self._extra_faults(),
            self._of(ZEROS, [key for key in surplus if place[key] == ZEROS]),
            self._of(LEFT, [key for key in surplus if place[key] == kinds.OTHER], expected=False),
            self._missing(),
            self._misshapen(),
            self._excluded(place),
        ]
        differences = [each for each in named if each is not None]
        rest = self.checkpoint.numel - total - sum(each.elements for each in differences)
        if rest:
            differences.append(_difference(UNEXPLAINED, (), rest, 0, expected=False))
        stored = {name: kind for key, kind in place.items() for name in self.units[key].names.values()}
        return Accounting(
            checkpoint=self.checkpoint, components=grouped(stored), total=total, differences=tuple(differences)
        )

    # ---- where a weight belongs -------------------------------------------------------------------------------------

    def _places(self) -> dict[str, str]:
        """Component of every weight that the config has a place for."""
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

    def _kind_of_surplus(self, key: str, blocks: set[str]) -> str:
        if (
            key in self.extra
            or kinds.is_multi_token(key)
            or any(key.startswith(f"{block}.") for block in blocks if block)
        ):
            return kinds.MULTI_TOKEN
        owner = self.units.get(f"{key.removesuffix('.bias')}{MAIN}")
        if key.endswith(".bias") and owner and owner.packed and self.scheme and ".bias" in self.scheme.optional:
            return ZEROS
        return kinds.BUFFERS if self.plan.no_weight(key) or kinds.is_buffer(key) else kinds.OTHER

    def _tensors(self, keys: Iterable[str]) -> list[Held]:
        return [self.held[name] for key in keys for name in self.units[key].names.values()]

    # ---- differences ------------------------------------------------------------------------------------------------

    def _of(self, what: str, keys: list[str], *, expected: bool = True) -> Difference | None:
        held = self._tensors(keys)
        return _difference(what, tuple(keys), _elements(held), _bytes(held), expected=expected) if keys else None

    def _packing(self, keys: list[str]) -> Difference | None:
        """Packed weights: their containers and scales in place of elements."""
        packed = [key for key in keys if self.units[key].packed]
        held = self._tensors(packed)
        grown = _elements(held) - sum(self._numel(key) for key in packed)
        what = f"{PACKED} ({self.scheme.method})" if self.scheme else PACKED
        return _difference(what, tuple(packed), grown, _bytes(held)) if packed else None

    def _numel(self, key: str) -> int:
        """Elements of a weight, unpacked."""
        return prod(self.shapes.get(key, (0,)))

    def _extra_faults(self) -> list[Difference]:
        """Blocks that the config numbers and the file lacks, or holds otherwise."""
        lacking = [name for name in self.extra if name not in self.units and not self.extra[name].copy]
        if self.extra and not any(name in self.units for name in self.extra):
            return [_difference(NO_EXTRA, tuple(lacking), 0, 0)]
        wrong = [
            f"{name} is {list(self.shapes[name])}, expected {list(each.shape)}"
            for name, each in self.extra.items()
            if name in self.shapes and not self.units[name].packed and self.shapes[name] != each.shape
        ]
        found = [(MISSING, lacking), (SHAPES_DIFFER, wrong)]
        return [_difference(what, tuple(names), 0, 0, expected=False) for what, names in found if names]

    def _missing(self) -> Difference | None:
        """Tensors of ours that nothing in the file makes, or not all of what makes them."""
        names = tuple(self.plan.missing(self.keys))
        elements = 0
        for ways in self.plan.groups:
            ours = ways[0].ours
            if not self.plan.present(ways, self.keys) and not is_buffer(self.model, ours[0], self.parts[ours[0]]):
                partly = {self.keys[name] for way in ways for name in way.theirs if name in self.keys}
                elements += sum(self._numel(key) for key in partly)
                elements -= sum(prod(self.parts[name].shape) for name in ours)
        return _difference(MISSING, names, elements, 0, expected=False) if names else None

    def _misshapen(self) -> Difference | None:
        wrong = (*self.plan.misshapen(self.shapes, self.keys), *self.faults)
        return _difference(SHAPES_DIFFER, wrong, self._growth(), 0, expected=False) if wrong else None

    def _growth(self) -> int:
        """Elements that parameters in the file have more than in the config."""
        growth = 0
        for ways in self.plan.groups:
            for way in self.plan.present(ways, self.keys)[:1]:
                if not is_buffer(self.model, way.ours[0], self.parts[way.ours[0]]):
                    growth += sum(self._numel(self.keys[name]) for name in way.theirs)
                    growth -= sum(prod(shape) for shape in way.goal.shapes)
        return growth

    def _excluded(self, place: Mapping[str, str]) -> Difference | None:
        """Weights that are packed although the config says that they are not."""
        if self.scheme is None:
            return None
        main = self.scheme.main
        packed = (key for key in place if self.units[key].packed)
        wrong = tuple(key for key in packed if self.scheme.excludes(key.removesuffix(main)))
        return _difference(EXCLUDED, wrong, 0, 0, expected=False) if wrong else None


def _difference(what: str, names: tuple[str, ...], elements: int, nbytes: int, *, expected: bool = True) -> Difference:
    return Difference(what=what, names=names, elements=elements, nbytes=nbytes, expected=expected)


def _elements(held: Iterable[Held]) -> int:
    return sum(each.numel for each in held)


def _bytes(held: Iterable[Held]) -> int:
    return sum(each.nbytes for each in held)


def grouped(place: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Names by component."""
    found: dict[str, list[str]] = {}
    for name, component in place.items():
        found.setdefault(component, []).append(name)
    return {component: tuple(names) for component, names in found.items()}
