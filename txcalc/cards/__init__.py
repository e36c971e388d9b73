"""Models by name or path: the cards that come with txcalc, and the one door from what a user typed to a Model.

>>> load("llama3-8b").name
'llama3-8b'
"""

from txcalc.cards.card import Card, Published
from txcalc.cards.checking import Finding, check
from txcalc.cards.finding import all_cards, find, known_names
from txcalc.cards.loading import load

__all__ = ["Card", "Finding", "Published", "all_cards", "check", "find", "known_names", "load"]
