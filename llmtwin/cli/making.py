"""The life of a twin on the command line: it is made, learns and answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.progress import Progress

from llmtwin.cli.arguments import Cohort, Enrolment, Kind, Name, VersionedName, parted, twin_of
from llmtwin.errors import InputError
from llmtwin.settings import read_settings
from llmtwin.show import (
    counted,
    err,
    out,
    show_answer,
    show_card,
    show_pushed,
    tuning_bar,
)

Material = Annotated[
    str | None, typer.Option("--with", help="A file or address to write about or be asked about.")
]

NEXT = {"home": " states.json", "person": " ~/notes", "model": " traffic.jsonl"}
"""What a twin of each kind collects first."""


def new(
    name: Name,
    kind: Kind = "home",
    cohort: Cohort = None,
    enrolment: Enrolment = None,
    primary: Annotated[str | None, typer.Option(help="Of a model: where it answers, up to /v1.")] = None,
) -> None:
    """Make a twin and its keys, and enrol it."""
    from llmtwin.primary.place import set_primary
    from llmtwin.twin import Twin
    from llmtwin.twins.model.address import checked_address

    if primary is not None and kind != "model":
        raise InputError("only a twin of a model has a primary: add `--kind model`")
    if primary is not None:
        checked_address(primary)  # before anything is made
    with Twin.new(name, kind, cohort=cohort, enrolment=enrolment):
        if primary is not None:
            set_primary(name, primary)
        then = "proxy" if primary else "collect"
        out.print(f"{name} is there; next: llmtwin {then} {name}{'' if primary else NEXT.get(kind, '')}")


def collect(
    name: Name,
    sources: Annotated[
        list[str], typer.Argument(help="A home's state dumps, what a person wrote, or a model's traffic.")
    ],
    seal: Annotated[
        list[str] | None,
        typer.Option(help="Settings whose entity id fits (glob, as input_text.*) are secret."),
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option("--as", help="A name or mail address that you write under.")
    ] = None,
) -> None:
    """Take in files, folders, archives or addresses: what is private stays here, the rest becomes prompts.

    A home's are state dumps (the JSON of /api/states), oldest first.
    """
    with twin_of(name) as twin, err.status("collecting"):
        found = twin.collect(*sources, seal=seal or (), names=by or ())
    for skipped in found.skipped:
        err.print(f"skipped {skipped.name}: {skipped.reason}", style="yellow")
    for note in found.notes:
        err.print(note, style="yellow")
    out.print(f"{found.items} items: {counted(found)}; {len(found.skipped)} skipped")
    show_pushed(found.pushed)


def tune(
    name: Name,
    audience: Annotated[str | None, typer.Option(help="Only what was written for it: blog, mail, …")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only what was written from this day on.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only what was written before this day.")] = None,
) -> None:
    """Learn what is private into an adapter, here at the edge.

    The options make a voice, as a version of its own, which goes live like any other: `llmtwin rollback`
    goes back to the one before, and `llmtwin ask NAME@VERSION` asks any, live or not.
    """
    from llmtwin.twins.kind import Voice

    voice = Voice(audience, *(day and day.replace(tzinfo=UTC) for day in (since, until)))
    with twin_of(name) as twin, tuning_bar(f"tuning {name}") as report:
        tuned = twin.tune(report, voice)
    show_card(tuned.card)
    show_pushed(tuned.pushed)


def push(name: Name) -> None:
    """Send what waits in the outbox."""
    with twin_of(name) as twin, Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("pushing", total=None)
        pushed = twin.push(lambda done, total: bar.update(task, completed=done, total=total))
    show_pushed(pushed)
    if pushed.error is not None:
        raise pushed.error


def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on.")] = None,
    engine: Annotated[str | None, typer.Option(help="torch, or echo for tests.")] = None,
) -> None:
    """Serve the twins of the data folder over HTTP."""
    from llmtwin import serving

    settings = read_settings(host=host, port=port, engine=engine)
    app = serving.make_app(settings)
    token = settings.server_folder / "admin.token"
    out.print(f"http://{settings.host}:{settings.port}; the admin's token is in {token}")
    serving.run(app, settings)


def ask(
    name: VersionedName,
    question: Annotated[str, typer.Argument(help="A question, or an order.")],
    material: Material = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")] = False,
) -> None:
    """Ask a twin, or tell it what to do."""
    name, version = parted(name)
    with twin_of(name) as twin, err.status("asking"):
        answer = twin.ask(question, material=material, version=version)
    if json:
        typer.echo(answer.model_dump_json())
    else:
        show_answer(answer)


def edit(
    name: VersionedName,
    question: Annotated[str, typer.Argument(help="What was asked.")],
    correction: Annotated[str, typer.Argument(help="What should have been answered.")],
    material: Material = None,
) -> None:
    """Correct an answer of a person's or a model's twin: the next tuning prefers the correction.

    The question is asked once more, and the correction kept beside that answer.
    """
    name, version = parted(name)
    with twin_of(name) as twin, err.status("asking"):
        answer = twin.ask(question, material=material, version=version)
        twin.edit(question, answer, correction)
    out.print(f"noted in place of: {answer.text}")
