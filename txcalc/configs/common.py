"""What decoder families share: the parts that most configs spell alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeVar

from txcalc.architecture import (
    Branch,
    FeedForward,
    Head,
    Layer,
    MixtureOfExperts,
    Model,
    Norm,
    Position,
    QKNorm,
    Residual,
    SelfAttention,
    Stack,
    Sublayer,
    TokenEmbedding,
    runs_of,
)
from txcalc.architecture.feed_forward import Activation
from txcalc.configs import rope
from txcalc.configs.heads import causal_head
from txcalc.configs.reader import Reader, shown

ACTIVATIONS: Final[Mapping[str, Activation]] = {
    "relu": "relu",
    "relu2": "relu2",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
}


def activation(r: Reader, name: str = "hidden_act", *, also: Mapping[str, Activation] | None = None) -> Activation:
    """The nonlinearity a config names; one that is not known is an error (it would run another model).

    ``also``: what this type alone knows.
    """
    value, known = r.text(name), {**ACTIVATIONS, **(also or {})}
    if value not in known:
        raise r.error(name, f"is {value!r}; known: {', '.join(known)}")
    return known[value]


def rms_norm(width: int, eps: float, *, unit_offset: bool = False) -> Norm:
    """RMSNorm over ``width`` channels."""
    return Norm(kind="rmsnorm", width=width, eps=eps, unit_offset=unit_offset)


def layer_norm(width: int, eps: float, *, bias: bool = True) -> Norm:
    """LayerNorm over ``width`` channels."""
    return Norm(kind="layernorm", width=width, eps=eps, bias=bias)


def head_dims(r: Reader) -> tuple[int, int, int, int]:
    """(hidden_size, num_attention_heads, num_key_value_heads, head_dim) with the usual fallbacks.

    Raises:
        ModelError: KV heads do not divide query heads, or hidden_size has no whole head_dim.
    """
    hidden, heads = r.integer("hidden_size"), r.integer("num_attention_heads")
    kv_heads = optional(r, "num_key_value_heads") or heads
    if heads % kv_heads:
        whose = "" if r.has("num_key_value_heads") else " (the type's default)"
        hint = "set num_key_value_heads" if whose else ""
        raise r.error("num_key_value_heads", f"is {kv_heads}{whose}; it must divide the {heads} query heads", hint)
    explicit = optional(r, "head_dim")
    if explicit is None and hidden % heads and not (r.rounds_heads and hidden > heads):
        raise r.error("hidden_size", f"is {hidden}; it is not a multiple of the {heads} heads", "set head_dim")
    return hidden, heads, kv_heads, explicit or hidden // heads


def optional(r: Reader, name: str) -> int | None:
    """A whole number if the config or the type's defaults hold one."""
    return r.optional_integer(name) if r.has(name) or name in r.defaults else None


class Arrangement(Protocol):
    """How sublayers and a kind of norm make a layer: ``pre_norm``, ``parallel``, ..."""

    def __call__(self, *sublayers: Sublayer, norm: Norm) -> Layer:  # noqa: D102 - the class says it
        ...


def older_name(r: Reader, older: str, name: str, value: int) -> None:
    """A second name of a field, left in published files: no bearing beside the field itself, alone a reason."""
    if r.has(name):
        r.ignore(older)
    else:
        r.unused(older, value)


def foreign_spelling(r: Reader, *names: str) -> None:
    """Standard names that a what-if may use for a field of this type, and that transformers does not read in it."""
    for name in names:
        if name in r.config and r.aliases[name] not in r.config:
            r.reasons.append(f"{name} = {shown(r.config[name])}: {r.model_type} spells this {r.aliases[name]}")


def pre_norm(*sublayers: Sublayer, norm: Norm, scale: float = 1.0) -> Layer:
    """The Llama layer: each sublayer its own residual step with a norm before it; ``scale`` as in Granite."""
    return Layer(
        steps=tuple(Residual(branches=(Branch(sublayer=each, norm_in=norm, scale=scale),)) for each in sublayers)
    )


def parallel(*sublayers: Sublayer, norm: Norm) -> Layer:
    """The GPT-J layer: all sublayers read one normed input, and their outputs join the stream together."""
    return Layer(steps=(Residual(branches=tuple(Branch(sublayer=each) for each in sublayers), norm_in=norm),))


def parallel_own_norms(*sublayers: Sublayer, norm: Norm) -> Layer:
    """The GPT-NeoX layer: parallel sublayers, each with a norm of its own."""
    branches = tuple(Branch(sublayer=each, norm_in=norm) for each in sublayers)
    return Layer(steps=(Residual(branches=branches),))


def output_norm(*sublayers: Sublayer, norm: Norm) -> Layer:
    """The OLMo 2 layer: a norm on what each sublayer adds to the stream, none before it."""
    return Layer(steps=tuple(Residual(branches=(Branch(sublayer=each, norm_out=norm),)) for each in sublayers))


def post_norm(*sublayers: Sublayer, norm: Norm) -> Layer:
    """The layer of the 2017 Transformer: a norm after each residual addition."""
    return Layer(steps=tuple(Residual(branches=(Branch(sublayer=each),), norm_after=norm) for each in sublayers))


def sandwich(*sublayers: Sublayer, norm: Norm, scale: float = 1.0) -> Layer:
    """The Gemma 2 layer: a norm before and a norm after each sublayer."""
    branches = (Branch(sublayer=each, norm_in=norm, norm_out=norm, scale=scale) for each in sublayers)
    return Layer(steps=tuple(Residual(branches=(branch,)) for branch in branches))


def self_attention(
    r: Reader,
    *,
    position: Position | None,
    qkv_bias: bool = False,
    o_bias: bool = False,
    qk_norm: QKNorm | None = None,
    window: int | None = None,
    **fields: Any,
) -> SelfAttention:
    """Causal self-attention in the usual spelling."""
    hidden, heads, kv_heads, head_dim = head_dims(r)
    return SelfAttention(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        v_head_dim=head_dim,
        q_bias=qkv_bias,
        k_bias=qkv_bias,
        v_bias=qkv_bias,
        o_bias=o_bias,
        qk_norm=qk_norm,
        position=position,
        window=window,
        **fields,
    )


def swiglu(
    r: Reader, *, bias: bool = False, size: str = "intermediate_size", act: Activation | None = None
) -> FeedForward:
    """The gated feed-forward of Llama."""
    return FeedForward(
        hidden_size=r.integer("hidden_size"),
        intermediate_size=r.integer(size),
        activation=act or activation(r),
        gated=True,
        up_bias=bias,
        down_bias=bias,
    )


def windows(r: Reader, num_layers: int, *, default: list[str] | None = None) -> list[int | None]:
    """The window of every layer: from ``layer_types`` where the config has it, else from ``default``."""
    return windows_of(r, layer_kinds(r, num_layers, lambda: default or ["full_attention"] * num_layers))


def windows_of(r: Reader, kinds: list[str]) -> list[int | None]:
    """``sliding_window`` for every layer of that kind, None for the others."""
    r.ignore("sliding_window")
    window = optional(r, "sliding_window") if "sliding_attention" in kinds else None
    return [window if kind == "sliding_attention" else None for kind in kinds]


LEGACY_KINDS: Final = {"attention": "full_attention", "mamba": "linear_attention"}


def layer_kinds(
    r: Reader,
    num_layers: int,
    default: Callable[[], list[str]],
    *,
    known: tuple[str, ...] = ("full_attention", "sliding_attention"),
) -> list[str]:
    """The kind of every layer: ``layer_types`` where the config has it (older names too), else ``default()``."""
    r.ignore("layer_types")
    if r.config.get("layer_types") is None:
        return default()
    kinds = [LEGACY_KINDS.get(kind, kind) for kind in r.texts("layer_types", length=num_layers)]
    unknown = sorted(set(kinds) - set(known))
    if unknown:
        raise r.error("layer_types", f"holds {unknown[0]!r}; this type knows {' and '.join(known)}")
    return kinds


Key = TypeVar("Key", bound=Hashable)


def each_once(keys: Iterable[Key], make: Callable[[Key], Layer]) -> list[tuple[Layer, int]]:
    """The layers of a stack from what tells them apart, in order; layers with one key are one object."""
    made: dict[Key, Layer] = {}
    return [(made[key] if key in made else made.setdefault(key, make(key)), 1) for key in keys]


def decoder_stack(r: Reader, layers: Iterable[tuple[Layer, int]], *, final_norm: Norm | None, **fields: Any) -> Stack:
    """A decoder-only stack over a plain token table, unless ``embedding`` says otherwise."""
    distinct, runs = runs_of(layers)
    hidden, scale = r.integer("hidden_size"), fields.pop("embedding_scale", 1.0)
    embedding = fields.pop("embedding", None) or TokenEmbedding(
        vocab_size=r.integer("vocab_size"), embedding_size=hidden, scale=scale
    )
    return Stack(
        role="decoder",
        hidden_size=hidden,
        embedding=embedding,
        layers=distinct,
        runs=runs,
        final_norm=final_norm,
        **fields,
    )


def decoder_of(
    r: Reader,
    layers: Iterable[tuple[Layer, int]],
    *,
    final_norm: Norm | None,
    head: Mapping[str, Any] | None = None,
    **stack: Any,
) -> Model:
    """A decoder of these layers with the head that ``architectures`` names; ``head`` goes to ``causal_head``."""
    made = causal_head(r, input_size=r.integer("hidden_size"), vocab_size=r.integer("vocab_size"), **(head or {}))
    return decoder_model(r, decoder_stack(r, layers, final_norm=final_norm, **stack), made)


def decoder_model(r: Reader, stack: Stack, head: Head | None, **fields: Any) -> Model:
    """A model of one decoder stack."""
    return Model(
        name="",
        model_type=r.model_type,
        stacks=(stack,),
        head=head,
        dtype=dtype_of(r),
        max_position_embeddings=optional(r, "max_position_embeddings"),
        quantization=quantization_of(r),
        **fields,
    )


_FLOATS: Final = ("float32", "float", "bfloat16", "float16", "half", "fp32", "bf16", "fp16", "auto")
_PACKED: Final = ("float8", "float4", "int", "uint", "fp8", "fp4", "mxfp", "nvfp")  # of weights; the cache has another


def dtype_of(r: Reader) -> str | None:
    """The dtype that the config names: ``dtype`` in newer files, ``torch_dtype`` in older ones."""
    value = r.config.get("dtype") or r.config.get("torch_dtype")
    if value is not None and not isinstance(value, str):
        raise r.error("torch_dtype", f"is {value!r}; expected a name such as bfloat16")
    name = value.removeprefix("torch.") if value else None
    if name and name not in _FLOATS and not name.startswith(_PACKED):
        reason = f"torch_dtype = {shown(name)}: not one that txcalc knows; bytes are those of bfloat16"
        r.reasons += [] if reason in r.reasons else [reason]
    return name


def quantization_of(r: Reader) -> str | None:
    """The method of ``quantization_config``; it changes stored bytes, not how many parameters there are."""
    method = r.mapping("quantization_config").get("quant_method")
    return str(method) if method else None


def llama_like(
    r: Reader,
    *,
    mlp_bias: bool = False,
    feed_forward: FeedForward | MixtureOfExperts | None = None,
    default_windows: list[str] | None = None,
    layer_windows: list[int | None] | None = None,
    theta: float | None = None,
    rotary: Mapping[str, Any] | None = None,
    **decoder: Any,
) -> Model:
    """Pre-norm RMSNorm, rotary GQA, SwiGLU: Llama and everything shaped like it.

    ``rotary`` goes to ``rope.rotary``, what is not named here to ``dense_decoder``.
    """
    if "layer_types" in r.defaults or default_windows:
        layer_windows = windows(r, r.layers(), default=default_windows)
    return dense_decoder(
        r,
        norm=decoder.pop("norm", None) or rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps")),
        position=rope.rotary(r, head_dims(r)[3], theta=theta, **{"whole": True, **(rotary or {})}),
        feed_forward=feed_forward or swiglu(r, bias=mlp_bias),
        layer_windows=layer_windows,
        **decoder,
    )


def dense_decoder(
    r: Reader,
    *,
    norm: Norm,
    feed_forward: FeedForward | MixtureOfExperts,
    position: Position | None,
    arrange: Arrangement = pre_norm,
    layer_windows: list[int | None] | None = None,
    turned: list[bool] | None = None,
    embedding: TokenEmbedding | None = None,
    embedding_scale: float = 1.0,
    head: Mapping[str, Any] | None = None,
    **attention: Any,
) -> Model:
    """A decoder of one kind of layer, or of kinds that differ in window and rotation alone, with one kind of norm.

    ``arrange`` makes a layer of its sublayers; ``layer_windows`` is one entry a layer, None: no windows; ``turned``:
    which layers use ``position``, None: all. ``attention`` (biases, ``qk_norm``) goes to ``self_attention``, ``head``
    to ``causal_head``.
    """

    def layer(kind: tuple[int | None, bool]) -> Layer:
        window, turns = kind
        mixer = self_attention(r, position=position if turns else None, window=window, **attention)
        return arrange(mixer, feed_forward, norm=norm)

    num_layers = r.layers()
    layers = [(layer((None, True)), num_layers)]
    if layer_windows or turned:
        layers = each_once(zip(layer_windows or [None] * num_layers, turned or [True] * num_layers, strict=True), layer)
    return decoder_of(r, layers, final_norm=norm, head=head, embedding=embedding, embedding_scale=embedding_scale)
