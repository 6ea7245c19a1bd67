"""How a twin's search is measured: passages are asked for, and things that were never written."""

from __future__ import annotations

import pytest

from llmtwin.study.person_retrieval import Figures, measure, passages_of
from tests.person_texts import needs_person_data, notes, peps

pytestmark = needs_person_data


@pytest.fixture(scope="module")
def figures() -> Figures:
    everything = peps(12)
    return measure(
        passages_of(everything[::2]), passages_of(everything[1::2]), passages_of(notes(12)), None, 20, seed=1
    )


def test_what_was_written_is_found_more_often_than_what_was_not(figures: Figures) -> None:
    assert set(figures.recall_at_5) == {"bm25"} and figures.questions == 20
    assert figures.recall_at_5["bm25"] >= 0.7
    assert figures.abstain_known < figures.abstain_near_miss <= 1
    assert sum(figures.scores_known) / 20 > sum(figures.scores_near_miss) / 10


def test_rates_are_of_the_questions_that_were_asked(figures: Figures) -> None:
    known, near, other = figures.scores_known, figures.scores_near_miss, figures.scores_other
    assert (len(known), len(near), len(other)) == (20, 10, 10)
    assert (figures.abstain_known * 20) % 1 == pytest.approx(0)
    unknown = figures.abstain_unknown * 20 - figures.abstain_near_miss * 10
    assert 0 <= unknown <= 10 and unknown == pytest.approx(round(unknown))


def test_a_person_who_wrote_what_is_asked_of_others_does_not_abstain_more() -> None:
    own = passages_of(peps(12))
    found = measure(own, own, own, None, 10, seed=1)
    assert found.scores_near_miss == found.scores_other == found.scores_known[:5]
    assert found.recall_at_5["bm25"] == 1
