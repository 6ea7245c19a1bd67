"""Whether the primary and another endpoint write the same: both are asked as often. It learns nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Any

import httpx

from llmtwin.edge import mirrored
from llmtwin.errors import InputError, LlmtwinError
from llmtwin.primary.asking import Tell, as_on_record, ask, changed, reasons
from llmtwin.primary.nearness import SAMPLE
from llmtwin.primary.place import open_store
from llmtwin.primary.trying import recorded
from llmtwin.settings import Settings, read_settings

if TYPE_CHECKING:
    from llmtwin.twins.model.equality import Equality
    from llmtwin.twins.model.replay import Change

P_VALUE_MAX = 0.05
"""At most this often equals are called different."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Compared:
    """The test, how many prompts had too few answers to be in it, and why requests have none."""

    equality: Equality
    left_out: int
    failures: Mapping[str, int]

    @property
    def different(self) -> bool:
        """Whether chance alone makes so large a difference rarely enough."""
        return self.equality.p_value <= P_VALUE_MAX


def compare(
    name: str,
    changes: Sequence[str],
    repeats: int,
    sample: int = SAMPLE,
    settings: Settings | None = None,
    tell: Tell = lambda _: None,
) -> Compared:
    """Ask each of the newest `sample` different requests `repeats` times of the primary, and under a change.

    They are asked as on record, temperature and all, but without a `seed`, with which repeats would be one.
    Both sides take turns, so that what goes on meanwhile meets both. Raises InputError for a change that
    cannot be, without a primary, and where there are too few texts to show anything.
    """
    from llmtwin.twins.model import replay
    from llmtwin.twins.model.equality import equality

    settings = settings or read_settings()
    change = replay.parse(changes)
    with open_store(name, settings) as store:
        mirrored.take(store)
        newest = (line.request for line in reversed(recorded(store)))
        different = {json.dumps(request, sort_keys=True): request for request in newest}
        prompts = dict(list(different.items())[:sample])
        _check_enough(len(prompts), repeats)
        with as_on_record(store) as primary, changed(store, change, settings) as other:
            tell(2 * repeats * len(prompts))
            failures: Counter[str] = Counter()
            sides = ((primary, replay.Change()), (other, change))
            some, others = dict[str, list[str]](), dict[str, list[str]]()
            for key, request in prompts.items():
                for _ in range(repeats):
                    for texts, (client, under) in zip((some, others), sides, strict=True):
                        texts.setdefault(key, []).extend(_text(client, under, request, failures))
    whole = [key for key in prompts if min(len(some[key]), len(others[key])) >= 2]
    if not whole:
        raise InputError(f"no request was answered twice on both sides: {reasons(failures)}")
    found = equality({key: some[key] for key in whole}, {key: others[key] for key in whole})
    return Compared(found, len(prompts) - len(whole), dict(failures))


def _check_enough(prompts: int, repeats: int) -> None:
    """The least p-value is that of all ways to share the texts out, a way and its reverse being as large."""
    if 2 / comb(2 * repeats, repeats) ** prompts > P_VALUE_MAX:
        raise InputError(
            f"{repeats} answers to {prompts} requests cannot show any difference: raise --repeats or --sample"
        )


def _text(client: httpx.Client, change: Change, request: Json, failures: Counter[str]) -> list[str]:
    """The text of one answer, with what it would call; none where there is no answer."""
    from llmtwin.twins.model.openai import reply

    try:
        asked = change.of(request)
        asked.pop("seed", None)
        found = reply(ask(client, asked))
    except LlmtwinError as error:
        failures[str(error)] += 1
        return []
    return ["\n".join((found.text, *(f"{name}({given})" for name, given in found.tool_calls)))]
