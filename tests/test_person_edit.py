"""A correction on its whole way: from an answer to the next version, and out again when it is forgotten."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmtwin import serving
from llmtwin.errors import Conflict, InputError, TooLarge
from llmtwin.models.engine.api import turn
from llmtwin.records import Answer, Outcome
from llmtwin.settings import Settings, read_settings
from llmtwin.twin import Twin
from llmtwin.twins.kind import ALL, kind
from tests.models import tiny_base
from tests.test_cli import Run, assert_one_line, run, said
from tests.test_person_twin import WORDS

__all__ = ["run"]

TASK = "Write a note about the river"
BETTER = "The river is low. Call +44 20 7946 0958 and bring the lamp."


@pytest.fixture
def twin(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Twin]:
    """A twin over a tiny base, of a writer of three notes."""
    monkeypatch.setenv("LLMTWIN_BASE", str(tiny_base(tmp_path, "llama").folder))
    monkeypatch.setenv("LLMTWIN_ENGINE", "torch")
    monkeypatch.setattr("llmtwin.edge.preferences.ANSWERS_MAX", 4)  # most of the time would go into them
    rng = random.Random(0)
    notes = tmp_path / "notes"
    notes.mkdir()
    for number in range(3):
        written = [" ".join(rng.choices(WORDS, k=9)).capitalize() + "." for _ in range(40)]
        (notes / f"{number}.md").write_text(f"# About {WORDS[number]}\n\n" + "\n\n".join(written))
    with Twin.new("me", "person") as made:
        made.collect(notes)
        yield made


def margin(twin: Twin, answer: Answer, version: int) -> float:
    """How much likelier the correction is than what was said, in nats; with stand-ins, as it is learned."""
    key = twin._sealer().stand_in_key()
    (learned,) = kind("person").lessons(twin._store.known(), ALL, len, key).preferences
    engine = serving.server_options(read_settings()).engine
    prompt, own = engine.chat(turn(learned.prompt)), (f"me@{version}",)
    chosen, rejected = engine.score([(prompt, learned.chosen, own), (prompt, learned.rejected, own)])
    assert learned.rejected == answer.plan["said"]
    return chosen - rejected


def test_after_an_edit_and_a_tuning_the_correction_is_likelier_than_what_was_said(twin: Twin) -> None:
    twin.tune()
    answer = twin.ask(TASK)
    assert answer.outcome is Outcome.ANSWERED and answer.receipts.adapter is not None
    twin.edit(TASK, answer, BETTER)
    figures = twin.tune().card.figures
    before, after = margin(twin, answer, 1), margin(twin, answer, 2)
    assert after > before + 0.1
    asked = [twin.ask(TASK, version=version).receipts.adapter for version in (None, 1, 2)]
    assert [used and used.version for used in asked] == [2, 1, 2]
    assert figures["preferences"] > twin.card(1).figures.get("preferences", 0)


def test_a_correction_stays_here_is_learned_with_stand_ins_and_is_forgotten_with_what_it_rests_on(
    twin: Twin, settings: Settings, tmp_path: Path
) -> None:
    twin.edit(TASK, answered(twin, tmp_path / "notes" / "0.md"), BETTER)
    (kept,) = twin._store.corrections()
    (learned,) = kind("person").lessons(twin._store.known(), ALL, len, bytes(32)).preferences
    assert kept.chosen == BETTER and "7946" not in learned.chosen and "bring the lamp" in learned.chosen
    for file in settings.server_folder.rglob("*"):
        assert not file.is_file() or b"bring the lamp" not in file.read_bytes(), file
    assert twin.forget_source(str(tmp_path / "notes" / "1.md")).corrections == 0
    assert twin.forget_source(str(tmp_path / "notes" / "0.md")).corrections == 1
    assert not twin._store.corrections()
    for file in settings.edge_folder.rglob("*"):
        assert not file.is_file() or b"bring the lamp" not in file.read_bytes(), file


def test_a_correction_is_forgotten_with_what_it_rests_on_however_that_was_changed(
    twin: Twin, tmp_path: Path
) -> None:
    river, other = (tmp_path / "notes" / name for name in ("0.md", "1.md"))
    before = answered(twin, river)
    twin.edit(TASK, before, BETTER)
    river.write_text(river.read_text().replace("About", "On"))
    twin.collect(river)
    assert twin._store.corrections()[0].paths == tuple(answered(twin, river).plan["rests_on"])
    with pytest.raises(Conflict, match="ask again"):
        twin.edit(TASK, before, "The river is high.")
    assert twin.forget_source(str(other)).corrections == 0
    assert twin.forget_source(str(river)).corrections == 1
    assert not twin._store.corrections()


def test_a_later_correction_takes_the_place_of_an_earlier_one(twin: Twin, tmp_path: Path) -> None:
    answer = answered(twin, tmp_path / "notes" / "0.md")
    for text in ("The river is high.", BETTER):
        twin.edit(TASK, answer, text)
    assert [one.chosen for one in twin._store.corrections()] == [BETTER]


@pytest.mark.parametrize("correction", ["", " said "])
def test_a_correction_says_something_else(twin: Twin, correction: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="something else"):
        twin.edit(TASK, answered(twin, tmp_path / "notes" / "0.md"), correction)


def test_what_no_tuning_changes_is_not_corrected(twin: Twin, tmp_path: Path, settings: Settings) -> None:
    quoted = twin.ask("What about the harpsichord?")
    with pytest.raises(InputError, match="only what the twin wrote"):
        twin.edit("What about the harpsichord?", quoted, "I have one.")
    with pytest.raises(TooLarge, match="4000"):
        twin.edit(TASK, answered(twin, tmp_path / "notes" / "0.md"), "x" * 4001)
    with Twin.new("home1") as home, pytest.raises(InputError, match="collect again"):
        home.edit("Is the lamp on?", Answer(text="No.", outcome=Outcome.ANSWERED), "Yes.")
    assert not twin._store.corrections()


def test_an_answer_is_corrected_on_the_command_line(run: Run, tmp_path: Path) -> None:
    said(run("new", "me", "--kind", "person"))
    noted = said(run("edit", "me", "Write a note about tea", "I take it with milk."))
    assert noted == "noted in place of: Write a note about this: tea\n"
    assert_one_line(run("edit", "me", "What is tea?", "A leaf."), "only what the twin wrote")


def test_an_answer_made_with_a_document_is_corrected_with_it(run: Run, tmp_path: Path) -> None:
    said(run("new", "me", "--kind", "person"))
    (tmp_path / "rye.md").write_text("# Bread of rye\n\nRye needs no kneading.\n")
    noted = said(run("edit", "me", "Write a note about this", "Rye is easy.", "--with", "rye.md"))
    assert noted.startswith("noted in place of: Write a note about this: Bread of rye\n")
    assert_one_line(run("edit", "me", "Write a note", "x", "--with", "none.md"), "there is no none.md")


def answered(twin: Twin, document: Path) -> Answer:
    """What a twin wrote, resting on this document; as the server answers."""
    (path,) = (one.path for one in twin._store.documents() if one.address == str(document))
    return Answer(
        text="said [1]",
        outcome=Outcome.ANSWERED,
        plan={"prompt": "Write a note about this: the river", "said": "said", "rests_on": [path]},
    )
