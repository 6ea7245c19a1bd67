"""Chooses of whom and when a voice is: by audience and by time, over one memory. It changes no item."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from llmtwin.errors import InputError
from llmtwin.twins.person.sources.items import Item

MESSAGES = frozenset({"mail", "chat"})
"""The kinds of audience that are one or a few people, named behind the colon."""


def tag(audience: str) -> str:
    """What kind of audience it is, whoever it was: `mail` of `mail:bob@x.org`."""
    return audience.partition(":")[0]


def select(
    items: Iterable[Item],
    audience: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Item]:
    """The items for that audience, from `since` up to but without `until`, in their order.

    `mail` is all mail, `mail:bob@x.org` what Bob got. An item without a date belongs to no time: it is left
    out where one is asked for. Raises InputError for a time without a zone.
    """
    if any(time is not None and time.tzinfo is None for time in (since, until)):
        raise InputError(
            "a time without a zone was given for the voice; give one such as 2024-05-01T00:00+00:00"
        )
    return [item for item in items if _is_for(item, audience) and _is_of(item, since, until)]


def _is_for(item: Item, audience: str | None) -> bool:
    return audience in (None, tag(item.audience), item.audience)


def _is_of(item: Item, since: datetime | None, until: datetime | None) -> bool:
    if since is None and until is None:
        return True
    return (
        item.date is not None
        and (since is None or since <= item.date)
        and (until is None or item.date < until)
    )
