"""Encoders of pages, text and image at once: NeoMME, ModernVBERT, UltraVBERT.

Sources: transformers 5.23's modeling code (NeoMME); Teiletche et al. 2025 (arXiv 2510.01149), section 3 (ModernVBERT).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import (
    Branch,
    Connector,
    CountedPart,
    Head,
    HeadTransform,
    InputTable,
    Layer,
    Model,
    Norm,
    Projection,
    QKNorm,
    Residual,
    SelfAttention,
    Stack,
    TokenEmbedding,
)
from txcalc.configs import rope, siglip
from txcalc.configs.common import (
    activation,
    dtype_of,
    each_once,
    layer_kinds,
    layer_norm,
    quantization_of,
    self_attention,
)
from txcalc.configs.encoders import Plan, encoder_model, known_task, plain_feed_forward
from txcalc.configs.heads import class_of, classifier, num_labels
from txcalc.configs.modernbert import MODERNBERT_DEFAULTS, modern_encoder
from txcalc.configs.new_encoders import ULTRABERT_DEFAULTS, ultra_encoder, ultra_masked_head
from txcalc.configs.reader import Reader, shown
from txcalc.configs.registry import ModelType

NEOMME_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 131_072,
    "embedding_rank": 256,
    "hidden_size": 1024,
    "intermediate_size": 3584,
    "hidden_act": "relu2",
    "mlp_bias": False,
    "num_hidden_layers": 17,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "max_position_embeddings": 16_384,
    "norm_eps": 1e-6,
    "attention_bias": False,
    "sliding_window": 256,
    "residual_multiplier": None,
    "patch_size": 32,
    "embedding_dim": 128,
    "tie_word_embeddings": True,
}
MODERNVBERT_DEFAULTS: Final[dict[str, Any]] = {
    "pixel_shuffle_factor": 4,
    "classifier_pooling": "cls",
    "tie_word_embeddings": False,
}
ULTRAVBERT_DEFAULTS: Final = MODERNVBERT_DEFAULTS
_FULL, _SLIDING = "full_attention", "sliding_attention"
_ROTARY: Final = {_FULL: (1_000_000.0, 0.25), _SLIDING: (10_000.0, 1.0)}  # base, share of a head that turns
_TASKS: Final = "base masked_lm sequence_classification token_classification"
_LONG: Final = 1024  # the window of every second windowed layer


# ---- NeoMME ---------------------------------------------------------------------------------------------------------


def _neomme(r: Reader) -> Model:
    """One encoder reads words and patches. Its first and last full layers add a row of each token's to their values."""
    r.ignore("document_token_id", "image_token_id", "rope_parameters", "rope_theta", "rope_scaling")
    name = class_of(r, "NeoMMEForMaskedLM", "NeoMMEModel", "NeoMMEForRetrieval")
    hidden, rank, vocab = r.integer("hidden_size"), r.integer("embedding_rank"), r.integer("vocab_size")
    norm = Norm(kind="rmsnorm", width=hidden, eps=r.number("norm_eps"), weight=False)
    values = r.integer("num_key_value_heads") * r.integer("head_dim")
    model = encoder_model(
        r,
        _neomme_plan(r, name, hidden, rank),
        role="encoder",
        hidden=hidden,
        embedding=TokenEmbedding(
            vocab_size=vocab,
            embedding_size=rank,
            tables=(InputTable(name="values", rows=vocab, width=values),),
            norm=norm,
            projection=Projection(in_size=rank, out_size=hidden),
        ),
        layers=_neomme_layers(r, norm),
        positions=r.integer("max_position_embeddings"),
        final_norm=norm,
    )
    return model.replace(counted=(_patches(r, hidden),))


def _neomme_plan(r: Reader, name: str, hidden: int, rank: int) -> Plan:
    """Words through the transposed projection and the table; pages as a short vector for every token."""
    tied, width = r.flag("tie_word_embeddings"), r.integer("embedding_dim")
    if name == "NeoMMEModel":
        return Plan()
    if name == "NeoMMEForRetrieval":
        return Plan(head=classifier(hidden, width, role="encoder"))
    transform = HeadTransform(dense=Projection(in_size=hidden, out_size=rank), tied=tied)
    vocab = r.integer("vocab_size")
    head = Head(
        kind="masked_lm", input_size=hidden, output_size=vocab, tied=tied, transform=transform, tied_to="encoder"
    )
    return Plan(head=head)


def _neomme_layers(r: Reader, norm: Norm) -> list[tuple[Layer, int]]:
    layers, hidden = r.layers(), r.integer("hidden_size")
    kinds = layer_kinds(r, layers, lambda: _default_kinds(layers), known=(_FULL, _SLIDING))
    if _FULL not in kinds:
        raise r.error("layer_types", "holds no full_attention; this type needs one")
    r.choice("hidden_act", ("relu2",))
    inner = plain_feed_forward(hidden, r.integer("intermediate_size"), "relu2", bias=r.flag("mlp_bias"))
    scale = r.optional_number("residual_multiplier") or (2 * layers) ** -0.5
    mixers = {kind: _neomme_attention(r, kind) for kind in sorted(set(kinds))}

    def layer(key: tuple[str, int | None]) -> Layer:
        mixer = mixers[key[0]].replace(window=key[1])
        first = Branch(sublayer=mixer, norm_in=norm, scale=scale)
        second = Branch(sublayer=inner, norm_in=norm, scale=scale)
        return Layer(steps=(Residual(branches=(first,), mixes_input=True), Residual(branches=(second,))))

    return each_once(zip(kinds, _neomme_windows(r, kinds), strict=True), layer)


def _default_kinds(layers: int) -> list[str]:
    return [_FULL if (i + 1) % 6 == 0 or i == layers - 1 else _SLIDING for i in range(layers)]


def _neomme_windows(r: Reader, kinds: list[str]) -> list[int | None]:
    """So many tokens to each side; ``per_layer_config`` speaks where a layer differs, else windowed ones take turns."""
    usual, turn = r.optional_integer("sliding_window"), 0
    own: dict[int, Any] = {}
    if r.has("per_layer_config"):
        own = {int(key): value for key, value in r.mapping("per_layer_config").items() if str(key).isdigit()}
        if any(not isinstance(each, Mapping) or set(each) != {"sliding_window"} for each in own.values()):
            r.reasons.append(f"per_layer_config = {shown(own)}: more than windows")
        if own and max(own) >= len(kinds):
            raise r.error("per_layer_config", f"speaks of layer {max(own)}; there are {len(kinds)} layers")
    found: list[int | None] = []
    for index, kind in enumerate(kinds):
        radius = _radius(own, index, usual) if r.has("per_layer_config") else (_LONG if turn % 2 else usual)
        turn += kind == _SLIDING
        if kind == _SLIDING and (type(radius) is not int or radius < 1):
            raise r.error("sliding_window", f"is {shown(radius)} in layer {index}; expected a whole number from 1")
        found.append(2 * radius if kind == _SLIDING and radius else None)
    return found


def _radius(own: Mapping[int, Any], index: int, usual: int | None) -> int | None:
    entry = own.get(index)
    return entry.get("sliding_window", usual) if isinstance(entry, Mapping) else usual


def _neomme_attention(r: Reader, kind: str) -> SelfAttention:
    """Queries and keys normed head by head, the output gated, and cleared of its own value."""
    base, part = _ROTARY[kind]
    found = r.mapping("rope_parameters").get(kind)
    settings = {"rope_theta": r.config.get("rope_theta") or base, "partial_rotary_factor": part}
    settings |= found if isinstance(found, Mapping) else {}
    bias = r.flag("attention_bias")
    made = self_attention(
        r,
        position=None,
        qkv_bias=bias,
        o_bias=bias,
        causal=False,
        qk_norm=QKNorm(kind="rmsnorm", scope="head", eps=r.number("norm_eps"), weight=False),
        gate="channel",
        gate_bias=False,
        exclusive=True,
    )
    turned = rope.rotary(r, made.head_dim, settings=settings)
    width = int(made.head_dim * float(settings["partial_rotary_factor"]))
    if width < 4 or width % 4:
        raise r.error("head_dim", f"is {made.head_dim}: {width} channels turn; two axes need a multiple of 4")
    return made.replace(position=turned)


def _patches(r: Reader, hidden: int) -> CountedPart:
    """From a flattened patch to the model's width: a norm and two matrices."""
    pixels = 3 * r.integer("patch_size") ** 2
    tensors = (
        ("norm", (2, pixels), 1),
        ("up_proj", (pixels, 2 * hidden), 1),
        ("down_proj", (2 * hidden, hidden), 1),
        ("down_bias", (hidden,), 1),
    )
    return CountedPart(name="patches", tensors=tensors)


# ---- ModernVBERT, UltraVBERT ----------------------------------------------------------------------------------------


def _modernvbert(r: Reader) -> Model:
    """ModernBERT behind SigLIP's tower, whose patches are joined square by square and projected once."""
    r.ignore("classifier_bias")
    task = known_task(r, _TASKS, prefix="ModernVBert", default="masked_lm")
    text = _text(r, "modernbert", MODERNBERT_DEFAULTS, "ModernBertConfig")
    model = modern_encoder(text)
    return _with_tower(r, model, _page_head(r, text, task, model.main.hidden_size), norm_after=None)


def _ultravbert(r: Reader) -> Model:
    """UltraBERT behind the same tower; a norm after the projection gives image tokens their scale."""
    task = known_task(r, _TASKS, prefix="UltraVBert", default="masked_lm")
    text = _text(r, "ultrabert", ULTRABERT_DEFAULTS, "UltrabertConfig")
    model = ultra_encoder(text)
    hidden = model.main.hidden_size
    after = Norm(kind="rmsnorm", width=hidden, eps=text.number("rms_norm_eps"))
    return _with_tower(r, model, _ultra_head(r, text, task, hidden), norm_after=after)


def _text(r: Reader, model_type: str, defaults: Mapping[str, Any], config: str) -> Reader:
    text = r.nested("text_config", defaults=dict(defaults))
    text.origin = f"transformers 5.23 {config}"
    if text.model_type not in ("", model_type):
        raise text.error("model_type", f"is {text.model_type!r}; {r.model_type}'s text model is a {model_type}")
    return text


def _with_tower(r: Reader, model: Model, head: Head | None, *, norm_after: Norm | None) -> Model:
    r.ignore("image_token_id", "initializer_cutoff_factor")
    tower, connector = _tower(r, model.main.hidden_size)
    return model.replace(
        model_type=r.model_type,
        stacks=(*model.stacks, tower),
        connectors=(connector.replace(norm_after=norm_after),),
        head=head,
        dtype=dtype_of(r) or model.dtype,
        quantization=quantization_of(r),
    )


def _ultra_head(r: Reader, text: Reader, task: str, hidden: int) -> Head | None:
    """UltraBERT's head on words; a plain classifier otherwise. The outer config says whether it is tied."""
    tied, mean = r.flag("tie_word_embeddings"), r.choice("classifier_pooling", ("cls", "mean")) == "mean"
    if task == "masked_lm":
        return ultra_masked_head(text, hidden, tied=tied)
    text.ignore("prediction_head_size")
    if task == "base":
        return None
    pooled = task == "sequence_classification"
    head = classifier(hidden, num_labels(r), role="encoder", bias=True, pooled=pooled)
    return head.replace(reads="mean" if pooled and mean else "usual")


def _page_head(r: Reader, text: Reader, task: str, hidden: int) -> Head | None:
    """Dense, activation and norm, then a matrix; the outer config says whether it is tied and what a class reads."""
    tied, pooling = r.flag("tie_word_embeddings"), r.choice("classifier_pooling", ("cls", "mean"))
    dense = Projection(
        in_size=hidden,
        out_size=hidden,
        bias=text.flag("classifier_bias"),
        activation=activation(text, "classifier_activation"),
    )
    norm = layer_norm(hidden, text.number("norm_eps"), bias=text.flag("norm_bias"))
    transform = HeadTransform(dense=dense, norm=norm)
    if task == "base":
        return None
    if task == "masked_lm":
        return Head(
            kind="masked_lm",
            input_size=hidden,
            output_size=text.integer("vocab_size"),
            tied=tied,
            bias=text.flag("decoder_bias"),
            transform=transform,
            tied_to="encoder",
        )
    pooled = task == "sequence_classification"
    head = classifier(hidden, num_labels(r), role="encoder", bias=True, pooled=pooled)
    return head.replace(transform=transform, reads="mean" if pooled and pooling == "mean" else "usual")


def _tower(r: Reader, hidden: int) -> tuple[Stack, Connector]:
    vision = r.nested("vision_config", defaults=siglip.SIGLIP_VISION_DEFAULTS)
    vision.origin = siglip.ORIGIN
    if vision.model_type not in ("", "siglip_vision_model"):
        raise vision.error("model_type", f"is {vision.model_type!r}; {r.model_type}'s tower is a siglip_vision_model")
    tower, side = siglip.vision_stack(vision), r.integer("pixel_shuffle_factor")
    if siglip.patches_per_side(vision) % side:
        r.notes.append(f"images do not run: {siglip.patches_per_side(vision)} patches a side, not a multiple of {side}")
    projection = Projection(in_size=tower.hidden_size * side**2, out_size=hidden)
    tokens = siglip.patches_per_side(vision) ** 2 // side**2
    return tower, Connector(tower="vision", norm=None, projections=(projection,), tokens=tokens or None, merge=side)


TYPES: Final = {
    "neomme": ModelType(build=_neomme, defaults=NEOMME_DEFAULTS, origin="transformers 5.23 NeoMMEConfig"),
    "modernvbert": ModelType(
        build=_modernvbert, defaults=MODERNVBERT_DEFAULTS, origin="transformers 5.23 ModernVBertConfig"
    ),
    "ultravbert": ModelType(
        build=_ultravbert, defaults=ULTRAVBERT_DEFAULTS, origin="transformers 5.23 UltraVBertConfig"
    ),
}
