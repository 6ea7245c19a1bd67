"""Reading a person's pages and feeds from a real server on loopback, and what servers do wrong."""

# ruff: noqa: RUF001 (the signs that look alike are what is tested)

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llmtwin.errors import InputError, TooLarge, Unavailable
from llmtwin.twins.person.sources.feeds import read_feed
from llmtwin.twins.person.sources.items import Me
from llmtwin.twins.person.sources.read import read
from llmtwin.twins.person.sources.web import Limits, fetch
from tests.person_sources import ANN, NOBODY, STYLE, reasons

PARAGRAPHS = "".join(
    f"<p>{STYLE} Number {number}, which says a little more of it.</p>" for number in range(8)
)
PAGE = f"""<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>It’s mine | Blog</title>
<meta property="og:title" content="It’s mine">
<meta property="article:published_time" content="2024-05-01T10:00:00Z">
</head><body><nav><a href="/">Home</a><a href="/about">About the author</a></nav>
<article><h1>It’s mine</h1>{PARAGRAPHS}
<blockquote><p>Somebody else has said this before.</p></blockquote>
<p>A line<br>and a_b * c <em>so</em> <a href="https://x.org">there</a></p><pre><code>x = 1\n  y</code></pre>
</article>
<section id="comments"><h2>Comments</h2><p>Bob: his comment</p></section>
<footer>Copyright 2024 by Ann. All rights reserved.</footer></body></html>"""
RSS = """<?xml version="1.0" encoding="utf-8"?>
<rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/"
  xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel><title>Blog</title>{items}</channel></rss>"""
ENTRY = """<item><title>{title}</title><link>https://blog.org/{title}</link><dc:creator>{by}</dc:creator>
<pubDate>Wed, 01 May 2024 10:00:00 +0200</pubDate><description>short</description>
<content:encoded><![CDATA[<p>{text}</p>]]></content:encoded></item>"""
ATOM = f"""<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>Blog</title>
<author><name>Ann Lee</name></author><entry><title>One</title><id>urn:1</id><link href="https://blog.org/1"/>
<updated>2024-05-01T10:00:00Z</updated><content type="text">{STYLE}</content></entry></feed>"""

Answer = Callable[[BaseHTTPRequestHandler], None]


def send(
    data: bytes | str, kind: str = "text/html; charset=utf-8", status: int = 200, **headers: str
) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        content = data if isinstance(data, bytes) else data.encode()
        handler.send_response(status)
        handler.send_header("content-type", kind)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A server that never comes to an end."""
    send(b"")(handler)
    try:
        while True:
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        return


ANSWERS: dict[str, Answer] = {
    "/page": send(PAGE),
    "/signed": send(PAGE.replace("</head>", "<meta name='author' content='Bob Roe'></head>")),
    "/old": send("", status=301, location="/page"),
    "/loop": send("", status=302, location="/loop"),
    "/file": send("", status=302, location="file:///etc/passwd"),
    "/feed": send(RSS.format(items=ENTRY.format(title="One", by="Ann", text=STYLE)), "application/rss+xml"),
    "/note.md": send(f"# It’s a note\n\n{STYLE}", "text/markdown"),
    "/pdf": send(b"%PDF-1.4\nbroken", "application/pdf"),
    "/empty": send("<html><body></body></html>"),
    "/gone": send("no", status=404),
    "/broken": send("no", status=503),
    "/big": send(b"x" * 2_000_000),
    "/bomb": send(gzip.compress(b"x" * 50_000_000), content_encoding="gzip"),
    "/torn": send(b"no gzip", content_encoding="gzip"),
    "/slow": drip,
}


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self) -> None:
        ANSWERS.get(self.path, send("no", status=404))(self)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


# ---- pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/page", "/old"])
def test_the_main_text_of_a_page_is_read_verbatim(site: str, path: str) -> None:
    (item,) = read([f"{site}{path}"], NOBODY).items
    assert item.text.count(STYLE) == 8 and item.text.endswith(
        "\n\n> Somebody else has said this before.\n\nA line  \nand a_b * c *so* [there](https://x.org)"
        "\n\n```\nx = 1\n  y\n```"
    )
    for other in ("Home", "his comment", "Copyright"):
        assert other not in item.text
    assert (item.title, item.source, item.audience, item.address) == (
        "It’s mine",
        "web",
        "web",
        f"{site}/page",
    )
    assert item.date == datetime(2024, 5, 1, 10, tzinfo=UTC)


def test_a_page_that_somebody_else_signed_is_not_the_persons(site: str) -> None:
    found = read([f"{site}/page", f"{site}/signed"], ANN)
    assert len(found.items) == 1
    assert reasons(found) == {"signed": "it says it is by Bob Roe: give that name if it is you"}


def test_a_document_is_read_as_such(site: str) -> None:
    (item,) = read([f"{site}/note.md"], NOBODY).items
    assert (item.title, item.text) == ("It’s a note", f"# It’s a note\n\n{STYLE}")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/gone", "answers 404 Not Found"),
        ("/broken", "answers 503 Service Unavailable"),
        ("/loop", "cannot be fetched"),
        ("/file", "cannot be fetched"),
        ("/torn", "cannot be fetched"),
        ("/empty", "there is no main text in it"),
        ("/pdf", "the pdf is broken"),
        ("/bomb", "sends more than 16777216 bytes"),
    ],
)
def test_what_cannot_be_fetched_is_named_and_the_rest_is_read(
    site: str, path: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "a.md").write_text("mine")
    found = read([f"{site}{path}", tmp_path], NOBODY)
    assert [item.text for item in found.items] == ["mine"]
    (skipped,) = found.skipped
    assert skipped.name == f"{site}{path}" and reason in skipped.reason and "\n" not in skipped.reason


def test_nobody_there_is_said() -> None:
    found = read(["http://127.0.0.1:9/x", "http://", "http://[::1"], NOBODY)
    assert not found.items and all("cannot be fetched" in skipped.reason for skipped in found.skipped)
    assert len(found.skipped) == 3


def test_a_server_may_send_only_so_much_and_take_only_so_long(site: str) -> None:
    with pytest.raises(TooLarge, match="more than 1000000 bytes"):
        fetch(f"{site}/big", Limits(bytes_max=1_000_000))
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"takes more than 0\.5 seconds"):
        fetch(f"{site}/slow", Limits(seconds_max=0.5))
    assert time.monotonic() - begun < 3


# ---- feeds ---------------------------------------------------------------------------------------


def test_a_feed_is_read_entry_by_entry(site: str) -> None:
    (item,) = read([f"{site}/feed"], ANN).items
    assert (item.text, item.title, item.address, item.source) == (STYLE, "One", "https://blog.org/One", "web")
    assert item.date == datetime(2024, 5, 1, 8, tzinfo=UTC)


def test_a_feed_in_a_file_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "atom.xml").write_text(ATOM)
    (item,) = read([tmp_path], NOBODY).items
    assert (item.text, item.date) == (STYLE, datetime(2024, 5, 1, 10, tzinfo=UTC))


def test_a_feed_of_several_needs_to_know_the_person() -> None:
    people = ("Ann Lee", "Bob")
    entries = "".join(ENTRY.format(title=by[:3], by=by, text=f"By {by}") for by in people)
    feed = RSS.format(items=entries).encode()
    found = read_feed("feed", feed, ANN)
    assert [item.text for item in found.items] == ["By Ann Lee"]
    assert reasons(found) == {"Bob": "it is by Bob"}
    for me in (NOBODY, Me(names=("Zoe",))):
        with pytest.raises(InputError, match="Ann Lee, Bob"):
            read_feed("feed", feed, me)


def test_a_feed_is_never_taken_for_a_name_to_open(tmp_path: Path) -> None:
    (tmp_path / "secret.xml").write_text(ATOM)
    with pytest.raises(InputError, match="broken"):
        read_feed("feed", str(tmp_path / "secret.xml").encode(), NOBODY)


def test_a_feed_full_of_entities_is_no_bomb() -> None:
    bomb = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    doctype = f'<!DOCTYPE rss [<!ENTITY a "aaaaaaaaaa">{bomb}]><rss '
    entry = (
        ENTRY.format(title="One", by="Ann", text="x").replace("short", "&i;").replace("One</t", "&i;One</t")
    )
    begun = time.monotonic()
    found = read_feed("feed", RSS.format(items=entry).replace("<rss ", doctype, 1).encode(), NOBODY)
    assert time.monotonic() - begun < 2
    assert all(len(item.title) < 100 for item in found.items)
