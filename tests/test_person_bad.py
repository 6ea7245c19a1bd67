"""Bad sources through the whole of `collect`: each is named in a line, and nothing is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pypdf import PdfReader, PdfWriter

from llmtwin.errors import InputError
from llmtwin.records import Outcome
from llmtwin.settings import Settings
from llmtwin.twin import Twin
from tests.models import tiny_base
from tests.person_sources import mail, mbox, pdf, write_zip
from tests.test_cli import Run, assert_one_line, run, said

__all__ = ["run"]

GOOD = "# Tea\n\nThe samovar of my aunt takes eleven minutes to boil.\n"
MIB = 1 << 20


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(300 * MIB)


def encrypted_pdf(path: Path) -> None:
    writer = PdfWriter(PdfReader(pdf(path.with_suffix(".plain"), "A secret.")))
    writer.encrypt("password")
    writer.write(path)
    path.with_suffix(".plain").unlink()


def encrypted_zip(path: Path) -> None:
    data = bytearray(write_zip(path, {"a.md": GOOD}).read_bytes())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(magic) + flags] |= 1
    path.write_bytes(data)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "large.mbox": (sparse, "314572800 bytes; at most"),
    "large.md": (sparse, "314572800 bytes; at most"),
    "large.zip": (sparse, "314572800 bytes; at most"),
    "locked.pdf": (encrypted_pdf, "encrypted"),
    "broken.pdf": (lambda path: path.write_bytes(b"%PDF-1.4\nbroken"), "pdf"),
    "locked.zip": (encrypted_zip, "encrypted: unpack it and give the folder"),
    "broken.zip": (lambda path: path.write_bytes(b"PK\x03\x04broken"), "the zip archive is broken"),
    "out.zip": (lambda path: write_zip(path, {"a.md": GOOD, "../../x.md": GOOD}), "leads out of itself"),
}


@pytest.fixture
def twin(settings: Settings) -> Iterator[Twin]:
    with Twin.new("me", "person") as made:
        yield made


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "tea.md").write_text(GOOD)
    return folder


def documents(settings: Settings) -> list[str]:
    """The names of what the edge holds."""
    with sqlite3.connect(settings.edge_folder / "me" / "edge.sqlite") as database:
        rows = database.execute("SELECT address FROM document ORDER BY address").fetchall()
    return [address.rpartition("/")[2] for (address,) in rows]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_and_the_good_one_beside_it_is_collected(
    twin: Twin, notes: Path, settings: Settings, name: str
) -> None:
    make, told = BAD[name]
    make(notes / name)
    found = twin.collect(notes)
    skipped = {one.name.rpartition("/")[2]: one.reason for one in found.skipped}
    assert told in skipped[name] and "\n" not in skipped[name]
    assert documents(settings) == ["tea.md"] and found.pushed.left == 0
    assert not (notes.parent.parent / "x.md").exists() and not (notes.parent / "x.md").exists()
    assert "eleven minutes" in twin.ask("How many minutes does the samovar take to boil?").text


def test_a_bad_file_alone_takes_nothing_away(twin: Twin, notes: Path, settings: Settings) -> None:
    twin.collect(notes)
    for name, (make, _) in BAD.items():
        make(notes.parent / name)
        assert twin.collect(notes.parent / name).documents == 0
    (notes.parent / "empty").mkdir()
    with pytest.raises(InputError, match="empty is empty"):
        twin.collect(notes, notes.parent / "empty")
    assert documents(settings) == ["tea.md"]


def test_a_mailbox_in_a_legacy_encoding_is_quoted_as_it_was_written(twin: Twin, tmp_path: Path) -> None:
    text = "Самовар моей тёти закипает за одиннадцать минут, и это очень долго для утра."
    head = "From: Ann Lee <ann@example.org>\nMessage-ID: <1@x>\nSubject: tea\n\n"
    twin.collect(mbox(tmp_path / "sent.mbox", (head + text).encode("koi8-r")), names=["ann@example.org"])
    assert f"{text} [1]" in twin.ask("Самовар моей тёти закипает?").text.splitlines()


def test_five_messages_are_a_memory_and_it_is_said_what_a_voice_takes(
    twin: Twin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (
        "The boiler is fixed at last.",
        "Shall we move the rehearsal to Thursday evening?",
        "Our samovar takes eleven minutes to boil.",
        "No snow this year, and the skis are still in the cellar.",
        "I would paint the fence green, not blue.",
    )
    mails = [mail(text, number=number, Subject=f"Note {number}") for number, text in enumerate(said)]
    assert twin.collect(mbox(tmp_path / "sent.mbox", *mails), names=["ann@example.org"]).documents == 5
    base = tiny_base(tmp_path / "base", "llama")
    monkeypatch.setattr("llmtwin.serving.base", lambda settings: base)
    with pytest.raises(InputError, match=r"5 documents with \d+ words are too few .* 1000 words .* memory"):
        twin.tune()
    answer = twin.ask("How many minutes does the samovar take to boil?")
    assert answer.outcome is Outcome.ANSWERED and said[2] in answer.text


def test_on_the_command_line_it_is_one_line_each(run: Run, notes: Path, tmp_path: Path) -> None:
    said(run("new", "me", "--kind", "person"))
    (tmp_path / "empty").mkdir()
    assert_one_line(run("collect", "me", "empty"), "empty is empty: there is no file in it")
    for name in ("large.mbox", "locked.pdf", "out.zip"):
        BAD[name][0](notes / name)
    ended = run("collect", "me", notes)
    assert said(ended).startswith("1 items: 1 new or changed documents")
    lines = [line for line in ended.stderr.splitlines() if line.startswith(f"skipped {notes}")]
    assert len(lines) == 3 and "Traceback" not in ended.stderr
