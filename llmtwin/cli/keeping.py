"""What is done with a twin that is there: looked at, given away, forgotten, undone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from llmtwin.cli.arguments import Cohort, Enrolment, Kind, Name, Version, twin_of
from llmtwin.records import Format
from llmtwin.settings import read_settings
from llmtwin.show import (
    err,
    out,
    show_audit,
    show_card,
    show_pushed,
    tuning_bar,
)


def card(
    name: Name,
    version: Version = None,
    markdown: Annotated[
        Path | None,
        typer.Option(help="Of a model's twin: a file for the model card, as Hugging Face reads it."),
    ] = None,
) -> None:
    """Show the report card of a version, or write its model card."""
    if markdown is not None:
        from llmtwin.primary import carding

        with err.status("measuring"):
            written = carding.write(name, version, markdown)
        out.print(f"written to {written}")
        return
    with twin_of(name) as twin:
        show_card(twin.card(version))


def audit(
    name: Name,
    canaries: Annotated[
        bool, typer.Option("--canaries", help="Also learn all anew with made-up secrets among it.")
    ] = False,
) -> None:
    """Attack a twin's adapter, here, and sign what that finds as a new version with the same weights."""
    with twin_of(name) as twin, err.status("auditing") as status:
        found = twin.audit(canaries=canaries, report=lambda said: status.update(said))
    show_audit(found.found)
    out.print(f"{name}@{found.version} was audited; {name}@{found.signed} is the same with this on its card")
    show_pushed(found.pushed)


def export(
    name: Name,
    target: Annotated[Path, typer.Argument(help="A new folder, or for gguf and bundle a new file.")],
    version: Version = None,
    format: Annotated[Format, typer.Option(help="For PEFT, for llama.cpp, or for another machine.")] = (
        Format.PEFT
    ),
    licence: Annotated[
        str | None, typer.Option(help="What the bundle is given for; else for the recipient alone.")
    ] = None,
    consent: Annotated[
        str, typer.Option(help="What the one whose twin it is says to its being given away.")
    ] = "",
    expires: Annotated[datetime | None, typer.Option(help="The day on which the licence ends.")] = None,
) -> None:
    """Write a version as a plain PEFT adapter, a GGUF file, or a signed bundle."""
    ends = expires and expires.replace(tzinfo=UTC)
    with twin_of(name) as twin, err.status("exporting"):
        written = twin.export(target, version, format, terms=licence, consent=consent, expires_at=ends)
    out.print(f"written to {written}")


def import_(
    bundle: Annotated[Path, typer.Argument(help="A bundle that somebody exported.")],
    name: Annotated[str | None, typer.Option("--as", help="The twin's name here.")] = None,
    enrolment: Enrolment = None,
) -> None:
    """Make a twin of a bundle that somebody gave; it can be asked, not taught."""
    from llmtwin.twin import Twin

    with err.status("importing"), Twin.from_bundle(bundle, name, enrolment=enrolment) as twin:
        show_card(twin.card())
        out.print(f"{twin.name} is there; next: llmtwin ask {twin.name} …")


def forget(
    name: Name,
    source: Annotated[
        str | None,
        typer.Option(help="Only this: a source such as mail, a file, folder, chat, repository or address."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget a source or everything of a twin, at the server and here."""
    with twin_of(name) as twin:
        if not yes:
            typer.confirm(f"Forget {source or 'everything'} of {name}, at the server and here?", abort=True)
        gone = twin.forget() if source is None else twin.forget_source(source)
    for address in gone.documents:
        out.print(f"forgotten: {address}")
    withdrawn = ", ".join(f"{name}@{version}" for version in gone.versions) or "no version"
    facts = f"{gone.facts} facts, " if gone.facts else ""
    counts = f"{facts}{len(gone.documents)} documents, {gone.prompts} prompts, {gone.corrections} corrections"
    out.print(f"{counts}; withdrawn: {withdrawn}")
    out.print("with them: the words and vectors of the prompts, and every adapter and begun tuning here")
    if gone.pushed is None:
        out.print(f"{name} is forgotten, with its keys, tokens, settings, and what a proxy recorded")
    else:
        show_pushed(gone.pushed)


def enrol(name: Name, kind: Kind = "home", cohort: Cohort = None) -> None:
    """On the server's machine: make room for a twin; prints the one-time token that its edge enrols with."""
    from llmtwin import serving
    from llmtwin.twin import check_name

    typer.echo(serving.invite(read_settings(), check_name(name), kind, cohort))


def token(name: Name) -> None:
    """Print a new token with which others, or other programs, may ask the twin, and no more than that."""
    with twin_of(name) as twin:
        typer.echo(twin.reader_token())


def rollback(
    name: Name,
    version: Annotated[int | None, typer.Option(min=1, help="A version; else the one before.")] = None,
) -> None:
    """Make an earlier version live."""
    with twin_of(name) as twin:
        live = twin.roll_back(version)
    out.print(f"{name}@{live} is live")


def reseal(name: Name) -> None:
    """Take a new seal key and learn all sealed facts again under it."""
    with twin_of(name) as twin, tuning_bar(f"resealing {name}") as report:
        tuned = twin.rotate_seal_key(report)
    out.print("the seal key is new")
    if tuned is not None:
        show_card(tuned.card)
        show_pushed(tuned.pushed)
