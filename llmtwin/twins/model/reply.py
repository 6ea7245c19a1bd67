"""What a model said, of whichever interface it came by. It knows no transport and no measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Token:
    """One generated token: its natural log-probability, and those of the likeliest tokens at its place.

    `top` is from token text to natural log-probability, at most as many as were asked for, the rest being
    unknown and not nil; it is empty where the model gave none. A model that says -9999 means "not among the
    likeliest": such a token's log-probability is None.
    """

    text: str
    logprob: float | None
    top: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """A model's reply: its text, its tokens where it gave log-probabilities, and what else it says.

    `tool_calls` are names of functions that the model would call, with their arguments as text; nobody
    executes them here. `finish` is why it stopped, as the model says it.
    """

    text: str
    tokens: tuple[Token, ...] | None = None
    tool_calls: tuple[tuple[str, str], ...] = ()
    finish: str | None = None
    refused: bool = False
