"""Proxies for tests, as processes that can be killed, and redactors that their mirrors can import."""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from llmtwin.proxy.app import ProxyOptions, serve
from llmtwin.proxy.passed import Passed
from llmtwin.twins.model.exchange import Exchange
from tests.conftest import free_port

OUTCOME = re.compile(r'llmtwin_mirror_total\{outcome="(\w+)"\} (\S+)')
WAIT_S = 60.0


PASSED = Passed(
    endpoint="chat/completions",
    at_s=1.0,
    duration_s=0.1,
    first_chunk_s=0.1,
    status=200,
    whole=True,
    error=None,
    session=None,
    marked=False,
    secrets=(),
    request=b"{}",
    request_encoding="",
    response=b"{}",
    response_encoding="",
    streamed=False,
)
"""A whole call."""


def kept(exchange: Exchange) -> Exchange:
    """Redacts nothing."""
    return exchange


def named(exchange: Exchange) -> Exchange:
    """Redacts one name."""
    return Exchange.model_validate_json(exchange.model_dump_json().replace("Ann Miller", "[person]"))


def failing(exchange: Exchange) -> Exchange:
    """A redactor that fails."""
    raise RuntimeError("Ann Miller is too much")


def sleepy(exchange: Exchange) -> Exchange:
    """A redactor that takes its time."""
    time.sleep(0.5)
    return exchange


def until(true: Callable[[], bool]) -> None:
    """Wait for something that happens in another process. Raises AssertionError where it does not."""
    end_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end_s, "it did not happen"
        time.sleep(0.02)


class Proxy:
    """A proxy as a process of its own, on a free port; `with` runs it. What it logs goes to a file."""

    def __init__(self, log: Path, primary: str, **options: Any) -> None:
        self.log = log
        self.options = ProxyOptions(primary, port=free_port(), **options)
        self.root = f"http://127.0.0.1:{self.options.port}"
        self.url = f"{self.root}/v1"
        self.process = multiprocessing.get_context("spawn").Process(target=_serve, args=(self.options, log))

    def __enter__(self) -> Proxy:
        self.process.start()
        until(self._answers)
        return self

    def __exit__(self, *raised: object) -> None:
        self.process.terminate()
        self.process.join(WAIT_S)
        assert self.process.exitcode is not None

    def _answers(self) -> bool:
        assert self.process.is_alive(), self.log.read_text()
        try:
            return self.client().get(f"{self.root}/healthz").is_success
        except httpx.TransportError:
            return False

    def client(self, **options: Any) -> httpx.Client:
        """A client of it."""
        # It is at plain HTTP; without `verify` no client loads all certificates for nothing.
        return httpx.Client(base_url=self.url, trust_env=False, verify=False, timeout=30, **options)

    def metrics(self) -> str:
        """Its counters."""
        return self.client().get(f"{self.root}/metrics").text

    def outcomes(self) -> dict[str, int]:
        """What became of calls in its mirror, and of how many."""
        return {name: int(float(n)) for name, n in OUTCOME.findall(self.metrics())}

    @contextmanager
    def counting(self, outcome: str, count: int = 1) -> Iterator[None]:
        """Waits at its end until so many calls more have come to that."""
        before = self.outcomes().get(outcome, 0)
        yield
        until(lambda: self.outcomes().get(outcome, 0) >= before + count)


def _serve(options: ProxyOptions, log: Path) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    serve(options)
