"""What an engine is asked and what it gives back. It knows no implementation, no twin and no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

SYSTEM = "twin"
"""The system message before every prompt of ours: short, since every prompt pays for it."""


def turn(text: str) -> list[dict[str, str]]:
    """The chat messages of a prompt of ours: what adapters learn and are asked."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


def conversation(messages: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Chat messages of (role, text), under our own system message where they bring none."""
    found = [{"role": role, "content": text} for role, text in messages]
    own = [] if found and found[0]["role"] == "system" else [{"role": "system", "content": SYSTEM}]
    return own + found


@dataclass(frozen=True)
class Request:
    """One completion to make. `prompt` is already rendered by `Engine.chat`.

    `adapters` are names of adapters, stacked in that order. `temperature` 0 is greedy. `grammar` is a JSON
    schema (a text that starts with `{`) or a Lark grammar that the completion must follow.
    """

    prompt: str
    adapters: tuple[str, ...] = ()
    tokens_max: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    grammar: str | None = None


@dataclass(frozen=True)
class Completion:
    """What was generated. `logprobs` (nats) and `token_ids` have one entry a token of the completion.

    `probability` is the exponential of the mean log-probability, from 0 to 1.
    """

    text: str
    probability: float
    logprobs: tuple[float, ...]
    token_ids: tuple[int, ...]
    tokens_prompt: int
    tokens_completion: int
    finish: Literal["stop", "length"]


class Engine(Protocol):
    """A base model with adapters. All methods block and may be called from many threads at once."""

    @property
    def base_hash(self) -> str:
        """The hash that names the base model, 64 hexadecimal digits."""
        ...

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The messages (`role`, `content`) as the base's chat template writes them, ready to be completed."""
        ...

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in the order of the requests.

        Raises NotFound for an adapter that is not there, InputError for a prompt longer than the base reads,
        Unavailable where the engine cannot run.
        """
        ...

    def score(self, requests: Sequence[tuple[str, str, tuple[str, ...]]]) -> list[float]:
        """The log-probability (nats, summed over tokens) of each `(prompt, completion, adapters)`."""
        ...
