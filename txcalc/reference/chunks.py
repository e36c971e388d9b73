"""Recurrences by the chunk: the same numbers as ``recurrent.scan`` from products of matrices, for prompts and training.

S_t = a_t S_(t-1) + k_t v_t^T, y_t = S_t^T q_t, with one decay a_t a head, unrolled over a chunk that begins with S_0:

    y_t = g_t S_0^T q_t + sum over s <= t of (g_t / g_s) (q_t . k_s) v_s,     g_t = a_1 ... a_t

The first term reads what came before, the second is causal attention without a softmax (Dao and Gu 2024, arXiv
2405.21060, section 6). The delta rule writes u_t = b_t (v_t - a_t S_(t-1)^T k_t) instead of v_t, what the state gets
wrong; with S unrolled in it that is a triangular system in u (Yang et al. 2024, arXiv 2412.06464, section 3.3):

    u_t + b_t sum over s < t of (g_t / g_s) (k_t . k_s) u_s = b_t (v_t - g_t S_0^T k_t)
"""

from __future__ import annotations

import torch
from torch import Tensor

from txcalc.reference.cache import StateCache
from txcalc.reference.context import Context
from txcalc.reference.recurrent import STATE

_LEAST = 1e-37  # decays are at least this, so that they have a logarithm


def scan_in_chunks(
    q_BTNK: Tensor,
    k_BTNK: Tensor,
    v_BTNV: Tensor,
    decay_BTN: Tensor,
    empty: Tensor,
    context: Context,
    kept: StateCache | None,
    *,
    beta_BTN: Tensor | None = None,
    turned: bool = False,
) -> Tensor:
    """What every token reads of the state, [B, T, N, V] in fp32; padding leaves a row's state as it was.

    ``beta_BTN``: the delta rule's rates of writing. ``turned``: the state is kept as [N, V, K], else as [N, K, V].
    """
    if context.padded:
        real_BT1 = context.real_BT[..., None]
        k_BTNK, decay_BTN = k_BTNK * real_BT1[..., None], torch.where(real_BT1, decay_BTN, 1.0)
    state = empty if kept is None else kept[STATE]
    state = state.mT if turned else state
    pieces = [
        None if x is None else x.transpose(1, 2).split(context.backend.chunk, dim=2)  # heads before tokens
        for x in (q_BTNK, k_BTNK, v_BTNV, decay_BTN, beta_BTN)
    ]
    outputs = []
    for i in range(len(pieces[0] or ())):
        y_BNCV, state = one_chunk(state, *(None if each is None else each[i] for each in pieces))  # type: ignore[arg-type]  # only beta may be None
        outputs.append(y_BNCV)
    if kept is not None:
        kept[STATE] = state.mT if turned else state
    return torch.cat(outputs, dim=2).transpose(1, 2)


def one_chunk(
    state_BNKV: Tensor, q_BNCK: Tensor, k_BNCK: Tensor, v_BNCV: Tensor, decay_BNC: Tensor, beta_BNC: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What the C tokens read, and the state behind them."""
    logs_BNC = decay_BNC.clamp_min(_LEAST).log()
    g_BNC1 = logs_BNC.cumsum(-1).exp()[..., None]
    ratio_BNCC = products_between(logs_BNC)
    if beta_BNC is not None:
        beta_BNC1 = beta_BNC[..., None]
        wrong_BNCV = beta_BNC1 * (v_BNCV - g_BNC1 * (k_BNCK @ state_BNKV))
        between_BNCC = (beta_BNC1 * ratio_BNCC * (k_BNCK @ k_BNCK.mT)).tril(-1)
        v_BNCV = torch.linalg.solve_triangular(between_BNCC, wrong_BNCV, upper=False, unitriangular=True)
    y_BNCV = g_BNC1 * (q_BNCK @ state_BNKV) + (ratio_BNCC * (q_BNCK @ k_BNCK.mT)) @ v_BNCV
    to_the_end_BNC1 = ratio_BNCC[..., -1, :, None]
    return y_BNCV, g_BNC1[..., -1:, :] * state_BNKV + (k_BNCK * to_the_end_BNC1).mT @ v_BNCV


def products_between(logs_BNC: Tensor) -> Tensor:
    """g_t / g_s = a_(s+1) ... a_t where s <= t, else 0: [B, N, C, C].

    Summed pair by pair: the difference of two long sums of logarithms would be off by what they round away.
    """
    C = logs_BNC.shape[-1]
    return logs_BNC[..., None].expand(*logs_BNC.shape, C).tril(-1).cumsum(-2).exp().tril()
