"""What would reach CUDA's flash attention: the calls of a real forward pass on fake tensors, put to its own operator.

No GPU is needed: fake tensors have shapes and dtypes and no values. What must be run on one is marked ``gpu`` below.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.reference.kinds import ATTENTIONS
from tests.reference.tiny import awake, decoder, feed_forward, layer, tokens
from txcalc.architecture import Sublayer
from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.reference import Backend, DecoderCache, Transformer, build
from txcalc.reference.device import Cuda, peak_of

LLAMA_1B = {
    "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": True,
}  # fmt: skip


class FlashCalls(TorchDispatchMode):
    """Arguments of every call of the CPU's flash operator."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "flash_attention" in str(func):
            self.calls.append((args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def give_fake_parameters(built: torch.nn.Module) -> None:
    """Under a fake mode: parameters that are on the CPU by name, with no memory behind them."""
    for module in built.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                fake = torch.empty(parameter.shape, dtype=parameter.dtype)
                module._parameters[name] = torch.nn.Parameter(fake)


def test_prefill_and_decode_of_a_1b_llama_are_flash_calls_without_masks() -> None:
    """16 layers: 512 tokens as a causal call of 32 heads over 8; then one token as 4 rows over 8 heads and 513 keys."""
    built = build(architecture_of(LLAMA_1B), dtype=torch.bfloat16, device="meta")
    with FakeTensorMode(), torch.no_grad():
        give_fake_parameters(built)
        cache = built.new_cache(batch=2, ctx=600)
        with FlashCalls() as prefill:
            built(torch.zeros(2, 512, dtype=torch.long), cache=cache, last_only=True)
        with FlashCalls() as decode:
            built(torch.zeros(2, 1, dtype=torch.long), cache=cache, last_only=True)
    assert len(prefill.calls) == len(decode.calls) == 16
    for calls, q_shape, k_shape, causal in (
        (prefill.calls, (2, 32, 512, 64), (2, 8, 512, 64), True),
        (decode.calls, (2, 8, 4, 64), (2, 8, 513, 64), False),
    ):
        for args, kwargs in calls:
            q, k, v, *rest = args
            assert (tuple(q.shape), tuple(k.shape), tuple(v.shape)) == (q_shape, k_shape, k_shape)
            assert {x.dtype for x in (q, k, v)} == {torch.bfloat16}
            assert (rest[1] if len(rest) > 1 else False) is causal
            assert kwargs.get("attn_mask") is None
            _cuda_flash_takes(q, k, v, causal)


def _cuda_flash_takes(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> None:
    with FakeTensorMode():
        on_cuda = [torch.empty(x.shape, dtype=x.dtype, device="cuda") for x in (q, k, v)]
        out = torch.ops.aten._scaled_dot_product_flash_attention(*on_cuda, 0.0, causal, False, scale=0.125)
        assert out[0].shape == (*q.shape[:3], v.shape[-1])
        assert out[0].dtype == torch.bfloat16
        assert out[1].dtype == torch.float32


# ---- on a GPU -------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["eager", "flash", "efficient", "cudnn", "math"])
@pytest.mark.parametrize("kind", ATTENTIONS.values(), ids=ATTENTIONS)
def test_backends_agree_on_a_gpu(kind: Sublayer, name: str) -> None:
    """bf16 rounds each weight and product: outputs of size 1 differ by a few times 2^-8."""
    built, ids = awake(build(decoder(layer(kind, feed_forward())))).cuda().bfloat16(), tokens(2, 33).cuda()
    with torch.inference_mode():
        built.backend = Backend("eager")
        expected = built(ids).logits
        built.backend = Backend(name)  # type: ignore[arg-type]  # each is a name
        try:
            out = built(ids).logits
        except RequestError as refused:
            pytest.skip(refused.message)
    assert built.backend.ran == {name}
    torch.testing.assert_close(out, expected, rtol=5e-2, atol=0.2)


KERNELS = {"flash": "flash_fwd", "cudnn": "cudnn", "efficient": "fmha_cutlass"}  # part of their names on the GPU


def kernels(built: Transformer, cache: DecoderCache, lengths: list[int]) -> list[str]:
    """Names of the kernels that a GPU ran in passes of so many tokens, one after the other, each launch apart."""
    with torch.inference_mode(), torch.profiler.profile() as profile:
        for length in lengths:
            built(torch.zeros(2, length, dtype=torch.long, device="cuda"), cache=cache, last_only=True)
        torch.cuda.synchronize()
    return [event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]


@pytest.mark.gpu
def test_flash_runs_for_prefill_and_grouped_decode_on_a_gpu() -> None:
    """A kernel a layer and pass; decoding may split the keys, and then adds one that combines the parts."""
    built = build(architecture_of({**LLAMA_1B, "num_hidden_layers": 2}), dtype=torch.bfloat16, backend="flash").cuda()
    cache = built.new_cache(batch=2, ctx=600)
    for length in (512, 1):
        ran = [name for name in kernels(built, cache, [length]) if KERNELS["flash"] in name and "combine" not in name]
        assert len(ran) == 2, ran
    assert built.backend.ran == {"flash"}


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_auto_reports_the_kernel_that_ran_on_a_gpu(dtype: torch.dtype) -> None:
    built = build(architecture_of({**LLAMA_1B, "num_hidden_layers": 1}), dtype=dtype).cuda()
    names = kernels(built, built.new_cache(batch=2, ctx=600), [512])
    ran = {backend for backend, part in KERNELS.items() if any(part in name for name in names)}
    assert built.backend.ran == (ran or {"math"})


@pytest.mark.gpu
def test_cache_bytes_are_what_the_allocator_was_asked_for() -> None:
    built = build(architecture_of({**LLAMA_1B, "num_hidden_layers": 4}), dtype=torch.bfloat16).cuda()
    device = Cuda()
    before = torch.cuda.memory_stats()["requested_bytes.all.current"]
    made: list[Any] = []
    peak = peak_of(device, lambda: made.append(built.new_cache(batch=2, ctx=4096)))
    assert peak["requested"] - before == made[0].nbytes == 4 * 2 * 4096 * 8 * 128 * 2
