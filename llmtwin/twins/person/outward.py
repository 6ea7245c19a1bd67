"""Whom a text was for and where it lies, as they may leave the edge. It marks and hides no text.

A name or an address of somebody else is under stand-ins, the same in a passage and in a question about it, so
that the server finds what was written to them and never reads who they are.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import unquote

from llmtwin.twins.kind import Veiled
from llmtwin.twins.person.asked import addressee
from llmtwin.twins.person.chunks import Passage
from llmtwin.twins.person.language import words
from llmtwin.twins.person.sources.web import is_address
from llmtwin.twins.person.voices import MESSAGES, tag
from llmtwin.twins.private.spans import Marker, Span, SpanKind
from llmtwin.twins.private.stand_ins import stand_ins


def outward(passage: Passage, marker: Marker, key: bytes | None) -> Passage:
    """The passage, its audience and its address as they may be sent."""
    told = {"audience": audience(passage.audience, key), "address": _address(passage, marker)}
    return passage.model_copy(update=told)


def audience(exact: str, key: bytes | None) -> str:
    """The audience with a stand-in for whom it was; without a key, of what kind it was alone."""
    kind, _, whom = exact.partition(":")
    return f"{kind}:{_instead(whom, key)}" if whom and key else kind


def veil(question: str, key: bytes) -> Veiled:
    """The question with a stand-in for whom it asks about as the reader of a text."""
    found = addressee(question)
    if found is None:
        return Veiled(question)
    start, end = found.span("who")
    instead = _instead(found["who"], key)
    return Veiled(f"{question[:start]}{instead}{question[end:]}", {instead: found["who"]})


def _address(passage: Passage, marker: Marker) -> str:
    """The address of a page, or the name of a file; where that would name somebody, what it is from."""
    told = passage.address if is_address(passage.address) else PurePosixPath(passage.address).name
    is_private = tag(passage.audience) in MESSAGES or marker.mark_title(unquote(told))
    return passage.source if is_private else told


def _instead(whom: str, key: bytes) -> str:
    """An invented name for each word of a name or an address, written so that a question may hold it."""
    said = " ".join(word.capitalize() for word in words(whom))
    return stand_ins(said, [Span(start=0, end=len(said), kind=SpanKind.NAME)], key)
