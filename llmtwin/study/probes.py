"""Asks a model how likely single tokens are, also while it is in use, and how often an alarm errs on that.

It knows OpenAI's interface, and no twin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random
from threading import Event
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from llmtwin.study.model_gate import PROBE_ANCHOR, PROBE_CHECKS, STREAMS, Array, probed, rate
from llmtwin.study.processes import TIMEOUT_S
from llmtwin.twins.model.drift import CENSORED, ProbeDrift

PROBES = ("Hello", "Where is my order", "I want a refund", "Who are you")
CHECKS = 300
BUSY, BUSY_TOKENS_MAX = 3, 40
BLOCK = 10
"""So many checks in a row are drawn together: what a load does lasts for a while."""


def request(question: str, tokens_max: int, temperature: float = 0.0) -> dict[str, Any]:
    """A chat of one question whose answer comes with log-probabilities."""
    return {
        "model": "desk",
        "messages": [{"role": "user", "content": question}],
        "temperature": temperature,
        "max_tokens": tokens_max,
        "logprobs": True,
        "top_logprobs": 20,
    }


def ask(url: str, tokens: dict[str, str], probes: Sequence[str] = PROBES) -> dict[str, tuple[str, float]]:
    """Of each probe its first token, the likeliest or the one in `tokens`, with its log-probability.

    All are asked at once, as a model in use is: what batching makes of the numbers is in them, too.
    """

    def one(probe: str) -> tuple[str, float]:
        asked = request(probe, 1)
        said = httpx.post(f"{url}/chat/completions", json=asked, timeout=TIMEOUT_S).raise_for_status().json()
        content = (said["choices"][0].get("logprobs") or {}).get("content")
        if not content:
            return "", 0.0  # it ends at once, and says nothing of how likely that was
        top = {each["token"]: each["logprob"] for each in content[0]["top_logprobs"]}
        token = tokens.get(probe) or max(top, key=lambda each: top[each])
        return token, top.get(token, CENSORED)

    with ThreadPoolExecutor(len(probes)) as pool:
        return dict(zip(probes, pool.map(one, probes), strict=True))


def tokens_of(url: str) -> dict[str, str]:
    """The likeliest first token of each probe."""
    return {probe: said[0] for probe, said in ask(url, {}).items()}


def while_busy(
    url: str,
    tokens: dict[str, str],
    checks: int,
    questions: Sequence[str],
    advance: Callable[[], object] = lambda: None,
) -> Array:
    """The log-probabilities (checks, P) of probes' `tokens` while others ask, and get sampled answers."""
    done = Event()

    def others(seed: int) -> None:
        rng = Random(seed)
        while not done.is_set():
            asked = request(rng.choice(questions), rng.randint(1, BUSY_TOKENS_MAX), temperature=1.0)
            with suppress(httpx.TimeoutException):
                httpx.post(f"{url}/chat/completions", json=asked, timeout=TIMEOUT_S).raise_for_status()

    found = []
    with ThreadPoolExecutor(BUSY) as pool:
        asking = [pool.submit(others, seed) for seed in range(BUSY)]
        try:
            for _ in range(checks):
                found.append([said[1] for said in ask(url, tokens).values()])
                advance()
        finally:
            done.set()
        for one in asking:
            one.result()
    return np.array(found)


def detected(anchor: Array, changed: Array) -> dict[str, Any]:
    """After how many probe tokens of a changed model (C, P) the alarm comes; None where it does not."""
    watch = ProbeDrift(anchor.tolist())
    for check in changed.tolist():
        watch.update(check)
        if watch.alarm:
            return {"drift_alarm": True, "probe_tokens_to_detect": watch.observations}
    return {"drift_alarm": False, "probe_tokens_to_detect": None}


def false_alarms(
    seen: Array, streams: int = STREAMS, anchor: int = PROBE_ANCHOR, checks: int = PROBE_CHECKS, seed: int = 0
) -> dict[str, Any]:
    """How often the alarm errs on streams drawn from what was seen (C, P) of a model that did not change.

    Drawn are blocks of BLOCK checks in a row, with replacement, for anchor and stream alike.
    """
    rng = np.random.default_rng(seed)
    blocks = -(-(anchor + checks) // BLOCK)
    starts = rng.integers(len(seen), size=(streams, blocks, 1))
    rows = ((starts + np.arange(BLOCK)) % len(seen)).reshape(streams, -1)[:, : anchor + checks]
    drawn = seen[rows]
    alarmed: NDArray[np.bool_] = np.any(probed(rng, drawn[:, :anchor], drawn[:, anchor:]), axis=1)
    apart = np.abs(seen - np.median(seen, axis=0))
    return {
        "false_alarm_served": rate(alarmed),
        "served_checks": len(seen),
        "served_disturbed_share": float((apart > 0).mean()),
        "served_scatter_nats": float(apart.mean()),
    }
