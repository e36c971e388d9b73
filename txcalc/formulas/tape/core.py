"""What torch allocates, keeps and frees while a block runs forward and backward: a tape without tensors.

A block's walk (``blocks``) says which operators run; an operator (``operators``) says what it allocates, which
storages its backward will read, and what that backward allocates. The tape adds up the bytes that are live, remembers
the highest sum of each phase and what was live then. Every size is an ``Expression`` in the legend's letters.

Rules of torch that it follows (autograd engine, torch 2.13): a storage lives while Python, a saved tensor or a gradient
buffer holds it; nodes run backward in the reverse of the order in which they were made; a node's saved tensors and its
incoming gradient are dropped when it has run; a second gradient of the same tensor is added in place where the buffer
holds the only reference to a tensor that is no view, and makes a new tensor otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal, NamedTuple

from txcalc.expression import Expression

Backward = Callable[..., "list[tuple[Value, Grad]]"]


class Store:
    """One storage: its size, and how many hold it. ``given``: counted elsewhere (a parameter, a table of the pass).

    Of ``elements`` of ``width`` bytes each, or of as many bytes as there are elements where no width is given.
    """

    __slots__ = ("bytes", "elements", "given", "name", "owners", "width")

    def __init__(self, name: str, elements: Expression, width: int | None = None, given: bool = False) -> None:
        self.name, self.elements, self.width = name, elements, width
        self.bytes = int(elements) if width is None else int(elements) * width
        self.owners, self.given = 1, given

    @property
    def size(self) -> Expression:
        """The bytes with the arithmetic they come from, which only those that are shown need."""
        return self.elements if self.width is None else self.elements * self.width


class Value:
    """A tensor: its storage, how many elements of how many bytes, and whether it needs a gradient.

    ``leaf``: a parameter, whose gradient stays when all ``pending`` contributions to it have arrived; ``tied``: another
    part has a contribution too, so that this one waits for it.
    """

    __slots__ = ("elements", "leaf", "needs_grad", "pending", "store", "tied", "width")

    def __init__(self, store: Store, elements: Expression, width: int, needs_grad: bool, leaf: bool = False) -> None:
        self.store, self.elements, self.width = store, elements, width
        self.needs_grad, self.leaf, self.pending, self.tied = needs_grad, leaf, 0, False


class Grad(NamedTuple):
    """A gradient: its storage, and whether it is a view of it (then nothing is added to it in place).

    ``summed``: it is as large as the output, and the engine sums it over the axes along which the input was broadcast.
    """

    store: Store
    view: bool = False
    summed: bool = False


class Node(NamedTuple):
    """What an operator left for the backward pass.

    ``takes``: it drops its incoming gradient itself. ``reads_tables``: it reads tables that all layers share.
    """

    outputs: tuple[Value, ...]
    saved: tuple[Store, ...]
    backward: Backward
    takes: bool = False
    reads_tables: bool = False


class Peak(NamedTuple):
    """The most that was live in a phase, and the storages that were."""

    bytes: int
    stores: tuple[Store, ...]


Mode = Literal["inference", "training", "checkpointed"]


class Tape:
    """Live bytes through a forward and a backward pass.

    ``mode``: ``inference`` makes no nodes, ``training`` keeps what the backward reads; ``checkpointed`` makes nodes
    that keep nothing, as the forward pass of what is recomputed later. ``accumulate``: parameters already have
    gradients, so that a new one is added to the old and freed. ``summed``: so they have, from another layer that shares
    them. ``observed``: as a dispatch mode sees it, under which torch never adds the gradients of one backward pass in
    place, and which does not see what a kernel allocates and frees inside.
    """

    def __init__(
        self, mode: Mode = "training", *, accumulate: bool = False, observed: bool = False, summed: bool = False
    ) -> None:
        self.mode, self.accumulate, self.observed, self.summed = mode, accumulate, observed, summed
        self.live = 0
        self.held: dict[Store, None] = {}
        self.nodes: list[Node] = []
        self.parameter_gradients: list[Store] = []  # those that stay
        self.trained: list[Store] = []  # every parameter's, whether it stays or is added to one that was there
        self._last_pack: int | None = None  # where a recomputation stops: the node that saves the last tensor
        self._owners_before: dict[Store, int] = {}
        self.with_tables = Peak(0, ())  # of the backward pass, as long as tables that all layers share are read
        self._recomputed = False  # saved tensors of a recomputation are dropped as soon as they have been read
        self._stopped = False
        self._top, self._top_stores = 0, tuple[Store, ...]()
        self._rising = False  # what is held is what was at the top, until something is freed or no new top comes
        self._before = (0, tuple[Store, ...]())
        self._buffers: dict[Value, Grad] = {}

    # ---- storages ---------------------------------------------------------------------------------------------------

    def store(self, name: str, elements: Expression, width: int | None = None) -> Store:
        """Allocate."""
        made = Store(name, elements, width, self._stopped)
        if self._stopped:
            return made
        if self._last_pack is not None:
            self._before = (self._top, self._highest())
        live = self.live + made.bytes
        if live <= self._top:
            self._highest()
        else:
            self._top, self._rising = live, True
        self.held[made], self.live = None, live
        return made

    def _highest(self) -> tuple[Store, ...]:
        """The storages that were there at the top, written down as late as they can be."""
        if self._rising:
            self._top_stores, self._rising = tuple(self.held), False
        return self._top_stores

    def hold(self, store: Store) -> Store:
        """One more owner."""
        if not self._stopped:
            store.owners += 1
        return store

    def release(self, store: Store) -> None:
        """One owner less; freed after the last."""
        store.owners -= 1
        if not store.owners and not store.given:
            if self._rising:
                self._highest()
            del self.held[store]
            self.live -= store.bytes

    def new(self, name: str, elements: Expression, width: int, *, needs_grad: bool = False) -> Value:
        """A new tensor, held by Python until it is dropped."""
        return Value(self.store(name, elements, width), elements, width, needs_grad and self.mode != "inference")

    def given(self, name: str, elements: Expression, width: int, *, trainable: bool = False) -> Value:
        """A tensor that was there before and is counted elsewhere: a parameter, a table."""
        store = Store(name, elements, width, True)
        return Value(store, elements, width, trainable and self.mode != "inference", leaf=True)

    def again(self, value: Value) -> Value:
        """The same tensor, held once more."""
        self.hold(value.store)
        return value

    def drop(self, *values: Value) -> None:
        """Python forgets these."""
        if self._stopped:
            return
        for value in values:
            store = value.store
            if store.owners > 1:
                store.owners -= 1
            else:
                self.release(store)

    def scratch(self, *sizes: Expression) -> None:
        """What a kernel allocates and frees inside: seen by the allocator, not by a dispatch mode."""
        if not self.observed:
            for store in [self.store("scratch of a kernel", size) for size in sizes]:
                self.release(store)

    def peak(self) -> Peak:
        """The peak since the last call; a new phase begins."""
        peak = Peak(self._top, self._highest())
        self._top, self._top_stores = self.live, tuple(self.held)
        return peak

    def kept(self) -> tuple[Store, ...]:
        """The storages that the backward pass will read, each once."""
        return tuple({store: None for node in self.nodes for store in node.saved if not store.given})

    # ---- autograd ---------------------------------------------------------------------------------------------------

    def record(
        self,
        outputs: Value | tuple[Value, ...],
        inputs: Iterable[Value],
        saved: Iterable[Value],
        backward: Backward,
        *,
        takes: bool = False,
        reads_tables: bool = False,
    ) -> None:
        """Leave a node for the backward pass, where some input needs a gradient."""
        if self.mode == "inference":
            return
        needing = [value for value in inputs if value.needs_grad]
        if not needing:
            return
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        kept = tuple(value.store for value in saved)
        self.nodes.append(Node(outputs, kept, backward, takes, reads_tables))
        for value in needing:
            value.pending += 1
        if self.mode == "training":
            for store in kept:
                self.hold(store)
            if len(self.nodes) - 1 == self._last_pack:
                self._stop(outputs)

    def _stop(self, outputs: tuple[Value, ...]) -> None:
        """The last saved tensor is there: the operator that reads it does not run, and Python forgets the rest."""
        owners = dict(self._owners_before)
        for node in self.nodes:
            for store in node.saved:
                owners[store] = owners.get(store, 0) + 1
        if next(reversed(self.held)) in [output.store for output in outputs if output.store not in owners]:
            (self._top, self._top_stores), self._rising = self._before, False
        for store in list(self.held):
            store.owners = owners.get(store, 0) + 1
            self.release(store)
        self._stopped = True

    def recompute(
        self,
        inputs: tuple[Value, ...],
        run: Callable[[], Value],
        extra: tuple[Store, ...] = (),
        *,
        holds_tables: bool = False,
    ) -> Value:
        """``run()`` with only its inputs kept; its backward runs it again first (Chen et al. 2016, arXiv 1604.06174).

        As torch's non-reentrant checkpoint: nodes after the last one that saves something run backward before, and the
        second run stops where the last tensor is saved. ``extra``: kept beside the inputs (a generator's state).
        ``holds_tables``: it holds on to the pass and all that its layers share, until its last tensor has been read.
        """
        outer, self.nodes, mode, self.mode = self.nodes, [], self.mode, "checkpointed"
        out = run()
        first, self.nodes, self.mode = self.nodes, outer, mode
        if not first:
            return out
        for value in inputs:
            self.hold(value.store)
            value.pending += value.needs_grad
        for store in extra:
            self.hold(store)
        again = partial(self._again, out, inputs, run, first, extra, holds_tables)
        self.nodes.append(Node((out,), (), again, takes=True))
        return out

    def _again(
        self,
        out: Value,
        inputs: tuple[Value, ...],
        run: Callable[[], Value],
        first: list[Node],
        extra: tuple[Store, ...],
        holds_tables: bool,
        grad: Grad,
    ) -> list[tuple[Value, Grad]]:
        outer, self.nodes = self.nodes, []
        last = max(index for index, node in enumerate(first) if node.saved)
        self._buffers[out] = grad
        self._run(first[last + 1 :])
        self._rerun(run, last, extra)
        for before, after in zip(first, self.nodes, strict=True):
            for old, new in zip(before.outputs, after.outputs, strict=True):
                if old in self._buffers and old is not new:
                    self._buffers[new] = self._buffers.pop(old)
        first_saving = min(index for index, node in enumerate(first) if node.saved)
        self._recomputed = True
        self._run(self.nodes[first_saving : last + 1])
        for value in inputs:
            self.release(value.store)
        for store in extra:
            self.release(store)
        if holds_tables:
            self._tables_end()
        self._run(self.nodes[:first_saving])
        self._recomputed = False
        self.nodes = outer
        return [(value, self._buffers.pop(value)) for value in inputs if value in self._buffers]

    def _rerun(self, run: Callable[[], Value], last: int, extra: tuple[Store, ...]) -> None:
        states = [self.store(state.name, state.size) for state in extra]
        self._owners_before = {store: store.owners for store in self.held if store not in states}
        self._last_pack = last
        run()
        self._last_pack, self._stopped = None, False

    def new_grad(self, value: Value, *, view: bool = False, elements: Expression | None = None) -> Grad:
        """A new gradient of ``value``, held by nobody but the engine."""
        elements = value.elements if elements is None else elements
        return Grad(self.store(f"gradient of {value.store.name}", elements, value.width), view)

    def passed(self, grad: Grad) -> Grad:
        """The same gradient handed on."""
        self.hold(grad.store)
        return grad

    def already(self, value: Value, grad: Grad) -> None:
        """A gradient of ``value`` that arrived from elsewhere (a tied head's)."""
        value.pending += 1
        self._arrive(value, grad)

    def backward(self, value: Value, grad: Grad) -> None:
        """Run every node, the newest first; gradients of parameters stay."""
        self._buffers[value] = grad
        self._run(self.nodes)
        if not self.with_tables.bytes:
            self.with_tables = self.peak()

    def _tables_end(self) -> None:
        self.with_tables = self.peak()

    def _run(self, nodes: list[Node]) -> None:
        while nodes:
            node = nodes.pop()
            grads = [self._buffers.pop(output, None) for output in node.outputs]
            results = node.backward(*grads) if any(grads) else []
            if self._recomputed:
                self._release_saved(node)
            results = [(target, self._reduced(target, grad)) for target, grad in results]
            for incoming in grads:
                if incoming is not None and not node.takes:
                    self.release(incoming.store)
            if not self._recomputed:
                self._release_saved(node)
            if node.reads_tables and not self._recomputed and not any(other.reads_tables for other in nodes):
                self._tables_end()
            for target, arriving in results:
                if target.needs_grad:
                    self._arrive(target, arriving)
            for target, unwanted in results:  # made all the same, by kernels that make all gradients at once
                if not target.needs_grad:
                    self.release(unwanted.store)

    def _release_saved(self, node: Node) -> None:
        for store in node.saved:
            self.release(store)

    def _reduced(self, value: Value, grad: Grad) -> Grad:
        """What the engine makes of a gradient that has to be summed to the input's shape."""
        if not grad.summed:
            return grad
        reduced = self.new_grad(value)
        self.release(grad.store)
        return reduced

    def _arrive(self, value: Value, grad: Grad) -> None:
        old = self._buffers.get(value)
        self._buffers[value] = grad if old is None else self._sum(value, old, grad)
        value.pending -= 1
        if value.leaf and not value.pending:
            store = self._buffers.pop(value).store
            self.trained.append(store)
            if self.summed and self.observed:
                self.release(self.new_grad(value).store)  # the sum, which takes the place of the gradient before it
            if (self.accumulate or self.summed) and not value.tied:
                self.release(store)
            else:
                self.parameter_gradients.append(store)

    def _sum(self, value: Value, old: Grad, new: Grad) -> Grad:
        if not self.observed and old.store.owners == 1 and not old.view:
            self.release(new.store)
            return old
        both = self.new_grad(value)
        self.release(old.store)
        self.release(new.store)
        return both
