"""Attention sublayers: self, latent (MLA) and cross.

Shapes: a layer maps [batch, tokens, hidden_size] to the same. Queries are [tokens, num_attention_heads, head_dim], keys
[tokens, num_key_value_heads, head_dim], values [tokens, num_key_value_heads, v_head_dim].
"""

from __future__ import annotations

from typing import Literal

from txcalc.architecture.norms import Norm
from txcalc.architecture.positions import Position, Rotary
from txcalc.record import Record


class QKNorm(Record):
    """Normalisation of queries and keys before their product.

    ``scope``: ``head`` - one weight of head_dim shared by all heads (Qwen3); ``heads`` - each head has its own weight
    (StableLM, Cohere); ``width`` - one norm across all heads at once (OLMo 2). ``v_norm`` normalises the values too,
    without a weight (Gemma 4). ``after_rotary``: applied to the rotated vectors (Llama 4, HunYuan).
    """

    kind: Literal["layernorm", "rmsnorm", "l2"]
    scope: Literal["head", "heads", "width"]
    eps: float
    weight: bool = True
    bias: bool = False
    unit_offset: bool = False
    v_norm: bool = False
    after_rotary: bool = False


class LengthTemperature(Record):
    """Queries grow with the position: times 1 + factor * ln(1 + floor((position + first) / length)) (Llama 4)."""

    factor: float
    length: int
    first: int = 0  # the first position's number
    power: bool = False  # instead (1 + (position + first) / length) ** factor (Beam)


class Differential(Record):
    """Differential attention (Ye et al. 2024, arXiv 2410.05258, section 2.1): the difference of two softmax maps.

    Pairs of query heads share values of twice the width; the second map is weighted by lambda, which four learned
    vectors of head_dim and ``lambda_init`` make; the result is normalised without a weight, times 1 - lambda_init.
    """

    lambda_init: float
    norm_eps: float


class GlobalAttention(Record):
    """Longformer's global tokens: separate query, key and value projections for them (Beltagy et al. 2020)."""

    bias: bool = True


class SparseBlocks(Record):
    """BigBird's pattern (Zaheer et al. 2020, section 2): blocks of tokens see their neighbours and random blocks.

    Each block of ``block_size`` tokens attends to the first and the last block, the one before and after, itself, and
    ``num_random_blocks`` others; the first and the last attend to all. Short sequences are attended to in full.
    """

    block_size: int
    num_random_blocks: int


class TransientGlobal(Record):
    """LongT5's summaries: the mean of every ``block_size`` tokens, normed, is one more key and value for all queries.

    They go through the layer's own projections; the stack has a second table of relative biases for them.
    """

    block_size: int


class GlobalStream(Record):
    """PEGASUS-X's learned tokens beside the sequence: they see all of it, and every block sees them.

    They pass every layer, with a norm of their own before attention. ``staggered``: this layer's blocks are shifted by
    half a block.
    """

    num_tokens: int
    staggered: bool


class FutureStreams(Record):
    """ProphetNet's n-gram prediction (Qi et al. 2020, section 3.1): ``streams`` more queries at every position.

    Stream i predicts the token i + 1 ahead. Distances are scored by a product of the layer's input with
    [hidden_size, num_buckets * heads], in T5's buckets.
    """

    streams: int
    num_buckets: int
    max_distance: int


class Indexer(Record):
    """DeepSeek sparse attention's scorer: picks ``top_k`` keys per query; keeps one key of ``head_dim`` per token.

    Source: DeepSeek-V3.2 report, section 2.1. Parameters: query [query_size, heads * head_dim], key
    [hidden_size, head_dim] with a LayerNorm, and a weight per head [hidden_size, heads].
    """

    query_size: int
    num_heads: int
    head_dim: int
    top_k: int
    rope_dim: int = 0
    interleaved: bool = False  # which channels are a pair of the rotation, as in ``Rotary``
    turns_last: bool = False  # the last ``rope_dim`` channels are turned, not the first (Hy4)
    norm_eps: float = 1e-6  # of the keys' LayerNorm
    shared: bool = False  # takes the choice of the layer before; holds no parameters, keeps no keys (GLM-5)


class BlockIndexer(Record):
    """MiniMax M3's scorer: each of its heads picks ``top_k`` blocks of ``block_size`` keys for a group of query heads.

    A block's score is that of its best key; the query's own block and the ``local_blocks`` - 1 before it are always
    picked. Parameters: query [hidden_size, heads * head_dim], key [hidden_size, head_dim], an RMSNorm of each; one key
    of ``head_dim`` a token is kept.
    """

    num_heads: int
    head_dim: int
    block_size: int
    top_k: int
    local_blocks: int
    norm_eps: float


class DynamicMask(Record):
    """Doge's mask (arXiv 2412.11834, section 2.2): values say how much each key counts, and beyond ``keep`` which.

    exp(A softplus(v W)) per KV head is added to the scores; of more keys than ``keep`` only those with the largest are
    seen. Parameters: A [kv heads], W [kv heads * head_dim, kv heads].
    """

    keep: int
    bias: bool = False


class ConvolvedHeads(Record):
    """Compressed convolutional attention's queries and keys (ZAYA, arXiv 2510.04476): mixed over the last few tokens.

    A filter of ``depthwise`` taps for each channel, then one of ``grouped`` taps over all channels of its head, both
    with biases, and what they were made of added. Keys are multiplied by a learned number for each of their heads. Half
    of the value channels are those of the token before.
    """

    depthwise: int
    grouped: int


class ExpertHeads(Record):
    """Query and output projections that are experts, chosen token by token (JetMoE, arXiv 2404.07413, section 2.2).

    Each has as many query heads as there are key heads; all share keys and values. Parameters: a router
    [hidden_size, num_experts], its choice weighted by a softmax, and a bias [hidden_size] on the sum of the outputs.
    """

    num_experts: int
    num_experts_per_tok: int


class GroupedProjections(Record):
    """Block-diagonal projections: each in so many groups of channels that do not mix (SqueezeBERT, Iandola et al. 2020,
    arXiv 2006.11316, section 3).
    """

    q: int
    k: int
    v: int
    o: int


class SpanConvolution(Record):
    """ConvBERT's other half of the heads (Jiang et al. 2020, arXiv 2008.02496, section 3.3): convolutions by content.

    For every token and head a filter of ``kernel`` taps is made of its query times a separable convolution of the
    input, [D] -> [N * H]; it weights values of its own, and its output stands beside the attention's, so that the
    output projection reads [2 * N * H].
    """

    kernel: int


class Landmarks(Record):
    """Nystrom attention (Xiong et al. 2021, arXiv 2102.03902, section 3): queries meet ``count`` means of keys.

    A sequence of ``length`` tokens is cut into as many segments, whose mean queries and keys are its landmarks; their
    own softmax map is inverted by six rounds of matrix products.
    """

    count: int
    length: int


class SelfAttention(Record):
    """Softmax attention of a sequence over itself: MHA, GQA (K < N) and MQA (K = 1) alike."""

    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    v_head_dim: int
    causal: bool = True
    q_bias: bool = False
    k_bias: bool = False
    v_bias: bool = False
    o_bias: bool = False
    qk_norm: QKNorm | None = None
    position: Position | None = None
    scale: float | None = None  # of the scores; None: 1 / sqrt(head_dim)
    window: int | None = None  # a token sees itself and window - 1 before it; when not causal, window // 2 to each side
    chunk: int | None = None  # tokens see only their own chunk of this length (Llama 4)
    in_blocks: bool = False  # published code multiplies padded blocks of the window, not a masked square (LongT5)
    global_tokens: GlobalAttention | None = None
    sparse_blocks: SparseBlocks | None = None
    transient_global: TransientGlobal | None = None
    global_stream: GlobalStream | None = None
    future_streams: FutureStreams | None = None
    softcap: float | None = None  # scores become softcap * tanh(scores / softcap) (Gemma 2)
    sinks: bool = False  # a learned logit per head that takes probability and gives no value (gpt-oss)
    gate: Literal["none", "channel", "head"] = "none"  # on the output, from the input (Qwen3-Next)
    gate_bias: bool | None = None  # of a gate by channel; None: as the queries have one
    gate_head_bias: bool = False  # one number more for each head of a gate by channel (Beam)
    gate_activation: Literal["sigmoid", "softplus"] = "sigmoid"
    k_equals_v: bool = False  # one projection serves as keys and values (Gemma 4)
    kv_source: int | None = None  # reads the keys and values of this layer; holds no projections, caches nothing
    out_size: int | None = None  # of the output projection, where it is not hidden_size (Zamba)
    adapter_rank: int | None = None  # [D, rank] and [rank, D] added to each of queries, keys and values (Zamba 2)
    out_norm: Norm | None = None  # between the heads and the output projection (BitNet)
    clip_qkv: float | None = None  # queries, keys and values clamped to +- this, after a norm (OLMo, DBRX)
    temperature: LengthTemperature | None = None
    differential: Differential | None = None
    joins_source: bool = False  # an encoder's output passes the keys' and values' matrices too, one softmax (T5Gemma 2)
    value_scale: float = 1.0  # constant multiplier of the values (MiMo-V2)
    convolved: ConvolvedHeads | None = None
    expert_heads: ExpertHeads | None = None  # then the query heads are those of the chosen ones
    block_indexer: BlockIndexer | None = None
    dynamic_mask: DynamicMask | None = None
    groups: GroupedProjections | None = None
    span_convolution: SpanConvolution | None = None
    landmarks: Landmarks | None = None
    value_conv: int | None = None  # and a depthwise convolution of the values is added, a filter of so many taps a head
    # In place of the softmax: a power of the angle between query and key, or hashes that stand for it (YOSO); blocks of
    # tokens as means, the highest of them looked at closer (MRA).
    weighting: Literal["softmax", "angle", "hashes", "resolutions"] = "softmax"
    exclusive: bool = False  # an output gives up what lies along its own value, by a learned number a head (NeoMME)
    value_size: int | None = None  # what values are made of, where it is not hidden_size (MobileBERT)


class LatentAttention(Record):
    """Multi-head latent attention (DeepSeek-V2, section 2.1): what is cached is one latent per token, not heads.

    Queries are [N, qk_nope_head_dim + qk_rope_head_dim], through a bottleneck of ``q_lora_rank`` where it is set; keys
    and values are expanded from [kv_lora_rank], and one rotary key of ``qk_rope_head_dim`` is shared by all heads.
    """

    hidden_size: int
    num_attention_heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    norm_eps: float
    position: Rotary | None
    causal: bool = True
    bias: bool = False  # on the two compressing projections and the output (attention_bias)
    scale: float | None = None  # of the scores; None: 1 / sqrt(qk_nope_head_dim + qk_rope_head_dim)
    indexer: Indexer | None = None
    q_lora_scale: float = 1.0  # LongCat scales the two latents
    kv_lora_scale: float = 1.0
    temperature: LengthTemperature | None = None
    window: int | None = None  # as in ``SelfAttention``
    sinks: bool = False
    key_norm: bool = False  # an RMSNorm on the shared rotary key, before it is turned (dots3)
    # On the heads' output: made of the input, by channel or by head; or with the queries of their latent, which both
    # then read twice, normed and as it is (A.X K2).
    gate: Literal["none", "channel", "head", "latent"] = "none"


class CrossAttention(Record):
    """Attention of a decoder over an encoder's output, [source tokens, source_size]; never masked causally.

    ``optional``: over an image, if there is one; without a source the layer does not run at all (Llama 3.2 Vision).
    """

    hidden_size: int
    source_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    v_head_dim: int
    q_bias: bool = False
    k_bias: bool = False
    v_bias: bool = False
    o_bias: bool = False
    qk_norm: QKNorm | None = None
    position: Position | None = None
    scale: float | None = None
    softcap: float | None = None
    optional: bool = False
