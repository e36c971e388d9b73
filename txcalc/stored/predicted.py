"""What a file would hold, told from a config alone: every tensor, and those of packed weights as the method lays out.

Everything that is not packed is in the config's dtype; balancing biases are fp32. Blocks of multi-token prediction are
there where the config numbers them, with the tables that files hold again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, Final

from txcalc.architecture import LatentAttention, MixtureOfExperts, Model, SelfAttention
from txcalc.architecture.attention import CrossAttention
from txcalc.architecture.feed_forward import FeedForward
from txcalc.cards.checkpoint import Checkpoint, Held
from txcalc.cards.safetensors_header import BITS
from txcalc.formulas.dtypes import config_dtype
from txcalc.reference.names import table_of
from txcalc.reference.names.plan import Plan
from txcalc.reference.names.shapes import SHAPES
from txcalc.reference.names.table import Source
from txcalc.stored import kinds
from txcalc.stored.comparing import Accounting, grouped
from txcalc.stored.extra import extra_tensors
from txcalc.stored.quantised import scheme_of
from txcalc.stored.scheme import Scheme
from txcalc.stored.tensors import is_buffer, tensors_of

_DTYPES: Final = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}
_CERTAIN: Final = (SelfAttention, LatentAttention, CrossAttention, FeedForward, MixtureOfExperts)


def predicted(model: Model, config: Mapping[str, Any]) -> tuple[Accounting, tuple[str, ...]]:
    """(what a file of this config holds, why that is an estimate if it is one).

    Raises:
        RequestError: names of this type, or the method, are not known.
    """
    made = _Prediction(model, scheme_of(config))
    held, place = {}, {}
    for component, tensor in made.tensors():
        held[tensor.name], place[tensor.name] = tensor, component
    checkpoint = Checkpoint(kind="safetensors", where="the config", files=0, tensors=held, metadata={})
    return Accounting(checkpoint=checkpoint, components=grouped(place)), made.reasons()


class _Prediction:
    """One model and one method; every tensor with its component."""

    def __init__(self, model: Model, scheme: Scheme | None) -> None:
        self.model, self.scheme = model, scheme
        self.table = table_of(model)
        self.parts = tensors_of(model)
        self.plan = Plan(self.parts, model, self.table)
        self.unfilled: list[str] = []
        self.dtype = _DTYPES[config_dtype(model.dtype).name]

    def tensors(self) -> Iterator[tuple[str, Held]]:
        for ways in self.plan.groups:
            if self.plan.is_optional(ways):
                continue
            way = ways[0]
            name = way.ours[0]
            buffer = is_buffer(self.model, name, self.parts[name])
            component = kinds.BUFFERS if buffer else kinds.component_of(name)
            for theirs, shape in zip(way.theirs, SHAPES[way.layout](way.goal), strict=True):
                if self._packs(way, theirs, shape):
                    yield from ((component, held) for held in self._packed(theirs, shape))
                else:
                    yield component, self._held(theirs, "F32" if buffer else self.dtype, shape)
        yield from ((kinds.MULTI_TOKEN, held) for held in self._extra())

    def _packs(self, way: Source, theirs: str, shape: tuple[int, ...]) -> bool:
        """Whether a weight is a matrix of a layer that the method packs."""
        if self.scheme is None or not theirs.endswith(self.scheme.main):
            return False
        ours = way.ours[0]
        in_layer = ".layers." in ours and ".router." not in ours and "shared_expert_gate" not in ours
        if self.scheme.stacked:
            return in_layer and len(shape) == 3 and not self._excluded(theirs)
        head = ours == "head.matrix" and self.scheme.head
        linear = len(shape) == 2 and ((in_layer and ".table" not in ours) or head)
        return linear and not self._excluded(theirs)

    def _excluded(self, theirs: str) -> bool:
        assert self.scheme is not None
        return self.scheme.excludes(theirs.removesuffix(self.scheme.main))

    def _packed(self, theirs: str, shape: tuple[int, ...]) -> Iterator[Held]:
        assert self.scheme is not None
        stem = theirs.removesuffix(self.scheme.main)
        if not self.scheme.fits(shape):
            self.unfilled.append(f"{stem}, {list(shape)},")
        for ending, (dtype, form) in self.scheme.pack(shape).items():
            yield self._held(stem + ending, dtype or self.dtype, form)

    def _extra(self) -> Iterator[Held]:
        for name, each in extra_tensors(self.model, self.table).items():
            inside = ".self_attn." in name or (".mlp." in name and ".gate." not in name)
            if self.scheme and not self.scheme.stacked and inside and len(each.shape) == 2 and not self._excluded(name):
                yield from self._packed(name, each.shape)
            else:
                yield self._held(name, "F32" if each.buffer else self.dtype, each.shape)

    def _held(self, name: str, dtype: str, shape: tuple[int, ...]) -> Held:
        return Held(name, dtype, shape, -(-prod(shape) * BITS[dtype] // 8))

    # ---- what the config does not settle ----------------------------------------------------------------------------

    def reasons(self) -> tuple[str, ...]:
        """Why the stored bytes are an estimate."""
        if self.scheme is None:
            return ()
        kinds_of = {type(each) for layer in self.model.main.layers for each in layer.sublayers()}
        reasons = [*self.scheme.open]
        if self.unfilled:
            reasons.append(f"{self.unfilled[0]} does not fill what {self.scheme.method} packs it in")
        if not kinds_of <= set(_CERTAIN):
            reasons.append("which matrices of recurrent mixers are packed is known from the file alone")
        every = [each for layer in self.model.main.layers for each in layer.sublayers()]
        if any(isinstance(each, LatentAttention) and each.indexer for each in every):
            reasons.append("which matrices of an indexer are packed is known from the file alone")
        if self.scheme.method in _BY_CLASS and MixtureOfExperts in kinds_of and not self._routers_excluded():
            reasons.append(f"{self.scheme.method}: whether routers are packed depends on the exporter's version")
        return tuple(reasons)

    def _routers_excluded(self) -> bool:
        routers = [ways[0].theirs[0] for ways in self.plan.groups if ".router." in ways[0].ours[0]]
        return all(self._excluded(name) for name in routers if name.endswith(".weight"))


_BY_CLASS: Final = ("bitsandbytes", "compressed-tensors")  # every module of torch's class for linear maps
