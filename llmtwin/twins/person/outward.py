"""Whom a text was for and where it lies, as they may leave the edge. It marks and hides no text.

A name or an address of somebody else is under stand-ins, the same in a passage and in a question about it, so
that the server finds what was written to them and never reads who they are.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import unquote

from llmtwin.twins.person.addressed import instead
from llmtwin.twins.person.chunks import Passage
from llmtwin.twins.person.sources.web import is_address
from llmtwin.twins.person.voices import MESSAGES, tag
from llmtwin.twins.private.spans import Marker


def outward(passage: Passage, marker: Marker, key: bytes | None) -> Passage:
    """The passage, its audience and its address as they may be sent."""
    told = {"audience": audience(passage.audience, key), "address": _address(passage, marker)}
    return passage.model_copy(update=told)


def audience(exact: str, key: bytes | None) -> str:
    """The audience with a stand-in for whom it was; without a key, of what kind it was alone."""
    kind, _, whom = exact.partition(":")
    return f"{kind}:{instead(whom, key)}" if whom and key else kind


def place(address: str) -> str:
    """The address of a page, or the name of a file without its folders."""
    return address if is_address(address) else PurePosixPath(address).name


def _address(passage: Passage, marker: Marker) -> str:
    """The place of a passage; where that would name somebody, what it is from."""
    told = place(passage.address)
    is_private = tag(passage.audience) in MESSAGES or marker.mark_title(unquote(told))
    return passage.source if is_private else told
