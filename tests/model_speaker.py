"""A model on a port of this machine that says what a function of the request says: real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from llmtwin.edge import mirrored
from llmtwin.primary.place import open_store
from llmtwin.settings import Settings
from llmtwin.twins.model.exchange import EXCHANGES

Json = dict[str, Any]
Say = Callable[[Json], str | int | Json]
"""From a request to a text, an HTTP status, or a whole response."""


class Speaker(ThreadingHTTPServer):
    """Answers chats; `with` runs it, and `received` is what it was asked, `keys` with what keys."""

    daemon_threads = True

    def __init__(self, say: Say) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.say = say
        self.received: list[Json] = []
        self.keys: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> Speaker:
        threading.Thread(target=self.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Speaker
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.received.append(asked)
        self.server.keys.append(self.headers["authorization"])
        said = self.server.say(asked)
        status, body = (said, {"error": "no"}) if isinstance(said, int) else (200, said)
        content = json.dumps(chat(body) if isinstance(body, str) else body).encode()
        self.send_response_only(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *told: object) -> None:
        """It is silent."""


def chat(text: str) -> Json:
    """A response that says a text."""
    message = {"role": "assistant", "content": text}
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }


def asked(*turns: str, system: str | None = None, **more: Any) -> Json:
    """A request: user and assistant in turns."""
    said = [{"role": ("user", "assistant")[at % 2], "content": turn} for at, turn in enumerate(turns)]
    first = [] if system is None else [{"role": "system", "content": system}]
    return {"model": "primary", "messages": [*first, *said], **more}


def record(settings: Settings, name: str, lines: Sequence[Json]) -> None:
    """Put lines on record, as a proxy does."""
    with open_store(name, settings) as store:
        folder = mirrored.folder(store)
    folder.mkdir(exist_ok=True)
    with (folder / EXCHANGES).open("a") as file:
        file.write("".join(json.dumps(one) + "\n" for one in lines))


def line(at_s: float, session: str, request: Json, text: str) -> Json:
    """A line of traffic on record."""
    return {
        "timestamp": at_s,
        "workload_id": "desk",
        "client_id": session,
        "request": request,
        "response": chat(text),
    }
