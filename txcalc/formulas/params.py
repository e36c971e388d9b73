"""How many parameters: every distinct trainable tensor once; buffers never.

Tied and shared tensors are counted where they are stored. Sources are the papers that define each part; the counts are
``derived:`` from the shapes of its matrices, [in, out] being in * out and a bias out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import add

from txcalc.architecture import (
    AttentionPooling,
    Branch,
    Connector,
    Head,
    Layer,
    MixtureOfExperts,
    Model,
    Pooler,
    Prediction,
    Residual,
    SelfAttention,
    Similarity,
    Stack,
    Sublayer,
)
from txcalc.expression import Expression, exact, symbol
from txcalc.formulas.params_blocks import bottleneck_params
from txcalc.formulas.params_experts import adapter_params, attention_expert_params, expert_params
from txcalc.formulas.params_inputs import embedding_params, projection_params
from txcalc.formulas.params_parts import linear, norm_params
from txcalc.formulas.params_side import (
    altup_params,
    counted_params,
    streams_params,
    unused_params,
)
from txcalc.formulas.params_streams import depth_params, hyper_params
from txcalc.formulas.params_sublayers import sublayer_params
from txcalc.formulas.workload import require_model
from txcalc.result import Node, leaf, times, total

SOURCE = "derived: the elements of every tensor, [rows, columns] being rows * columns"
CONVENTION = "each distinct trainable tensor once; tied and shared tensors where they are stored; no buffers"


def params(model: Model) -> Node:
    """Parameters of a model, by component and kind of layer.

    Headline figures below the root: ``params.total``, ``embedding``, ``head``, ``non_embedding``, ``active``,
    ``active_without_embedding``; the last two only where it is known which experts a token uses.
    """
    require_model(model)
    everything, head = total_params(model)
    views = [*_views(model, everything, head), extra_params(model.extra)]
    tree = total("params", "parameters", [everything, *views], source=SOURCE)
    return tree.estimated(model.reasons)


def total_params(model: Model) -> tuple[Node, Node | None]:
    """(``params.total`` by component and kind of layer, the head in it)."""
    seen: set[str] = set()
    alone = len(model.stacks) == 1
    stacks = [stack_params(stack, seen, embedding_key="params.embedding" * alone) for stack in model.stacks]
    towers = [connector_params(connector) for connector in model.connectors]
    head = heads_params(model.head, model.pooled_head)
    counted = [counted_params(part) for part in model.counted]
    beside = [similarity_params(model.similarity), unused_params(model.unused)]
    parts = [*stacks, *towers, *counted, head, *beside]
    return total("total", "parameters", parts, key="params.total", convention=CONVENTION), head


def _views(model: Model, everything: Node, head: Node | None) -> list[Node]:
    """The same parameters seen otherwise: what is embedding, head and the rest, and what one token uses."""
    embedding = _embedding_sum(model, everything)
    whole = symbol("total", int(everything.value))
    tables, matrix = symbol("embedding", int(embedding)), symbol("head", int(head.value) if head else 0)
    several = len(model.stacks) > 1
    views = [leaf("embedding", "parameters", embedding, key="params.embedding", aside=True)] if several else []
    views += [] if head else [leaf("head", "parameters", 0, key="params.head", aside=True)]
    return [
        *views,
        leaf("non_embedding", "parameters", whole - tables - matrix, key="params.non_embedding", aside=True),
        *_active(model, whole, tables),
    ]


def _active(model: Model, whole: Expression, tables: Expression) -> list[Node]:
    """What one token uses, with and without input tables; nothing where its experts are not known."""
    if model.only_params and any(_mixtures(model)):
        return []
    active = whole - _unused_experts(model)
    return [
        leaf("active", "parameters", active, key="params.active", aside=True, convention=_ACTIVE),
        leaf(
            "active_without_embedding",
            "parameters",
            symbol("active", int(active)) - tables,
            key="params.active_without_embedding",
            aside=True,
            convention=_ACTIVE,
        ),
    ]


def _embedding_sum(model: Model, everything: Node) -> Expression:
    """The input tables of every stack, each named by its stack; a tower that feeds the decoder keeps its own."""
    towers = {connector.tower for connector in model.connectors}
    tables = [
        symbol(f"{stack.name}_embedding", int(node.value))
        for stack in everything.children
        if stack.name not in towers
        for _, node in stack.walk()
        if node.name == "embedding"
    ]
    return reduce(add, tables)


_ACTIVE = "what one token's forward pass uses: everything but the routed experts it is not sent to"


def _unused_experts(model: Model) -> Expression:
    unused: Expression = exact(0)
    for count, (experts, chosen, each) in _mixtures(model):
        idle = symbol("L", count) * (symbol("E", experts) - symbol("num_experts_per_tok", chosen))
        idle = idle * symbol("expert", int(each.value))
        unused = unused + idle if int(unused) else idle
    return unused


def _mixtures(model: Model) -> Iterator[tuple[int, tuple[int, int, Node]]]:
    """(how often its layer runs, its experts) for every sublayer that has any."""
    for stack in model.stacks:
        for layer, count in zip(stack.layers, stack.counts(), strict=True):
            found = (_experts_of(sublayer) for sublayer in layer.sublayers())
            yield from ((count, each) for each in found if each is not None)


def _experts_of(sublayer: Sublayer) -> tuple[int, int, Node] | None:
    """(how many experts, how many of them a token is sent to, one of them)."""
    if isinstance(sublayer, MixtureOfExperts):
        return sublayer.num_experts, sublayer.num_experts_per_tok, expert_params(sublayer)
    heads = sublayer.expert_heads if isinstance(sublayer, SelfAttention) else None
    if heads is not None and isinstance(sublayer, SelfAttention):
        return heads.num_experts, heads.num_experts_per_tok, attention_expert_params(sublayer)
    return None


# ---- stacks ---------------------------------------------------------------------------------------------------------


def stack_params(stack: Stack, seen: set[str], *, embedding_key: str = "") -> Node:
    """One stack: its embedding, each kind of layer times how often it is stored, its final norm.

    ``seen`` holds the names of shared layers that were counted already; ``embedding_key`` makes the stack's input
    tables a headline figure.
    """
    layers = [
        times(_layer_name(stack, index), "parameters", _stored(layer, count, seen), [*layer_params(layer)])
        for index, (layer, count) in enumerate(zip(stack.layers, stack.counts(), strict=True))
    ]
    parts: list[Node | None] = [
        embedding_params(stack.embedding, key=embedding_key),
        *layers,
        streams_params(stack.hidden_size, stack.altup_streams),
        *_shared_branches(stack, seen),
        _stack_tables(stack),
        hyper_params(stack.stream_head),
        leaf("low_state", "parameters", 1 * symbol("D", stack.hidden_size)) if stack.cycles else None,
        depth_params(stack.depth),
        norm_params("final_norm", stack.final_norm),
        projection_params("out_projection", stack.out_projection),
        _pooler(stack.pooler),
        _attention_pooling(stack.attention_pooling),
        projection_params("pooled_projection", stack.pooled_projection),
    ]
    return total(stack.role, "parameters", parts)


def _pooler(pooler: Pooler | None) -> Node | None:
    if pooler is None:
        return None
    D = symbol("D", pooler.hidden_size)
    out = D if pooler.out_size is None else symbol("pooler_output_size", pooler.out_size)
    return linear("pooler", D, out, bias=pooler.bias)


def _shared_branches(stack: Stack, seen: set[str]) -> list[Node]:
    """What branches of several layers hold in common, each set once."""
    found = []
    for layer in stack.layers:
        for branch in (branch for step in layer.steps for branch in step.branches):
            if branch.shared and branch.shared not in seen:
                seen.add(branch.shared)
                found.append(total(f"shared {branch.shared}", "parameters", _stored_by(branch)))
    return found


def _attention_pooling(pooling: AttentionPooling | None) -> Node | None:
    if pooling is None:
        return None
    parts = [
        leaf("probe", "parameters", 1 * symbol("D", pooling.attention.hidden_size)),
        sublayer_params(pooling.attention),
        norm_params("norm", pooling.norm),
        sublayer_params(pooling.feed_forward),
    ]
    return total("attention_pooling", "parameters", parts)


def _layer_name(stack: Stack, index: int) -> str:
    return "layers" if len(stack.layers) == 1 else f"layers of kind {index + 1}"


def _stored(layer: Layer, count: int, seen: set[str]) -> Expression:
    """How many copies of a layer hold parameters of their own."""
    if not layer.shared:
        return symbol("L", count)
    first = layer.shared not in seen
    seen.add(layer.shared)
    return symbol("stored_once", int(first))


def _stack_tables(stack: Stack) -> Node | None:
    """Tables that every layer of the stack reads: T5's relative bias, DeBERTa's relative positions."""
    D = symbol("D", stack.hidden_size)
    if stack.relative_bias is not None:
        biases = symbol("num_buckets", stack.relative_bias.num_buckets) * symbol("N", stack.relative_bias_heads)
        summarises = any(_summarises(layer) for layer in stack.layers)
        return leaf("relative_bias", "parameters", 2 * biases if summarises else biases)
    if stack.disentangled is not None:
        table = leaf("relative_positions", "parameters", 2 * symbol("span", stack.disentangled.span) * D)
        return total("disentangled", "parameters", [table, norm_params("norm", stack.disentangled_norm)])
    return None


def _summarises(layer: Layer) -> bool:
    """Whether a layer also attends to summaries of blocks, which have a table of their own."""
    return any(isinstance(each, SelfAttention) and each.transient_global for each in layer.sublayers())


def layer_params(layer: Layer) -> list[Node]:
    """Every sublayer and norm of one layer, in order."""
    steps = [node for step in layer.steps for node in _step_params(step)]
    beside = [altup_params(layer.altup) if layer.altup else None, bottleneck_params(layer.bottleneck)]
    return [*steps, *(node for node in beside if node is not None)]


def _step_params(step: Residual) -> list[Node]:
    shared = [norm_params("norm", step.norm_in)]
    branches = [node for branch in step.branches for node in _branch_params(branch)]
    after = [norm_params("output_norm", step.norm_out), norm_params("post_norm", step.norm_after)]
    skip = leaf("skip", "parameters", symbol("D", _width(step))) if step.learned_skip else None
    mixed = leaf("input_mix", "parameters", exact(2)) if step.mixes_input else None
    affine = leaf("scales and shifts", "parameters", 4 * symbol("D", _width(step))) if step.affine else None
    streams = [hyper_params(step.streams), depth_params(step.depth)]
    return [node for node in (*shared, *branches, *after, skip, mixed, affine, *streams) if node is not None]


def _width(step: Residual) -> int:
    return step.branches[0].sublayer.hidden_size


def _branch_params(branch: Branch) -> list[Node | None]:
    """What a layer holds for a branch: of one that shares its parameters the adapters alone."""
    return [*([] if branch.shared else _stored_by(branch)), adapter_params(branch.sublayer)]


def _stored_by(branch: Branch) -> list[Node | None]:
    width = branch.sublayer.hidden_size
    return [
        norm_params("norm", branch.norm_in),
        sublayer_params(branch.sublayer),
        norm_params("output_norm", branch.norm_out),
        leaf("layer_scale", "parameters", symbol("D", width)) if branch.layer_scale else None,
        leaf("scalar_gate", "parameters", exact(1)) if branch.scalar_gate else None,
        leaf("out_conv", "parameters", symbol("conv_kernel", branch.out_conv) * symbol("D", width))
        if branch.out_conv
        else None,
    ]


# ---- embeddings and heads -------------------------------------------------------------------------------------------


def connector_params(connector: Connector) -> Node:
    """What stands between a tower and the decoder."""
    projections = [projection_params("projection", projection) for projection in connector.projections]
    norms = [norm_params("norm", connector.norm), norm_params("norm_after", connector.norm_after)]
    return total("connector", "parameters", [norms[0], *projections, norms[1]])


def heads_params(head: Head | None, pooled: Head | None) -> Node | None:
    """The head, or both where a model has a second one on its pooled vector; ``params.head`` is all of it."""
    if head is None or pooled is None:
        only = head or pooled
        return head_params(only) if only else None
    both = [head_params(head, key=""), head_params(pooled, name="pooled_head", key="")]
    return total("heads", "parameters", both, key="params.head")


def similarity_params(similarity: Similarity | None) -> Node | None:
    """The learned scale of similarities, and the number added to them."""
    if similarity is None:
        return None
    return leaf("similarity", "parameters", symbol("scale", 1) + similarity.bias)


def extra_params(extra: Prediction | None) -> Node | None:
    """Blocks of multi-token prediction: beside the model, in no total; embedding and head are the model's own."""
    if extra is None:
        return None
    around: list[Node | None] = [projection_params("projection", extra.projection)]
    around += [norm_params("norm", norm) for norm in extra.norms]
    blocks = symbol("blocks", extra.count)
    layers = layer_params(extra.layer)
    parts = (
        [times("layers", "parameters", blocks, layers), total("input", "parameters", around)]
        if extra.once
        else [times("blocks", "parameters", blocks, [*layers, *around])]
    )
    return total("extra", "parameters", parts, key="params.extra", aside=True, source=PREDICTION, convention=_EXTRA)


PREDICTION = "DeepSeek-V3 (arXiv 2412.19437), section 2.2: multi-token prediction"
_EXTRA = "blocks that predict further tokens: not in params.total; tables shared with the model are counted there"


def head_params(head: Head, *, name: str = "head", key: str = "params.head") -> Node:
    """The head's own parameters: none of the matrix where that is tied to an input table."""
    D, V = symbol("D", head.input_size), symbol("V" if head.kind != "classifier" else "num_labels", head.output_size)
    parts: list[Node | None] = []
    if head.transform is not None:
        parts.append(None if head.transform.tied else projection_params("dense", head.transform.dense))
        parts.append(projection_params("second", head.transform.second))
        parts.append(norm_params("norm", head.transform.norm))
        D = symbol("embedding_size", (head.transform.second or head.transform.dense).out_size)
    if not head.tied:
        parts.append(leaf("matrix", "parameters", D * V))
    elif head.own_channels:
        parts.append(leaf("matrix", "parameters", symbol("own_channels", head.own_channels) * V))
    if head.bias:
        parts.append(leaf("bias", "parameters", V))
    return total(name, "parameters", parts, key=key, note=_tied_note(head))


def _tied_note(head: Head) -> str:
    return f"the output matrix is the {head.tied_to}'s token table, counted there" if head.tied else ""
