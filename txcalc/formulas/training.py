"""Memory of training on one device: states, saved activations, and the moment at which most of it is there at once.

A step is walked operator by operator (``tape``), so that its peak is a maximum over moments, to the byte: forward,
loss, backward of every layer, optimizer. Sharding over devices is out of scope: nothing here is divided.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from txcalc.architecture import Head, Model, TokenEmbedding
from txcalc.errors import RequestError
from txcalc.expression import Expression, symbol
from txcalc.formulas.dtypes import config_dtype
from txcalc.formulas.flops_question import require_described
from txcalc.formulas.korthikanti import by_convention
from txcalc.formulas.lora import lora_flops, lora_params
from txcalc.formulas.memory import store_rows, with_allowances
from txcalc.formulas.model_states import Optimizer, Recipe, optimizer_named, recipe_named
from txcalc.formulas.params import params
from txcalc.formulas.tape.moments import Step, training_step
from txcalc.formulas.tape.parts import How, Part
from txcalc.formulas.tape.support import depends_on_data, unwalked_in
from txcalc.formulas.tape.walk import BACKENDS, PRECISIONS, Backend, Lora, Pass
from txcalc.formulas.training_parts import grouped, kept_node, moment_row, notable, opened, stored_depths
from txcalc.formulas.weights import Matrix, formats_of, matrix_of, weight_bytes
from txcalc.formulas.workload import require_positive
from txcalc.record import Record
from txcalc.result import Node, leaf, total

SOURCE: Final = "derived: storages that are live at once in a training step; held against torch's allocator"
RECOMPUTES: Final = ("none", "selective", "full")
_DATA: Final = "in the backward pass of experts what is live depends on which tokens they get; taken as one expert"

_UNPACKED: Final = "kernels unpack a quantised matrix, or a tile of it, as they use it: not in the sum"
_CUDA: Final = "what CUDA's kernels keep is taken from their sources and was not measured"


class Training(Record):
    """How training is done.

    ``recipe``: precision and copies of the parameters (``model_states``); None: the model's own dtype. ``quantized``:
    the format that frozen matrices are stored in (QLoRA: nf4). ``foreach``: torch's default optimizer step on a GPU,
    which makes temporaries; else the fused one. ``cuda``: as CUDA's kernels keep things (``tape.walk.Pass``).
    """

    seq: int
    batch: int = 1
    grad_accum: int = 1
    recipe: str | None = None
    optimizer: str = "adamw"
    recompute: str = "none"
    backend: Backend = "flash"
    dropout: bool = False
    lora: Lora | None = None
    quantized: str | None = None
    foreach: bool = True
    cuda: bool = False


def training_memory(model: Model, asked: Training | None = None, **options: Any) -> Node:
    """Bytes of a training step on one device: ``memory.total`` is its peak.

    ``asked``, or the fields of ``Training`` by name: ``training_memory(model, seq=8192, batch=2, recompute="full")``.

    Headline figures: ``memory.total``, ``parameters``, ``gradients``, ``optimizer``, ``activations``, ``allowances``,
    ``with_allowances``; with adapters ``lora.trainable`` and ``lora.flops_per_token``.

    Raises:
        RequestError: a length below 1, an unknown option, a model without a head over tokens, a layer without a walk.
    """
    require_described(model)
    work = _Work(model, asked or Training(**options))
    peak = work.peak()
    parts = [peak.estimated(work.reasons), *work.views(), *with_allowances(peak, training=True)]
    reasons = (*model.reasons, *work.reasons) if model.reasons else ()
    return total("memory", "bytes", parts, source=SOURCE).estimated(reasons)


class _Work:
    """One question: the model's copies, its step, and every moment of it."""

    def __init__(self, model: Model, asked: Training) -> None:
        _check(asked)
        self.model, self.asked = model, asked
        self.recipe: Recipe = recipe_named(asked.recipe or config_dtype(model.dtype).name)
        self.optimizer: Optimizer = optimizer_named(asked.optimizer)
        self.accumulates = asked.grad_accum > 1 or self.recipe.buffers
        head = _trainable_head(model)
        how = How(checkpointed=asked.recompute == "full", accumulate=self.accumulates)
        self.step: Step = training_step(model.main, head, self._pass(), how)
        tied = head.tied and asked.lora is None
        layers = [self.step.layers[depth] for depth in stored_depths(model.main)]
        self.trained = [*self._trained(self.step.embedding, *layers), *self._tail(tied)]
        mixed = any(depends_on_data(layer) for layer in model.main.layers)
        self.reasons = (_DATA,) * mixed + (_CUDA,) * asked.cuda + (_UNPACKED,) * bool(asked.quantized)

    def _pass(self) -> Pass:
        asked = self.asked
        T = symbol("T", asked.seq)
        return Pass(
            B=symbol("B", asked.batch),
            T=T,
            S=T,
            precision=PRECISIONS[self.recipe.precision],
            backend=asked.backend,
            dropout=asked.dropout,
            recompute_scores=asked.recompute == "selective",
            lora=asked.lora,
            cuda=asked.cuda,
        )

    def _trained(self, *parts: Part) -> list[int]:
        """Bytes of every trained tensor's gradient."""
        return [store.bytes for part in parts for store in part.trained]

    def _tail(self, tied: bool) -> list[int]:
        """Those after the last layer; a tied head's table is the embedding's."""
        stores = self.step.tail.loss.trained
        return [store.bytes for store in stores if not (tied and store.name == "gradient of token table")]

    # ---- states -----------------------------------------------------------------------------------------------------

    def parameters(self) -> Node:
        """Every parameter as it is stored, adapters included."""
        asked, width = self.asked, self.recipe.parameter
        if asked.lora is None:
            whole = symbol("params", int(params(self.model).find("params.total").value))
            return leaf("parameters", "bytes", whole * width, key="memory.parameters")
        own = "fp32" if width == 4 else "bf16"
        formats = formats_of(self.model.replace(dtype=None), asked.quantized or own)
        frozen = weight_bytes(self.model, formats).replace(name="frozen", key="")
        adapters = leaf("adapters", "bytes", self._elements() * width)
        return total("parameters", "bytes", [frozen, adapters], key="memory.parameters")

    def _elements(self) -> Expression:
        """Trained parameters."""
        return symbol("trained", sum(self.trained) // PRECISIONS[self.recipe.precision].parameter)

    def optimizer_states(self) -> Node:
        """What the optimizer keeps, master copies included."""
        recipe, optimizer, elements = self.recipe, self.optimizer, self._elements()
        rows = []
        if recipe.master:
            rows.append(leaf("master copies", "bytes", elements * recipe.master))
        if optimizer.states:
            rows.append(leaf("states", "bytes", optimizer.states * elements * recipe.state))
        if optimizer.factored:
            rows.append(leaf("rows and columns", "bytes", self._factored() * recipe.state))
        if optimizer.counters:
            rows.append(leaf("step counters", "bytes", symbol("tensors", len(self.trained)) * 4))
        key, note = "memory.optimizer", f"{optimizer.name}, {recipe.name}"
        return total("optimizer", "bytes", rows, key=key, source=recipe.source, note=note)

    def _factored(self) -> Expression:
        """Adafactor's (Shazeer and Stern 2018, arXiv 1804.04235): a row and a column of each matrix, whole vectors."""
        if self.asked.lora is not None:
            raise RequestError("adafactor is not counted for adapters", "choose adamw")
        return symbol("rows_and_columns", _rows_and_columns(params(self.model).find("params.total")))

    def gradients(self) -> Node:
        """All gradients together; ``buffers`` and accumulated ones are there all the time."""
        rows = [leaf("gradients", "bytes", self._elements() * self.recipe.gradient)]
        if self.recipe.gradient_copy:
            rows.append(leaf("fp32 copies", "bytes", self._elements() * self.recipe.gradient_copy))
        return total("gradients", "bytes", rows, key="memory.gradients")

    # ---- moments ----------------------------------------------------------------------------------------------------

    def peak(self) -> Node:
        """The highest moment, opened."""
        constant = [self.parameters(), self.optimizer_states()]
        batch = 2 * symbol("B", self.asked.batch) * symbol("T", self.asked.seq) * 8
        constant.append(leaf("tokens and targets", "bytes", batch))
        step = self._optimizer_step()
        highest = max(self.step.moments(), key=lambda moment: moment.bytes)
        if self.accumulates:
            constant.append(self.gradients().replace(key=""))
            later = step - int(self.gradients().value)
        else:
            later = step
        if later > highest.bytes:
            rows, name = self._in_the_step(), "the optimizer's step"
        else:
            rows, name = opened(self.step, highest), highest.name
        parts = [part.replace(key="") for part in constant] + rows
        convention = f"{self.recipe.name}, {self.optimizer.name}, recompute {self.asked.recompute}"
        return total(
            "peak",
            "bytes",
            parts,
            key="memory.total",
            source=SOURCE,
            convention=convention,
            note=f"the peak is in {name}",
        )

    def _temporaries(self) -> Expression:
        """What the optimizer's step makes, beside the gradients."""
        count = self.optimizer.temporary if self.asked.foreach and not self.recipe.buffers else 0
        return count * self._elements() * PRECISIONS[self.recipe.precision].parameter

    def _optimizer_step(self) -> int:
        """Gradients and what the optimizer makes beside them."""
        return int(self.gradients().value) + int(self._temporaries())

    def _in_the_step(self) -> list[Node]:
        """What is live in the optimizer's step; gradients are there all the time where they are accumulated."""
        there = [] if self.accumulates else list(self.gradients().children)
        made = leaf("temporaries of the optimizer's step", "bytes", self._temporaries())
        return [*there, *([made] if made.value else [])]

    def views(self) -> list[Node]:
        """States, what is saved for the backward pass, every moment, adapters."""
        views = [self.parameters(), self.gradients(), self.optimizer_states(), self.saved(), *self.moments()]
        views += by_convention(self.model, seq=self.asked.seq, batch=self.asked.batch)
        if self.asked.lora is not None:
            adapters = lora_params(self.model, self.asked.lora)
            views += [adapters, lora_flops(int(adapters.value), self._matmul_parameters())]
        return [view.replace(aside=True) for view in views]

    def _matmul_parameters(self) -> int:
        """Parameters that a token is multiplied by: no lookup tables, but a tied table as the head."""
        figures = params(self.model).figures()
        head = self.model.head
        tied = head.output_size * head.input_size if head is not None and head.tied else 0
        return int(figures["params.active_without_embedding"]) + tied

    def saved(self) -> Node:
        """Activations that wait for the backward pass when the loss is there."""
        parts = (self.step.embedding, *self.step.layers, self.step.tail.loss)
        rows = [kept_node(group) for group in grouped(self.step, parts) if group.part.kept]
        tables = store_rows(table.store for table in self.step.shared)
        tree = total("saved for the backward pass", "bytes", [*rows, *tables], key="memory.activations", source=SOURCE)
        return tree.estimated((_CUDA,) * self.asked.cuda)

    def moments(self) -> list[Node]:
        """Every moment that may be the peak, with what is there all the time."""
        always = int(self.parameters().value) + int(self.optimizer_states().value)
        always += 2 * self.asked.batch * self.asked.seq * 8
        base = always + (int(self.gradients().value) if self.accumulates else 0)
        rows = [moment_row(each, base).estimated(self._doubts(each.name)) for each in notable(self.step.moments())]
        step = symbol("states", always) + symbol("gradients", int(self.gradients().value))
        made = self._temporaries()
        step = step + symbol("temporaries", int(made)) if int(made) else step
        return [*rows, leaf("at the optimizer's step", "bytes", step), *self._unpacked()]

    def _doubts(self, moment: str) -> tuple[str, ...]:
        """Why a moment's bytes are an estimate: what depends on data does so in the layers' backward passes alone."""
        return tuple(each for each in self.reasons if each != _DATA or moment.startswith("the backward pass of layer"))

    def _unpacked(self) -> list[Node]:
        """A quantised matrix is unpacked while it is used; how much at a time is the kernel's affair."""
        if not self.asked.quantized:
            return []
        sizes = [int(matrix.size_in) * int(matrix.size_out) for matrix in _matrices(params(self.model))]
        size = symbol("elements", max(sizes)) * 2
        return [leaf("largest matrix, unpacked", "bytes", size, basis="estimated", reason=_UNPACKED)]


def _check(asked: Training) -> None:
    require_positive(seq=asked.seq, batch=asked.batch, grad_accum=asked.grad_accum)
    if asked.recompute not in RECOMPUTES:
        raise RequestError(f"unknown recomputation {asked.recompute!r}", f"one of {', '.join(RECOMPUTES)}")
    if asked.backend not in BACKENDS:
        raise RequestError(f"unknown attention backend {asked.backend!r}", f"one of {', '.join(BACKENDS)}")
    if asked.quantized and asked.lora is None:
        raise RequestError("quantised weights are frozen: nothing would be trained", "add --lora r=16,q_proj,v_proj")


def _trainable_head(model: Model) -> Head:
    """The head whose loss is taken.

    Raises:
        RequestError: none over tokens, several stacks, or a layer without a walk.
    """
    stack = model.main
    text = [each for each in model.stacks if each.role in ("decoder", "encoder")]
    if model.head is None or model.head.pooled or len(text) > 1 or not isinstance(stack.embedding, TokenEmbedding):
        what = "two stacks" if len(text) > 1 else "no head over its tokens"
        raise RequestError(
            f"training memory of {model.name} is not known: it has {what}", "a decoder or masked-LM model"
        )
    missing = unwalked_in(stack, training=True)
    if missing:
        kinds = ", ".join(missing)
        raise RequestError(f"no activation formula yet for {kinds} of {model.name}", "txcalc memory without --train")
    return model.head


def _matrices(node: Node) -> Iterator[Matrix]:
    """Every matrix of the layers, experts one by one."""
    for _, each in node.walk():
        matrix = matrix_of(each)
        if matrix is not None and each.name.endswith("_proj"):
            yield matrix


def _rows_and_columns(node: Node) -> int:
    """Elements of Adafactor's states below a parameter node."""
    if node.expression is not None:
        matrix = matrix_of(node)
        if matrix is None:
            return int(node.value)
        return int(matrix.size_in) + int(matrix.size_out) + (int(matrix.size_out) if matrix.biased else 0)
    each = sum(_rows_and_columns(child) for child in node.children if not child.aside)
    return each * int(node.count) if node.count is not None else each
