"""What is told of each request: one structured line and a few counters. Never a token, never a text."""

from __future__ import annotations

import logging
import time
from typing import TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NAME = "llmtwin.server"
_STAMPS = (
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
)
_log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger(_NAME),
    processors=[*_STAMPS, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    wrapper_class=structlog.stdlib.BoundLogger,
)


def log_to(stream: TextIO) -> None:
    """Write a JSON line a request to a stream, and the warnings of the libraries in the same form.

    Without this call the lines of requests are not shown.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_STAMPS, structlog.processors.format_exc_info],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger(_NAME).setLevel(logging.INFO)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it quotes what was sent


class Metrics:
    """The counters of one server, in their own registry, so that two servers in a process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "llmtwin_requests", "Requests served", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "llmtwin_request_seconds", "Time to serve a request", ["route"], registry=self.registry
        )
        self.prompts = Counter("llmtwin_prompts_stored", "Prompts stored", registry=self.registry)
        self.adapters = Counter("llmtwin_adapters_published", "Adapters accepted", registry=self.registry)
        self.decisions = Counter(
            "llmtwin_gate_decisions",
            "Decisions on which version answers, as they came into force",
            ["decision"],
            registry=self.registry,
        )
        self.tokens = Counter(
            "llmtwin_tokens", "Tokens the engine worked on", ["direction"], registry=self.registry
        )

    def count_tokens(self, prompt: int, completion: int) -> None:
        """Add what one answer took of the engine."""
        self.tokens.labels("prompt").inc(prompt)
        self.tokens.labels("completion").inc(completion)


class RequestLog:
    """ASGI middleware, outermost: logs and counts each request when it ends."""

    def __init__(self, app: ASGIApp, metrics: Metrics, on_failure: ASGIApp) -> None:
        """`on_failure` answers where the app failed in a way nobody foresaw."""
        self._app = app
        self._metrics = metrics
        self._on_failure = on_failure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request; the line says `twin` and `role` where the caller was let in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        status = None
        known = scope.setdefault("state", {})

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            _log_failure(error)
            if status is not None:
                raise  # the answer has begun: all that is left is to break it off
            await self._on_failure(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            duration_s = time.perf_counter() - started_s
            self._metrics.requests.labels(scope["method"], route, status).inc()
            self._metrics.seconds.labels(route).observe(duration_s)
            _log.info(
                "request",
                method=scope["method"],
                route=route,
                status=status,
                duration_ms=round(duration_s * 1000, 1),
                twin=known.get("twin"),
                role=known.get("role"),
            )


def _log_failure(error: BaseException) -> None:
    # Its type and place, not its message, which may quote what was sent.
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else None
    _log.error("failure", error=type(error).__name__, place=place)
