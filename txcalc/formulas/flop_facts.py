"""What conventions are made of: the products of a training step by part, and the parameters by part.

A convention speaks of one text model: towers and their connectors are left out of it, and of its parameters.
"""

from __future__ import annotations

from functools import cached_property

from txcalc.architecture import LatentAttention, Model, SelfAttention, TokenEmbedding
from txcalc.errors import RequestError
from txcalc.expression import Expression, exact, symbol
from txcalc.formulas.flops import forward_flops, pruned, training_flops
from txcalc.formulas.flops_attention import PRODUCTS
from txcalc.formulas.flops_question import TOWERS, Question
from txcalc.formulas.params import params
from txcalc.formulas.vectors import vector_params
from txcalc.result import Node

HEADS = frozenset({"head", "pooled_head"})
ROUTING = frozenset({"router", "shared_expert_gate"})


class Facts:
    """One model at one length and batch: ``asked`` is its training step with the whole score square."""

    def __init__(self, model: Model, asked: Question) -> None:
        self.model = model
        self.asked = asked.replace(phase="train", mask="full", logits="all", images=0)
        self.B, self.T = symbol("B", asked.batch), symbol("T", asked.tokens)
        self.tokens = self.B * self.T
        self.forward = forward_flops(model, self.asked)

    @cached_property
    def training(self) -> int:
        """matmul-full: every product of forward and backward."""
        return int(training_flops(self.forward).value)

    def part(self, name: str, names: frozenset[str]) -> Expression:
        """The forward products of the nodes of those names, as one symbol."""
        found = pruned(self.forward, names)
        return symbol(name, int(found.value) if found else 0)

    @cached_property
    def attention(self) -> Expression:
        """Score and value products of the forward pass, whole square."""
        return self.part("attention", PRODUCTS)

    @cached_property
    def logits(self) -> Expression:
        """The head's products of the forward pass."""
        return self.part("logits", HEADS)

    @cached_property
    def matrices(self) -> Expression:
        """The rest of the forward pass: projections, feed-forward, experts, convolutions."""
        return symbol("matrices", int(self.forward.value) - int(self.attention) - int(self.logits))

    @cached_property
    def routing(self) -> Expression:
        """Choosing experts."""
        return self.part("routing", ROUTING)

    @cached_property
    def projections(self) -> Expression:
        """Matrices of attention: its products left out."""
        whole = self.part("attention", frozenset({"attention", "cross_attention"}))
        return symbol("projections", int(whole) - int(self.attention))

    @cached_property
    def feed_forward(self) -> Expression:
        """Feed-forwards, experts and their routing."""
        return self.part("feed_forward", frozenset({"feed_forward", "mixture_of_experts"}))

    def attention_with(self, mask: str) -> Expression:
        """Score and value products of the forward pass under another mask convention."""
        found = pruned(forward_flops(self.model, self.asked.replace(mask=mask)), PRODUCTS)
        return symbol(f"{mask}_attention", int(found.value) if found else 0)

    # ---- parameters ---------------------------------------------------------------------------------------------

    @cached_property
    def _params(self) -> Node:
        return params(self.model)

    def _figure(self, key: str, *, towers: bool = False) -> int:
        """A figure of the text model alone."""
        whole = int(self._params.find(key).value)
        return whole if not towers else whole - self._tower_params

    @cached_property
    def _tower_params(self) -> int:
        everything = self._params.find("params.total")
        return sum(int(node.value) for node in everything.children if node.name in (*TOWERS, "connector"))

    @cached_property
    def total_params(self) -> Expression:
        """Every parameter of the text model."""
        return symbol("total_params", self._figure("params.total", towers=True))

    @cached_property
    def active_params(self) -> Expression:
        """What one token uses; all of them in a dense model."""
        return symbol("active_params", self._figure("params.active", towers=True))

    @cached_property
    def embedding_params(self) -> Expression:
        """Input tables: tokens, positions, types."""
        return symbol("embedding_params", self._figure("params.embedding"))

    @cached_property
    def head_params(self) -> Expression:
        """An output matrix of its own."""
        return symbol("head_params", self._figure("params.head"))

    @cached_property
    def tied_params(self) -> Expression:
        """The token table where it is the output matrix too, else 0."""
        embedding, head = self.model.main.embedding, self.model.head
        tied = head is not None and head.tied and isinstance(embedding, TokenEmbedding)
        return symbol("tied_params", embedding.vocab_size * embedding.embedding_size if tied else 0)  # type: ignore[union-attr]  # tied says it

    @cached_property
    def _vector_params(self) -> tuple[int, int]:
        return vector_params(self.model)

    @cached_property
    def vectors(self) -> Expression:
        """Norms, biases and scales of the layers: parameters that are no matrix."""
        return symbol("vectors", self._vector_params[0])

    @cached_property
    def head_vectors(self) -> Expression:
        """Those of the heads."""
        return symbol("head_vectors", self._vector_params[1])

    @cached_property
    def idle_params(self) -> Expression:
        """Experts that a token does not visit."""
        return symbol("idle_experts", int(self.total_params) - int(self.active_params))

    # ---- softmax and shape --------------------------------------------------------------------------------------

    def score_count(self) -> Expression:
        """Scores of all heads and layers in the forward pass, whole square."""
        found: Expression = exact(0)
        stack = self.model.main
        for layer, count in zip(stack.layers, stack.counts(), strict=True):
            for sublayer in layer.sublayers():
                if isinstance(sublayer, SelfAttention | LatentAttention):
                    heads = symbol("L", count) * symbol("N", sublayer.num_attention_heads)
                    each = self.B * heads * (self.T * self.T)
                    found = found + each if int(found) else each
        return found

    @cached_property
    def embedding_as_matmul(self) -> Expression:
        """A token table as if a one-hot vector were multiplied with it, [V] x [V, D]."""
        embedding = self.model.main.embedding
        assert isinstance(embedding, TokenEmbedding)
        V, D = symbol("V", embedding.vocab_size), symbol("D", embedding.embedding_size)
        return 2 * self.tokens * V * D

    @cached_property
    def vocabulary(self) -> Expression:
        """V of the output matrix; 0 without a head."""
        return symbol("V", self.model.head.output_size if self.model.head else 0)


def require_one_text_stack(name: str, model: Model) -> None:
    """Refuse what a convention does not define.

    Raises:
        RequestError: two text stacks, or none.
    """
    text = [stack for stack in model.stacks if stack.role not in TOWERS]
    if len(text) != 1 or not isinstance(model.main.embedding, TokenEmbedding):
        what = "has two text stacks" if len(text) > 1 else "reads no text"
        raise RequestError(f"convention {name} is not defined for {model.name}: it {what}", "use matmul-full")
