"""BERT with rotary positions: RoFormer, NomicBERT, GTE, Jina v3.

Sources: Su et al. 2021 (arXiv 2104.09864); Nussbaum et al. 2024 (arXiv 2402.01613); Zhang et al. 2024 (arXiv
2407.19669), section 2.1; Sturua et al. 2024 (arXiv 2409.10173), section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import (
    FeedForward,
    Head,
    Model,
    Norm,
    Projection,
    Rotary,
    SelfAttention,
    TokenEmbedding,
    UnusedTensor,
)
from txcalc.configs import moe, rope
from txcalc.configs.bert import BERT_DEFAULTS, TASKS, cross_attention, role_of
from txcalc.configs.common import (
    activation,
    layer_norm,
    older_name,
    post_norm,
)
from txcalc.configs.encoders import (
    LM_TASKS,
    Plan,
    bert_sublayers,
    dense_classifier,
    encoder_model,
    known_task,
    lm_plan,
    plain_feed_forward,
    plain_plan,
)
from txcalc.configs.heads import Task, classifier, num_labels
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

_BIDIRECTIONAL: Final = TASKS.replace("causal_lm ", "")
_KINDS: Final = ("full_attention", "sliding_attention")

ROFORMER_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "vocab_size": 50_000,
    "embedding_size": None,
    "max_position_embeddings": 1536,
    "rotary_value": False,
}
NOMIC_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "vocab_size": 30_528,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "head_dim": None,
}
GTE_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "vocab_size": 250_048,
    "max_position_embeddings": 8192,
    "type_vocab_size": 1,
}
JINA_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "vocab_size": 250_002,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "max_position_embeddings": 8194,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}


# ---- RoFormer -------------------------------------------------------------------------------------------------------


def _roformer(r: Reader) -> Model:
    """BERT without a position table; queries and keys are turned in pairs of neighbouring channels."""
    r.unused("rotary_value", False)  # values turned as well
    r.unused("use_bias", True)
    r.ignore("embedding_size")
    task = known_task(r, TASKS, prefix="RoFormer", default="masked_lm")
    role, hidden = role_of(r), r.integer("hidden_size")
    width = r.optional_integer("embedding_size") or hidden
    eps, rows, num_layers = r.number("layer_norm_eps"), r.integer("max_position_embeddings"), r.layers()
    attention, feed_forward = bert_sublayers(r, role=role)
    turned = attention.head_dim
    rotary = Rotary(theta=10_000.0, rotary_dim=turned, interleaved=True, max_position_embeddings=rows)
    table = UnusedTensor(name="stored table of rotary angles", shape=(rows, turned))
    return encoder_model(
        r,
        _roformer_plan(r, task, width),
        role=role,
        hidden=hidden,
        embedding=_untabled(r, width, hidden, layer_norm(width, eps)),
        layers=[
            (post_norm(attention.replace(position=rotary), feed_forward, norm=layer_norm(hidden, eps)), num_layers)
        ],
        positions=rows,
        unused=(table, *cross_attention(r, role, hidden, num_layers)),
    )


def _roformer_plan(r: Reader, task: Task, width: int) -> Plan:
    hidden, act, role = r.integer("hidden_size"), activation(r), role_of(r)
    if task in LM_TASKS:
        return lm_plan(r, task, role=role, hidden=hidden, act=act, eps=r.number("layer_norm_eps"), width=width)
    if task == "sequence_classification":
        return Plan(head=dense_classifier(hidden, num_labels(r), act, role=role))
    if task == "multiple_choice":
        return Plan(head=last_token_choice(r, hidden))
    return plain_plan(r, task, role=role, hidden=hidden, labels=2 if task == "question_answering" else None).replace(
        pooler=False
    )


def last_token_choice(r: Reader, hidden: int) -> Head:
    """transformers' older "sequence summary" in a config that has no settings for it: the last token as it is."""
    for name in ("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels"):
        r.unused(name, None)
    return classifier(hidden, 1, role=role_of(r), bias=True, pooled=True).replace(reads="last")


def _untabled(r: Reader, width: int, hidden: int, norm: Norm, *, fewest_types: int = 1) -> TokenEmbedding:
    """Tokens and token types, normed, then brought to the model's width where theirs differs."""
    return TokenEmbedding(
        vocab_size=r.integer("vocab_size"),
        embedding_size=width,
        token_types=r.integer("type_vocab_size", minimum=fewest_types),
        norm=norm,
        projection=None if width == hidden else Projection(in_size=width, out_size=hidden, bias=True),
    )


# ---- NomicBERT, GTE, Jina v3 ----------------------------------------------------------------------------------------


def _turned_bert(
    r: Reader, plan: Plan, feed_forward: FeedForward, *, theta: float, bias: bool, fewest_types: int = 1
) -> Model:
    """BERT's arrangement with rotary positions; heads need not divide the width, what is left over is not used."""
    hidden, heads = r.integer("hidden_size"), r.integer("num_attention_heads")
    explicit = r.optional_integer("head_dim") if r.has("head_dim") else None
    if explicit is None and heads > hidden:
        raise r.error("num_attention_heads", f"is {heads}; hidden_size is {hidden}")
    head_dim = explicit or hidden // heads
    norm = layer_norm(hidden, r.number("layer_norm_eps"))
    r.ignore("is_decoder", "add_cross_attention", "pad_token_id")
    attention = SelfAttention(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=head_dim,
        v_head_dim=head_dim,
        causal=False,
        q_bias=bias,
        k_bias=bias,
        v_bias=bias,
        o_bias=bias,
        position=rope.rotary(r, head_dim, theta=theta, whole=True),
    )
    return encoder_model(
        r,
        plan,
        role="encoder",
        hidden=hidden,
        embedding=_untabled(r, hidden, hidden, norm, fewest_types=fewest_types),
        layers=[(post_norm(attention, feed_forward, norm=norm), r.layers())],
        positions=r.integer("max_position_embeddings"),
    )


def _lm(r: Reader, task: Task, **fields: Any) -> Plan:
    return lm_plan(r, task, role="encoder", hidden=r.integer("hidden_size"), eps=r.number("layer_norm_eps"), **fields)


def _nomic_bert(r: Reader) -> Model:
    _nomic_remote_keys(r)
    tasks = "base masked_lm sequence_classification token_classification"
    task, hidden = known_task(r, tasks, prefix="NomicBert", default="masked_lm"), r.integer("hidden_size")
    if task in LM_TASKS:
        plan = _lm(r, task, act=activation(r))
    else:
        pooled = task == "sequence_classification"
        plan = plain_plan(r, task, role="encoder", hidden=hidden).replace(pooler=pooled)
    feed_forward = moe.gated(hidden, r.integer("intermediate_size"), activation(r))
    return _turned_bert(r, plan, feed_forward, theta=1000.0, bias=False)


# Keys of the published files, which were written for code of their own: what they say is what is built anyway.
_NOMIC_REMOTE: Final[Mapping[str, tuple[Any, ...]]] = {
    "activation_function": ("swiglu",),
    "causal": (False,),
    "mlp_fc1_bias": (False,),
    "mlp_fc2_bias": (False,),
    "qkv_proj_bias": (False,),
    "parallel_block": (False,),
    "prenorm": (False,),
    "rotary_emb_fraction": (1, 1.0),
    "rotary_emb_interleaved": (False,),
    "rotary_emb_base": (1000, 1000.0),
    "rotary_scaling_factor": (None,),
    "rotary_emb_scale_base": (None,),
    "use_rms_norm": (False, None),
    "scale_attn_by_inverse_layer_idx": (False,),
    "scale_attn_weights": (True,),
}


def _nomic_remote_keys(r: Reader) -> None:
    for name, harmless in _NOMIC_REMOTE.items():
        r.unused(name, *harmless)
    r.ignore("layer_norm_epsilon", "max_trained_positions", "n_positions", "pad_vocab_size_multiple", "use_xentropy")
    r.ignore("fused_bias_fc", "fused_dropout_add_ln", "use_flash_attn", "dense_seq_output", "reorder_and_upcast_attn")
    r.ignore("parallel_block_tied_norm", "summary_activation", "summary_proj_to_labels", "summary_type")
    r.ignore("summary_use_proj", "summary_first_dropout")
    older_name(r, "n_embd", "hidden_size", r.integer("hidden_size"))
    older_name(r, "n_head", "num_attention_heads", r.integer("num_attention_heads"))
    older_name(r, "n_inner", "intermediate_size", r.integer("intermediate_size"))
    older_name(r, "n_layer", "num_hidden_layers", r.layers())


def _gte(r: Reader) -> Model:
    tasks = "base masked_lm sequence_classification token_classification"
    task, hidden = known_task(r, tasks, prefix="Gte", default="masked_lm"), r.integer("hidden_size")
    if task in LM_TASKS:
        plan = _lm(r, task, act="gelu", spare_bias=False)
    else:
        pooled = task == "sequence_classification"
        plan = plain_plan(r, task, role="encoder", hidden=hidden).replace(pooler=pooled)
    feed_forward = moe.gated(hidden, r.integer("intermediate_size"), activation(r)).replace(down_bias=True)
    return _turned_bert(r, plan, feed_forward, theta=160_000.0, bias=True, fewest_types=0)


def _jina_v3(r: Reader) -> Model:
    tasks = "base masked_lm sequence_classification token_classification question_answering"
    task, hidden = known_task(r, tasks, prefix="JinaEmbeddingsV3", default="masked_lm"), r.integer("hidden_size")
    if task in LM_TASKS:
        plan = _lm(r, task, act="gelu")
    elif task == "sequence_classification":
        plan = Plan(head=dense_classifier(hidden, num_labels(r), "tanh", role="encoder"))
    else:
        plan = plain_plan(r, task, role="encoder", hidden=hidden)
    feed_forward = plain_feed_forward(hidden, r.integer("intermediate_size"), activation(r))
    return _turned_bert(r, plan, feed_forward, theta=20_000.0, bias=True)


TYPES: Final = {
    "roformer": ModelType(build=_roformer, defaults=ROFORMER_DEFAULTS, origin="transformers 5.23 RoFormerConfig"),
    "nomic_bert": ModelType(build=_nomic_bert, defaults=NOMIC_DEFAULTS, origin="transformers 5.23 NomicBertConfig"),
    "gte": ModelType(build=_gte, defaults=GTE_DEFAULTS, origin="transformers 5.23 GteConfig"),
    "jina_embeddings_v3": ModelType(
        build=_jina_v3, defaults=JINA_DEFAULTS, origin="transformers 5.23 JinaEmbeddingsV3Config"
    ),
}
