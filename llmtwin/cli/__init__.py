"""The command line: every command parses, calls one function and prints. It decides nothing."""

from __future__ import annotations

import sys

import typer

from llmtwin.cli import keeping, making, model, studies, watching
from llmtwin.errors import LlmtwinError

app = typer.Typer(
    name="llmtwin",
    help="Twins as small adapters over one shared language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# In the order in which a person meets them.
for command in (
    *(studies.demo, studies.study),
    *(making.new, making.collect, making.tune, making.push, making.serve, making.ask, making.edit),
    *(model.proxy, model.sample, model.try_, model.gate),
    watching.watch,
    *(keeping.card, keeping.audit, keeping.export, keeping.import_, keeping.forget, keeping.enrol),
    *(keeping.token, keeping.rollback, keeping.reseal),
):
    app.command(name=command.__name__.rstrip("_"))(command)


def main() -> None:
    """Run a command; what goes wrong on purpose is one line on stderr and exit code 1."""
    try:
        app()
    except LlmtwinError as error:
        typer.echo(f"llmtwin: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
