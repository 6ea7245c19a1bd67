"""Style by counting: alike is zero, nothing in common is one, and what differs is said in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.errors import InputError
from llmtwin.records import Example
from llmtwin.twins.kind import Lessons
from llmtwin.twins.person.carding import figures
from llmtwin.twins.person.style import Style, divergence, tells
from tests.person_texts import needs_person_data, notes, peps

DASHES = "I came late — as ever — and nobody minded. We talked; we ate — and then we left at once.\n" * 10
PLAIN = "I came late as ever and nobody minded. We talked, we ate and then we left at once.\n" * 10
WORDS = st.lists(st.sampled_from(["the", "of", "dog", "runs.", "why?", "so,", "and", "it;"]), min_size=1)


def test_dashes_are_found_however_they_are_written() -> None:
    written = (
        "one — two, one \u2013 two, one -- two, one - two; not a-b, not --option\n- nor an item, nor ----"
    )
    assert Style([written]).signs["dashes"] == 4


def test_signs_are_counted() -> None:
    signs = Style(['Well... "no", he said (twice): it is 3.5 at 12:30! Is it? See a.b.c.']).signs
    assert signs == {
        "ellipses": 1,
        "quotation marks": 2,
        "commas": 1,
        "brackets": 1,
        "colons": 1,
        "exclamation marks": 1,
        "question marks": 1,
        "full stops": 1,
    }


def test_sentences_are_measured_in_words_over_all_texts() -> None:
    assert Style(["It is I. Who are you, then?", "Nobody."]).lengths == (3, 4, 1)


def test_nothing_in_common_is_one() -> None:
    got = divergence(Style(["The cat!"]), Style(["Dogs of many a kind walk by and by, day by day?"]))
    assert (got.sentence_length, got.punctuation, got.function_words) == pytest.approx((1, 1, 1))


def test_without_any_punctuation_two_texts_are_alike_in_it() -> None:
    assert divergence(Style(["no sign"]), Style(["none here"])).punctuation == 0
    assert divergence(Style(["no sign"]), Style(["one!"])).punctuation == 1


def test_a_text_without_words_has_no_style() -> None:
    with pytest.raises(InputError, match="no word"):
        Style(["123 --- !!", ""])


@given(WORDS, WORDS)
def test_a_divergence_is_between_zero_and_one_and_the_same_both_ways(
    some: list[str], other: list[str]
) -> None:
    mine, theirs = Style([" ".join(some)]), Style([" ".join(other)])
    there, back = divergence(mine, theirs), divergence(theirs, mine)
    for figure in ("sentence_length", "punctuation", "function_words"):
        assert 0 <= getattr(there, figure) <= 1 + 1e-9
        assert getattr(there, figure) == pytest.approx(getattr(back, figure), abs=1e-9)
    same = divergence(mine, mine)
    assert (same.sentence_length, same.punctuation, same.function_words) == pytest.approx((0, 0, 0), abs=1e-6)


def test_what_tells_two_styles_apart_is_said_in_words() -> None:
    assert tells(Style([DASHES]), Style([PLAIN])) == ["uses dashes", "never uses commas", "uses semicolons"]
    assert tells(Style([PLAIN * 6 + DASHES * 6]), Style([DASHES * 18 + PLAIN * 6])) == [
        "uses dashes 1.5x less often",
        "uses commas 2.0x as often",
    ]
    assert tells(Style([DASHES]), Style([DASHES])) == []


def test_few_occurrences_tell_nothing() -> None:
    assert tells(Style([PLAIN * 3 + "Oh! Oh! Oh! Oh!"]), Style([PLAIN])) == []


@needs_person_data
def test_two_halves_of_one_authors_texts_are_closer_than_two_authors() -> None:
    mine = [item.text for item in notes(every=8)]
    theirs = Style(item.text for item in peps(every=8))
    same = divergence(Style(mine[::2]), Style(mine[1::2]))
    other = divergence(Style(mine), theirs)
    assert same.sentence_length < other.sentence_length
    assert same.punctuation < other.punctuation
    assert same.function_words < other.function_words
    assert len(tells(theirs, Style(mine))) == 5


def test_a_card_says_how_near_a_voice_writes_and_what_of_it_is_copied() -> None:
    learned = Example(prompt="", completion="the river was low and we walked along it until noon")
    lessons = Lessons(examples=(learned,), held_out={"a": DASHES})
    found = figures([DASHES, "We walked along it until noon, they said."], [PLAIN], lessons)
    assert found["style_punctuation"] < found["style_punctuation_base"] <= 1
    assert found["copied_words_max"] == 6 and found["copied_share_max"] == 6 / 8
    assert figures(["…"], [PLAIN], lessons) == figures([PLAIN], [PLAIN], Lessons()) == {}
