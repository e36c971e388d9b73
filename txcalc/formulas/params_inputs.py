"""Parameters of what stands before the first layer: tables of tokens and positions, patches, sound, projections."""

from __future__ import annotations

from txcalc.architecture import (
    AudioEmbedding,
    InputEmbedding,
    InputTable,
    PatchEmbedding,
    Projection,
    Sinusoidal,
    TokenEmbedding,
)
from txcalc.expression import Expression, symbol
from txcalc.formulas.params_parts import linear, norm_params
from txcalc.formulas.params_side import per_layer_projection_params, per_layer_table_params
from txcalc.result import Node, leaf, total


def embedding_params(embedding: InputEmbedding, key: str = "") -> Node:
    """Input tables and what follows them; the tables alone are ``params.embedding``."""
    match embedding:
        case TokenEmbedding():
            tables, rest = _token_tables(embedding), _token_rest(embedding)
        case PatchEmbedding():
            tables, rest = _patch_tables(embedding), [norm_params("norm", embedding.norm)]
        case AudioEmbedding():
            tables, rest = _audio_tables(embedding), []
    return total(
        "input",
        "parameters",
        [total("embedding", "parameters", tables, key=key), *rest],
    )


def _token_tables(embedding: TokenEmbedding) -> list[Node | None]:
    V, D = symbol("V", embedding.vocab_size), _embedding_width(embedding)
    own = embedding.shared_with is None
    types = symbol("type_vocab_size", embedding.token_types)
    return [
        leaf("tokens", "parameters", V * D) if own else None,
        _position_table(embedding.positions),
        leaf("token_types", "parameters", types * D) if embedding.token_types else None,
        leaf("extra_tokens", "parameters", symbol("extra_tokens", embedding.extra_tokens) * D)
        if embedding.extra_tokens
        else None,
        leaf("other_types", "parameters", symbol("other_types", embedding.other_types) * D)
        if embedding.other_types
        else None,
        *(_input_table(table, D) for table in embedding.tables),
        per_layer_table_params(embedding.per_layer) if embedding.per_layer else None,
    ]


def _input_table(table: InputTable, D: Expression) -> Node:
    width = D if table.width is None else symbol("width", table.width)
    return leaf(table.name, "parameters", symbol("rows", table.rows) * width)


def _embedding_width(embedding: TokenEmbedding) -> Expression:
    own_width = embedding.projection is not None
    return symbol("embedding_size" if own_width else "D", embedding.embedding_size)


def _position_table(positions: object) -> Node | None:
    rows, width = getattr(positions, "rows", 0), getattr(positions, "width", 0)
    if positions is None or (isinstance(positions, Sinusoidal) and not positions.stored):
        return None
    return leaf("positions", "parameters", symbol("rows", rows) * symbol("D", width))


def _token_rest(embedding: TokenEmbedding) -> list[Node | None]:
    affine = leaf("scale and shift", "parameters", 2 * symbol("D", embedding.embedding_size))
    return [
        affine if embedding.affine else None,
        norm_params("norm", embedding.norm),
        projection_params("projection", embedding.projection),
        per_layer_projection_params(embedding.per_layer, embedding.embedding_size) if embedding.per_layer else None,
    ]


def _patch_tables(embedding: PatchEmbedding) -> list[Node | None]:
    C, P, D = (
        symbol("num_channels", embedding.num_channels),
        symbol("patch_size", embedding.patch_size),
        symbol("D", embedding.hidden_size),
    )
    width = P if embedding.patch_width is None else symbol("patch_width", embedding.patch_width)
    extra, frames = embedding.extra_tokens + embedding.mask_token, embedding.temporal_patch_size
    filters = C * P * width * D if frames == 1 else C * symbol("temporal_patch_size", frames) * P * width * D
    return [
        leaf("patches", "parameters", filters + D if embedding.bias else filters),
        leaf("extra_tokens", "parameters", symbol("extra_tokens", extra) * D) if extra else None,
        _position_table(embedding.positions),
    ]


def _audio_tables(embedding: AudioEmbedding) -> list[Node | None]:
    D, kernel = symbol("D", embedding.hidden_size), symbol("kernel", embedding.conv_kernel)
    mel = symbol("num_mel_bins", embedding.num_mel_bins)
    return [
        leaf("conv1", "parameters", mel * kernel * D + D),
        leaf("conv2", "parameters", D * kernel * D + D),
        _position_table(embedding.positions),
    ]


def projection_params(name: str, projection: Projection | None) -> Node | None:
    """A plain linear map."""
    if projection is None:
        return None
    size_in, size_out = symbol("in", projection.in_size), symbol("out", projection.out_size)
    return linear(name, size_in, size_out, bias=projection.bias)
