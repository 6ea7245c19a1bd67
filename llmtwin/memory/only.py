"""Which prompts of a twin a search may find, as SQL. It knows the tables, not what the properties mean."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from llmtwin.memory.row import micros
from llmtwin.records import Value

# Every path of a twin is in `latest` once, so that its properties are found without reading all facts.
_WITH_VALUE = """
    prompts.id IN (
        SELECT facts.prompt FROM latest JOIN facts ON facts.twin = latest.twin AND facts.path = latest.path
        WHERE latest.twin = ? AND latest.path GLOB ? AND facts.value IN (SELECT value FROM json_each(?)))"""
_WITH_FACT = """
    prompts.id IN (
        SELECT facts.prompt FROM latest JOIN facts ON facts.twin = latest.twin AND facts.path = latest.path
        WHERE latest.twin = ? AND latest.path GLOB ?)"""


@dataclass(frozen=True)
class Only:
    """Prompts from `since` up to but without `until`, with a fact of every property that is named.

    A property is what comes after the entity in a path (`source` of `abc/source`). Its value is one of those
    given; None stands for any value.
    """

    since: datetime | None = None
    until: datetime | None = None
    facts: Mapping[str, Collection[Value] | None] = field(default_factory=dict)

    def sql(self, twin: str) -> tuple[str, list[str | int]]:
        """A condition on `prompts` that begins with AND if there is one, and its parameters."""
        conditions: list[str] = []
        parameters: list[str | int] = []
        for time, condition in ((self.since, "prompts.at >= ?"), (self.until, "prompts.at < ?")):
            if time is not None:
                conditions.append(condition)
                parameters.append(micros(time))
        for name, values in self.facts.items():
            conditions.append(_WITH_FACT if values is None else _WITH_VALUE)
            parameters += [twin, property_glob(name)]
            if values is not None:
                # Values are kept as JSON, so they are compared as JSON.
                parameters.append(json.dumps([json.dumps(value, ensure_ascii=False) for value in values]))
        return "".join(f" AND {condition}" for condition in conditions), parameters


def property_glob(name: str) -> str:
    """A GLOB of the paths of a property, in which no sign of its name has a meaning."""
    return "*/" + "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


EVERYTHING = Only()
