"""Asks again what was asked, under a change, and pairs each answer with the recorded one. It knows no HTTP.

Each request is asked with the history that was recorded, so that pairs differ by the change alone; where
another answer would have led a conversation, `users` says.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from llmtwin.errors import InputError, LlmtwinError
from llmtwin.twins.model.address import checked_address
from llmtwin.twins.model.again import harmless, why_not

TEMPERATURE_MAX = 2.0

Json = dict[str, Any]
Ask = Callable[[Json], Json]
"""From a request to its response; raises whatever goes wrong."""
Recorded = tuple[Mapping[str, Any], Mapping[str, Any]]
"""A request and its response."""

INSTRUCTING = ("system", "developer")
"""Who gives instructions in a chat."""


@dataclass(frozen=True)
class Change:
    """What is to be otherwise; None is as it was. `prompt` is the text of the system prompt.

    `base` is the URL of an endpoint: whoever makes the `Ask` reads it, a request does not say it.
    """

    prompt: str | None = None
    temperature: float | None = None
    model: str | None = None
    base: str | None = None

    def of(self, request: Mapping[str, Any]) -> Json:
        """The request under the change, such that only an answer comes of it; the given one is left alone.

        Raises InputError for a request that cannot be asked again like that, and for a system prompt in one
        that has no place for it.
        """
        if (why := why_not(request)) is not None:
            raise InputError(why)
        changed = harmless(deepcopy(dict(request)))
        if self.model is not None:
            changed["model"] = self.model
        if self.temperature is not None:
            changed["temperature"] = self.temperature
        return changed if self.prompt is None else _instructed(changed, self.prompt)

    def holds(self, request: Mapping[str, Any]) -> bool:
        """Whether a request is already as the change would have it; what it does not say is passed over."""
        try:
            return self.of(request) == Change().of(request)
        except InputError:
            return False

    @property
    def hash(self) -> str:
        """Names the change; of a system prompt it is the text that counts, not the file."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def parse(assignments: Iterable[str]) -> Change:
    """A change out of `name=value` strings; of `prompt` the value is a file.

    Raises InputError for a name or a value that there is not.
    """
    read: dict[str, Callable[[str], Any]] = {
        "prompt": _prompt,
        "temperature": _temperature,
        "model": _model,
        "base": checked_address,
    }
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        if name == "retrieval":
            raise InputError(
                "retrieval cannot be changed: a model's twin has no memory to draw on, and a request does not"
                " say what its primary looks up; ask an endpoint without it, base=URL"
            )
        if name not in read:
            raise InputError(f"{name!r} cannot be changed; what can is {', '.join(read)}, as name=value")
        if name in values:
            raise InputError(f"{name} is changed twice; say it once")
        values[name] = read[name](value)
    if not values:
        raise InputError("no change is given, for example temperature=0.2")
    return Change(**values)


@dataclass(frozen=True)
class Pair:
    """One request under the change, the answer on record and the answer now; where it was in the record."""

    session: int
    item: int
    request: Json
    before: Json
    after: Json


@dataclass(frozen=True)
class Failed:
    """One request that has no answer under the change, where it was in the record, and why."""

    session: int
    item: int
    reason: str


@dataclass(frozen=True)
class Replayed:
    """All that was asked: each item is a pair or a failure."""

    pairs: tuple[Pair, ...]
    failed: tuple[Failed, ...]

    @property
    def failures(self) -> Counter[str]:
        """How many failed, by reason."""
        return Counter(one.reason for one in self.failed)


def replay(sessions: Iterable[Sequence[Recorded]], change: Change, ask: Ask) -> Replayed:
    """Ask every request of the sessions under the change, in their order; one that fails stops nothing."""
    pairs, failed = [], []
    for number, session in enumerate(sessions):
        for item, (request, before) in enumerate(session):
            try:
                changed = change.of(request)
                pairs.append(Pair(number, item, changed, dict(before), ask(changed)))
            except Exception as error:  # an endpoint may fail in any way, and the other items are still asked
                failed.append(Failed(number, item, _reason(error)))
    return Replayed(tuple(pairs), tuple(failed))


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, LlmtwinError) else type(error).__name__


def _instructed(request: Json, prompt: str) -> Json:
    messages = request.get("messages")
    if isinstance(messages, list):
        first = messages[0] if messages else None
        if isinstance(first, dict) and first.get("role") in INSTRUCTING:
            messages[0] = {**first, "content": prompt}
        else:
            messages.insert(0, {"role": "system", "content": prompt})
        return request
    if "input" in request:
        return {**request, "instructions": prompt}
    raise InputError("the request has no place for a system prompt: it is neither a chat nor a response")


def _prompt(value: str) -> str:
    try:
        return Path(value).read_text()
    except (OSError, ValueError) as error:
        raise InputError(
            f"prompt={value}: the file cannot be read; give one with the system prompt"
        ) from error


def _temperature(value: str) -> float:
    try:
        temperature = float(value)
    except ValueError:
        temperature = -1.0
    if not 0 <= temperature <= TEMPERATURE_MAX:
        raise InputError(f"temperature={value}: give a number from 0 to {TEMPERATURE_MAX:g}")
    return temperature


def _model(value: str) -> str:
    if not value.strip():
        raise InputError("model= names no model; give one, for example model=desk@4")
    return value
