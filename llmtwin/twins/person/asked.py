"""What a question says beside its subject: when, where and to whom it was written. It ranks nothing.

Only what exists in memory becomes a filter. What does not is named, so that it is never taken for something
else, and nothing is ever made of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from llmtwin.memory import Memory
from llmtwin.memory.only import EVERYTHING, Only
from llmtwin.records import Value
from llmtwin.twins.person.addressed import addressee, each
from llmtwin.twins.person.language import words
from llmtwin.twins.person.remember import AUDIENCE, DATE, SOURCE
from llmtwin.twins.person.times import stretches
from llmtwin.twins.person.voices import tag

# How people call what a source or an audience is tagged with.
_PLACES = {
    "mail": "mail", "email": "mail", "e-mail": "mail", "letter": "mail", "blog": "blog",
    "newsletter": "newsletter", "note": "notes", "notebook": "notes", "chat": "chat", "commit": "commit",
    "commit message": "commit", "git": "git", "whatsapp": "whatsapp", "medium": "medium",
    "substack": "substack", "wordpress": "wordpress", "linkedin": "linkedin", "draft": "draft", "doc": "docs",
    "documentation": "docs",
}  # fmt: skip
_NAMES = "|".join(sorted(map(re.escape, _PLACES), key=len, reverse=True))
_PLACE = re.compile(
    rf"\b(?:in|on|from|by|via) (?:(?:one|any|all|some) of )?(?P<whose>your|my|an?)\s(?P<place>{_NAMES})s?"
    r"(?: (?:posts?|messages?|account))?\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Asked:
    """A question taken apart: its subject, what filters it, said as the twin would, and what memory lacks."""

    subject: str
    only: Only
    filters: tuple[str, ...]
    lacking: str | None


@dataclass(frozen=True)
class _Narrowing:
    """One filter, None where memory has no such thing."""

    only: Only | None
    said: str
    span: tuple[int, int]


def take_apart(text: str, memory: Memory, twin: str, now: datetime) -> Asked:
    """Find the filters in a question; of several times all must hold."""
    only, filters, lacking = EVERYTHING, [], None
    cuts: list[tuple[int, int]] = []
    for narrowing in _narrowings(text, memory, twin, now):
        filters.append(narrowing.said)
        cuts.append(narrowing.span)
        if narrowing.only is None:
            lacking = lacking or narrowing.said
        else:
            only = _both(only, narrowing.only)
    subject = text
    for start, end in sorted(cuts, reverse=True):
        subject = f"{subject[:start].rstrip()} {subject[end:].lstrip()}"
    return Asked(subject.strip(), only, tuple(filters), lacking)


def _narrowings(text: str, memory: Memory, twin: str, now: datetime) -> Iterator[_Narrowing]:
    for stretch in stretches(text, now):
        # An undated passage belongs to no time.
        dated = Only(stretch.since, stretch.until, {DATE: None})
        yield _Narrowing(dated, text[stretch.start : stretch.end], (stretch.start, stretch.end))
    reader, places = addressee(text), list(_PLACE.finditer(text))
    if reader is None and not places:
        return
    audiences, sources = memory.values(twin, AUDIENCE), memory.values(twin, SOURCE)
    for match in places:
        only = _place(_PLACES[match["place"].casefold()], audiences, sources)
        if only is not None or match["whose"].casefold() in ("my", "your"):
            yield _Narrowing(only, re.sub(r"\byour\b", "my", match[0], flags=re.IGNORECASE), match.span())
    if reader is not None:
        known = _for(reader["who"], audiences)
        only = Only(facts={AUDIENCE: known}) if known else None
        yield _Narrowing(only, f"to {reader['who']}", reader.span("who"))


def _place(wanted: str, audiences: list[Value], sources: list[Value]) -> Only | None:
    """What was written for such an audience, or else is from such a source."""
    if fits := [one for one in audiences if tag(str(one)) == wanted]:
        return Only(facts={AUDIENCE: fits})
    return Only(facts={SOURCE: [wanted]}) if wanted in sources else None


def _for(who: str, audiences: list[Value]) -> list[Value]:
    """The audiences that are of these names or addresses; none where one of them has none."""
    named = [set(words(name)) for name in each(who)]
    fits = [[one for one in audiences if name <= set(words(str(one).partition(":")[2]))] for name in named]
    return [one for some in fits for one in some] if all(fits) else []


def _both(one: Only, other: Only) -> Only:
    """What both admit; of two lists of values for a property only the common ones."""
    begins = [time for time in (one.since, other.since) if time]
    ends = [time for time in (one.until, other.until) if time]
    facts = dict(one.facts)
    for name, values in other.facts.items():
        before = facts.get(name)
        facts[name] = values if before is None else [v for v in before if values is None or v in values]
    return Only(max(begins, default=None), min(ends, default=None), facts)
