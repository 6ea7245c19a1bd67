"""Passages: exact spans along the structure of a text, within a limit, with what is no voice marked."""

# ruff: noqa: RUF001 (the signs that look alike are what is tested)

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.errors import InputError
from llmtwin.twins.person.blocks import VOICE, BlockKind, blocks
from llmtwin.twins.person.chunks import TOKENS_MIN, Passage, passages, sentences
from llmtwin.twins.person.sources.items import Item
from tests.person_texts import count_tokens, item, needs_person_data, notes, peps

POST = """\
# Moving house

We moved in May. It rained!

## Boxes

First the boxes:

- books, which are heavy
- cups

> Never move twice,
> said my aunt.

```sh
# no heading
mv old new
```

And then we slept.

### Labels ###

| what | where |
|---|---|
| cups | kitchen |
"""


def voice(found: Passage) -> list[str]:
    """The person's prose in a passage."""
    return [found.text[part.start - found.start : part.end - found.start] for part in found.voice]


def check(whole: Item, tokens_max: int) -> list[Passage]:
    """The laws of passages, on one item."""
    found = passages(whole, count_tokens, tokens_max)
    kept = blocks(whole.text)
    ends = {block.end for block in kept} | {
        block.start + end for block in kept for _, end in sentences(whole.text[block.start : block.end])
    }
    for number, one in enumerate(found):
        assert one.text == whole.text[one.start : one.end] == one.text.strip("\n")
        assert one.position == number
        assert count_tokens(one.text) <= tokens_max
        for part in one.voice:
            assert one.start <= part.start < part.end <= one.end
    for before, after in pairwise(found):
        assert before.end <= after.start
    for block in kept:
        inside = [one for one in found if one.start < block.end and block.start < one.end]
        if block.kind is BlockKind.HEADING:
            assert not inside, "no passage crosses a heading"
            continue
        said = "".join(whole.text[max(one.start, block.start) : min(one.end, block.end)] for one in inside)
        assert "".join(said.split()) == "".join(whole.text[block.start : block.end].split())
        if block.kind not in VOICE:
            spans = [(part.start, part.end) for one in inside for part in one.voice]
            assert all(end <= block.start or block.end <= start for start, end in spans)
        if block.kind in VOICE:
            for one in inside:
                if one.end < block.end and one.end not in ends:
                    sentence = next(
                        whole.text[block.start + start : block.start + end]
                        for start, end in sentences(whole.text[block.start : block.end])
                        if block.start + start < one.end < block.start + end
                    )
                    assert count_tokens(sentence) > tokens_max, "only a sentence that is too long is cut"
    return found


def test_a_passage_is_a_part_of_one_section_with_its_path() -> None:
    at = datetime(2024, 5, 1, tzinfo=UTC)
    whole = item(
        POST, title="Moving house", date=at, audience="blog", source="web", address="https://x.org/m"
    )
    found = check(whole, 200)
    assert [one.headings for one in found] == [(), ("Boxes",), ("Boxes", "Labels")]
    first = found[0]
    assert first.text == "We moved in May. It rained!"
    assert (first.item, first.source, first.title, first.address, first.audience, first.date) == (
        whole.id, "web", "Moving house", "https://x.org/m", "blog", at,
    )  # fmt: skip
    assert len({one.id for one in found}) == 3
    assert all(len(one.id) <= 64 for one in found)


def test_code_quotations_and_tables_are_no_voice() -> None:
    _, boxes, labels = passages(item(POST, title="Moving house"), count_tokens, 200)
    assert voice(boxes) == ["First the boxes:\n\n- books, which are heavy\n- cups", "And then we slept."]
    assert "mv old new" in boxes.text and "said my aunt" in boxes.text
    assert voice(labels) == [] and "kitchen" in labels.text


def test_a_small_limit_cuts_at_blocks_then_sentences_then_words() -> None:
    text = "Short one. " + "A sentence of six words here. " * 5 + "word " * 40 + "end.\n\nNext paragraph."
    found = check(item(text), TOKENS_MIN)
    assert found[0].text == "Short one. A sentence of six words here."
    assert found[-1].text.endswith("Next paragraph.")
    assert any(one.text.endswith("word") for one in found)


def test_a_word_without_end_is_cut_too() -> None:
    found = check(item("x" * 5000 + " 東京" * 300 + "한" * 3000), TOKENS_MIN)
    assert "".join(one.text for one in found).replace(" ", "") == ("x" * 5000 + "東京" * 300 + "한" * 3000)


def test_a_limit_under_the_least_is_refused() -> None:
    with pytest.raises(InputError, match="give 16 or more"):
        passages(item("Hello."), count_tokens, TOKENS_MIN - 1)


def test_restructured_text_is_read_as_such() -> None:
    text = (  # fmt: skip
        "=====\nTitle\n=====\n\nIntro::\n\n  code = 1\n\nMore.\n\nSub\n~~~\n\n"
        ".. note::\n\n   Take care of it.\n\n.. _x: https://x.org\n\n"
        "===  ===\n A    B\n===  ===\n\nDeeper\n^^^^^^\n\nEnd of it.\n\nOther\n~~~~~\n\nLast.\n"
    )
    found = [
        (block.kind.value, text[block.start : block.end].strip(), block.headings) for block in blocks(text)
    ]
    assert found == [
        ("heading", "=====\nTitle\n=====", ("Title",)),
        ("paragraph", "Intro::", ("Title",)),
        ("code", "code = 1", ("Title",)),
        ("paragraph", "More.", ("Title",)),
        ("heading", "Sub\n~~~", ("Title", "Sub")),
        ("other", ".. note::", ("Title", "Sub")),
        ("paragraph", "Take care of it.", ("Title", "Sub")),
        ("other", ".. _x: https://x.org", ("Title", "Sub")),
        ("other", "===  ===\n A    B\n===  ===", ("Title", "Sub")),
        ("heading", "Deeper\n^^^^^^", ("Title", "Sub", "Deeper")),
        ("paragraph", "End of it.", ("Title", "Sub", "Deeper")),
        ("heading", "Other\n~~~~~", ("Title", "Other")),
        ("paragraph", "Last.", ("Title", "Other")),
    ]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            "    From fairest creatures we desire increase,\n    That beauty's rose might never die,",
            "paragraph",
        ),
        ("    Dear Ann, the boxes are here.\n    When do you come?", "paragraph"),
        ("    for line in lines:\n        yield line", "code"),
        ("    SELECT name FROM people", "code"),
        ("    x = 3\n    return x", "code"),
        ("    pip install llmtwin", "code"),
        ("    import os", "code"),
        ("~~~\nfenced\n~~~", "code"),
        ("    ls -la\n    cd ..", "code"),
    ],
)
def test_indented_text_is_code_unless_it_reads_as_prose(text: str, kind: str) -> None:
    assert [block.kind.value for block in blocks(text)] == [kind]


PARTS = [
    "# One", "## Two", "Three\n=====", "Four\n~~~~", "A sentence. Another one! A third?", "just some words",
    "- item one\n- item two\n  - deeper\n\n    with a paragraph", "1. first\n2. second",
    "```py\nx = '# no'\n```", "    indented = code()", "> quoted words\nlazily",
    "| a | b |\n|---|---|\n| 1 | 2 |", "<div>\nhtml\n</div>", "Look::\n\n   literal block",
    ".. code:: py\n\n   y = 2", "***", "word " * 50,
    "😀 don’t — “stop”…", "\u2028", "x\x0cy",
    "[a]: https://x.org", "Dear Ann,\n\nyes.\n\nBob", "***bold*** _it_ `code`", "~~~", "\t\ttabbed", "-", "#",
]  # fmt: skip


def texts() -> st.SearchStrategy[str]:
    """Documents of every structure, with every kind of line end, or of anything at all."""
    parts = st.lists(st.sampled_from(PARTS), min_size=1, max_size=12)
    gaps = st.sampled_from(["\n\n", "\n", "\n \n", "\r\n\r\n"])
    return st.builds(str.join, gaps, parts) | st.text()


@given(texts(), st.integers(TOKENS_MIN, 60))
def test_the_laws_of_passages_hold_for_any_text(text: str, tokens_max: int) -> None:
    if text.strip():
        check(item(text), tokens_max)


@given(st.text() | texts())
def test_blocks_are_in_order_and_leave_no_letter_of_prose_out(text: str) -> None:
    found = blocks(text)
    assert all(before.end <= after.start for before, after in pairwise(found))
    between = [0, *(block.end for block in found)], [*(block.start for block in found), len(text)]
    for start, end in zip(*between, strict=True):
        left_out = re.sub(r"^ {0,3}\[[^\]]+\]:.*", "", text[start:end], flags=re.M)
        assert not any(sign.isalpha() for sign in left_out), "only definitions of links are in no block"


def words_of(found: Iterable[Passage]) -> int:
    return sum(len(part.split()) for one in found for part in voice(one))


@needs_person_data
def test_the_laws_of_passages_hold_for_real_writing() -> None:
    real = [*notes(every=12), *peps(every=8)]
    found = [check(one, 256) for one in real]
    spoken, written = sum(map(words_of, found)), sum(len(one.text.split()) for one in real)
    assert 0.5 < spoken / written < 0.95, "most of it is prose, and some of it is code"
    assert all(found)
