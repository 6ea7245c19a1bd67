"""Forgetting, attacked: secrets planted in a person twin, learned by heart, forgotten, and looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llmtwin.errors import NotFound
from llmtwin.models.base import Base
from llmtwin.settings import Settings
from llmtwin.study.authors import write_out
from llmtwin.study.person_forgetting import (
    ADDRESS,
    NAME,
    SOURCE,
    STRESS,
    Canary,
    canaries,
    forgetting,
    holding,
    write_mails,
)
from llmtwin.twin import Twin
from llmtwin.twins.person.sources.items import Item, Me
from llmtwin.twins.person.sources.read import read
from llmtwin.twins.private.spans import Marker
from tests.models import tiny_base

WORDS = ("bedroom", "lamp", "kitchen", "light", "front", "door", "code", "river", "stone", "bridge", "window")
TUNING = replace(STRESS, epochs_max=40, epochs_falling=40, learning_rate=5e-3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    torch.set_num_threads(1)
    return tiny_base(tmp_path_factory.mktemp("base"), "llama")


def ordinary() -> list[Item]:
    """Notes long enough for a voice, of a word each and all of it code: there is little in them to learn."""
    return [
        Item.of(
            source="notes",
            address=word,
            audience="notes",
            title=f"On a {word}",
            text="\n".join(["```", *[" ".join([word] * 11)] * 10, "```"]),
        )
        for word in WORDS
    ]


# ---- what is planted -----------------------------------------------------------------------------


def test_canaries_are_all_different_repeat_with_the_seed_and_are_never_marked_as_private() -> None:
    found = canaries(100, seed=1)
    assert found == canaries(100, seed=1) != canaries(100, seed=2)
    assert len({one.about for one in found}) == 100
    assert len({word for one in found for word in one.words}) == 200
    marker = Marker()
    assert not any(marker.mark(one.text) for one in found)


def test_every_canary_is_a_mail_of_the_persons_own(tmp_path: Path) -> None:
    planted = canaries(100, seed=1)
    write_mails(planted, tmp_path / "sent.mbox")
    mails = read([tmp_path / "sent.mbox"], Me(addresses=(ADDRESS,)))
    assert [mail.text for mail in mails.items] == [one.text for one in planted]
    assert {mail.source for mail in mails.items} == {SOURCE}


def test_documents_that_are_written_out_are_read_as_they_were(tmp_path: Path) -> None:
    every = [
        one.model_copy(update={"title": f"A: {one.title} #{place}"}) for place, one in enumerate(ordinary())
    ]
    write_out(every, tmp_path / "notes")
    found = read([tmp_path / "notes"], Me()).items
    assert [(one.title, one.text) for one in found] == [(one.title, one.text) for one in every]


# ---- the study in small --------------------------------------------------------------------------


@pytest.mark.slow
def test_what_was_produced_before_it_was_forgotten_is_not_produced_afterwards(base: Base) -> None:
    told: list[float] = []
    found = forgetting(
        ordinary(),
        str(base.folder),
        base.folder.parent,
        count=6,
        tuning=TUNING,
        report=lambda done, said: told.append(done),
    )
    assert found["canaries"] == found["canaries_documents_forgotten"] == 6
    assert found["canaries_before_by_memory"] == 6
    assert found["canaries_before_by_adapter"] >= 3
    assert found["canaries_before_files"] > 0
    after = {name: value for name, value in found.items() if name.startswith("canaries_after")}
    assert len(after) == 4 and not any(after.values()), after
    assert found["canaries_versions_withdrawn"] == 1
    assert min(told) < 1 and 3 < told[-1] == max(told) <= 4


# ---- whatever is forgotten -----------------------------------------------------------------------


@pytest.fixture
def planted() -> list[Canary]:
    return canaries(4, seed=3)


@pytest.fixture
def own(tmp_path: Path, base: Base) -> Settings:
    return Settings(
        home=tmp_path / "home",
        server=None,
        base=str(base.folder),
        cache=base.folder.parent,
        engine="torch",
    )


@pytest.fixture
def twin(tmp_path: Path, own: Settings, planted: list[Canary]) -> Iterator[Twin]:
    """A twin that was told secrets, beside notes, and has learned them."""
    write_mails(planted, tmp_path / "sent.mbox")
    write_out(ordinary(), tmp_path / "notes")
    with Twin.new(NAME, "person", settings=own) as made:
        made.collect(tmp_path / "sent.mbox", tmp_path / "notes", names=[ADDRESS])
        made.tune(options=replace(TUNING, epochs_max=1))
        yield made


Forget = Callable[[Twin], object]


@pytest.mark.parametrize(
    ("forget", "gone"),
    [
        (lambda twin: twin.forget_source("mid:2@example.org"), [2]),
        (lambda twin: twin.forget_source(SOURCE), [0, 1, 2, 3]),
        (lambda twin: twin.forget(), [0, 1, 2, 3]),
    ],
    ids=["a document", "a source", "everything"],
)
def test_nothing_of_what_is_forgotten_is_left_anywhere(
    twin: Twin, own: Settings, planted: list[Canary], forget: Forget, gone: list[int]
) -> None:
    kept = [one for place, one in enumerate(planted) if place not in gone]
    lost = [planted[place] for place in gone]
    assert all(holding(own.home, [one]) for one in planted)
    assert all(one.secret in twin.ask(one.question).text for one in planted)
    weights = list(own.home.rglob("*.safetensors"))
    assert len(weights) == 2  # at the edge, and at the server
    forget(twin)
    assert not holding(own.home, lost)
    assert all(holding(own.home, [one]) for one in kept)
    assert not list(own.home.rglob("*.safetensors"))
    if kept:
        with pytest.raises(NotFound):
            twin.card()
        assert all(one.secret in twin.ask(one.question).text for one in kept)
        assert not any(one.secret in twin.ask(one.question).model_dump_json() for one in lost)
