"""Which model types are known, and the one door from a config to a Model.

Every family module holds ``TYPES``: model type -> ``ModelType``. ``MODULE_OF`` says which module that is, so that one
command loads one family; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any, Final

from txcalc.architecture import Model, Prediction
from txcalc.configs.prediction import with_prediction
from txcalc.configs.reader import Reader, shown
from txcalc.errors import ModelError
from txcalc.record import Record


class ModelType(Record):
    """How configs of one type are read.

    ``build`` makes the Model; ``defaults`` and ``aliases`` are the Reader's; ``origin`` says where defaults were read.
    ``extra`` makes the blocks of multi-token prediction that a config numbers, None where their shape is not known.
    """

    build: Callable[[Reader], Model]
    defaults: Mapping[str, Any]
    aliases: Mapping[str, str] = {}
    origin: str = ""
    extra: Callable[[Reader, Model, int], Prediction | None] | None = None


_MODULES: Final = {
    "llama": "llama mistral",
    "llama4": "llama4 llama4_text",
    "aria": "aria aria_text",
    "llama_kin": "ministral ministral3 internlm3 iquestcoder seed_oss arcee apertus bitnet hunyuan_v1_dense helium "
    "ernie4_5 smollm3 cwm exaone4",
    "granite": "granite hyperclovax granitemoe granitemoeshared granite_swa granitemoe_swa",
    "dense_kin": "glm glm4 nemotron jais2 persimmon nanochat diffllama",
    "sigmoid_moe": "glm4_moe dots1 solar_open exaone_moe kolibri1 minimax_m2 hy_v3",
    "windowed_moe": "mimo_v2_flash afmoe laguna mellum",
    "softmax_moe": "phimoe ernie4_5_moe hunyuan_v1_moe dbrx",
    "mixtral": "mixtral",
    "qwen_moe": "qwen2_moe qwen3_moe qwen3_next",
    "gpt_oss": "gpt_oss",
    "deepseek": "deepseek_v2 deepseek_v3 kimi_k2",
    "latent": "deepseek_v32 glm_moe_dsa glm4_moe_lite axk1 mistral4 minicpm3 youtu",
    "doge": "doge",
    "git": "git",
    "counted_speech": "dots3_note phi4_multimodal",
    "counted_towers": "cohere_compass minimax_m3_vl mllama inkling2",
    "emu3": "emu3",
    "byte_patches": "blt",
    "reformer": "reformer",
    "wrapped_text": "qwen2_vl_text qwen2_5_vl_text qwen3_vl_text qwen3_vl_moe_text glm4v_text glm4v_moe_text "
    "qwen2_5_omni_text qwen3_omni_moe_text glm_ocr_text paddleocr_vl_text",
    "wrappers": "mistral3 qwen2_vl qwen2_5_vl qwen3_vl qwen3_vl_moe glm4v glm4v_moe llava llava_next llava_onevision "
    "paligemma idefics3 smolvlm internvl kimi_k25 qwen2_audio voxtral",
    "wrappers_more": "llava_next_video vipllava video_llava aya_vision cohere2_vision lfm2_vl lighton_ocr "
    "video_llama_3 deepseek_vl idefics2 glm46v glmga glm_ocr paddleocr_vl cosmos3_omni hyperclovax_vision_v2 "
    "qianfan_ocr fuyu audioflamingo3 musicflamingo qwen3_asr glmasr qwen2_5_omni_thinker qwen3_omni_moe_thinker "
    "shieldgemma2",
    "wrappers_readers": "got_ocr2 pp_chart2table moss_transcribe_diarize granite_speech granite_speech_plus "
    "vibevoice_asr voxtral_realtime nemo_speechlm",
    "wrappers_partly": "vibevoice fun_asr_nano blip-2 instructblip instructblipvideo deepseek_vl_hybrid "
    "exaone4_5 fast_vlm perception_lm janus lfm3_vl minicpm_ocr minicpmv4_6 minicpmv4_7 nemotron_h_omni ovis2 "
    "qwen2_5_omni qwen3_omni_moe kimi_vl internvl_chat",
    "inkling": "inkling_text inkling2_text",
    "text_parts": "cohere_compass_text emu3_text_model mllama_text_model moshi",
    "deepseek_v4": "deepseek_v4",
    "gated_moe": "flint beam minimax_m3_vl_text",
    "gated_latent": "axk2 hy_v4",
    "dots3": "dots3_note_text",
    "jamba": "jamba",
    "mamba": "mamba",
    "mamba_hybrids": "bamba falcon_h1 granitemoehybrid",
    "nemotron_h": "nemotron_h",
    "delta_hybrids": "olmo_hybrid kimi_linear bailing_hybrid",
    "longcat": "longcat_flash",
    "minimax": "minimax",
    "jetmoe": "jetmoe",
    "zaya": "zaya",
    "lfm3": "lfm3",
    "zamba": "zamba zamba2",
    "hrm_text": "hrm_text",
    "qwen3_5": "qwen3_5 qwen3_5_text qwen3_5_moe qwen3_5_moe_text",
    "recurrent": "mamba2 falcon_mamba recurrent_gemma lfm2 lfm2_moe",
    "gemma3n": "gemma3n gemma3n_text",
    "gemma4": "gemma4_text gemma4_unified_text",
    "gemma4_towers": "gemma4 gemma4_unified",
    "gemma": "gemma gemma2 gemma3 gemma3_text vaultgemma",
    "siglip": "siglip_vision_model",
    "vision": "vit dinov2",
    "xlm": "xlm flaubert xlnet",
    "cpmant": "cpmant",
    "clip": "clip clip_text_model clip_vision_model siglip siglip_text_model",
    "qwen": "qwen2 qwen3 mimo",
    "phi": "phi phi3",
    "gpt": "gpt2 gpt-sw3 gpt_bigcode gptj gpt_neox",
    "gpt_kin": "openai-gpt gpt_neo codegen gpt_neox_japanese xglm biogpt ctrl",
    "opt": "opt",
    "bloom": "bloom",
    "mpt": "mpt",
    "falcon": "falcon",
    "starcoder": "starcoder2",
    "stablelm": "stablelm",
    "cohere": "cohere cohere2 cohere2_moe",
    "olmo": "olmo olmo2 olmo3 olmoe flex_olmo",
    "bert": "bert roberta",
    "roberta": "xlm-roberta camembert data2vec-text xlm-roberta-xl roberta-prelayernorm ibert",
    "albert": "albert",
    "electra": "electra rembert",
    "rotary_encoders": "roformer nomic_bert gte jina_embeddings_v3",
    "long_encoders": "longformer big_bird",
    "modernbert": "modernbert modernbert-decoder eurobert",
    "bert_kin": "ernie megatron-bert bert-generation mpnet fnet esm",
    "narrow_encoders": "convbert mobilebert squeezebert",
    "bert_inputs": "xmod roc_bert luke layoutlm tapas",
    "approximate_encoders": "nystromformer yoso mra",
    "new_encoders": "esmc ultrabert",
    "document_encoders": "neomme modernvbert ultravbert",
    "shrinking_encoders": "funnel perceiver",
    "deberta": "deberta deberta-v2",
    "distilbert": "distilbert",
    "t5": "t5",
    "t5_kin": "mt5 umt5 longt5 switch_transformers",
    "bart": "bart",
    "marian": "marian fsmt",
    "whisper": "whisper",
    "prophetnet": "prophetnet",
    "seamless": "seamless_m4t seamless_m4t_v2",
    "t5gemma": "t5gemma",
    "t5gemma2": "t5gemma2",
    "bart_kin": "mbart plbart mvp pegasus blenderbot blenderbot-small m2m_100 nllb-moe bigbird_pegasus led "
    "pegasus_x trocr",
    "native": "transformer",
}
MODULE_OF: Final = {model_type: module for module, types in _MODULES.items() for model_type in types.split()}

REFUSED: Final = {
    "rwkv": "an RNN with time-mixing that is not attention; not a transformer",
    "xlstm": "an LSTM variant; not a transformer",
    "encoder-decoder": "two models of any type joined: ask for each of the two configs by itself",
    "musicgen": "a decoder of several streams of sound codes, with a text encoder and a codec beside it",
    "musicgen_melody": "a decoder of several streams of sound codes, with a text encoder and a codec beside it",
    "inkling_mm_model": "the widths of its image tower are fitted by a search in floating point; its text part is read "
    "as inkling_text",
    **dict.fromkeys(
        ("qwen4_exp", "qwen4_exp_text"),
        "its layers mix several residual streams and read hashed tables of token n-grams: not described",
    ),
    "gemma4_assistant": "a draft head that reads the keys of another model; transformers 5.23 cannot build it",
    "gemma4_unified_assistant": "a draft head that reads the keys of another model; transformers 5.23 cannot build it",
    **dict.fromkeys(
        "deepseek_ocr2 unlimited_ocr ernie4_5_vl_moe granite4_vision granite_docling hunyuan_vl mistral_large4 molmo2 "
        "muse_glimmer muse_spark step3p7 glm5_next cosmos3_edge".split(),
        "a language model of a type of its own, behind towers: neither is described",
    ),
    **dict.fromkeys(
        "blip kosmos-2 kosmos-2.5 pix2struct".split(),
        "a text decoder of its own that looks at an image through its tower: neither is described",
    ),
    **dict.fromkeys(
        "canary cohere_asr dia moonshine moonshine_streaming speech_to_text speecht5 pop2piano".split(),
        "an encoder of sound under a text decoder, whose convolutions and layers are not described",
    ),
    **dict.fromkeys(
        "florence2 udop pp_formulanet".split(),
        "an encoder of images that feeds a decoder of text through attention of its own: not described",
    ),
    "vision-encoder-decoder": "two models of any type joined: ask for each of the two configs by itself",
    "speech-encoder-decoder": "two models of any type joined: ask for each of the two configs by itself",
    "chameleon": "its images are words that a codec makes, whose tensors are not described",
    "kyutai_speech_to_text": "its tokens are those of several streams of sound codes, with the codec beside it",
    "evolla": "a language model that looks at proteins through layers between its own: not described",
    "idefics": "a language model that looks at images through layers between its own: not described",
    "pi0": "a policy that makes a robot's moves in several passes behind PaliGemma: ask for paligemma",
    "diffusion_gemma": "block diffusion: it denoises blocks of tokens in several passes, which txcalc does not count",
}


def known_types() -> list[str]:
    """Every model type that has an adapter, sorted."""
    return sorted(MODULE_OF)


def model_type_of(config: Mapping[str, Any]) -> str:
    """The config's model type.

    Raises:
        ModelError: none, not a string, refused, or unknown (nearest names in the hint).
    """
    name = config.get("model_type")
    if name is None:
        raise ModelError("the config has no model_type", f'add "model_type": one of {len(MODULE_OF)} known types')
    if not isinstance(name, str):
        raise ModelError(f"model_type is {shown(name)}; expected a string")
    if name in REFUSED:
        raise ModelError(f"model_type {name!r} is refused: {REFUSED[name]}")
    if name not in MODULE_OF:
        from difflib import get_close_matches  # here: only an error needs it

        near = get_close_matches(name[:60].lower(), MODULE_OF, n=3, cutoff=0.5)
        hint = f"nearest known types: {', '.join(near)}" if near else "txcalc cards lists models that are known"
        raise ModelError(f"unknown model_type {shown(name)}", hint)
    return name


def type_of(model_type: str) -> ModelType:
    """The adapter of a known model type."""
    found: ModelType = import_module(f"txcalc.configs.{MODULE_OF[model_type]}").TYPES[model_type]
    return found


def architecture_of(
    config: Mapping[str, Any], *, name: str = "", strict: bool = False, must_read: Collection[str] = ()
) -> Model:
    """The Model that a config.json describes.

    ``strict`` makes an error of what would otherwise be an estimate. ``must_read`` are keys, nested ones with dots,
    that a user asked for by name: one that this type does not know is an error.

    Raises:
        ModelError: an unknown type, a field that is missing, of the wrong type or out of range.
    """
    kind = type_of(model_type_of(config))
    reader = Reader(config, defaults=kind.defaults, aliases=kind.aliases, origin=kind.origin)
    model = with_prediction(kind.build(reader), reader, kind.extra)
    if must_read:
        _require_read(reader, must_read)
    if config.get("auto_map"):
        reader.notes.append("auto_map names code of the model's own, which is never run: read as the type's own layout")
    reasons = (*model.reasons, *reader.all_reasons())
    if strict and reasons:
        raise ModelError(f"not understood: {reasons[0]}", "leave out --strict to get an estimate")
    return model.replace(
        name=name or model.name or reader.model_type,
        reasons=reasons,
        assumed=tuple(reader.assumed()),
        notes=(*model.notes, *reader.all_notes()),
    )


def _require_read(reader: Reader, keys: Collection[str]) -> None:
    for key in set(keys).intersection(reader.unread()):
        from difflib import get_close_matches

        near = get_close_matches(key, reader.known() - {key}, n=3, cutoff=0.5)
        hint = f"nearest fields: {', '.join(near)}" if near else "give a field of the model's config.json"
        raise ModelError(f"{key} is not a field of {reader.model_type}", hint)
