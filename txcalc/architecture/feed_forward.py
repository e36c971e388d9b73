"""Feed-forward sublayers: dense, gated, and mixtures of experts."""

from __future__ import annotations

from typing import Literal

from txcalc.architecture.norms import Norm
from txcalc.record import Record

Activation = Literal[
    "relu", "relu2", "gelu", "gelu_tanh", "quick_gelu", "silu", "swiglu_oai", "tanh", "sigmoid", "xielu",
]  # fmt: skip


class FeedForward(Record):
    """Two matrices around a nonlinearity, or three with a gate (SwiGLU, GEGLU: Shazeer 2020).

    [.., hidden_size] -> [.., intermediate_size] -> [.., hidden_size]. ``activation`` acts on the gate where there is
    one. ``limit`` clamps both branches (the gate from above only), where there is a gate. ``swiglu_oai`` is gpt-oss's:
    gate * sigmoid(alpha * gate) * (up + 1). ``xielu`` holds two learned scalars (Huang and Schlag 2024, arXiv
    2411.13010).
    """

    hidden_size: int
    intermediate_size: int
    activation: Activation
    gated: bool
    up_bias: bool = False  # on the up (and gate) projection
    down_bias: bool = False
    norm: Norm | None = None  # between the nonlinearity and the down projection (BitNet)
    limit: float | None = None
    alpha: float = 1.702  # swiglu_oai's
    gate_scale: float = 1.0  # constant multiplier of the gate, before the nonlinearity (Falcon-H1)
    output_scale: bool = False  # one learned multiplier of the output (Inkling)
    softcaps: tuple[float, float] | None = None  # of gate and value, each cap * tanh(x / cap) (Inkling 2)
    adapter_rank: int | None = None  # [D, rank] and [rank, 2 * F] added to gate and up (Zamba 2)
    up_groups: int = 1  # block-diagonal matrices, of so many blocks (SqueezeBERT, ConvBERT)
    down_groups: int = 1
    activation_sparsity: float = 0.0  # share of the gate's channels that a Gaussian cutoff zeroes (Gemma 3n)


class LinearMap(Record):
    """One matrix [hidden_size, hidden_size] and nothing else (Zamba)."""

    hidden_size: int


class RouterNetwork(Record):
    """What a router does before its matrix: to ``size`` channels, a norm, and two layers of those (ZAYA).

    ``carries``: the channels of the layer before are added, each times a learned number.
    """

    size: int
    norm_eps: float
    carries: bool


class Router(Record):
    """How a token picks its experts: [hidden_size] -> [num_experts + zero_experts].

    ``correction_bias`` is a balancing buffer added when choosing only (DeepSeek-V3); it is not a parameter.
    ``zero_experts`` are choices that cost nothing (LongCat). ``norm_topk_prob`` makes the chosen weights sum to one.
    ``sparsemixer`` chooses one expert after the other, each weighted by a softmax over those near it (Phi-3.5-MoE).
    """

    scoring: Literal["softmax", "sigmoid", "softmax_after_topk", "sqrt_softplus", "sparsemixer"] = "softmax"
    bias: bool = False
    correction_bias: bool = False
    correction_bias_stored: bool = False  # that bias is one of the model's parameters, though nothing trains it (ERNIE)
    norm_topk_prob: bool = False
    correction_on_logits: bool = False  # the balancing bias is added before the sigmoid, not after it (Kolibri)
    logit_softcap: float | None = None
    norm_order: float = 1.0  # of the norm that norm_topk_prob divides by (DBRX)
    jitter: float = 0.0  # sparsemixer's: how near the best an expert must be to share its softmax
    scaling_factor: float = 1.0
    n_group: int = 1
    topk_group: int = 1
    group_score: Literal["max", "top2"] = "max"
    hashed: bool = False  # which experts is a table by token, not a score; the scores only weight them (DeepSeek-V4)
    given: bool = False  # the input says which, and there is nothing to score (X-MOD: its language)
    product_keys: bool = False  # an expert is a pair of sqrt(num_experts) keys, each half scored apart (Doge)
    zero_experts: int = 0
    network: RouterNetwork | None = None
    input_norm: Norm | None = None  # what the router reads, normed for it alone (Gemma 4)
    input_scale: float = 1.0
    expert_scale: bool = False  # a learned factor of each expert's weight, after the choice (Gemma 4)
    scored_shared: int = 0  # so many shared experts are scored and weighted beside the chosen ones (Inkling)
    learned_scale: bool = False  # and all weights have one learned multiplier


class MixtureOfExperts(Record):
    """``num_experts_per_tok`` of ``num_experts`` feed-forwards per token, and perhaps one that every token passes.

    ``latent_size``: routed experts work in this width, between two projections that all share (Nemotron 3); the
    router and the shared expert do not.
    """

    hidden_size: int
    num_experts: int
    num_experts_per_tok: int
    expert: FeedForward
    router: Router
    shared_expert: FeedForward | None = None
    shared_expert_gate: bool = False  # a sigmoid of [hidden_size, 1] on the shared expert (Qwen2-MoE)
    latent_size: int | None = None
    latent_bias: bool = False
    out_bias: bool = False  # on what the chosen experts give together (JetMoE)
    expert_norm: Norm | None = None  # on what the routed experts read, not the router (Gemma 4)
    weight_input: bool = False  # the routing weight multiplies an expert's input, not its output (Llama 4)
