"""Has a primary say how likely it finds what its twin wrote, and keeps that for the next tuning (GKD).

It is asked only when the owner says so: a mirror asks a primary nothing. It tunes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from llmtwin import serving
from llmtwin.edge import mirrored
from llmtwin.edge.locks import learning
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import InputError, LlmtwinError, NotFound, Unavailable
from llmtwin.primary.asking import Tell, as_on_record, ask, reasons
from llmtwin.primary.place import open_link, open_store
from llmtwin.settings import Settings, read_settings

if TYPE_CHECKING:
    from llmtwin.models.base import Base
    from llmtwin.twins.model.exchange import Exchange
    from llmtwin.twins.model.replay import Ask

SHARE_MAX = 0.5

Advance = Callable[[int], None]
"""Is told how many requests are done with so far."""


@dataclass(frozen=True)
class Sampled:
    """Of which version the primary was asked about how many answers and tokens; those known before stay.

    `failures` are how many answers it could not be asked about, by reason.
    """

    version: int
    answers: int
    tokens: int
    before: int
    failures: Mapping[str, int]


def sample(
    name: str,
    share: float,
    settings: Settings | None = None,
    tell: Tell = lambda _: None,
    advance: Advance = lambda _: None,
) -> Sampled:
    """Have the live version answer what is on record, and the primary say how likely it finds each token.

    So many requests are taken that the twin's own answers are a `share` of all that is learned next, always
    the same ones first, and of held-out sessions none. Each answer is kept as soon as it is known, in the
    place of that of an older version, and is not asked about again. Raises InputError for a share that cannot
    be, or a primary that does not go on with a reply that was begun or says nothing of log-probabilities;
    NotFound where nothing is learned yet; Conflict while the twin learns or forgets.
    """
    if not 0 < share <= SHARE_MAX:
        raise InputError(f"a share of {share:g} cannot be: give more than 0, and {SHARE_MAX:g} at most")
    settings = settings or read_settings()
    with open_store(name, settings) as store, learning(store):
        mirrored.take(store)
        version = open_link(store, settings).info().live_version
        if version is None:
            raise NotFound(f"{name} has learned nothing yet: run `llmtwin tune {name}`")
        base = serving.base(settings)
        asked, before = _asked(store, version, share, base)
        with as_on_record(store) as primary:
            _need_to_go_on(asked, primary)
            said = _answers(base, store.version_folder(version), asked)
            tell(sum(len(one.pieces) + one.ended for one in said))
            answers, tokens, failures = _keep(store, version, said, partial(ask, primary), advance)
    if failures and not answers:
        raise InputError(f"the primary said nothing of the twin's answers: {reasons(failures)}")
    return Sampled(version, answers, tokens, before, failures)


@dataclass(frozen=True)
class _Said:
    """What the twin answered to an exchange on record, in tokens; `ended` is whether it ended by itself."""

    address: str
    line: Exchange
    pieces: Sequence[str]
    ended: bool


def _asked(store: EdgeStore, version: int, share: float, base: Base) -> tuple[dict[str, Exchange], int]:
    """The exchanges, by address, that this version is to answer yet, and how many it has answered."""
    from llmtwin.models.distil import fits
    from llmtwin.twins.model import own
    from llmtwin.twins.model.collect import OWN, exchanges, is_held_out, own_address, trace_of

    known = store.known()
    learned = {
        at: line
        for at, line in exchanges(known)
        if not is_held_out(line) and (trace := trace_of(line)) and fits(base, trace)
    }
    # An address is a hash: in their order they are drawn at random, and more are the same ones and others.
    could_be = sorted(at for at, line in learned.items() if own.can_be_begun(line))
    drawn = could_be[: max(1, round(share / (1 - share) * len(learned)))]
    workload = _workload(store, version)
    there = {at for at, line in exchanges(known, OWN) if line.workload_id == workload}
    asked = {at: learned[at] for at in drawn if own_address(at) not in there}
    return asked, len(drawn) - len(asked)


def _need_to_go_on(asked: Mapping[str, Exchange], primary: httpx.Client) -> None:
    from llmtwin.twins.model import own

    try:
        goes_on = not asked or own.goes_on(asked.values(), partial(ask, primary))
    except Unavailable as error:
        raise Unavailable(f"the primary cannot be asked: {error}") from None
    if not goes_on:
        raise InputError(
            "the primary does not go on with a reply that was begun for it, so that it cannot say how likely"
            " it finds the twin's words; llmtwin's own figures are with llama.cpp, which does"
        )


def _answers(base: Base, folder: Path, asked: Mapping[str, Exchange]) -> list[_Said]:
    """What a version says, at its likeliest."""
    from llmtwin.models.engine.torch_engine import TorchEngine
    from llmtwin.twins.model import beside

    lines = list(asked.values())
    with TorchEngine(base, lambda _: folder) as engine:
        replies = beside.replies(engine, lines, (folder.name,))
    decode = base.tokenizer.decode
    return [
        _Said(
            address,
            line,
            [decode([token], skip_special_tokens=False) for token in base.encode(reply.text)],
            reply.finish == "stop",
        )
        for (address, line), reply in zip(asked.items(), replies, strict=True)
    ]


def _keep(
    store: EdgeStore, version: int, said: Sequence[_Said], ask: Ask, advance: Advance
) -> tuple[int, int, Counter[str]]:
    """Ask about each answer and keep it; how many were, with how many tokens, and why others were not."""
    from llmtwin.twins.model import own
    from llmtwin.twins.model.collect import own_document

    failures: Counter[str] = Counter()
    answers = tokens = done = 0
    for one in said:
        try:
            response = own.told(one.line, one.pieces, one.ended, ask)
        except LlmtwinError as error:
            failures[str(error)] += 1
        else:
            document = own_document(one.address, one.line, response, _workload(store, version))
            store.record([], [], store.encoder_state() or "", [document])
            answers, tokens = answers + 1, tokens + len(one.pieces)
        done += len(one.pieces) + one.ended
        advance(done)
    return answers, tokens, failures


def _workload(store: EdgeStore, version: int) -> str:
    return f"{store.settings().twin}@{version}"
