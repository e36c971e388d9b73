"""Text models that see and hear, with both towers counted by their tensors: dots3 and Phi-4 multimodal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import CountedPart, Model
from txcalc.configs import rope
from txcalc.configs.common import dense_decoder, head_dims, rms_norm, swiglu
from txcalc.configs.counted_towers import INERT, Tensors, Whole, divided, encoder, kept, linear
from txcalc.configs.dots3 import ALIASES, DOTS3_DEFAULTS, dots3_layers
from txcalc.configs.phi import PHI3_DEFAULTS, phi3_rope
from txcalc.configs.reader import Reader, shown
from txcalc.configs.registry import ModelType

# ---- dots3 ----------------------------------------------------------------------------------------------------------


def _dots3_note(r: Reader) -> Model:
    """Published files hold the text's fields beside the towers', not in an object of their own."""
    if r.config.get("text_config") is None:
        outer = ("vision_config", "audio_config", "architectures", "model_type", "tie_word_embeddings", "dtype")
        own = {key: value for key, value in r.config.items() if key not in outer}
        whole = {key: value for key, value in r.config.items() if key in (*outer, "torch_dtype")}
        r.config = {**whole, "text_config": own}
    return _DOTS3.read(r)


def _dots3_towers(r: Reader, hidden: int) -> tuple[CountedPart, ...]:
    return (
        CountedPart(name="vision", tensors=kept(_dots3_vision(r, hidden))),
        CountedPart(name="sound", tensors=kept(_dots3_sound(r, hidden))),
    )


def _dots3_vision(r: Reader, hidden: int) -> Tensors:
    """Pre-norm layers with normed heads, dense at first, then with more and more experts."""
    aliases = {"hidden_size": "embed_dim", "num_attention_heads": "num_heads", "attention_bias": "use_bias"}
    given = r.mapping("vision_config")
    spelled = {name: older for name, older in aliases.items() if older in given}
    v = r.nested("vision_config", defaults=_DOTS3_VISION, aliases=spelled)
    v.ignore(*INERT, "num_experts_per_tok", "router_scaling_factor", "is_causal", "capacity_factor", "router_scale")
    width, layers, bias = divided(v), v.layers(), v.flag("attention_bias")
    if v.integer("adapter_out_dim") != hidden:
        raise v.error("adapter_out_dim", f"is {v.integer('adapter_out_dim')}; the text's width is {hidden}")
    experts, wide = _dots3_experts(v, layers), v.integer("moe_intermediate_size")
    dense, mlp_bias = layers - len(experts), v.flag("mlp_bias")
    v.ignore("spatial_merge_size")
    joined = v.integer("adapter_in_dim") * v.integer("adapter_merge_size") ** 2
    return [
        *linear("patches", v.integer("num_channels") * v.integer("patch_size") ** 2, width),
        ("norms", (width,), 2 + 2 * layers),
        *linear("qkv_proj", width, 3 * width, bias=bias, count=layers),
        *linear("o_proj", width, width, bias=bias, count=layers),
        ("qk_norms", (width // v.integer("num_attention_heads"),), 2 * layers),
        *linear("gate_and_up_proj", width, v.integer("intermediate_size"), bias=mlp_bias, count=2 * dense),
        *linear("down_proj", v.integer("intermediate_size"), width, bias=mlp_bias, count=dense),
        *linear("experts", width, wide, bias=False, count=3 * sum(experts)),
        *linear("routers", width, 1, bias=False, count=sum(experts)),
        ("merger_norm", (v.integer("adapter_in_dim"),), 2),
        *linear("merger_up", joined, joined),
        *linear("merger_down", joined, hidden),
    ]


def _dots3_experts(v: Reader, layers: int) -> list[int]:
    """How many experts each layer with experts has."""
    v.ignore("mlp_layer_types", "pyramid_num_routed", "per_layer_config", "num_local_experts")
    if v.config.get("pyramid_num_routed") is not None or v.config.get("mlp_layer_types") is None:
        default = [0] * 25 + [*range(4, 65, 4), 64]
        given = v.config.get("pyramid_num_routed")
        counts = default if given is None else [max(int(each), 0) for each in v.numbers("pyramid_num_routed")]
        if len(counts) != layers:
            raise v.error("pyramid_num_routed", f"has {len(counts)} entries for {layers} layers")
        return [each for each in counts if each]
    kinds = v.texts("mlp_layer_types", length=layers)
    by_layer = {int(key): value for key, value in v.mapping("per_layer_config").items() if str(key).isdecimal()}
    every = v.integer("num_local_experts")
    return [_experts_of(v, i, by_layer.get(i, {}), every) for i, kind in enumerate(kinds) if kind == "sparse"]


def _experts_of(v: Reader, index: int, entry: Any, every: int) -> int:
    if not isinstance(entry, Mapping):
        raise v.error("per_layer_config", f"is {shown(entry)} for layer {index}; expected an object")
    inner = Reader(entry, defaults={"num_local_experts": every}, origin="", path=f"{v.path}per_layer_config.{index}.")
    inner.ignore("num_experts_per_tok")
    count = inner.integer("num_local_experts")
    v.reasons.extend(inner.all_reasons())
    return count


def _dots3_sound(r: Reader, hidden: int) -> Tensors:
    """Three convolutions that halve time, then gated layers; older files describe the encoder as a Whisper."""
    a = r.nested("audio_config", defaults=_DOTS3_SOUND)
    a.ignore(*INERT, "num_key_value_heads", "head_dim", "conv_output_size", "samples_per_token", "sampling_rate")
    a.ignore("hop_length", "max_position_embeddings", "partial_rotary_factor", "whisper_config")
    size = _whisper(a)
    width, wide, layers, heads, bins = size
    if width % heads:
        raise a.error("hidden_size", f"is {width}; it is not a multiple of the {heads} heads")
    out = next((a.integer(n) for n in ("whisper_adapter_out_dim", "adapter_output_size") if a.has(n)), None)
    out = out or a.integer("adapter_out_dim")
    if out != hidden:
        raise a.error("adapter_out_dim", f"is {out}; the text's width is {hidden}")
    a.ignore("adapter_out_dim", "adapter_input_size", "whisper_adapter_in_dim", "adapter_output_size")
    down, bias = a.integer("downsample_hidden_size"), a.flag("attention_bias")
    return [
        *linear("convolution", 9, down),
        *linear("convolutions", 9 * down, down, count=2),
        *linear("in_proj", down * ((bins + 7) // 8), width, bias=False),
        *linear("q_v_and_o_proj", width, width, bias=bias, count=3 * layers),
        *linear("k_proj", width, width, bias=False, count=layers),
        *linear("gate_and_up_proj", width, 2 * wide, count=layers),
        *linear("down_proj", wide, width, count=layers),
        ("norms", (width,), 2 * layers + 1),
        ("adapter_norm", (width,), 2),
        *linear("adapter_up", width, out),
        *linear("adapter_down", out, out),
    ]


def _whisper(a: Reader) -> tuple[int, int, int, int, int]:
    """(width, feed-forward's, layers, heads, mel bins)."""
    older = a.nested("whisper_config", defaults={})
    older.ignore("dropout", "attention_dropout", "max_source_positions", *older.config)
    names = (
        ("hidden_size", "d_model"), ("intermediate_size", "encoder_ffn_dim"), ("num_hidden_layers", "encoder_layers"),
        ("num_attention_heads", "encoder_attention_heads"), ("feature_size", "num_mel_bins"),
    )  # fmt: skip
    found = [older.integer(old) if old in older.config else a.integer(name) for name, old in names]
    return found[0], found[1], found[2], found[3], found[4]


_DOTS3_VISION: Final = {
    "hidden_size": 1536, "intermediate_size": 4224, "num_hidden_layers": 42, "num_attention_heads": 24,
    "num_channels": 3, "patch_size": 14, "moe_intermediate_size": 2112, "attention_bias": False, "mlp_bias": False,
    "num_local_experts": 64, "adapter_in_dim": 1536, "adapter_out_dim": 5120, "adapter_merge_size": 2,
}  # fmt: skip
_DOTS3_SOUND: Final = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "feature_size": 128, "downsample_hidden_size": 480, "attention_bias": True, "adapter_out_dim": 5120,
}  # fmt: skip
_DOTS3: Final = Whole("Dots3Note", DOTS3_DEFAULTS, dots3_layers, _dots3_towers, aliases=ALIASES, has_text_class=True)

# ---- Phi-4 multimodal -----------------------------------------------------------------------------------------------


def _phi4_multimodal(r: Reader) -> Model:
    """Phi-3's layers; the language model's class holds both towers. Published adapters are not part of that class."""
    r.ignore("speech_lora", "vision_lora", "embd_layer", "audio_processor", "img_processor")
    hidden = r.integer("hidden_size")
    model = dense_decoder(
        r,
        norm=rms_norm(hidden, r.number("rms_norm_eps")),
        feed_forward=swiglu(r),
        position=rope.rotary(r, head_dims(r)[3], settings=phi3_rope(r)),
        layer_windows=[r.optional_integer("sliding_window")] * r.layers(),
        head={"prefix": "Phi4Multimodal", "without": {"question_answering", "sequence_classification",
                                                      "token_classification"}},
    )  # fmt: skip
    towers = (
        CountedPart(name="vision", tensors=kept(_phi4_vision(r, hidden))),
        CountedPart(name="sound", tensors=kept(_phi4_sound(r, hidden))),
    )
    return model.replace(counted=towers)


def _phi4_vision(r: Reader, hidden: int) -> Tensors:
    """SigLIP's tower with its pooling head, and two vectors that end rows and images."""
    v = r.nested("vision_config", defaults=_PHI4_VISION)
    v.ignore(*INERT, "crop_size", "feature_layer")
    width, wide, patch = divided(v), v.integer("intermediate_size"), v.integer("patch_size")
    side = v.integer("image_size", minimum=patch) // patch
    return [
        *linear("patches", v.integer("num_channels") * patch**2, width),
        ("positions", (side**2, width), 1),
        *encoder(width, wide, v.layers() + 1),  # one more, which pools, and the norm before it
        ("probe", (width,), 1),
        ("row_and_image_ends", (width,), 2),
        *linear("projection_up", width, hidden),
        *linear("projection_down", hidden, hidden),
    ]


def _phi4_sound(r: Reader, hidden: int) -> Tensors:
    """Strided convolutions, then conformer layers (Gulati et al. 2020, arXiv 2005.08100) under one bias table."""
    a = r.nested("audio_config", defaults=_PHI4_SOUND)
    a.ignore(*INERT, "chunk_size", "left_chunk", "activation", "conv_activation", "conv_glu_type", "nemo_activation")
    a.ignore("feature_layer", "nemo_final_size", "dropout_rate")
    width, layers, heads = divided(a), a.layers("num_blocks"), a.integer("num_attention_heads")
    wide, out, mixed = (
        a.integer("intermediate_size"),
        a.integer("ext_pw_out_channel"),
        a.integer("depthwise_multiplier"),
    )
    separable, channels = a.integer("depthwise_separable_out_channel"), a.integer("nemo_conv_channels")
    halvings, bins = a.integer("time_reduction").bit_length() - 1, a.integer("input_size")
    for _ in range(halvings):
        bins = (bins - 1) // 2 + 1
    buckets = a.integer("bias_max_distance") * (1 if a.flag("bias_symmetric") else 2)
    return [
        *linear("first_convolution", 9, channels),
        *linear("depthwise_convolutions", 9, channels, count=max(halvings - 1, 0)),
        *linear("pointwise_convolutions", channels, channels, count=max(halvings - 1, 0)),
        *linear("in_proj", channels * bins, width),
        ("relative_bias", (buckets, heads), 1),
        ("norms", (width,), 10 * layers),
        *linear("gate_and_up_proj", width, 2 * wide, count=2 * layers),
        *linear("feed_forward_down_proj", wide, width, count=2 * layers),
        *linear("attention", width, width, count=4 * layers),
        *linear("gated_convolution", width, 2 * out, count=layers),
        ("gate_biases", (out,), 2 * layers),
        *linear("depthwise", a.integer("kernel_size"), width * mixed, count=layers),
        *linear("pointwise", width * mixed, separable, count=layers),
        *linear("convolution_out", width, out, count=layers),
        *linear("up_proj", width * a.integer("downsample_rate"), hidden, count=2),
        *linear("down_proj", hidden, hidden, count=2),
    ]


_PHI4_VISION: Final = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
    "num_channels": 3, "image_size": 448, "patch_size": 14,
}  # fmt: skip
_PHI4_SOUND: Final = {
    "hidden_size": 1024, "intermediate_size": 1536, "num_blocks": 24, "num_attention_heads": 16,
    "ext_pw_out_channel": 1024, "depthwise_separable_out_channel": 1024, "depthwise_multiplier": 1, "kernel_size": 3,
    "input_size": 80, "time_reduction": 8, "bias_max_distance": 1000, "bias_symmetric": False,
    "nemo_conv_channels": 1024, "downsample_rate": 1,
}  # fmt: skip

TYPES: Final = {
    "dots3_note": ModelType(
        build=_dots3_note, defaults={"tie_word_embeddings": False}, origin="transformers 5.23 Dots3NoteConfig"
    ),
    "phi4_multimodal": ModelType(
        build=_phi4_multimodal,
        defaults={
            **PHI3_DEFAULTS, "vocab_size": 200_064, "num_key_value_heads": 8, "max_position_embeddings": 131_072,
            "original_max_position_embeddings": 4096,
        },
        origin="transformers 5.23 Phi4MultimodalConfig",
    ),
}  # fmt: skip
