"""What a kind of twin is to those who ask it, and how kinds are found. It knows no kind by name.

A kind is found through the entry point group `llmtwin.kinds`, so that another package can bring one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from llmtwin.errors import InputError
from llmtwin.memory import Memory
from llmtwin.models.engine.api import Engine
from llmtwin.records import (
    Adapter,
    Answer,
    Command,
    Correction,
    Description,
    Document,
    Example,
    Material,
    Observation,
    Preference,
    Prompt,
    Question,
    Trace,
)

if TYPE_CHECKING:
    from llmtwin.models.tune import TuneOptions

GROUP = "llmtwin.kinds"


@dataclass(frozen=True)
class View:
    """What an answer may use: nothing outside it belongs to the asker.

    `adapters` are names for the engine, the kind's skill first; `skill` is the skill's name among them and
    `adapter` the twin's own version, None before the first push. `cohort` are the twins whose data the
    asker may aggregate, this one included. `order` checks a command against the description, stores it as
    desired and returns it as stored; it raises InputError for a command that the description does not
    allow, and Denied where `may_order` is false.
    """

    engine: Engine
    memory: Memory
    description: Description
    adapters: tuple[str, ...]
    adapter: Adapter | None
    skill: str | None
    cohort: tuple[str, ...]
    cohort_size_min: int
    may_order: bool
    order: Callable[[Command], Command]


@dataclass(frozen=True)
class Skipped:
    """Something that was left out of what was read, by name, and why, in one line."""

    name: str
    reason: str

    def __post_init__(self) -> None:
        # Names of files may hold bytes that are no text.
        object.__setattr__(self, "name", self.name.encode(errors="replace").decode())
        reason = " ".join(self.reason.split())
        object.__setattr__(self, "reason", reason.encode(errors="replace").decode())


@dataclass(frozen=True)
class Known:
    """What is known of a subject before it is read.

    `names` are what the subject is called, `sealed` globs of what is secret, `state` is the last reading's,
    `documents` are those that were collected so far, and `corrections` the owner's, of answers. `key` is the
    owner's, for stand-ins in what is stored; without it what is read has them already.
    """

    twin: str
    names: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    state: str | None = None
    documents: tuple[Document, ...] = ()
    corrections: tuple[Correction, ...] = ()
    key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Reading:
    """What sources say of a subject.

    `state` is for the next reading: what was sent already is not sent again. `items` counts what the sources
    hold, in the kind's own unit. A document takes the place of the one at its address. `notes` are what else
    is to be known, a line each.
    """

    observations: tuple[Observation, ...] = ()
    documents: tuple[Document, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    state: str = ""
    description: Description | None = None
    items: int = 0
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Voice:
    """Which documents a version learns from: those for one audience, from `since` up to without `until`."""

    audience: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __str__(self) -> str:
        """As a card says it, which names nobody."""
        parts = (
            f"for {self.audience.partition(':')[0]}" if self.audience else "",
            f"from {self.since:%Y-%m-%d}" if self.since else "",
            f"until {self.until:%Y-%m-%d}" if self.until else "",
        )
        return " ".join(filter(None, parts))


ALL = Voice()
"""Everything that was collected."""


@dataclass(frozen=True)
class Lessons:
    """What an adapter learns of documents and corrections, and what it is measured on and never sees.

    `tasks` are those of the examples whose prompts nobody said: a better one may take the prompt's place.
    `learned` are the addresses of the documents that the examples are made of; `held_out` are the texts of
    others by their addresses. `traces` are another model's replies, to be distilled, and `held_traces` those
    to be measured on; `held_sessions` says, by the same addresses, which of these belong together. `notes`
    are for the card, a line each.
    """

    examples: tuple[Example, ...] = ()
    tasks: tuple[Example, ...] = ()
    preferences: tuple[Preference, ...] = ()
    learned: tuple[str, ...] = ()
    held_out: Mapping[str, str] = field(default_factory=dict)
    traces: tuple[Trace, ...] = ()
    held_traces: Mapping[str, Trace] = field(default_factory=dict)
    held_sessions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Veiled:
    """A question as it leaves the edge; `meant` says what its stand-ins stand for."""

    text: str
    meant: Mapping[str, str] = field(default_factory=dict)

    def unveiled(self, answer: Answer) -> Answer:
        """An answer to it that says what was meant."""
        longest_first = sorted(self.meant, key=len, reverse=True)
        either = "|".join(map(re.escape, longest_first)) or r"(?!)"
        text = re.sub(rf"(?<!\w)(?:{either})(?!\w)", lambda found: self.meant[found[0]], answer.text)
        return answer.model_copy(update={"text": text})


class Kind(Protocol):
    """A kind of twin: what it is made of, what it learns, and how questions to it are answered."""

    name: str

    def read(self, sources: Sequence[str], known: Known) -> Reading:
        """Read files, folders or addresses, oldest first; where none is named, say again what is due anew.

        Raises InputError for one that is not of this kind.
        """
        ...

    def unrecord(self, folder: Path, documents: Sequence[Document]) -> None:
        """Take documents out of what a proxy recorded in a folder. Raises Unavailable where it cannot be."""
        ...

    def skill(self, base_hash: str) -> Path | None:
        """The folder of the kind's own adapter for that base; None where it has none that fits."""
        ...

    def example(self, observation: Observation) -> Example:
        """What an adapter learns of one private fact, in plain words."""
        ...

    def lessons(self, known: Known, voice: Voice, count_tokens: Callable[[str], int], key: bytes) -> Lessons:
        """What an adapter learns of documents and corrections.

        `key` is the owner's, for stand-ins of what is private.
        """
        ...

    def written(self, said: Sequence[str], by_base: Sequence[str], lessons: Lessons) -> dict[str, float]:
        """What a card says of texts that a new version, and that the base, wrote on the same prompts."""
        ...

    def teaches(self, document: Document) -> bool:
        """Whether a document that came is a reason to learn again."""
        ...

    def correction(self, question: str, answer: Answer, text: str) -> Correction:
        """The owner's `text` in place of an answer, as the next tuning prefers it.

        Raises InputError where no tuning would change the answer.
        """
        ...

    def tuning(self, count: int = 0) -> TuneOptions:
        """How its adapters are tuned on so many facts; rank and layers are the same for any number."""
        ...

    def material(self, source: str) -> Material:
        """Read a file or an address that is given with a question.

        Raises InputError where it cannot be read, or the kind makes no use of any.
        """
        ...

    def veil(self, question: str, key: bytes) -> Veiled:
        """A question with stand-ins for what must not leave the edge.

        `key` is the owner's, as for `read`: what the server knows under a stand-in it finds by it.
        """
        ...

    def answer(self, question: Question, view: View) -> Answer:
        """Answer one question from what the view holds; what is not known is said to be unknown.

        Raises InputError for material that the kind makes no use of.
        """
        ...


@cache
def kind(name: str) -> Kind:
    """The kind of that name. Raises InputError with the names there are."""
    known = entry_points(group=GROUP)
    if name not in known.names:
        raise InputError(f"no kind of twin has that name; there are: {', '.join(sorted(known.names))}")
    made: Kind = known[name].load()()
    return made
