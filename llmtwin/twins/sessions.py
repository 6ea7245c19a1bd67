"""Which session a request belongs to, and whether it is among a share of them. It knows no transport.

Requests of one session hang together: they are recorded, answered by one version, and weighed as one item.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from statistics import fmean
from typing import Any

SESSION_HEADER = "x-session-id"
"""The header in which a client may name a request's session."""

_INSTRUCTIONS = ("system", "developer")


def session_of(named: str | None, request: Mapping[str, Any]) -> str:
    """A pseudonym of the session that a request belongs to, in 16 hexadecimal digits.

    It is that of the name it was given, else of the field `user`, else of the first message.
    """
    return _hash(json.dumps(named or request.get("user") or _first(request), sort_keys=True))


def sampled(session: str, share: float, draw: str = "") -> bool:
    """Whether a session is among that share (0 to 1): always the same for the same session.

    A larger share holds all of a smaller one. Draws of different names do not depend on each other.
    """
    digits = _hash(f"{draw} {session}") if draw else session
    return int(digits, 16) / 16.0 ** len(digits) < share


def session_means(sessions: Iterable[str], values: Sequence[float]) -> list[float]:
    """The mean of each session, in the order in which they began, from a value a request."""
    found: dict[str, list[float]] = {}
    for session, value in zip(sessions, values, strict=True):
        found.setdefault(session, []).append(value)
    return [fmean(each) for each in found.values()]


def _first(request: Mapping[str, Any]) -> Any:
    """The first message, which a conversation keeps while it grows, without the instructions all share."""
    said = request.get("messages") or request.get("input") or request.get("prompt")
    if not isinstance(said, list):
        return said
    turns = [one for one in said if not isinstance(one, dict) or one.get("role") not in _INSTRUCTIONS]
    return (turns or said or [None])[0]


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]
