"""Demos and studies on the command line. They are run elsewhere."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llmtwin.errors import InputError
from llmtwin.settings import read_settings


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
    PRIVACY = "privacy"
    FEDERATED = "federated"
    PEER = "peer"


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
    elif name is Study.PRIVACY:
        from llmtwin.study import privacy_study

        privacy_study.run(options)
    elif name is Study.FEDERATED:
        from llmtwin.study import federated_study

        federated_study.run(options)
    elif name is Study.PEER:
        from llmtwin.study import peer

        peer.run(options)
    else:
        from llmtwin.study import search

        search.run(options)
