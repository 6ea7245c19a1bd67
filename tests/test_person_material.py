"""A text that is given with a question: read at the edge, quoted as what it is, and kept by nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docx
import pytest

from llmtwin.errors import InputError, TooLarge
from llmtwin.records import MATERIAL_CHARS_MAX, Outcome
from llmtwin.settings import Settings
from llmtwin.twin import Twin
from llmtwin.twins.kind import kind
from tests.conftest import ServerProcess, enrol_twin
from tests.person_sources import pdf, write_zip
from tests.test_cli import Run, assert_one_line, run, said

__all__ = ["run"]

FOUND = "Rye loaves keep a week longer in linen."
QUESTION = "How much longer do rye loaves keep in linen?"
PAGE = f"<html><head><title>Rye</title></head><body><article><p>{FOUND}</p></article></body></html>"


def word(path: Path) -> Path:
    document = docx.Document()
    document.add_paragraph(FOUND)
    document.save(str(path))
    return path


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


GIVEN: dict[str, Callable[[Path], Path]] = {
    "rye.md": lambda path: text(path, f"---\nauthor: Somebody Else\n---\n# Rye\n\n{FOUND}\n"),
    "rye.txt": lambda path: text(path, FOUND),
    "rye.html": lambda path: text(path, PAGE),
    "rye.docx": word,
    "rye.pdf": lambda path: pdf(path, FOUND),
}


@pytest.fixture
def twin(settings: Settings) -> Iterator[Twin]:
    with Twin.new("me", "person") as made:
        yield made


@pytest.fixture
def page() -> Iterator[str]:
    """The address of a page that says what was found."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/rye"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", GIVEN)
def test_a_document_of_any_format_is_asked_about_and_cited(twin: Twin, tmp_path: Path, name: str) -> None:
    document = GIVEN[name](tmp_path / name)
    assert twin.ask(QUESTION).outcome is Outcome.UNKNOWN
    answer = twin.ask(QUESTION, material=document)
    assert answer.text.splitlines()[0] == f"{FOUND} [m]"
    assert answer.text.splitlines()[-1].startswith("[m] ") and answer.text.endswith(f" {name}")
    assert str(tmp_path) not in answer.text  # the server was told the file's name and not where it lies
    assert twin.ask(QUESTION).outcome is Outcome.UNKNOWN


def test_a_page_is_fetched_here_and_written_about(twin: Twin, page: str) -> None:
    assert f"[m] undated, Rye, {page}" in twin.ask(QUESTION, material=page).text
    written = twin.ask("Write a note about this", material=page)
    assert "this: Rye" in written.plan["prompt"] and f"- {FOUND}" in written.plan["prompt"]


def test_what_the_person_wrote_is_cited_beside_it(twin: Twin, tmp_path: Path) -> None:
    own = text(tmp_path / "bread.md", "# Bread\n\nOur rye loaves keep in linen for nine days.\n")
    twin.collect(own)
    answer = twin.ask(QUESTION, material=text(tmp_path / "paper.txt", FOUND))
    assert "Our rye loaves keep in linen for nine days. [1]" in answer.text.splitlines()
    assert f"{FOUND} [m]" in answer.text.splitlines()


def test_a_server_keeps_nothing_of_it(server: ServerProcess, tmp_path: Path, twin: Twin) -> None:
    """Asked, written about, refused, and over the limit: neither its files nor its log hold a word."""
    at = enrol_twin(server, tmp_path, kind="person")
    secret = "Zanzibarquux"
    paper = {"text": f"The code of the {secret} is 4711.", "address": f"/{secret}.pdf", "title": secret}
    for question, given, status in (
        ("What is the code?", paper, 200),
        ("Write a note about this", paper, 200),
        ("What is the code?", {**paper, "title": f"{secret} " * 100}, 422),
        ("What is the code?", {**paper, "text": secret * MATERIAL_CHARS_MAX}, 413),
        ("What is the code?", {**paper, "text": " \n"}, 422),
    ):
        answer = at.owner.post(f"{at.path}/ask", json={"text": question, "material": given})
        assert answer.status_code == status
        assert status != 200 or secret in answer.text
    assert server.log.read_text()
    for file in (server.log, *server.data.rglob("*")):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file
    assert at.owner.post(f"{at.path}/ask", json={"text": "What is the code?"}).json()["outcome"] == "unknown"


def test_too_long_a_text_is_one_line_and_the_longest_one_goes(
    twin: Twin, tmp_path: Path, server: ServerProcess
) -> None:
    sentence = "Ein Brot, süß und rund, hält länger. "
    longest = (sentence * MATERIAL_CHARS_MAX)[: MATERIAL_CHARS_MAX - 1] + "."
    assert twin.ask("Wie lange?", material=text(tmp_path / "long.txt", longest)).outcome is Outcome.UNKNOWN
    with pytest.raises(TooLarge, match=r"long\.txt cannot be given: it has 100,001 .* at most 100,000"):
        twin.ask("Wie lange?", material=text(tmp_path / "long.txt", longest + "."))
    at = enrol_twin(server, tmp_path, kind="person")
    over = {"text": "a" * (MATERIAL_CHARS_MAX + 1), "address": "a"}
    refused = at.owner.post(f"{at.path}/ask", json={"text": "Why?", "material": over})
    assert refused.status_code == 422 and "100000" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.md", None, "there is no"),
        ("blank.md", b" \n", "no text"),
        ("photo.jpg", b"\xff\xd8", "no document"),
        ("broken.pdf", b"%PDF-1.4 broken", "cannot"),
        ("noise.txt", b"\0\1\2\xff", "not"),
    ],
)
def test_what_cannot_be_given_is_named(
    twin: Twin, tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told) as refused:
        twin.ask(QUESTION, material=tmp_path / name)
    assert name in str(refused.value) and "\n" not in str(refused.value)


def test_a_folder_and_an_archive_are_no_single_document(twin: Twin, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder"):
        twin.ask(QUESTION, material=text(tmp_path / "a.md", FOUND).parent)
    with pytest.raises(InputError, match=r"a\.zip cannot be given"):
        twin.ask(QUESTION, material=write_zip(tmp_path / "a.zip", {"a.md": FOUND}))


def test_a_home_takes_none(settings: Settings, server: ServerProcess, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="home twin"):
        kind("home").material("paper.pdf")
    at = enrol_twin(server, tmp_path, kind="home")
    paper = {"text": FOUND, "address": "paper.pdf"}
    refused = at.owner.post(f"{at.path}/ask", json={"text": QUESTION, "material": paper})
    assert refused.status_code == 422 and "home twin" in refused.json()["error"]["message"]


def test_it_is_given_on_the_command_line(run: Run, tmp_path: Path) -> None:
    said(run("new", "me", "--kind", "person"))
    paper = text(tmp_path / "rye.md", f"# Rye\n\n{FOUND}\n")
    answer = said(run("ask", "me", QUESTION, "--with", paper.name)).splitlines()
    assert answer == [f"{FOUND} [m]", "", "[m] undated, Rye, rye.md"]
    assert_one_line(run("ask", "me", QUESTION, "--with", "none.md"), "there is no none.md")
    said(run("new", "home1"))
    assert_one_line(
        run("ask", "home1", QUESTION, "--with", paper.name), "a home twin is asked about its home"
    )
