"""Instruction back-translation: a capable base words prompts, and the person's text stays as it is."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from llmtwin.edge.instructions import CHARACTERS_MAX, INSTRUCTED_MAX, SHARE, instructed
from llmtwin.models.base import Base, find_base
from llmtwin.records import Example
from llmtwin.settings import Settings, read_settings
from llmtwin.twin import Twin
from llmtwin.twins.kind import Lessons
from tests.models import WORDS, tiny_base

CAPABLE = "llmtwin.edge.instructions.CAPABLE_PARAMETERS_MIN"
TEXTS = (
    "We moved the whole test suite from PostgreSQL to SQLite last week. It runs in forty seconds now.",
    "The garlic went in late this year. I covered the beds with oak leaves and left the kale for the birds.",
    "My bicycle has a new chain. The old had stretched so far that it climbed the teeth of the sprockets.",
    "I never write a function before I have called it. The call tells me what it should be named.",
)


Answers = Callable[[Base, list[str], int], list[str]]


def lessons(count: int) -> Lessons:
    """So many tasks among a reply and plain texts."""
    tasks = tuple(Example(prompt=f"Write text {n}.", completion=TEXTS[n % len(TEXTS)]) for n in range(count))
    reply = Example(prompt="Reply to this mail:\n\nIs it fast?", completion="In forty seconds.")
    plain = tuple(Example(prompt="", completion=text) for text in TEXTS)
    return Lessons(examples=(reply, *tasks, *plain), tasks=tasks)


@pytest.fixture
def capable(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answers], None]:
    """Has any base taken for a capable one, that answers as it is told."""
    monkeypatch.setattr(CAPABLE, 1)
    return lambda answers: monkeypatch.setattr("llmtwin.edge.instructions.answers", answers)


def test_some_tasks_are_asked_for_as_the_base_says_and_nothing_else_is_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(CAPABLE, 1)
    base = find_base(None, read_settings().cache or tmp_path)
    before = lessons(40)
    after = instructed(base, before, 0, tmp_path / "kept")
    pairs = list(zip(before.examples, after.examples, strict=True))
    changed = [(old, new) for old, new in pairs if new != old]
    assert 0 < len(changed) <= SHARE * 40
    assert after.notes[0].startswith(f"{len(changed)} texts are asked for")
    assert all(new.completion == old.completion and old in before.tasks for old, new in changed)
    assert all(0 < len(new.prompt) <= CHARACTERS_MAX for _, new in changed)
    monkeypatch.setattr("llmtwin.edge.instructions.answers", None)
    assert instructed(base, before, 0, tmp_path / "kept") == after  # nothing is asked twice


def test_no_more_are_asked_than_so_many_and_what_is_no_instruction_is_not_taken(
    capable: Callable[[Answers], None], tmp_path: Path
) -> None:
    asked: list[str] = []

    def answers(base: Base, prompts: list[str], seed: int) -> list[str]:
        asked.extend(prompts)
        repeated = [next(text for text in TEXTS if text in prompt) for prompt in prompts]
        odd = ["", "x" * (CHARACTERS_MAX + 1), *repeated[2:4]]
        return [odd[n] if n < len(odd) else "Say it." for n in range(len(prompts))]

    capable(answers)
    after = instructed(tiny_base(tmp_path, "llama"), lessons(1000), 0, tmp_path / "kept")
    assert len(asked) == INSTRUCTED_MAX
    assert sum(one.prompt == "Say it." for one in after.examples) == INSTRUCTED_MAX - 4


def test_without_a_task_no_base_is_asked(capable: Callable[[Answers], None], tmp_path: Path) -> None:
    def answers(base: Base, prompts: list[str], seed: int) -> list[str]:
        raise AssertionError

    capable(answers)
    assert instructed(tiny_base(tmp_path, "llama"), lessons(0), 0, tmp_path / "kept") == lessons(0)


def test_the_bundled_base_is_too_small_to_be_asked(tmp_path: Path) -> None:
    base = find_base(None, read_settings().cache or tmp_path)
    assert instructed(base, lessons(16), 0, tmp_path / "kept") == lessons(16)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_base_knows_how_many_weights_it_has(family: str, tmp_path: Path) -> None:
    base = tiny_base(tmp_path, family)
    weights = {name: tensor for name, tensor in base.tensors().items() if not name.endswith("bias")}
    assert base.config.parameters == sum(tensor.numel() for tensor in weights.values())


@pytest.mark.usefixtures("settings")
def test_a_voice_says_on_its_card_how_many_texts_are_asked_for_so(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    base = tiny_base(tmp_path, "llama")
    monkeypatch.setattr("llmtwin.serving.base", lambda settings: base)
    monkeypatch.setattr("llmtwin.edge.preferences.ANSWERS_MAX", 2)
    monkeypatch.setattr(CAPABLE, 1)
    notes = tmp_path / "notes"
    notes.mkdir()
    for number in range(20):
        words = random.Random(number).choices(WORDS.split(), k=100)
        (notes / f"{number}.md").write_text(f"# Note {number}\n\n{' '.join(words)}.\n")
    with Twin.new("me", "person") as twin:
        twin.collect(notes)
        notes_of = twin.tune().card.notes
        left = twin._store.folder / "instructions.json"
    assert not left.exists()
    assert any("texts are asked for by instructions that the base wrote" in note for note in notes_of)
