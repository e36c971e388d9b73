"""Multi-token prediction: the blocks beside a model that a config numbers, made from the model's own layers.

The blocks are no part of what a config's class computes: they are described apart, and enter no total.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from txcalc.architecture import FeedForward, Layer, MixtureOfExperts, Model, Norm, Prediction, Projection, SelfAttention
from txcalc.architecture.attention import LatentAttention
from txcalc.configs.reader import Reader

KEYS: Final = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers")
MAX_BLOCKS: Final = 1000
Maker = Callable[[Reader, Model, int], Prediction | None]


def with_prediction(model: Model, r: Reader, make: Maker | None) -> Model:
    """The model with the blocks that its config numbers; a note where their shape is not known.

    Raises:
        ModelError: a number of blocks that is none.
    """
    holder = _holder(r.config)
    key = next((key for key in KEYS if holder.get(key) is not None), "")
    if not key or (make is None and holder is not r.config):
        return model
    if make is not None:
        r.ignore(*KEYS)
    count = r.whole(key, holder[key], maximum=MAX_BLOCKS)
    extra = make(r, model, count) if make and count else None
    if count and extra is None:
        r.notes.append(f"{key} = {count}: multi-token-prediction blocks are not counted")
    return model.replace(extra=extra)


def _holder(config: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


# ---- kinds of blocks ------------------------------------------------------------------------------------------------


def after_layers(r: Reader, model: Model, count: int) -> Prediction | None:
    """DeepSeek-V3's: each block has a layer with experts, a projection and three norms of its own."""
    layer = _last(model, lambda layer: _has(layer, MixtureOfExperts))
    return None if layer is None else _blocks(model, _with_own_indexer(layer), count)


def like_the_last(r: Reader, model: Model, count: int) -> Prediction | None:
    """MiMo's: each block has a layer as the model's last, a projection and three norms of its own."""
    layer = _last(model, lambda layer: True)
    return None if layer is None else _blocks(model, layer, count)


def attending(r: Reader, model: Model, count: int) -> Prediction | None:
    """Qwen's: layers with full attention behind one projection, with one norm after the last."""
    layer = _last(model, lambda layer: _has(layer, SelfAttention))
    return None if layer is None else _blocks(model, layer, count, once=True)


def windowed_sparse(r: Reader, model: Model, count: int) -> Prediction | None:
    """Mellum's: one windowed layer with experts, unless the config says another kind."""
    attention, mlp = (holder_of(r, key, default) for key, default in _MELLUM)
    windowed, sparse = attention == "sliding_attention", mlp == "sparse"
    layer = _last(model, lambda layer: _windowed(layer) == windowed and _has(layer, MixtureOfExperts) == sparse)
    return None if layer is None or count > 1 else _blocks(model, layer, count, once=True)


_MELLUM: Final = (("mtp_layer_types", "sliding_attention"), ("mtp_mlp_layer_types", "sparse"))


def holder_of(r: Reader, key: str, default: str) -> object:
    """The first entry of a list in the config, or what it is by default."""
    value = r.config.get(key)
    return value[0] if isinstance(value, list) and value else default


def windowed_dense(r: Reader, model: Model, count: int) -> Prediction | None:
    """MiMo-V2's: windowed attention before a dense feed-forward, which no layer of the model has together."""
    attention = _last(model, _windowed)
    dense = _last(model, lambda layer: _has(layer, FeedForward))
    if attention is None or dense is None or len(attention.steps) != 2 or len(dense.steps) != 2:
        return None
    return _blocks(model, Layer(steps=(attention.steps[0], dense.steps[1])), count)


def dense_unnormed(r: Reader, model: Model, count: int) -> Prediction | None:
    """ERNIE's: a dense layer, and no norm after it."""
    layer = _last(model, lambda layer: _has(layer, FeedForward))
    return None if layer is None else _blocks(model, layer, count, norms=2)


def _blocks(model: Model, layer: Layer, count: int, *, norms: int = 3, once: bool = False) -> Prediction:
    width = model.main.hidden_size
    norm = model.main.final_norm or Norm(kind="rmsnorm", width=width)
    projection = Projection(in_size=2 * width, out_size=width)
    return Prediction(layer=layer, count=count, projection=projection, norms=(norm,) * norms, once=once)


def _last(model: Model, fits: Callable[[Layer], bool]) -> Layer | None:
    """The last layer of the main stack that fits."""
    return next(
        (model.main.layers[index] for index, _ in reversed(model.main.runs) if fits(model.main.layers[index])), None
    )


def _has(layer: Layer, kind: type) -> bool:
    return any(isinstance(each, kind) for each in layer.sublayers())


def _windowed(layer: Layer) -> bool:
    return any(isinstance(each, SelfAttention) and each.window is not None for each in layer.sublayers())


def _with_own_indexer(layer: Layer) -> Layer:
    """A layer that takes the choice of tokens from the one before it, with an indexer of its own instead."""
    steps = tuple(
        step.replace(branches=tuple(branch.replace(sublayer=_indexing(branch.sublayer)) for branch in step.branches))
        for step in layer.steps
    )
    return layer.replace(steps=steps)


def _indexing(sublayer: Any) -> Any:
    if isinstance(sublayer, LatentAttention) and sublayer.indexer is not None and sublayer.indexer.shared:
        return sublayer.replace(indexer=sublayer.indexer.replace(shared=False))
    return sublayer
