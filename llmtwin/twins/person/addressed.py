"""To whom a question says that something was written, and stand-ins for them. It ranks nothing.

The owner's client asks through it, also where the libraries of the extra are missing: they are imported when
a question names somebody.
"""

from __future__ import annotations

import re

from llmtwin.twins.kind import Veiled
from llmtwin.twins.person.language import words

_ONE = r"(?:[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?!I\b)[A-Z][\w'\u2019-]*(?: [A-Z][\w'\u2019-]*)*)"
_AND = r"(?:,? and |,? & |, )"
_WHO = rf"(?P<who>{_ONE}(?:{_AND}{_ONE})*)"
_AFTER = (
    r"(?=\s*(?:[?.!,;]|$|\b(?:about|regarding|concerning|on|in|when|that|whether|if|how|why|and|or|but)\b))"
)
_ADDRESSEES = (
    re.compile(
        r"\b(?i:I|you|we)(?i: ever)? "
        r"(?i:write|wrote|written|say|said|send|sent|mail(?:ed)?|talk(?:ed)?|repl(?:y|ied))"
        rf"(?: (?!to\b|with\b)\w+){{0,4}} (?i:to|with) {_WHO}{_AFTER}"
    ),
    re.compile(rf"\b(?i:I|you|we)(?i: ever)? (?i:tell|told|mail(?:ed)?|e-?mail(?:ed)?) {_WHO}{_AFTER}"),
    re.compile(rf"\b(?i:mails?|e-?mails?|letters?|messages?|chats?) (?i:to|with) {_WHO}{_AFTER}"),
)
_WORD = re.compile(r"[^\W_]+(?:['\u2019](?!s\b)[^\W_]+)*")
_CAPITALISED = re.compile(rf"(?<![^\W_])(?=[^\W\d_a-zß-öø-ÿ][\w'\u2019]){_WORD.pattern}")
# What is shorter stands for other things in an answer, too.
_STAND_IN_CHARS_MIN = 3


def addressee(text: str) -> re.Match[str] | None:
    """Where a question says to whom something was written, `who` in it; None where it does not."""
    return next((match for pattern in _ADDRESSEES if (match := pattern.search(text))), None)


def each(who: str) -> list[str]:
    """The names or addresses in what is said of one or several readers."""
    return re.split(_AND, who)


def veil(question: str, key: bytes) -> Veiled:
    """The question with a stand-in for each word of whom it asks about, wherever that stands as a name."""
    found = addressee(question)
    if found is None:
        return Veiled(question)
    said = {words(word)[0]: word for word in _WORD.findall(" ".join(each(found["who"])))}
    others = {plain: instead(word, key) for plain, word in said.items()}
    start, end = found.span("who")
    before, who, after = (
        pattern.sub(lambda word: others.get(words(word[0])[0], word[0]), text)
        for pattern, text in (
            (_CAPITALISED, question[:start]),
            (_WORD, found["who"]),
            (_CAPITALISED, question[end:]),
        )
    )
    meant = {other: said[plain] for plain, other in others.items() if len(other) >= _STAND_IN_CHARS_MIN}
    return Veiled(f"{before}{who}{after}", meant | {who: found["who"]})


def instead(whom: str, key: bytes) -> str:
    """An invented name for each word of a name or an address, written so that a question may hold it."""
    from llmtwin.twins.private.spans import Span, SpanKind
    from llmtwin.twins.private.stand_ins import stand_ins

    said = " ".join(word.capitalize() for word in words(whom))
    return stand_ins(said, [Span(start=0, end=len(said), kind=SpanKind.NAME)], key)
