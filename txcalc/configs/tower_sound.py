"""Encoders of sound by their tensors: conformers, stacked convolutions, and what queries their frames.

Sources: Gulati et al. 2020 (arXiv 2005.08100), section 2.2 (conformer); Li et al. 2023 (arXiv 2301.12597), section 3.1
(Q-Former); Peng et al. 2025 (arXiv 2508.19205), section 2.1 (VibeVoice's tokenizers).
"""

from __future__ import annotations

from itertools import chain
from typing import Final

from txcalc.configs.counted_towers import Tensors, divided, linear
from txcalc.configs.reader import Reader
from txcalc.configs.tower_parts import Tower


def _granite(v: Reader) -> Tensors:
    """Conformer layers with a table of distances in each; a guess of letters in the middle is fed back."""
    width, layers, heads = v.integer("hidden_dim"), v.layers("num_layers"), v.integer("num_heads")
    head = v.optional_integer("dim_head") or width // heads
    if not head:
        raise v.error("num_heads", f"is {heads}; the width is {width}")
    wide, mixed = width * v.integer("feedforward_mult"), width * v.integer("conv_expansion_factor")
    farthest, letters = v.integer("max_pos_emb"), v.integer("output_dim")
    if v.integer("context_size") > farthest:
        v.notes.append(f"sound does not run: blocks of {v.integer('context_size')} frames, distances to {farthest}")
    return [
        *linear("frames", v.integer("input_dim"), width),
        *linear("up_proj", width, wide, count=2 * layers),
        *linear("down_proj", wide, width, count=2 * layers),
        *linear("q_k_and_v_proj", width, heads * head, bias=False, count=3 * layers),
        *linear("o_proj", heads * head, width, count=layers),
        ("distances", (2 * farthest + 1, head), layers),
        *linear("gate_and_value_convolution", width, 2 * mixed, count=layers),
        ("depthwise_convolution", (mixed, v.integer("conv_kernel_size")), layers),
        ("batch_norm", (mixed,), 2 * layers),
        *linear("convolution_out", mixed, width, count=layers),
        ("norms", (width,), 10 * layers),
        *linear("letters_out", width, letters),
        *linear("letters_in", letters, width),
    ]


def q_former(p: Reader) -> Tensors:
    """BERT's layers over learned queries; every so many of them look at the tower's frames."""
    width, wide, layers = divided(p), p.integer("intermediate_size"), p.layers()
    looking, seen = -(-layers // p.integer("cross_attention_frequency")), p.integer("encoder_hidden_size")
    branches = 2 if p.flag("use_qformer_text_input") else 1
    p.ignore("vocab_size", "max_position_embeddings")
    return [
        *linear("attention", width, width, count=4 * layers + 2 * looking),
        *linear("k_and_v_of_frames", seen, width, count=2 * looking),
        *linear("up_proj", width, wide, count=branches * layers),
        *linear("down_proj", wide, width, count=branches * layers),
        ("norms", (width,), 2 * (layers + looking + branches * layers + 1)),
    ]


def _vibevoice(v: Reader) -> Tensors:
    """ConvNeXt blocks; each strided convolution between them doubles the channels."""
    width, kernel, grown = v.integer("num_filters"), v.integer("kernel_size"), v.integer("ffn_expansion")
    ratios = v.integers("downsampling_ratios", minimum=1)
    depths = v.integers("depths")
    if len(depths) <= len(ratios):
        raise v.error("depths", f"has {len(depths)} entries; {len(ratios)} downsampling_ratios need one more")
    v.ignore("layer_scale_init_value", "vae_std")
    if len(ratios) > _MOST_STAGES:
        raise v.error("downsampling_ratios", f"has {len(ratios)} entries; expected at most {_MOST_STAGES}")
    widths = [width * 2**stage for stage in range(len(ratios) + 1)]
    stages = [_blocks(each, depth, kernel, grown) for each, depth in zip(widths, depths, strict=False)]
    strided = [
        linear("strided_convolution", small * 2 * ratio, large)
        for small, large, ratio in zip(widths, widths[1:], ratios, strict=False)
    ]
    return [
        *linear("stem", v.integer("channels") * kernel, width),
        *chain(*strided, *stages),
        *linear("head", widths[-1] * kernel, v.integer("hidden_size")),
    ]


_MOST_STAGES: Final = 32  # each doubles the channels


def _blocks(width: int, depth: int, kernel: int, grown: int) -> Tensors:
    return [
        *linear("depthwise_convolution", kernel, width, count=depth),
        *linear("up_proj", width, grown * width, count=depth),
        *linear("down_proj", grown * width, width, count=depth),
        ("norms_and_scales", (width,), 4 * depth),
    ]


_GRANITE: Final = Tower(
    {
        "input_dim": 160, "num_layers": 10, "hidden_dim": 1024, "feedforward_mult": 4, "num_heads": 8,
        "dim_head": None, "output_dim": 42, "context_size": 200, "max_pos_emb": 512, "conv_kernel_size": 15,
        "conv_expansion_factor": 2,
    },
    _granite,
    aliases={
        "hidden_size": "hidden_dim", "num_hidden_layers": "num_layers", "num_attention_heads": "num_heads",
        "num_mel_bins": "input_dim",
    },
)  # fmt: skip
Q_FORMER: Final = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "cross_attention_frequency": 2, "encoder_hidden_size": 1408, "use_qformer_text_input": False,
}  # fmt: skip

SOUND: Final = {
    "granite_speech_encoder": _GRANITE,
    "granite_speech_plus_encoder": _GRANITE._replace(defaults={**_GRANITE.defaults, "cat_hidden_layers": None}),
    "vibevoice_acoustic_tokenizer_encoder": Tower(
        {
            "channels": 1, "hidden_size": 64, "kernel_size": 7, "num_filters": 32, "ffn_expansion": 4,
            "downsampling_ratios": [2, 2, 4, 5, 5, 8], "depths": [3, 3, 3, 3, 3, 3, 8],
        },
        _vibevoice,
    ),
}  # fmt: skip
