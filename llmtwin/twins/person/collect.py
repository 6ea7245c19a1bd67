"""What a person's sources say, as documents and prompts. It stores nothing and sends nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from llmtwin.errors import Unavailable
from llmtwin.records import Document, Prompt, Record, now
from llmtwin.twins.kind import Known, Reading, Skipped
from llmtwin.twins.person import outward
from llmtwin.twins.person.chunks import Passage, passages
from llmtwin.twins.person.clean import cleaned
from llmtwin.twins.person.people import of_others, people
from llmtwin.twins.person.remember import TEXT_CHARS_MAX, prompt_of
from llmtwin.twins.person.sources import read as sources_read
from llmtwin.twins.person.sources.items import Collected, Item, Me
from llmtwin.twins.person.sources.similar import distinct
from llmtwin.twins.private.chatted import WRITTEN
from llmtwin.twins.private.names import Tagger, load_tagger
from llmtwin.twins.private.spans import Marker, SpanKind, spaced


class Written(Record):
    """A document of a person: the item, and the names of other people that stand in it.

    `told` is its audience as it was sent, empty in what was kept before that was told otherwise than it is.
    """

    item: Item
    others: tuple[str, ...]
    told: str = ""


def read(sources: Sequence[str], known: Known) -> Reading:
    """Read what the person names, if anything: what is new and changed, and what of it may be quoted.

    A known document is told again where other names in it are private by now, such as one that only a new
    one gives away as a person's, where other stand-ins are due, or where it was found in another place.
    Raises InputError where there is nothing to read.
    """
    found = sources_read.read(sources, me(known)) if sources else Collected()
    before = written(known)
    clean = [item for item in map(cleaned, found.items) if item is not None]
    fresh = distinct(clean, [one.item for one in before])
    tagger, untold = _tagger()
    named = others(known)
    marker = marking(named | people(fresh.items, known.names, tagger))
    renewed = {item.address for item in fresh.items}
    again = [
        item
        for one, item in zip(before, _found_again(before, clean), strict=True)
        if item.address not in renewed and one != _written(item, marker, known.key)
    ]
    return Reading(
        documents=tuple(_document(_written(item, marker, known.key)) for item in (*again, *fresh.items)),
        prompts=tuple(_quoted([*again, *fresh.items], marker, known)),
        items=len(found.items),
        skipped=(*found.skipped, *untold, *(_repeated(one.item) for one in fresh.duplicates)),
    )


def me(known: Known) -> Me:
    """The person: of the names that were told, those with an @ are addresses."""
    addresses = tuple(name for name in known.names if "@" in name)
    return Me(names=tuple(name for name in known.names if "@" not in name), addresses=addresses)


def written(known: Known) -> list[Written]:
    """What was collected so far."""
    return [Written.model_validate_json(document.body) for document in known.documents]


def others(known: Known) -> frozenset[str]:
    """The names of other people in what was collected so far, without those that are the person's by now."""
    return of_others((name for one in written(known) for name in one.others), known.names)


def marking(names: Iterable[str]) -> Marker:
    """What marks the private in a text of a person; `names` are of others."""
    return Marker(names, also=WRITTEN)


def quotable(passage: Passage, marker: Marker) -> bool:
    """Whether nothing in a passage, its title and its headings is private."""
    said = (passage.text, *passage.headings)
    return not (marker.mark_title(passage.title) or any(map(marker.mark, said)))


def _found_again(before: Iterable[Written], found: Iterable[Item]) -> Iterator[Item]:
    """What is known, in the places where it was found now, and whole or not where that was not known."""
    latest = {item.id: item for item in found}
    for item in (one.item for one in before):
        again = latest.get(item.id, item)
        excerpt = again.excerpt if item.excerpt is None else item.excerpt
        yield item.model_copy(update={"place": again.place or item.place, "excerpt": excerpt})


def _written(item: Item, marker: Marker, key: bytes | None) -> Written:
    return Written(item=item, others=_named(item, marker), told=outward.audience(item.audience, key))


def _document(one: Written) -> Document:
    item, body = one.item, one.model_dump_json()
    return Document(id=item.id, source=item.source, address=item.address, body=body, place=item.place)


def _named(item: Item, marker: Marker) -> tuple[str, ...]:
    """The names of other people in an item, or in what it answers, each once."""
    text = "\n\n".join((item.title, spaced(item.title), item.text, item.context or ""))
    said = (text[span.start : span.end] for span in marker.mark(text) if span.kind is SpanKind.NAME)
    return tuple(dict.fromkeys(said))


def _tagger() -> tuple[Tagger | None, tuple[Skipped, ...]]:
    """The tagger of names, or what is missed without it."""
    try:
        return load_tagger(), ()
    except Unavailable as error:
        return None, (Skipped("names in sentences", str(error)),)


def _quoted(items: Iterable[Item], marker: Marker, known: Known) -> Iterator[Prompt]:
    at = now()
    for item in items:
        for passage in passages(item, len, TEXT_CHARS_MAX):
            if quotable(passage, marker):
                yield prompt_of(outward.outward(passage, marker, known.key), known.twin, at)


def _repeated(item: Item) -> Skipped:
    return Skipped(item.address, "it nearly repeats something else")
