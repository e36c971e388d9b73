"""A mixture of experts: many feed-forwards, of which each token passes a few.

y = sum over the chosen experts of weight_i(x) FFN_i(x) (Shazeer et al. 2017, equation 1); an expert that all tokens
pass may stand beside them (DeepSeekMoE, Dai et al. 2024, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch
from txcalc.reference.context import Context
from txcalc.reference.feed_forward import XIELU, FeedForward, inner
from txcalc.reference.norms import optional_norm
from txcalc.reference.sublayer import Sublayer
from txcalc.reference.support import not_built


class Router(nn.Module):
    """Which experts a token passes, and with what weight: [M, D] -> weights and choices, both [M, C]."""

    def __init__(self, m: arch.MixtureOfExperts) -> None:
        super().__init__()
        self.r, self.choices = m.router, m.num_experts_per_tok
        total = m.num_experts + m.router.zero_experts
        self.weight = nn.Parameter(torch.empty(total, m.hidden_size))
        self.bias = nn.Parameter(torch.empty(total)) if m.router.bias else None
        self.input_norm = optional_norm(m.router.input_norm)
        self.expert_scale = nn.Parameter(torch.empty(total)) if m.router.expert_scale else None
        self.correction: Tensor | None
        zeros = torch.zeros(total) if m.router.correction_bias else None
        if zeros is not None and m.router.correction_bias_stored:
            self.correction = nn.Parameter(zeros)
        else:
            self.register_buffer("correction", zeros)

    def forward(self, x_MD: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [M, D] -> (weights [M, C] in fp32, choices [M, C])."""
        if self.r.input_norm is not None:
            x_MD = self.input_norm(x_MD) * self.r.input_scale
        bias = None if self.bias is None else self.bias.float()
        logits_ME = F.linear(x_MD.float(), self.weight.float(), bias)
        if self.r.logit_softcap is not None:
            logits_ME = self.r.logit_softcap * torch.tanh(logits_ME / self.r.logit_softcap)
        if self.r.scoring == "sparsemixer":
            return self._one_by_one(logits_ME)
        scores_ME = self._scores(logits_ME)
        wanted_ME = logits_ME if self.r.correction_on_logits else scores_ME
        wanted_ME = wanted_ME if self.correction is None else wanted_ME + self.correction.float()
        if self.r.n_group > 1:
            wanted_ME = self._in_best_groups(wanted_ME)
        chosen_MC = wanted_ME.topk(self.choices, dim=-1).indices
        weights_MC = scores_ME.gather(-1, chosen_MC)
        if self.r.scoring == "softmax_after_topk":
            weights_MC = weights_MC.softmax(-1)
        if self.r.norm_topk_prob:
            weights_MC = weights_MC / (weights_MC.norm(p=self.r.norm_order, dim=-1, keepdim=True) + 1e-20)
        if self.expert_scale is not None:
            weights_MC = weights_MC * self.expert_scale[chosen_MC]
        return weights_MC * self.r.scaling_factor, chosen_MC

    def _scores(self, logits_ME: Tensor) -> Tensor:
        match self.r.scoring:
            case "softmax":
                return logits_ME.softmax(-1)
            case "sigmoid":
                return logits_ME.sigmoid()
            case "softmax_after_topk" | "sparsemixer":
                return logits_ME
            case "sqrt_softplus":
                return F.softplus(logits_ME).sqrt()

    def _one_by_one(self, logits_ME: Tensor) -> tuple[Tensor, Tensor]:
        """Sparse mixer (Liu et al. 2024, arXiv 2409.12136) without its sampling: the best expert, then the next best.

        Each is weighted by a softmax over the experts that come within 2 * jitter of it.
        """
        left_ME, picks = logits_ME, []
        for _ in range(self.choices):
            best_M1, expert_M1 = left_ME.max(-1, keepdim=True)
            far_ME = (best_M1 - left_ME) / logits_ME.abs().clamp(min=best_M1) > 2 * self.r.jitter
            near_ME = left_ME.masked_fill(far_ME, float("-inf")).softmax(-1)
            picks.append((near_ME.gather(-1, expert_M1), expert_M1))
            left_ME = left_ME.scatter(-1, expert_M1, float("-inf"))
        weights, experts = zip(*picks, strict=True)
        return torch.cat(weights, dim=-1), torch.cat(experts, dim=-1)

    def _in_best_groups(self, wanted_ME: Tensor) -> Tensor:
        """-inf outside the ``topk_group`` groups with the best score (DeepSeek-V3, section 2.1.2)."""
        grouped_MGE = wanted_ME.unflatten(-1, (self.r.n_group, -1))
        best = 1 if self.r.group_score == "max" else 2
        scores_MG = grouped_MGE.topk(best, dim=-1).values.sum(-1)
        kept_MG = torch.zeros_like(scores_MG, dtype=torch.bool)
        kept_MG.scatter_(-1, scores_MG.topk(self.r.topk_group, dim=-1).indices, True)
        kept: Tensor = grouped_MGE.masked_fill(~kept_MG[..., None], float("-inf")).flatten(-2)
        return kept


class Experts(nn.Module):
    """``num_experts`` feed-forwards of one shape, their matrices stacked: [E, out, in]."""

    def __init__(self, f: arch.FeedForward, num_experts: int) -> None:
        super().__init__()
        self.f, self.num_experts = f, num_experts
        E, D, F_ = num_experts, f.hidden_size, f.intermediate_size
        self.gate_proj = nn.Parameter(torch.empty(E, F_, D)) if f.gated else None
        self.up_proj = nn.Parameter(torch.empty(E, F_, D))
        self.down_proj = nn.Parameter(torch.empty(E, D, F_))
        self.gate_bias = nn.Parameter(torch.empty(E, F_)) if f.gated and f.up_bias else None
        self.xielu = XIELU() if f.activation == "xielu" else None
        self.up_bias = nn.Parameter(torch.empty(E, F_)) if f.up_bias else None
        self.down_bias = nn.Parameter(torch.empty(E, D)) if f.down_bias else None

    def forward(self, expert: int, x_MD: Tensor) -> Tensor:
        """Tokens [M, D] through one expert."""
        gate = None if self.gate_proj is None else F.linear(x_MD, self.gate_proj[expert], _row(self.gate_bias, expert))
        up = F.linear(x_MD, self.up_proj[expert], _row(self.up_bias, expert))
        return F.linear(inner(self.f, gate, up, self.xielu), self.down_proj[expert], _row(self.down_bias, expert))


def _row(bias: Tensor | None, expert: int) -> Tensor | None:
    return None if bias is None else bias[expert]


class MixtureOfExperts(Sublayer):
    """[B, T, hidden_size] -> the same, each token through the experts that its router chooses."""

    def __init__(self, m: arch.MixtureOfExperts) -> None:
        super().__init__()
        not_built(m)
        self.m = m
        self.router = Router(m)
        self.expert_norm = optional_norm(m.expert_norm)
        self.experts = Experts(m.expert, m.num_experts)
        self.shared_expert = FeedForward(m.shared_expert) if m.shared_expert else None
        self.shared_expert_gate = nn.Linear(m.hidden_size, 1, bias=False) if m.shared_expert_gate else None

    def forward(self, x_BTD: Tensor, context: Context | None = None, kept: None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        x_MD = x_BTD.reshape(-1, x_BTD.shape[-1])
        weights_MC, chosen_MC = self.router(x_MD)
        in_MD = self.expert_norm(x_MD)
        routed = self.on_meta(in_MD, weights_MC) if x_MD.is_meta else self.routed(in_MD, weights_MC, chosen_MC)
        if self.shared_expert is not None:
            shared = self.shared_expert(x_MD)
            if self.shared_expert_gate is not None:
                shared = shared * torch.sigmoid(self.shared_expert_gate(x_MD))
            routed = routed + shared
        return routed.view_as(x_BTD)

    def routed(self, x_MD: Tensor, weights_MC: Tensor, chosen_MC: Tensor) -> Tensor:
        """What the chosen experts add up to, one expert at a time: [M, D]."""
        if len(x_MD) == 1:  # decoding: nothing to gather
            one_11 = weights_MC.to(x_MD.dtype).split(1, dim=1)
            choices = zip(chosen_MC[0].tolist(), one_11, strict=True)
            return torch.stack([self._weighted(expert, x_MD, weight_11) for expert, weight_11 in choices]).sum(0)
        out_MD = torch.zeros_like(x_MD)
        for expert, rows, slots in self.visits(chosen_MC):
            weights = weights_MC[rows, slots, None].to(x_MD.dtype)
            out_MD = out_MD.index_add(0, rows, self._weighted(expert, x_MD[rows], weights))
        return out_MD

    def visits(self, chosen_MC: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Each expert that is chosen, the tokens that pass it, and which of their choices it is."""
        for expert in chosen_MC.unique().tolist():
            yield (expert, *torch.where(chosen_MC == expert))

    def on_meta(self, x_MD: Tensor, weights_MC: Tensor) -> Tensor:
        """The same amount of work where there are no values to choose by: every choice falls on the first expert."""
        x_MCD = x_MD[:, None].expand(-1, weights_MC.shape[1], -1)
        out = self._weighted(0, x_MCD.reshape(-1, x_MD.shape[-1]), weights_MC.reshape(-1, 1).to(x_MD.dtype))
        return out.view_as(x_MCD).sum(1)

    def _weighted(self, expert: int, x_MD: Tensor, weights_M1: Tensor) -> Tensor:
        if expert >= self.m.num_experts:  # a zero expert hands its input on
            return x_MD * weights_M1
        if self.m.weight_input:
            out_MD: Tensor = self.experts(expert, x_MD * weights_M1)
            return out_MD
        out_MD = self.experts(expert, x_MD)
        return out_MD * weights_M1
