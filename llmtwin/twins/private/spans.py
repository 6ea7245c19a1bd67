"""Marks what is private in a text: addresses, numbers, names. It does not know whose, and finds no names.

What has a form is found by its form and its check digits; names are those it is given (`names` finds them).
`presidio` would bring no more than this does: the same packaged model of names, fewer check digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum

from phonenumbers import Leniency, PhoneNumberMatcher
from stdnum import iban, luhn
from stdnum.us import ssn

from llmtwin.records import Record


class SpanKind(StrEnum):
    """What is private about a span."""

    EMAIL = "email"
    ACCOUNT = "account"
    PHONE = "phone"
    ADDRESS = "address"
    NAME = "name"
    KEY = "key"


class Span(Record):
    """A private part of a text, from `start` up to but without `end`."""

    start: int
    end: int
    kind: SpanKind


AGAIN_CHARS_MIN = 6
"""What is shorter may stand for something else in another place."""

Finder = Callable[[str], Iterator[Span]]

# Numbers without a country code are read as these countries write them.
REGIONS = ("US", "GB", "DE", "FR")

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.)+[^\W\d_]{2,24}(?![\w-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{2,4}){3,8}(?:[ -]?[A-Z0-9]{1,3})?\b")
# The first digits of the card networks, and their lengths.
_CARD = re.compile(r"(?<![\w./=-])(?=(?:4|5[0-8]|2[2-7]|3[4-9]|6)\d)\d(?:[ -]?\d){12,18}(?![\w-])")
_SSN = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
_LABELLED = re.compile(
    r"\b(?:account|acct|a/c|customer|passport|social security|tax|insurance|policy|licen[cs]e|sort code"
    r"|routing|konto|kunden|steuer|ausweis|compte|passeport)[\w-]*\W{0,3}"
    r"(?:no\b\.?|number|nummer|nr\b\.?|id\b|code|num[ée]ro)?"
    r"[ \t]*(?:is[ \t]+|:|#|=)?[ \t]*([A-Z]{0,3}\d(?:[ -]?\d){5,20})(?!\w)",
    re.I,
)
_LABELLED_PHONE = re.compile(
    r"\b(?:(?:call|text|ring)(?: me)?(?: at| on)?|phone|telephone|tel|mobile|cell|fax|whatsapp|handy|telefon)"
    r"\b\W{0,3}(?:no\b\.?|number|nummer|nr\b\.?)?[ \t]*(?:is[ \t]+|:|#|=)?[ \t]*"
    r"(\+?\(?\d(?:[ ()./-]{0,2}\d){5,14})(?!\w)",
    re.I,
)
_CAPITAL = r"[A-ZÀ-ÖØ-Þ][\w'\u2019.-]*"
_STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Square|Sq|Place|Pl|Way|Terrace"
    r"|Close|Crescent|Highway|Hwy|Parkway|Pkwy|Row|Mews)\b\.?"
)
_FLAT = r"(?:,? (?:Apt|Apartment|Flat|Suite|Unit|No)\.? ?#?\w{1,6})?"
_TOWN = (
    rf"(?:,[ \n]{_CAPITAL}(?: {_CAPITAL})*)?"
    r"(?:,? [A-Z]{2} \d{5}(?:-\d{4})?|,? [A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b)?"
)
_ADDRESSES = (
    re.compile(rf"(?<![\w.,-])\d{{1,5}}[A-Za-z]?,? (?:{_CAPITAL} ){{1,4}}{_STREET}{_FLAT}{_TOWN}"),
    re.compile(
        r"\b[A-ZÄÖÜ][\w-]*(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|ufer|damm| Stra(?:ß|ss)e| Str\.)"
        r"\s+\d{1,4}\s?[a-z]?\b"
        rf"(?:,?\s+(?:D-)?\d{{4,5}} {_CAPITAL})?"
    ),
    re.compile(
        r"\b\d{1,4}(?: bis| ter)?,? (?:rue|avenue|boulevard|place|chemin|quai|allée) "
        rf"(?:(?:de|du|des|la|les|le|d'|l') ?)*{_CAPITAL}(?: {_CAPITAL})*(?:,? \d{{5}} {_CAPITAL})?"
    ),
    re.compile(r"\bP\.? ?O\.? Box \d{1,6}\b"),
    re.compile(r"\b(?:[A-PR-UWYZ]{1,2}\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2})\b"),
)
_NO_WORD = re.compile(r"[\W_]")
# Between the words of a name: one line break at most.
_GAP = r"(?:[^\S\n]+|[^\S\n]*\n[^\S\n]*)"


class Marker:
    """Marks a text. `names` are of other people: full ones are found in any casing, single words as given.

    `also` find what is private beyond that, in texts of a certain sort.
    """

    def __init__(self, names: Iterable[str] = (), also: Iterable[Finder] = ()) -> None:
        self._names = _names_pattern(names)
        self._also = tuple(also)

    def mark(self, text: str) -> tuple[Span, ...]:
        """The private spans of a text in its order; none overlaps another."""
        return _apart(self._found(text))

    def mark_title(self, title: str) -> tuple[Span, ...]:
        """As `mark`, in a title or a file's name, where any signs may stand between the words of a name."""
        names = (span for span in self._found(spaced(title)) if span.kind is SpanKind.NAME)
        return _apart([*self._found(title), *names])

    def _found(self, text: str) -> Iterator[Span]:
        for match in _EMAIL.finditer(text):
            yield span_of(match, SpanKind.EMAIL)
        yield from _accounts(text)
        yield from _phones(text)
        for pattern in _ADDRESSES:
            yield from (span_of(match, SpanKind.ADDRESS) for match in pattern.finditer(text))
        if self._names:
            yield from (span_of(match, SpanKind.NAME) for match in self._names.finditer(text))
        for find in self._also:
            yield from find(text)


def spaced(title: str) -> str:
    """A title or a file's name with a blank for each sign that is no letter and no digit."""
    return _NO_WORD.sub(" ", title)


def _apart(found: Iterable[Span]) -> tuple[Span, ...]:
    """The spans in their order, those that overlap as one."""
    apart: list[Span] = []
    for span in sorted(found, key=lambda span: (span.start, -span.end)):
        if not apart or span.start >= apart[-1].end:
            apart.append(span)
        elif span.end > apart[-1].end:
            apart[-1] = apart[-1].model_copy(update={"end": span.end})
    return tuple(apart)


def again(found: Mapping[str, SpanKind]) -> Finder:
    """Finds what was found before, word for word, where nothing but that gives it away."""
    known = {said: kind for said, kind in found.items() if len(said) >= AGAIN_CHARS_MIN}
    either = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    pattern = re.compile(rf"(?<!\w)(?:{either})(?!\w)" if known else r"(?!)")
    return lambda text: (span_of(match, known[match[0]]) for match in pattern.finditer(text))


def _names_pattern(names: Iterable[str]) -> re.Pattern[str] | None:
    patterns = []
    for name in sorted(set(names), key=lambda name: (-len(name), name)):
        words = [re.escape(word) for word in name.split()]
        if len(words) > 1:
            patterns.append(f"(?i:{_GAP.join(words)})")
        else:
            patterns += [*words, *(word.upper() for word in words if len(word) > 2)]
    return re.compile(rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)") if patterns else None


def _accounts(text: str) -> Iterator[Span]:
    for pattern, valid in ((_IBAN, iban.is_valid), (_CARD, luhn.is_valid), (_SSN, ssn.is_valid)):
        for match in pattern.finditer(text):
            if valid(re.sub(r"[ -]", "", match[0])):
                yield span_of(match, SpanKind.ACCOUNT)
    yield from (span_of(match, SpanKind.ACCOUNT, 1) for match in _LABELLED.finditer(text))


def _phones(text: str) -> Iterator[Span]:
    for region in REGIONS:
        # It would give up on a text after so many numbers that are none.
        for match in PhoneNumberMatcher(text, region, Leniency.STRICT_GROUPING, max_tries=len(text)):
            if _dialled(match.raw_string, region):
                yield Span(start=match.start, end=match.end, kind=SpanKind.PHONE)
    yield from (span_of(match, SpanKind.PHONE, 1) for match in _LABELLED_PHONE.finditer(text))


def _dialled(number: str, region: str) -> bool:
    """Whether it is written as a phone number: bare digits are often an id, one point a fraction."""
    if "+" in number:
        return True
    return not re.fullmatch(r"\d+(?:\.\d+)?", number) and (region == "US" or number[0] in "0(")


def span_of(match: re.Match[str], kind: SpanKind, group: int = 0) -> Span:
    """What a pattern, or a group of it, has matched."""
    return Span(start=match.start(group), end=match.end(group), kind=kind)
