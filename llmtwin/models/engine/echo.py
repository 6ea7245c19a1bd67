"""An engine that answers with the last user message. It knows no language: it tests everything else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from llmtwin.models.engine.api import Completion, Request

_USER_MESSAGE = re.compile(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", re.DOTALL)
_WORD = re.compile(r"\s*\S+")


class EchoEngine:
    """Completes every prompt with its last user message; tokens are words; adapters change nothing."""

    base_hash = hashlib.sha256(b"echo").hexdigest()

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The messages in ChatML, open for the assistant's turn."""
        turns = (f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
        return "".join(turns) + "<|im_start|>assistant\n"

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The last user message of each prompt, cut after `tokens_max` words."""
        return [_echo(request) for request in requests]

    def score(self, requests: Sequence[tuple[str, str, tuple[str, ...]]]) -> list[float]:
        """0 for the completion that `generate` gives, else minus one nat a word."""
        return [
            0.0 if completion == _last_user_message(prompt) else -float(len(completion.split()))
            for prompt, completion, _ in requests
        ]


def _last_user_message(prompt: str) -> str:
    said: list[str] = _USER_MESSAGE.findall(prompt)
    return said[-1] if said else ""


def _echo(request: Request) -> Completion:
    said = _last_user_message(request.prompt)
    words = _WORD.findall(said)
    kept = words[: request.tokens_max]
    cut = len(kept) < len(words)
    return Completion(
        text="".join(kept) if cut else said,
        probability=1.0,
        logprobs=(0.0,) * len(kept),
        token_ids=tuple(range(len(kept))),
        tokens_prompt=len(request.prompt.split()),
        tokens_completion=len(kept),
        finish="length" if cut else "stop",
    )
