"""Tokenizers from tokenizer.json and from GGUF vocabularies; text that comes token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.text import WORDS, byte_level, vocabulary, write_gguf
from txcalc.cards.gguf_header import read_header
from txcalc.errors import ModelError
from txcalc.reference.tokenizer import TextTokenizer, tokenizer_of_file, tokenizer_of_gguf
from txcalc.reference.writing import TextStream, as_text, until

PLAIN = byte_level()
OURS = TextTokenizer(PLAIN)


def test_a_tokenizer_json_is_read(tmp_path: Path) -> None:
    PLAIN.save(str(tmp_path / "tokenizer.json"))
    ours = tokenizer_of_file(str(tmp_path / "tokenizer.json"))
    assert ours.encode(WORDS) == PLAIN.encode(WORDS).ids
    assert ours.decode(ours.encode(WORDS)) == WORDS
    assert ours.size == 300


@pytest.mark.parametrize(("content", "part"), [(None, "has no tokenizer.json"), (b"{}", "is not a tokenizer"),
                                               (b"\xff", "is not a tokenizer")])  # fmt: skip
def test_a_bad_tokenizer_json_is_one_clear_error(content: bytes | None, part: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match=part):
        tokenizer_of_file(str(tmp_path / "tokenizer.json"))


# ---- GGUF vocabularies ----------------------------------------------------------------------------------------------

TEXTS = [
    "the cat and the hat",
    "  two  spaces\n\nand 12345",
    "it's I'll WE'VE",
    "héllo wörld ☃ 日本語 🙂",
    "\ttabs\r\n",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_gguf_vocabulary_cuts_text_as_its_tokenizer_json_does(text: str) -> None:
    ours = tokenizer_of_gguf(vocabulary(PLAIN), "x.gguf")
    assert ours.encode(text) == PLAIN.encode(text).ids
    assert ours.decode(ours.encode(text)) == text


def test_special_tokens_are_one_token_and_no_text() -> None:
    ours = tokenizer_of_gguf(vocabulary(PLAIN), "x.gguf")
    assert ours.encode("the<|end|>") == [*ours.encode("the"), 299]
    assert ours.decode([*ours.encode("the"), 299]) == "the"


def test_a_beginning_is_added_where_the_file_asks_for_it() -> None:
    metadata = {**vocabulary(PLAIN), "tokenizer.ggml.bos_token_id": 299, "tokenizer.ggml.add_bos_token": True}
    assert tokenizer_of_gguf(metadata, "x.gguf").encode("the")[0] == 299
    assert 299 not in tokenizer_of_gguf({**metadata, "tokenizer.ggml.add_bos_token": False}, "x.gguf").encode("the")


@pytest.mark.parametrize(
    ("rule", "pieces"),
    [
        ("gpt-2", ["ab", " 12345", " '", "VE", "\n\n", " c"]),
        ("smollm", ["ab", " ", "1", "2", "3", "4", "5", " '", "VE", "\n\n", " c"]),
        ("llama-bpe", ["ab", " ", "123", "45", " '", "VE", "\n\n", " c"]),
        ("qwen2", ["ab", " ", "1", "2", "3", "4", "5", " '", "VE", "\n\n", " c"]),
    ],
)
def test_rules_cut_as_their_models_do(rule: str, pieces: list[str]) -> None:
    """By hand from each pattern: runs of digits whole, one by one, or in threes."""
    ours = tokenizer_of_gguf({**vocabulary(PLAIN), "tokenizer.ggml.pre": rule}, "x.gguf")
    cut = ours.tokenizer.pre_tokenizer.pre_tokenize_str("ab 12345 'VE\n\n c")
    text = "ab 12345 'VE\n\n c"
    assert [text[start:end] for _, (start, end) in cut] == pieces


SPM_PIECES = "▁ t h e c a n d s th he ▁t ▁th ▁the at ca cat ▁c ▁cat an and ▁a ▁an ▁and ▁▁ .".split(" ")
SPM: dict[str, Any] = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *SPM_PIECES],
    "tokenizer.ggml.scores": [*[0.0] * 259, *(-float(i) for i in range(len(SPM_PIECES)))],
    "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * len(SPM_PIECES)],
    "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
}  # fmt: skip


def test_sentencepiece_is_cut_as_transformers_cuts_it(tmp_path: Path) -> None:
    sizes = {"llama.block_count": 1, "llama.context_length": 8, "llama.embedding_length": 8, "llama.vocab_size": 285,
             "llama.attention.head_count": 1, "llama.feed_forward_length": 8,
             "llama.attention.layer_norm_rms_epsilon": 1e-5}  # fmt: skip
    path = write_gguf(tmp_path / "x.gguf", {**sizes, **SPM}, {})
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="x.gguf")
    ours = tokenizer_of_gguf(read_header(str(path)).metadata, str(path))
    for text in ("the cat and the hat", "dées", "a\nb", "", "cats. the"):
        assert ours.encode(text) == theirs(text).input_ids, text
        assert ours.decode(ours.encode(text)) == text


def test_sentencepiece_by_hand() -> None:
    """A space before the text, letters the vocabulary lacks as bytes: <s>, ▁the, ▁, 0x78 (x), 0x79 (y)."""
    ours = tokenizer_of_gguf(SPM, "x.gguf")
    first = 259
    assert ours.encode("the xy") == [1, first + SPM_PIECES.index("▁the"), first, 3 + 0x78, 3 + 0x79]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"tokenizer.ggml.model": "rwkv"}, 'kind "rwkv"'),
        ({"tokenizer.ggml.model": None}, "kind null"),
        ({"tokenizer.ggml.tokens": None}, "has no vocabulary"),
        ({"tokenizer.ggml.tokens": [1]}, "has no vocabulary"),
        ({"tokenizer.ggml.merges": None}, "has no merges"),
        ({"tokenizer.ggml.merges": ["xq zq"]}, "do not fit"),
        ({"tokenizer.ggml.pre": "odd"}, 'rule "odd"'),
    ],
)
def test_a_vocabulary_that_is_not_understood_is_refused(changes: dict[str, Any], part: str) -> None:
    with pytest.raises(ModelError, match=part):
        tokenizer_of_gguf({**vocabulary(PLAIN), **changes}, "x.gguf")


# ---- text as it comes -----------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=80))
def test_pieces_add_up_to_the_text(text: str) -> None:
    tokens = OURS.encode(text)
    assert "".join(as_text(tokens, OURS)) == OURS.decode(tokens)


def test_a_character_of_several_tokens_comes_whole() -> None:
    """The snowman is three bytes: three tokens here, and one piece of text."""
    tokens = OURS.encode("🙂")
    assert len(tokens) == 4
    assert list(as_text(tokens, OURS)) == ["", "", "", "🙂", ""]
    assert "".join(as_text(tokens[:2], OURS)) == OURS.decode(tokens[:2]), "what is never finished is given at the end"


def test_long_texts_are_not_decoded_again_and_again() -> None:
    tokens = OURS.encode(WORDS * 20)
    stream = TextStream(OURS)
    pieces = []
    for token in tokens:
        pieces.append(stream.add(token))
        assert len(stream.tokens) <= 2 * stream.window
    assert "".join(pieces) + stream.rest() == WORDS * 20


def test_a_text_goes_on_from_its_prompt_with_the_space_between() -> None:
    ours = tokenizer_of_gguf(SPM, "x.gguf")
    both = ours.encode("the cat")
    assert "".join(as_text(both[2:], ours, both[:2])) == " cat"


@pytest.mark.parametrize(
    ("pieces", "stops", "expected"),
    [
        (["ab", "cd"], [], "abcd"),
        (["ab", "cd"], ["c"], "ab"),
        (["ab", "cd"], ["bc"], "a"),
        (["ab", "cx"], ["bcd"], "abcx"),
        (["a", "a", "b"], ["ab"], "a"),
        (["one two"], ["two", "one"], ""),
        (["ab"], ["b", "abc"], "a"),
    ],
)
def test_text_ends_before_the_first_stop(pieces: list[str], stops: list[str], expected: str) -> None:
    assert "".join(until(pieces, stops)) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("ab", max_size=3), max_size=8), st.lists(st.text("ab", min_size=1, max_size=3), max_size=2))
def test_however_the_text_is_cut_it_ends_at_the_same_place(pieces: list[str], stops: list[str]) -> None:
    text = "".join(pieces)
    places = [text.find(stop) for stop in stops if stop in text]
    assert "".join(until(pieces, stops)) == text[: min(places, default=len(text))]
