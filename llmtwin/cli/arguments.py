"""Arguments that many commands have. It knows no command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmtwin.errors import InputError

if TYPE_CHECKING:
    from llmtwin.twin import Twin


Name = Annotated[str, typer.Argument(help="The twin's name.")]
VersionedName = Annotated[str, typer.Argument(help="The twin's name, or a version of it: me@2.")]
Kind = Annotated[str, typer.Option(help="What it is a twin of: home, person or model.")]
Cohort = Annotated[str | None, typer.Option(help="Twins of one cohort may be compared.")]
Enrolment = Annotated[str | None, typer.Option(help="The one-time token of a server's operator.")]
Version = Annotated[int | None, typer.Option(min=1, help="A version; the live one where none is given.")]


def twin_of(name: str) -> Twin:
    """The twin of that name on this machine."""
    from llmtwin.twin import Twin

    return Twin.open(name)


def parted(name: str) -> tuple[str, int | None]:
    """A twin's name and the version behind its @, where there is one. Raises InputError for no number."""
    twin, at, number = name.partition("@")
    if at and not number.isdecimal():
        raise InputError(f"{name!r} names no version: write {twin}@4")
    return twin, int(number) if at else None
