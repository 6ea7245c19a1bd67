"""Words, numbers, colours and times as people say them. It knows English, and nothing of any home."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import dateparser
from text_to_num import alpha2digit

COHORT = frozenset(
    """
    all home house household neighbour neighbor neighbourhood neighborhood people other everybody
    everyone anybody street community around here region village town average mean
    """.split()  # noqa: SIM905 (a list of a word a line would hide the rest)
)
"""Words for the other homes: they say with whom to compare, never what."""

EMPTY = frozenset(
    """
    latest record recorded logged saved stored configured configuration preference entry data live
    a about also an and any are at be by current currently did do does exactly for from have has how
    i in is it its just like log me moment my now of on our please right room's set setting settings
    option setup show some still than that the their there these this those to up us was we were what what's
    which wise with your
    """.split()  # noqa: SIM905 (a list of a word a line would hide the rest)
)
SAME = {
    "max": "maximum", "min": "minimum", "temp": "temperature", "colour": "color", "tv": "television",
    "aircon": "climate", "centre": "center", "grey": "gray",
    "humid": "humidity", "bright": "brightness", "loud": "volume", "hot": "temperature",
    "warm": "temperature",
    "cold": "temperature", "brighter": "brightness", "dimmer": "brightness", "darker": "brightness",
    "lighter": "brightness", "dark": "brightness", "dim": "brightness", "brighten": "brightness",
    "louder": "volume", "quieter": "volume", "quiet": "volume", "warmer": "temperature",
    "cooler": "temperature",
    "hotter": "temperature", "colder": "temperature", "cool": "temperature", "faster": "speed",
    "slower": "speed", "setpoint": "target", "sound": "volume", "level": "", "value": "", "state": "state",
    "percentage": "", "degrees": "temperature", "reading": "", "status": "state", "condition": "state",
}  # fmt: skip
KELVIN = {
    "candle": 1900,
    "warm": 2700,
    "soft": 2700,
    "neutral": 3500,
    "cool": 4000,
    "cold": 4000,
    "day": 6500,
}
LARGEST = frozenset(
    """
    maximum max highest brightest full fully loudest fastest top hottest warmest
    """.split()  # noqa: SIM905 (a list of a word a line would hide the rest)
)
SMALLEST = frozenset(
    """
    minimum min lowest dimmest darkest quietest slowest bottom least coldest coolest
    """.split()  # noqa: SIM905 (a list of a word a line would hide the rest)
)
_SHARES = {"half": 50, "halfway": 50, "quarter": 25, "third": 33, "three quarters": 75}
_UNITS = {
    "%": "%", "percent": "%", "°": "°C", "degree": "°C", "degrees": "°C", "°c": "°C", "c": "°C",
    "celsius": "°C",
    "°f": "°F", "f": "°F", "fahrenheit": "°F", "k": "K", "kelvin": "K", "w": "W", "watts": "W", "lx": "lx",
}  # fmt: skip


def words(text: str) -> frozenset[str]:
    """The words of a text that carry meaning, in one form each: folded, singular, synonyms joined."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    found = (word.strip(".").removesuffix("'s").strip("'") for word in re.findall(r"[\w.']+", folded))
    singular = (_singular(word) for word in found if word not in EMPTY)
    joined = (SAME.get(word, word) for word in singular if word not in EMPTY)
    return frozenset(word for word in joined if word)


def _singular(word: str) -> str:
    if word.endswith(("ches", "shes", "xes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-3] + "y" if word.endswith("ies") else word[:-1]
    return word


@dataclass(frozen=True)
class Amount:
    """What was said for a value: a number with its unit (None where none was), or an end of the range."""

    number: float | None = None
    unit: str | None = None
    extreme: str | None = None


def amount(text: str) -> Amount | None:
    """Read "50 %", "twenty one point five degrees", "half", "maximum"; None where it is no amount."""
    said = alpha2digit(text.casefold().strip(), "en", threshold=0)
    if match := re.search(r"(-?\d+(?:[.,]\d+)?)\s*([°%]?[a-z]*)", said):
        unit = "°F" if "fahrenheit" in said else _UNITS.get(match[2])
        return Amount(float(match[1].replace(",", ".")), unit)
    found = set(re.findall(r"\w+", said))
    for share, percent in _SHARES.items():
        if set(share.split()) <= found:
            return Amount(percent, "%")
    if found & LARGEST:
        return Amount(extreme="maximum")
    if found & SMALLEST:
        return Amount(extreme="minimum")
    return None


def kelvin(text: str) -> int | None:
    """The colour temperature of "warm white", "daylight", "candle light" (K)."""
    said = text.casefold().replace("daylight", "day light").replace("candlelight", "candle light").split()
    tones = [KELVIN[word] for word in said if word in KELVIN]
    return tones[0] if tones and ({"white", "light"} & set(said) or len(said) == 1) else None


@dataclass(frozen=True)
class Span:
    """A time that was said: a moment (`since` equals `until`) or a stretch."""

    since: datetime
    until: datetime

    @property
    def moment(self) -> bool:
        """Whether it is a single moment."""
        return self.since == self.until


_PARTS = {
    "morning": (6, 12), "afternoon": (12, 18), "evening": (18, 23), "night": (22, 30),
}  # fmt: skip
_MINUTES = {"quarter past": 15, "half past": 30, "quarter to": -15}
_CLOCK = re.compile(
    r"\d{1,2}[:.]\d{2}|\d\s*[ap]\.?m|\bago\b|\bo'?clock|\bat \d|\bnoon\b|\bmidnight\b|\bmidday\b"
)

_LAST = re.compile(
    r"(?:in|over|for|during|within)?\s*(?:the )?(?:last|past) (\d+)? ?((?:minute|hour|day|week|month)s?)"
)
_CARRIERS = re.compile(r"\b(at|around|about|roughly|the|this|on|in|morning|evening|afternoon)\b")

_PAST = (
    r"ago|yesterday|today|tonight|since|earlier|lately|recently|overnight|noon|midday|midnight|"
    r"(this|last) (morning|afternoon|evening|night|week|month|year)"
)
_NOW = re.compile(
    r"\b(now|currently|presently|as we speak|(this|the) (very )?(minute|moment|second|instant))\b",
    re.IGNORECASE,
)
_ASKING = re.compile(r"\b(what['\u2019]?s|what (is|was|are)|(tell|read|remind|show) me)\b", re.IGNORECASE)
_STATISTICS = {
    "average": frozenset({"average", "mean"}),
    "minimum": frozenset({"minimum", "lowest", "least", "smallest"}),
    "maximum": frozenset({"maximum", "highest", "biggest", "largest"}),
}
_QUESTION = re.compile(
    r"\?|\b(what|which|when|where|who|how|why|is|are|was|were|does|do|did|has|have|whether|if|know|tell|check)\b",
    re.IGNORECASE,
)
_ORDERING = re.compile(
    r"\b(set|change|make|put|turn|adjust|switch|give|let|bring|use|move|take)\b", re.IGNORECASE
)
_HANDING = re.compile(r"\b(give|let|bring|get) me\b", re.IGNORECASE)
_WORD = r"(?!(?i:the|my|our|of|on|in|at|to|for|from|with|and|by|its?)\b)[\w'\u2019-]+\s+"
_BEFORE = (
    rf"(?:\b(?i:the|my|our)\s+(?P<named>(?:{_WORD}){{1,4}})"
    rf"|(?<=[\w,;]\s)(?=[A-Z])(?P<capital>(?:{_WORD}){{1,3}}))"
)
_COUNTED = re.compile(r"\b(how many|number of) (of )?(the |all |our |other |my )*(\w+)", re.IGNORECASE)
_STATE = re.compile(
    r"\b(?:which|is|are|how many)\b.*\b(on|off|open|closed|locked|unlocked)\b(?! (?:the|my|our)\b)",
    re.IGNORECASE,
)
_DONE_TO = (
    r"(?:^|[,;.!:]|\b(?:please|and|then|to|you|just|so|ahead|now))\s*"
    r"\b(open|close|shut|lock|unlock)(?: up)?(?: (?:the|my|our|all|both))* "
)
_NEGATION = re.compile(r"n['\u2019]?t\b|\b(?:not|never|stop|without)\b", re.IGNORECASE)
_PAST_ONLY = re.compile(rf"\b({_PAST})\b", re.IGNORECASE)
_HOURS = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_MONTHS = "january|february|march|april|june|july|august|september|october|november|december"
_TIME = re.compile(
    rf"\d[:.]\d\d|\d ?[ap]\.?m\b|\b({_PAST}|until|now|morning|afternoon|evening|night|o'?clock|weekend|"
    r"(mon|tues|wednes|thurs|fri|satur|sun)day|(minute|hour|day|week|month|year)s?|(last|this|past) \w+|"
    rf"at (\d|\w+teen|\w+ty|{_HOURS})|{_MONTHS}|on \d+ \w+|before|after|breakfast|lunch|dinner|supper|"
    r"dawn|dusk|sunrise|sunset|while|when)\b",
    re.IGNORECASE,
)


def may_be_time(text: str) -> bool:
    """Whether a text can be about a time."""
    return _TIME.search(text) is not None


class Mood(StrEnum):
    """What a sentence says outright about being a question or an order."""

    ASKS = "asks"
    """It asks in so many words: it orders nothing."""
    MAY_ASK = "may ask"
    """It has a word or a mark of a question, as a polite order has too."""
    SETS = "sets"
    """It has a verb of setting something, and no sign of a question."""
    UNTOLD = "untold"


def mood(text: str) -> Mood:
    """The mood of a sentence, from its words alone."""
    if _ASKING.search(text) or "state" in words(text):
        return Mood.ASKS
    if _QUESTION.search(text):
        return Mood.MAY_ASK
    return Mood.SETS if _ORDERING.search(text) else Mood.UNTOLD


def may_order(text: str) -> bool:
    """Whether a sentence may be an order: it shows no sign of asking, not even "give me"."""
    return mood(text) in (Mood.UNTOLD, Mood.SETS) and not _HANDING.search(text)


def statistics_said(text: str) -> set[str]:
    """The statistics that a text names outright."""
    text = re.sub(r"\bi mean\b", "", text.casefold())
    said = words(text) | set(re.findall(r"\w+", text))
    counted = _COUNTED.search(text)
    homes = words(counted[4]) if counted else frozenset()
    if homes and homes <= COHORT:
        return {"count"}
    return {name for name, names in _STATISTICS.items() if said & names}


def state_asked(text: str) -> str | None:
    """The state that a question asks about, as in "which lights are on in the kitchen"."""
    found = _STATE.search(text)
    return found[1] if found else None


def done_to(text: str, name: str) -> str | None:
    """The verb right before a name, of those for doors and locks; None where anything is negated before."""
    found = re.search(_DONE_TO + re.escape(name), text, re.IGNORECASE)
    if found is None or _NEGATION.search(text[: found.start()]):
        return None
    verb = found[1].casefold()
    return "close" if verb == "shut" else verb


def said_after(text: str, name: str) -> str | None:
    """What an order ends with after something that it names: "eco" of "it is late, so the mode at eco".

    None where the last part of the sentence asks, or ends otherwise.
    """
    clause = re.split(r"[,;:.!] ", text)[-1]
    found = re.search(rf"{re.escape(name)} (?:at|to|as) ([^?]+?)[.!]*$", clause, re.IGNORECASE)
    if found is None or mood(clause) is not Mood.UNTOLD:
        return None
    said = found[1]
    return said if words(said) and not says_now(said) and not may_be_time(said) else None


def named_before(text: str, name: str) -> str:
    """What belongs to a name and stands before it: "guest room" of "the guest room lamp" for "lamp"."""
    found = re.search(_BEFORE + re.escape(name), text)
    return (found["named"] or found["capital"]).strip() if found else ""


def stands_alone(text: str, name: str) -> bool:
    """Whether a name stands in a text, and not as a part of a longer one: "lamp" of "hall lamp", "lamp 2"."""
    found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)(?! ?\d)", text, re.IGNORECASE)
    if found is None:
        return False
    before = re.search(r"[\w'\u2019]+ $", text[: found.start()])
    return before is None or not words(before[0])


def says_now(text: str) -> bool:
    """Whether a text speaks of the present."""
    return _NOW.search(text) is not None


def must_be_time(text: str) -> bool:
    """Whether a text can be about nothing but a time that is over."""
    return _PAST_ONLY.search(text) is not None


def when(text: str, now: datetime) -> Span | None:
    """Read "at 14:30 yesterday", "last night" or "since noon" against `now`; None if it is no time."""
    said = _plain_clock(alpha2digit(text.casefold(), "en"))
    if match := re.match(r"(?:between|from) (.+?) (?:and|to|until|till) (.+)", said):
        return _between(match[1], match[2], now)
    if match := re.match(r"since (.+)", said):
        start = when(match[1], now)
        return Span(start.since, now) if start else None
    if match := _LAST.fullmatch(said):
        begun = _parse(f"{match[1] or 1} {match[2]} ago", now)
        return Span(begun, now) if begun else None
    if not _CLOCK.search(said) and (stretch := _stretch(said, now)):
        return stretch
    moment = _parse(_CARRIERS.sub(" ", said), now)
    return Span(moment, moment) if moment else None


def moment_around(text: str, said: str, now: datetime) -> Span | None:
    """The moment that a longer piece of `text` around `said` names: "today" in "at 9:00 today"."""
    words_of = text.split()
    for width in range(len(said.split()) + 3, len(said.split()), -1):
        for first in range(len(words_of) - width + 1):
            piece = " ".join(words_of[first : first + width]).strip(".,;:?!")
            if said in piece and _CLOCK.search(piece) and (span := when(piece, now)) and span.moment:
                return span
    return None


def _between(first: str, second: str, now: datetime) -> Span | None:
    day = "yesterday" if "yesterday" in second else "today"
    hours = [re.sub(r"^(?:at )?(\d+)(?= |$)", r"\1:00", clock) for clock in (first, second)]
    since = when(hours[0] if "day" in first else f"{hours[0]} {day}", now)
    until = when(hours[1], now)
    return Span(since.since, until.until) if since and until and since.since <= until.until else None


def _plain_clock(said: str) -> str:
    """Clock words as digits: "half past 6" is "6:30", "noon" is "12:00"."""
    for phrase, minutes in _MINUTES.items():
        hour = re.search(rf"(?:a )?{phrase} (\d+|\w+)", said)
        read = amount(hour[1]) if hour else None
        if hour and read and read.number is not None:
            clock = int(read.number) * 60 + minutes
            said = said.replace(hour[0], f"{clock // 60}:{clock % 60:02d}")
    said = re.sub(r"\b(noon|midday)\b", "12:00", said)
    said = re.sub(r"\bmidnight\b", "0:00", said)
    return re.sub(r"\bhalf an hour\b", "30 minutes", said)


def _stretch(said: str, now: datetime) -> Span | None:
    """A named part of a day, or a whole day."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if "yesterday" in said or "last" in said:
        day -= timedelta(days=1)
    for part, (first, last) in _PARTS.items():
        if part in said:
            since, until = day + timedelta(hours=first), min(now, day + timedelta(hours=last))
            return Span(since, until) if since < until else None
    if said.strip() in ("today", "so far today", "yesterday"):
        return Span(day, min(now, day + timedelta(days=1)))
    return None


def _parse(said: str, now: datetime) -> datetime | None:
    said = re.sub(r"\s+", " ", said).strip()
    if match := re.fullmatch(r"(today|yesterday)?\s*(\d{1,2})\s*(today|yesterday)?", said):
        said = f"{match[1] or match[3] or ''} {match[2]}:00".strip()
    options = {"RELATIVE_BASE": now.replace(tzinfo=None), "PREFER_DATES_FROM": "past"}
    found = dateparser.parse(said, languages=["en"], settings=options)
    return None if found is None else found.replace(tzinfo=now.tzinfo)
