"""Models whose architecture was never published: refused by name, with that reason."""

from __future__ import annotations

import re
from typing import Final

from txcalc.cards.names import key_of
from txcalc.errors import ModelError

_CLOSED: Final = (
    (r"gpt(3\.5|4|5|35turbo)(?!all|x)|chatgpt|o[134](mini|pro|preview)?$", "OpenAI"),
    (r"claude", "Anthropic"),
    (r"gemini|bard$|palm2", "Google"),
    (r"grok\.?[34]", "xAI"),
    (r"qwen[0-9.]*max|qwen(plus|turbo)", "Alibaba"),
    (r"mistralmedium", "Mistral AI"),
    (r"amazonnova|nova(pro|lite|micro)", "Amazon"),
)
_ORGANISATIONS: Final = ("openai", "anthropic", "google", "xai", "qwen", "mistralai", "amazon")


def refuse_closed(name: str) -> None:
    """Says so where ``name`` is a model of which only an interface was published.

    Raises:
        ModelError: it is one.
    """
    organisation, _, model = name.rpartition("/")
    if organisation and key_of(organisation) not in _ORGANISATIONS:
        return
    for pattern, owner in _CLOSED:
        if re.match(pattern, key_of(model)):
            raise ModelError(
                f"{name}: {owner} never published its architecture, so any count would be a guess",
                "txcalc cards lists models whose shape is known",
            )
