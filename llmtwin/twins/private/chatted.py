"""Marks what is private as people write it in chats, and keys of programs. It knows no names.

More is taken for private here than in a text that somebody wrote to be read: what is marked for nothing is
still the same stand-in everywhere, and what is missed is stored. Numbers spelled in words are not found.
`WRITTEN` is what holds for such a text, too: keys by their form, and what is said to be a key or a password.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from math import log2

from phonenumbers import NumberParseException, is_valid_number, parse
from stdnum import iban, luhn

from llmtwin.twins.private.spans import REGIONS, Finder, Span, SpanKind, span_of

AT = r"(?:\s?@\s?|\s?[(\[{]\s?(?:at|@)\s?[)\]}]\s?|\s+at\s+)"
DOT = r"(?:\.|\s\.\s|\s?[(\[{]\s?(?:dot|\.)\s?[)\]}]\s?|\s+dot\s+)"
"""What stands between the parts of a mail address, as it is typed or spelled; in any casing."""

_LOCAL = rf"(?<![\w.+-])[\w+-]{{1,64}}(?:{DOT}[\w+-]{{1,64}}){{0,4}}"
_DOMAIN = rf"(?:[\w-]{{1,63}}{DOT}){{1,4}}[^\W\d_]{{2,24}}(?![\w-])"
_SIGN = AT.replace(r"|\s+at\s+", "")
_SPELLED = DOT.replace(r"\.|\s\.\s|", "")
_MAILS = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        rf"({_LOCAL}{_SIGN}{_DOMAIN})",
        rf"({_LOCAL}\s+at\s+[\w-]{{1,63}}{_SPELLED}(?:[\w-]{{1,63}}{DOT}){{0,3}}[^\W\d_]{{2,24}}(?![\w-]))",
        # `I bought it at example.com` is no address; after such a word it is.
        rf"\be-?mail(?: address)?(?: (?:is|me|us|at|to))?[ :]+({_LOCAL}\s+at\s+{_DOMAIN})",
    )
)

_BETWEEN = r"[\s.\-\u2010-\u2015_/]{0,3}"
_DIGITS = re.compile(rf"\d{{3,}}(?:{_BETWEEN}\d+)*")
_NETWORK = re.compile(r"4|5[0-8]|2[2-7]|3[4-9]|6")
_CARD_GROUPS_MAX, _CARD_DIGITS_MIN, _CARD_DIGITS_MAX = 6, 13, 19
_IBAN = re.compile(
    rf"(?<![^\W_])(?=[A-Z]{{2}}{_BETWEEN}\d{_BETWEEN}\d)[A-Z0-9](?:{_BETWEEN}[A-Z0-9]){{14,33}}", re.I | re.A
)
_IBAN_SIGNS_MIN = 15

_OF_THE_US = re.compile(
    rf"(?<![\d.])(?:\+?1{_BETWEEN})?\(?\d{{3}}\)?{_BETWEEN}\d{{3}}{_BETWEEN}\d{{4}}(?!\d)"
)
_DIALLED = re.compile(r"(?:\+\d|(?<![\d.])\(?0\d)\d*(?:[\s().\-\u2010-\u2015_/]{0,3}\d+){0,7}")
_DATE = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}(?!\d)")

_KEYS = tuple(
    re.compile(pattern, re.S)
    for pattern in (
        r"\b[spr]k[-_](?=[\w-]*[A-Z\d])([\w-]{16,})",
        r"\b(?:gh[pousr]|github_pat|glpat|hf|npm|xox[abeprs]|SG|pypi)[-_.](?=[\w.-]*[A-Z\d])([\w.-]{16,})",
        r"\b(?:AKIA|ASIA)([A-Z0-9]{16})\b",
        r"\bAIza([\w-]{30,})",
        r"\beyJ([\w-]{6,}\.[\w-]{6,}\.[\w-]*)",
        r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----(.+?)(?:-----END|\Z)",
        r"\b(?=[A-Za-z0-9]*[a-z])(?=[A-Za-z0-9]*[A-Z])(?=(?:[A-Za-z]*\d){2})([A-Za-z0-9]{24,})\b",
        r"://[^\s/:@]{0,64}:([^\s/@]{3,128})@",
    )
)
_LABEL = re.compile(
    r"(?<![^\W_])(?:(?:api|access|secret|private|auth)[ _-]?)?"
    r"(?:key|token|secret|bearer|basic|credential|passw(?:or)?d|passwort|passphrase|pwd)s?(?![^\W_])",
    re.I,
)
_PASSWORD, _PIN = r"(?<![^\W_])(?:passw(?:or)?d|passwort|passphrase|pwd)", r"(?<![^\W_])(?:pin|cvv|cvc|otp)"
_FOR = r"(?: for(?: [\w-]+){1,4}?)?"
# What is said of a password and is none: `never reuse it`, `is stored`.
_OF_PASSWORDS = (
    r"(?!(?:the|this|that|from|too|very|not|never|always|only|also|still|now|just|your|our|what|how|where|set"
    r"|sent|kept|known|wrong|right|correct|incorrect|valid|invalid|weak|strong|safe|easy|hard|long|short|empty"
    r"|secret|optional|missing|being|\w{2,}ed)[.,:;!?)]*(?:\s|\Z))"
)
_GIVEN = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        rf"(?:{_PASSWORD}|{_PIN})[\"'`]?{_FOR}\s*[:=]\s*[\"'`]?{_OF_PASSWORDS}([^\s\"'`,;<>]{{3,}})",
        rf"{_PASSWORD}{_FOR} (?:is|was) [\"'`]?{_OF_PASSWORDS}([^\s\"'`,;<>]{{3,}})",
        rf"{_PIN}(?:{_FOR} (?:is|was))? (?:code )?(\d{{3,8}})(?!\d)",
    )
)
_SIGN_OF_A_TOKEN = r"[^\s\"'`,;<>=:(){}\[\]]"
_TOKEN = re.compile(rf"{_SIGN_OF_A_TOKEN}{{8,}}")
_SAID = re.compile(
    rf"(?:{_LABEL.pattern}[\"'`]?(?: [\w-]+){{0,5}}?(?:[ \t]*[:=][ \t]*| (?:is|was) )|\bbearer )[\"'`]?"
    rf"(?![$~/])({_SIGN_OF_A_TOKEN}{{6,}})",
    re.I,
)
# A key change, a basic idea or a new token that is written about is often something with digits in its name.
_WRITTEN = re.compile(
    r"(?!(?:key|basic|token|secret(?![ _-]?(?:key|token)))s?(?! for )(?: [\w-]+){0,5}? (?:is|was) )"
    + _SAID.pattern,
    re.I,
)
_LABEL_REACHES_CHARS, _TOKEN_CHARS_MAX = 60, 500
_BITS_PER_CHAR_MIN = 2.5
_LETTERS_MIN = 20


def _mails(text: str) -> Iterator[Span]:
    for pattern in _MAILS:
        yield from (span_of(match, SpanKind.EMAIL, 1) for match in pattern.finditer(text))


def _cards(text: str) -> Iterator[Span]:
    """Every run of whole groups of digits that is a card's, whatever stands before and after it."""
    for run in _DIGITS.finditer(text):
        groups = list(re.finditer(r"\d+", run[0]))
        for first, begun in enumerate(groups):
            plain = ""
            for group in groups[first : first + _CARD_GROUPS_MAX]:
                plain += group[0]
                if len(plain) > _CARD_DIGITS_MAX:
                    break
                if len(plain) >= _CARD_DIGITS_MIN and _NETWORK.match(plain) and luhn.is_valid(plain):
                    start, end = run.start() + begun.start(), run.start() + group.end()
                    yield Span(start=start, end=end, kind=SpanKind.ACCOUNT)


def _ibans(text: str) -> Iterator[Span]:
    """What has an IBAN's check digits and its country's length, whatever is said right after it."""
    for match in _IBAN.finditer(text):
        signs = list(re.finditer(r"[A-Za-z0-9]", match[0]))
        for count in range(_IBAN_SIGNS_MIN, len(signs) + 1):
            if iban.is_valid("".join(sign[0] for sign in signs[:count])):
                end = match.start() + signs[count - 1].end()
                yield Span(start=match.start(), end=end, kind=SpanKind.ACCOUNT)


def _phones(text: str) -> Iterator[Span]:
    """Numbers as they are written in the US, and of others, what begins like one, as far as it is valid."""
    for match in _OF_THE_US.finditer(text):
        if _is_dialled(match[0], "US"):
            yield span_of(match, SpanKind.PHONE)
    for match in _DIALLED.finditer(text):
        if _DATE.match(match[0]):
            continue
        ends = [group.end() for group in re.finditer(r"\d+", match[0])]
        for end in reversed(ends):
            if any(_is_dialled(match[0][:end], region) for region in REGIONS):
                yield Span(start=match.start(), end=match.start() + end, kind=SpanKind.PHONE)
                break


def _is_dialled(number: str, region: str) -> bool:
    try:
        return is_valid_number(parse(number, region))
    except NumberParseException:
        return False


def _keys(text: str) -> Iterator[Span]:
    """Keys by their form, and what is given as a password or a PIN."""
    for pattern in (*_KEYS, *_GIVEN):
        yield from (span_of(match, SpanKind.KEY, 1) for match in pattern.finditer(text))


def _labelled(pattern: re.Pattern[str]) -> Finder:
    """Finds what looks like a key where it is said to be one."""

    def find(text: str) -> Iterator[Span]:
        for match in pattern.finditer(text):
            if any(map(str.isdigit, match[1])) and _is_random(match[1]):
                yield span_of(match, SpanKind.KEY, 1)

    return find


def _near_labels(text: str) -> Iterator[Span]:
    """What looks like a key anywhere behind a word for one."""
    for label in _LABEL.finditer(text):
        for token in _TOKEN.finditer(
            text, label.end(), label.end() + _LABEL_REACHES_CHARS + _TOKEN_CHARS_MAX
        ):
            if token.start() <= label.end() + _LABEL_REACHES_CHARS and _is_random(token[0]):
                yield span_of(token, SpanKind.KEY)


def _is_random(token: str) -> bool:
    """Whether it is of letters and digits, or of many letters of both cases, and hardly any of them twice."""
    letters = any(map(str.isalpha, token))
    mixed = any(map(str.isupper, token[1:])) and any(map(str.islower, token))
    if not letters or not (any(map(str.isdigit, token)) or (mixed and len(token) >= _LETTERS_MIN)):
        return False
    shares = [count / len(token) for count in Counter(token).values()]
    return -sum(share * log2(share) for share in shares) >= _BITS_PER_CHAR_MIN


WRITTEN: tuple[Finder, ...] = (_keys, _labelled(_WRITTEN))
CHATTED: tuple[Finder, ...] = (_mails, _cards, _ibans, _phones, _keys, _labelled(_SAID), _near_labels)
