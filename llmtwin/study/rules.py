"""A twin without a model: a few fixed phrasings, and an exact look-up over the dump. It asks nobody."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from llmtwin.records import Fact, Observation

PHRASINGS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        r"(?:what is|what's) the (?P<property>.+) (?:of|on|for|in) the (?P<device>.+)",
        r"(?:tell me|show me|give me|look up|check) the (?P<property>.+) (?:of|on|for|in) the (?P<device>.+)",
        r"what (?P<property>.+) (?:has|does) the (?P<device>.+?)(?: have)?",
        r"the (?P<device>.+)'s (?P<property>.+)",
        r"(?P<property>.+) (?:of|on|for|in) (?:the )?(?P<device>.+)",
        r"(?P<device>[^:]+): (?P<property>.+)",
    )
)
"""What it can read, all of a question, written without a look at those that twins are tested with."""
POLITE = re.compile(r"^(?:please|could you|can you),? |,? please$", re.IGNORECASE)


class RuleTwin:
    """Answers from the values of a dump by device and property."""

    def __init__(self, known: Iterable[Observation]) -> None:
        self._known = {(one.device.casefold(), one.property.casefold()): one.fact for one in known}

    def answer(self, text: str) -> Fact | None:
        """The fact that is asked for; None where no phrasing fits or the dump has nothing of that name."""
        found = (self.known(*reading) for reading in readings(text))
        return next((fact for fact in found if fact is not None), None)

    def known(self, device: str, property: str) -> Fact | None:
        """What the dump has of a property of a device; nothing is read."""
        return self._known.get((device.casefold(), property.casefold()))


def readings(text: str) -> Iterator[tuple[str, str]]:
    """The device and property that a question may be about, by each phrasing that fits."""
    asked = POLITE.sub("", " ".join(text.split()).rstrip("?.! "))
    for phrasing in PHRASINGS:
        if found := phrasing.fullmatch(asked):
            yield found["device"], found["property"]
