"""Reads dates as documents write them. It does not guess: what is not plainly a date is none."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime

# As in `25-Oct-2001`, `Oct 25, 2001` and `25 October 2001`; their months are English everywhere.
_FORMATS = (
    "%d-%b-%Y",
    "%d-%B-%Y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M",
)
_BLANK_BEFORE_OFFSET = re.compile(r"(\d) +(Z|UTC|[+-]\d\d:?\d\d)$")


def read_date(value: object) -> datetime | None:
    """The time that a value of YAML or a text says, None if it says none; UTC where it names no zone."""
    if isinstance(value, str):
        value = _parse(_BLANK_BEFORE_OFFSET.sub(r"\1\2", value.strip()).removesuffix("UTC"))
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return None


def _parse(text: str) -> datetime | None:
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return parse(text)
        except (ValueError, OverflowError, TypeError, IndexError):
            continue
    for known in _FORMATS:
        try:
            return datetime.strptime(text, known)
        except ValueError:
            continue
    return None
