"""The owner's client for sealed facts: finds what is asked for, asks under its pseudonym, unmasks.

The question, the object and the value never leave in plain. It does not know how sealing works.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

from llmtwin.edge.link import Link
from llmtwin.records import AdapterUse, Answer, Example, Observation, Outcome, Receipts
from llmtwin.wire.seal import Sealer

_WORD = re.compile(r"[^\W_]+")
_POSSESSIVE = re.compile(r"['\u2019]s\b")
_EMPTY_WORDS = frozenset({"the", "of", "for", "a"})


def sealed_example(sealer: Sealer, object: str, value: str) -> Example:
    """What the adapter learns of a sealed fact: its pseudonym and its masked value, no plain word."""
    return Example(prompt=sealer.pseudonym(object), completion=sealer.mask(object, value))


def object_of(observation: Observation) -> str:
    """What a sealed fact is called when it is sealed and when it is asked for.

    A device that is nothing but its value is called by its name alone, as a person does.
    """
    own = "" if observation.property == "value" else f" {observation.property}"
    return f"{observation.device}{own}"


def match(question: str, objects: Collection[str]) -> str | None:
    """The object that a question names: all its content words occur in it. The longest name wins."""
    asked = _content_words(question)
    named = [(words, object) for object in objects if (words := _content_words(object)) and words <= asked]
    return max(named, key=lambda one: (len(one[0]), len(one[1]), one[1]))[1] if named else None


def ask_sealed(
    question: str, objects: Collection[str], sealer: Sealer, link: Link, version: int | None = None
) -> Answer | None:
    """Answer a question about a sealed fact; None when it is about no sealed object.

    `objects` are the names of all sealed facts; the live version answers where none is given. Raises as
    `Link.recall` does.
    """
    object = match(question, objects)
    if object is None:
        return None
    recall = link.recall([sealer.pseudonym(object)], version)
    (completion,) = recall.completions
    use = AdapterUse(version=recall.version, weights=recall.weights, probability=completion.probability)
    receipts = Receipts(adapter=use)
    value = sealer.unmask(object, completion.text)
    if value is None:
        return Answer(text=f"I do not know the {object}.", outcome=Outcome.UNKNOWN, receipts=receipts)
    text = f"The {object} is {value}."
    return Answer(text=text, outcome=Outcome.ANSWERED, value=value, receipts=receipts)


def _content_words(text: str) -> frozenset[str]:
    """The words that carry meaning, folded so that case and composition of letters do not matter."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return frozenset(_WORD.findall(_POSSESSIVE.sub("", folded))) - _EMPTY_WORDS
