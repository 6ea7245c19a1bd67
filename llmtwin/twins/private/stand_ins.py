"""Puts stand-ins in place of what is private. It does not find it, and without the key nobody can undo it.

The same person always becomes the same other name, in full, by first name or in an e-mail address, since each
word is replaced for itself. The names are invented, so that no other person is named instead.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Iterable

from llmtwin.errors import InputError
from llmtwin.twins.private.chatted import AT, DOT
from llmtwin.twins.private.spans import Span, SpanKind

KEY_BYTES_MIN = 16

# The parts of invented names: 46 x 18 x 40 of them.
_STARTS = """
    Al Bel Bren Cal Cor Da Del Dor El Er Fal Fen Gar Gal Hal Har Is Jor Kal Ker La Lor Mal Mar Mel Nor Or Pel
    Per Ral Ros Sal Ser Tal Tor Ul Val Ver Wil Yor Zan Zel Bor Cas Din Ev
    """.split()  # noqa: SIM905 (a list of a word a line would hide the rest)
_MIDDLES = "a an ar e el en er i il in ir o ol on or u ul un".split()  # noqa: SIM905 (as above)
_ENDS = """
    bas beth da dan den dith dra fin gard go ka la len lin lis mar mond na nath nis ra rand ric rin sa sen sin
    ta tan th ton va vin wyn zar do ley mer bert lo
    """.split()  # noqa: SIM905 (as above)
_STREET_WORDS = frozenset(
    """
    street st road rd avenue ave lane ln drive dr boulevard blvd court ct square sq place pl way terrace close
    crescent highway hwy parkway pkwy row mews apt apartment flat suite unit no box po rue chemin quai allée
    de du des la les le bis ter
    """.split()  # noqa: SIM905 (as above)
)
_AT, _DOT = re.compile(AT, re.I), re.compile(DOT, re.I)
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*|\d+")


def stand_ins(text: str, spans: Iterable[Span], key: bytes) -> str:
    """The text with a stand-in of the same shape in place of each span; the spans may not overlap.

    Raises InputError for a key under 16 bytes: short ones can be guessed.
    """
    if len(key) < KEY_BYTES_MIN:
        raise InputError(f"the key of the stand-ins has {len(key)} bytes; it needs {KEY_BYTES_MIN}")
    parts, at = [], 0
    for span in sorted(spans, key=lambda span: span.start):
        parts += [text[at : span.start], _stand_in(text[span.start : span.end], span.kind, key)]
        at = span.end
    return "".join([*parts, text[at:]])


def _stand_in(said: str, kind: SpanKind, key: bytes) -> str:
    if kind is SpanKind.EMAIL:
        return _mail(said, key)
    if kind in (SpanKind.PHONE, SpanKind.ACCOUNT, SpanKind.KEY):
        return _number(said, key)
    return _words(said, key, _STREET_WORDS if kind is SpanKind.ADDRESS else frozenset())


def _mail(said: str, key: bytes) -> str:
    """Another address, spelled as this one is: `@` or `at`, `.` or `dot`."""
    at = next(_AT.finditer(said))
    local, domain = said[: at.start()], said[at.end() :]
    *_, dot = _DOT.finditer(domain)
    kept = frozenset() if at[0] == "@" else frozenset({"dot"})
    name = _name(_DOT.sub(".", domain), key).lower()
    return f"{_words(local, key, kept)}{at[0]}{name}{dot[0]}example"


def _words(said: str, key: bytes, kept: frozenset[str] = frozenset()) -> str:
    def instead(match: re.Match[str]) -> str:
        word = match[0]
        if word.casefold() in kept:
            return word
        if word.isdigit() or len(word) == 1:
            return _number(word, key)
        return _shaped(_name(word, key), word)

    return _WORD.sub(instead, said)


def _name(word: str, key: bytes, attempt: int = 0) -> str:
    """An invented name in place of a word, never the word itself."""
    plain = unicodedata.normalize("NFC", word).casefold()
    digest = _digest(f"name {attempt} {plain}", key)
    name = "".join(
        parts[int.from_bytes(digest[8 * index : 8 * index + 8]) % len(parts)]
        for index, parts in enumerate((_STARTS, _MIDDLES, _ENDS))
    )
    return name if name.casefold() != plain else _name(word, key, attempt + 1)


def _number(said: str, key: bytes) -> str:
    """Other digits and letters in the same form, the same ones however it is spaced."""
    plain = "".join(sign for sign in said if sign.isalnum()).casefold()
    stream = iter(_digest(f"number {plain}", key) * (1 + len(plain) // 64))
    return "".join(_other(sign, next(stream)) if sign.isalnum() else sign for sign in said)


def _other(sign: str, byte: int) -> str:
    if sign.isdigit():
        return str(byte % 10)
    letter = "abcdefghijklmnopqrstuvwxyz"[byte % 26]
    return letter.upper() if sign.isupper() else letter


def _digest(said: str, key: bytes) -> bytes:
    return hmac.digest(key, said.encode(errors="surrogatepass"), "sha512")


def _shaped(name: str, like: str) -> str:
    if like.isupper():
        return name.upper()
    return name if like[0].isupper() else name.lower()
