"""Finding items that nearly repeat others."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from llmtwin.twins.person.sources.items import Item
from llmtwin.twins.person.sources.similar import WORDS_MIN, distinct

LONG = " ".join(f"word{number} goes on" for number in range(200))
# Little was changed, as between a draft and what was posted.
NEARLY = LONG.replace("word50 ", "term50 ").replace("word51 ", "") + " The end."
OTHER = " ".join(f"other{number} goes on" for number in range(200))


def item(text: str, address: str = "/a", context: str | None = None, excerpt: bool = False) -> Item:
    return Item.of(
        source="notes", address=address, audience="notes", text=text, context=context, excerpt=excerpt
    )


def test_what_nearly_repeats_another_is_left_out_and_said_of_which() -> None:
    one, two, three = item(LONG), item(NEARLY, "/b"), item(OTHER, "/c")
    found = distinct([one, two, three])
    assert found.items == (one, three)
    assert [(double.item, double.of) for double in found.duplicates] == [(two, one.id)]


def test_what_is_known_counts_too() -> None:
    one, two = item(LONG), item(NEARLY, "/b")
    found = distinct([two, one], known=[one])
    assert not found.items and [(double.item, double.of) for double in found.duplicates] == [(two, one.id)]


def test_a_new_version_is_no_duplicate_of_the_one_before() -> None:
    before, after = item(LONG), item(NEARLY)
    assert distinct([after], known=[before]).items == (after,)


@given(st.permutations([item("Yes."), item("Yes. Come."), item(f"{LONG} {OTHER}", excerpt=True)]))
def test_of_several_versions_the_longest_whole_one_stays_in_whatever_order(versions: list[Item]) -> None:
    found = distinct(versions)
    (kept,) = found.items
    assert kept.text == "Yes. Come."
    assert {double.of for double in found.duplicates} == {kept.id} and len(found.duplicates) == 2
    assert not distinct(versions, known=[kept]).items


def test_an_excerpt_takes_the_place_of_an_excerpt_only() -> None:
    whole, teaser, later = item(OTHER), item(LONG, excerpt=True), item("Soon.", excerpt=True)
    found = distinct([teaser], known=[whole])
    assert not found.items and [(double.item, double.of) for double in found.duplicates] == [
        (teaser, whole.id)
    ]
    assert distinct([whole], known=[teaser]).items == (whole,)
    assert distinct([later], known=[teaser]).items == (later,)


def test_what_is_not_known_to_be_whole_is_replaced() -> None:
    """As what was kept by an earlier version, which did not say so."""
    earlier = Item.model_validate_json(item(LONG).model_dump_json(exclude={"excerpt"}))
    edited = item(OTHER, excerpt=True)
    assert distinct([edited], known=[earlier]).items == (edited,)


def test_short_texts_repeat_only_what_answers_the_same() -> None:
    texts = [item("Thanks!", f"/{n}", context) for n, context in enumerate(["One", "Two", "One", None, None])]
    found = distinct(texts)
    assert found.items == (texts[0], texts[1], texts[3])
    assert [(double.item, double.of) for double in found.duplicates] == [
        (texts[2], texts[0].id),
        (texts[4], texts[3].id),
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=2 * WORDS_MIN).map(" ".join), max_size=8))
def test_everything_is_kept_or_named_once_and_a_second_time_is_nothing_new(texts: list[str]) -> None:
    items = [item(text, f"/{number}") for number, text in enumerate(texts) if text]
    found = distinct(items)
    assert sorted(one.id for one in items) == sorted(
        [one.id for one in found.items] + [double.item.id for double in found.duplicates]
    )
    kept = {one.id for one in found.items}
    assert all(double.of in kept for double in found.duplicates)
    again = distinct(items, known=found.items)
    assert not again.items and {double.item.id for double in again.duplicates}.isdisjoint(kept)
