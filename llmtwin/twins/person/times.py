"""The stretch of time that a question names: "in March 2020", "last spring", "before 2019". English only.

It knows no memory. Seasons are those of the northern half of the world.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from dateparser.date import DateDataParser

_MONTHS = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_SEASON_BEGINS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
_SEASONS = rf"(?:{'|'.join(_SEASON_BEGINS)})"
# A number of things is no year: "in 1000 words".
_YEAR = r"(?:1\d|20|21)\d\d(?!\d|[.,]\d| (?!was\b|is\b|as\b|this\b)\w+s\b)"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_COUNT = r"(?:\d{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|ten)"
# What is a time wherever it stands.
_ALONE = (
    rf"(?:last|this|past) (?:year|month|week|{_SEASONS}|{_MONTHS})\b|yesterday\b|today\b"
    rf"|{_COUNT} (?:day|week|month|year)s? ago\b"
)
# What is one only after a word such as "in".
_NAMED = (
    rf"\d{{4}}-\d\d(?:-\d\d)?\b|{_DAY} (?:of )?{_MONTHS}(?:,? {_YEAR})?\b"
    rf"|{_MONTHS} {_DAY}(?:,? {_YEAR})?\b|{_MONTHS}(?:(?: of)?,? {_YEAR})?\b"
    rf"|(?:the )?{_SEASONS}(?:(?: of)? {_YEAR})?\b|(?:the )?(?:1\d|20|21)\d0s\b|{_YEAR}"
)
_TIME = rf"(?:{_ALONE}|{_NAMED})"
_PHRASE = re.compile(
    rf"\b(?:between (?P<first>{_TIME}) and (?P<last>{_TIME})"
    rf"|from (?P<begin>{_TIME}) (?:to|until|till) (?P<end>{_TIME})"
    rf"|(?P<how>(?:back )?(?:in|during|from|on|of)|since|after|before|until|till|by) (?P<time>{_TIME})"
    rf"|(?P<alone>{_ALONE}))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Stretch:
    """From `since` up to but without `until`, None for no end; `start` and `end` are where it was said."""

    since: datetime | None
    until: datetime | None
    start: int
    end: int


def stretches(text: str, now: datetime) -> Iterator[Stretch]:
    """The times that a text names, in its order; what is not understood is left out."""
    for match in _PHRASE.finditer(text):
        whole = partial(Stretch, start=match.start(), end=match.end())
        first, last = match["first"] or match["begin"], match["last"] or match["end"]
        said = (first, last) if first else (match["time"] or match["alone"],)
        periods = [period for time in said if (period := _period(time, now)) is not None]
        if len(periods) < len(said):
            continue
        (since, _), (_, until) = periods[0], periods[-1]
        how = (match["how"] or "in").casefold()
        if how == "before":
            yield whole(None, since)
        elif how in ("until", "till", "by"):
            yield whole(None, until)
        elif how in ("since", "after"):
            yield whole(since if how == "since" else until, None)
        else:
            yield whole(since, until)


def _period(said: str, now: datetime) -> tuple[datetime, datetime] | None:
    said = re.sub(r"\b(?:the|of|past)\b|(?<=\d)(?:st|nd|rd|th)\b", " ", said.casefold())
    said = " ".join(said.replace(",", " ").split())
    if season := re.search(_SEASONS, said):
        return _season(season[0], said, now)
    if decade := re.fullmatch(r"(\d{3})0s", said):
        begin = _day(now).replace(year=int(decade[1]) * 10, month=1, day=1)
        return begin, begin.replace(year=begin.year + 10)
    if re.fullmatch(rf"(?:last|this) {_MONTHS}", said):
        said = said.split()[1]
    settings = {"RELATIVE_BASE": now.replace(tzinfo=None), "PREFER_DATES_FROM": "past"}
    found = DateDataParser(languages=["en"], settings=settings).get_date_data(said)
    if found.date_obj is None:
        return None
    day = _day(found.date_obj.replace(tzinfo=now.tzinfo))
    if found.period == "year":
        begin = day.replace(month=1, day=1)
        return begin, begin.replace(year=begin.year + 1)
    if found.period == "month":
        begin = day.replace(day=1)
        return begin, (begin + timedelta(days=32)).replace(day=1)
    if found.period == "week":
        begin = day - timedelta(days=day.weekday())
        return begin, begin + timedelta(days=7)
    return day, day + timedelta(days=1)


def _season(season: str, said: str, now: datetime) -> tuple[datetime, datetime]:
    """The season of the year that was said; else the last that is over, or the last that has begun."""
    year = re.search(r"\d{4}", said)
    begin = _day(now).replace(year=int(year[0]) if year else now.year, month=_SEASON_BEGINS[season], day=1)
    if year is None:
        over = said.startswith("last")
        while (_months_later(begin) if over else begin) > now:
            begin = begin.replace(year=begin.year - 1)
    return begin, _months_later(begin)


def _months_later(begin: datetime) -> datetime:
    """Three months after the first of a month."""
    return (begin + timedelta(days=95)).replace(day=1)


def _day(time: datetime) -> datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0)
