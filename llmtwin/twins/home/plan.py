"""The typed plan of what somebody asks of a home. It knows nothing of any particular home.

The language model fills it in under a grammar that admits nothing else: labels from closed lists, and
everything that names something in the home as a verbatim span of the question. What those spans mean in
this home is for `resolve` to say.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from llmtwin.errors import InputError
from llmtwin.records import Record, Statistic

SPAN_WORDS_MAX = 8
SPANS = ("property", "name", "area", "value", "time")


class PlanKind(StrEnum):
    """What is wanted."""

    ASK = "ask"
    COMPARE = "compare"
    ORDER = "order"
    OTHER = "other"


class Act(StrEnum):
    """What an order does."""

    ON = "on"
    OFF = "off"
    OPEN = "open"
    CLOSE = "close"
    LOCK = "lock"
    UNLOCK = "unlock"
    SET = "set"
    RAISE = "raise"
    LOWER = "lower"


class Plan(Record):
    """A question or order, taken apart; the last five fields are spans of its text, as typed.

    `statistic` is over other homes in a comparison or an order, and over a time in an `ask`.
    """

    kind: PlanKind
    act: Act | None = None
    statistic: Statistic | None = None
    property: str | None = None
    name: str | None = None
    area: str | None = None
    value: str | None = None
    time: str | None = None

    def to_json(self) -> str:
        """The plan as the language model writes it: only what is there, in the order of the fields."""
        return json.dumps(self.model_dump(exclude_none=True), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what the language model wrote; InputError if it is no plan."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InputError("that could not be understood as a question or an order") from error


def spans(text: str) -> list[str]:
    """Every run of up to SPAN_WORDS_MAX whole words of `text`, without its outer punctuation."""
    words = [match.span() for match in re.finditer(r"[^\s,;:!?\"()=]+", text)]
    found: dict[str, None] = {}
    for first in range(len(words)):
        for last in range(first, min(first + SPAN_WORDS_MAX, len(words))):
            span = text[words[first][0] : words[last][1]]
            for form in (span, span.rstrip("."), re.sub(r"['’]s?$", "", span.rstrip("."))):
                if form:
                    found[form] = None
    return list(found)


def grammar(text: str) -> str:
    """The JSON schema that a plan of `text` must obey, for the engine's constrained decoding."""
    options = spans(text)
    properties: dict[str, Any] = {
        "kind": {"enum": [kind.value for kind in PlanKind]},
        "act": {"enum": [act.value for act in Act]},
        "statistic": {"enum": [statistic.value for statistic in Statistic]},
    }
    properties |= {name: {"enum": options} for name in SPANS}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": ["kind"],
        "additionalProperties": False,
    }
    return json.dumps(schema)
