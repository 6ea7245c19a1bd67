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
from llmtwin.twins.home.words import COHORT, may_be_time, must_be_time, words

SPAN_WORDS_MAX = 8


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
            for form in (span, span.rstrip("."), re.sub(r"['\u2019]s?$", "", span.rstrip("."))):
                if form:
                    found[form] = None
    return list(found)


def grammar(text: str) -> str:
    """The JSON schema that a plan of `text` must obey, for the engine's constrained decoding."""
    return json.dumps({"anyOf": list(_schemas(text).values())})


def allows(text: str, plan: Plan) -> bool:
    """Whether the grammar of `text` admits `plan`; what it does not, the model must not be taught."""
    offered = _schemas(text)[plan.kind]["properties"]
    said = plan.model_dump(mode="json", exclude_none=True, exclude={"kind"})
    return all(value in offered.get(field, {}).get("enum", ()) for field, value in said.items())


def _schemas(text: str) -> dict[PlanKind, dict[str, Any]]:
    """A schema for each kind of plan.

    Only spans that can be what a field holds are offered: a name says more than "the" or "all homes", a
    time tells of a time, and the state that a question asks about does not.
    """
    options = spans(text)
    things = [span for span in options if words(span) - COHORT]
    times = [span for span in options if may_be_time(span)]
    states = [span for span in options if not must_be_time(span)]
    ask = {"property": things, "name": things, "area": things, "value": states, "time": times}
    acts, statistics = [act.value for act in Act], [statistic.value for statistic in Statistic]
    order = {"act": acts, "statistic": statistics, **ask, "value": options}
    return {
        PlanKind.ASK: _object(PlanKind.ASK, {"statistic": statistics, **ask}),
        PlanKind.COMPARE: _object(PlanKind.COMPARE, {"statistic": statistics, **ask}, "statistic"),
        PlanKind.ORDER: _object(PlanKind.ORDER, order, "act"),
        PlanKind.OTHER: _object(PlanKind.OTHER, {}),
    }


def _object(kind: PlanKind, fields: dict[str, list[str]], *required: str) -> dict[str, Any]:
    offered = {name: {"enum": options} for name, options in fields.items() if options}
    return {
        "type": "object",
        "properties": {"kind": {"const": kind.value}, **offered},
        "required": ["kind", *required],
        "additionalProperties": False,
    }
