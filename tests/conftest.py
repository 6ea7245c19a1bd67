"""What tests share: a real server process on a free port of this machine, and twins enrolled at it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from llmtwin.records import new_id
from llmtwin.settings import Settings, read_settings
from llmtwin.wire.sign import new_key, public_key_text

HERE = Path(__file__).parent

# A busy machine is slow, and no law is broken by that.
hypothesis.settings.register_profile("llmtwin", deadline=None)
hypothesis.settings.load_profile("llmtwin")


class ServerProcess:
    """`python -m llmtwin.server` over one data folder, with the echo engine and the kind `echo`."""

    def __init__(self, data: Path, plugins: Path) -> None:
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data.with_suffix(".log")
        self._plugins = plugins
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and wait until it answers."""
        command = [sys.executable, "-m", "llmtwin.server", "--data", str(self.data), "--port", str(self.port)]
        path = os.pathsep.join([str(self._plugins), str(HERE.parent)])
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, env={**os.environ, "PYTHONPATH": path})
        self._wait()

    def kill(self) -> None:
        """SIGKILL: nothing of the process has a chance to tidy up."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop the process as an operator does."""
        self._end(signal.SIGTERM)

    def client(self, token: str | None = None) -> httpx.Client:
        """A client that sends this token."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        # The server is at plain HTTP; without `verify` no client loads all certificates for nothing.
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, verify=False)

    def admin(self) -> httpx.Client:
        """A client that sends the admin's token."""
        return self.client((self.data / "admin.token").read_text())

    def log_lines(self) -> list[dict[str, Any]]:
        """What the server has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None

    @retry(
        retry=retry_if_exception_type(httpx.TransportError), stop=stop_after_delay(60), wait=wait_fixed(0.1)
    )
    def _wait(self) -> None:
        if self._process and self._process.poll() is not None:
            raise RuntimeError(f"the server ended: {self.log.read_text()}")
        httpx.get(f"{self.url}/healthz").raise_for_status()


@dataclass(frozen=True)
class TwinAt:
    """A twin enrolled at a server: its id, its edge's key, and a client for each role."""

    id: str
    key: Ed25519PrivateKey
    server: ServerProcess
    owner: httpx.Client
    edge: httpx.Client
    reader: httpx.Client

    @property
    def path(self) -> str:
        """Where the twin is in the API."""
        return f"/v1/twins/{self.id}"

    def token(self, role: str) -> str:
        """A new token of that role."""
        made: str = self.owner.post(f"{self.path}/tokens", json={"role": role}).json()["token"]
        return made


Enrol = Callable[..., TwinAt]


def enrol_twin(
    server: ServerProcess, folder: Path, *, kind: str = "echo", cohort: str | None = None
) -> TwinAt:
    """Make a twin with a name of its own, and enrol it with a new key in `folder`."""
    twin = f"twin-{new_id().lower()}"
    key = new_key(folder / f"{twin}.pem")
    with server.admin() as admin:
        made = admin.post("/v1/twins", json={"id": twin, "kind": kind, "cohort": cohort})
        made.raise_for_status()
        enrolment = {**made.json(), "twin": twin, "kind": kind, "public_key": public_key_text(key)}
        tokens = admin.post("/v1/enrol", json=enrolment).raise_for_status().json()
    owner = server.client(tokens["owner"])
    reader = owner.post(f"/v1/twins/{twin}/tokens", json={"role": "reader"}).raise_for_status().json()
    return TwinAt(twin, key, server, owner, server.client(tokens["edge"]), server.client(reader["token"]))


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that, on the path, installs the kind `echo` of `echo_kind.py`."""
    folder = tmp_path_factory.mktemp("plugins")
    shutil.copy(HERE / "echo_kind.py", folder)
    info = folder / "llmtwin_echo_kind-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llmtwin-echo-kind\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[llmtwin.kinds]\necho = echo_kind:EchoKind\n")
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, plugins: Path) -> Iterator[ServerProcess]:
    """One server process for all tests; each test brings twins of its own."""
    process = ServerProcess(tmp_path_factory.mktemp("server") / "data", plugins)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def mortal_server(tmp_path: Path, plugins: Path) -> Iterator[ServerProcess]:
    """A server process of one test, which may kill it."""
    process = ServerProcess(tmp_path / "data", plugins)
    process.start()
    yield process
    process.kill()


@pytest.fixture
def enrol(server: ServerProcess, tmp_path: Path) -> Enrol:
    """Makes twins at the shared server: `enrol(cohort="street")`."""

    def enrolled(**options: Any) -> TwinAt:
        return enrol_twin(server, tmp_path, **options)

    return enrolled


@pytest.fixture
def twin(enrol: Enrol) -> TwinAt:
    """One twin of the kind `echo` at the shared server."""
    return enrol()


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A data folder of its own, with the echo engine and no server."""
    monkeypatch.setenv("LLMTWIN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LLMTWIN_ENGINE", "echo")
    return read_settings()
