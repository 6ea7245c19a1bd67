"""Users made of recorded sessions: given a conversation, one says what a recorded user said in a like place.

It invents nothing and asks no model, so that the same seed says the same; how much it is like the users on
record it measures itself, on sessions that it was not made of.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from llmtwin.errors import InputError

NEAREST = 3
"""The turn is drawn from so many that were said in the likest places."""
DIMENSIONS = 1024
RESAMPLES = 2000
OUTSIDE_SHARE = 0.05

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]
"""One unit vector a text, in their order."""


@dataclass(frozen=True)
class Turn:
    """What a user had heard, empty at the beginning, and said then."""

    heard: str
    said: str


Session = Sequence[Turn]


def turns(request: Mapping[str, Any]) -> tuple[Turn, ...]:
    """The turns of a conversation: those in the last chat request of a session. Empty where it is no chat."""
    found, heard = [], ""
    for message in request.get("messages") or ():
        text = _text(message.get("content"))
        if message.get("role") == "assistant":
            heard = text
        elif message.get("role") == "user":
            found.append(Turn(heard, text))
    return tuple(found)


class Words:
    """Texts as their words, weighted by how rare they are in the given ones (tf-idf, hashed)."""

    def __init__(self, texts: Iterable[str]) -> None:
        seen: Counter[int] = Counter()
        count = 0
        for text in texts:
            seen.update({_place(word) for word in _words(text)})
            count += 1
        shares = np.array([seen[place] for place in range(DIMENSIONS)])
        self._weights = np.log((1 + count) / (1 + shares)) + 1

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """One unit vector a text, in their order; nil for one without words."""
        found = np.zeros((len(texts), DIMENSIONS), np.float32)
        for row, text in enumerate(texts):
            for word, count in Counter(_words(text)).items():
                found[row, _place(word)] += count
        found *= self._weights
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        unit: Vectors = found / np.maximum(lengths, np.finfo(np.float32).tiny)
        return unit


class Users:
    """Makes users out of recorded sessions. Raises InputError where there is no turn on record."""

    def __init__(self, sessions: Iterable[Session], embed: Embed) -> None:
        self._sessions = [tuple(session) for session in sessions if session]
        if not self._sessions:
            raise InputError("no user says anything in the recorded sessions: record some first")
        self.embed = embed
        later = [
            (_place_of(session, number), session[number].said)
            for session in self._sessions
            for number in range(1, len(session))
        ]
        self._said = [said for _, said in later]
        self._places = embed([place for place, _ in later]) if later else None

    @property
    def later(self) -> list[str]:
        """What users said on record after the first turn."""
        return list(self._said)

    def user(self, seed: int | Sequence[int]) -> User:
        """A user: opens as one on record did, and ends after as many turns as one on record."""
        rng = np.random.default_rng(seed)
        opened_as = int(rng.integers(len(self._sessions)))
        length = len(self._sessions[rng.integers(len(self._sessions))])
        return User(self, rng, opened_as, length)

    def opening(self, number: int) -> str:
        """The first turn of a session on record."""
        return self._sessions[number][0].said

    def next(self, before: Session, heard: str, rng: np.random.Generator) -> str:
        """What is said after some turns and the answer to the last of them; empty where nobody went on."""
        if self._places is None:
            return ""
        place = self.embed([_place_of((*before, Turn(heard, "")), len(before))])[0]
        near = np.argsort(-(self._places @ place), kind="stable")[:NEAREST]
        return self._said[int(rng.choice(near))]


class User:
    """One simulated user in one conversation.

    `opened_as` says which of the sessions, those without a turn left out, it opens as; `turns_max` how many
    turns it says at most.
    """

    def __init__(self, users: Users, rng: np.random.Generator, opened_as: int, turns_max: int) -> None:
        self._users, self._rng = users, rng
        self.opened_as, self.turns_max = opened_as, turns_max
        self.session: tuple[Turn, ...] = ()

    def say(self, heard: str = "") -> str | None:
        """The next turn, after what was heard; None where the user has ended the conversation."""
        if len(self.session) >= self.turns_max:
            return None
        if self.session:
            said = self._users.next(self.session, heard, self._rng)
        else:
            said = self._users.opening(self.opened_as)
        if not said:
            return None
        self.session = (*self.session, Turn(heard, said))
        return said


@dataclass(frozen=True)
class Fidelity:
    """How like the users on record the simulated ones are, over so many held-out turns.

    `similarity` is the mean cosine between what is simulated and what was said; `floor` that of a turn drawn
    at random, and `ceiling` that of the best turn that could have been chosen. `score` says where between
    them it lies, 0 for no better than chance, 1 for as good as can be, with its 95 % interval over sessions.
    `told_apart` is how often a nearest-neighbour test tells a simulated turn from a real one: 0.5 is never,
    1 always; it sees whether the turns are such as users say, not whether they are in their place.
    """

    turns: int
    similarity: float
    floor: float
    ceiling: float
    score: float
    low: float
    high: float
    told_apart: float


def fidelity(users: Users, held_out: Iterable[Session], seed: int = 0) -> Fidelity:
    """Measure users on sessions they were not made of. Raises InputError for fewer than two of two turns."""
    sessions = [session for session in held_out if len(session) > 1]
    if len(sessions) < 2 or not users.later:
        raise InputError("fidelity takes two held-out sessions of two turns, and users who say more than one")
    rng = np.random.default_rng(seed)
    asked = [
        (number, session, at) for number, session in enumerate(sessions) for at in range(1, len(session))
    ]
    true = users.embed([session[at].said for _, session, at in asked])
    made = users.embed([users.next(session[:at], session[at].heard, rng) for _, session, at in asked])
    pool = users.embed(users.later)
    near = true @ pool.T
    scores = np.stack([(true * made).sum(axis=1), near.mean(axis=1), near.max(axis=1)])
    owner = np.array([number for number, _, _ in asked])
    sums = np.stack([np.bincount(owner, row) for row in scores])  # (3, sessions)
    drawn = sums[:, rng.integers(len(sessions), size=(RESAMPLES, len(sessions)))].sum(axis=2)
    low, high = np.quantile(_between(drawn), [OUTSIDE_SHARE / 2, 1 - OUTSIDE_SHARE / 2])
    similarity, floor, ceiling = scores.mean(axis=1)
    return Fidelity(
        turns=len(asked),
        similarity=float(similarity),
        floor=float(floor),
        ceiling=float(ceiling),
        score=float(_between(sums.sum(axis=1))),
        low=float(low),
        high=float(high),
        told_apart=_told_apart(true, made),
    )


def _between(sums: NDArray[Any]) -> NDArray[Any]:
    similarity, floor, ceiling = sums
    return np.asarray((similarity - floor) / np.maximum(ceiling - floor, 1e-9))


def _told_apart(true: Vectors, made: Vectors) -> float:
    """The share of turns whose nearest other turn is of their own sort (1-NN, leave one out)."""
    both = np.concatenate([true, made])
    near = both @ both.T
    np.fill_diagonal(near, -np.inf)
    is_made = np.arange(len(both)) >= len(true)
    # Equal texts are on both sides: such a draw counts half.
    best = near.max(axis=1, keepdims=True)
    nearest = near >= best - 1e-6
    own = nearest & (is_made[:, None] == is_made)
    return float((own.sum(axis=1) / nearest.sum(axis=1)).mean())


def _place_of(session: Session, number: int) -> str:
    """Where a turn is said: what the user said before, and heard since."""
    return f"{session[number - 1].said}\n{session[number].heard}"


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict)).strip()
    return content if isinstance(content, str) else ""


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _place(word: str) -> int:
    return crc32(word.encode(errors="replace")) % DIMENSIONS
