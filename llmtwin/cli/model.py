"""What only a model's twin does, on the command line."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import Progress

from llmtwin.cli.arguments import Name, parted
from llmtwin.errors import InputError
from llmtwin.show import (
    err,
    out,
    show_equality,
    show_foretold,
    show_requests,
    show_ruling,
    show_sampled,
    show_talked,
    show_tried,
)


def proxy(
    name: Name,
    primary: Annotated[
        str | None, typer.Option(help="Where the model answers, up to /v1, if not as before; it is kept.")
    ] = None,
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
    from llmtwin.primary.place import set_primary
    from llmtwin.primary.shadowing import proxy_options
    from llmtwin.proxy.app import serve
    from llmtwin.twins.private.names import untold

    if primary is not None:
        set_primary(name, primary)
    options = proxy_options(name, host, port, mirror, twin)
    recorded = f"{mirror:.0%} of sessions recorded, with stand-ins" if mirror else "nothing is recorded"
    asked = f", and asked of {name} at {twin}" if twin else ""
    out.print(f"http://{host}:{port}/v1 for {options.primary}; {recorded}{asked}")
    out.print(f"http://{host}:{port}/live shows how it goes")
    if mirror and (missed := untold()):
        err.print(f"names within sentences are NOT hidden: {missed}", style="yellow")
    serve(options)


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


def sample(
    name: Name,
    share: Annotated[
        float, typer.Option(help="The share of the twin's own answers in what is learned, half at most.")
    ] = 0.25,
) -> None:
    """Have the primary say how likely it finds the twin's own answers, for the next tuning to learn from."""
    from llmtwin.primary import sampling

    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("asking", total=None)

        def tell(count: int) -> None:
            show_requests(count)
            bar.update(task, total=count)

        def advance(done: int) -> None:
            bar.update(task, completed=done)

        show_sampled(name, sampling.sample(name, share, tell=tell, advance=advance))


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

    name, number = parted(version)
    if number is None:
        raise InputError(f"{version!r} names no version: write desk@4")
    if sum(one is not None for one in (against, share, promote or None)) > 1:
        raise InputError(
            "give one of --against, --canary and --promote: the last two are against what is live"
        )
    with err.status("comparing"):
        if share is not None:
            ruling = canary.begin(name, number, share)
        elif promote:
            ruling = canary.promote(name, number)
        else:
            ruling = canary.rule(name, number, against)
    show_ruling(ruling)
