"""The command line: every command parses, calls one function and prints. It decides nothing."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Group
from rich.progress import Progress

from llmtwin.errors import Conflict, InputError, LlmtwinError
from llmtwin.records import Format
from llmtwin.settings import read_settings
from llmtwin.show import (
    counted,
    err,
    in_place,
    learning,
    nearness,
    out,
    show_answer,
    show_audit,
    show_card,
    show_equality,
    show_foretold,
    show_pushed,
    show_requests,
    show_ruling,
    show_talked,
    show_tried,
    show_watched,
    tuning_bar,
    watched,
)

if TYPE_CHECKING:
    from llmtwin.edge.results import Watched
    from llmtwin.twin import Report, Twin


class Demo(StrEnum):
    """The kinds of twins that there is a demo of."""

    HOME = "home"
    PERSON = "person"
    MODEL = "model"


class Study(StrEnum):
    """The studies that can be run by name."""

    PERSON = "person"
    EFFICIENCY = "efficiency"
    SEARCH = "search"
    TABLE2 = "table2"


app = typer.Typer(
    name="llmtwin",
    help="Twins as small adapters over one shared language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

NEXT = {"home": " states.json", "person": " ~/notes", "model": " traffic.jsonl"}
"""What a twin of each kind collects first."""

Name = Annotated[str, typer.Argument(help="The twin's name.")]
Kind = Annotated[str, typer.Option(help="What it is a twin of.")]
Cohort = Annotated[str | None, typer.Option(help="Twins of one cohort may be compared.")]
Enrolment = Annotated[str | None, typer.Option(help="The one-time token of a server's operator.")]
Version = Annotated[int | None, typer.Option(min=1, help="A version; the live one where none is given.")]


@app.command()
def demo(
    kind: Annotated[Demo, typer.Option(help="Which twins: homes, persons, or a model.")] = Demo.HOME,
    homes: Annotated[int, typer.Option(min=1, help="How many homes.")] = 4,
    out: Annotated[
        Path | None,
        typer.Option(help="Where report and result go; else out/demo, with -person or -model."),
    ] = None,
    phrasings: Annotated[Path | None, typer.Option(help="Other phrasings to test homes with.")] = None,
) -> None:
    """Run a case for real: homes learn and are asked; persons become twins, and write; a desk is shadowed."""
    settings = read_settings()
    if kind is Demo.PERSON:
        from llmtwin.study import person_demo

        person_demo.run(person_demo.PersonDemoOptions(settings, out or Path("out/demo-person")))
        return
    if kind is Demo.MODEL:
        from llmtwin.study import model_demo

        model_demo.run(model_demo.ModelDemoOptions(settings, out or Path("out/demo-model")))
        return
    from llmtwin.study import demo as study
    from llmtwin.study.processes import DemoOptions

    folder = out or Path("out/demo")
    options = DemoOptions(settings.home, settings.cache_folder, settings.base, folder, homes)
    study.run(replace(options, phrasings=phrasings) if phrasings else options)


@app.command()
def study(
    name: Annotated[Study, typer.Argument(help="Which study.")],
    mini: Annotated[bool, typer.Option("--mini", help="One author, one epoch: under a minute.")] = False,
) -> None:
    """Measure for the record; a study that was killed goes on where it was."""
    settings = read_settings()
    if name is Study.PERSON:
        from llmtwin.study import person

        person.run(person.StudyOptions(cache=settings.cache_folder, base=settings.base, mini=mini))
        return
    if mini:
        raise InputError("only the study of persons has a miniature: leave out `--mini`")
    from llmtwin.study.paper import PaperOptions

    options = PaperOptions(cache=settings.cache_folder, base=settings.base)
    if name is Study.EFFICIENCY:
        from llmtwin.study import efficiency_study

        efficiency_study.run(options)
    elif name is Study.TABLE2:
        from llmtwin.study import table2_study

        table2_study.run(options)
    else:
        from llmtwin.study import search

        search.run(options)


@app.command()
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

    if primary is not None and kind != "model":
        raise InputError("only a twin of a model has a primary: add `--kind model`")
    with Twin.new(name, kind, cohort=cohort, enrolment=enrolment):
        if primary is not None:
            set_primary(name, primary)
        then = "proxy" if primary else "collect"
        out.print(f"{name} is there; next: llmtwin {then} {name}{'' if primary else NEXT.get(kind, '')}")


@app.command()
def collect(
    name: Name,
    sources: Annotated[list[str], typer.Argument(help="A home's state dumps; what a person wrote.")],
    seal: Annotated[
        list[str] | None, typer.Option(help="Settings of these entities (glob) are secret.")
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option("--as", help="A name or mail address that you write under.")
    ] = None,
) -> None:
    """Take in files, folders, archives or addresses: what is private stays here, the rest becomes prompts.

    A home's are state dumps (the JSON of /api/states), oldest first.
    """
    with _twin(name) as twin, err.status("collecting"):
        found = twin.collect(*sources, seal=seal or (), names=by or ())
    for skipped in found.skipped:
        err.print(f"skipped {skipped.name}: {skipped.reason}", style="yellow", markup=False)
    out.print(f"{found.items} items: {counted(found)}; {len(found.skipped)} skipped")
    show_pushed(found.pushed)


@app.command()
def tune(
    name: Name,
    audience: Annotated[str | None, typer.Option(help="Only what was written for it: blog, mail, …")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only what was written from this day on.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only what was written before this day.")] = None,
) -> None:
    """Learn what is private into an adapter, here at the edge."""
    from llmtwin.twins.kind import Voice

    voice = Voice(audience, *(day and day.replace(tzinfo=UTC) for day in (since, until)))
    with _twin(name) as twin, tuning_bar(f"tuning {name}") as report:
        tuned = twin.tune(report, voice)
    show_card(tuned.card)
    show_pushed(tuned.pushed)


@app.command()
def push(name: Name) -> None:
    """Send what waits in the outbox."""
    with _twin(name) as twin, Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("pushing", total=None)
        pushed = twin.push(lambda done, total: bar.update(task, completed=done, total=total))
    show_pushed(pushed)
    if pushed.error is not None:
        raise pushed.error


@app.command()
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
    out.print(f"http://{settings.host}:{settings.port}; the admin's token is in {token}", markup=False)
    serving.run(app, settings)


@app.command()
def ask(
    name: Name,
    question: Annotated[str, typer.Argument(help="A question, or an order.")],
    material: Annotated[
        str | None, typer.Option("--with", help="A file or address to write about or be asked about.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")] = False,
) -> None:
    """Ask a twin, or tell it what to do."""
    with _twin(name) as twin, err.status("asking"):
        answer = twin.ask(question, material=material)
    if json:
        typer.echo(answer.model_dump_json())
    else:
        show_answer(answer)


@app.command()
def edit(
    name: Name,
    question: Annotated[str, typer.Argument(help="What was asked.")],
    correction: Annotated[str, typer.Argument(help="What should have been answered.")],
) -> None:
    """Correct an answer: the next tuning prefers the correction."""
    with _twin(name) as twin, err.status("asking"):
        answer = twin.ask(question)
        twin.edit(question, answer, correction)
    out.print(f"noted in place of: {answer.text}", markup=False)


@app.command()
def proxy(
    name: Name,
    mirror: Annotated[
        float, typer.Option(min=0, max=1, help="The share of sessions that is recorded; none unless you say.")
    ] = 0.0,
    twin: Annotated[
        str | None,
        typer.Option(help="Where `llmtwin serve` serves the twin, to ask it, too, what is recorded."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8080,
) -> None:
    """Stand before a twin's primary: clients get what it says byte for byte, and a part is recorded.

    How near the twin is can be seen at /live.
    """
    from llmtwin.primary.shadowing import proxy_options
    from llmtwin.proxy.app import serve

    options = proxy_options(name, host, port, mirror, twin)
    recorded = f"{mirror:.0%} of sessions recorded, with stand-ins" if mirror else "nothing is recorded"
    asked = f", and asked of {name} at {twin}" if twin else ""
    out.print(f"http://{host}:{port}/v1 for {options.primary}; {recorded}{asked}", markup=False)
    out.print(f"http://{host}:{port}/live shows how it goes", markup=False)
    serve(options)


@app.command(name="try")
def try_(
    name: Name,
    change: Annotated[
        list[str] | None,
        typer.Option(help="prompt=FILE, temperature=0.2, model=desk@4, base=URL; may be repeated."),
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(
            help="schema.json, pattern.regex or own.py:function for replies to pass; may be repeated."
        ),
    ] = None,
    sample: Annotated[int, typer.Option(min=2, help="How many of the newest requests.")] = 64,
    users: Annotated[
        int | None, typer.Option(min=1, help="Let so many simulated users talk to both sides instead.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Other simulated users.")] = 0,
    repeats: Annotated[
        int | None, typer.Option(min=2, help="Ask so often of both sides: do they write the same?")
    ] = None,
    foretold: Annotated[bool, typer.Option("--foretold", help="What tries foretold, and what came.")] = (
        False
    ),
) -> None:
    """What if: ask recorded requests again under a change, and see what becomes of the answers."""
    from llmtwin.primary import equal, trying
    from llmtwin.primary import foretold as foretelling
    from llmtwin.primary import users as simulated

    changes, checks = change or [], check or []
    if foretold + bool(users) + bool(repeats) > 1 or (foretold and changes) or (repeats and checks):
        raise InputError("ask one thing: --users, --repeats without --check, or --foretold without --change")
    if foretold:
        show_foretold(foretelling.foretold(name, checks))
        return
    with err.status("asking"):
        if repeats:
            show_equality(equal.compare(name, changes, repeats, sample, tell=show_requests))
        elif users:
            show_talked(simulated.talk(name, changes, users, checks, seed, tell=show_requests))
        else:
            show_tried(trying.try_change(name, changes, checks, sample, tell=show_requests))


@app.command()
def gate(
    version: Annotated[str, typer.Argument(help="A version of a model's twin: desk@4.")],
    against: Annotated[
        int | None, typer.Option(min=1, help="The version it would replace; the base where none is given.")
    ] = None,
    share: Annotated[
        float | None, typer.Option("--canary", help="Then have it answer this share of the sessions.")
    ] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Then make it live, if it passes.")] = False,
) -> None:
    """Say whether a version may go live, by held-out traffic so far; ask as often as you like.

    A canary, and a version that was promoted, is taken back by itself once it fails, here or in `watch`.
    """
    from llmtwin.primary import canary

    name, _, number = version.partition("@")
    if not number.isdigit():
        raise InputError(f"{version!r} names no version: write desk@4")
    if sum(one is not None for one in (against, share, promote or None)) > 1:
        raise InputError(
            "give one of --against, --canary and --promote: the last two are against what is live"
        )
    with err.status("comparing"):
        if share is not None:
            ruling = canary.begin(name, int(number), share)
        elif promote:
            ruling = canary.promote(name, int(number))
        else:
            ruling = canary.rule(name, int(number), against)
    show_ruling(ruling)


@app.command()
def watch(
    name: Name,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 60,
) -> None:
    """Compare a twin with its subject, and learn again what differs."""
    from llmtwin.primary import place

    with _twin(name) as twin:
        if place.is_of_model(name) and out.is_terminal and not once:
            _watch_in_place(twin, every)
        _watch(twin)
        while not once:
            time.sleep(every)
            _watch(twin)


@app.command()
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
        out.print(f"written to {written}", markup=False)
        return
    with _twin(name) as twin:
        show_card(twin.card(version))


@app.command()
def audit(
    name: Name,
    canaries: Annotated[
        bool, typer.Option("--canaries", help="Also learn all anew with made-up secrets among it.")
    ] = False,
) -> None:
    """Attack a twin's adapter, here, and sign what that finds as a new version with the same weights."""
    with _twin(name) as twin, err.status("auditing") as status:
        found = twin.audit(canaries=canaries, report=lambda said: status.update(said))
    show_audit(found.found)
    out.print(f"{name}@{found.version} was audited; {name}@{found.signed} is the same with this on its card")
    show_pushed(found.pushed)


@app.command()
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
    expires: Annotated[datetime | None, typer.Option(help="The day on which the licence ends.")] = None,
) -> None:
    """Write a version as a plain PEFT adapter, a GGUF file, or a signed bundle."""
    ends = expires and expires.replace(tzinfo=UTC)
    with _twin(name) as twin, err.status("exporting"):
        written = twin.export(target, version, format, terms=licence, expires_at=ends)
    out.print(f"written to {written}", markup=False)


@app.command(name="import")
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


@app.command()
def forget(
    name: Name,
    source: Annotated[
        str | None, typer.Option(help="Only the documents of this source, place or address.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget a source or everything of a twin, at the server and here."""
    with _twin(name) as twin:
        if not yes:
            typer.confirm(f"Forget {source or 'everything'} of {name}, at the server and here?", abort=True)
        if source is None:
            twin.forget()
            out.print(f"{name} is forgotten")
            return
        gone = twin.forget_source(source)
    for address in gone.documents:
        out.print(f"forgotten: {address}", markup=False)
    withdrawn = ", ".join(f"{name}@{version}" for version in gone.versions) or "no version"
    counts = f"{len(gone.documents)} documents, {gone.prompts} prompts, {gone.corrections} corrections"
    out.print(f"{counts}; withdrawn: {withdrawn}")
    show_pushed(gone.pushed)


@app.command()
def enrol(name: Name, kind: Kind = "home", cohort: Cohort = None) -> None:
    """On the server's machine: make room for a twin; prints the one-time token that its edge enrols with."""
    from llmtwin import serving
    from llmtwin.twin import check_name

    typer.echo(serving.invite(read_settings(), check_name(name), kind, cohort))


@app.command()
def rollback(
    name: Name,
    version: Annotated[int | None, typer.Option(min=1, help="A version; else the one before.")] = None,
) -> None:
    """Make an earlier version live."""
    with _twin(name) as twin:
        live = twin.roll_back(version)
    out.print(f"{name}@{live} is live")


@app.command()
def reseal(name: Name) -> None:
    """Take a new seal key and learn all sealed facts again under it."""
    with _twin(name) as twin, tuning_bar(f"resealing {name}") as report:
        tuned = twin.rotate_seal_key(report)
    out.print("the seal key is new")
    if tuned is not None:
        show_card(tuned.card)
        show_pushed(tuned.pushed)


def main() -> None:
    """Run a command; what goes wrong on purpose is one line on stderr and exit code 1."""
    try:
        app()
    except LlmtwinError as error:
        typer.echo(f"llmtwin: {' '.join(str(error).split())}", err=True)
        sys.exit(1)


def _twin(name: str) -> Twin:
    from llmtwin.twin import Twin

    return Twin.open(name)


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
            _rule(twin)
            found = _look(twin, lambda progress: show(learning(progress)))
            if found is not None and found.relearned is not None:
                show_card(found.relearned.card)
                show_pushed(found.relearned.pushed)
            show(Group(watched(found) if found else "", _near(twin)))
            time.sleep(every)


def _look(twin: Twin, report: Report) -> Watched | None:
    """What a look found; None where the gate kept a new version back, which is said."""
    try:
        return twin.watch(report)
    except Conflict as error:
        err.print(f"kept back: {error}", style="yellow", markup=False)
        return None


def _rule(twin: Twin) -> None:
    from llmtwin.primary import canary

    if ruling := canary.look(twin.name):
        show_ruling(ruling)


def _near(twin: Twin) -> Group:
    from llmtwin.primary.nearness import measure
    from llmtwin.primary.recorded import recorded

    return nearness(measure(twin.name, twin.card().version), recorded(twin.name))
