"""Vision and sound models whose towers are not described: the text part is answered, as an estimate that says so.

What is counted is the language model to the unit: its parameters, its cache, its operations on a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import Model
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.configs.wrapped import Text, Wrapped
from txcalc.configs.wrappers import wrapper_type

_IMAGES: Final = "the tower of images and what joins it to the text"
_SOUND: Final = "the encoder of sound and what joins it to the text"
_SPEECH: Final = "the towers of images and sound, the talker and what makes its sound"


def _partly(prefix: str, text: Text | str, towers: str = _IMAGES, *, outer: bool = False, **fields: Any) -> ModelType:
    part = Text(text) if isinstance(text, str) else text
    return wrapper_type(Wrapped(prefix, part, uncounted=towers, **fields), tied=outer)


def _omni(prefix: str, text: str) -> ModelType:
    """The thinker's text part; it stands one level deeper."""
    wrapped = Wrapped(prefix, Text(text, fixed=True), uncounted=_SPEECH)

    def build(r: Reader) -> Model:
        r.ignore("thinker_config")
        thinker = r.mapping("thinker_config")
        tied, inner = thinker.get("tie_word_embeddings", False), thinker.get("text_config")
        found = dict(inner) if isinstance(inner, Mapping) else {}
        r.config = {**r.config, "text_config": found, "tie_word_embeddings": tied}
        return wrapped.read(r)

    return wrapper_type(wrapped, build=build)


_NEMOTRON: Final = Wrapped("NemotronH_Omni", Text("nemotron_h"), uncounted=_IMAGES, tied="never")
_OVIS2: Final = Wrapped("Ovis2", Text("qwen2"), uncounted=_IMAGES)


def _nemotron_h_omni(r: Reader) -> Model:
    """Its one class has a name of its own."""
    if r.config.get("architectures") == ["NemotronH_Omni_Reasoning_V3"]:
        r.config = {**r.config, "architectures": ["NemotronH_OmniForConditionalGeneration"]}
    return _NEMOTRON.read(r)


def _internvl_chat(r: Reader) -> Model:
    """InternVL as first published, with code of its own: its one class has a head."""
    if r.config.get("architectures") == ["InternVLChatModel"]:
        r.config = {**r.config, "architectures": ["InternVLChatForConditionalGeneration"]}
    return _INTERNVL.read(r)


_INTERNVL: Final = Wrapped("InternVLChat", Text("qwen2", key="llm_config"), uncounted=_IMAGES, tied="text")


def _ovis2(r: Reader) -> Model:
    """A head of its own has the widths that stand outside the text part."""
    model = _OVIS2.read(r)
    if model.head is None or model.head.tied:
        return model
    head = model.head.replace(input_size=r.integer("hidden_size"), output_size=r.integer("vocab_size"))
    return model.replace(head=head)


TYPES: Final = {
    "vibevoice": _partly("VibeVoice", "qwen2", "the codecs of sound and the diffusion head", tied="text"),
    "fun_asr_nano": _partly("FunAsrNano", "qwen3", _SOUND, outer=True),
    "blip-2": _partly("Blip2", "opt", tied="text"),
    "instructblip": _partly("InstructBlip", "opt", tied="text"),
    "instructblipvideo": _partly("InstructBlipVideo", "opt", tied="text"),
    "deepseek_vl_hybrid": _partly("DeepseekVLHybrid", "llama", outer=True),
    "exaone4_5": _partly("Exaone4_5_", "exaone4"),
    "fast_vlm": _partly("FastVlm", "qwen2", tied="either"),
    "perception_lm": _partly("PerceptionLM", "llama", tied="either"),
    "janus": _partly("Janus", "llama", "the tower of images and the codec that makes them", outer=True),
    "lfm3_vl": _partly("Lfm3Vl", "lfm3", outer=True),
    "minicpm_ocr": _partly("MiniCPMOcr", "qwen3_5_text", outer=True),
    "minicpmv4_6": _partly("MiniCPMV4_6", "qwen3_5_text"),
    "minicpmv4_7": _partly("MiniCPMV4_7", "qwen3_5_text"),
    "nemotron_h_omni": wrapper_type(_NEMOTRON, build=_nemotron_h_omni),
    "kimi_vl": _partly("KimiVL", "deepseek_v3", tied="text"),
    "internvl_chat": wrapper_type(_INTERNVL, build=_internvl_chat),
    "ovis2": wrapper_type(_OVIS2, build=_ovis2, tied=True, hidden_size=1536, vocab_size=151_643),
    "qwen2_5_omni": _omni("Qwen2_5Omni", "qwen2_5_omni_text"),
    "qwen3_omni_moe": _omni("Qwen3OmniMoe", "qwen3_omni_moe_text"),
}
