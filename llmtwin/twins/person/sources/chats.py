"""Reads chats as WhatsApp exports them. It does not know where the export lies or what else is in it.

The person's messages are items, the others' before them their context. Exports differ by phone and language:
dates in any order, 12 or 24 hours, brackets or a dash. They name no zone; times are taken as UTC.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import PurePosixPath

from llmtwin.errors import InputError
from llmtwin.twins.person.sources.items import Author, Collected, Item, Me, own

# After so long a silence somebody starts to speak anew.
TURN_GAP = timedelta(hours=6)
CONTEXT_MESSAGES_MAX = 20

_MARKS = "\u200e\u200f\u202a\u202c\ufeff"
_DASH = rf"[{_MARKS}]*[./年月-][{_MARKS}]*\s?"
# A word beside the time, in any script: the part of the day (`上午`, `p. m.`), or what leads to it (`klo`).
_WORD = r"[^\W\d][^\d\s:\[\]-]{0,11}"
_HEAD = re.compile(
    rf"^[{_MARKS}]*\[?(?P<day>\d{{1,4}}{_DASH}\d{{1,2}}{_DASH}\d{{1,4}})[.日]?[,،]?\s+(?:(?P<before>{_WORD})\s?)?"
    rf"(?P<hour>\d{{1,2}})[:.](?P<minute>\d\d)(?:[:.](?P<second>\d\d))?(?:\s?(?P<after>{_WORD}(?:\s[Mm]\.)?))?"
    # Some put a comma after the time, and then a blank before the colon: a note with a date has none.
    rf"[{_MARKS}]*(?:\]|\s[-\u2013]|,(?=[^:]+ : ))\s(?P<rest>.*)$"
)
# Where hours go to twelve; what other words before a time say is left out.
_MORNING = {"am", "上午", "凌晨", "清晨", "早上", "午前", "오전", "ص", "πμ", "sa", "öö", "pg", "पूर्वाह्न", "قظ"}
_AFTERNOON = {"pm", "下午", "晚上", "中午", "午後", "오후", "م", "μμ", "ch", "ös", "ptg", "अपराह्न", "बظ"}
# What may stand behind a time: with any other word a line is of a note with dates.
_AFTER_A_TIME = {*_MORNING, *_AFTERNOON, "uhr", ""}
_NAMED_CHAT = re.compile(
    r"_chat\.txt|(?:whatsapp[ -]chat|(?:chat|conversa|discussion)(?: \w+)? whatsapp)\b.*\.txt", re.I
)
# Pictures and calls: `<Media omitted>` in any language; what iPhones add has an invisible mark before it.
_OMITTED = re.compile(r"\u200e.*|<[^<>\n]+>", re.S)
_EDITED = re.compile(r"\s?(?:\u200e<[^<>\n]+>|<This message was edited>)$")
_DELETED = {"This message was deleted", "You deleted this message", "null"}


@dataclass(frozen=True)
class Message:
    """What one person said at one time."""

    at: datetime
    author: str
    text: str


def is_chat(head: str) -> bool:
    """Whether a text that begins like this may be the export of a chat."""
    return any(map(_head, head.split("\n")[:3]))


def has_authors(text: str) -> bool:
    """Whether anybody says anything in what looks like a chat."""
    return any(_messages(text.split("\n")))


def is_named_chat(name: str) -> bool:
    """Whether a file is called as phones call a chat."""
    return _NAMED_CHAT.match(name) is not None


def read_chat(name: str, text: str, me: Me) -> Collected:
    """The person's turns in the chat; `name` is the export's file name, which says with whom it is.

    Where nothing is known of the person, it is the one of two whom the name does not say. Raises InputError
    where it is not clear who they are.
    """
    messages = list(_messages(text.replace("\r\n", "\n").split("\n")))
    mine = _mine(name, messages, me)
    others = sorted({message.author for message in messages} - mine)
    partner = others[0] if len(others) == 1 else _partner(name)
    return Collected(tuple(_items(partner, _turns(messages, mine))))


def _mine(name: str, messages: Sequence[Message], me: Me) -> frozenset[str]:
    counts = Counter(Author(message.author) for message in messages)
    if me.known:
        return frozenset(author.name for author in own(counts, me))
    people = sorted(author.name for author in counts)
    named = [person for person in people if _partner(name).endswith(person)]
    if len(people) != 2 or len(named) != 1:
        raise InputError(
            f"it is not clear who you are: give your name as in the chat, of {', '.join(people[:5])}"
        )
    return frozenset(people) - {named[0]}


def _partner(name: str) -> str:
    """What the export is named after: `WhatsApp Chat with Ann.txt`, in any language."""
    return PurePosixPath(name).stem.strip()


def _messages(lines: Iterable[str]) -> Iterator[Message]:
    """Everything that somebody said; what the program says has no author."""
    heads: list[tuple[re.Match[str], list[str]]] = []
    for line in lines:
        if match := _head(line):
            heads.append((match, []))
        elif heads:
            heads[-1][1].append(line)
    order = _order([head["day"] for head, _ in heads])
    for head, more in heads:
        at = _time(head, order)
        author, colon, first = head["rest"].partition(": ")
        if at is None or not (colon or head["rest"].endswith(":")):
            continue
        text = _EDITED.sub("", "\n".join([first, *more]).rstrip())
        if text and not _OMITTED.fullmatch(text) and text.rstrip(".") not in _DELETED:
            yield Message(at, author.rstrip(":").strip(f"{_MARKS}~\u202f "), text)


def _head(line: str) -> re.Match[str] | None:
    """The time with which a line of a chat begins, and what is said then."""
    match = _HEAD.match(line)
    return match if match and _word(match, "after") in _AFTER_A_TIME else None


def _word(head: re.Match[str], place: str) -> str:
    """The word before or after a time, without points."""
    return re.sub(rf"[.\s{_MARKS}]", "", head[place] or "").casefold()


def _order(days: Sequence[str]) -> str:
    """In which order the dates of an export are: `dmy`, `mdy` or `ymd`; one export has one."""
    if all(day[:4].isdigit() for day in days):
        return "ymd"
    if any("." in day for day in days):
        return "dmy"
    numbers = [_numbers(day) for day in days]
    if any(first > 12 for first, _, _ in numbers):
        return "dmy"
    if any(second > 12 for _, second, _ in numbers):
        return "mdy"
    # Chats go forward in time.
    backward = {order: _steps_back([_date(day, order) for day in days]) for order in ("dmy", "mdy")}
    return min(backward, key=lambda order: backward[order])


def _numbers(day: str) -> tuple[int, int, int]:
    first, second, third = map(int, re.findall(r"\d+", day))
    return first, second, third


def _steps_back(dates: Sequence[date | None]) -> int:
    return sum(earlier is None or later is None or later < earlier for earlier, later in pairwise(dates))


def _date(day: str, order: str) -> date | None:
    numbers = dict(zip(order, _numbers(day), strict=True))
    year = numbers["y"] if numbers["y"] >= 100 else 2000 + numbers["y"]
    try:
        return date(year, numbers["m"], numbers["d"])
    except ValueError:
        return None


def _time(head: re.Match[str], order: str) -> datetime | None:
    hour = int(head["hour"])
    words = {_word(head, place) for place in ("before", "after")}
    if words & (_MORNING | _AFTERNOON) and 1 <= hour <= 12:
        hour = hour % 12 + (12 if words & _AFTERNOON else 0)
    day = _date(head["day"], order)
    if day is None or hour > 23:
        return None
    minute, second = min(59, int(head["minute"])), min(59, int(head["second"] or 0))
    return datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=UTC)


def _turns(
    messages: Iterable[Message], mine: frozenset[str]
) -> Iterator[tuple[list[Message], list[Message]]]:
    """What the person said in one go, and what the others had said before it."""
    turn: list[Message] = []
    before: list[Message] = []
    for message in messages:
        if turn and (message.author not in mine or message.at - turn[-1].at > TURN_GAP):
            yield turn, before
            turn, before = [], []
        if message.author in mine:
            turn.append(message)
        else:
            before = [*before, message][-CONTEXT_MESSAGES_MAX:]
    if turn:
        yield turn, before


def _items(partner: str, turns: Iterable[tuple[list[Message], list[Message]]]) -> Iterator[Item]:
    at_once: Counter[datetime] = Counter()
    for turn, before in turns:
        start = turn[0].at
        at_once[start] += 1
        # Most phones write no seconds, so several turns may have one time.
        again = f".{at_once[start]}" if at_once[start] > 1 else ""
        yield Item.of(
            source="whatsapp",
            address=f"whatsapp:{partner}#{start:%Y-%m-%dT%H:%M:%S}{again}",
            audience=f"chat:{partner}",
            date=start,
            text="\n".join(message.text for message in turn),
            context="\n".join(f"{message.author}: {message.text}" for message in before),
        )
