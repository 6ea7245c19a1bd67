"""Reading a person's mail: their own words verbatim, others' words as context."""

# ruff: noqa: RUF001 (the signs that look alike are what is tested)

from __future__ import annotations

import mailbox
import time
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtwin.twins.person.sources.items import Collected, Item, Me
from llmtwin.twins.person.sources.mail import Mail, read_mails, split_mbox
from llmtwin.twins.person.sources.quotes import split_body
from llmtwin.twins.person.sources.read import read
from tests.person_sources import ANN, NOBODY, STYLE, lines, mail, mbox, reasons, style, write_zip

SECRET = "The others' words"


def read_all(*mails: EmailMessage | bytes, me: Me = ANN) -> Collected:
    """What is read of these mails."""
    data = [one if isinstance(one, bytes) else one.as_bytes() for one in mails]
    return read_mails("box", [Mail(f"box#{number}", one) for number, one in enumerate(data, start=1)], me)


def only(*mails: EmailMessage | bytes, me: Me = ANN) -> Item:
    """The one item in these mails."""
    (item,) = read_all(*mails, me=me).items
    return item


# ---- whose words ---------------------------------------------------------------------------------

REPLY = "On Mon, May 6, 2024 at 9:00 AM Bob <bob@example.org> wrote:"
HEADERS = "From: Bob <bob@example.org>\nSent: Monday, May 6, 2024 9:00\nTo: Ann Lee\nSubject: Lunch\n"


@pytest.mark.parametrize(
    "around",
    [
        "{own}\n\n" + REPLY + "\n> {secret}\n> and more\n",
        "{own}\n\nOn Mon, May 6, 2024 at 9:00 AM Bob Somebody <\nbob@example.org> wrote:\n\n> {secret}\n",
        REPLY + "\n> {secret}\n\n{own}\n",
        "> {secret}\n\n{own}\n",
        ">{secret}\n>> deeper\n> and more\n> and more\n\n{own}",
        "{own}\n\n-----Original Message-----\n" + HEADERS + "\n{secret}\n",
        "{own}\n\n________________________________\n" + HEADERS + "\n{secret}\n",
        "{own}\n\n" + HEADERS + "\n{secret}\n",
        "{own}\n\n---------- Forwarded message ---------\n" + HEADERS + "\n{secret}\n",
        "{own}\n\nBegin forwarded message:\n\n> " + HEADERS.replace("\n", "\n> ") + "\n> {secret}\n",
        "{own}\n\nAm Mo., 6. Mai 2024 um 09:00 Uhr schrieb Bob <bob@example.org>:\n\n> {secret}\n",
        "{own}\n\nLe lun. 6 mai 2024 à 09:00, Bob <bob@example.org> a écrit :\n\n> {secret}\n",
        "{own}\n\nIl giorno lun 6 mag 2024 alle ore 09:00 Bob\n<bob@example.org> ha scritto:\n\n> {secret}\n",
        "{own}\n\nW dniu 6.05.2024 o 09:00, Bob pisze:\n> {secret}\n> and more\n> and more\n",
        "{own}\n\n-- \nAnn Lee, {secret}\n+49 123 456\n",
        "{own}\n\n--\nAnn Lee, {secret}\n\n" + REPLY + "\n> {secret}\n",
    ],
)
def test_others_words_and_signatures_are_no_part_of_ones_own(around: str) -> None:
    own = "Sure, let's do it — “now”!\n\nI'll bring:\n- bread\n- wine"
    item = only(mail(around.format(own=own, secret=SECRET)))
    assert item.text == own
    assert SECRET not in item.text and "wrote" not in item.text and "bob@" not in item.text


ITALIAN = "Da: Bob Roe\nInviato: lunedì 6 maggio 2024 09:00\nA: Ann Lee\nOggetto: Pranzo\n"
DANISH = "Fra: Bob Roe <bob@example.org>\nSendt: 6. maj 2024 09:00\nTil: Ann Lee\nEmne: Frokost\n"
POLISH = "Od: Bob Roe\nWysłano: poniedziałek, 6 maja 2024 09:00\nDo: Ann Lee\nDW: Eve\nTemat: Obiad\n"
JAPANESE = "差出人: Bob <bob@example.org>\n送信日時: 2024年5月6日 9:00\n宛先: Ann Lee\n件名: 昼食\n"
SHORT = "Von wem: Bob <bob@example.org>\nAn wen: Ann\nWorum: Essen\n"


@pytest.mark.parametrize("headers", [ITALIAN, DANISH, POLISH, JAPANESE, SHORT])
@pytest.mark.parametrize(
    "above", ["", "________________________________\n", "-----Messaggio originale-----\n"]
)
def test_headers_above_a_quote_are_known_in_any_language(headers: str, above: str) -> None:
    item = only(mail(f"It's mine.\n\n{above}{headers}\n{SECRET}\n\n{headers}\nDeeper\n"))
    assert item.text == "It's mine." and item.context is not None
    assert SECRET in item.context and "Deeper" in item.context


@pytest.mark.parametrize(
    "listed",
    [
        "What: lunch\nWhen: 6 May 2024 12:30\nWhere: the café",
        "Bob: at 12:30?\nAnn: yes\nBob: good\nAnn: see you in 2024, 12:30",
        "Name: Ann\nPhone: 0123 4567\nMail: ann@example.org",
        "Email: ann@example.org\nPhone: 0123 4567\nAddress: 5 Mill Lane",
        "one: https://example.org\ntwo: https://example.com\nthree: x",
    ],
)
def test_a_list_with_colons_is_ones_own(listed: str) -> None:
    own = f"Here it is:\n\n{listed}\n\nCheers"
    assert only(mail(own)).text == own


def test_what_is_quoted_becomes_context() -> None:
    item = only(mail(f"Yes.\n\n{REPLY}\n> Is it ok?\n> Bob\n"))
    assert (item.text, item.context) == ("Yes.", "Is it ok?\nBob")
    assert only(mail("Just so.")).context is None


def test_answers_between_quotes_are_all_ones_own() -> None:
    body = f"{REPLY}\n> Is it ok?\n\nYes, it's ok.\n\n> And when?\n\nAt ten.\n\nSee you,\nAnn\n"
    item = only(mail(body))
    assert item.text == "Yes, it's ok.\n\nAt ten.\n\nSee you,\nAnn"
    assert item.context == "Is it ok?\n\nAnd when?"


def test_a_forward_without_a_word_has_no_item() -> None:
    found = read_all(
        mail(f"---------- Forwarded message ---------\n{HEADERS}\n{SECRET}"), mail("Mine", number=2)
    )
    assert [item.text for item in found.items] == ["Mine"]
    assert reasons(found) == {"box#1": "it has no words of your own"}


def test_a_last_paragraph_that_many_mails_share_is_a_footer_if_it_says_how_to_reach_somebody() -> None:
    footer, closing = "Ann Lee, Example Ltd.\nwww.example.org", "Cheers,\nAnn"
    found = read_all(*(mail(f"It's {n}.\n\n{closing}\n\n{footer}", number=n) for n in range(3)))
    assert [item.text for item in found.items] == [f"It's {n}.\n\n{closing}" for n in range(3)]


@settings(max_examples=60, deadline=None)
@given(lines, st.sampled_from(["utf-8", "html"]), st.sampled_from(["8bit", "quoted-printable", "base64"]))
def test_own_words_keep_their_style(said: list[str], kind: str, encoding: str) -> None:
    own = "\n".join(said)
    body = f"{own}\n\n{REPLY}\n\n> {SECRET}\n"
    message = mail("x")
    if kind == "html":
        message.set_content("<br>".join(body.replace("<", "&lt;").split("\n")), subtype="html", cte=encoding)
    else:
        message.set_content(body, cte=encoding)
    item = only(message)
    assert style(item.text) == style(own)
    assert item.text.split() == own.split()


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("> aA:@-\n1_*")), st.text(alphabet=st.sampled_from("ab: \n>-")))
def test_no_body_breaks_the_splitting(first: str, second: str) -> None:
    own, others = split_body(f"{first}\n{REPLY}\n{second}")
    assert not any(line.lstrip().startswith(">") for line in own.split("\n"))
    assert len(own) + len(others) <= 2 * len(first + REPLY + second) + 10


# ---- whose mails ---------------------------------------------------------------------------------


def test_only_the_persons_mails_count() -> None:
    bob = {"From": "Bob <bob@example.org>"}
    found = read_all(mail("Mine"), mail("His", number=2, **bob), mail("His", number=3, **bob))
    assert [item.text for item in found.items] == ["Mine"]
    assert reasons(found) == {"box": "2 of its mails are from others"}


def test_the_commonest_sender_of_a_mailbox_is_the_person(tmp_path: Path) -> None:
    box = mbox(
        tmp_path / "sent.mbox",
        mail("One", number=1),
        mail("Two", number=2, From="A. Lee <ANN@example.org>"),
        mail("His", number=3, From="bob@example.org"),
    )
    assert [item.text for item in read([box], NOBODY).items] == ["One", "Two"]


def test_a_mailbox_of_many_needs_a_name(tmp_path: Path) -> None:
    people = ("ann@example.org", "bob@example.org", "eve@example.org")
    box = mbox(tmp_path / "inbox.mbox", *(mail("x", number=n, From=who) for n, who in enumerate(people)))
    found = read([box], NOBODY)
    assert not found.items and "it is not clear who you are" in reasons(found)["inbox.mbox"]
    found = read([box], Me(names=("Zoe",)))
    assert not found.items and "you wrote nothing in it" in reasons(found)["inbox.mbox"]


def test_what_a_program_sends_is_nobodys_voice() -> None:
    found = read_all(mail("I am away", Auto_Submitted="auto-replied"), mail("Mine", number=2))
    assert [item.text for item in found.items] == ["Mine"] and reasons(found) == {
        "box#1": "a program wrote it"
    }


def test_single_mails_of_a_folder_count_together(tmp_path: Path) -> None:
    for number, who in enumerate(["ann@example.org", "bob@example.org", "ann@example.org"]):
        (tmp_path / f"{number}.eml").write_bytes(mail(f"Text {number}", number=number, From=who).as_bytes())
    write_zip(tmp_path / "more.zip", {"4.eml": mail("Text 4", number=4).as_bytes()})
    assert [item.text for item in read([tmp_path], NOBODY).items] == ["Text 4", "Text 0", "Text 2"]


# ---- what a mail says of itself ------------------------------------------------------------------


def test_an_item_has_address_date_title_and_audience() -> None:
    item = only(mail("Mine", Subject="Re: AW: It’s “lunch”", To="Bob <Bob@Example.org>, eve@example.org"))
    assert item.source == "mail" and item.address == "mid:1@example.org" and item.title == "It’s “lunch”"
    assert item.date == datetime(2024, 5, 6, 8, tzinfo=UTC) and item.audience == "mail:bob@example.org"


def test_a_mail_in_two_mailboxes_is_one_item(tmp_path: Path) -> None:
    for name in ("a.mbox", "b.mbox"):
        mbox(tmp_path / name, mail("Mine"))
    assert len(read([tmp_path], ANN).items) == 1


def test_a_mailbox_that_grows_has_the_same_ids_for_what_it_had(tmp_path: Path) -> None:
    mails = [mail(f"Text {number}", number=number) for number in range(3)]
    del mails[0]["Message-ID"], mails[0]["Date"], mails[1]["To"]
    before = read([mbox(tmp_path / "sent", *mails[:2])], ANN).items
    after = read([mbox(tmp_path / "sent", mails[2], *mails)], ANN).items
    assert {item.id for item in before} < {item.id for item in after} and len(after) == 3


# ---- formats and encodings -----------------------------------------------------------------------


def test_a_mailbox_written_by_the_standard_library_is_read_verbatim(tmp_path: Path) -> None:
    body = f"From here on it's mine.\n\n{STYLE}\n\nFrom: no header\n\n>From a quote? No."
    box = mailbox.mbox(tmp_path / "sent.mbox")
    message = mail("x")
    message.set_content(body.replace("\n\n>From a quote? No.", ""), cte="8bit")
    box.add(message)
    box.add(mail("Second", number=2))
    box.close()
    first, second = read([tmp_path / "sent.mbox"], ANN).items
    assert first.text == f"From here on it's mine.\n\n{STYLE}\n\nFrom: no header" and second.text == "Second"


def test_mails_without_a_blank_line_between_them_are_two() -> None:
    envelopes = (b"From - Mon May  6 10:00:00 2024\n", b"From 1792@xxx Mon May 06 10:00:00 +0000 2024\r\n")
    box = b"".join(envelope + b"From: a@x\n\nText\n" for envelope in envelopes * 2)
    assert [one.data for one in split_mbox("box", box)] == [b"From: a@x\n\nText\n"] * 4


def test_a_line_that_begins_with_from_is_no_new_mail() -> None:
    data = mail("One\n\nFrom here on, at 10:00 on Mon 6 May, it's two.").as_bytes()
    (found,) = split_mbox("box", b"From ann@example.org Mon May  6 10:00:00 2024\n" + data)
    assert found.data.endswith(b"it's two.\n")


def test_plain_text_is_taken_rather_than_html_and_attachments_are_not() -> None:
    message = mail(f"Mine: {STYLE}", html="<p>The <b>same</b></p>")
    message.add_attachment("An attachment", filename="a.txt")
    message.add_attachment(mail(SECRET, From="bob@example.org"))
    assert only(message).text == f"Mine: {STYLE}"


def test_html_alone_is_turned_into_text_without_what_it_quotes() -> None:
    page = (
        "<div>It’s <b>mine</b>, <a href='http://x.org'>here</a>.</div><div><br></div><div>Ann</div>"
        f"<div class='gmail_quote'>{REPLY.replace('<', '&lt;')}<blockquote>{SECRET}</blockquote></div>"
    )
    message = mail("x")
    message.set_content(page, subtype="html")
    item = only(message)
    assert (
        item.text.split("\n")[0] == "It’s mine, here."
        and item.text.endswith("Ann")
        and item.context == SECRET
    )


def test_a_mail_in_two_parts_is_one_text() -> None:
    message = mail("First.")
    message.make_mixed()
    message.attach(mail("Second."))
    assert only(message).text == "First.\n\nSecond."


LEGACY = {
    "koi8-r": "Привет! Я думаю, что мы должны встретиться завтра. Напиши мне, когда будешь свободен.",
    "cp1251": "Привет! Я думаю, что мы должны встретиться завтра. Напиши мне, когда будешь свободен.",
    "iso2022_jp": "こんにちは。明日会いましょう。時間があるときに連絡してください。",
    "cp1252": "I don’t think it’s “done” – we’re waiting for Bob’s café, and it’s late.",
    "utf-7": "It's ok — really.",
}


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [*((name, True) for name in LEGACY), *((name, False) for name in LEGACY if name != "utf-7")],
)
def test_a_mailbox_in_a_legacy_encoding_is_read(tmp_path: Path, encoding: str, declared: bool) -> None:
    text = LEGACY[encoding]
    kind = f'Content-Type: text/plain; charset="{encoding}"\n' if declared else ""
    # So little text tells nothing by itself; the mailbox does.
    mails = [
        f"From: ann@example.org\nMessage-ID: <{number}@x>\n{kind}\n".encode() + body.encode(encoding)
        for number, body in enumerate((text, text[:6]))
    ]
    found = read([mbox(tmp_path / "sent.mbox", *mails)], ANN)
    assert [item.text for item in found.items] == [text, text[:6]] and not found.skipped


def test_headers_in_a_legacy_encoding_are_read() -> None:
    text = LEGACY["koi8-r"]
    item = only(f"From: Аня <ann@example.org>\nSubject: {text[:6]}\n\n{text}".encode("koi8-r"))
    assert item.title == text[:6] and item.text == text


def test_the_apostrophe_of_windows_survives_the_wrong_name() -> None:
    head = b"From: ann@example.org\nContent-Type: text/plain; charset=iso-8859-1\n\n"
    assert only(head + "It’s “mine” – 5 €".encode("cp1252")).text == "It’s “mine” – 5 €"


@pytest.mark.parametrize("charset", ["us-ascii", "iso-8859-1", "koi8-r"])
def test_utf8_is_read_as_such_whatever_is_declared(charset: str) -> None:
    head = f"From: ann@example.org\nContent-Type: text/plain; charset={charset}\n\n"
    assert only((head + STYLE).encode()).text == STYLE


def test_an_unknown_encoding_is_told_from_the_bytes() -> None:
    head = b"From: ann@example.org\nContent-Type: text/plain; charset=x-unknown\n\n"
    assert only(head + LEGACY["cp1251"].encode("cp1251")).text == LEGACY["cp1251"]


def test_encoded_headers_are_decoded() -> None:
    head = "From: =?utf-8?q?Ann_L=C3=A9?= <a@x>\nTo: =?utf-8?b?Qm9i?= <b@x>\n"
    head += "Subject: =?iso-8859-1?q?Caf=E9?=\n\nHi"
    item = only(head.encode(), me=Me(names=("Ann Lé",)))
    assert item.title == "Café" and item.audience == "mail:b@x"


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        b"Content-Type: multipart/mixed\n\nno parts",
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" * 100,
        b"Content-Transfer-Encoding: base64\n\n%%%",
        b"Subject: =?utf-8?b?%%%?=\nDate: yesterday\n\nMine",
        b"Content-Type: text/plain; charset=\xff\n\nMine",
        b"Subject: \xff\xfe\n\n\xff\xfe\x00",
        b"Content-Type: text/plain; charset=idna\n\nMine \xe9",
    ],
)
def test_a_broken_mail_does_not_break_the_others(data: bytes) -> None:
    found = read_all(b"From: ann@example.org\n" + data, mail("Mine, too"))
    assert found.items[-1].text == "Mine, too"
    assert len(found.items) + len(found.skipped) == 2


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_no_mail_and_breaks_nothing(data: bytes) -> None:
    found = read_all(b"From: ann@example.org\n" + data, mail("Mine, too"))
    assert found.items[-1].text == "Mine, too"


def test_a_line_made_to_keep_the_patterns_busy_does_not() -> None:
    begun = time.monotonic()
    evil = "2024/1/1 " + " <@" * 20_000
    own, others = split_body(f"{'Mine. ' * 1000}\n\n> {evil}\n> {evil}\n> {evil}")
    assert own.strip() == ("Mine. " * 1000).strip() and others.split("\n") == [evil] * 3
    assert time.monotonic() - begun < 5


def test_a_mail_in_too_many_parts_is_named() -> None:
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(5000))
    found = read_all(mail("Mine"), b"From: ann@example.org\n" + deep + b"\nx")
    assert [item.text for item in found.items] == ["Mine"] and len(found.skipped) == 1


def test_a_mail_with_too_much_text_is_named() -> None:
    found = read_all(mail("x\n" * 600_000), mail("Mine", number=2))
    assert [item.text for item in found.items] == ["Mine"] and "at most" in reasons(found)["box#1"]


def test_a_file_that_only_calls_itself_a_mailbox_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mbox").write_text("no mail at all")
    assert reasons(read([tmp_path], NOBODY)) == {
        "a.mbox": "it is no document, mailbox, export or feed that is known"
    }
