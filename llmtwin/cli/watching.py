"""The watch on the command line: once, again and again, or in its place on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Group

from llmtwin.cli.arguments import Name, twin_of
from llmtwin.errors import Conflict, LlmtwinError
from llmtwin.show import (
    err,
    in_place,
    learning,
    nearness,
    out,
    show_card,
    show_pushed,
    show_ruling,
    show_watched,
    tuning_bar,
    watched,
)

if TYPE_CHECKING:
    from llmtwin.edge.results import Watched
    from llmtwin.twin import Report, Twin


def watch(
    name: Name,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 60,
) -> None:
    """Compare a twin with its subject, and learn again what differs.

    A look that fails, as while the server is away, is said in a line, and the next one follows.
    """
    from llmtwin.primary import place

    with twin_of(name) as twin:
        if place.is_of_model(name) and out.is_terminal and not once:
            _watch_in_place(twin, every)
        if once:
            _watch(twin)
            return
        while True:
            with _going_on():
                _watch(twin)
            time.sleep(every)


def _watch(twin: Twin) -> None:
    from llmtwin.primary import place

    of_model = place.is_of_model(twin.name)
    if of_model:
        _rule(twin)
    with tuning_bar(f"watching {twin.name}") as report:
        found = _look(twin, report)
    if found is not None:
        show_watched(found)
    if of_model:
        out.print(_near(twin))


def _watch_in_place(twin: Twin, every: float) -> NoReturn:
    with in_place() as show:
        show("looking …")
        while True:
            with _going_on():
                _rule(twin)
                found = _look(twin, lambda progress: show(learning(progress)))
                if found is not None and found.relearned is not None:
                    show_card(found.relearned.card)
                    show_pushed(found.relearned.pushed)
                show(Group(watched(found) if found else "", _near(twin)))
            time.sleep(every)


@contextmanager
def _going_on() -> Iterator[None]:
    """One look of many: what goes wrong in it is said, and is not the end of the watch."""
    try:
        yield
    except LlmtwinError as error:
        err.print(f"this look failed: {error}", style="yellow")


def _look(twin: Twin, report: Report) -> Watched | None:
    """What a look found; None where the gate kept a new version back, which is said."""
    try:
        return twin.watch(report)
    except Conflict as error:
        err.print(f"kept back: {error}", style="yellow")
        return None


def _rule(twin: Twin) -> None:
    from llmtwin.primary import canary

    if ruling := canary.look(twin.name):
        show_ruling(ruling)


def _near(twin: Twin) -> Group:
    from llmtwin.primary.nearness import measure
    from llmtwin.primary.recorded import recorded

    return nearness(measure(twin.name, twin.card().version), recorded(twin.name))
