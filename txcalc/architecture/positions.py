"""How a model knows the order of its tokens.

Positions added to the input (learned, sinusoidal) belong to an embedding; positions that act inside attention (rotary,
ALiBi, relative) belong to the attention sublayer, because layers of one model may differ.
"""

from __future__ import annotations

from typing import Literal

from txcalc.record import Record


class LearnedPositions(Record):
    """A table of position vectors, [rows, width]; row ``offset`` is the first token's (OPT and BART: 2)."""

    rows: int
    width: int
    offset: int = 0


class Sinusoidal(Record):
    """Fixed sines and cosines (Vaswani et al. 2017, section 3.5).

    ``interleaved`` puts sine and cosine in turn, as the paper writes it; otherwise all sines stand before all cosines,
    at rates 10000^(-i / (width / 2 - 1)), as tensor2tensor has them, unless ``paper_rates`` says that they are the
    paper's, 10000^(-2i / width) (Pegasus, Marian).
    ``stored`` counts the table as parameters, where a checkpoint of the type carries it as such (Whisper's encoder).
    """

    rows: int
    width: int
    offset: int = 0
    interleaved: bool = False
    stored: bool = False
    paper_rates: bool = False


class LinearScaling(Record):
    """Positions divided by ``factor`` (Chen et al. 2023, position interpolation)."""

    factor: float


class DynamicScaling(Record):
    """NTK-aware base that grows with the sequence once it is longer than it was in training."""

    factor: float
    original_max_position_embeddings: int


class YarnScaling(Record):
    """YaRN (Peng et al. 2023): interpolate low frequencies, keep high ones, ramp between, scale the logits."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    attention_factor: float | None = None
    truncate: bool = True


class LongRopeScaling(Record):
    """LongRoPE (Ding et al. 2024): one factor per frequency, a short set and a long set."""

    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    original_max_position_embeddings: int
    factor: float
    attention_factor: float | None = None


class Llama3Scaling(Record):
    """Llama 3.1's: wavelengths beyond the trained context divided by ``factor``, a smooth band between."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


RopeScaling = LinearScaling | DynamicScaling | YarnScaling | LongRopeScaling | Llama3Scaling


class Rotary(Record):
    """Rotary positions (Su et al. 2021) on the first ``rotary_dim`` channels of each head.

    ``interleaved`` rotates the pairs (0, 1), (2, 3), ... (GPT-J, Cohere, DeepSeek); otherwise channel i goes with
    channel i + rotary_dim / 2 (Llama, GPT-NeoX). ``frequency_dim``, where set, is the width that the frequencies are
    spread over instead of ``rotary_dim``. ``still_pairs``: the slowest pairs, which do not turn at all (Gemma 4's
    proportional rotary). ``reversed`` turns the other way (nanochat).
    ``axes``: as many positions a token, each turning its share of the channels (rows and columns of an image's patches
    in Qwen's towers).
    """

    theta: float
    rotary_dim: int
    interleaved: bool = False
    scaling: RopeScaling | None = None
    frequency_dim: int | None = None
    max_position_embeddings: int = 0
    reversed: bool = False
    axes: int = 1
    still_pairs: int = 0


class Alibi(Record):
    """A penalty linear in distance, one slope per head (Press et al. 2022); ``max_bias`` is 8 in the paper.

    ``before_scaling`` adds the bias to the scores before they are divided by sqrt(head_dim) (Falcon), after otherwise.
    ``rounded``: Falcon's too, slopes, key positions and their products in bfloat16; the bias of a key is then that
    product, not one of the distance (without rounding the two differ by a constant, which the softmax drops).
    """

    max_bias: float = 8.0
    before_scaling: bool = False
    rounded: bool = False


class RelativeBias(Record):
    """T5's learned bias per head and distance bucket, [num_buckets, heads] (Raffel et al. 2020, section 2.1).

    ``table`` says where the table is stored: with this layer, or once in the stack and read by every layer.
    """

    num_buckets: int
    max_distance: int
    bidirectional: bool
    table: Literal["layer", "stack"] = "stack"


class Disentangled(Record):
    """DeBERTa's content-to-position and position-to-content scores (He et al. 2021, section 3.1).

    The relative table, [2 * span, hidden_size], is stored once in the stack. ``share_key`` reuses the content
    projections for the positions; otherwise each kind of score has a projection of its own. ``key_bias``: that of the
    positions' keys has a bias (not in the first DeBERTa). ``within_length``: only vectors of distances that the
    sequence holds are projected (the first DeBERTa), not all.
    """

    span: int
    buckets: int
    max_distance: int
    content_to_position: bool
    position_to_content: bool
    share_key: bool
    key_bias: bool = True
    within_length: bool = False


class RelativeKeys(Record):
    """Learned vectors per distance added into the scores, [2 * rows - 1, head_dim] (Shaw et al. 2018).

    ``queries`` adds the same for queries (BERT's ``relative_key_query``).
    """

    rows: int
    queries: bool


class ProjectedDistances(Record):
    """Transformer-XL's relative scores (Dai et al. 2019, arXiv 1901.02860, section 3.3), as XLNet has them.

    Sines of every distance pass a projection of the layer's own, [hidden_size, heads * head_dim], and are scored with
    the queries; two learned biases a head, [heads, head_dim] each, take the place of the queries' own position.
    ``segments``: a bias and that many vectors a head more, for tokens of the same or of another segment (Yang et al.
    2019, arXiv 1906.08237, section 2.5); they act only where segments are given.
    """

    segments: int = 0


Position = Rotary | Alibi | RelativeBias | Disentangled | RelativeKeys | ProjectedDistances
