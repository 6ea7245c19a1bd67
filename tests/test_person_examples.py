"""Examples: what is learned is the person's own text, word for word, and nothing private is in it."""

# ruff: noqa: RUF001 (the signs that look alike are what is tested)

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmtwin.errors import InputError
from llmtwin.twins.person.blocks import VOICE, blocks
from llmtwin.twins.person.examples import Making, Pair, Shape, pairs
from llmtwin.twins.person.people import people
from llmtwin.twins.person.sources.items import Item
from llmtwin.twins.private.spans import Marker
from tests.person_texts import KEY, count_tokens, item, needs_person_data, notes, peps

PLAIN = Making(Marker(), KEY, count_tokens, tokens_max=64)
HIDING = replace(PLAIN, marker=Marker(["Anna Smith", "Anna", "Bob"]))

POST = """\
# Moving our tests

We moved our tests to SQLite last week, and it went better than I’d feared. Here is what
broke — and what didn't.

## Why

Postgres was slow to start. Every run took a minute before the first test, which is a minute of Twitter…

Nobody liked it. So I asked Anna, and she said that we might as well try it on the smallest of our services.

```py
engine = create_engine("sqlite://")
```

## How

That line was most of it. The rest was a long evening of reading error messages about dates, one about JSON.
"""


def by_shape(found: Iterable[Pair]) -> dict[Shape, list[Pair]]:
    return {shape: [pair for pair in found if pair.shape is shape] for shape in Shape}


def post(**fields: object) -> Item:
    return item(POST, **{"title": "Moving our tests", "audience": "blog", **fields})


def test_a_title_that_is_a_file_s_name_names_nobody() -> None:
    found = by_shape(pairs(post(title="2024-05-01_anna_smith"), HIDING))
    (title,) = found[Shape.TITLE]
    assert re.fullmatch(r"Write a blog post about this: 2024-05-01_[a-z]+_[a-z]+", title.prompt)
    assert not re.search("anna|smith", title.prompt, re.I)


def test_a_title_and_a_heading_lead_to_the_text_below_them() -> None:
    found = by_shape(pairs(post(), PLAIN))
    (title,) = found[Shape.TITLE]
    assert title.prompt == "Write a blog post about this: Moving our tests"
    assert title.completion.startswith("We moved our tests") and title.completion.endswith("what didn't.")
    assert [pair.prompt.rpartition("\n")[2] for pair in found[Shape.HEADING]] == [
        'Write the part "Why".',
        'Write the part "How".',
    ]
    assert found[Shape.HEADING][1].completion.startswith("That line was most of it.")
    assert title.example.completion == title.completion


def test_what_was_written_before_leads_to_what_follows() -> None:
    found = by_shape(pairs(post(), PLAIN))[Shape.CONTINUATION]
    assert found[0].prompt.endswith("and it went better than I’d feared.")
    assert found[0].completion == "Here is what\nbroke — and what didn't."
    assert all(pair.completion not in pair.prompt for pair in found)


def test_first_sentences_or_headings_are_the_outline() -> None:
    found = by_shape(pairs(post(), PLAIN))[Shape.OUTLINE]
    assert any(
        "Make these points:\n- Postgres was slow to start.\n- Nobody liked it." in pair.prompt
        for pair in found
    )
    (parts,) = [pair for pair in found if "These are its parts:" in pair.prompt]
    assert "- Why\n- How" in parts.prompt and parts.completion.startswith("That line")


def test_a_message_leads_to_the_reply_however_short() -> None:
    reply = item("ok 👍", audience="chat:Bob", context="Anna: lunch?\nAnna: at 12, bring Bob")
    (pair,) = pairs(reply, HIDING)
    assert pair.completion == "ok 👍"
    assert re.fullmatch(r"Reply to this message:\n\n(\w+): lunch\?\n\1: at 12, bring \w+", pair.prompt)
    assert "Anna" not in pair.prompt and "Bob" not in pair.prompt


def test_of_a_long_message_its_end_is_kept() -> None:
    reply = item("Yes.", audience="mail:x@y.z", context="word " * 500 + "and the question?")
    (pair,) = pairs(reply, PLAIN)
    assert pair.prompt.endswith("word and the question?")
    assert count_tokens(pair.prompt) <= PLAIN.tokens_max + 10


def test_code_quotations_and_scraps_are_no_completion() -> None:
    whole = item(
        "Run this:\n\n```\nrm -rf /\n```\n\n> He who quotes others at length says little himself, I think.\n"
    )
    assert pairs(whole, PLAIN) == []
    assert not any("create_engine" in pair.completion for pair in pairs(post(), PLAIN))


def test_a_limit_or_a_key_that_is_too_short_is_refused() -> None:
    with pytest.raises(InputError):
        pairs(post(), replace(PLAIN, tokens_max=3))
    with pytest.raises(InputError):
        pairs(post(), replace(PLAIN, key=b"short"))


def check_verbatim(whole: Item, making: Making) -> list[Pair]:
    """Every completion is a part of the item, and but for stand-ins exactly that, and prose."""
    found = pairs(whole, making)
    prose = [block for block in blocks(whole.text) if block.kind in VOICE]
    spans = making.marker.mark(whole.text)
    for pair in found:
        said = whole.text[pair.start : pair.end]
        kept, at = "", pair.start
        for span in spans:
            if span.start < pair.end and pair.start < span.end:
                kept, at = kept + re.escape(whole.text[at : max(at, span.start)]) + r".+?", span.end
        assert re.fullmatch(kept + re.escape(whole.text[at : pair.end]), pair.completion, re.S)
        # An empty item of a list is no block, and may stand before the first word.
        word = re.search(r"\w", said) or re.search(r"\S", said)
        assert word and any(block.start <= pair.start + word.start() < block.end for block in prose)
        assert pair.completion.strip() and count_tokens(said) <= making.tokens_max
    return found


@example(["0", "-", POST.split("\n\n")[1]])
@given(st.lists(st.sampled_from(POST.split("\n\n")) | st.text(max_size=40), min_size=1, max_size=12))
def test_every_completion_is_the_persons_text_whatever_it_is(parts: list[str]) -> None:
    text = "\n\n".join(parts)
    if text.strip():
        check_verbatim(item(text, title="A title"), PLAIN)


SAID = [
    "Anna Smith", "anna smith", "a@b.org", "+44 20 7946 0958", "4111 1111 1111 1111", "Bob", "I met",
    "so.", "Well", "\n\n", "\n\n# Anna\n\n", "and",
]  # fmt: skip


@given(st.lists(st.sampled_from(SAID), min_size=3, max_size=60))
def test_nothing_private_is_in_any_example(parts: list[str]) -> None:
    text = ", ".join(parts)
    whole = item(
        text, title="Lunch with Anna Smith", context="Bob: call +44 20 7946 0958", audience="mail:a@b.org"
    )
    for pair in pairs(whole, HIDING):
        for half in (pair.prompt, pair.completion):
            for secret in ("anna", "smith", "bob", "a@b.org", "7946", "4111 1111"):
                assert secret not in half.casefold()


def test_a_private_span_that_a_limit_cuts_is_hidden_in_both_parts() -> None:
    making = replace(PLAIN, marker=Marker(["Maximiliana Theodora Alexandrina Wilhelmina"]), tokens_max=16)
    text = (
        "And so we went to see "
        + "very " * 8
        + "old Maximiliana Theodora Alexandrina Wilhelmina of the house and its many rooms."
    )
    found = pairs(item(text, audience="mail"), making)
    assert found
    names = {"Maximiliana", "Theodora", "Alexandrina", "Wilhelmina"}
    assert not any(names & set(re.findall(r"\w+", pair.prompt + pair.completion)) for pair in found)


@needs_person_data
def test_completions_of_real_writing_stand_in_it_and_nothing_marked_does() -> None:
    real = [*notes(every=10), *peps(every=8)]
    marker = Marker({*people(real), "Guido", "Guido van Rossum", "Nick Coghlan", "Alex Garcia"})
    making = replace(PLAIN, marker=marker, tokens_max=256)
    shapes: set[Shape] = set()
    for whole in real:
        found = check_verbatim(whole, making)
        shapes |= {pair.shape for pair in found}
        words = set(re.findall(r"\w+", whole.text))
        private = {whole.text[span.start : span.end] for span in marker.mark(whole.text)}
        for pair in found:
            if not marker.mark(whole.text[pair.start : pair.end]):
                assert set(re.findall(r"\w+", pair.completion)) <= words
            assert not any(
                re.search(rf"(?<!\w){re.escape(said)}(?!\w)", half)
                for said in private
                for half in (pair.prompt, pair.completion)
            )
    assert shapes == {Shape.TITLE, Shape.HEADING, Shape.CONTINUATION, Shape.OUTLINE}
