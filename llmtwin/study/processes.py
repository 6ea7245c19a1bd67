"""The processes of a demo: a server, and an edge for each home. It knows their life, not what is measured."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from llmtwin.edge.link import Link
from llmtwin.errors import InputError, Unavailable
from llmtwin.study import measure
from llmtwin.study.phrasings import DEFAULT

COHORT = MARK = "demo"
SERVER_START_S_MAX = 240.0
TIMEOUT_S = 240.0  # for an answer that waits behind many others


@dataclass(frozen=True)
class DemoOptions:
    """What a demo works with: `home` is the data folder, in which its twins stay.

    `cases` is how many questions each rate is measured on.
    """

    home: Path
    cache: Path
    base: str | None = None
    out: Path = Path("out/demo")
    homes: int = 4
    seed: int = 7
    phrasings: Path = DEFAULT
    intents: Path = Path("../shared/data/home/intents")
    cases: int = 200

    @property
    def names(self) -> list[str]:
        """What the homes are called."""
        return [f"home{number}" for number in range(1, self.homes + 1)]

    def folder(self, name: str) -> Path:
        """Where everything private of a home lies."""
        return self.home / "edge" / name


class Child:
    """A process of a module of ours, with a log."""

    def __init__(
        self, arguments: Sequence[str], log: Path, home: Path, cache: Path, base: str | None
    ) -> None:
        """Start it over a data folder; `wait` says when it is there."""
        self._log = log
        environment = {
            **os.environ,
            "LLMTWIN_HOME": str(home.resolve()),
            "LLMTWIN_CACHE": str(cache.resolve()),
            "LLMTWIN_ENGINE": "torch",
            **({"LLMTWIN_BASE": base} if base else {}),
        }
        command = [sys.executable, "-m", *arguments]
        with log.open("wb") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)

    @retry(
        retry=retry_if_exception_type(httpx.TransportError),
        stop=stop_after_delay(SERVER_START_S_MAX),
        wait=wait_fixed(0.2),
        reraise=True,
    )
    def _healthy(self, url: str) -> None:
        if self._process.poll() is not None:
            last = self._log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise Unavailable(f"a process ended: {last} (all of it is in {self._log})")
        httpx.get(url, timeout=TIMEOUT_S).raise_for_status()

    def wait(self, url: str) -> None:
        """Wait until it answers at that address. Raises Unavailable."""
        try:
            self._healthy(url)
        except httpx.HTTPError as error:
            raise Unavailable(f"a process does not answer: {error}; see {self._log}") from error

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Server:
    """A server process on a free port of this machine, over the data folder."""

    def __init__(self, options: DemoOptions) -> None:
        """Start it; `wait` says when it is there."""
        self._admin = options.home / "server" / "admin.token"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        arguments = ["llmtwin", "serve", "--host", "127.0.0.1", "--port", str(port)]
        log = options.out / "server.log"
        self._child = Child(arguments, log, options.home, options.cache, options.base)

    def wait(self) -> None:
        """Wait until it answers. Raises Unavailable."""
        self._child.wait(f"{self.url}/healthz")

    def link(self, twin: str, token: str | None = None) -> Link:
        """A link with that token, or the administrator's."""
        token = token or self._admin.read_text(encoding="ascii").strip()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=measure.ASKERS)
        headers = {"authorization": f"Bearer {token}"}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT_S, limits=limits)
        return Link(client, twin)

    def close(self) -> None:
        """Stop it."""
        self._child.close()


class Edge:
    """The edge process of one home, and the pipe on which it takes its tasks."""

    def __init__(self, name: str, options: DemoOptions, server: str) -> None:
        """Start it."""
        self.name = name
        self.journal = options.out / f"{name}.jsonl"
        self.journal.unlink(missing_ok=True)
        self._log = options.out / f"{name}.log"
        given: Mapping[str, object] = {
            "name": name,
            "seed": options.seed,
            "server": server,
            "folder": options.folder(name),
            "cache": options.cache,
            "journal": self.journal,
        }
        arguments = [part for option, value in given.items() for part in (f"--{option}", str(value))]
        arguments += ["--base", options.base] if options.base else []
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "llmtwin.study.home_edge", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
            )
        assert self._process.stdin and self._process.stdout
        self._stdin: IO[str] = self._process.stdin
        self._stdout: IO[str] = self._process.stdout

    def do(
        self, task: str, report: Callable[[Mapping[str, Any]], None] = lambda _: None, **given: object
    ) -> dict[str, Any]:
        """Have a task done and wait for it; what it gives. Raises Unavailable where it fails."""
        try:
            self._stdin.write(json.dumps({"task": task, **given}) + "\n")
            self._stdin.flush()
        except OSError as error:
            raise self._ended() from error
        for line in self._stdout:
            message: dict[str, Any] = json.loads(line)
            if "progress" in message:
                report(message["progress"])
            elif "error" in message:
                raise Unavailable(f"{self.name} cannot {task}: {message['error']}")
            else:
                done: dict[str, Any] = message["done"]
                return done
        raise self._ended()

    def close(self) -> None:
        """Let it end: it does when there are no more tasks."""
        self._stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()

    def _ended(self) -> Unavailable:
        return Unavailable(f"the edge process of {self.name} ended; see {self._log}")


def check_free(options: DemoOptions) -> None:
    """Raise InputError where a twin that is not of a demo has a home's name."""
    for name in options.names:
        folder = options.folder(name)
        if folder.exists() and not (folder / MARK).exists():
            raise InputError(
                f"there is a twin {name} of yours in {options.home}: set LLMTWIN_HOME to another folder"
            )


def make_room(options: DemoOptions, server: Server) -> None:
    """Forget the twins of an earlier demo, and mark the folders of the new ones as the demo's."""
    for info in server.link(options.names[0]).twins():
        if info.cohort == COHORT:
            server.link(info.id).forget()
        elif info.id in options.names:
            raise InputError(f"the server has a twin {info.id} of yours: set LLMTWIN_HOME to another folder")
    for mark in options.home.glob(f"edge/*/{MARK}"):
        shutil.rmtree(mark.parent)
    for name in options.names:
        options.folder(name).mkdir(mode=0o700, parents=True)
        (options.folder(name) / MARK).touch()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
