"""Reads the sentences that twins are tested with. No generator of training examples reads them.

A file of phrasings is YAML with these six entries, each sentence with exactly the slots named here:

    setting   sentences about a private fact      {device} {property}
    now       sentences about a state now         {device} {property}
    past      sentences about an earlier state    {device} {property} {time}
    compare   by average, minimum, maximum, count (of homes that have it)    {property}
    order     by "on", "off", open, close, lock, unlock                 {device}
              and set                                                   {device} {property} {value}
    relative  by raise, lower, set: orders to go above, below, or just
              to the average of all homes                               {device} {property}

`setting` has at least eight sentences, every other list at least one. `on` and `off` must be quoted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Formatter
from typing import Annotated, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from llmtwin.errors import InputError
from llmtwin.records import Record, Statistic
from llmtwin.twins.home.plan import Act

DEFAULT = Path(__file__).parent / "phrasings.yaml"
STATISTICS = (Statistic.AVERAGE, Statistic.MINIMUM, Statistic.MAXIMUM, Statistic.COUNT)
ORDERS = (Act.ON, Act.OFF, Act.OPEN, Act.CLOSE, Act.LOCK, Act.UNLOCK, Act.SET)
RELATIVES = (Act.RAISE, Act.LOWER, Act.SET)

Sentences = Annotated[tuple[str, ...], Field(min_length=1)]


class Phrasings(Record):
    """Sentences with slots, by what they ask or order."""

    setting: Annotated[tuple[str, ...], Field(min_length=8)]
    now: Sentences
    past: Sentences
    compare: Mapping[Statistic, Sentences]
    order: Mapping[Act, Sentences]
    relative: Mapping[Act, Sentences]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, given, wanted in (
            ("compare", set(self.compare), set(STATISTICS)),
            ("order", set(self.order), set(ORDERS)),
            ("relative", set(self.relative), set(RELATIVES)),
        ):
            if given != wanted:
                raise ValueError(f"`{name}` must have the entries {', '.join(sorted(wanted))}")
        for sentence, slots in self._sentences():
            if _slots(sentence) != slots:
                named = " ".join(f"{{{slot}}}" for slot in sorted(slots))
                raise ValueError(f"{sentence!r} must have exactly the slots {named}")
        return self

    def _sentences(self) -> Iterator[tuple[str, set[str]]]:
        """Every sentence with the slots it must have."""
        thing = {"device", "property"}
        for sentences, slots in (
            (self.setting, thing),
            (self.now, thing),
            (self.past, thing | {"time"}),
            *((found, {"property"}) for found in self.compare.values()),
            *((found, {"device"}) for act, found in self.order.items() if act is not Act.SET),
            (self.order[Act.SET], thing | {"value"}),
            *((found, thing) for found in self.relative.values()),
        ):
            for sentence in sentences:
                yield sentence, slots


def read_phrasings(path: Path = DEFAULT) -> Phrasings:
    """The phrasings in a file. Raises InputError that says what is wrong in it."""
    try:
        return Phrasings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise InputError(f"{path}: {f'{place}: ' if place else ''}{first['msg']}") from error


def _slots(sentence: str) -> set[str]:
    try:
        return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}
    except ValueError:
        return set()
