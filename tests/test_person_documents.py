"""Documents of a person become text: their words stay verbatim, title and date are read, noise is refused."""

# ruff: noqa: RUF001 (the signs that look alike are what is tested)

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path

import docx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmtwin.errors import InputError
from llmtwin.twins.person.sources.charset import decode
from llmtwin.twins.person.sources.documents import read_document
from llmtwin.twins.person.sources.html import to_markdown, to_text
from llmtwin.twins.person.sources.items import Me
from llmtwin.twins.person.sources.read import read
from tests.person_sources import ANN, NOBODY, STYLE, lines, pdf, read_one, reasons, style

OWN_FILES = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


# ---- documents -----------------------------------------------------------------------------------


@OWN_FILES
@given(lines, st.sampled_from([".md", ".rst", ".txt"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_text_stays_verbatim(tmp_path: Path, said: list[str], suffix: str, encoding: str) -> None:
    file = tmp_path / f"note{suffix}"
    file.write_bytes("\r\n".join(said).encode(encoding))
    assert read_one(file) == "\n".join(said).rstrip()


@OWN_FILES
@given(lines)
def test_words_in_html_keep_their_style(tmp_path: Path, said: list[str]) -> None:
    file = tmp_path / "note.html"
    file.write_text(
        "<body>" + "".join(f"<p>{line}</p>" for line in said) + "<script>alert('x')</script></body>"
    )
    assert read_one(file) == "\n\n".join(said)


@settings(OWN_FILES, max_examples=8)
@given(lines)
def test_words_in_word_documents_keep_their_style(tmp_path: Path, said: list[str]) -> None:
    document = docx.Document()
    for line in said:
        document.add_paragraph(line)
    document.save(str(tmp_path / "note.docx"))
    assert style(read_one(tmp_path / "note.docx")) == style("\n\n".join(said))


def test_front_matter_is_read_and_taken_off(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        f"---\ntitle: 'On “this”'\ndate: 2024-05-01\n---\n\n# Heading\n\n{STYLE}\n"
    )
    (tmp_path / "b.md").write_text(f"---\ntitle: My: colon\ndate: 2024-05-02 10:00\n---\n{STYLE}")
    (tmp_path / "d.md").write_text(f"Title: Pelican\nDate: 2024-05-04\n\n{STYLE}")
    (tmp_path / "c.md").write_text(f'+++\ntitle = "Toml"\ndate = 2024-05-03\n+++\n{STYLE}')
    a, b, c, d = read([tmp_path], NOBODY).items
    assert (d.title, d.date, d.text) == ("Pelican", datetime(2024, 5, 4, tzinfo=UTC), STYLE)
    assert (a.title, a.date, a.text) == (
        "On “this”",
        datetime(2024, 5, 1, tzinfo=UTC),
        f"# Heading\n\n{STYLE}",
    )
    assert (b.title, b.date, b.text) == ("My: colon", datetime(2024, 5, 2, 10, tzinfo=UTC), STYLE)
    assert (c.title, c.date, c.text) == ("Toml", datetime(2024, 5, 3, tzinfo=UTC), STYLE)


@pytest.mark.parametrize(
    "text",
    [
        "Note: it's\nprose: so\n\nx",
        "---\nJust a rule above.\n---\nAnd more.",
        "---\n- a\n- b\n---\nx",
        "+++\nx\n+++\ny",
    ],
)
def test_a_rule_around_prose_is_no_front_matter(text: str) -> None:
    assert read_document("a.md", text.encode()).text == text


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        ("note.md", "intro\n\n# It's *this* #\n\ntext", "It's *this*"),
        ("note.md", "# C#\n", "C#"),
        ("note.md", "# C# ##\n", "C#"),
        ("note.md", "Setext\n======\ntext", "Setext"),
        ("2024-05-01-name.md", "```sh\n# comment\n```\n", "2024-05-01-name"),
        ("note.rst", "=====\nTitle\n=====\n\ntext", "Title"),
        ("note.txt", "text", "note"),
        ("note.html", "<title>T</title><article><h1>H</h1><p>x</p></article>", "H"),
    ],
)
def test_a_title_is_the_first_heading_or_the_name(name: str, text: str, title: str) -> None:
    assert read_document(name, text.encode()).title == title


def test_a_date_may_stand_in_the_name_or_the_text() -> None:
    assert read_document("2024-05-01-name.md", b"text").date == datetime(2024, 5, 1, tzinfo=UTC)
    assert read_document("a.rst", b"Title\n=====\n\n:Date: 2024-05-02\n").date == datetime(
        2024, 5, 2, tzinfo=UTC
    )
    page = b"<meta property='article:published_time' content='2024-05-03T10:00:00Z'><p>x"
    assert read_document("a.html", page).date == datetime(2024, 5, 3, 10, tzinfo=UTC)


def test_the_header_of_a_pep_is_read_and_taken_off(tmp_path: Path) -> None:
    file = tmp_path / "pep-0001.rst"
    file.write_text(
        "PEP: 1\nTitle: It's a title\nAuthor: Ann Lee <ann@example.org>,\n        Bob <bob@example.org>\n"
        "Created: 25-Oct-2001\n\n\nAbstract\n========\n\nWords.\n"
    )
    found = read_document(file.name, file.read_bytes())
    assert found.title == "It's a title" and found.date == datetime(2001, 10, 25, tzinfo=UTC)
    assert found.text.strip() == "Abstract\n========\n\nWords."
    assert [author.name for author in found.authors] == ["Ann Lee", "Bob"]
    assert reasons(read([file], ANN)) == {"pep-0001.rst": "it says it is by Bob: give that name if it is you"}


def test_html_becomes_markdown_without_menus_and_pictures() -> None:
    page = (
        "<body><nav>Home</nav><h2>A</h2><p>It’s <em>so</em>, a_b * c &lt;x&gt;<br>next</p>"
        "<blockquote><p>quoted</p></blockquote><ul><li>one</li></ul><pre>x = 1\n  y</pre>"
        "<img src='data:x' alt='p'><button>f</button><footer>Copyright</footer></body>"
    )
    expected = "## A\n\nIt’s *so*, a_b * c <x>  \nnext\n\n> quoted\n\n- one\n\n```\nx = 1\n  y\n```"
    assert to_markdown(page) == expected
    assert to_text("<p><b>From:</b> a<br>b</p><blockquote>q<br>r</blockquote>") == "From: a\nb\n\n> q\n> r"


def test_html_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<div>" * 5000 + "x")
    assert reasons(read([tmp_path], NOBODY)) == {"a.html": "its HTML is nested too deeply"}


def test_word_documents_have_structure_title_and_date(tmp_path: Path) -> None:
    document = docx.Document()
    document.core_properties.title = "It’s titled"
    document.core_properties.created = datetime(2024, 5, 1, 10)
    document.add_heading("Head", 1)
    document.add_paragraph("One").add_run(" bold").bold = True
    document.save(str(tmp_path / "a.docx"))
    (found,) = read([tmp_path / "a.docx"], NOBODY).items
    assert (found.title, found.date) == ("It’s titled", datetime(2024, 5, 1, 10, tzinfo=UTC))
    assert found.text == "# Head\n\nOne **bold**"


def test_a_pdf_is_read_page_by_page(tmp_path: Path) -> None:
    (found,) = read([pdf(tmp_path / "a.pdf", 'It\'s "page" one - WOW.', "And two")], NOBODY).items
    assert found.text == 'It\'s "page" one - WOW.\n\nAnd two'
    assert (found.title, found.date) == ("A pdf's title", datetime(2024, 5, 1, 10, tzinfo=UTC))


def test_what_a_file_is_shows_in_its_content_too(tmp_path: Path) -> None:
    pdf(tmp_path / "a.txt", "A pdf in truth")
    docx.Document().save(str(tmp_path / "empty.docx"))
    document = docx.Document()
    document.add_paragraph("A document")
    document.save(str(tmp_path / "b"))
    assert [found.text for found in read([tmp_path], NOBODY).items] == ["A pdf in truth", "A document"]


# ---- encodings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "I don’t think it’s “done” – we’re waiting for Bob’s answer, and it’s late."),
        ("latin-1", "Ich möchte wissen, ob wir uns am Dienstag treffen können. Schöne Grüße aus Köln."),
        ("koi8-r", "Привет! Я думаю, что мы должны встретиться завтра."),
        ("cp1251", "Привет! Я думаю, что мы должны встретиться завтра."),
        ("cp1250", "Cześć! Myślę, że powinniśmy się spotkać jutro. Napisz do mnie, kiedy będziesz wolny."),
        ("shift_jis", "こんにちは。明日会いましょう。時間があるときに連絡してください。"),
        ("gb18030", "你好，我觉得我们明天应该见面。有空的时候给我写信。"),
    ],
)
def test_legacy_encodings_are_told_from_the_bytes(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding)) == text


def test_a_word_is_read_in_the_encoding_of_what_is_around_it() -> None:
    around = "Привет! Я думаю, что мы должны встретиться завтра. Напиши мне.".encode("koi8-r")
    assert decode("да".encode("koi8-r"), like=around) == "да"


@pytest.mark.parametrize("data", [b"a\0b", b"\xff\xfea", b"\x89PNG\r\n\x1a\n\0\0"])
def test_bytes_that_are_no_text_are_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        decode(data)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted({".md", ".rst", ".html", ".docx", ".pdf"})), st.binary(max_size=300))
def test_noise_is_read_or_refused_and_never_breaks(suffix: str, data: bytes) -> None:
    head = {".pdf": b"%PDF-1.4\n", ".docx": base64.b64decode("UEsDBA==")}.get(suffix, b"")
    try:
        read_document(f"a{suffix}", head + data)
    except InputError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_a_page_is_read_in_the_encoding_it_declares_or_looks_like(encoding: str) -> None:
    said = "I don’t think it’s “done” – we’re waiting for Bob’s answer, and it’s late."
    for declared in ("", f"<meta charset='{encoding}'>", "<meta charset='iso-8859-1'>"):
        page = f"<html><head>{declared}</head><body><p>{said}</p></body></html>".encode(encoding)
        assert read_document("a.html", page).text == said


def test_a_pdf_with_a_date_that_is_none_is_read(tmp_path: Path) -> None:
    data = pdf(tmp_path / "a.pdf", "Text").read_bytes().replace(b"(D:2024", b"(X:2024")
    found = read_document("a.pdf", data)
    assert (found.text, found.date) == ("Text", None)


def test_front_matter_names_authors_in_many_ways() -> None:
    ways = (
        "author: Ann Lee",
        "authors: [Ann Lee]",
        "author: {name: Ann Lee, email: x@x}",
        "author: Ann Lee <a@x>",
    )
    for matter in ways:
        (author,) = read_document("a.md", f"---\n{matter}\n---\nx".encode()).authors
        assert author.name == "Ann Lee"
    found = read_document("a.md", b"---\nauthor: Ann Lee, bob@x.org and Eve\n---\nx").authors
    assert [str(author) for author in found] == ["Ann Lee", "bob@x.org", "Eve"]


@pytest.mark.parametrize(
    ("noted", "names"),
    [
        ("Bob Roe", ["Bob Roe"]),
        ("Roe, Bob; Ann Lee", ["Bob Roe", "Ann Lee"]),
        ("Bob Roe, Ann Lee and Eve O'Hara", ["Bob Roe", "Ann Lee", "Eve O'Hara"]),
        ("Ann Lee, Senior Engineer", ["Ann Lee"]),
        ("Ann Lee, Head of Research, Acme Labs", ["Ann Lee"]),
        ("bob@example.org", ["bob@example.org"]),
        ("山田太郎", ["山田太郎"]),
        ("Microsoft Office User", []),
        ("Administrator", []),
        ("python-docx", []),
        ("ann", []),
        ("Jane’s MacBook Pro", []),
        ("DESKTOP-7Q2K user 1", []),
        ("https://example.org/bob roe", []),
        ("ユーザー", []),
        ("", []),
    ],
)
def test_of_metadata_only_full_names_and_addresses_are_authors(
    tmp_path: Path, noted: str, names: list[str]
) -> None:
    document = docx.Document()
    document.core_properties.author = noted
    document.save(str(tmp_path / "a.docx"))
    found = read_document("a.docx", (tmp_path / "a.docx").read_bytes())
    assert [str(author) for author in found.authors] == names
    page = f'<meta name="author" content="{noted}"><p>x'.encode()
    assert read_document("a.html", page).authors == found.authors


def test_what_others_signed_is_not_the_persons_in_any_format(tmp_path: Path) -> None:
    for by in ("Bob Roe", "Ann Lee", "Microsoft Office User"):
        document = docx.Document()
        document.core_properties.author = by
        document.add_paragraph("Words")
        document.save(str(tmp_path / f"{by}.docx"))
        pdf(tmp_path / f"{by}.pdf", "Words", by=by)
        (tmp_path / f"{by}.html").write_text(f"<meta name=author content='{by}'><p>Words")
    found = read([tmp_path], ANN)
    assert len(found.items) == 6
    refused = "it says it is by Bob Roe: give that name if it is you"
    assert reasons(found) == {f"Bob Roe.{suffix}": refused for suffix in ("docx", "html", "pdf")}


def test_a_name_is_no_others_where_only_addresses_are_known(tmp_path: Path) -> None:
    for by in ("Ann Lee", "bob@example.org"):
        pdf(tmp_path / f"{by}.pdf", f"Words of {by}", by=by)
    found = read([tmp_path], Me(addresses=("ann@example.org",)))
    assert [item.text for item in found.items] == ["Words of Ann Lee"]
    assert reasons(found) == {
        "bob@example.org.pdf": "it says it is by bob@example.org: give that name if it is you"
    }
