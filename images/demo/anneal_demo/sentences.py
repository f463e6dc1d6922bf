"""Smart-home sentences with their intents, sampled from the sentence templates of the Home Assistant project.

The templates leave out what is the home's own (names of devices, rooms, lists); a made-up home fills these in.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from hassil.expression import (
    Alternative,
    Expression,
    ListReference,
    Permutation,
    RuleReference,
    Sentence,
    Sequence,
    TextChunk,
)
from hassil.intents import Intents, RangeSlotList, SlotList, TextSlotList
from home_assistant_intents import get_intents

SYSTEM_PROMPT = "Reply with the intent name only."

#: What people ask this home for: intents that a sentence tells apart, so that a small model can learn them in minutes.
_INTENTS = (
    "HassTurnOn",
    "HassTurnOff",
    "HassGetWeather",
    "HassGetCurrentTime",
    "HassGetCurrentDate",
    "HassStartTimer",
    "HassCancelTimer",
    "HassClimateSetTemperature",
    "HassClimateGetTemperature",
    "HassMediaNext",
    "HassMediaPrevious",
    "HassMediaSearchAndPlay",
    "HassSetVolume",
    "HassShoppingListAddItem",
    "HassBroadcast",
    "HassVacuumStart",
)

_HOME = {
    "area": ["kitchen", "living room", "bedroom", "bathroom", "office", "hallway", "garage", "garden", "attic"],
    "floor": ["ground", "first", "second", "upper"],
    "message": ["dinner is ready", "the taxi is here", "time for bed", "please come downstairs"],
    "name": ["bedside lamp", "desk lamp", "coffee machine", "ceiling fan", "heater", "garage door", "front door",
             "hallway light", "air purifier", "garden lights"],
    "search_query": ["jazz", "the blue danube", "rain sounds", "news of the day"],
    "shopping_list_item": ["milk", "bread", "apples", "coffee", "dish soap"],
    "timer_command": ["turn off the heater", "open the garage door", "turn on the desk lamp"],
    "timer_name": ["pizza", "laundry", "tea", "eggs"],
    "zone": ["home", "work", "school"],
}  # fmt: skip
#: What a `name` names, where it is not any device: by the beginning of the intent.
_NAMES = {
    "HassMedia": ["record player", "television", "radio", "speaker"],
    "HassVacuum": ["robot vacuum", "dusty", "hoover"],
}

#: A template may be so narrow that every draw from its intent is known already; then the others fill the rest.
_DRAWS_PER_ROW = 50


class SentenceError(Exception):
    """The templates cannot give what was asked; the message is a sentence."""


def chat_rows(count: int, seed: int) -> Iterator[str]:
    """`count` lines of JSON, each one chat: system prompt, sentence, intent name. The same for the same arguments.

    Raises:
        SentenceError: the templates do not have that many different sentences.
    """
    for sentence, intent in labelled_sentences(count, seed):
        roles = (("system", SYSTEM_PROMPT), ("user", sentence), ("assistant", intent))
        yield json.dumps({"messages": [{"role": role, "content": content} for role, content in roles]})


def labelled_sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """`count` different (sentence, intent) pairs, intents as evenly as their templates allow.

    Raises:
        SentenceError: the templates do not have that many different sentences.
    """
    templates = get_intents("en")
    if templates is None:
        raise SentenceError("The installed home-assistant-intents has no English sentences.")
    sampler = _Sampler(Intents.from_dict(templates), random.Random(seed))  # noqa: S311 - repeatable, not secret
    chosen: dict[str, str] = {}
    ambiguous: set[str] = set()
    for _ in range(count * _DRAWS_PER_ROW):
        sentence, intent = sampler.draw()
        if chosen.setdefault(sentence, intent) != intent or sentence in ambiguous:
            ambiguous.add(sentence)
            del chosen[sentence]
        if len(chosen) == count:
            return list(chosen.items())
    raise SentenceError(f"{count} different sentences were asked for; {len(chosen)} were found. Ask for fewer rows.")


class _Sampler:
    """Draws sentences: an intent, one of its templates, then a branch wherever the template has several."""

    def __init__(self, intents: Intents, source: random.Random) -> None:
        self._source = source
        self._intents = intents.intents
        self._rules = intents.expansion_rules
        self._lists: dict[str, SlotList] = {**intents.slot_lists, **_lists(_HOME)}

    def draw(self) -> tuple[str, str]:
        """One (sentence, intent)."""
        name = self._source.choice(_INTENTS)
        templates = [(sentence, data) for data in self._intents[name].data for sentence in data.sentences]
        sentence, data = self._source.choice(templates)
        names = next((own for beginning, own in _NAMES.items() if name.startswith(beginning)), _HOME["name"])
        lists = {**self._lists, **_lists({"name": names})}
        draw = _Draw({**self._rules, **data.expansion_rules}, lists, self._source)
        return " ".join(draw.text(sentence.expression).split()), name


@dataclass(frozen=True)
class _Draw:
    """One way through one template."""

    rules: dict[str, Sentence]
    lists: dict[str, SlotList]
    source: random.Random

    def text(self, expression: Expression) -> str:
        match expression:
            case TextChunk():
                return expression.original_text
            case Alternative():
                return self.text(self.source.choice(expression.items))
            case Permutation():
                return " ".join(map(self.text, self.source.sample(expression.items, len(expression.items))))
            case Sequence():
                return "".join(map(self.text, expression.items))
            case RuleReference():
                return self.text(self.rules[expression.rule_name].expression)
            case ListReference():
                return self._value(expression.list_name)
        raise SentenceError(f"The templates contain a {type(expression).__name__}, which this sampler does not know.")

    def _value(self, name: str) -> str:
        match self.lists.get(name):
            case TextSlotList(values=values):
                return self.text(self.source.choice(values).text_in)
            case RangeSlotList() as numbers:
                return str(self.source.choice(list(numbers.get_numbers())))
        raise SentenceError(f"The templates ask for a {name!r}, which the home of this demo does not have.")


def _lists(values: dict[str, list[str]]) -> dict[str, SlotList]:
    return {name: TextSlotList.from_strings(texts, name=name) for name, texts in values.items()}
