"""Measures how a twin's reply to an input is like the primary's, a pair at a time. It knows no statistics.

A measure that is better when higher is an agreement from 0 to 1; one that is better when lower is a distance
from 0. None is said where a reply lacks what is measured.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from math import isfinite, log
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from llmtwin.errors import InputError
from llmtwin.memory.embed import Vectors
from llmtwin.twins.model.logprobs import divergences, mean
from llmtwin.twins.model.reply import Reply

REFUSALS = (
    "i can't help",
    "i can't assist",
    "i can't provide",
    "i can't fulfill",
    "i cannot",
    "i'm unable to",
    "i am unable to",
    "i'm not able to",
    "i am not able to",
    "i won't",
    "i must decline",
    "as an ai",
)
"""How refusals of English-speaking models open, after at most one apology. A list like this misses some."""
_APOLOGY = re.compile(
    r"(?:i'm (?:very )?sorry|i am (?:very )?sorry|sorry|i apologi[sz]e|unfortunately)[^\w']*(?:but )?"
)


class Better(StrEnum):
    """Which way a measure is better."""

    HIGHER = "higher"
    LOWER = "lower"


class Measure(Protocol):
    """What is measured of a pair of replies to the same input."""

    @property
    def name(self) -> str:
        """What it is called in results; no two measures of one comparison share it."""

    @property
    def better(self) -> Better:
        """Whether replies are more alike when it is higher, or when it is lower."""

    def score(self, primary: Reply, twin: Reply) -> float | None:
        """The measure of one pair, or None where it says nothing of this one."""


class Embeds(Protocol):
    """Makes unit vectors of texts, as `memory.embed.Embedder` does."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One vector a text, in their order."""


Check = Callable[[Reply], float | None]
"""What a reply alone is worth, from 0 to 1."""


@dataclass(frozen=True)
class ExactMatch:
    """1 where text and tool calls are the same to the last character."""

    name: str = "exact_match"
    better: Better = Better.HIGHER

    def score(self, primary: Reply, twin: Reply) -> float:
        """0 or 1."""
        return float((primary.text, primary.tool_calls) == (twin.text, twin.tool_calls))


@dataclass(frozen=True)
class NormalisedMatch:
    """1 where the texts are the same but for case, blanks, punctuation and Unicode form (NFKC)."""

    name: str = "normalised_match"
    better: Better = Better.HIGHER

    def score(self, primary: Reply, twin: Reply) -> float:
        """0 or 1."""
        return float(normalised(primary.text) == normalised(twin.text))


DIGITS = 6
"""Of a distance of embeddings, which have seven: what is alike is 0, and not the noise of their last one."""


@dataclass(frozen=True)
class EmbeddingDistance:
    """1 less the cosine of the texts' embeddings: 0 to 2."""

    embedder: Embeds
    name: str = "embedding_distance"
    better: Better = Better.LOWER

    def score(self, primary: Reply, twin: Reply) -> float | None:
        """None where either text is empty, which has no meaning to be near to."""
        if not (primary.text.strip() and twin.text.strip()):
            return None
        one, other = self.embedder.embed([primary.text, twin.text])
        return max(0.0, round(1 - float(np.dot(one, other)), DIGITS))


@dataclass(frozen=True)
class LengthRatio:
    """How many times longer the longer reply is, as a natural log: 0 where both are as long."""

    unit: Literal["characters", "tokens"] = "characters"
    better: Better = Better.LOWER

    @property
    def name(self) -> str:
        """Of which unit it counts."""
        return f"length_ratio_{self.unit}"

    def score(self, primary: Reply, twin: Reply) -> float | None:
        """Of lengths and one, since a reply may be empty; None where tokens are not known."""
        one, other = (reply.text if self.unit == "characters" else reply.tokens for reply in (primary, twin))
        if one is None or other is None:
            return None
        return abs(log((len(one) + 1) / (len(other) + 1)))


@dataclass(frozen=True)
class TokenDivergence:
    """What KL or JS is at least, or at most, on average over the places of the primary's reply, in nats.

    The twin's tokens are the primary's own, as the twin would have continued them (`logprobs.divergences`).
    """

    kind: Literal["kl", "js"] = "js"
    end: Literal["low", "high"] = "low"
    twin_full: bool = False
    better: Better = Better.LOWER

    @property
    def name(self) -> str:
        """Kind and end of the bounds."""
        return f"token_{self.kind}_{self.end}"

    def score(self, primary: Reply, twin: Reply) -> float | None:
        """None without log-probabilities or bound. Raises NotComparable where tokens do not line up."""
        if not primary.tokens or not twin.tokens:
            return None
        found = mean(divergences(primary.tokens, twin.tokens, twin_full=self.twin_full))
        bounds = found.kl if self.kind == "kl" else found.js
        value = bounds.low if self.end == "low" else bounds.high
        return value if isfinite(value) else None


@dataclass(frozen=True)
class CheckDifference:
    """How far a check of each reply alone differs: 1 where one passes and the other does not."""

    name: str
    check: Check
    better: Better = Better.LOWER

    def score(self, primary: Reply, twin: Reply) -> float | None:
        """0 to 1; None where the check says nothing of either."""
        one, other = self.check(primary), self.check(twin)
        return None if one is None or other is None else abs(one - other)


@dataclass(frozen=True)
class FollowsSchema:
    """Passes a reply whose whole text is JSON by a schema, of which no part is fetched from elsewhere.

    Raises InputError for what is no JSON schema.
    """

    schema: Mapping[str, Any]

    def __call__(self, reply: Reply) -> float:
        """0 or 1."""
        from referencing.exceptions import Unresolvable

        try:
            given = json.loads(reply.text)
        except (ValueError, RecursionError):
            return 0.0
        try:
            return float(self._validator.is_valid(given))
        except Unresolvable as error:
            raise InputError(f"the JSON schema refers to what is not in it: {_line(error)}") from error

    @cached_property
    def _validator(self) -> Any:
        from jsonschema.exceptions import SchemaError
        from jsonschema.validators import validator_for
        from referencing import Registry

        made = validator_for(self.schema)
        try:
            made.check_schema(self.schema)
        except SchemaError as error:
            raise InputError(f"this is no JSON schema: {error.message}") from error
        return made(self.schema, registry=Registry())


@dataclass(frozen=True)
class Matches:
    """Passes a reply in which a regular expression is found. Raises InputError for what is none."""

    pattern: str
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "_compiled", re.compile(self.pattern))
        except re.error as error:
            raise InputError(f"{self.pattern!r} is no regular expression: {error}") from error

    def __call__(self, reply: Reply) -> float:
        """0 or 1."""
        return float(self._compiled.search(reply.text) is not None)


def refuses(reply: Reply) -> float:
    """1 where the model says that it refused, or the text opens as a refusal does."""
    text = " ".join(unicodedata.normalize("NFKC", reply.text).replace("\u2019", "'").lower().split())
    opening = _APOLOGY.sub("", text, count=1) if _APOLOGY.match(text) else text
    return float(reply.refused or opening.startswith(REFUSALS))


@dataclass(frozen=True)
class Function:
    """A user's own check of a text, named as `file.py:function` or `module:function`; it runs as their code.

    It takes the reply's text, and returns a bool or a number from 0 to 1. Raises InputError where there is
    no such function, where it fails, and where it returns anything else.
    """

    where: str

    def __call__(self, reply: Reply) -> float:
        """0 to 1."""
        try:
            said = self._function(reply.text)
        except Exception as error:  # a user's code may raise anything
            raise InputError(f"{self.where} failed: {type(error).__name__}: {_line(error)}") from error
        if not isinstance(said, bool | int | float) or not 0 <= said <= 1:
            raise InputError(f"{self.where} returned {said!r}: return a bool, or a number from 0 to 1")
        return float(said)

    @cached_property
    def _function(self) -> Callable[[str], Any]:
        module, _, name = self.where.rpartition(":")
        if not module or not name:
            raise InputError(f"{self.where!r} names no function: write file.py:function or module:function")
        try:
            loaded = _of_file(Path(module)) if module.endswith(".py") else importlib.import_module(module)
        except Exception as error:
            raise InputError(f"{module} cannot be loaded: {type(error).__name__}: {_line(error)}") from error
        found = getattr(loaded, name, None)
        if not callable(found):
            raise InputError(f"there is no function {name} in {module}")
        return found  # type: ignore[no-any-return]


def normalised(text: str) -> str:
    """A text without case, punctuation and superfluous blanks, in compatibility form (NFKC)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = (" " if unicodedata.category(sign).startswith("P") else sign for sign in folded)
    return " ".join("".join(kept).split())


def _of_file(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise InputError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
