"""Reads mailboxes and mails: what the person wrote in them, and what it answers. It fetches none.

Only mails from the person count, and of these only their own words: no quotes, forwards and signatures.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses, parseaddr

from llmtwin.errors import InputError, TooLarge
from llmtwin.twins.kind import Skipped
from llmtwin.twins.person.sources.charset import decode
from llmtwin.twins.person.sources.dates import read_date
from llmtwin.twins.person.sources.html import parse, to_text
from llmtwin.twins.person.sources.items import Author, Collected, Item, Me, own
from llmtwin.twins.person.sources.quotes import split_body, without_footers

BODY_BYTES_MAX = 2**20
# How much of a mailbox is looked at to tell the encoding of what does not say it.
_LIKE_BYTES_MAX = 200_000
_PARTS_DEPTH_MAX = 20

# A mail begins with `From `, a weekday, a day, and a time; the standard library takes any line with `From `.
_ENVELOPE = re.compile(
    rb"^From .{0,200}?\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +"
    rb"(?:[A-Z][a-z]{2} +\d|\d{1,2} +[A-Z][a-z]{2}).{1,40}?\d:\d\d.{0,80}\r?\n",
    re.M,
)
_ESCAPED_FROM = re.compile(rb"^>(>*From )", re.M)
_ANSWER = re.compile(r"^(?:(?:re|aw|antw|sv|vs|fwd?|wg|tr|rv)(?:\[\d+\])?\s*:\s*)+", re.I)


@dataclass(frozen=True)
class Mail:
    """One mail as it was sent; `name` says where it lies."""

    name: str
    data: bytes


def is_mbox(head: bytes) -> bool:
    """Whether a file that begins like this is a mailbox."""
    return bool(_ENVELOPE.match(head))


def split_mbox(name: str, data: bytes) -> Iterator[Mail]:
    """The mails of a mailbox in its order, their lines as they were sent."""
    openings = list(_ENVELOPE.finditer(data))
    ends = [*(opening.start() for opening in openings[1:]), len(data)]
    for number, (opening, end) in enumerate(zip(openings, ends, strict=True), start=1):
        yield Mail(f"{name}#{number}", _ESCAPED_FROM.sub(rb"\1", data[opening.end() : end]))


def read_mails(name: str, mails: Iterable[Mail], me: Me) -> Collected:
    """What the person wrote in these mails, which lie together at `name`.

    Where nothing is known of the person, it is whoever sent more than half of them. Raises InputError where
    nobody did, or none is from the person.
    """
    skipped: list[Skipped] = []
    letters = list(_letters(mails, skipped))
    like = _undeclared(part for letter in letters for part in letter.parts)
    senders = [letter.sender(like, me) for letter in letters]
    mine = own(Counter(senders), me)
    written: list[tuple[_Letter, str, str]] = []
    for letter, sender in zip(letters, senders, strict=True):
        if sender in mine:
            try:
                written.append((letter, *split_body(letter.body(like))))
            except InputError as error:
                skipped.append(Skipped(letter.name, str(error)))
    if others := sum(sender not in mine for sender in senders):
        skipped.append(Skipped(name, f"{others} of its mails are from others"))
    items: list[Item] = []
    texts = without_footers([text for _, text, _ in written])
    for (letter, _, context), text in zip(written, texts, strict=True):
        if text.strip():
            items.append(letter.item(text, context, like))
        else:
            skipped.append(Skipped(letter.name, "it has no words of your own"))
    return Collected(tuple(items), tuple(skipped))


@dataclass(frozen=True)
class _Part:
    """Words in a mail as they were sent, with the encoding that it names."""

    data: bytes
    charset: str | None
    html: bool

    def text(self, like: bytes) -> str:
        return decode(self.data, self.charset, like)


@dataclass(frozen=True)
class _Letter:
    """What matters of a mail: its headers as they were sent, and its words without attachments."""

    name: str
    headers: dict[str, str]
    parts: tuple[_Part, ...]

    @property
    def place(self) -> str:
        """The mailbox or file that it lies in."""
        return self.name.rpartition("#")[0] or self.name

    def header(self, name: str, like: bytes) -> str:
        """A header as a person reads it; empty where there is none."""
        raw = self.headers.get(name, "")
        try:
            text = decode(raw.encode("ascii", "surrogateescape"), like=like)
            return str(make_header(decode_header(text)))
        except (InputError, HeaderParseError, UnicodeError, LookupError, ValueError):
            return raw

    def sender(self, like: bytes, me: Me) -> Author:
        """Who sent it. Where the person has to be found out, one address is one sender whatever the name."""
        name, address = parseaddr(self.header("from", like))
        return Author(name if me.known or not address else "", address.lower())

    def body(self, like: bytes) -> str:
        """Its words. Raises InputError where a program wrote them, or they cannot be read."""
        if self.headers.get("auto-submitted", "no").strip().lower() != "no":
            raise InputError("a program wrote it")
        size = sum(len(part.data) for part in self.parts)
        if size > BODY_BYTES_MAX:
            raise TooLarge(f"it has {size} bytes of text; at most {BODY_BYTES_MAX} are read")
        texts = (to_text(parse(part.text(like))) if part.html else part.text(like) for part in self.parts)
        return "\n\n".join(text.replace("\r\n", "\n").replace("\r", "\n").strip("\n") for text in texts)

    def item(self, text: str, context: str, like: bytes) -> Item:
        """The item for its own words."""
        to = next((address for _, address in getaddresses([self.header("to", like)]) if address), "")
        date = self.headers.get("date", "").strip()
        identity = self.headers.get("message-id", "").strip(" \t\r\n<>")
        return Item.of(
            source="mail",
            # Mailboxes are moved and begun anew; only without an id the place has to do.
            address=f"mid:{identity}" if identity else f"{self.place}#{date}",
            audience=f"mail:{to.lower()}" if to else "mail",
            title=_ANSWER.sub("", self.header("subject", like).strip()),
            date=read_date(date),
            text=text,
            context=context,
            place=self.place,
        )


def _letters(mails: Iterable[Mail], skipped: list[Skipped]) -> Iterator[_Letter]:
    for mail in mails:
        try:
            message = message_from_bytes(mail.data)
        except RecursionError:
            skipped.append(Skipped(mail.name, "its parts are nested too deeply"))
            continue
        # `raw_items` keeps bytes that are no ASCII, which `items` makes unreadable.
        headers = {key.lower(): str(value) for key, value in reversed([*message.raw_items()])}
        yield _Letter(mail.name, headers, tuple(_parts(message, 0)))


def _parts(message: Message, depth: int) -> Iterator[_Part]:
    """The parts that are the mail's own words: not attachments, nor mails within it."""
    kind = message.get_content_type()
    attached = message.get_filename() or message.get_content_disposition() == "attachment"
    if message.get_content_maintype() == "multipart" and depth < _PARTS_DEPTH_MAX:
        yield from _parts_of_many(message, depth + 1)
    elif kind in ("text/plain", "text/html") and not attached:
        data = message.get_payload(decode=True)
        charset = message.get_content_charset()
        yield _Part(data if isinstance(data, bytes) else b"", charset, kind == "text/html")


def _parts_of_many(message: Message, depth: int) -> Iterator[_Part]:
    children = message.get_payload()
    # A broken mail may call itself multipart and have no parts.
    found = [list(_parts(one, depth)) for one in children if isinstance(one, Message)]
    if message.get_content_type() == "multipart/alternative":
        # The same words several times: plain text holds them best.
        plain = (parts for parts in found if parts and not any(part.html for part in parts))
        yield from next(plain, next((parts for parts in found if parts), []))
    else:
        for parts in found:
            yield from parts


def _undeclared(parts: Iterable[_Part]) -> bytes:
    """Enough of the text whose encoding nothing tells, to guess it from."""
    data = bytearray()
    for part in parts:
        if part.charset is None and not part.data.isascii():
            data += part.data + b"\n"
        if len(data) > _LIKE_BYTES_MAX:
            break
    return bytes(data)
