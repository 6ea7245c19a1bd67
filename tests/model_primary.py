"""A stub of a primary, or of a twin, on a port of this machine: real HTTP, with every fault there is."""

from __future__ import annotations

import gzip
import json
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAUSE_S = 0.02
USAGE = {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)

    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


class Stub(ThreadingHTTPServer):
    """Answers as the header `x-stub` asks, else as it was made to; `with` runs it.

    `go_on` lets an answer go on that is held in its middle; `gone` is set when a client goes before its end.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, behaviour: str = "well") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour = behaviour
        self.received: list[Received] = []
        self.go_on = threading.Event()
        self.gone = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> Stub:
        threading.Thread(target=self.serve_forever, args=[0.05], daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.go_on.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes is no error of the stub's."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Stub

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("content-length", 0)))
        received = Received(self.command, self.path, list(self.headers.items()), self.body)
        self.server.received.append(received)
        getattr(self, f"_{self.headers.get('x-stub') or self.server.behaviour}")()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_PATCH = _answer

    def _well(self) -> None:
        if self._wants_stream():
            self._stream(events(self._endpoint()))
        else:
            self._whole(200, self._content())

    def _no_logprobs(self) -> None:
        answer = whole(self._endpoint())
        answer["choices"][0].pop("logprobs")
        self._whole(200, json.dumps(answer).encode())

    def _changed(self) -> None:
        """Another model, which is less sure, and longer."""
        answer = whole(self._endpoint())
        answer["choices"][0]["message"]["content"] = "Höi, Ann"
        answer["choices"][0]["logprobs"]["content"][0]["logprob"] = -2.5
        self._whole(200, json.dumps(answer).encode())

    def _zipped(self) -> None:
        if self._wants_stream():
            stream = gzip.compress(b"".join(events(self._endpoint())), mtime=0)
            self._stream(iter([stream[:30], stream[30:]]), ("content-encoding", "gzip"))
        else:
            self._whole(200, gzip.compress(self._content(), mtime=0), ("content-encoding", "gzip"))

    def _limited(self) -> None:
        self._whole(429, b'{"error": {"message": "slow down"}}', ("retry-after", "7"))

    def _broken(self) -> None:
        self._whole(500, b'{"error": {"message": "boom"}}')

    def _garbage(self) -> None:
        self._whole(200, b'{"choices": [{"mess')

    def _empty(self) -> None:
        self._whole(204, b"")

    def _told(self) -> None:
        """Says the key that it was sent."""
        answer = whole("chat/completions")
        answer["choices"][0]["message"]["content"] = f"Your key is {self.headers['authorization']}"
        self._whole(200, json.dumps(answer).encode())

    def _silent(self) -> None:
        """Says nothing until the client has gone or `go_on` is set."""
        while not self.server.go_on.wait(PAUSE_S):
            if select.select([self.connection], [], [], 0)[0] and not self.connection.recv(
                1, socket.MSG_PEEK
            ):
                self.server.gone.set()
                break
        self.close_connection = True

    def _held(self) -> None:
        """Sends one event, and the rest when it may go on."""
        first, *rest = events(self._endpoint())
        self._head(200, ("content-type", "text/event-stream"), ("transfer-encoding", "chunked"))
        self._chunk(first)
        self._silent()
        if not self.server.gone.is_set():
            for event in (*rest, b""):
                self._chunk(event)

    def _cut(self) -> None:
        """Breaks off in the middle."""
        if self._wants_stream():
            self._head(200, ("content-type", "text/event-stream"), ("transfer-encoding", "chunked"))
            self._chunk(next(events(self._endpoint())))
        else:
            content = self._content()
            self._head(200, ("content-length", str(len(content))))
            self.wfile.write(content[:20])
        self.close_connection = True

    def _unfinished(self) -> None:
        """Ends a stream properly, without its last events."""
        if self._wants_stream():
            self._stream(iter(list(events(self._endpoint()))[:-1]))
        else:
            self._whole(200, self._content())

    def _echo(self) -> None:
        self._whole(200, self.body)

    def _endpoint(self) -> str:
        return self.path.partition("?")[0].removeprefix("/v1/")

    def _wants_stream(self) -> bool:
        return b'"stream":true' in self.body.replace(b" ", b"")

    def _content(self) -> bytes:
        return json.dumps(whole(self._endpoint()), ensure_ascii=False).encode()

    def _whole(self, status: int, content: bytes, *headers: tuple[str, str]) -> None:
        length = () if status == 204 else (("content-length", str(len(content))),)
        self._head(status, ("content-type", "application/json"), *length, *headers)
        if self.command != "HEAD":
            self.wfile.write(content)

    def _stream(self, pieces: Iterator[bytes], *headers: tuple[str, str]) -> None:
        self._head(200, ("content-type", "text/event-stream"), ("transfer-encoding", "chunked"), *headers)
        for piece in pieces:
            self._chunk(piece)
        self._chunk(b"")

    def _head(self, status: int, *headers: tuple[str, str]) -> None:
        self.send_response_only(status)
        for name, value in (
            *headers,
            ("x-request-id", "r-1"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("keep-alive", "timeout=5"),
        ):
            self.send_header(name, value)
        self.end_headers()

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def log_message(self, *told: object) -> None:
        """The stub is silent."""


def whole(endpoint: str) -> dict[str, Any]:
    """What the stub answers to a question; unknown fields and letters beyond ASCII are part of it."""
    shown = {"content": [{"token": "Höi", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
    head = {"id": "x-1", "created": 7, "model": "stub-7", "x_unknown": {"a": [1]}}
    match endpoint:
        case "chat/completions":
            message = {"role": "assistant", "content": "Höi", "refusal": None}
            choice = {"index": 0, "message": message, "logprobs": shown, "finish_reason": "stop"}
            return {**head, "object": "chat.completion", "choices": [choice], "usage": USAGE}
        case "completions":
            choice = {"index": 0, "text": "Höi", "logprobs": None, "finish_reason": "stop"}
            return {**head, "object": "text_completion", "choices": [choice], "usage": USAGE}
        case "responses":
            part = {"type": "output_text", "text": "Höi", "annotations": []}
            item = {
                "type": "message",
                "id": "m",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
            used = {"input_tokens": 11, "output_tokens": 2}
            return {**head, "object": "response", "status": "completed", "output": [item], "usage": used}
    return {"object": "list", "data": []}


def events(endpoint: str) -> Iterator[bytes]:
    """The same as a stream, each event as the bytes that are sent."""
    answer = whole(endpoint)
    if endpoint == "responses":
        delta = {"type": "response.output_text.delta", "output_index": 0, "delta": "Höi"}
        for event in (delta, {"type": "response.completed", "response": answer}):
            yield f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
        return
    (choice,) = answer.pop("choices")
    if "message" in choice:
        choice["delta"] = choice.pop("message")
        answer["object"] += ".chunk"
    used = answer.pop("usage")
    end = {"index": 0, "finish_reason": "stop"} | ({"delta": {}} if "delta" in choice else {})
    for chunk in (
        {**answer, "choices": [{**choice, "finish_reason": None}]},
        {**answer, "choices": [end]},
        {**answer, "choices": [], "usage": used},
    ):
        yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()
    yield b"data: [DONE]\n\n"
