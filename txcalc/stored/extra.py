"""What files hold for multi-token prediction, by name: a block's layer under a prefix, and what is around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from txcalc.architecture import Model
from txcalc.errors import RequestError
from txcalc.reference.names.shapes import SHAPES
from txcalc.reference.names.table import Table, sources
from txcalc.reference.parts import layer_part
from txcalc.stored.tensors import layer_tensors

Shape = tuple[int, ...]


class Spelling(NamedTuple):
    """``{n}``: the number of a layer that follows the model's, ``{k}``: of the block from 0.

    ``copies``: (name, of what) for tables that each block holds again. ``older``: parts of names that differ here.
    """

    layer: str
    projection: str
    norms: tuple[str, ...]
    copies: tuple[tuple[str, str], ...] = ()
    older: tuple[tuple[str, str], ...] = ()


_AFTER: Final = Spelling(
    "model.layers.{n}.",
    "model.layers.{n}.eh_proj",
    ("model.layers.{n}.enorm", "model.layers.{n}.hnorm", "model.layers.{n}.shared_head.norm"),
    (("model.layers.{n}.embed_tokens", "embedding"), ("model.layers.{n}.shared_head.head", "head")),
)
_ONCE: Final = Spelling(
    "mtp.layers.{k}.", "mtp.fc", ("mtp.pre_fc_norm_embedding", "mtp.pre_fc_norm_hidden", "mtp.norm")
)
_MIMO_V2: Final = Spelling(
    "model.mtp.layers.{k}.",
    "model.mtp.layers.{k}.eh_proj",
    ("model.mtp.layers.{k}.enorm", "model.mtp.layers.{k}.hnorm", "model.mtp.layers.{k}.final_layernorm"),
    older=((".post_attention_layernorm.", ".pre_mlp_layernorm."),),
)
_MIMO: Final = Spelling(
    "model.mtp_layers.{k}.",
    "model.mtp_layers.{k}.input_proj",
    ("model.mtp_layers.{k}.token_layernorm", "model.mtp_layers.{k}.hidden_layernorm",
     "model.mtp_layers.{k}.final_layernorm"),
)  # fmt: skip
_ERNIE: Final = Spelling(
    "model.mtp_block.{k}.", "model.mtp_linear_proj.{k}", ("model.mtp_emb_norm.{k}", "model.mtp_hidden_norm.{k}")
)
SPELLINGS: Final = {
    **dict.fromkeys("deepseek_v3 kimi_k2 deepseek_v32 glm_moe_dsa glm4_moe glm4_moe_lite".split(), _AFTER),
    **dict.fromkeys("qwen3_next qwen3_5 qwen3_5_text qwen3_5_moe qwen3_5_moe_text mellum".split(), _ONCE),
    "mimo": _MIMO,
    "mimo_v2_flash": _MIMO_V2,
    "ernie4_5_moe": _ERNIE,
}


class ExtraTensor(NamedTuple):
    """``copy``: it holds the model's own table again. ``buffer``: it is no parameter."""

    shape: Shape
    copy: bool = False
    buffer: bool = False


def extra_tensors(model: Model, table: Table) -> Mapping[str, ExtraTensor]:
    """The tensors of a model's blocks as files of its type name them; none where the spelling is not known."""
    extra, spelling = model.extra, SPELLINGS.get(model.model_type)
    if extra is None or spelling is None:
        return {}
    width, vocabulary = model.main.hidden_size, getattr(model.main.embedding, "vocab_size", 0)
    found: dict[str, ExtraTensor] = {}
    for block in range(extra.count):
        numbers = {"n": model.main.num_hidden_layers + block, "k": block}
        found |= _of_layer(model, table, spelling, numbers)
        found[f"{spelling.projection.format(**numbers)}.weight"] = ExtraTensor((width, 2 * width))
        for name, norm in zip(spelling.norms, extra.norms, strict=False):
            found[f"{name.format(**numbers)}.weight"] = ExtraTensor((norm.width,))
        for name, _ in spelling.copies:
            found[f"{name.format(**numbers)}.weight"] = ExtraTensor((vocabulary, width), copy=True)
    return found


def _of_layer(model: Model, table: Table, spelling: Spelling, numbers: dict[str, int]) -> dict[str, ExtraTensor]:
    assert model.extra is not None
    role, index, layer = model.main.role, numbers["n"], model.extra.layer
    parts = dict(layer_part(role, index, layer, name, shape, of) for name, shape, of in layer_tensors(layer))
    found: dict[str, ExtraTensor] = {}
    for ways in sources(table, parts, role, model.model_type):
        buffer = ways[0].ours[0].endswith("router.correction")
        for name, shape in zip(ways[0].theirs, SHAPES[ways[0].layout](ways[0].goal), strict=True):
            found[_spelt(name, index, spelling, numbers)] = ExtraTensor(shape, buffer=buffer)
    return found


def _spelt(name: str, index: int, spelling: Spelling, numbers: dict[str, int]) -> str:
    usual = f"model.layers.{index}."
    if not name.startswith(usual):
        raise RequestError(f"how files name {name} in a block of multi-token prediction is not known")
    inner = f".{name.removeprefix(usual)}"
    for old, new in spelling.older:
        inner = inner.replace(old, new)
    return spelling.layer.format(**numbers) + inner[1:]
