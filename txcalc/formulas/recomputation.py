"""What recomputing activations costs: products of the forward pass that run once more in the backward pass.

``full``: every layer again from its input, up to the last activation that the backward pass needs. Where a layer ends
in a matrix whose output nobody keeps, that matrix does not run again (torch's non-reentrant checkpointing stops there).
``selective``: the score and value products only (Korthikanti et al. 2022, arXiv 2205.05198, section 5).
"""

from __future__ import annotations

from txcalc.architecture import Layer, MixtureOfExperts, Model
from txcalc.formulas.flops import forward_flops, pruned
from txcalc.formulas.flops_attention import PRODUCTS
from txcalc.formulas.flops_question import Question
from txcalc.formulas.flops_sublayers import sublayer_flops
from txcalc.formulas.flops_work import Recompute


def recomputed(model: Model, asked: Question, recompute: Recompute) -> int:
    """FLOPs of the products that run again in one training step."""
    match recompute:
        case "none":
            return 0
        case "selective":
            products = pruned(forward_flops(model, asked), PRODUCTS)
            return int(products.value) if products else 0
        case "full":
            return sum(_stack_again(model, asked, index) for index in range(len(model.stacks)))


def _stack_again(model: Model, asked: Question, index: int) -> int:
    stack = model.stacks[index]
    work = asked.work(model, stack)
    if work is None:
        return 0
    again = 0
    for layer, count in zip(stack.layers, stack.counts(), strict=True):
        parts = [sublayer_flops(sublayer, work) for sublayer in layer.sublayers()]
        whole = sum(int(part.value) for part in parts)
        last = int(parts[-1].children[-1].value) if parts and ends_in_a_matrix(layer) else 0
        again += count * (whole - last)
    return again


def ends_in_a_matrix(layer: Layer) -> bool:
    """Whether nothing after the layer's last matrix keeps its output: no norm, no learned scale, no routing weight."""
    step = layer.steps[-1]
    if not step.branches or step.norm_out is not None or step.norm_after is not None:
        return False
    branch = step.branches[-1]
    routed = isinstance(branch.sublayer, MixtureOfExperts)
    return branch.norm_out is None and not branch.layer_scale and not routed
