"""Logits of encoders, of encoder-decoders beside T5 and BART, and hidden states of text parts equal transformers'."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tests.oracles import transformers_tiny
from tests.reference import published_encoders as encoders
from tests.reference import published_seq2seq as seq2seq
from tests.reference import published_wrapped as wrapped
from tests.reference.controls import unnoticed
from tests.reference.published import V
from tests.reference.published import config as published
from txcalc.architecture import AudioEmbedding, Model
from txcalc.configs import architecture_of
from txcalc.reference import Output, Transformer, build
from txcalc.reference.weights import load_state_dict_from, to_checkpoint

EVERY = {**encoders.every(), **seq2seq.every(), **wrapped.every()}
HEADS = encoders.other_classes(EVERY, {**encoders.HEADS, **seq2seq.HEADS})
KNOWN_AS = {"kimi_k2": "deepseek_v3", "mimo": "qwen2"}  # by their code; transformers does not know the names
RENAMED = {
    "kimi_k2": {**published("deepseek_v3"), "model_type": "kimi_k2"},
    "mimo": {**published("qwen2"), "model_type": "mimo", "architectures": ["MiMoForCausalLM"]},
}
T, PROMPT, S, LIMIT = 13, 6, 9, 1e-5  # of the largest logit, fp32: both sides do the same sums in another order


class Pair(NamedTuple):
    """One model twice, tokens [2, T], a source where it reads one, and what transformers makes of them."""

    ours: Transformer
    theirs: Any
    tokens: Tensor
    source: Tensor | None
    out: Any


def made(config: dict[str, Any], theirs_is: dict[str, Any] | None = None) -> Pair:
    """``theirs_is``: the config for transformers, where it knows the same model by another name."""
    theirs, model = transformers_tiny.made(theirs_is or config), architecture_of(config)
    assert model.reasons == ()
    ours = load_state_dict_from(build(model), model, theirs.state_dict())
    generator = torch.Generator().manual_seed(1)
    tokens_BT = torch.randint(3, V, (2, T), generator=generator)
    source = source_for(model, generator) if len(model.stacks) > 1 else None
    if source is None:
        inputs = {"input_ids": tokens_BT[:, None] if "MultipleChoice" in config["architectures"][0] else tokens_BT}
    else:  # without a cache: FSMT's attention looks ahead where it makes one
        key = "input_ids" if source.dim() == 2 else "input_features"
        inputs = {key: source, "decoder_input_ids": tokens_BT, "use_cache": False}
    with torch.no_grad():
        return Pair(ours, theirs, tokens_BT, source, theirs(**inputs))


def source_for(model: Model, generator: torch.Generator) -> Tensor:
    """Tokens [2, S], or sound that becomes as many vectors, [2, num_mel_bins, 2 * S]."""
    match model.stacks[0].embedding:
        case AudioEmbedding(num_mel_bins=mels):
            return torch.randn(2, mels, 2 * S, generator=generator)
    return torch.randint(3, V, (2, S), generator=generator)


@cache
def pair(name: str) -> Pair:
    return made(EVERY[name])


def result(out: Output) -> Tensor:
    """Logits, or a bare model's hidden states."""
    return out.hidden_BTD if out.logits is None else out.logits


def expected(out: Any) -> Tensor:
    """As ``result``, of transformers: an answer's beginning and end are two logits of one matrix."""
    if "start_logits" in out:
        return torch.stack((out.start_logits, out.end_logits), dim=-1)
    found: Tensor = next(out[key] for key in ("prediction_logits", "logits", "last_hidden_state") if key in out)
    return found


def error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return float((ours.reshape(theirs.shape) - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("name", EVERY)
def test_logits_equal_transformers(name: str) -> None:
    """The whole sequence at once; a decoder's also token by token through the cache."""
    p = pair(name)
    logits_BTV = expected(p.out)
    assert logits_BTV.std() > 0.05, "too even to tell right from wrong"
    with torch.no_grad():
        assert error(result(p.ours(p.tokens, source=p.source)), logits_BTV) < LIMIT
        if p.ours.model.main.role == "decoder":
            encoder = {} if p.source is None else {"encoded": p.ours.encode(p.source)}
            cache = p.ours.new_cache(batch=2, ctx=T, source=S if encoder else 0)
            pieces = [p.tokens[:, :PROMPT], *p.tokens[:, PROMPT:].split(1, dim=1)]
            decoded = torch.cat([result(p.ours(piece, cache=cache, **encoder)) for piece in pieces], dim=1)
            assert error(decoded, logits_BTV) < LIMIT


@pytest.mark.parametrize("name", HEADS)
def test_other_heads_equal_transformers(name: str) -> None:
    p = made(HEADS[name])
    with torch.no_grad():
        ours = p.ours(p.tokens, source=p.source)
    assert error(result(ours), expected(p.out)) < LIMIT
    for theirs, mine in (("pooler_output", ours.pooled_BD), ("seq_relationship_logits", ours.pooled_logits)):
        if p.out.get(theirs) is not None:
            assert mine is not None
            assert error(mine, p.out[theirs]) < LIMIT


@pytest.mark.parametrize("name", EVERY)
def test_the_comparison_notices_a_wrong_tensor(name: str) -> None:
    """Negative control: one tensor of each kind moved, and the logits no longer agree.

    What cannot show: key biases without rotary positions, which add the same to every score of a query; a pooler under
    another head; weights that nothing runs; those of tokens that see everything, where there are none.
    """
    p = pair(name)
    found = unnoticed(p.ours, lambda: result(p.ours(p.tokens, source=p.source)), 5 * LIMIT)
    idle = ("unused", "pooler", "global_tokens")
    keys = ("k_proj.bias", "key_proj.bias")
    assert [kind for kind in found if not kind.endswith(keys) and not any(word in kind for word in idle)] == []


@pytest.mark.parametrize("name", [name for name in EVERY if "newer head" not in name and "moe_text" not in name])
def test_what_is_written_is_what_transformers_holds(name: str) -> None:
    """Names and values; transformers lists a tied tensor twice, and stacks experts that files hold one by one."""
    p = pair(name)
    written, theirs = to_checkpoint(p.ours), p.theirs.state_dict()
    assert written.keys() <= theirs.keys()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in written.items())


@pytest.mark.parametrize("name", RENAMED)
def test_a_type_by_another_name_equals_transformers(name: str) -> None:
    p = made(RENAMED[name], published(KNOWN_AS[name]))
    with torch.no_grad():
        assert error(result(p.ours(p.tokens)), expected(p.out)) < LIMIT


def test_a_text_part_is_read_as_files_of_the_whole_model_spell_it() -> None:
    p = pair("glm4v_text")
    for before in ("model.", "model.language_model."):
        state = {before + key: tensor for key, tensor in p.theirs.state_dict().items()}
        read = load_state_dict_from(build(p.ours.model), p.ours.model, state)
        assert all(torch.equal(a, b) for a, b in zip(read.parameters(), p.ours.parameters(), strict=True))


def test_a_bias_of_the_logits_may_be_missing_from_a_file() -> None:
    """It is 0 then, on tensors that were no more than shapes too; negative control: in the file it is not."""
    p = pair("marian")
    model, state = p.ours.model, p.theirs.state_dict()
    without = load_state_dict_from(
        build(model, device="meta"), model, {key: state[key] for key in state if key != "final_logits_bias"}
    )
    with torch.no_grad():
        plain = result(without(p.tokens, source=p.source))
    assert error(plain + state["final_logits_bias"], expected(p.out)) < LIMIT
    assert error(plain, expected(p.out)) > 1e-3
