"""Tries a version on a share of the sessions, makes it live for all, and takes it back where it is worse.

Which version answers is the server's to know: a canary runs where the server says so. It tunes nothing, and
asks the primary nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from llmtwin.edge.link import Link
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import Conflict, InputError, NotFound, Unavailable, Untrusted
from llmtwin.primary import carding
from llmtwin.primary.gating import Action, decisions, judge, keep
from llmtwin.primary.place import open_link, open_store
from llmtwin.records import now
from llmtwin.settings import Settings, read_settings
from llmtwin.twins.gate import Verdict

if TYPE_CHECKING:
    from llmtwin.twins.gate import SoFar

Entry = Mapping[str, Any]
"""A line of the log of decisions."""


@dataclass(frozen=True)
class Ruling:
    """A verdict on a version in place of another, the base where `in_use` is None, and what was done."""

    twin: str
    candidate: int
    in_use: int | None
    found: SoFar
    action: Action


@dataclass(frozen=True)
class Trial:
    """A version that answers, in place of which it does, and since when; None where that is not in the log.

    It is judged on what sessions said since: what let it be tried says nothing of what came then. A larger
    share, and all of them, are the same trial.
    """

    candidate: int
    in_use: int
    since: datetime | None


def rule(name: str, candidate: int, in_use: int | None = None, settings: Settings | None = None) -> Ruling:
    """Decide on a version, in place of `in_use` or of the base; one that is on trial is looked at, as `look`.

    Raises as `gating.judge`.
    """
    settings = settings or read_settings()
    with open_store(name, settings) as store:
        link = open_link(store, settings)
        _settle(store, link)
        trial = _trial(store, link)
        if trial is not None and trial.candidate == candidate and in_use in (None, trial.in_use):
            return _look(store, link, trial, settings)
        found = judge(store, candidate, in_use, settings)
        return _done(store, Ruling(name, candidate, in_use, found, Action.NONE), settings)


def begin(name: str, candidate: int, share: float, settings: Settings | None = None) -> Ruling:
    """Have a version answer a share (0 to 1, both excluded) of the sessions, the one in use the others.

    A session stays with its version. Raises InputError for another share, Conflict where the verdict is FAIL,
    another canary runs, or there is no version for the others; NotFound for a version that the server does
    not have.
    """
    if not 0 < share < 1:
        raise InputError(f"a canary answers a share between 0 and 1 of the sessions, not {share}")
    settings = settings or read_settings()
    with open_store(name, settings) as store:
        link = open_link(store, settings)
        running = link.info().canary_version
        if running not in (None, candidate):
            raise Conflict(
                f"{name}@{running} is on trial: promote it, or end that with `llmtwin rollback {name}`"
            )
        in_use = _in_place_of(link, candidate)
        if in_use is None:
            raise Conflict(f"{name}@{candidate} is the only version: there is none for the other sessions")
        return _try(store, link, candidate, in_use, settings, share)


def promote(name: str, candidate: int, settings: Settings | None = None) -> Ruling:
    """Make a version live for all sessions. Raises Conflict unless the verdict is PASS, else as `begin`."""
    settings = settings or read_settings()
    with open_store(name, settings) as store:
        link = open_link(store, settings)
        return _try(store, link, candidate, _in_place_of(link, candidate), settings)


def _try(
    store: EdgeStore,
    link: Link,
    candidate: int,
    in_use: int | None,
    settings: Settings,
    share: float | None = None,
) -> Ruling:
    """Have a version answer a share, or all, of the sessions if the verdict allows it; else raises Conflict.

    For one that is on trial that is the verdict of what sessions said since, too, and its trial goes on.
    """
    trial = _trial(store, link)
    since = trial.since if trial is not None and trial.candidate == candidate else None
    found = judge(store, candidate, in_use, settings, since)
    if since is not None and found.verdict is not Verdict.FAIL:
        found = judge(store, candidate, in_use, settings)
    if found.verdict is Verdict.FAIL or (share is None and found.verdict is not Verdict.PASS):
        _refuse(store, candidate, in_use, found, settings)
    _check_still(link, candidate, in_use)
    more = {} if since is None else {"since": since.isoformat()}
    if share is None:
        ruling = Ruling(link.twin, candidate, in_use, found, Action.PROMOTE)
        return _done(store, ruling, settings, lambda: link.roll_back(candidate), **more)
    ruling = Ruling(link.twin, candidate, in_use, found, Action.CANARY)
    return _done(store, ruling, settings, lambda: link.set_canary(candidate, share), share=share, **more)


def look(name: str, settings: Settings | None = None) -> Ruling | None:
    """Decide anew on the version that is on trial, by what sessions said since; take it back where it FAILs.

    On trial is a canary, and a version that was promoted, as long as it is live. None where there is none.
    Raises as `gating.keep` where that cannot be logged: a canary that FAILs is taken back all the same.
    """
    settings = settings or read_settings()
    with open_store(name, settings) as store:
        link = open_link(store, settings)
        _settle(store, link)
        trial = _trial(store, link)
        return None if trial is None else _look(store, link, trial, settings)


def _settle(store: EdgeStore, link: Link) -> None:
    """Log as taken back what the server took back without confirming it.

    Else whoever makes it live again by hand would be overruled.
    """
    info = link.info()
    with suppress(Untrusted, Unavailable):  # a log that is damaged is no reason not to look
        last = {
            entry["candidate"]: entry
            for entry in decisions(store).read().entries
            if entry.get("action", Action.NONE) not in (Action.NONE, Action.REFUSE)
        }
        for version, entry in last.items():
            failed = entry["action"] == Action.UNCONFIRMED and entry["verdict"] == Verdict.FAIL
            if failed and version not in (info.canary_version, info.live_version):
                done = {"at": now().isoformat(), "action": Action.ROLL_BACK, "why": "it was found done"}
                decisions(store).append({**entry, **done})


def _trial(store: EdgeStore, link: Link) -> Trial | None:
    """The trial that is on, if one is. Raises as the log's `read`, which a canary is on trial without."""
    info = link.info()
    canary, live = info.canary_version, info.live_version
    if canary is not None and live is not None:
        try:
            begun = _begun(store, canary, Action.CANARY)
        except (Untrusted, Unavailable):
            begun = None
        return Trial(canary, live, None if begun is None else _since(begun))
    promoted = _begun(store, live, Action.PROMOTE)
    if promoted is None or promoted["in_use"] is None:
        return None
    return Trial(promoted["candidate"], promoted["in_use"], _since(promoted))


def _begun(store: EdgeStore, version: int | None, action: Action) -> Entry | None:
    """The last line that has a version tried, unless it was taken back since."""
    for entry in reversed(decisions(store).read().entries):
        if entry["candidate"] == version and entry.get("action") in (action, Action.ROLL_BACK):
            return entry if entry["action"] == action else None
    return None


def _since(begun: Entry) -> datetime:
    """When the trial began that a line begins, or goes on with."""
    return datetime.fromisoformat(begun.get("since", begun["at"]))


def _look(store: EdgeStore, link: Link, trial: Trial, settings: Settings) -> Ruling:
    found = judge(store, trial.candidate, trial.in_use, settings, trial.since)
    ruling = Ruling(link.twin, trial.candidate, trial.in_use, found, Action.NONE)
    if found.verdict is Verdict.FAIL and _trial(store, link) == trial:
        ruling = replace(ruling, action=Action.ROLL_BACK)
        return _done(store, ruling, settings, lambda: link.roll_back(trial.in_use))
    return _done(store, ruling, settings)


def _in_place_of(link: Link, candidate: int) -> int | None:
    """The version that a candidate would replace: the live one, or the one before if that is itself."""
    versions = [one.manifest.version for one in link.adapters() if not one.withdrawn]
    if candidate not in versions:
        raise NotFound(
            f"the server has no version {candidate} of {link.twin}: run `llmtwin push {link.twin}`"
        )
    live = link.info().live_version
    if live != candidate:
        return live
    return max((version for version in versions if version < candidate), default=None)


def _check_still(link: Link, candidate: int, in_use: int | None) -> None:
    """Judging takes its time: what has become live meanwhile is not undone. Raises Conflict."""
    if _in_place_of(link, candidate) != in_use:
        raise Conflict(f"another version than {in_use} of {link.twin} is live by now: gate it again")


def _refuse(
    store: EdgeStore, candidate: int, in_use: int | None, found: SoFar, settings: Settings
) -> NoReturn:
    """Keep that a version must not go live, and say so: raises Conflict."""
    twin = store.settings().twin
    _done(store, Ruling(twin, candidate, in_use, found, Action.REFUSE), settings)
    place = "the base" if in_use is None else f"{twin}@{in_use}"
    more = f"; about {found.items_more:,} more sessions are needed" if found.items_more else ""
    raise Conflict(
        f"{twin}@{candidate} does not go live in place of {place}: {found.verdict.upper()} over {found.items}"
        f" held-out sessions{more}"
    )


def _done(
    store: EdgeStore,
    ruling: Ruling,
    settings: Settings,
    tell_server: Callable[[], object] = lambda: None,
    **more: Any,
) -> Ruling:
    """Keep what was decided, have the server do it, and write the candidate's model card anew.

    What goes live is in the log first, so that no version is live that is not in it. What is taken back is so
    first, lest the log, or an end in between, leave it in use: the next look does it again, which harms
    nothing.
    """
    decided = (store, ruling.candidate, ruling.in_use, ruling.found)
    log = partial(keep, *decided, ruling.action, **more)
    tell = partial(_confirmed, decided, tell_server)
    for step in (tell, log) if ruling.action is Action.ROLL_BACK else (log, tell):
        step()
    carding.write(ruling.twin, ruling.candidate, settings=settings)
    return ruling


def _confirmed(decided: tuple[EdgeStore, int, int | None, SoFar], tell_server: Callable[[], object]) -> None:
    """Have the server do it; where it does not, or nobody can say whether it did, that is a line, too."""
    try:
        tell_server()
    except BaseException as error:  # whoever is interrupted does not know either
        with suppress(Untrusted, Unavailable):  # what is to be told is that the server did not confirm it
            keep(*decided, Action.UNCONFIRMED, why=str(error) or type(error).__name__)
        raise
