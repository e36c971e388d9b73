"""What a model is asked to do: lengths and batch, and what to say when they go beyond its training."""

from __future__ import annotations

from txcalc.architecture import CrossAttention, Model, Stack, TokenEmbedding
from txcalc.errors import RequestError


def source_length(model: Model, ctx: int, source_ctx: int | None) -> int | None:
    """Length of the encoder's sequence: given, else fixed by the model, else the decoder's; None without an encoder.

    Of images that layers may look at: given, else none, so 0.

    Raises:
        RequestError: a length was given and the model has no encoder beside its decoder.
    """
    encoder = model.stack("encoder")
    if may_look(model):
        return source_ctx or 0
    if encoder is None or encoder is model.main:
        if source_ctx is not None:
            raise RequestError(f"{model.name} has no encoder beside its decoder", "leave out --source-ctx")
        return None
    return source_ctx or encoder.fixed_length or ctx


def may_look(model: Model) -> bool:
    """Whether there are layers that look at an image and do not run without one."""
    return any(
        isinstance(each, CrossAttention) and each.optional for layer in model.main.layers for each in layer.sublayers()
    )


def prompt_of(stack: Stack) -> int:
    """How many learned tokens stand before every sequence of a stack."""
    return stack.embedding.prompt_tokens if isinstance(stack.embedding, TokenEmbedding) else 0


def context_warnings(model: Model, ctx: int) -> list[str]:
    """A context beyond the positions that the model was trained on is answered, with a warning."""
    trained = model.max_position_embeddings
    if trained is None or ctx <= trained:
        return []
    return [f"{ctx:,} tokens are beyond the {trained:,} positions of {model.name}; the figures hold for its shape"]


def require_model(value: object) -> None:
    """Refuse a name where a model is meant.

    Raises:
        RequestError: it is no Model.
    """
    if not isinstance(value, Model):
        raise RequestError(f"the model is {str(value)[:60]!r}, which is no Model", 'txcalc.load("llama3-8b") makes one')


def require_positive(**values: int | None) -> None:
    """Refuse a length or a batch below one.

    Raises:
        RequestError: naming the first such value.
    """
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise RequestError(f"{name} is {value!r}; expected a whole number of at least 1")
