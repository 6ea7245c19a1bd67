"""Questions made from documents: the rule holds for each of them, and a seed repeats them."""

from __future__ import annotations

import dataclasses

import pytest

from llmtwin.study.person_questions import Asked, keeps_the_rule, questions
from llmtwin.twins.person.chunks import Passage
from llmtwin.twins.person.language import stems, words
from tests.person_memory import ITEMS, cut
from tests.person_texts import needs_person_data, notes, peps


@pytest.fixture(scope="module")
def passages() -> list[Passage]:
    return cut([*peps(12), *notes(12)])


@needs_person_data
def test_each_question_keeps_the_rule_and_half_share_no_word_with_their_title(
    passages: list[Passage],
) -> None:
    made = questions(passages, 60, seed=1)
    assert len(made) == 60
    assert len({asked.passage.id for asked in made}) == 60
    for asked in made:
        said, there = words(asked.text), f" {' '.join(words(asked.passage.text))} "
        runs = [f" {' '.join(said[at : at + 5])} " for at in range(len(said) - 4)]
        assert not any(run in there for run in runs), asked.text
    apart = [one for one in made if not stems(words(one.text)) & stems(words(one.passage.title))]
    assert 2 * len(apart) >= len(made)
    for asked in made:  # it is about its passage
        about = stems(words(asked.text)) & stems(words(asked.passage.text))
        assert len(about) >= 3, asked.text


@needs_person_data
def test_a_seed_repeats_the_questions_and_the_order_of_passages_does_not_matter(
    passages: list[Passage],
) -> None:
    assert questions(passages, 20, seed=3) == questions(passages[::-1], 20, seed=3)
    assert questions(passages, 20, seed=3) != questions(passages, 20, seed=4)


def test_the_checker_finds_what_breaks_the_rule() -> None:
    passage = cut(ITEMS[:1])[0]
    fine = Asked("Tell me: forty seconds, suites?", passage, without_title=True)
    copied = dataclasses.replace(fine, text="Did the suite NOW takes forty, seconds go?")
    titled = dataclasses.replace(fine, text="Tell me: forty seconds, a test?")
    assert keeps_the_rule(fine)
    assert not keeps_the_rule(copied)
    assert not keeps_the_rule(titled)
    assert keeps_the_rule(dataclasses.replace(titled, without_title=False))


def test_there_are_no_more_questions_than_passages_that_say_something() -> None:
    assert questions([], 5, seed=0) == []
    assert len(questions(cut(ITEMS), 50, seed=0)) <= len(ITEMS)
