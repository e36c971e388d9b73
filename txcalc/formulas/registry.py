"""Every quantity that an answer names: its unit, what it means, where it comes from, which test holds it.

``txcalc explain NAME`` opens one of them on a model; a test walks this table and fails where an entry is incomplete,
or where a tree names a figure that is not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from txcalc.errors import RequestError
from txcalc.formulas.flop_conventions import PRESETS, executed
from txcalc.record import Record
from txcalc.result import Unit


class Quantity(Record):
    """One headline figure. ``oracle``: a test that would notice if it were wrong, as path::name; ``tree``: who makes
    it (``explaining``), nothing where only a run of the model does (``txcalc`` and the key's first word)."""

    key: str
    unit: Unit
    means: str
    source: str
    oracle: str
    tree: str


_PARAMS: Final = "derived: the elements of every tensor; the papers that define the tensors stand with each component"
_KV: Final = "derived: what later tokens read; Ainslie et al. 2023 (arXiv 2305.13245), DeepSeek-V2 (arXiv 2405.04434)"
_FLOPS: Final = "derived: a product of [m, k] and [k, n] is m n k multiply-adds of 2 FLOPs"
_SCORES: Final = "Vaswani et al. 2017 (arXiv 1706.03762), equation 1"
_LIVE: Final = "derived: storages that are live at once, operator by operator; held against torch's allocator"
_CARD: Final = "tests/configs/test_oracle_open.py::test_params_equal_the_recorded_truth"
_NEXT: Final = "DeepSeek-V3 (arXiv 2412.19437), section 2.2"
_BLOCKS: Final = "tests/configs/test_prediction.py::test_blocks_equal_transformers"
_FILES: Final = "the headers of the files: types, shapes and places of tensors"
_FILED: Final = "tests/stored/test_comparing.py::test_a_models_own_tensors_agree"
_CACHE: Final = "tests/formulas/test_kv_cache.py::test_llama3_8b_by_hand"
_RECORDED: Final = "tests/formulas/test_kv_oracle.py::test_cache_equals_the_recorded_one"
_PAGED: Final = "tests/formulas/test_kv_cache.py::test_paging_by_hand"
_FITTED: Final = "tests/formulas/test_kv_cache.py::test_fit_by_hand"
_COUNTED: Final = "tests/formulas/test_flops_oracle.py::test_forward_equals_the_recorded_count"
_RUN: Final = "tests/formulas/test_training_run.py::test_run_by_hand"
_TIMED: Final = "tests/formulas/test_training_run.py::test_time_and_cost_by_hand"
_ATTENTION: Final = "tests/formulas/test_attention.py::test_llama3_8b_by_hand"
_HELD: Final = "tests/formulas/test_attention.py::test_what_a_backend_holds_equals_the_allocator"
_INFERENCE: Final = "tests/formulas/test_memory.py::test_llama3_8b_by_hand"
_STATES: Final = "tests/formulas/test_training.py::test_optimizer_states_equal_torch"
_ALLOWED: Final = "tests/formulas/test_memory.py::test_allowances_never_enter_the_exact_sum"
_ADAPTERS: Final = "tests/formulas/test_training.py::test_adapters_equal_the_reference"
_B: Final = "txcalc bench"
_RAN: Final = "tests/measure/test_bench.py::test_what_can_be_equal_is_equal"
_SIGNED: Final = "tests/measure/test_bench.py::test_an_error_has_a_sign"
_CONVENTIONS: Final = "tests/formulas/test_flop_conventions.py::test_llama3_8b_by_hand"


def _of(tree: str, rows: Iterable[tuple[str, Unit, str, str, str]]) -> list[Quantity]:
    return [
        Quantity(key=key, unit=unit, means=means, source=source, oracle=oracle, tree=tree)
        for key, unit, means, source, oracle in rows
    ]


_TABLE: Final = [
    *_of(
        "params",
        (
            ("params.total", "parameters", "every distinct trainable tensor once; buffers never", _PARAMS, _CARD),
            ("params.embedding", "parameters", "input tables: token, position, type, patch", _PARAMS, _CARD),
            ("params.head", "parameters", "an output matrix of its own; nothing where it is tied", _PARAMS, _CARD),
            ("params.non_embedding", "parameters", "all but input tables and head", _PARAMS, _CARD),
            ("params.active", "parameters", "what one token's forward pass uses", _PARAMS, _CARD),
            ("params.active_without_embedding", "parameters", "the same without input tables", _PARAMS, _CARD),
            ("params.extra", "parameters", "multi-token-prediction blocks, which are in no total", _NEXT, _BLOCKS),
        ),
    ),
    *_of(
        "",
        (
            ("params.with_extra", "parameters", "params.total and params.extra together", _NEXT, _BLOCKS),
            ("params.stored", "elements", "all elements in a file of weights, as it counts them", _FILES, _FILED),
            ("params.stored_bytes", "bytes", "their bytes", _FILES, _FILED),
        ),
    ),
    *_of(
        "kv_cache",
        (
            ("kv_cache.total_bytes", "bytes", "what the model needs at this context", _KV, _RECORDED),
            ("kv_cache.reserved_bytes", "bytes", "the same with every caching layer at full length", _KV, _RECORDED),
            ("kv_cache.bytes_per_token", "bytes", "one token in every caching layer", _KV, _CACHE),
            ("kv_cache.marginal_bytes_per_token", "bytes", "what one more token costs at this context", _KV, _CACHE),
            ("kv_cache.state_bytes", "bytes", "recurrent and convolution state of one sequence", _KV, _CACHE),
            ("kv_cache.blocks_per_sequence", "", "blocks of a paged cache that one sequence takes", _KV, _PAGED),
            ("kv_cache.block_bytes", "bytes", "what those blocks of all sequences take", _KV, _PAGED),
            ("kv_cache.block_waste_bytes", "bytes", "of it, what rounding up to whole blocks wastes", _KV, _PAGED),
            ("kv_cache.fit_tokens", "tokens", "the longest single sequence that fits in a budget", _KV, _FITTED),
            ("kv_cache.fit_sequences", "sequences", "sequences of the context that fit in a budget", _KV, _FITTED),
        ),
    ),
    *_of(
        "flops",
        (
            ("flops.matmul", "FLOPs", "all matrix products: linear maps, attention, convolutions", _FLOPS, _COUNTED),
            (
                "flops.attention",
                "FLOPs",
                "score and value products among them",
                _FLOPS,
                "tests/formulas/test_flops_oracle.py::test_attention_equals_the_recorded_batched_products",
            ),
            (
                "flops.elementwise",
                "FLOPs",
                "everything that is no product: norms, activations, softmax; an estimate",
                "derived: operations an element, rounded; see the tree",
                "tests/formulas/test_flops.py::test_elementwise_is_an_estimate_and_stays_outside_the_sum",
            ),
            (
                "flops.per_token",
                "FLOPs",
                "matrix products over the tokens that were new",
                _FLOPS,
                "tests/formulas/test_flops.py::test_forward",
            ),
            (
                "flops.forward",
                "FLOPs",
                "the forward pass of a training step",
                _FLOPS,
                "tests/formulas/test_flops.py::test_training_is_three_forward_passes",
            ),
            (
                "flops.backward",
                "FLOPs",
                "its backward pass: a product for each gradient",
                _FLOPS,
                "tests/formulas/test_flops_meta.py::test_forward_and_backward",
            ),
        ),
    ),
    *_of(
        "train",
        (
            ("flops.step", "FLOPs", "one training step in the convention that is named", _FLOPS, _RUN),
            ("flops.run", "FLOPs", "a whole run over the tokens that are named", _FLOPS, _RUN),
            (
                "flops.six_nd",
                "FLOPs",
                "6 N D beside it",
                "GPT-3 (Brown et al. 2020, arXiv 2005.14165), appendix D",
                "tests/formulas/test_flops_published.py::test_gpt3_training_compute",
            ),
            ("train.steps", "", "steps of a run", "derived: tokens over tokens a step, rounded up", _RUN),
            ("train.run_over_six_nd", "ratio", "the run's FLOPs over 6 N D", _FLOPS, _RUN),
            ("train.tokens_per_parameter", "ratio", "tokens of the run over all parameters", _FLOPS, _RUN),
            (
                "train.chinchilla_tokens",
                "tokens",
                "about 20 tokens a parameter",
                "Chinchilla (Hoffmann et al. 2022, arXiv 2203.15556), table 3",
                _RUN,
            ),
            (
                "train.mfu",
                "ratio",
                "model FLOPs over what the devices could do in the time",
                "PaLM (Chowdhery et al. 2022, arXiv 2204.02311), appendix B",
                "tests/formulas/test_flops_published.py::test_palm_utilisation",
            ),
            (
                "train.hfu",
                "ratio",
                "the same with recomputation counted",
                "PaLM (Chowdhery et al. 2022, arXiv 2204.02311), section 4.1",
                "tests/formulas/test_training_run.py::test_utilisation_of_hardware_counts_what_runs",
            ),
            ("train.gpu_hours", "GPU-hours", "time of all devices together", "derived: FLOPs, peak, MFU", _TIMED),
            ("train.days", "days", "wall time", "derived: FLOPs, peak, MFU, devices", _TIMED),
            ("train.cost", "", "device hours times a price", "derived: hours times the price given", _TIMED),
        ),
    ),
    *_of(
        "attention",
        (
            ("attention.scores_per_head", "scores", "every query with every key", _SCORES, _ATTENTION),
            ("attention.scores_per_layer", "scores", "of all heads and sequences", _SCORES, _ATTENTION),
            ("attention.scores", "scores", "of all layers", _SCORES, _ATTENTION),
            ("attention.score_bytes", "bytes", "all of them, if they were held, in its dtype", _SCORES, _ATTENTION),
            ("attention.materialised", "bytes", "what a backend holds at once of one layer's product", _LIVE, _HELD),
            ("attention.saved_for_backward", "bytes", "what it keeps for the backward pass", _LIVE, _HELD),
            (
                "attention.crossover_ctx",
                "tokens",
                "from here on scores and values cost more than the feed-forwards",
                "derived: channels of scores and values times S against feed-forward parameters",
                "tests/formulas/test_attention.py::test_the_crossing_is_where_the_flops_cross",
            ),
            (
                "attention.flops_share",
                "ratio",
                "scores and values among all products of a forward pass",
                "derived: flops.attention / flops.matmul",
                _ATTENTION,
            ),
        ),
    ),
    *_of(
        "memory",
        (
            (
                "memory.total",
                "bytes",
                "the exact terms together: of inference what is stored and the highest moment, of training the peak",
                _LIVE,
                "tests/formulas/test_training.py::test_total_equals_the_allocator",
            ),
            (
                "memory.weights",
                "bytes",
                "every tensor in the format it is kept in",
                "ggml's block layouts; GPTQ (arXiv 2210.17323), AWQ (arXiv 2306.00978), QLoRA (arXiv 2305.14314)",
                "tests/formulas/test_weights.py::test_block_sizes_equal_ggml",
            ),
            ("memory.kv_cache", "bytes", "the cache at this context and batch", _KV, _RECORDED),
            (
                "memory.activations",
                "bytes",
                "of inference the highest moment of the pass; of training what is saved for the backward pass",
                _LIVE,
                "tests/formulas/test_tape.py::test_saved_for_backward",
            ),
            ("memory.activations_per_token", "bytes", "of inference, over the tokens of the pass", _LIVE, _INFERENCE),
            ("memory.logits", "bytes", "what the head puts out", _LIVE, _INFERENCE),
            (
                "memory.allowances",
                "bytes",
                "what a GPU runtime adds: seen, not computed",
                "each allowance names its own",
                _ALLOWED,
            ),
            ("memory.with_allowances", "bytes", "the sum with them: an estimate", "both sums", _ALLOWED),
        ),
    ),
    *_of(
        "training",
        (
            (
                "memory.parameters",
                "bytes",
                "of training: the parameters, frozen and trained",
                "the recipe's; see txcalc.formulas.model_states",
                "tests/formulas/test_training.py::test_bytes_a_parameter_with_adam",
            ),
            ("memory.gradients", "bytes", "all gradients, and their fp32 copies", "the recipe's", _STATES),
            ("memory.optimizer", "bytes", "states, master copies, step counters", "the recipe's", _STATES),
        ),
    ),
    *_of(
        "lora",
        (
            (
                "lora.trainable",
                "parameters",
                "of the adapters",
                "LoRA (Hu et al. 2021, arXiv 2106.09685), section 4.2",
                _ADAPTERS,
            ),
            (
                "lora.flops_per_token",
                "FLOPs",
                "of the matrices in a training step: 6 a trained, 4 a frozen parameter",
                "derived: a frozen weight has no gradient of its own",
                "tests/formulas/test_training.py::test_llama3_adapters_by_hand",
            ),
        ),
    ),
    *_of(
        "conventions",
        (
            (f"conventions.{each.name}", "FLOPs", f"a training step: {each.says}", each.source, _CONVENTIONS)
            for each in (*PRESETS.values(), executed("none"))
        ),
    ),
    *_of(
        "",
        (
            (
                f"check.{verdict}",
                "",
                f"comparisons with the reference model that were {verdict}",
                "txcalc check",
                "tests/measure/test_check.py::test_what_was_compared_by_hand",
            )
            for verdict in ("passed", "failed", "skipped")
        ),
    ),
    *_of(
        "",
        (
            (
                "bench.predicted",
                "",
                "what formulas or calibrated rates say a run takes, in each figure's unit",
                _B,
                _RAN,
            ),
            (
                "bench.measured",
                "",
                "what the run on this machine took: counted bytes and FLOPs, median times",
                _B,
                _RAN,
            ),
            ("bench.error", "ratio", "predicted over measured, less one", _B, _SIGNED),
        ),
    ),
]

QUANTITIES: Final = {quantity.key: quantity for quantity in _TABLE}


def quantity(name: str) -> Quantity:
    """The quantity of that name; a last part alone is enough where only one has it.

    Raises:
        RequestError: none has it, or several; the nearest are named.
    """
    if name in QUANTITIES:
        return QUANTITIES[name]
    ends = [key for key in QUANTITIES if key.split(".", 1)[1] == name]
    if len(ends) == 1:
        return QUANTITIES[ends[0]]
    plain = name.strip().lower().replace("_", "").replace(" ", "")
    inside = [key for key in QUANTITIES if plain and plain in key.replace("_", "")]
    near = ends or inside[:4] or get_close_matches(name, QUANTITIES, n=3)
    hint = f"did you mean: {', '.join(near)}" if near else "txcalc explain lists them"
    raise RequestError(f"no quantity is named {name!r}", hint)
