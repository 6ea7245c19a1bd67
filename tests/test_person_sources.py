"""Reading a person's files and folders: words stay verbatim, what is bad is named, nothing is half done."""

# ruff: noqa: RUF001 (the signs that look alike are what is tested)

from __future__ import annotations

import hashlib
import os
import re
import socket
import struct
import time
import zipfile
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import docx
import pytest
from hypothesis import HealthCheck, settings
from pypdf import PdfReader, PdfWriter

from llmtwin.errors import InputError
from llmtwin.twins.person.sources.dates import read_date
from llmtwin.twins.person.sources.files import DOCUMENT_BYTES_MAX
from llmtwin.twins.person.sources.items import Author, Item, Me, own
from llmtwin.twins.person.sources.read import read
from llmtwin.wire.archive import RATIO_BYTES_MIN
from tests.person_sources import ANN, NOBODY, STYLE, pdf, reasons, write_zip

PERSON = Path(os.environ.get("LLMTWIN_PERSON", Path(__file__).parents[2] / "shared/data/person"))
OWN_FILES = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def item(text: str = "words", **fields: object) -> Item:
    given: dict[str, object] = {
        "source": "notes",
        "address": "/a",
        "audience": "notes",
        "text": text,
        **fields,
    }
    return Item.of(**given)  # type: ignore[arg-type]


# ---- items ---------------------------------------------------------------------------------------


def test_an_id_depends_on_source_address_date_and_text_alone() -> None:
    at = datetime(2024, 5, 1, 12, tzinfo=UTC)
    first = item(date=at, title="One", context="before")
    assert first.id == item(date=at.astimezone(timezone(timedelta(hours=2))), title="Two").id
    others = [item(), item("other", date=at), item(date=at, address="/b"), item(date=at, source="mail")]
    assert len({first.id, *(other.id for other in others)}) == 5


def test_an_id_is_the_same_in_every_release() -> None:
    at = datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    written = b'["notes", "/a", "2024-05-01T10:00:00+00:00", "it\\u2019s"]'.decode("unicode_escape")
    assert item("it’s", date=at).id == hashlib.sha256(written.encode()).hexdigest()


def test_only_line_ends_and_blank_lines_around_a_text_change() -> None:
    assert item("\r\n \n\tone\r\n\r\ntwo  \rthree \n\n").text == "\tone\n\ntwo  \nthree"


def test_a_million_blank_lines_take_no_time() -> None:
    begun = time.monotonic()
    assert item("\n \t" * 1_000_000 + "\nwords").text == "words"
    assert time.monotonic() - begun < 2


def test_an_item_without_text_is_none() -> None:
    with pytest.raises(InputError, match="no text"):
        item(" \n\t\n")


def test_dates_of_broken_clocks_are_left_out() -> None:
    assert item(date=datetime(1, 1, 1, tzinfo=UTC)).date is None
    assert item(date=datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))).date is None


def test_the_person_is_known_by_name_or_address() -> None:
    assert ANN.is_author(Author("ann  LEE")) and ANN.is_author(Author("x", "Ann@Example.org"))
    assert not ANN.is_author(Author("Bob", "bob@example.org")) and not Me(names=("",)).is_author(Author())


def test_whoever_wrote_most_is_the_person_where_nothing_is_known() -> None:
    ann, bob, eve = Author("Ann Lee"), Author("Bob"), Author("Eve")
    assert own({ann: 3, bob: 2}, NOBODY) == {ann}
    assert own({ann: 1, bob: 9}, ANN) == {ann}
    with pytest.raises(InputError, match=r"not clear who you are.*Ann Lee, Bob"):
        own({ann: 2, bob: 2}, NOBODY)
    with pytest.raises(InputError, match="you wrote nothing in it; it is by Bob, Eve"):
        own({bob: 2, eve: 1}, ANN)
    with pytest.raises(InputError, match="not clear"):
        own({}, NOBODY)


@pytest.mark.parametrize(
    ("value", "date"),
    [
        ("2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        ("25-Oct-2001", datetime(2001, 10, 25, tzinfo=UTC)),
        ("Oct 3, 2020", datetime(2020, 10, 3, tzinfo=UTC)),
        ("2015-01-02 10:00:00 -0500", datetime(2015, 1, 2, 15, tzinfo=UTC)),
        ("2023-05-01 10:00:00 UTC", datetime(2023, 5, 1, 10, tzinfo=UTC)),
        ("Mon, 06 May 2024 10:00:00 +0200", datetime(2024, 5, 6, 8, tzinfo=UTC)),
        (datetime(2024, 5, 1).date(), datetime(2024, 5, 1, tzinfo=UTC)),
        ("next week", None),
        ("", None),
        (7, None),
        (None, None),
    ],
)
def test_dates_are_read_and_never_guessed(value: object, date: datetime | None) -> None:
    assert read_date(value) == date


# ---- folders -------------------------------------------------------------------------------------


def test_a_folder_is_read_in_order_and_twice_the_same(tmp_path: Path) -> None:
    for name in ("b/2.md", "b/1.txt", "a.md", "b.md", "c/d/e.rst", ".hidden/x.md", "b/.x.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(f"{STYLE} {name}")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "LICENSE").write_text("MIT")
    found = read([tmp_path], NOBODY)
    names = [os.path.relpath(item.address, tmp_path) for item in found.items]
    assert names == ["a.md", "b.md", "b/1.txt", "b/2.md", "c/d/e.rst"]
    assert reasons(found) == {
        "photo.jpg": "there is no reader for .jpg files",
        "LICENSE": "a licence or code of conduct is nobody's own words",
    }
    assert found == read([str(tmp_path)], NOBODY)


def test_notes_about_exports_are_notes(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("See http://wordpress.org/export/1.2/")
    (tmp_path / "b.md").write_text("ShareCommentary is a column; <rss > is a tag")
    assert [item.source for item in read([tmp_path], NOBODY).items] == ["notes", "notes"]


def test_what_is_named_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("one")
    assert len(read([tmp_path, tmp_path / "a.md", f"{tmp_path}/./a.md"], NOBODY).items) == 1


def test_what_is_changed_keeps_its_address_and_gets_an_id(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.md").write_text(name)
    before = read([tmp_path], NOBODY).items
    (tmp_path / "a.md").write_text("A")
    os.utime(tmp_path / "b.md", (1, 1))
    after = read([tmp_path], NOBODY).items
    assert [item.address for item in before] == [item.address for item in after]
    assert before[0].id != after[0].id and before[1].id == after[1].id


def test_links_are_named_and_not_followed(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir(), folder.mkdir()
    (outside / "secret.md").write_text("secret")
    (folder / "a.md").write_text("mine")
    (folder / "file.md").symlink_to(outside / "secret.md")
    (folder / "out").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    found = read([folder], NOBODY)
    assert [item.text for item in found.items] == ["mine"]
    assert reasons(found) == dict.fromkeys(
        ("file.md", "out", "loop"), "it is a link, and links are not followed"
    )


def test_a_folder_may_be_named_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.md").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read([tmp_path / "link"], NOBODY) == read([tmp_path / "real"], NOBODY)


def test_pipes_and_sockets_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.md"))
        found = read([tmp_path, tmp_path / "pipe.md"], NOBODY)
    assert not found.items and set(reasons(found).values()) == {"it is no plain file"}


def test_names_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.md", "w") as file:
        file.write("mine")
    (found,) = read([tmp_path], NOBODY).items
    assert found.address.endswith("caf?.md") and found.text == "mine"


# ---- bad input -----------------------------------------------------------------------------------


def test_what_is_asked_wrongly_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    (tmp_path / "loop").symlink_to("loop")
    wrong = {
        tmp_path / "none": "there is no ",
        tmp_path / "empty": "is empty: there is no file in it",
        tmp_path / "loop": "cannot be read: Too many levels",
        "ftp://example.org/x": "is no address of the web",
    }
    for source, message in wrong.items():
        with pytest.raises(InputError, match=message):
            read(["http://127.0.0.1:1/never", source], NOBODY)
    with pytest.raises(InputError, match="nothing is named"):
        read([], NOBODY)


@pytest.mark.parametrize("name", ["big.txt", "big.mbox", "big.zip"])
def test_a_file_of_300_mb_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(300_000_000)
    (tmp_path / "small.md").write_text("small")
    begun = time.monotonic()
    found = read([tmp_path], NOBODY)
    assert time.monotonic() - begun < 0.5
    assert [item.text for item in found.items] == ["small"]
    assert re.fullmatch(r"it has 300000000 bytes; at most \d+ are read", reasons(found)[name])


def test_a_document_has_a_smaller_limit(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"x" * (DOCUMENT_BYTES_MAX + 1))
    assert "at most" in reasons(read([tmp_path], NOBODY))["a.md"]


def test_broken_and_encrypted_files_are_named(tmp_path: Path) -> None:
    whole = pdf(tmp_path / "whole.pdf", "Text")
    data = whole.read_bytes()
    (tmp_path / "cut.pdf").write_bytes(data[: len(data) // 3])
    (tmp_path / "noise.pdf").write_bytes(b"%PDF-1.7\n" + os.urandom(500))
    (tmp_path / "empty.pdf").write_bytes(b"")
    writer = PdfWriter(clone_from=PdfReader(whole))
    writer.encrypt("secret", algorithm="AES-256")
    writer.write(tmp_path / "locked.pdf")
    pdf(tmp_path / "scan.pdf", "")
    (tmp_path / "noise.docx").write_bytes(b"PK\x03\x04" + os.urandom(200))
    (tmp_path / "old.docx").write_bytes(b"\xd0\xcf\x11\xe0" + os.urandom(200))
    (tmp_path / "empty.zip").write_bytes(b"")
    found = read([tmp_path], NOBODY)
    why = reasons(found)
    assert [item.text for item in found.items] == ["Text"]
    for name in ("cut.pdf", "noise.pdf", "empty.pdf", "noise.docx", "empty.zip"):
        assert "broken" in why[name], name
    assert why["locked.pdf"] == "the pdf is encrypted: save it without a password"
    assert why["scan.pdf"] == "the pdf has no text in it: perhaps it is a scan"
    assert why["old.docx"].startswith("the Word document is encrypted or of an old Word")
    assert all("\n" not in reason for reason in why.values())


def test_xml_in_a_word_document_has_no_entities(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_paragraph("x")
    document.save(str(tmp_path / "a.docx"))
    bomb = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><w>&b;</w>'
    with zipfile.ZipFile(tmp_path / "a.docx") as whole:
        files = {name: whole.read(name) for name in whole.namelist()}
    write_zip(tmp_path / "a.docx", {**files, "word/document.xml": bomb})
    assert reasons(read([tmp_path], NOBODY)) == {"a.docx": "the Word document is broken: DTDForbidden"}


# ---- archives ------------------------------------------------------------------------------------


def test_an_archive_is_read_like_a_folder(tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "inner.zip", {"x.md": "x"}).read_bytes()
    (tmp_path / "inner.zip").unlink()
    files = {"n/b.md": STYLE, "n/a.txt": "one", "p.jpg": b"\xff", "i.zip": inner, "__MACOSX/n/._b.md": b"\0"}
    found = read([write_zip(tmp_path / "notes.zip", files)], NOBODY)
    assert [item.address for item in found.items] == [
        f"{tmp_path}/notes.zip/n/{name}" for name in ("a.txt", "b.md")
    ]
    assert reasons(found) == {
        "p.jpg": "there is no reader for .jpg files",
        "i.zip": "it is an archive in an archive: unpack the outer one",
    }


@pytest.mark.parametrize(
    "name", ["../evil.md", "a/../../evil.md", "/etc/evil.md", "C:\\evil.md", "a\\..\\evil.md"]
)
def test_an_archive_that_leads_out_of_itself_is_refused_whole(tmp_path: Path, name: str) -> None:
    found = read([write_zip(tmp_path / "a.zip", {"good.md": "good", name: "evil"})], NOBODY)
    assert not found.items and "leads out of itself" in reasons(found)["a.zip"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    write_zip(tmp_path / "ratio.zip", {"good.md": "good", "bomb.md": b"0" * (200 * RATIO_BYTES_MIN)})
    write_zip(tmp_path / "many.zip", {f"{number}.md": "" for number in range(50_001)})
    data = bytearray(write_zip(tmp_path / "total.zip", {"a.md": os.urandom(2000)}).read_bytes())
    # The directory of the archive may claim anything.
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 2**31)
    (tmp_path / "total.zip").write_bytes(data)
    begun = time.monotonic()
    found = read([tmp_path], NOBODY)
    assert not found.items and time.monotonic() - begun < 3
    assert "over 100 times its size" in reasons(found)["ratio.zip"]
    assert "holds 50001 files" in reasons(found)["many.zip"]
    assert "unpacks to" in reasons(found)["total.zip"]


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    data = bytearray(write_zip(tmp_path / "a.zip", {"a.md": "secret"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    assert reasons(read([tmp_path], NOBODY)) == {
        "a.zip": "the zip archive is encrypted: unpack it and give the folder"
    }


def test_a_broken_member_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("bad.md", "the bad one")
        archive.writestr("good.md", "good")
    data = (tmp_path / "a.zip").read_bytes().replace(b"the bad one", b"the sad one")
    (tmp_path / "a.zip").write_bytes(data)
    found = read([tmp_path], NOBODY)
    assert [item.text for item in found.items] == ["good"]
    assert reasons(found)["bad.md"].startswith("it is broken in the archive")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99])
def test_an_archive_cut_anywhere_is_refused(tmp_path: Path, share: float) -> None:
    data = write_zip(tmp_path / "a.zip", {f"{name}.md": STYLE * 9 for name in "abc"}).read_bytes()
    (tmp_path / "a.zip").write_bytes(data[: int(share * len(data))])
    found = read([tmp_path], NOBODY)
    assert not found.items and "broken" in reasons(found)["a.zip"]


# ---- real notes ----------------------------------------------------------------------------------


@pytest.mark.skipif(
    not (PERSON / "til").is_dir(), reason=f"there is no {PERSON / 'til'}: see CONTRIBUTING.md"
)
def test_577_real_notes_stay_verbatim() -> None:
    found = read([PERSON / "til"], NOBODY)
    assert len(found.items) == 577 and set(reasons(found)) == {"LICENSE"}
    for one in found.items:
        assert one.text == Path(one.address).read_text().strip("\n").rstrip()
        assert one.title


@pytest.mark.skipif(
    not (PERSON / "peps").is_dir(), reason=f"there is no {PERSON / 'peps'}: see CONTRIBUTING.md"
)
def test_every_pep_has_title_date_and_its_own_words() -> None:
    found = read([PERSON / "peps"], NOBODY)
    assert len(found.items) == 145 and not found.skipped
    for one in found.items:
        written = Path(one.address).read_text()
        assert one.date is not None and f"Title: {one.title}" in " ".join(written.split())
        assert written.rstrip().endswith(one.text) and "Author:" not in one.text[:200]


@pytest.mark.skipif(
    not (PERSON / "peps").is_dir(), reason=f"there is no {PERSON / 'peps'}: see CONTRIBUTING.md"
)
def test_a_pep_by_others_is_nobody_elses_voice() -> None:
    found = read([PERSON / "peps"], Me(names=("Barry Warsaw",)))
    assert {Path(one.address).parent.name for one in found.items} == {"barry-warsaw"}
    assert len(found.items) + len(found.skipped) == 145
