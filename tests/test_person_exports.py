"""Reading what people download of themselves: WordPress, Medium, Substack, LinkedIn, WhatsApp."""

# ruff: noqa: RUF001 (the signs that look alike are what is tested)

from __future__ import annotations

import csv
import io
import os
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from llmtwin.errors import InputError
from llmtwin.twins.person.sources.chats import is_chat, read_chat
from llmtwin.twins.person.sources.items import Item, Me
from llmtwin.twins.person.sources.read import read
from tests.person_sources import ANN, NOBODY, STYLE, lines, reasons, style, write_zip

PROPERTIES = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)

# ---- WordPress -----------------------------------------------------------------------------------

BLOCKS = f"<!-- wp:paragraph --><p>{STYLE}</p><!-- /wp:paragraph -->"
WXR = """<?xml version="1.0" encoding="UTF-8"?>{doctype}
<!-- This is a WordPress eXtended RSS file. -->
<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"
  xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:wp="http://wordpress.org/export/1.2/"
  xmlns:excerpt="http://wordpress.org/export/1.2/excerpt/"><channel><title>Blog</title>
<wp:author><wp:author_login>ann</wp:author_login><wp:author_email>ann@example.org</wp:author_email>
<wp:author_display_name>Ann Lee</wp:author_display_name></wp:author>
<wp:author><wp:author_login>bob</wp:author_login><wp:author_display_name>Bob</wp:author_display_name></wp:author>
{items}</channel></rss>"""
POST = """<item><title>{title}</title><link>https://blog.org/{title}</link><dc:creator>{by}</dc:creator>
<content:encoded><![CDATA[{html}]]></content:encoded><excerpt:encoded>excerpt</excerpt:encoded>
<wp:post_date_gmt>2024-05-01 10:00:00</wp:post_date_gmt><wp:status>{status}</wp:status>
<wp:post_type>{kind}</wp:post_type>
<wp:comment><wp:comment_author>Bob</wp:comment_author><wp:comment_content>his</wp:comment_content>
</wp:comment></item>"""


def wxr(path: Path, *posts: dict[str, str], doctype: str = "") -> Path:
    known = {"title": "One", "by": "ann", "html": BLOCKS, "status": "publish", "kind": "post"}
    path.write_text(
        WXR.format(doctype=doctype, items="".join(POST.format(**(known | post)) for post in posts))
    )
    return path


def test_posts_of_wordpress_are_read(tmp_path: Path) -> None:
    old = f"{STYLE}\n\nSecond &amp; <em>last</em>.\nNext line."
    export = wxr(
        tmp_path / "blog.xml",
        {},
        {"title": "Two", "html": old, "status": "draft", "kind": "page"},
        {"title": "Menu", "kind": "nav_menu_item"},
        {"title": "Gone", "status": "trash"},
        {"title": "His", "by": "bob"},
        {"title": "Nothing", "html": ""},
    )
    found = read([export], NOBODY)
    one, two = found.items
    assert (one.text, one.title, one.audience) == (STYLE, "One", "blog")
    assert (one.source, one.address, one.date) == (
        "wordpress",
        "https://blog.org/One",
        datetime(2024, 5, 1, 10, tzinfo=UTC),
    )
    assert two.text == f"{STYLE}\n\nSecond & *last*.  \nNext line." and two.audience == "draft"
    assert reasons(found) == {"His": "it is by Bob", "Nothing": "there is no text in it"}
    assert read([export], ANN) == found


def test_posts_of_a_person_unknown_to_wordpress_are_not_taken(tmp_path: Path) -> None:
    found = read([wxr(tmp_path / "blog.xml", {})], Me(names=("Zoe",)))
    assert reasons(found) == {
        "blog.xml": "you wrote nothing in it; it is by Ann Lee: give that name if it is you"
    }


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/passwd">]>',
    ],
)
def test_xml_with_entities_is_refused(tmp_path: Path, doctype: str) -> None:
    found = read([wxr(tmp_path / "blog.xml", {}, doctype=doctype)], NOBODY)
    assert not found.items and "the WordPress export is broken" in reasons(found)["blog.xml"]


def test_a_wordpress_export_that_is_cut_gives_nothing(tmp_path: Path) -> None:
    export = wxr(tmp_path / "blog.xml", {}, {"title": "Two"})
    export.write_text(export.read_text()[:-200])
    found = read([export], NOBODY)
    assert not found.items and "the WordPress export is broken" in reasons(found)["blog.xml"]


# ---- Medium, Substack, LinkedIn ------------------------------------------------------------------

MEDIUM = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>T</title>
<style>* {{ font: serif }}</style></head>
<body><article class="h-entry"><header><h1 class="p-name">{title}</h1></header>
<section data-field="subtitle" class="p-summary">Sub</section>
<section data-field="body" class="e-content"><section class="section">
<h3 class="graf graf--h3 graf--title">{title}</h3><p class="graf">{text}</p></section></section>
<footer><p>By <a href="https://medium.com/@ann" class="p-author h-card">Ann</a> on
<a href="https://medium.com/p/1"><time
class="dt-published" datetime="2024-05-01T10:00:00.000Z">1</time></a>.</p>
<p><a href="https://medium.com/@ann/one-1" class="p-canonical">Canonical link</a></p>
<p>Exported from Medium</p></footer></article></body></html>"""


def test_posts_of_medium_are_read(tmp_path: Path) -> None:
    post = MEDIUM.format(title="It’s one", text=STYLE)
    export = write_zip(
        tmp_path / "medium-export.zip",
        {
            "README.html": "<p>About",
            "profile/profile.html": "<p>Ann, ann@example.org",
            "posts/2024-05-01_It-s-one-1.html": post,
            "posts/draft_Two-2.html": post.replace("p-canonical", "x"),
            "bookmarks/b.html": "<p>Others",
        },
    )
    one, two = read([export], NOBODY).items
    assert one.text == f"### It’s one\n\n{STYLE}" == two.text
    assert (one.title, one.source, one.audience) == ("It’s one", "medium", "blog")
    assert (one.address, one.date) == (
        "https://medium.com/@ann/one-1",
        datetime(2024, 5, 1, 10, tzinfo=UTC),
    )
    assert (two.address, two.audience) == ("medium:draft_Two-2", "draft")


def substack(path: Path, text: str = f"<p>{STYLE}</p>") -> Path:
    rows = "post_id,post_date,is_published,email_sent_at,type,audience,title,subtitle,podcast_url\n"
    rows += '11.one,2024-05-01T10:00:00.000Z,true,,newsletter,everyone,"It’s one, ""so""",,\n'
    rows += "12.two,,false,,newsletter,only_paid,Two,,\n"
    widget = "<div class='subscription-widget-wrap'><p>Subscribe now</p></div>"
    files = {
        "posts.csv": rows,
        "posts/11.one.html": text + widget,
        "posts/12.two.html": "<p>Two</p>",
        "posts/13.three.html": "",
        "posts/11.one.opens.csv": "post_id,email\n11,reader@example.org\n",
        "email_list.ann.csv": "email\nreader@example.org\n",
    }
    return write_zip(path, files)


def test_posts_of_substack_are_read_and_its_subscribers_are_not(tmp_path: Path) -> None:
    found = read([substack(tmp_path / "export.zip")], NOBODY)
    one, two = found.items
    assert (one.text, one.title, one.audience) == (STYLE, 'It’s one, "so"', "newsletter")
    assert (one.source, one.address, one.date) == (
        "substack",
        "substack:11.one",
        datetime(2024, 5, 1, 10, tzinfo=UTC),
    )
    assert (two.text, two.audience, two.date) == ("Two", "draft", None)
    assert reasons(found) == {"13.three.html": "there is no text in it"}


def test_a_post_that_is_too_large_is_named(tmp_path: Path) -> None:
    post = os.urandom(400_000).hex() * 50
    found = read([substack(tmp_path / "export.zip", post)], NOBODY)
    assert [item.text for item in found.items] == ["Two"]
    assert "at most" in reasons(found)["11.one.html"]


def test_an_export_downloaded_again_has_the_same_items(tmp_path: Path) -> None:
    first = read([substack(tmp_path / "export.zip")], NOBODY)
    again = read([substack(tmp_path / "export (1).zip")], NOBODY)
    assert {item.place for item in again.items} == {str(tmp_path / "export (1).zip")}
    assert first.items == tuple(one.model_copy(update={"place": first.items[0].place}) for one in again.items)


def unpacked(archive: Path, folder: Path) -> Path:
    """The folder into which the archive is unpacked, as browsers do by themselves."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    archive.unlink()
    return folder


def somewhere(item: Item) -> Item:
    """It wherever it was found."""
    return item.model_copy(update={"place": ""})


@pytest.mark.parametrize("among", [".", "notes"])
def test_an_unpacked_export_is_read_as_the_archive_and_other_files_as_notes(
    tmp_path: Path, among: str
) -> None:
    medium = write_zip(
        tmp_path / "medium.zip",
        {
            "README.html": "<p>About",
            "ips/ips-0001.html": "<p>192.0.2.1",
            "highlights/highlights-0001.html": "<p>Others",
            "posts/2024-05-01_It-s-one-1.html": MEDIUM.format(title="It’s one", text=STYLE),
        },
    )
    packed = read([medium, substack(tmp_path / "export.zip")], NOBODY)
    home = tmp_path / among
    unpacked(medium, home / "medium")
    unpacked(tmp_path / "export.zip", home / "newsletter")
    (home / "medium" / "mine.md").write_text("A note")
    found = read([tmp_path], NOBODY)
    exported = [item for item in found.items if item.source != "notes"]
    assert list(map(somewhere, exported)) == list(map(somewhere, packed.items))
    assert {item.place for item in exported} == {str(home / "medium"), str(home / "newsletter")}
    assert [item.text for item in found.items if item.source == "notes"] == ["A note"]
    assert reasons(found) == reasons(packed)


def test_folders_that_only_look_like_an_export_are_notes(tmp_path: Path) -> None:
    for name in ("Articles/one.html", "posts/two.html", "profile/three.html"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("<p>Words")
    found = read([tmp_path], NOBODY)
    assert [item.source for item in found.items] == ["notes"] * 3 and not found.skipped


def test_a_broken_list_of_posts_does_not_keep_the_rest_from_being_read(tmp_path: Path) -> None:
    folder = unpacked(substack(tmp_path / "export.zip"), tmp_path / "newsletter")
    (folder / "posts.csv").write_text("post_id\n" + "x" * 200_000)
    (tmp_path / "mine.md").write_text("A note")
    found = read([tmp_path], NOBODY)
    assert [item.text for item in found.items] == ["A note"]
    assert "the list in the export is broken" in reasons(found)["newsletter"]


@PROPERTIES
@given(lines)
def test_posts_keep_their_style(tmp_path: Path, said: list[str]) -> None:
    one = read([substack(tmp_path / "export.zip", "".join(f"<p>{line}</p>" for line in said))], NOBODY).items[
        0
    ]
    assert one.text == "\n\n".join(said)


def shares() -> str:
    """LinkedIn closes and opens the quotes of a share at every line end, and doubles those within."""
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["Date", "ShareLink", "ShareCommentary", "SharedUrl", "MediaUrl", "Visibility"])
    said = ['It’s "so" — fine', 'First it\'s ""so"""\n""\n"Last.', "", "Two\nlines"]
    for day, text in enumerate(said, start=1):
        rows.writerow(
            [f"2024-05-0{day} 10:00:00", f"https://linkedin.com/{day}", text, "", "", "MEMBER_NETWORK"]
        )
    return table.getvalue()


ARTICLE = """<html><head><title>It’s an article</title></head><body>
<h1><a href="https://www.linkedin.com/pulse/one">It’s an article</a></h1>
<p class="created">Created on 2024-05-01 09:00</p><p class="published">Published on 2024-05-02 10:00</p>
<div><p>Words — “mine”.</p></div></body></html>"""


def test_shares_and_articles_of_linkedin_are_read(tmp_path: Path) -> None:
    export = write_zip(
        tmp_path / "Basic_LinkedInDataExport.zip",
        {
            "Shares.csv": shares(),
            "Articles/Articles/one.html": ARTICLE,
            "messages.csv": "FROM,CONTENT\nBob,his\n",
            "Connections.csv": "Bob",
        },
    )
    found = read([export], NOBODY)
    assert [item.text for item in found.items[:3]] == [
        'It’s "so" — fine',
        'First it\'s "so"\n\nLast.',
        "Two\nlines",
    ]
    article = found.items[3]
    assert article.text.endswith("Words — “mine”.") and "Published" not in article.text
    assert (article.title, article.address) == ("It’s an article", "https://www.linkedin.com/pulse/one")
    assert article.date == datetime(2024, 5, 2, 10, tzinfo=UTC) and article.audience == "blog"
    assert [item.audience for item in found.items[:3]] == ["social"] * 3 and not found.skipped


def test_the_list_of_shares_may_lie_alone(tmp_path: Path) -> None:
    (tmp_path / "Shares.csv").write_text(shares())
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    found = read([tmp_path], NOBODY)
    assert len(found.items) == 3 and found.items[0].address == "https://linkedin.com/1"
    assert reasons(found) == {"other.csv": "it is no document, mailbox, export or feed that is known"}


# ---- WhatsApp ------------------------------------------------------------------------------------

ANDROID_US = """12/31/23, 10:15\u202fPM - Messages and calls are end-to-end encrypted. Tap to learn more.
12/31/23, 10:15\u202fPM - Bob: Lunch?
12/31/23, 10:16\u202fPM - Bob: <Media omitted>
12/31/23, 10:17\u202fPM - Ann Lee: Sure — it's “on” 🎉
And: a second line
12/31/23, 10:18\u202fPM - Ann Lee: At TEN
1/1/24, 9:00\u202fAM - Bob: Late!
1/1/24, 9:01\u202fAM - Ann Lee: Sorry <This message was edited>
1/1/24, 9:02\u202fAM - Ann Lee: You deleted this message
"""
IPHONE = """[31.12.23, 22:15:01] Bob: \u200eMessages and calls are end-to-end encrypted.
[31.12.23, 22:15:02] Bob: Lunch?
\u200e[31.12.23, 22:16:00] Bob: \u200eimage omitted
[31.12.23, 22:17:03] Ann Lee: Sure — it's “on” 🎉
And: a second line
[31.12.23, 22:18:00] Ann Lee: At TEN
[01.01.24, 09:00:00] Bob: Late!
[01.01.24, 09:01:00] Ann Lee: Sorry \u200e<This message was edited>
"""
TURNS = [("Sure — it's “on” 🎉\nAnd: a second line\nAt TEN", "Bob: Lunch?"), ("Sorry", "Bob: Late!")]


def turns(items: tuple[Item, ...]) -> list[tuple[str, str | None]]:
    return [(item.text, item.context) for item in items]


@pytest.mark.parametrize("export", [ANDROID_US, IPHONE])
def test_ones_own_messages_are_items_and_the_others_context(export: str) -> None:
    items = read_chat("WhatsApp Chat with Bob.txt", export, ANN).items
    assert turns(items) == TURNS
    assert [item.audience for item in items] == ["chat:Bob"] * 2
    assert [item.date and item.date.replace(second=0) for item in items] == [
        datetime(2023, 12, 31, 22, 17, tzinfo=UTC),
        datetime(2024, 1, 1, 9, 1, tzinfo=UTC),
    ]
    assert len({item.address for item in items}) == 2


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("31/12/2023, 22:15 - ", "2023-12-31 22:15:00"),
        ("31.12.23, 22:15 - ", "2023-12-31 22:15:00"),
        ("2023-12-31, 22:15 - ", "2023-12-31 22:15:00"),
        ("12/31/23, 12:05 AM - ", "2023-12-31 00:05:00"),
        ("12/31/23, 12:05 PM - ", "2023-12-31 12:05:00"),
        ("31/12/23, 10:15 p. m. - ", "2023-12-31 22:15:00"),
        ("[31/12/2023, 10:15:30 PM] ", "2023-12-31 22:15:30"),
        ("[2023/12/31, 22:15:30] ", "2023-12-31 22:15:30"),
        ("[31.12.2023 klo 22.15.30] ", "2023-12-31 22:15:30"),
        ("31/12/2023 22:15 - ", "2023-12-31 22:15:00"),
        ("31-12-2023 22:15 - ", "2023-12-31 22:15:00"),
        ("[2023/12/31 下午10:15:30] ", "2023-12-31 22:15:30"),
        ("[2023/12/31 上午10:15:30] ", "2023-12-31 10:15:30"),
        ("2023/12/31 凌晨12:05 - ", "2023-12-31 00:05:00"),
        ("2023年12月31日 下午10:15 - ", "2023-12-31 22:15:00"),
        ("2023. 12. 31. 오후 10:15, ", "2023-12-31 22:15:00"),
        ("[2023. 12. 31. 오전 10:15:30] ", "2023-12-31 10:15:30"),
        ("2023. 12. 31. 오후 10:15 - ", "2023-12-31 22:15:00"),
        ("\u200f٣١\u200f/١٢\u200f/٢٠٢٣، ١٠:١٥ م - ", "2023-12-31 22:15:00"),
        ("31/12/23, 10:15 μ.μ. - ", "2023-12-31 22:15:00"),
        ("31/12/23, 10:15 अपराह्न - ", "2023-12-31 22:15:00"),
        ("31.12.23 kl. 22.15 - ", "2023-12-31 22:15:00"),
        ("31.12.23, 22:15 Uhr - ", "2023-12-31 22:15:00"),
    ],
)
def test_dates_are_read_as_phones_write_them(stamp: str, expected: str) -> None:
    said = f"{stamp}Ann Lee{' ' if stamp.endswith(', ') else ''}: It's me\n"
    (item,) = read_chat("x.txt", said, ANN).items
    assert is_chat(said) and f"{item.date:%Y-%m-%d %H:%M:%S}" == expected and item.text == "It's me"


def test_days_and_months_are_told_apart_by_time_going_forward() -> None:
    export = "".join(f"{day}, 10:00 - Ann Lee: {day}\n" for day in ("1/2/24", "2/2/24", "10/2/24", "3/3/24"))
    assert [item.date.month for item in read_chat("x.txt", export, ANN).items if item.date] == [2, 2, 2, 3]
    export = "".join(f"{day}, 10:00 - Ann Lee: {day}\n" for day in ("1/2/24", "2/2/24", "2/10/24", "3/3/24"))
    assert [item.date.month for item in read_chat("x.txt", export, ANN).items if item.date] == [1, 2, 2, 3]


def test_after_a_long_silence_a_turn_begins_anew() -> None:
    export = "1/5/24, 10:00 - Ann Lee: One\n1/5/24, 11:00 - Ann Lee: Two\n2/5/24, 10:00 - Ann Lee: Three\n"
    assert [item.text for item in read_chat("x.txt", export, ANN).items] == ["One\nTwo", "Three"]


def test_turns_within_a_minute_have_addresses_of_their_own() -> None:
    export = "".join(f"1/5/24, 10:00 - {who}: x\n" for who in ("Ann Lee", "Bob", "Ann Lee"))
    assert len({item.address for item in read_chat("x.txt", export, ANN).items}) == 2


def test_the_person_is_whom_the_file_does_not_name() -> None:
    assert turns(read_chat("WhatsApp Chat with Bob.txt", ANDROID_US, NOBODY).items) == TURNS
    with pytest.raises(InputError, match="give your name as in the chat, of Ann Lee, Bob"):
        read_chat("chat.txt", ANDROID_US, NOBODY)
    with pytest.raises(InputError, match="you wrote nothing in it"):
        read_chat("chat.txt", ANDROID_US, Me(names=("Zoe",)))


def test_a_group_needs_a_name_and_is_the_audience() -> None:
    group = ANDROID_US + "1/1/24, 9:03\u202fAM - Eve: Hello\n1/1/24, 9:04\u202fAM - Ann Lee: Hi\n"
    with pytest.raises(InputError, match="not clear who you are"):
        read_chat("WhatsApp Chat with Friends.txt", group, NOBODY)
    items = read_chat("WhatsApp Chat with Friends.txt", group, ANN).items
    assert items[-1].context == "Eve: Hello" and items[-1].audience == "chat:WhatsApp Chat with Friends"


def test_a_chat_is_told_from_its_text_and_named_after_its_archive(tmp_path: Path) -> None:
    write_zip(tmp_path / "WhatsApp Chat - Bob.zip", {"_chat.txt": IPHONE, "1-PHOTO.jpg": b"\xff"})
    (tmp_path / "a.txt").write_text("1/1/24 was a good day.\nIt's true.")
    chat, note = read([tmp_path], NOBODY).items[0], read([tmp_path], NOBODY).items[-1]
    assert (chat.source, chat.text) == ("whatsapp", TURNS[0][0]) and note.source == "notes"
    unpacked(tmp_path / "WhatsApp Chat - Bob.zip", tmp_path / "WhatsApp Chat - Bob")
    assert somewhere(chat) in map(somewhere, read([tmp_path], NOBODY).items)
    assert is_chat(IPHONE) and is_chat(ANDROID_US) and not is_chat("10:15 - Ann Lee: no date")


@pytest.mark.parametrize(
    "name",
    ["_chat.txt", "WhatsApp Chat with Bob.txt", "WhatsApp-Chat mit Bob.txt", "Chat de WhatsApp con Bob.txt"],
)
def test_a_chat_whose_times_are_not_known_is_refused_and_no_note(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("Duodi 12 Nivôse CCXXXII | Bob | Lunch?\n")
    (tmp_path / "Why I left WhatsApp.txt").write_text("2024-01-05 10:30, breakfast: eggs")
    found = read([tmp_path], NOBODY)
    assert [item.title for item in found.items] == ["Why I left WhatsApp"]
    assert "how it writes times is not known" in reasons(found)[name]


@pytest.mark.parametrize(
    "log",
    [
        "12.05.2024 9:30 Uhr - Zahnarzt\n13.05.2024 14:00 Uhr - Friseur\n",
        "2024-01-05 10:00 standup - notes: budget\n2024-01-06 10:00 standup - notes: plan\n",
    ],
)
def test_a_note_with_dates_is_no_chat(tmp_path: Path, log: str) -> None:
    (tmp_path / "log.txt").write_text(log)
    (note,) = read([tmp_path], ANN).items
    assert (note.source, note.text) == ("notes", log.strip())


@PROPERTIES
@given(lines)
def test_messages_keep_their_style(tmp_path: Path, said: list[str]) -> None:
    export = f"[31.12.23, 22:15:02] Bob: Lunch?\n[31.12.23, 22:16:02] Ann Lee: {chr(10).join(said)}\n"
    (item,) = read_chat("x.txt", export, ANN).items
    assert item.text == "\n".join(said) and style(item.text) == style("\n".join(said))


@pytest.mark.parametrize(
    "line", ["99/99/99, 99:99 - Ann Lee: x", "0/0/00, 10:00 - Ann Lee: x", "9999-99-99, 1:00 - Ann Lee: x"]
)
def test_times_that_never_were_break_nothing(line: str) -> None:
    with pytest.raises(InputError, match="you wrote nothing in it"):
        read_chat("x.txt", line, ANN)
