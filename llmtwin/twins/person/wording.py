"""How a person twin is asked to write, alike when it learns and when it is asked. It writes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

GENRES = {
    "blog": "blog post",
    "newsletter": "newsletter",
    "social": "post",
    "notes": "note",
    "mail": "mail",
    "chat": "message",
    "commit": "commit message",
    "draft": "draft",
}


Way = Literal["task", "reply", "continuation"]


def genre(tag: str) -> str:
    """What one piece of writing for that kind of audience is called."""
    return GENRES.get(tag, "text")


def task(genre: str, subject: str) -> str:
    """To write something, about its title where it has one."""
    return f"Write a {genre} about this: {subject}" if subject else f"Write a {genre}."


def reply(genre: str, text: str) -> str:
    """To answer what somebody else wrote."""
    return f"Reply to this {genre}:\n\n{text}"


def continuation(genre: str, opening: str) -> str:
    """To go on after an opening."""
    return f"Continue this {genre}:\n\n{opening}"


def with_points(asked: str, points: Iterable[str]) -> str:
    """The same, saying these points."""
    return "\n".join([f"{asked}\n\nMake these points:", *(f"- {point}" for point in points)])


@dataclass(frozen=True)
class Task:
    """Something to write: about a subject, in reply to a text, or on from an opening.

    `genre` is empty where none was named, and `about` may be: then it is about what was given beside it.
    """

    kind: Way
    genre: str
    about: str

    def prompt(self, genre: str) -> str:
        """How an adapter is asked for it."""
        return {"task": task, "reply": reply, "continuation": continuation}[self.kind](genre, self.about)


_SAID = {
    "blog post": "blog post", "blog entry": "blog post", "article": "blog post", "essay": "blog post",
    "newsletter": "newsletter", "post": "post", "note": "note", "e-mail": "mail", "email": "mail",
    "mail": "mail", "letter": "mail", "message": "message", "commit message": "commit message",
    "draft": "draft", "text": "text", "paragraph": "text",
}  # fmt: skip
_GENRE = rf"(?:(?P<genre>{'|'.join(sorted(_SAID, key=len, reverse=True))})s?)"
_PLEASE = r"\s*(?:(?:please|can you|could you|would you|now)[, ]+)*"
_THIS = r"(?:this|the following|that|my|the|a|an)"
_PATTERNS: tuple[tuple[Way, str], ...] = (
    (
        "reply",
        rf"(?:(?:write|draft|compose)(?: me)? (?:a |an |my )?)?(?:reply|response|respond)(?: to)? {_THIS}"
        rf"(?: {_GENRE})?\s*(?::\s*(?P<about>.+)|[.]?$)",
    ),
    ("reply", rf"answer {_THIS} {_GENRE}\s*(?::\s*(?P<about>.+)|[.]?$)"),
    ("continuation", rf"continue(?: writing)?(?: {_THIS})?(?: {_GENRE})?\s*:\s*(?P<about>.+)"),
    (
        "task",
        rf"(?:write|draft|compose)(?: me| us)?(?: {_THIS}| some)?(?: (?:short|long|new|brief))?"
        rf"(?: {_GENRE})?(?: (?:about|on|of|for|regarding))?(?: this)?\s*[:.]?(?:\s+(?P<about>.*))?$",
    ),
)
_TASKS = tuple(
    (kind, re.compile(_PLEASE + pattern, re.IGNORECASE | re.DOTALL)) for kind, pattern in _PATTERNS
)


def task_of(text: str) -> Task | None:
    """What a person asks to have written; None for a question."""
    for kind, pattern in _TASKS:
        if match := pattern.match(text):
            said = _SAID[match["genre"].casefold()] if match["genre"] else ""
            return Task(kind, said, (match["about"] or "").strip())
    return None
