"""How checkpoints of each model type name their tensors: the only place that knows their spelling."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from typing import Final

from txcalc import architecture as arch
from txcalc.errors import RequestError
from txcalc.reference.names.table import Table

_MODULES: Final = {
    "llama": "llama mistral qwen2 qwen3 mimo gemma gemma2 gemma3_text stablelm cohere olmo2 phi3 starcoder2",
    "gpt": "gpt2 gpt-sw3 gpt_bigcode gptj gpt_neox opt bloom mpt falcon phi",
    "gpt_kin": "openai-gpt gpt_neo codegen gpt_neox_japanese xglm biogpt ctrl",
    "kin": "ministral ministral3 internlm3 iquestcoder seed_oss helium ernie4_5 smollm3 cwm arcee bitnet "
    "hunyuan_v1_dense exaone4 granite hyperclovax granitemoe granitemoeshared granite_swa granitemoe_swa olmo olmo3 "
    "olmoe flex_olmo cohere2 cohere2_moe glm glm4 nemotron jais2 persimmon nanochat diffllama apertus vaultgemma",
    "kin_moe": "glm4_moe dots1 solar_open exaone_moe mimo_v2_flash mellum kolibri1 minimax_m2 hy_v3 afmoe laguna "
    "phimoe ernie4_5_moe hunyuan_v1_moe qwen2_moe dbrx kimi_k2 deepseek_v32 glm_moe_dsa glm4_moe_lite axk1 mistral4 "
    "minicpm3 youtu",
    "mixtures": "mixtral qwen3_moe gpt_oss deepseek_v2 deepseek_v3 llama4_text aria_text",
    "gated": "axk2 hy_v4 dots3_note_text doge flint beam minimax_m3_vl_text cohere_compass_text "
    "emu3_text_model mllama_text_model moshi",
    "wrapped_text": "qwen2_vl_text qwen2_5_vl_text qwen3_vl_text qwen3_vl_moe_text glm4v_text glm4v_moe_text "
    "qwen2_5_omni_text qwen3_omni_moe_text glm_ocr_text paddleocr_vl_text",
    "hybrids": "qwen3_next jamba mamba",
    "recurrences": "mamba2 falcon_mamba bamba falcon_h1 granitemoehybrid nemotron_h recurrent_gemma lfm2 lfm2_moe",
    "deltas": "olmo_hybrid kimi_linear bailing_hybrid qwen3_5_text qwen3_5_moe_text minimax longcat_flash lfm3",
    "encoders": "bert roberta albert distilbert",
    "encoder_kin": "xlm-roberta camembert data2vec-text ibert roberta-prelayernorm xlm-roberta-xl mpnet longformer esm "
    "ernie megatron-bert bert-generation electra rembert roformer fnet deberta deberta-v2",
    "modern_encoders": "modernbert modernbert-decoder eurobert nomic_bert gte jina_embeddings_v3 esmc ultrabert",
    "seq2seq": "t5 bart",
    "seq2seq_kin": "mbart plbart mvp pegasus blenderbot blenderbot-small m2m_100 marian fsmt trocr led nllb-moe "
    "whisper mt5 umt5 longt5 switch_transformers t5gemma",
    "gemma": "gemma3n_text gemma4_text gemma4_unified_text",
    "towers": "gemma3",
    "vision": "vit dinov2",
    "clip": "clip_text_model clip_vision_model siglip_vision_model",
    "xlm": "xlm flaubert",
}
MODULE_OF: Final = {model_type: module for module, types in _MODULES.items() for model_type in types.split()}

# A classifier for which a type has no names of its own; T5's and BART's has one more layer.
_CLASSIFIER: Final = """
    head.matrix          score.weight
    head.bias            score.bias
    head.matrix          qa_outputs.weight
    head.bias            qa_outputs.bias
    head.dense.linear    classification_head.dense
    head.matrix          classification_head.out_proj.weight
    head.bias            classification_head.out_proj.bias
    head.matrix          classifier.weight
    head.bias            classifier.bias
"""


def table_of(model: arch.Model) -> Table:
    """The names of a model's type.

    Raises:
        RequestError: no table for this type.
    """
    kind = model.model_type
    if kind not in MODULE_OF:
        near = get_close_matches(kind, MODULE_OF, n=3)
        hint = (
            f"nearest types with known names: {', '.join(near)}" if near else f"known: {', '.join(sorted(MODULE_OF))}"
        )
        raise RequestError(f"how checkpoints of {kind} name their tensors is not known", hint)
    module = import_module(f"txcalc.reference.names.{MODULE_OF[kind]}")
    found: Table | Callable[[arch.Model], Table] = module.TABLES[kind]
    table = found if isinstance(found, Table) else found(model)
    classifier = model.head is not None and model.head.kind == "classifier"
    named = any(line.theirs[0].startswith(("classifier.", "score.")) for line in table.lines)
    return table.with_lines(_CLASSIFIER) if classifier and not named else table
