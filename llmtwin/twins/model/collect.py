"""Takes in a model's traffic, with stand-ins for what is private, and makes lessons of it. It knows no model.

Which exchanges are held out is decided by a hash of their session, so that one that was held out stays so
for every version, and any two versions can be compared on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from llmtwin.errors import InputError, NotFound, Unavailable
from llmtwin.records import Document, Trace
from llmtwin.twins.kind import Known, Lessons, Reading, Skipped
from llmtwin.twins.model import exchange, openai
from llmtwin.twins.model.exchange import Exchange, Mark
from llmtwin.twins.model.redact import FindNames, Redactor
from llmtwin.twins.private.names import chatted, load_tagger

SOURCE = "traffic"
OWN = "own answers"
"""Of the twin's own answers it is known how likely its primary finds them; they are no traffic."""
HELD_OUT_EVERY = 5
"""One session of so many is held out."""
EXCHANGES_MIN = 10
_MARKS = TypeAdapter(dict[str, Mark])
"""How far the files of a record were read, by their paths: it is what a reading knows of the one before."""


def read(sources: Sequence[str], known: Known) -> Reading:
    """The exchanges of files and folders of JSONL, new or not; under `known.key` with stand-ins.

    Without a key only what a file grew by since `known.state` is read, or all where anything else of it
    changed. Raises InputError for a source that holds none, unless it is a record with stand-ins, NotFound
    for one that is not there.
    """
    marks = _MARKS.validate_json(known.state or "{}")
    names, untold = _names() if known.key else (chatted, ())
    redactor = Redactor(known.key, names) if known.key else None
    documents, skipped = dict[str, Document](), list[Skipped](untold)
    sessions = set[str]()
    for source in sources:
        found = 0
        for line in _lines(source, None if known.key else marks):
            if isinstance(line, Skipped):
                skipped.append(line)
                continue
            found += 1
            kept = line if redactor is None else redacted(line, redactor)
            document = _document(kept)
            documents[document.address] = document
            sessions.add(kept.session)
        if not found and known.key:  # all that a proxy recorded may be forgotten
            why = f": {skipped[-1].name}: {skipped[-1].reason}" if skipped else ""
            raise InputError(
                f"there is no traffic in {source}, which is a request and a response a line{why}"
            )
    one = f"all {len(documents)} exchanges have one client_id: all or none of them are held out"
    return Reading(
        documents=tuple(documents.values()),
        state=_MARKS.dump_json(marks).decode(),
        items=len(documents),
        skipped=tuple(skipped),
        notes=(one,) if len(sessions) == 1 and len(documents) >= EXCHANGES_MIN else (),
    )


def redacted(line: Exchange, redactor: Redactor) -> Exchange:
    """An exchange as it may be stored."""
    hidden = redactor.exchange(line.request, line.response)
    client = redactor.client(line.client_id)
    # Made anew, and so checked: a text that is JSON may have named halves of signs, which are in it now.
    return Exchange(
        timestamp=line.timestamp,
        workload_id=line.workload_id,
        client_id=client,
        request=hidden.request,
        response=hidden.response,
    )


@dataclass(frozen=True)
class Hide:
    """Makes exchanges such as may be stored, under the owner's key; a process beside can be given it."""

    key: bytes = field(repr=False)

    def __call__(self, line: Exchange) -> Exchange:
        """The exchange with stand-ins."""
        return redacted(line, _redactor(self.key))


@cache
def _redactor(key: bytes) -> Redactor:
    return Redactor(key, _names()[0])


def exchanges(known: Known, source: str = SOURCE) -> Iterator[tuple[str, Exchange]]:
    """What was collected so far, with its addresses; of OWN the twin's answers in place of the primary's."""
    for document in known.documents:
        if document.source == source:
            yield document.address, Exchange.model_validate_json(document.body)


def own_address(address: str) -> str:
    """Where the twin's own answer to an exchange is: it is forgotten with it."""
    return f"{address}/own"


def own_document(address: str, line: Exchange, response: dict[str, Any], workload: str) -> Document:
    """The twin's own answer to the exchange at an address, as it is kept."""
    answered = Exchange.model_validate({**dict(line), "workload_id": workload, "response": response})
    body = answered.model_dump_json()
    return Document(id=answered.id, source=OWN, address=own_address(address), body=body)


def lessons(known: Known) -> Lessons:
    """All replies but those of held-out sessions, and what the primary finds of the twin's own answers.

    Raises InputError for too little to learn from.
    """
    learned, held_out = dict[str, Trace](), dict[str, Trace]()
    sessions: dict[str, str] = {}
    for address, line in exchanges(known):
        trace = trace_of(line)
        if trace is not None:
            (held_out if is_held_out(line) else learned)[address] = trace
            sessions[address] = line.session
    if len(sessions) < EXCHANGES_MIN:
        raise InputError(
            f"{len(sessions)} replies are too few to learn a model from: it takes"
            f" {EXCHANGES_MIN} or more; collect more traffic"
        )
    count = len(set(sessions.values()))
    why, what_to_do = f"as chance has it with {count} sessions", "collect more traffic"
    if count == 1:
        why = f"since the {len(sessions)} replies have 1 client_id among them"
        what_to_do = "give each session one of its own"
    if not learned:
        raise InputError(f"all is held out and nothing left to learn, {why}: {what_to_do}")
    learned |= {address: trace for address, line in exchanges(known, OWN) if (trace := trace_of(line))}
    return Lessons(
        traces=tuple(learned.values()),
        learned=tuple(learned),
        held_traces=held_out,
        held_sessions={address: sessions[address] for address in held_out},
        notes=() if held_out else (f"nothing was held out and nothing compared, {why}",),
    )


def is_held_out(line: Exchange) -> bool:
    """Whether the session of an exchange is never learned from; without a session it is its own."""
    return int.from_bytes(sha256(line.session.encode()).digest()[:4]) % HELD_OUT_EVERY == 0


def teaches(document: Document) -> bool:
    """Whether a twin learns from an exchange."""
    line = Exchange.model_validate_json(document.body)
    return not is_held_out(line) and trace_of(line) is not None


def trace_of(line: Exchange) -> Trace | None:
    """What a twin learns of an exchange; None where the model said nothing that it could say."""
    try:
        asked, said = openai.messages(line.request), openai.reply(line.response)
    except InputError:
        return None
    if said.tool_calls or not said.text or not asked:
        return None
    tokens = said.tokens if said.tokens and all(token.top for token in said.tokens) else ()
    return Trace(
        messages=tuple((turn["role"], turn["content"]) for turn in asked),
        completion=said.text,
        tokens=tuple(token.text for token in tokens),
        tops=tuple(dict(token.top) for token in tokens),
        ended=said.finish in (None, "stop", "completed"),
    )


def _lines(source: str, marks: dict[str, Mark] | None) -> Iterator[Exchange | Skipped]:
    """The lines of all files of a source; where there are marks, from them on, and then these are moved."""
    for path in _files(Path(source)):
        start, mark = 0, None
        if marks is not None:
            start, mark = exchange.mark(path, marks.pop(str(path), None))
        yield from exchange.read(path, Exchange, start)
        if marks is not None and mark is not None:
            marks[str(path)] = mark


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [file for file in sorted(path.rglob("*.jsonl")) if file.name != exchange.SHADOWS]
    if not path.exists():
        raise NotFound(f"there is no {path}")
    return [path]


def _document(line: Exchange) -> Document:
    address = f"{SOURCE}/{line.id}"
    return Document(id=line.id, source=SOURCE, address=address, body=line.model_dump_json())


def _names() -> tuple[FindNames, tuple[Skipped, ...]]:
    """What finds names in a text, or what is missed without it."""
    try:
        return partial(chatted, tagger=load_tagger()), ()
    except Unavailable as error:
        return chatted, (Skipped("names in sentences", str(error)),)
