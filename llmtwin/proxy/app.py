"""Passes on what clients and the primary say to each other, byte for byte. It reads none of it.

What is to be made of a call is left to the process beside, when the call is over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx
from anyio import CancelScope, create_task_group
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from llmtwin.proxy.aside import Aside
from llmtwin.proxy.live import Live
from llmtwin.proxy.metrics import Metrics
from llmtwin.proxy.mirror import MirrorOptions
from llmtwin.proxy.passed import (
    OPERATIONS,
    SESSION_HEADER,
    SHADOW_HEADER,
    Headers,
    Passed,
    header,
    secrets,
)
from llmtwin.twins.model.address import checked_address

PREFIX = b"/v1"
REQUEST_BYTES_MAX = 32 * 2**20
KEPT_BYTES_MAX = 4 * 2**20
"""Of a request, and of a response; a longer one passes and is not mirrored."""
CONNECT_TIMEOUT_S = 10.0
# Shorter than any server's, lest a call is sent on a connection that is being closed.
UPSTREAM_IDLE_S = 3.0
# Longer than any client's, for the same reason.
CLIENT_IDLE_S = 65
CLOSE_S = 3

# RFC 9110, 7.6.1: they are of one connection. The host is the primary's own.
_NOT_PASSED = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization"}
    | {b"te", b"trailer", b"transfer-encoding", b"upgrade", b"host", b"expect"}
)

_log = logging.getLogger("llmtwin.proxy")


@dataclass(frozen=True)
class ProxyOptions:
    """Where the proxy listens, and whose calls it passes on.

    `primary` is the address that takes the place of the proxy's own up to and with `/v1`. `timeout_s` is how
    long the primary may say nothing. Without `mirror` nothing is recorded.
    """

    primary: str
    host: str = "127.0.0.1"
    port: int = 8080
    timeout_s: float = 600.0
    mirror: MirrorOptions | None = None


def serve(options: ProxyOptions) -> None:
    """Pass on calls until stopped. Raises as `create_app` does, and SystemExit where it cannot start."""
    import uvicorn

    app = create_app(options)
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_keep_alive=CLIENT_IDLE_S,
        timeout_graceful_shutdown=CLOSE_S,
    )
    server = uvicorn.Server(config)
    app.state.live.stopping = lambda: server.should_exit
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise SystemExit(1)


def create_app(options: ProxyOptions) -> Starlette:
    """The proxy as an app, whose lifespan holds the connections and the process beside.

    Raises InputError where the primary is no address or the mirror has no redactor, and Unavailable where
    its folder cannot be made.
    """
    primary = httpx.URL(checked_address(options.primary))
    mirror = options.mirror.checked() if options.mirror else None
    metrics = Metrics()
    live = Live(metrics)
    relay = Relay(primary, options.timeout_s, metrics)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        relay.aside = Aside(mirror, live.take)
        yield
        await relay.transport.aclose()
        relay.aside.close()

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "mirror": relay.aside.state})

    async def show_metrics(request: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    routes = [
        Route("/healthz", health),
        Route("/metrics", show_metrics),
        Route("/live", live.page),
        Route("/live/events", live.events),
        Mount(PREFIX.decode(), relay),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.state.live = live
    return app


@dataclass
class Call:
    """One call while it passes; times are those of a clock that only runs on."""

    endpoint: str
    headers: Headers
    query: bytes
    body: bytes
    at_s: float = field(default_factory=time.time)
    began_s: float = field(default_factory=time.perf_counter)
    first_chunk_s: float | None = None
    status: int | None = None
    answer_headers: Headers = ()
    chunks: list[bytes] = field(default_factory=list)
    bytes_passed: int = 0
    whole: bool = False
    error: str | None = None

    def chunk(self, content: bytes) -> None:
        """Note a piece of the answer, as long as there are not too many."""
        if self.first_chunk_s is None:
            self.first_chunk_s = time.perf_counter() - self.began_s
        self.bytes_passed += len(content)
        if self.bytes_passed <= KEPT_BYTES_MAX:
            self.chunks.append(content)
        else:
            self.chunks.clear()

    def passed(self, duration_s: float) -> Passed:
        """The call, as it is handed over when it is over."""
        return Passed(
            endpoint=self.endpoint,
            at_s=self.at_s,
            duration_s=duration_s,
            first_chunk_s=self.first_chunk_s,
            status=self.status,
            whole=self.whole,
            error=self.error,
            session=header(self.headers, SESSION_HEADER),
            marked=header(self.headers, SHADOW_HEADER) is not None,
            secrets=secrets(self.headers, self.query),
            request=self.body if len(self.body) <= KEPT_BYTES_MAX else None,
            request_encoding=header(self.headers, b"content-encoding") or "",
            response=b"".join(self.chunks) if self.bytes_passed <= KEPT_BYTES_MAX else None,
            response_encoding=header(self.answer_headers, b"content-encoding") or "",
            streamed=(header(self.answer_headers, b"content-type") or "").startswith("text/event-stream"),
        )


class Relay:
    """The ASGI app below `/v1`, over one pool of connections to the primary."""

    aside: Aside

    def __init__(self, primary: httpx.URL, timeout_s: float, metrics: Metrics) -> None:
        self._primary = primary
        self._base = primary.raw_path.rstrip(b"/")
        self._timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)).as_dict()
        self._metrics = metrics
        # Only the transport: a client would add headers, keep cookies, and follow redirects.
        limits = httpx.Limits(keepalive_expiry=UPSTREAM_IDLE_S)
        self.transport = httpx.AsyncHTTPTransport(verify=primary.scheme == "https", limits=limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one call on, and its answer back; either side's end ends it."""
        target = scope["raw_path"].removeprefix(PREFIX)
        try:
            body = await _body(scope["headers"], receive)
        except ClientDisconnect:
            return
        if body is None:
            refusal = f"the request has more than {REQUEST_BYTES_MAX} bytes"
            await _error(413, "too_large", refusal)(scope, receive, send)
            return
        call = Call(target[1:].decode("latin-1"), scope["headers"], scope["query_string"], body)
        try:
            async with create_task_group() as group:
                group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
                failed = await self._relay(self._request(scope["method"], target, call), call, send)
                if failed:
                    await failed(scope, receive, send)
                group.cancel_scope.cancel()
        finally:
            self._finish(call)

    def _request(self, method: str, target: bytes, call: Call) -> httpx.Request:
        query = b"?" + call.query if call.query else b""
        extensions = {"timeout": self._timeout, "target": self._base + target + query}
        headers = _passed_on(call.headers)
        return httpx.Request(
            method, self._primary, headers=headers, content=call.body or None, extensions=extensions
        )

    async def _relay(self, request: httpx.Request, call: Call, send: Send) -> Response | None:
        """Returns what to say where the primary says nothing; an answer that breaks off is left so."""
        before_s = time.perf_counter() - call.began_s
        try:
            response = await self.transport.handle_async_request(request)
        except httpx.TransportError as error:
            return self._unanswered(error, call)
        answered_s = time.perf_counter()
        call.status, call.answer_headers = response.status_code, response.headers.raw
        headers = _passed_on(call.answer_headers)
        try:
            await send({"type": "http.response.start", "status": call.status, "headers": headers})
            self._metrics.overhead.observe(before_s + time.perf_counter() - answered_s)
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                call.chunk(chunk)
            await send({"type": "http.response.body"})
            call.whole = True
        except httpx.TransportError as error:
            call.error = type(error).__name__
            _log.warning("the primary broke off its answer: %s", call.error)
        finally:
            with CancelScope(shield=True):
                await response.aclose()
        return None

    def _unanswered(self, error: httpx.TransportError, call: Call) -> Response:
        call.error = type(error).__name__
        slow = isinstance(error, httpx.TimeoutException)
        said = "does not answer in time" if slow else "cannot be reached"
        message = f"the primary {self._primary} {said} ({call.error})"
        _log.warning("%s", message)
        return _error(504, "timeout", message) if slow else _error(502, "unavailable", message)

    def _finish(self, call: Call) -> None:
        if call.endpoint in OPERATIONS:
            passed = call.passed(time.perf_counter() - call.began_s)
            error = passed.error or (None if passed.succeeded else str(passed.status))
            self._metrics.lasted(OPERATIONS[call.endpoint], passed.duration_s, error)
            self.aside.offer(passed)


async def _body(headers: Headers, receive: Receive) -> bytes | None:
    """The whole request; None where it is too long. Raises ClientDisconnect."""
    if int(header(headers, b"content-length") or 0) > REQUEST_BYTES_MAX:
        return None
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > REQUEST_BYTES_MAX:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


async def _cancel_when_gone(receive: Receive, scope: CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _passed_on(headers: Headers) -> list[tuple[bytes, bytes]]:
    named = {
        token.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for token in value.split(b",")
    }
    return [one for one in headers if (name := one[0].lower()) not in _NOT_PASSED and name not in named]


def _error(status: int, code: str, message: str) -> JSONResponse:
    """In the form that OpenAI's clients read."""
    return JSONResponse(
        {"error": {"code": code, "message": message, "type": code, "param": None}}, status_code=status
    )
