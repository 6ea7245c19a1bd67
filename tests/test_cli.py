"""The command line, as processes of its own: what a person types, sees, and is told when it goes wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.conftest import free_port
from tests.test_twin import dump

ROOT = Path(__file__).parent.parent
VERBS = (
    *("demo", "new", "collect", "tune", "push", "serve", "ask", "watch", "card", "export"),
    *("import", "forget", "enrol", "token", "rollback", "reseal"),
)
LAMP = '{"kind":"ask","name":"Bedroom lamp"}'

Run = Callable[..., subprocess.CompletedProcess[str]]


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LLMTWIN_")}
    path = os.pathsep.join([str(ROOT), kept.pop("PYTHONPATH", "")])
    return {**kept, "PYTHONPATH": path, "LLMTWIN_HOME": str(home), "LLMTWIN_ENGINE": "echo", **more}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `llmtwin …` over a data folder of this test; options are variables of the environment."""

    def ran(*arguments: str | Path, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llmtwin", *map(str, arguments)]
        return subprocess.run(
            command,
            input=stdin,
            env={**environment(tmp_path / "home"), **more},
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
        )

    return ran


def said(ended: subprocess.CompletedProcess[str]) -> str:
    """The standard output of a command that went well."""
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_help_shows_the_verbs_in_the_order_of_a_twins_life(run: Run) -> None:
    shown = re.findall(r"^\W*([a-z]+) {2,}\S", said(run("--help")), re.MULTILINE)
    assert [verb for verb in shown if verb in VERBS] == list(VERBS)


def test_a_home_from_its_dump_to_an_answer_and_to_nothing(run: Run, tmp_path: Path) -> None:
    states = dump(tmp_path / "states.json", "80", {"entity_id": "sensor.odd"})
    said(run("new", "home1"))
    collected = run("collect", "home1", states, "--seal", "number.*", "--seal", "light.*")
    assert "2 private (2 of them sealed)" in said(collected)
    assert collected.stderr.startswith("skipped sensor.odd: ")
    assert "'light.*' seals nothing" in collected.stderr and "'number.*' seals" not in collected.stderr
    assert said(run("push", "home1")) == "0 sent, 0 waiting\n"
    answer = said(run("ask", "home1", LAMP)).splitlines()
    assert answer[0] == "The Bedroom lamp is on."
    assert "2026-03-01 10:00" in answer[1]
    record = json.loads(said(run("ask", "home1", "--json", LAMP)))
    assert (record["value"], len(record["receipts"]["prompts"])) == ("on", 1)
    assert run("forget", "home1", stdin="n\n").returncode == 1
    assert said(run("ask", "home1", LAMP)).splitlines() == answer
    receipt = said(run("forget", "home1", stdin="y\n"))
    assert "4 facts, 0 documents, 1 prompts, 0 corrections; withdrawn: no version" in receipt
    assert receipt.endswith("what a proxy recorded\n")
    assert "no twin home1" in run("ask", "home1", LAMP).stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("new", "../x"), "'../x' cannot name a twin"),
        (("enrol", "../x"), "'../x' cannot name a twin"),
        (("ask", "x" * 10_000, "hi"), "cannot name a twin"),
        (("ask", "nobody", "hi"), "there is no twin nobody here"),
        (("ask", "nobody@2", "hi"), "there is no twin nobody here"),
        (("ask", "nobody@two", "hi"), "names no version: write nobody@4"),
        (("collect", "nobody", "states.json"), "there is no twin nobody here"),
        (("new", "home1"), "there is a twin home1 here already"),
        (("new", "home2", "--kind", "ghost"), "no kind of twin has that name"),
        (("collect", "home1", "bad.json"), "not JSON"),
        (("collect", "home1", "none.json"), "there is no none.json"),
        (("card", "home1"), "no adapter yet"),
        (("card", "home1", "--version", "7"), "no version 7"),
        (("rollback", "home1"), "no version before the live one"),
        (("export", "home1", "x", "--format", "bundle"), "learned nothing yet"),
        (("import", "none.twin"), "there is no none.twin"),
        (("import", "bad.json"), "broken"),
        (("serve", "--engine", "steam"), "`engine` is wrong"),
    ],
)
def test_what_goes_wrong_is_one_line(
    run: Run, made: Path, arguments: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.json").write_text("[{")
    assert_one_line(run(*arguments, LLMTWIN_HOME=str(made)), told)
    assert {file.name for file in tmp_path.iterdir()} == {"bad.json"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which home1 was made; nobody changes it."""
    home = tmp_path_factory.mktemp("made") / "home"
    subprocess.run([sys.executable, "-m", "llmtwin", "new", "home1"], env=environment(home), check=True)
    return home


@pytest.mark.parametrize("command", [("tune", "home1"), ("ask", "home1", "hi"), ("serve",)])
def test_without_a_base_one_line_says_what_to_do(run: Run, command: tuple[str, ...], tmp_path: Path) -> None:
    said(run("new", "home1"))
    said(run("collect", "home1", dump(tmp_path / "states.json")))
    missing = {"LLMTWIN_BASE": str(tmp_path / "none"), "LLMTWIN_ENGINE": "torch", "HF_HUB_OFFLINE": "1"}
    assert_one_line(run(*command, **missing), "run `make base`")


def assert_one_line(ended: subprocess.CompletedProcess[str], told: str) -> None:
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert ended.stderr.startswith("llmtwin: ")
    assert told in ended.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("new", "home1"), ("collect", "home1", "--help")])
def test_what_needs_no_model_and_no_server_loads_neither(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "llmtwin", *arguments],
        env=environment(tmp_path / "home", LLMTWIN_ENGINE="torch"),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in ended.stderr.splitlines()}
    assert "typer" in loaded
    assert loaded.isdisjoint({"torch", "fastapi", "transformers", "uvicorn"})


# ---- with a server of its own


class Served:
    """`llmtwin serve` over the folder `operator`, started and stopped as often as a test likes."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "operator"
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._command = [sys.executable, "-m", "llmtwin", "serve", "--port", str(port)]
        self._log = folder / "serve.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=environment(self.home), stdout=log, stderr=log
            )
        _wait(self.url)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=30)
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    served.start()
    yield served
    served.stop()


@retry(retry=retry_if_exception_type(httpx.TransportError), stop=stop_after_delay(60), wait=wait_fixed(0.1))
def _wait(url: str) -> None:
    httpx.get(f"{url}/healthz").raise_for_status()


def test_a_twin_enrols_at_a_server_and_waits_out_its_absence(
    run: Run, server: Served, tmp_path: Path
) -> None:
    token = said(run("enrol", "home1", LLMTWIN_HOME=str(server.home))).strip()
    person = {"LLMTWIN_SERVER": server.url}
    assert_one_line(run("new", "home1", "--enrolment", "wrong", **person), "not good")
    said(run("new", "home1", "--enrolment", token, **person))
    assert not (tmp_path / "home" / "server").exists()

    server.stop()
    away = run("collect", "home1", dump(tmp_path / "states.json"), **person)
    assert said(away).splitlines()[-1] == "0 sent, 2 waiting"
    assert "cannot be reached" in away.stderr

    server.start()
    # Where it enrolled is remembered: no variable is needed any more.
    assert said(run("push", "home1")) == "2 sent, 0 waiting\n"
    assert said(run("ask", "home1", LAMP)).startswith("The Bedroom lamp is on.")
    reader = {"Authorization": f"Bearer {said(run('token', 'home1')).strip()}"}
    asked = {"model": "home1", "messages": [{"role": "user", "content": LAMP}]}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=asked, headers=reader).raise_for_status()
    assert answer.json()["choices"][0]["message"]["content"].startswith("The Bedroom lamp is on.")
    assert httpx.delete(f"{server.url}/v1/twins/home1", headers=reader).status_code == 403
    said(run("forget", "home1", "--yes"))
    assert httpx.get(f"{server.url}/v1/models", headers=reader).status_code == 401
    admin = server.home / "server" / "admin.token"
    assert admin.stat().st_mode & 0o077 == 0
    headers = {"authorization": f"Bearer {admin.read_text()}"}
    assert httpx.get(f"{server.url}/v1/twins", headers=headers).json() == []
