"""Reads what a person names: files, folders, archives, repositories, addresses. It stores nothing.

What was asked wrongly raises an error before anything is read; what then cannot be read is named and skipped.
What names no author counts as the person's own. Of a repository only commits and documents are read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from llmtwin.errors import InputError, LlmtwinError
from llmtwin.twins.kind import Skipped
from llmtwin.twins.person.sources import git
from llmtwin.twins.person.sources.charset import decode
from llmtwin.twins.person.sources.chats import has_authors, is_chat, is_named_chat, read_chat
from llmtwin.twins.person.sources.documents import READERS, Document, read_document
from llmtwin.twins.person.sources.exports import is_shares, read_shares, split_exports
from llmtwin.twins.person.sources.feeds import is_feed, read_feed
from llmtwin.twins.person.sources.files import (
    DOCUMENT_BYTES_MAX,
    FILE_BYTES_MAX,
    File,
    Listing,
    file_at,
    files_in,
    list_folder,
)
from llmtwin.twins.person.sources.items import Collected, Item, Me
from llmtwin.twins.person.sources.mail import Mail, is_mbox, read_mails, split_mbox
from llmtwin.twins.person.sources.web import fetch, is_address, read_page
from llmtwin.twins.person.sources.wordpress import is_wordpress, read_wordpress
from llmtwin.wire.archive import open_archive

_HEAD_BYTES = 8192
_ZIP = b"PK\x03\x04"
# Mailboxes often have no suffix at all.
_FEEDS = (".xml", ".rss", ".atom")
_COLLECTIONS = ("", ".zip", ".mbox", ".mbx", ".csv", *_FEEDS)
_WORD = "word/document.xml"
_MAGIC = {b"%PDF-": ".pdf", _ZIP: ".docx"}
_CHAT = "_chat.txt"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Everybody's repositories have them, and nobody wrote them.
_BOILERPLATE = re.compile(r"(?:un)?licen[cs]e(?:[.-][\w.-]+)?|copying|code[_-]of[_-]conduct", re.I)


def read(sources: Sequence[str | Path], me: Me) -> Collected:
    """The person's items in these files, folders and addresses, each once, and what was skipped.

    Raises InputError where nothing is named, or something that is not there or an empty folder.
    """
    places = [_place(source) for source in sources]
    if not places:
        raise InputError("nothing is named to read: give files, folders or addresses")
    found = Collected.together([_read(place, me) for place in places])
    return Collected(tuple({item.id: item for item in reversed(found.items)}.values())[::-1], found.skipped)


def read_alone(source: str) -> tuple[Document, str]:
    """One document or page, whoever wrote it, and where it is, a file as it was named.

    Raises InputError where it is none or cannot be read, and as `fetch` does.
    """
    place = _place(source)
    if isinstance(place, Listing):
        raise InputError("it is a folder: name one document in it")
    if isinstance(place, Path):
        file = file_at(place)
        return _parsed(file, file.read(DOCUMENT_BYTES_MAX)), source
    fetched = fetch(place)
    if fetched.is_feed:
        raise InputError("it is a feed: name one of its pages")
    return read_page(fetched), fetched.address


def _place(source: str | Path) -> str | Path | Listing:
    """An address, a file with its links resolved, or what a folder holds."""
    if isinstance(source, str) and is_address(source):
        return source
    if isinstance(source, str) and _SCHEME.match(source):
        raise InputError(f"{source} is no address of the web: it begins with https:// or http://")
    path = Path(os.path.realpath(source))
    try:
        path.stat()
    except FileNotFoundError:
        raise InputError(f"there is no {source}") from None
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}") from error
    if not path.is_dir():
        return path
    listing = list_folder(path)
    if not (listing.files or listing.repositories or listing.skipped):
        raise InputError(f"{source} is empty: there is no file in it")
    return listing


def _read(place: str | Path | Listing, me: Me) -> Collected:
    if isinstance(place, Listing):
        repositories = (_repository(folder, me).at(str(folder)) for folder in place.repositories)
        files = _files(str(place.folder), place.files, me)
        return Collected.together([files, *repositories, Collected(skipped=tuple(place.skipped))])
    try:
        return _address(place, me) if isinstance(place, str) else _files(str(place), [file_at(place)], me)
    except LlmtwinError as error:
        return Collected(skipped=(Skipped(str(place), str(error)),))


def _address(address: str, me: Me) -> Collected:
    fetched = fetch(address)
    if fetched.is_feed:
        return read_feed(fetched.address, fetched.data, me).at(address)
    return Collected((_item(read_page(fetched), "web", "web", fetched.address, me),))


def _repository(folder: Path, me: Me) -> Collected:
    """The person's commits, and the documents that nobody else has changed."""
    skipped: list[Skipped] = []
    items: list[Item] = []
    try:
        person = git.person_of(folder, me)
        items += git.read_commits(folder, person)
        documents = git.list_documents(folder, person, READERS)
    except LlmtwinError as error:
        return Collected(tuple(items), (Skipped(str(folder), str(error)),))
    for authored in documents:
        try:
            if authored.others:
                raise InputError(f"it is also by {', '.join(map(str, authored.others[:3]))}")
            file = file_at(authored.path)
            document = _document(file, file.read(DOCUMENT_BYTES_MAX))
            items.append(_item(document, "git", "docs", file.address, person, authored.date))
        except LlmtwinError as error:
            skipped.append(Skipped(str(authored.path), str(error)))
    return Collected(tuple(items), tuple(skipped))


# ---- files ---------------------------------------------------------------------------------------


def _files(where: str, files: Iterable[File], me: Me, nested: bool = False) -> Collected:
    """All of these files at `where`, an archive if `nested`; single mails count as one mailbox."""
    exports, others = split_exports(files)
    parts: list[Collected] = []
    letters: list[File] = []
    skipped: list[Skipped] = []
    for export in exports:
        try:
            parts.append(export.read(export.files).at(export.place))
        except LlmtwinError as error:
            skipped.append(Skipped(export.place, str(error)))
    for file in others:
        if file.suffix == ".eml":
            letters.append(file)
            continue
        try:
            parts.append(_file(file, me, nested).at(file.address))
        except LlmtwinError as error:
            skipped.append(Skipped(file.address, str(error)))
    if letters:
        try:
            parts.append(read_mails(where, _letters(letters, skipped), me))
        except LlmtwinError as error:
            skipped.append(Skipped(where, str(error)))
    return Collected.together([*parts, Collected(skipped=tuple(skipped))])


def _letters(files: Iterable[File], skipped: list[Skipped]) -> Iterator[Mail]:
    for file in files:
        try:
            yield Mail(file.address, file.read(DOCUMENT_BYTES_MAX))
        except LlmtwinError as error:
            skipped.append(Skipped(file.address, str(error)))


def _file(file: File, me: Me, nested: bool) -> Collected:
    """Everything in one file: its suffix says whether it is looked into, its content what it is."""
    if file.suffix not in _COLLECTIONS and file.suffix not in READERS:
        raise InputError(f"there is no reader for {file.suffix} files")
    data = file.read(FILE_BYTES_MAX if file.suffix in _COLLECTIONS else DOCUMENT_BYTES_MAX)
    head = data[:_HEAD_BYTES]
    if file.suffix == ".zip" or head.startswith(_ZIP):
        with open_archive(data) as archive:
            if _WORD not in archive.names:
                if nested:
                    raise InputError("it is an archive in an archive: unpack the outer one")
                return _files(file.address, files_in(archive, file.address), me, nested=True)
    if is_mbox(head):
        return read_mails(file.address, split_mbox(file.address, data), me)
    if file.suffix in _FEEDS and is_wordpress(head):
        return read_wordpress(data, me)
    if file.suffix in _FEEDS and is_feed(head):
        return read_feed(file.address, data, me)
    if file.suffix == ".csv" and is_shares(head):
        return read_shares(data)
    if file.suffix == ".txt" and is_chat(head.decode(errors="ignore")):
        text = decode(data)
        if is_named_chat(file.name) or has_authors(text):
            return read_chat(_chat_name(file), text, me)
    if is_named_chat(file.name):
        raise InputError(
            "it is called as a chat is, but how it writes times is not known: set the phone to English and"
            " export it again, or rename it if it is no chat"
        )
    return Collected((_item(_document(file, data), "notes", "notes", file.address, me),))


def _chat_name(file: File) -> str:
    """What the chat is called: phones call each the same, and its archive after whom it is with."""
    if file.name != _CHAT:
        return file.name
    return f"{Path(file.address).parent.name.removesuffix('.zip')}.txt"


def _document(file: File, data: bytes) -> Document:
    if _BOILERPLATE.fullmatch(Path(file.name).stem):
        raise InputError("a licence or code of conduct is nobody's own words")
    return _parsed(file, data)


def _parsed(file: File, data: bytes) -> Document:
    kind = next((suffix for magic, suffix in _MAGIC.items() if data.startswith(magic)), file.suffix)
    if kind not in READERS:
        raise InputError("it is no document, mailbox, export or feed that is known")
    return read_document(file.name if kind == file.suffix else file.name + kind, data)


def _item(
    document: Document, source: str, audience: str, address: str, me: Me, date: datetime | None = None
) -> Item:
    """The item of a document. Raises InputError where it says that it is by others, too."""
    others = [author for author in document.authors if me.is_other(author)]
    if others:
        names = ", ".join(map(str, others[:3]))
        raise InputError(f"it says it is by {names}: give that name if it is you")
    return Item.of(
        source=source,
        address=address,
        audience=audience,
        title=document.title,
        date=document.date or date,
        text=document.text,
    )
