"""Forward, backward and decode FLOPs equal to FlopCounterMode over transformers' models of varied small shapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.oracles import flop_counter
from txcalc.architecture import GatedDeltaNet, Mamba
from txcalc.configs import architecture_of
from txcalc.formulas.flops import flops, pruned

few = settings(max_examples=6, deadline=None)

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 50,
}
GPT2 = {"model_type": "gpt2", "n_embd": 48, "n_layer": 2, "n_head": 4, "vocab_size": 50, "n_positions": 64}
BERT = {**LLAMA, "model_type": "bert", "architectures": ["BertForMaskedLM"], "num_key_value_heads": 6}
del BERT["num_key_value_heads"]
T5 = {"model_type": "t5", "d_model": 48, "d_kv": 8, "d_ff": 80, "num_layers": 2, "num_heads": 6, "vocab_size": 50}
BART = {
    "model_type": "bart",
    "architectures": ["BartForConditionalGeneration"],
    "d_model": 48,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 72,
    "vocab_size": 50,
}
MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
MISTRAL = {**LLAMA, "model_type": "mistral", "sliding_window": 8}
GEMMA3 = {**LLAMA, "model_type": "gemma3_text", "num_hidden_layers": 7, "head_dim": 8, "sliding_window": 8}
DEEPSEEK: dict[str, Any] = {
    **LLAMA,
    "model_type": "deepseek_v3",
    "num_hidden_layers": 3,
    "num_key_value_heads": 6,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 32,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "q_lora_rank": 20,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 10,
}
MAMBA = {
    "model_type": "mamba",
    "architectures": ["MambaForCausalLM"],
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "vocab_size": 50,
    "state_size": 8,
}
JAMBA = {**LLAMA, "model_type": "jamba", "num_hidden_layers": 8, "num_experts": 4, "mamba_d_state": 8}
QWEN3_NEXT: dict[str, Any] = {
    **LLAMA,
    "model_type": "qwen3_next",
    "num_hidden_layers": 4,
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 24,
}

DIFFERENTIAL = {**LLAMA, "model_type": "diffllama", "num_attention_heads": 8}

DECODERS = [LLAMA, GPT2, MIXTRAL, MISTRAL, GEMMA3, DEEPSEEK]
TWO_STACKS = [T5, BART]
RECURRENT = [MAMBA, JAMBA, QWEN3_NEXT]


def name_of(config: dict[str, Any]) -> str:
    return str(config["model_type"])


def ours(config: dict[str, Any], **question: Any) -> dict[str, int | float]:
    return flops(architecture_of(config), **question).figures()


def counted(config: dict[str, Any], *, batch: int, seq: int, source: int | None = None) -> tuple[int, int]:
    """(forward, backward without convolutions) by torch's counter."""
    model = flop_counter.model_of(config)
    inputs = flop_counter.inputs_of(model, batch=batch, seq=seq, source=source)
    return flop_counter.forward(model, **inputs), flop_counter.backward(model, **inputs)[0]


@pytest.mark.parametrize("config", [*DECODERS, BERT], ids=name_of)
def test_forward_and_backward(config: dict[str, Any]) -> None:
    forward, backward = counted(config, batch=3, seq=13)
    found = ours(config, batch=3, seq=13, phase="train")
    assert (found["flops.forward"], found["flops.backward"]) == (forward, backward)
    assert backward == 2 * forward


def test_differential_attention() -> None:
    """Eight heads, four maps of a pair each; either map is made once for each half of its values, scores and all."""
    model = flop_counter.model_of(DIFFERENTIAL)
    assert ours(DIFFERENTIAL, batch=3, seq=13)["flops.matmul"] == flop_counter.forward(
        model, input_ids=flop_counter.tokens(3, 13)
    )
    assert ours(DIFFERENTIAL, batch=2, ctx=12, phase="decode")["flops.matmul"] == flop_counter.decode(
        model, batch=2, ctx=12
    )


@pytest.mark.parametrize("config", TWO_STACKS, ids=name_of)
def test_two_stacks(config: dict[str, Any]) -> None:
    forward, backward = counted(config, batch=2, seq=7, source=11)
    found = ours(config, batch=2, seq=7, source_seq=11, phase="train")
    assert (found["flops.forward"], found["flops.backward"]) == (forward, backward)


@pytest.mark.parametrize("config", DECODERS, ids=name_of)
@pytest.mark.parametrize("ctx", [3, 12])
def test_decode_one_token_against_a_cache(config: dict[str, Any], ctx: int) -> None:
    """Windows of 8: at 12 cached tokens a windowed layer meets 8 keys, at 3 all 4."""
    model = flop_counter.model_of(config)
    assert ours(config, batch=2, ctx=ctx, phase="decode")["flops.matmul"] == flop_counter.decode(
        model, batch=2, ctx=ctx
    )


@pytest.mark.parametrize("config", RECURRENT, ids=name_of)
def test_recurrent_forward(config: dict[str, Any]) -> None:
    """70 tokens: two chunks of 64 for the delta rule, the second padded."""
    seq = 70 if config is QWEN3_NEXT else 9
    forward, _ = counted(config, batch=2, seq=seq)
    assert ours(config, batch=2, seq=seq)["flops.matmul"] == forward


@pytest.mark.parametrize("config", [MAMBA, JAMBA], ids=name_of)
def test_recurrent_backward_without_convolutions(config: dict[str, Any]) -> None:
    """Torch counts a depthwise convolution's backward once for every pair of channels, so it is left out on both
    sides; the rest is twice the forward's."""
    _, backward = counted(config, batch=2, seq=9)
    forward = flops(architecture_of(config), batch=2, seq=9).find("flops.matmul")
    convolutions = pruned(forward, frozenset({"conv"}))
    assert convolutions is not None
    assert 2 * (int(forward.value) - int(convolutions.value)) == backward


def decode_difference(config: dict[str, Any]) -> int:
    """What transformers' decode step counts above ours, by hand: its convolution runs at two positions and keeps one
    (2 * channels * kernel each), and it reads Mamba's state by a product (2 * channels * state)."""
    model, difference = architecture_of(config), 0
    for layer, count in zip(model.main.layers, model.main.counts(), strict=True):
        for mixer in layer.sublayers():
            if isinstance(mixer, Mamba):
                difference += count * 2 * mixer.intermediate_size * (mixer.conv_kernel + mixer.state_size)
            elif isinstance(mixer, GatedDeltaNet):
                channels = 2 * mixer.num_k_heads * mixer.head_k_dim + mixer.num_v_heads * mixer.head_v_dim
                difference += count * 2 * channels * mixer.conv_kernel
    return difference


@pytest.mark.parametrize("config", RECURRENT, ids=name_of)
def test_recurrent_decode(config: dict[str, Any]) -> None:
    counted_ = flop_counter.decode(flop_counter.model_of(config), batch=2, ctx=5)
    found = ours(config, batch=2, ctx=5, phase="decode")["flops.matmul"]
    assert counted_ - found == 2 * decode_difference(config)


SIGLIP = {
    "model_type": "siglip_vision_model",
    "architectures": ["SiglipVisionModel"],
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 4,
}
GEMMA3_IMAGES = {
    "model_type": "gemma3",
    "architectures": ["Gemma3ForConditionalGeneration"],
    "mm_tokens_per_image": 4,
    "image_token_index": 7,
    "text_config": {**GEMMA3, "num_hidden_layers": 2},
    "vision_config": {**SIGLIP, "vision_use_head": False},
}


def test_a_vision_tower_with_its_pooling() -> None:
    """Backward: 2x, but 1x for the convolution on the pixels."""
    model = flop_counter.model_of(SIGLIP)
    pixels = torch.zeros(3, 3, 16, 16, device="meta")
    products, convolution = flop_counter.backward(model, "pooler_output", pixel_values=pixels)
    found = ours(SIGLIP, batch=3, phase="train")
    assert found["flops.forward"] == flop_counter.forward(model, pixel_values=pixels)
    assert found["flops.backward"] == products + convolution
    assert convolution == 2 * 3 * 16 * 3 * 4 * 4 * 32


@pytest.mark.parametrize("images", [0, 1, 2])
def test_images_run_through_the_tower_and_the_connector(images: int) -> None:
    """Each image is 4 of the 12 tokens of its sequence."""
    ids = torch.zeros(2, 12, dtype=torch.long)
    ids[:, 2 : 2 + 4 * images] = 7
    inputs = {"input_ids": ids, "token_type_ids": (ids == 7).long()}
    if images:
        inputs["pixel_values"] = torch.zeros(2 * images, 3, 16, 16)
    counted_ = flop_counter.on_cpu(GEMMA3_IMAGES, **inputs)
    assert ours(GEMMA3_IMAGES, batch=2, seq=12, images=images)["flops.matmul"] == counted_


@given(
    heads=st.sampled_from([(4, 1), (4, 2), (4, 4), (6, 3)]),
    width=st.integers(1, 4),
    intermediate=st.integers(1, 40),
    layers=st.integers(1, 3),
    vocab=st.integers(4, 40),
    batch=st.integers(1, 3),
    seq=st.integers(1, 20),
    bias=st.booleans(),
)
@few
def test_llama_of_any_shape(
    heads: tuple[int, int], width: int, intermediate: int, layers: int, vocab: int, batch: int, seq: int, bias: bool
) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": heads[0] * 2 * width,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "vocab_size": vocab,
        "attention_bias": bias,
        "pad_token_id": 0,
    }
    forward, backward = counted(config, batch=batch, seq=seq)
    found = ours(config, batch=batch, seq=seq, phase="train")
    assert (found["flops.forward"], found["flops.backward"]) == (forward, backward)


@given(
    width=st.integers(1, 8),
    kv=st.integers(1, 9),
    d_ff=st.integers(1, 30),
    seq=st.integers(1, 9),
    source=st.integers(1, 9),
)
@few
def test_t5_of_any_shape(width: int, kv: int, d_ff: int, seq: int, source: int) -> None:
    config = {**T5, "d_model": 4 * width, "d_kv": kv, "d_ff": d_ff, "num_heads": 3}
    forward, backward = counted(config, batch=2, seq=seq, source=source)
    found = ours(config, batch=2, seq=seq, source_seq=source, phase="train")
    assert (found["flops.forward"], found["flops.backward"]) == (forward, backward)


def test_the_counter_notices_a_head_less() -> None:
    """Negative control: one query head less is another number, forward, backward and decoding."""
    forward, backward = counted(LLAMA, batch=1, seq=8)
    wrong = {**LLAMA, "num_attention_heads": 4, "head_dim": 8}
    found = ours(wrong, seq=8, phase="train")
    assert found["flops.forward"] != forward
    assert found["flops.backward"] != backward
    decoded = flop_counter.decode(flop_counter.model_of(LLAMA), batch=1, ctx=8)
    assert ours(wrong, ctx=8, phase="decode")["flops.matmul"] != decoded
    assert ours(LLAMA, ctx=7, phase="decode")["flops.matmul"] != decoded


# ---- recomputation --------------------------------------------------------------------------------------------------


def trained(config: dict[str, Any], *, seq: int) -> int:
    """Forward and backward with every layer checkpointed, non-reentrant; no dropout, which would keep its mask."""
    model = flop_counter.model_of(config).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with flop_counter.no_values_read(), FlopCounterMode(display=False) as counter:
        model(**flop_counter.inputs_of(model, batch=2, seq=seq), use_cache=False)[0].sum().backward()
    return int(counter.get_total_flops())


NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
BERT_DRY = {**BERT, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
GEMMA2 = {**GEMMA3, "model_type": "gemma2", "num_hidden_layers": 2}


@pytest.mark.parametrize("config", [LLAMA, {**GPT2, **NO_DROPOUT}, BERT_DRY, GEMMA2], ids=name_of)
def test_full_recomputation_stops_before_the_last_matrix_whose_output_nobody_keeps(config: dict[str, Any]) -> None:
    """Llama and GPT-2 end in the down projection, which does not run again; BERT and Gemma 2 end in a norm."""
    from txcalc.formulas.flops_question import question
    from txcalc.formulas.recomputation import recomputed

    model = architecture_of(config)
    plain = ours(config, batch=2, seq=9, phase="train")["flops.matmul"]
    again = recomputed(model, question(model, seq=9, batch=2, phase="train"), "full")
    assert trained(config, seq=9) == plain + again


def test_the_meta_device_decomposes_attention() -> None:
    """The oracle's premise: on CPU tensors the fused kernel counts nothing, on meta both products count."""
    query = torch.zeros(1, 2, 5, 4, device="meta")
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
    assert counter.get_total_flops() == 2 * (2 * 2 * 5 * 5 * 4)
