"""Text to tokens and back, by the model's own tokenizer: a tokenizer.json, or the vocabulary of a GGUF file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from txcalc.configs.reader import shown
from txcalc.errors import MissingExtraError, ModelError

try:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
except ModuleNotFoundError:
    raise MissingExtraError("reading text needs the tokenizers package", "pip install 'txcalc[torch]'") from None

MAX_BYTES: Final = 500_000_000
_CONTROL: Final = 3  # GGUF's types of tokens
_USER_DEFINED: Final = 4


class TextTokenizer:
    """A tokenizer of the ``tokenizers`` package, with what this project asks of one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        tokenizer.no_padding()  # a file may ask for texts of one length: a prompt is neither filled up nor cut
        tokenizer.no_truncation()

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Text -> tokens; ``special``: with those that the model wants at the beginning and the end."""
        return list(self.tokenizer.encode(text, add_special_tokens=special).ids)

    def decode(self, tokens: Iterable[int]) -> str:
        """Tokens -> text, without special tokens."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def pieces(self, text: str) -> list[tuple[int, str]]:
        """(token, the stretch of the text it stands for; its own name where it stands for none)."""
        found = self.tokenizer.encode(text)
        stretches = (text[start:end] for start, end in found.offsets)
        return [(id_, part or token) for id_, part, token in zip(found.ids, stretches, found.tokens, strict=True)]

    @property
    def size(self) -> int:
        """Tokens in the vocabulary, added ones included."""
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))


def tokenizer_of_file(path: str) -> TextTokenizer:
    """The tokenizer of a tokenizer.json.

    Raises:
        ModelError: there is none, or it is no tokenizer.
    """
    if not os.path.isfile(path):
        raise ModelError(
            f"{os.path.dirname(path) or '.'} has no tokenizer.json", "put the model's tokenizer.json beside its config"
        )
    if os.path.getsize(path) > MAX_BYTES:
        raise ModelError(f"{path} is larger than {MAX_BYTES // 10**6} MB", "is it a tokenizer.json?")
    try:
        return TextTokenizer(Tokenizer.from_file(path))
    except Exception as error:  # the package raises plain Exception
        raise ModelError(f"{path} is not a tokenizer: {_first_line(error)}", "fetch it again") from None


# ---- from a GGUF vocabulary -----------------------------------------------------------------------------------------

_GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTIONS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_LLAMA3: Final = _CONTRACTIONS + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2: Final = _CONTRACTIONS + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


class _Rule(NamedTuple):
    """How text is cut before the merges: by patterns one after the other; then bytes are written as letters."""

    patterns: tuple[str, ...]
    ignore_merges: bool = False


# tokenizer.ggml.pre, by the tokenizer.json of the models that carry it
_RULES: Final = {
    "default": _Rule((_GPT2,)),
    "gpt-2": _Rule((_GPT2,)),
    "smollm": _Rule((r"\p{N}", _GPT2)),
    "llama-bpe": _Rule((_LLAMA3,), ignore_merges=True),
    "qwen2": _Rule((_QWEN2,)),
}


def tokenizer_of_gguf(metadata: Mapping[str, Any], path: str) -> TextTokenizer:
    """The tokenizer that a GGUF file's metadata describes.

    Raises:
        ModelError: there is none, or one of a kind that is not built.
    """
    kind, tokens = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise ModelError(f"{path} has no vocabulary (tokenizer.ggml.tokens)", "use a GGUF file with its tokenizer")
    match kind:
        case "gpt2":
            tokenizer = _byte_level(metadata, tokens, path)
        case "llama":
            tokenizer = _sentencepiece(metadata, tokens, path)
        case _:
            raise ModelError(f"{path} has a tokenizer of kind {shown(kind)}, which is not built", "known: gpt2, llama")
    _add_special(tokenizer, metadata, tokens)
    _add_begin(tokenizer, metadata, tokens, default=kind == "llama")
    return TextTokenizer(tokenizer)


def _byte_level(metadata: Mapping[str, Any], tokens: list[str], path: str) -> Tokenizer:
    """Byte-level BPE (Radford et al. 2019, section 2.2): every byte is a letter, so that no text is out of reach."""
    name = metadata.get("tokenizer.ggml.pre", "default")
    if name not in _RULES:
        known = ", ".join(_RULES)
        raise ModelError(f"{path} cuts text by rule {shown(name)} (tokenizer.ggml.pre), which is not known", known)
    rule = _RULES[name]
    tokenizer = Tokenizer(_bpe(tokens, _merges(metadata, path), path, ignore_merges=rule.ignore_merges))
    cuts = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in rule.patterns]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*cuts, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(metadata: Mapping[str, Any], tokens: list[str], path: str) -> Tokenizer:
    """SentencePiece's BPE (Kudo and Richardson 2018): spaces are letters, unknown characters fall back to bytes."""
    merges = (
        _merges(metadata, path) if "tokenizer.ggml.merges" in metadata else _merges_by_score(metadata, tokens, path)
    )
    unknown = metadata.get("tokenizer.ggml.unknown_token_id", 0)
    name = tokens[unknown] if isinstance(unknown, int) and 0 <= unknown < len(tokens) else None
    tokenizer = Tokenizer(_bpe(tokens, merges, path, unk_token=name, fuse_unk=True, byte_fallback=True))
    prefix = [normalizers.Prepend("▁")] if metadata.get("tokenizer.ggml.add_space_prefix", True) else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(content=" ", left=1)] if prefix else []
    spaces = decoders.Replace("▁", " ")
    tokenizer.decoder = decoders.Sequence([spaces, decoders.ByteFallback(), decoders.Fuse(), *strip])
    return tokenizer


def _bpe(tokens: list[str], merges: list[tuple[str, str]], path: str, **options: Any) -> models.BPE:
    try:
        return models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, **options)
    except Exception as error:  # the package raises plain Exception
        raise ModelError(f"{path}: its vocabulary and merges do not fit: {_first_line(error)}") from None


def _merges(metadata: Mapping[str, Any], path: str) -> list[tuple[str, str]]:
    written = metadata.get("tokenizer.ggml.merges")
    if not isinstance(written, list) or not all(isinstance(each, str) for each in written):
        raise ModelError(f"{path} has no merges (tokenizer.ggml.merges)", "use a GGUF file with its tokenizer")
    pairs = [each.partition(" ") for each in written]
    return [(left, right) for left, _, right in pairs]


def _merges_by_score(metadata: Mapping[str, Any], tokens: list[str], path: str) -> list[tuple[str, str]]:
    """SentencePiece keeps no merges: any two tokens that make a third are one, the best-scored third first."""
    scores = metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise ModelError(f"{path} has no scores for its {len(tokens):,} tokens (tokenizer.ggml.scores)")
    ids = {token: i for i, token in enumerate(tokens)}
    merges = [
        (-scores[i], ids[token[:cut]], ids[token[cut:]], token[:cut], token[cut:])
        for i, token in enumerate(tokens)
        for cut in range(1, len(token))
        if token[:cut] in ids and token[cut:] in ids
    ]
    return [(left, right) for *_, left, right in sorted(merges)]


def _add_special(tokenizer: Tokenizer, metadata: Mapping[str, Any], tokens: list[str]) -> None:
    kinds = metadata.get("tokenizer.ggml.token_type", [])
    found = [(token, kind) for token, kind in zip(tokens, kinds, strict=False) if kind in (_CONTROL, _USER_DEFINED)]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token, k in found if k == 3])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token, k in found if k == _USER_DEFINED])


def _add_begin(tokenizer: Tokenizer, metadata: Mapping[str, Any], tokens: list[str], *, default: bool) -> None:
    """The token that begins a text, where the file asks for one."""
    begin = metadata.get("tokenizer.ggml.bos_token_id")
    wanted = metadata.get("tokenizer.ggml.add_bos_token", default)
    if wanted and isinstance(begin, int) and 0 <= begin < len(tokens):
        name = tokens[begin]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{name} $A", pair=f"{name} $A {name} $B", special_tokens=[(name, begin)]
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
