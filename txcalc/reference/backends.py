"""The attention product itself, and who computes it.

Attention(Q, K, V) = softmax(Q K^T / sqrt(head_dim)) V (Vaswani et al. 2017, equation 1). ``eager`` is that equation in
torch operations; the others are torch's fused kernels for it. A backend that cannot run what it is asked for says why;
nothing falls back in silence.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from txcalc.errors import RequestError

Name = Literal["auto", "eager", "flash", "efficient", "cudnn", "math"]
NAMES: Final[tuple[Name, ...]] = ("auto", "eager", "flash", "efficient", "cudnn", "math")

_KERNELS: Final = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
_NO_KERNEL: Final = ("No available kernel", "No viable backend")  # how torch begins where the one allowed cannot run
_NAME_OF: Final = {int(kernel.value): name for name, kernel in _KERNELS.items()}


@dataclass
class Backend:
    """Which implementation to use, and which ones ran.

    ``fold_groups``: at one query token, the query heads of a group become rows of one product (see ``_fold``).
    ``absorb``: at one query token, latent attention works on the cached latents themselves.
    ``chunk``: recurrences with one decay a head take so many tokens at once (see ``chunks``); 0: one after the other.
    """

    name: Name = "auto"
    fold_groups: bool = True
    absorb: bool = True
    chunk: int = 0
    ran: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise RequestError(f"attention backend {self.name!r} is not known", f"one of {', '.join(NAMES)}")


class Product(NamedTuple):
    """One attention product: q [B, N, T, H], k [B, K, S, H], v [B, K, S, Hv], K dividing N.

    ``mask``: "none", "causal" (T = S, lower triangle) or boolean [1 or B, 1 or N, T, S]. ``bias``, [1 or B, N or 1, T,
    S], is added to the scaled scores; ``sinks_N`` are logits that take probability and give no value.
    """

    q_BNTH: Tensor
    k_BKSH: Tensor
    v_BKSH: Tensor
    mask: Tensor | Literal["none", "causal"]
    scale: float
    bias: Tensor | None = None
    softcap: float | None = None
    sinks_N: Tensor | None = None
    dropout: float = 0.0


def attend(product: Product, backend: Backend, keep: Callable[[Tensor], None] | None = None) -> Tensor:
    """The attention output [B, N, T, Hv]; ``keep`` receives the weights [B, N, T, S], which only eager has.

    Raises:
        RequestError: the backend that was asked for cannot run this.
    """
    if backend.name != "auto":
        reason = reason_against(backend.name, product, weights=keep is not None)
        if reason:
            raise refusal(backend.name, reason)
    folds = backend.fold_groups and keep is None and _foldable(product)
    folded = _fold(product) if folds else product
    if backend.name == "eager" or (backend.name == "auto" and _better_eager(product, keep is not None)):
        backend.ran.add("eager")
        out = eager(folded, keep)
    else:
        out = fused(folded, backend)
    return _unfold(out, product) if folds else out


# ---- eager ----------------------------------------------------------------------------------------------------------


def eager(product: Product, keep: Callable[[Tensor], None] | None = None) -> Tensor:
    """Equation 1, one operation a line: [B, N, T, Hv]."""
    q_BNTH, k_BKSH, v_BKSH, mask, scale, bias, softcap, sinks_N, dropout = product
    group = q_BNTH.shape[1] // k_BKSH.shape[1]
    k_BNSH, v_BNSH = (x.repeat_interleave(group, dim=1) if group > 1 else x for x in (k_BKSH, v_BKSH))
    scores_BNTS = q_BNTH @ k_BNSH.mT * scale
    if softcap is not None:
        scores_BNTS = softcap * torch.tanh(scores_BNTS / softcap)
    if bias is not None:
        scores_BNTS = scores_BNTS + bias
    if mask is not None and not isinstance(mask, str):
        scores_BNTS = scores_BNTS.masked_fill(~mask, torch.finfo(scores_BNTS.dtype).min)
    elif mask == "causal":
        scores_BNTS = scores_BNTS.masked_fill(~_triangle(scores_BNTS), torch.finfo(scores_BNTS.dtype).min)
    weights_BNTS = _softmax(scores_BNTS, sinks_N).to(q_BNTH.dtype)
    if keep is not None:
        keep(weights_BNTS)
    return F.dropout(weights_BNTS, dropout) @ v_BNSH


def _triangle(scores_BNTS: Tensor) -> Tensor:
    T, S = scores_BNTS.shape[-2:]
    return torch.ones(T, S, dtype=torch.bool, device=scores_BNTS.device).tril()


def _softmax(scores_BNTS: Tensor, sinks_N: Tensor | None) -> Tensor:
    """Softmax over the keys in fp32; a sink is one more key whose probability is thrown away."""
    if sinks_N is None:
        return scores_BNTS.softmax(-1, dtype=torch.float32)
    B, N, T, _ = scores_BNTS.shape
    sinks_BNT1 = sinks_N.to(scores_BNTS.dtype).view(1, N, -1, 1).expand(B, N, T, 1)  # -1: heads that were folded
    return torch.cat((scores_BNTS, sinks_BNT1), dim=-1).softmax(-1, dtype=torch.float32)[..., :-1]


# ---- fused ----------------------------------------------------------------------------------------------------------


def fused(product: Product, backend: Backend) -> Tensor:
    """torch's scaled_dot_product_attention, forced onto one kernel unless the backend is auto: [B, N, T, Hv]."""
    if backend.name == "auto":
        backend.ran.add(_choice(product))
        return _sdpa(product)
    try:
        out_BNTH = _forced(product, backend.name)
    except RuntimeError as error:
        if not str(error).startswith(_NO_KERNEL):
            raise
        raise refusal(backend.name, _torchs_reasons(product, backend.name)) from None
    backend.ran.add(backend.name)
    return out_BNTH


def _forced(product: Product, name: Name) -> Tensor:
    with sdpa_kernel(_KERNELS[name]):
        return _sdpa(product)


def _torchs_reasons(product: Product, name: Name) -> str:
    """What torch says against a kernel beyond what ``reason_against`` knows: it warns as it refuses."""
    with warnings.catch_warnings(record=True) as caught, contextlib.suppress(RuntimeError):
        warnings.simplefilter("always")
        _forced(product, name)
    said = [str(each.message).partition(" (Triggered internally")[0] for each in caught]
    return " ".join(each for each in said if not each.endswith("not used because:")) or "torch has no kernel for it"


def _sdpa(product: Product) -> Tensor:
    q, k = product.q_BNTH, product.k_BKSH
    out_BNTH: Tensor = F.scaled_dot_product_attention(
        q,
        k,
        product.v_BKSH,
        attn_mask=_dense(product),
        is_causal=_is_causal(product),
        dropout_p=product.dropout,
        scale=product.scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return out_BNTH


def _is_causal(product: Product) -> bool:
    return isinstance(product.mask, str) and product.mask == "causal" and product.bias is None


def _dense(product: Product) -> Tensor | None:
    """Mask and bias as one 4-D tensor (a 3-D one would keep the fused kernels from running)."""
    mask, bias = product.mask, product.bias
    if bias is None:
        return None if isinstance(mask, str) else mask
    if isinstance(mask, str):
        if mask == "none":
            return bias.to(product.q_BNTH.dtype)
        mask = _triangle(bias)
    return bias.to(product.q_BNTH.dtype).masked_fill(~mask, float("-inf"))


def _choice(product: Product) -> str:
    """The kernel that torch chooses for this product, by name."""
    q, k = product.q_BNTH, product.k_BKSH
    chosen = torch._fused_sdp_choice(
        q,
        k,
        product.v_BKSH,
        _dense(product),
        product.dropout,
        _is_causal(product),
        scale=product.scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return _NAME_OF.get(int(chosen), "unknown")


def _foldable(product: Product) -> bool:
    """One query token, grouped heads, and nothing that differs between the heads of a group."""
    q, k, mask = product.q_BNTH, product.k_BKSH, product.mask
    alike = product.bias is None and (isinstance(mask, str) or mask.shape[1] == 1)
    return q.shape[2] == 1 and alike and (q.shape[1] != k.shape[1] or _slow_alone(q))


def _slow_alone(q_BNTH: Tensor) -> bool:
    """Whether a single row is slower than two: bf16 on a CPU, where only products of matrices are vectorised."""
    return q_BNTH.dtype == torch.bfloat16 and q_BNTH.device.type == "cpu"


def _fold(product: Product) -> Product:
    """The N / K query heads of a group as rows over their one key head: [B, N, 1, H] -> [B, K, N / K, H].

    The same numbers from a product that the kernels run far faster at one token: each key is read once a group. A
    group of one becomes two rows that are equal, where that is faster.
    """
    B, N, _, H = product.q_BNTH.shape
    K = product.k_BKSH.shape[1]
    q_BKGH = product.q_BNTH.reshape(B, K, N // K, H)
    if N == K and _slow_alone(q_BKGH):
        q_BKGH = q_BKGH.expand(-1, -1, 2, -1)
    return product._replace(q_BNTH=q_BKGH, mask=_unless_causal(product.mask))


def _unfold(out_BKGH: Tensor, product: Product) -> Tensor:
    """Rows of groups as query heads again: [B, N, 1, Hv]."""
    B, N = product.q_BNTH.shape[:2]
    return out_BKGH[:, :, : N // out_BKGH.shape[1]].reshape(B, N, 1, -1)


def _unless_causal(mask: Tensor | Literal["none", "causal"]) -> Tensor | Literal["none", "causal"]:
    return "none" if isinstance(mask, str) else mask


# ---- what cannot run ------------------------------------------------------------------------------------------------


def refusal(name: Name, reason: str) -> RequestError:
    """The error of a backend that was asked for and cannot run this."""
    return RequestError(f"attention backend {name!r} cannot run this: {reason}", "use auto or eager")


def _better_eager(product: Product, weights: bool) -> bool:
    """What only eager has; and one token over keys and values of unlike width, where torch would copy all keys."""
    only = weights or product.softcap is not None or product.sinks_N is not None
    return only or (product.q_BNTH.shape[2] == 1 and product.q_BNTH.shape[-1] != product.v_BKSH.shape[-1])


def reason_against(name: Name, product: Product, *, weights: bool = False) -> str:
    """Why a backend cannot run a product on its device; empty where it can."""
    if name in ("auto", "eager"):
        return ""
    if weights:
        return "only eager has attention weights to return"
    if product.softcap is not None:
        return "only eager caps the scores (softcap)"
    if product.sinks_N is not None:
        return "only eager has attention sinks"
    if name == "math":
        return ""
    on_cuda = product.q_BNTH.is_cuda
    return _reason_on_cuda(name, product) if on_cuda else _reason_elsewhere(name, product)


def _reason_elsewhere(name: Name, product: Product) -> str:
    device = product.q_BNTH.device.type
    if name != "flash" or device != "cpu":
        return f"torch has no {name} kernel on {device}"
    if product.dropout:
        return "flash on CPU has no dropout"
    if product.q_BNTH.shape[-1] != product.v_BKSH.shape[-1]:
        return f"head_dim {product.q_BNTH.shape[-1]} of keys and {product.v_BKSH.shape[-1]} of values must be equal"
    if product.bias is not None and product.bias.requires_grad:
        return "flash has no gradient for a learned bias"
    return ""


def _reason_on_cuda(name: Name, product: Product) -> str:
    dtype, H, Hv = product.q_BNTH.dtype, product.q_BNTH.shape[-1], product.v_BKSH.shape[-1]
    half = dtype in (torch.float16, torch.bfloat16)
    capability = torch.cuda.get_device_capability(product.q_BNTH.device)
    needed = {"flash": (8, 0), "cudnn": (8, 0), "efficient": (5, 0)}[name]
    dense = product.bias is not None or not isinstance(product.mask, str)
    grouped = product.q_BNTH.shape[1] != product.k_BKSH.shape[1]
    checks = (
        (capability < needed, f"it needs compute capability {needed[0]}.{needed[1]}, this GPU has {capability}"),
        (name != "efficient" and not half, f"it takes fp16 and bf16, not {str(dtype).removeprefix('torch.')}"),
        (name == "flash" and dense, "flash on CUDA takes no dense mask or bias"),
        (name == "flash" and H != Hv, f"head_dim {H} of keys and {Hv} of values must be equal"),
        (name == "flash" and max(H, Hv) > 256, f"head_dim {max(H, Hv)} is over its limit of 256"),
        (name == "cudnn" and max(H, Hv) > 256, f"head_dim {max(H, Hv)} is over its limit of 256"),
        (name == "efficient" and grouped, "efficient has no grouped heads (enable_gqa)"),
    )
    return next((reason for failed, reason in checks if failed), "")
