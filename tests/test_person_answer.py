"""Answers: quotations that are in their passages, honest ignorance, tasks, marks, and how much is copied."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.memory import Memory
from llmtwin.models.engine.api import Completion, Request
from llmtwin.models.engine.echo import EchoEngine
from llmtwin.records import Material, Outcome, Question
from llmtwin.show import show_answer
from llmtwin.twins.person import wording
from llmtwin.twins.person.answer import UNKNOWN, answer
from llmtwin.twins.person.copying import copied
from llmtwin.twins.person.support import MARK, unsupported
from llmtwin.twins.person.wording import Task, task_of
from llmtwin.twins.person.writing import ABOUT_CHARS_MAX, COPIED_SHARE_MAX, TRIES_MAX, Use, without_copies
from tests.person_memory import ITEMS, ask, remember, view
from tests.person_models import embedder, needs_embeddings

PAPER = Material(
    text="The Zeppelin study measured 212 bakeries. It found that rye loaves keep a week longer in linen.",
    address="https://example.org/zeppelin",
    title="Rye in linen",
)


class Scripted(EchoEngine):
    """An engine that says what it is told, one text a request, and remembers what it was asked."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.requests: list[Request] = []

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.requests += requests
        said = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        return [Completion(said, 0.5, (), (), 1, 1, "stop") for _ in requests]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory(tmp_path / "memory.sqlite") as memory:
        remember(memory)
        yield memory


def beside(question: Question, material: Material = PAPER) -> Question:
    """The question with something that is given beside it."""
    return question.model_copy(update={"material": material})


def quoted(text: str) -> list[tuple[str, str]]:
    """The sentences of an answer with their marks."""
    return re.findall(r"^(.*) \[(\d+|m)\]$", text.partition("\n\n")[0], re.M)


# --- questions -------------------------------------------------------------------------------------------


def test_what_was_missing_is_told_beside_the_answer(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    for question in ("How many seconds does the suite take?", "Write a note about tests"):
        show_answer(answer(ask(question), view(memory), None))
        shown = capsys.readouterr()
        assert "by words alone" in shown.err and "`make person`" in shown.err
        assert "by words alone" not in shown.out


def test_a_question_is_answered_in_the_persons_own_sentences_with_where_from(memory: Memory) -> None:
    made = answer(ask("How many seconds does the suite take?"), view(memory), None)
    assert made.outcome is Outcome.ANSWERED
    sentences = quoted(made.text)
    assert 1 <= len(sentences) <= 4
    assert sentences[0] == ("The suite now takes forty seconds instead of nine minutes.", "1")
    assert all(any(sentence in item.text for item in ITEMS) for sentence, _ in sentences)
    assert "[1] 2019-05-01, Tests on SQLite, /Tests on SQLite" in made.text.splitlines()
    assert [use.text for use in made.receipts.prompts] == [ITEMS[0].text]


@pytest.mark.parametrize(
    "question",
    ["What do you think of the stock market?", "How do I tune a harpsichord?", "???", "What about it?"],
)
def test_what_was_never_written_about_is_said_to_be_unknown(memory: Memory, question: str) -> None:
    made = answer(ask(question), view(memory), None)
    assert (made.text, made.outcome, made.receipts.prompts) == (UNKNOWN, Outcome.UNKNOWN, ())


def test_an_empty_memory_knows_nothing(tmp_path: Path) -> None:
    with Memory(tmp_path / "memory.sqlite") as memory:
        assert answer(ask("What about tests?"), view(memory), None).text == UNKNOWN


def test_a_filter_without_passages_is_named(memory: Memory) -> None:
    made = answer(ask("What did you write about tests in 1850?"), view(memory), None)
    assert made.text == f"{UNKNOWN} I have written nothing in 1850."
    assert made.outcome is Outcome.UNKNOWN


@needs_embeddings
def test_it_knows_and_abstains_with_embeddings_too(memory: Memory) -> None:
    known = answer(ask("How many seconds does the suite take now?"), view(memory), embedder())
    assert quoted(known.text)[0][0] == "The suite now takes forty seconds instead of nine minutes."
    for question in ("Which test suites does the moon have?", "How do I tune a harpsichord?"):
        assert answer(ask(question), view(memory), embedder()).outcome is Outcome.UNKNOWN


def test_material_is_quoted_as_such_and_is_no_receipt(memory: Memory) -> None:
    question = ask("How much longer do rye loaves keep in linen?")
    assert answer(question, view(memory), None).outcome is Outcome.UNKNOWN
    made = answer(beside(question), view(memory), None)
    assert quoted(made.text)[0] == ("It found that rye loaves keep a week longer in linen.", "m")
    assert "[m] undated, Rye in linen, https://example.org/zeppelin" in made.text
    assert made.receipts.prompts == ()
    assert memory.count("me") == len(ITEMS)


def test_material_is_quoted_beside_the_persons_own_passages(memory: Memory) -> None:
    paper = Material(text="All suites of tests take forty seconds, they say.", address="paper.pdf")
    made = answer(beside(ask("How many seconds do tests take?"), paper), view(memory), None)
    assert {"1", "m"} <= {mark for _, mark in quoted(made.text)}
    assert "paper.pdf" in made.text and "Tests on SQLite" in made.text
    assert ITEMS[0].text in [use.text for use in made.receipts.prompts]


def test_of_a_long_text_the_sentence_that_fits_is_found(memory: Memory) -> None:
    filler = "\n\n".join(f"Paragraph {number} speaks of nothing but the weather." for number in range(900))
    paper = Material(text=f"{filler}\n\nRye loaves keep longer in linen.\n\n{filler}", address="paper.pdf")
    made = answer(beside(ask("How do rye loaves keep longer?"), paper), view(memory), None)
    assert quoted(made.text) == [("Rye loaves keep longer in linen.", "m")]


def test_of_a_long_message_the_end_is_replied_to(memory: Memory) -> None:
    letter = Material(
        text="Dear Ann, " + "how are you? " * 1000 + "Shall we bake on Sunday?", address="mail.txt"
    )
    engine = Scripted("Yes.")
    answer(beside(ask("Reply to this mail."), letter), view(memory, engine), None, Use(memory=False))
    assert "Shall we bake on Sunday?" in engine.requests[0].prompt
    assert len(engine.requests[0].prompt) < 2 * ABOUT_CHARS_MAX


# --- tasks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("Write a post about moving our tests to SQLite", Task("task", "post", "moving our tests to SQLite")),
        ("Please write a blog post about this: Bread", Task("task", "blog post", "Bread")),
        ("Draft an email about the parser.", Task("task", "mail", "the parser.")),
        ("write about bread", Task("task", "", "bread")),
        ("Write a note.", Task("task", "note", "")),
        ("Reply to this mail:\n\nHi,\nhow are you?", Task("reply", "mail", "Hi,\nhow are you?")),
        ("Draft a reply to this: Hi!", Task("reply", "", "Hi!")),
        ("Answer this message: Hi!", Task("reply", "message", "Hi!")),
        ("Continue: Once upon", Task("continuation", "", "Once upon")),
        ("Continue this note:\n\nOnce upon", Task("continuation", "note", "Once upon")),
    ],
)
def test_a_task_is_told_from_a_question(text: str, task: Task) -> None:
    assert task_of(text) == task


@pytest.mark.parametrize(
    "text",
    ["What did you write about tests?", "Do you write posts?", "Writing tests: why?", "Answer the question"],
)
def test_a_question_is_no_task(text: str) -> None:
    assert task_of(text) is None


@given(st.sampled_from(sorted({*wording.GENRES.values()})), st.text(min_size=1, max_size=80))
def test_what_is_learned_is_a_task_when_it_is_asked(genre: str, subject: str) -> None:
    about = subject.strip()
    if not about or about[0] in ":.":
        return
    for kind, said in (
        ("task", wording.task(genre, about)),
        ("reply", wording.reply(genre, about)),
        ("continuation", wording.continuation(genre, about)),
    ):
        found = task_of(said)
        assert found is not None
        assert (found.kind, found.genre, found.about) == (kind, genre, about)
        assert found.prompt(genre) == said


def test_a_task_is_asked_as_it_was_learned_in_a_genre_of_the_person(memory: Memory) -> None:
    engine = Scripted("Bread is fine.")
    answer(
        ask("Write a post about baking bread"), view(memory, engine, ("me@1",)), None, use=Use(memory=False)
    )
    (request,) = engine.requests
    assert "Write a blog post about this: baking bread<" in request.prompt
    assert (request.adapters, request.temperature) == (("me@1",), 0.7)
    again = Scripted("Bread is fine.")
    answer(ask("Write a post about baking bread"), view(memory, again), None)
    assert again.requests[0].seed == request.seed


@pytest.mark.parametrize(
    ("with_memory", "with_adapter"), [(False, False), (True, False), (False, True), (True, True)]
)
def test_each_ablation_uses_what_it_says(memory: Memory, with_memory: bool, with_adapter: bool) -> None:
    engine = Scripted("Fine.")
    task = ask("Write a blog post about sourdough and patience")
    answer(task, view(memory, engine, ("me@1",)), None, use=Use(with_memory, with_adapter))
    assert ("- Sourdough needs patience more than skill." in engine.requests[0].prompt) is with_memory
    assert engine.requests[0].adapters == (("me@1",) if with_adapter else ())


def test_a_text_cites_what_bears_it_out_and_marks_what_nothing_does(memory: Memory) -> None:
    engine = Scripted("With sourdough, patience beats skill. Marie baked 77 loaves. It rains.")
    made = answer(ask("Write a blog post about sourdough and patience"), view(memory, engine), None)
    first, second, third = made.text.partition("\n\n")[0].replace("] ", "]\n").split("\n")[:3]
    assert first == "With sourdough, patience beats skill. [1]"
    assert second == f"Marie baked 77 loaves. {MARK}"
    assert third == "It rains."
    assert [use.text for use in made.receipts.prompts] == [ITEMS[1].text]


def test_material_is_what_is_written_about(memory: Memory) -> None:
    engine = Scripted("Rye loaves keep longer in linen, says the Zeppelin study of 212 bakeries.")
    made = answer(beside(ask("Write a note about this")), view(memory, engine), None)
    assert "Write a note about this: Rye in linen" in engine.requests[0].prompt
    assert "212 bakeries" in engine.requests[0].prompt
    assert "[m]" in made.text and MARK not in made.text


@pytest.mark.parametrize(
    ("sentence", "claims"),
    [
        ("It took 40 seconds in 2019.", ["40"]),
        ("See https://x.org/a, he said.", ["https://x.org/a"]),
        ("Then Ada Lovelace came to Paris.", ["Ada", "Lovelace", "Paris"]),
        ("Ada Lovelace came.", ["Ada", "Lovelace"]),
        ("NASA came, and I'm glad.", ["NASA"]),
        ("Bread is good with SQLite.", []),
    ],
)
def test_claims_that_nothing_known_has_are_found(sentence: str, claims: list[str]) -> None:
    assert unsupported(sentence, ["We use SQLite since 2019."]) == claims


# --- copying ---------------------------------------------------------------------------------------------


def test_copies_are_measured() -> None:
    found = copied("He said: the cat, SAT on the mat yesterday.", ["x the cat sat on the mat and", "he said"])
    assert (found.longest, found.longest_words) == ("the cat sat on the mat", 6)
    assert found.share == pytest.approx(6 / 9)
    assert copied("the cat sat on", ["the cat sat on"]).share == 0  # common speech
    assert copied("", ["x"]).share == 0


word = st.sampled_from(("a", "b", "c"))
texts = st.lists(word, max_size=25)


@given(texts, st.lists(texts, max_size=3))
def test_the_share_is_that_of_words_in_runs_of_five(said: list[str], passages: list[list[str]]) -> None:
    found = copied(" ".join(said), [" ".join(passage) for passage in passages])
    runs = {
        tuple(one[at : at + size])
        for one in passages
        for size in range(5, 26)
        for at in range(len(one) - size + 1)
    }
    inside = {
        spot
        for size in range(5, 26)
        for at in range(len(said) - size + 1)
        if tuple(said[at : at + size]) in runs
        for spot in range(at, at + size)
    }
    longest = [
        size
        for size in range(5, 26)
        for at in range(len(said) - size + 1)
        if tuple(said[at : at + size]) in runs
    ]
    assert found.share == pytest.approx(len(inside) / len(said) if said else 0)
    assert found.longest_words == max(longest, default=0)


def test_a_copying_engine_is_asked_again_and_then_the_copies_are_dropped(memory: Memory) -> None:
    copy = "I feed the starter every morning before breakfast. Bread is my own thing, and I like it."
    task = ask("Write a blog post about sourdough and patience")
    better = Scripted(copy, "All my own words about bread.")
    made = answer(task, view(memory, better), None)
    assert made.plan["tries"] == 2
    assert made.text.startswith("All my own words")
    assert len({request.seed for request in better.requests}) == 2
    stubborn = Scripted(copy)
    made = answer(task, view(memory, stubborn), None)
    assert len(stubborn.requests) == made.plan["tries"] == TRIES_MAX
    assert made.text.startswith("Bread is my own thing")
    assert made.plan["copied_share"] <= COPIED_SHARE_MAX
    nothing = answer(task, view(memory, Scripted(copy.partition(" Bread")[0])), None)
    assert nothing.outcome is Outcome.UNKNOWN


def test_what_is_copied_of_any_passage_counts_whatever_was_asked(memory: Memory) -> None:
    copy = "The suite now takes forty seconds instead of nine minutes."
    stubborn = Scripted(f"{copy} Bread is my own thing, and I like it.")
    made = answer(ask("Write a blog post about sourdough and patience"), view(memory, stubborn), None)
    assert len(stubborn.requests) == TRIES_MAX
    assert made.text.startswith("Bread is my own thing") and copy not in made.text


@given(st.lists(texts, min_size=1, max_size=5), texts)
def test_never_more_than_the_limit_is_copied(said: list[list[str]], passage: list[str]) -> None:
    text = " ".join(f"{' '.join(sentence).capitalize()}." for sentence in said if sentence)
    kept = without_copies(text, [" ".join(passage)])
    assert copied(kept, [" ".join(passage)]).share <= COPIED_SHARE_MAX
