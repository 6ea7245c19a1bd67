"""Prompts as JSON and back, checked item by item. It knows nothing of HTTP or of who sends them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from llmtwin.errors import InputError, TooLarge
from llmtwin.records import Prompt, Record
from llmtwin.wire.reason import reason

BATCH_BYTES_MAX = 4 * 1024 * 1024
BATCH_ITEMS_MAX = 1000
ITEM_BYTES_MAX = 16 * 1024  # of the item in compact form
AHEAD_MAX = timedelta(minutes=5)  # clocks differ
EARLIEST = datetime(1000, 1, 1, tzinfo=UTC)  # people twin the dead

_PROMPTS = TypeAdapter(tuple[Prompt, ...])


class Refused(Record):
    """An item of a batch that was not taken, by its place in the batch, and why."""

    index: int
    reason: str


def encode_prompts(prompts: Sequence[Prompt]) -> bytes:
    """Prompts as a JSON array."""
    return _PROMPTS.dump_json(tuple(prompts))


def decode_prompts(body: bytes, now: datetime) -> tuple[list[Prompt], list[Refused]]:
    """The prompts of a JSON array, and the items that are none: a bad item does not spoil the batch.

    Raises TooLarge for a batch over the limits, InputError for what is not a JSON array.
    """
    prompts, refused = [], []
    for index, item in enumerate(_items(body)):
        try:
            prompts.append(_prompt(item, now))
        except InputError as error:
            refused.append(Refused(index=index, reason=str(error)))
    return prompts, refused


def _items(body: bytes) -> list[Any]:
    if len(body) > BATCH_BYTES_MAX:
        raise TooLarge(f"the batch has {len(body)} bytes: send at most {BATCH_BYTES_MAX} at once")
    try:
        items = from_json(body)
    except ValueError as error:
        raise InputError(f"the batch is not JSON: {error}") from error
    if not isinstance(items, list):
        raise InputError("the batch is not a JSON array of prompts")
    if len(items) > BATCH_ITEMS_MAX:
        raise TooLarge(f"the batch has {len(items)} prompts: send at most {BATCH_ITEMS_MAX} at once")
    return items


def _prompt(item: Any, now: datetime) -> Prompt:
    compact = to_json(item, inf_nan_mode="constants")
    if len(compact) > ITEM_BYTES_MAX:
        raise TooLarge(f"the prompt has {len(compact)} bytes: at most {ITEM_BYTES_MAX} are taken")
    try:
        prompt = Prompt.model_validate_json(compact)
    except ValidationError as error:
        raise InputError(reason(error)) from error
    for name, at in _times(prompt):
        if not EARLIEST <= at <= now + AHEAD_MAX:
            raise InputError(f"{name}: {at.isoformat()} is in the future or long past, check the clock")
    return prompt


def _times(prompt: Prompt) -> Iterator[tuple[str, datetime]]:
    yield "at", prompt.at
    for index, fact in enumerate(prompt.facts):
        yield f"facts.{index}.at", fact.at
