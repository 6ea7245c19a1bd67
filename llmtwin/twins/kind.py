"""What a kind of twin is to those who ask it, and how kinds are found. It knows no kind by name.

A kind is found through the entry point group `llmtwin.kinds`, so that another package can bring one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from llmtwin.errors import InputError
from llmtwin.memory import Memory
from llmtwin.models.engine.api import Engine
from llmtwin.records import (
    Adapter,
    Answer,
    Command,
    Description,
    Example,
    Observation,
    Prompt,
    Question,
)

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
    """Something that was left out of what was read, by name, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Reading:
    """What files say of a subject.

    `state` is for the next reading: what was sent already is not sent again. `items` counts what the files
    hold, in the kind's own unit.
    """

    observations: tuple[Observation, ...]
    prompts: tuple[Prompt, ...]
    state: str
    description: Description | None
    items: int
    skipped: tuple[Skipped, ...]


class Kind(Protocol):
    """A kind of twin: what it is made of, what it learns, and how questions to it are answered."""

    name: str

    def read(self, files: Sequence[Path], twin: str, sealed: Sequence[str], state: str | None) -> Reading:
        """Read files, oldest first; `sealed` are globs of what is secret, `state` is the last reading's.

        Raises InputError for a file that is not of this kind.
        """
        ...

    def skill(self, base_hash: str) -> Path | None:
        """The folder of the kind's own adapter for that base; None where it has none that fits."""
        ...

    def example(self, observation: Observation) -> Example:
        """What an adapter learns of one private fact, in plain words."""
        ...

    def answer(self, question: Question, view: View) -> Answer:
        """Answer one question from what the view holds; what is not known is said to be unknown."""
        ...


@cache
def kind(name: str) -> Kind:
    """The kind of that name. Raises InputError with the names there are."""
    known = entry_points(group=GROUP)
    if name not in known.names:
        raise InputError(f"no kind of twin has that name; there are: {', '.join(sorted(known.names))}")
    made: Kind = known[name].load()()
    return made
