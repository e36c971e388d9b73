"""How layers make a model: embeddings, stacks, heads, towers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from txcalc.architecture.attention import CrossAttention
from txcalc.architecture.blocks import Layer, StreamHead
from txcalc.architecture.feed_forward import Activation, FeedForward
from txcalc.architecture.norms import Norm
from txcalc.architecture.positions import (
    Disentangled,
    LearnedPositions,
    RelativeBias,
    Sinusoidal,
)
from txcalc.architecture.relative_attention import DepthAttention
from txcalc.architecture.side_streams import PerLayerTable
from txcalc.record import Record

Role = Literal["decoder", "encoder", "vision", "audio"]


class Projection(Record):
    """A plain linear map [in_size] -> [out_size], followed by an activation where one is named."""

    in_size: int
    out_size: int
    bias: bool = False
    activation: Activation | None = None


class InputTable(Record):
    """One more table of an embedding, [rows, width]; ``width`` None: the embedding's."""

    name: str
    rows: int
    width: int | None = None


class TokenEmbedding(Record):
    """A table [vocab_size, embedding_size], what is added to its rows, and what they pass before the first layer.

    Positions are added before the projection, unless their width is not ``embedding_size``: then after it (OPT-350m).
    ``norm_first``: the norm stands before positions are added, not after (Blenderbot-small's decoder).
    """

    vocab_size: int
    embedding_size: int
    scale: float = 1.0
    positions: LearnedPositions | Sinusoidal | None = None
    token_types: int = 0
    extra_tokens: int = 0  # learned vectors that run beside the sequence (PEGASUS-X)
    prompt_tokens: int = 0  # rows of the table that stand before every sequence, and get no logits (CPM-Ant)
    other_types: int = 0  # rows of one more table, by task (ERNIE) or language (XLM)
    tables: tuple[InputTable, ...] = ()  # what else a token has rows for: places on a page (LayoutLM), a cell (TAPAS)
    neighbours: bool = False  # the projection reads the rows of the tokens before and after too (MobileBERT)
    affine: bool = False  # a learned shift and scale by channel (ZAYA)
    norm: Norm | None = None
    norm_first: bool = False
    projection: Projection | None = None  # where embedding_size is not hidden_size (ALBERT, ELECTRA, OPT-350m)
    per_layer: PerLayerTable | None = None  # inputs of each layer's own (Gemma 3n)
    shared_with: Role | None = None  # the table is that stack's (T5, BART: one for encoder and decoder)


class PatchEmbedding(Record):
    """An image cut into patches: convolution [hidden_size, channels, patch, patch], extra tokens, positions.

    ``image_width``, ``patch_width``: where an image or its patches are not square; the plain sizes are then heights.
    ``temporal_patch_size``: frames of a video that one patch reaches over; a single image is repeated (Qwen).
    """

    image_size: int
    patch_size: int
    num_channels: int
    hidden_size: int
    bias: bool
    extra_tokens: int = 0  # class and register tokens
    mask_token: bool = False
    temporal_patch_size: int = 1
    positions: LearnedPositions | None = None
    norm: Norm | None = None
    image_width: int | None = None
    patch_width: int | None = None


class AudioEmbedding(Record):
    """Whisper's stem: two convolutions over mel frames, the second halving their number, then positions."""

    num_mel_bins: int
    hidden_size: int
    conv_kernel: int
    positions: Sinusoidal | LearnedPositions


InputEmbedding = TokenEmbedding | PatchEmbedding | AudioEmbedding


class Pooler(Record):
    """BERT's: the first token through [hidden_size, hidden_size] and tanh; ``out_size``: a width of its own (ViT)."""

    hidden_size: int
    bias: bool = True
    out_size: int | None = None
    activation: Activation = "tanh"


class AttentionPooling(Record):
    """SigLIP's pooled output: one learned query attends over all tokens, y; then y + feed_forward(norm(y))."""

    attention: CrossAttention
    norm: Norm
    feed_forward: FeedForward


class Cycles(Record):
    """Two streams that think by turns (HRM, Wang et al. 2025, arXiv 2506.21734, section 2).

    ``high`` times: ``low`` passes of the first ``layers`` layers over the sum of both streams give the low one, then
    one pass of as many others over the sum gives the high one. ``norm`` ends every pass. The low stream starts as a
    stored vector [hidden_size], the high one as the embedded tokens.
    """

    high: int
    low: int
    layers: int
    norm: Norm


class Stack(Record):
    """Layers in order, between an embedding and a final norm.

    Equal layers are stored once: ``layers`` are the distinct ones, ``runs`` says (index in layers, how many in a row).
    ``relative_bias`` and ``disentangled`` are tables that all layers of the stack read. ``pooled_projection`` takes the
    one vector an input has to a width of its own (CLIP's space of images and texts).
    ``altup_streams``: hidden states that a token has side by side; all but the first come from a matrix [hidden_size,
    hidden_size] each, scaled to the first one's size, and are added up through another one each at the end.
    """

    role: Role
    hidden_size: int
    embedding: InputEmbedding
    layers: tuple[Layer, ...]
    runs: tuple[tuple[int, int], ...]
    cycles: Cycles | None = None
    stream_head: StreamHead | None = None  # before the final norm, where steps run on several streams
    depth: DepthAttention | None = None  # what the final norm reads (Inkling 2)
    final_norm: Norm | None = None
    out_projection: Projection | None = None  # OPT-350m: back to the embedding's width
    relative_bias: RelativeBias | None = None
    relative_bias_heads: int = 0
    disentangled: Disentangled | None = None
    disentangled_norm: Norm | None = None
    pooler: Pooler | None = None
    attention_pooling: AttentionPooling | None = None
    pooled_projection: Projection | None = None
    altup_streams: int = 1
    fixed_length: int | None = None  # an input of one length only: image patches, Whisper's 1,500 frames

    @property
    def num_hidden_layers(self) -> int:
        """How many layers run."""
        return sum(count for _, count in self.runs)

    def with_layers(self, layers: tuple[Layer, ...], runs: tuple[tuple[int, int], ...]) -> Stack:
        """The same around other layers; a table that holds a vector for each has as many as there are."""
        changed = self.replace(layers=layers, runs=runs)
        e = self.embedding
        if not isinstance(e, TokenEmbedding) or e.per_layer is None:
            return changed
        return changed.replace(embedding=e.replace(per_layer=e.per_layer.replace(layers=changed.num_hidden_layers)))

    def counts(self) -> tuple[int, ...]:
        """How often each distinct layer runs, in the order of ``layers``."""
        totals = [0] * len(self.layers)
        for index, count in self.runs:
            totals[index] += count
        return tuple(totals)

    @property
    def looks_ahead(self) -> bool:
        """Whether tokens see later ones, so that nothing can be decoded token by token."""
        return any(not getattr(each, "causal", True) for layer in self.layers for each in layer.sublayers())

    def sequence(self) -> Iterator[Layer]:
        """Every layer in order of execution."""
        for index, count in self.runs:
            for _ in range(count):
                yield self.layers[index]


def runs_of(layers: Iterable[tuple[Layer, int]]) -> tuple[tuple[Layer, ...], tuple[tuple[int, int], ...]]:
    """Distinct layers and runs of a stack, from (layer, how many in a row) in order of execution."""
    layers = list(layers)
    if len(layers) == 1 and layers[0][1]:  # hashing a layer walks it
        return (layers[0][0],), ((0, layers[0][1]),)
    index_of: dict[Layer, int] = {}
    seen: dict[int, tuple[Layer, int]] = {}  # hashed once an object, and kept alive
    runs: list[tuple[int, int]] = []
    for layer, count in layers:
        if id(layer) not in seen:
            seen[id(layer)] = (layer, index_of.setdefault(layer, len(index_of)))
        index = seen[id(layer)][1]
        if runs and runs[-1][0] == index:
            runs[-1] = (index, runs[-1][1] + count)
        elif count:
            runs.append((index, count))
    return tuple(index_of), tuple(runs)


class HeadTransform(Record):
    """What a masked-language head does before its matrix: dense, activation, norm."""

    dense: Projection
    norm: Norm | None = None
    second: Projection | None = None  # a further projection and activation between both (UltraBERT)
    tied: bool = False  # the dense matrix is the transpose of the embedding's projection, stored there (NeoMME)


class Head(Record):
    """From the last hidden states to outputs: [.., input_size] -> [.., output_size].

    ``tied``: its matrix is the token table of stack ``tied_to``, stored there; the rest of the head is its own.
    ``pooled``: it reads one vector per sequence (a classifier), not every position: the pooler's where the stack has
    one, else the first token's of an encoder and the last token's of a decoder; ``reads`` names another: the mean over
    positions, the first token's and that mean side by side (DINOv2), or every patch of an image, no class token.
    ``fixed_bias``: a bias stored beside the parameters and not trained; it is 0 where it is not stored (Marian).
    """

    kind: Literal["lm", "masked_lm", "classifier", "discriminator"]
    input_size: int
    output_size: int
    tied: bool
    bias: bool = False
    fixed_bias: bool = False
    transform: HeadTransform | None = None
    softcap: float | None = None
    scale: float = 1.0  # of the logits (Cohere) or of the hidden states before a tied head (T5: 1 / sqrt(D))
    pooled: bool = False
    every_position: bool = False  # a pooled one of a decoder runs on all tokens, and then the last one's is kept
    reads: Literal["usual", "first", "last", "mean", "first_and_mean", "patches"] = "usual"
    tied_to: Role = "decoder"
    own_channels: int = 0  # columns of its own that a tied matrix has beside the table's (MobileBERT)


class UnusedTensor(Record):
    """``count`` parameters of ``shape`` that the published implementation holds and no forward pass of it reads.

    An untied BERT's second output bias; the cross-attention of a decoder that is published without an encoder.
    """

    name: str
    shape: tuple[int, ...]
    count: int = 1


class CountedPart(Record):
    """A part that is known by its tensors alone, (name, shape, how many): counted, and described no further.

    Towers of sound and other front ends that no command here runs.
    """

    name: str
    tensors: tuple[tuple[str, tuple[int, ...], int], ...]


class Connector(Record):
    """From a tower's output to the decoder's input: norm, projections, norm; ``tokens``: how many the decoder sees.

    ``pool``: before the norm, the grid of patches is averaged over squares of this many patches a side (Gemma 3).
    ``pool_by_product``: that average is a product with a matrix [tokens, patches] of shares (Gemma 4).
    ``merge``: after it, the vectors of such a square are joined into one (Qwen).
    """

    tower: Role
    norm: Norm | None
    projections: tuple[Projection, ...]
    norm_after: Norm | None = None
    tokens: int | None = None
    pool: int = 1
    pool_by_product: bool = False
    merge: int = 1


class Similarity(Record):
    """CLIP's output: the product of every text's vector with every image's, [texts, width] x [width, images], times a
    learned scale, plus a learned number where ``bias`` (SigLIP).
    """

    width: int
    bias: bool = False


class Prediction(Record):
    """Multi-token prediction beside a model (DeepSeek-V3, arXiv 2412.19437, section 2.2): ``count`` blocks.

    A block joins the embedding of the next token and the last hidden state, each normed, by ``projection``
    [2 * hidden_size] -> [hidden_size], and passes them through ``layer``; embedding and head are the model's own.
    ``norms``: the two of the input and, where there is one, that of the output. ``once``: projection and norms are
    held once for all blocks, not by each (Qwen).
    """

    layer: Layer
    count: int
    projection: Projection
    norms: tuple[Norm, ...]
    once: bool = False


class Model(Record):
    """Everything that decides a model's shape, and how sure we are of it.

    ``reasons`` is not empty where something in the config was not understood: figures are then estimates.
    ``only_params`` says why nothing but parameters and caches is answered: how the parts run is not described.
    ``assumed`` lists fields that the config left out: (key, value, where the value comes from).
    """

    name: str
    model_type: str
    stacks: tuple[Stack, ...]
    head: Head | None
    pooled_head: Head | None = None  # a second head, on the pooled vector (BERT's next sentence, ALBERT's order)
    unused: tuple[UnusedTensor, ...] = ()
    connectors: tuple[Connector, ...] = ()
    extra: Prediction | None = None  # beside the model: in no total
    similarity: Similarity | None = None
    counted: tuple[CountedPart, ...] = ()
    only_params: str = ""
    dtype: str | None = None
    quantization: str | None = None
    max_position_embeddings: int | None = None
    reasons: tuple[str, ...] = ()
    assumed: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def stack(self, role: Role) -> Stack | None:
        """The stack of that role, or None."""
        for stack in self.stacks:
            if stack.role == role:
                return stack
        return None

    @property
    def main(self) -> Stack:
        """The stack whose length --ctx sets: the decoder, else the first."""
        return self.stack("decoder") or self.stacks[0]
