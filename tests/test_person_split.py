"""Train and held-out parts, and voices: by whole documents, with nothing of the one in the other."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.errors import InputError
from llmtwin.twins.person.chunks import passages
from llmtwin.twins.person.examples import Making, Pair, pairs
from llmtwin.twins.person.sources.items import Item
from llmtwin.twins.person.split import By, Split, apart, split
from llmtwin.twins.person.voices import select
from llmtwin.twins.private.spans import Marker
from tests.person_texts import KEY, count_tokens, item, needs_person_data, notes, peps

MAKING = Making(Marker(), KEY, count_tokens, tokens_max=128)
RUN_WORDS = 12
START = datetime(2020, 1, 1, tzinfo=UTC)
VOCABULARY = [
    f"{a}{b}"
    for a in ("tea", "moon", "code", "rain", "bread", "test")
    for b in ("s", "ing", "ly", "ful", "ish")
]


def prose(seed: int, sentences: int = 12) -> str:
    """Sentences that nobody else wrote."""
    draw = random.Random(seed)
    return " ".join(f"So {' '.join(draw.choices(VOCABULARY, k=9))}." for _ in range(sentences))


def documents(number: int) -> list[Item]:
    """One a month, the newest last."""
    return [
        item(prose(index), address=f"{index}", title=f"Day {index}", date=START + timedelta(days=30 * index))
        for index in range(number)
    ]


def addresses(items: tuple[Item, ...]) -> list[str]:
    return sorted((one.address for one in items), key=int)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def runs(text: str, length: int = RUN_WORDS) -> set[str]:
    found = words(text)
    return {" ".join(found[at : at + length]) for at in range(len(found) - length + 1)}


def learned(parts: Split, making: Making = MAKING) -> list[Pair]:
    """The training examples, as a tuning would get them."""
    found = [pair for one in parts.train for pair in pairs(one, making)]
    return apart(found, [one.text for one in parts.held_out])


def check_apart(parts: Split, making: Making = MAKING) -> list[Pair]:
    """No held-out passage, nor twelve words in a row of one, is in a training example."""
    found = learned(parts, making)
    halves = [half for pair in found for half in (pair.prompt, pair.completion)]
    taught = {run for half in halves for run in runs(half)}
    texts = {half.strip() for half in halves}
    for one in parts.held_out:
        assert not runs(one.text) & taught
        for passage in passages(one, making.count_tokens, making.tokens_max):
            assert len(words(passage.text)) < 5 or passage.text.strip() not in texts
    return found


def test_the_newest_documents_are_held_out() -> None:
    parts = split(documents(10), 0.15, By.TIME, seed=1)
    assert addresses(parts.held_out) == ["8", "9"]
    assert addresses(parts.train) == [str(index) for index in range(8)]
    undated = [item(prose(99), address="99"), *documents(3)]
    assert addresses(split(undated, 0.6, By.TIME, seed=1).train) == ["99"]


def test_a_draw_is_that_of_its_seed_and_of_no_order() -> None:
    all_ = documents(20)
    drawn = split(all_, 0.2, By.DRAW, seed=7)
    assert split(all_[::-1], 0.2, By.DRAW, seed=7) == drawn
    assert split(all_, 0.2, By.DRAW, seed=8) != drawn
    assert len(drawn.held_out) in (4, 5)
    assert {one.id for part in (drawn.train, drawn.held_out, drawn.left_out) for one in part} == {
        one.id for one in all_
    }


def test_a_near_copy_of_a_held_out_document_is_left_out_of_both() -> None:
    all_ = documents(8)
    copy = item("New: " + all_[7].text.replace("teas", "coffee"), address="70", date=START)
    longer = item(f"{prose(50)}\n\n{all_[7].text}\n\n{prose(51)}", address="71", date=START)
    part = item(all_[7].text[:400], address="72", date=START)
    phrase = item(prose(52, 40) + " So it goes, as they say, on and on.", address="73", date=START)
    short = item("as they say, on and on", address="74", date=START + timedelta(days=999))
    parts = split([*all_, copy, longer, part, phrase, short], 0.04, By.TIME, seed=1)
    assert addresses(parts.held_out) == ["7", "74"]
    assert addresses(parts.left_out) == ["70", "71", "72"]
    assert "73" in addresses(parts.train)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 2.0])
def test_a_share_that_cannot_be_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        split(documents(3), share, By.TIME, seed=1)


@pytest.mark.parametrize("few", [[], documents(1), [item("a b c d e f g " * 9, address=a) for a in "xy"]])
def test_too_few_documents_are_refused_with_what_is_needed(few: list[Item]) -> None:
    with pytest.raises(InputError, match="at least two that differ"):
        split(few, 0.3, By.TIME, seed=1)


def test_an_example_that_quotes_a_held_out_text_is_not_learned() -> None:
    held_out = prose(1)
    quoted = " ".join(words(held_out)[20 : 20 + RUN_WORDS])
    allowed = " ".join(words(held_out)[40 : 40 + RUN_WORDS - 1])
    made = pairs(item(f"{prose(2)}\n\n{allowed} and more of it."), MAKING)
    said = replace(made[0], completion=f"Well, {quoted.upper()}!")
    asked = replace(made[0], prompt=f"Go on: {quoted.replace(' ', ', ')}")
    assert apart([*made, said, asked], [held_out]) == made


def test_a_short_held_out_message_is_not_learned_either() -> None:
    made = pairs(item("I will see you there at noon.", audience="chat", context="Where?"), MAKING)
    assert made
    assert apart(made, ["See you there at NOON"]) == []
    assert apart(made, ["see you there"]) == made, "what everybody says is nobody's text"


@st.composite
def writings(draw: st.DrawFn) -> list[Item]:
    """Documents that share sentences, paragraphs and whole texts with each other."""
    sentences = [prose(seed, 1) for seed in range(12)]
    texts = draw(
        st.lists(st.lists(st.sampled_from(sentences), min_size=1, max_size=8), min_size=4, max_size=12)
    )
    gap = draw(st.sampled_from([" ", "\n\n"]))
    return [
        item(f"{gap.join(text)}{gap}{prose(100 + index, 3)}", address=f"{index}", title=f"Day {index}")
        for index, text in enumerate(texts)
    ]


@given(writings(), st.sampled_from(By), st.integers(0, 3))
def test_nothing_held_out_is_ever_learned(all_: list[Item], by: By, seed: int) -> None:
    try:
        parts = split(all_, 0.25, by, seed)
    except InputError:
        return
    held, trained = {one.id for one in parts.held_out}, {one.id for one in parts.train}
    assert held and trained and not held & trained
    assert sum(len(one.text) for one in parts.held_out) >= 0.25 * sum(len(one.text) for one in all_)
    check_apart(parts)


@needs_person_data
@pytest.mark.parametrize("by", list(By))
def test_nothing_held_out_of_real_writing_is_ever_learned(by: By) -> None:
    for real in (notes(every=8), [one for one in peps(every=1) if "brett-cannon" in one.address]):
        parts = split(real, 0.1, by, seed=11)
        found = check_apart(parts, replace(MAKING, tokens_max=256))
        assert len(found) > 50
        before = sum(len(pairs(one, replace(MAKING, tokens_max=256))) for one in parts.train)
        assert len(found) > 0.8 * before, "what both share is boilerplate, not most of the text"


def test_a_voice_is_of_its_audience_and_its_time() -> None:
    at = [START + timedelta(days=day) for day in range(3)]
    bob = item("To Bob.", audience="mail:bob@x.org", date=at[0])
    eve = item("To Eve.", audience="mail:eve@x.org", date=at[1])
    note = item("A note.", audience="notes", date=at[2])
    undated = item("Whenever.", audience="notes")
    all_ = [bob, eve, note, undated]
    assert select(all_) == all_
    assert select(all_, audience="mail") == [bob, eve]
    assert select(all_, audience="mail:bob@x.org") == [bob]
    assert select(all_, audience="chat") == []
    assert select(all_, since=at[1]) == [eve, note]
    assert select(all_, until=at[1]) == [bob]
    assert select(all_, audience="mail", since=at[0], until=at[1]) == [bob]
    with pytest.raises(InputError, match="without a zone"):
        select(all_, since=datetime(2020, 1, 1))
