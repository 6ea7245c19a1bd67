"""From a question to passages: filters that exist, both indexes fused, a budget, nothing made of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.errors import Unavailable
from llmtwin.memory import Memory
from llmtwin.memory.embed import Embedder
from llmtwin.records import twin_id
from llmtwin.twins.person.asked import take_apart
from llmtwin.twins.person.remember import prompt_of, quote_of
from llmtwin.twins.person.retrieve import Mode, embed_passages, retrieve, variants, within
from llmtwin.twins.person.score import Scorer
from llmtwin.twins.person.times import stretches
from tests.person_memory import ITEMS, NOW, TWIN, ask, cut, remember, written
from tests.person_models import embedder, needs_embeddings


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory(tmp_path / "memory.sqlite") as memory:
        remember(memory)
        yield memory


def titles(memory: Memory, question: str, embedder: Embedder | None = None, **options: int) -> list[str]:
    return [hit.quote.title for hit in retrieve(ask(question), memory, embedder, **options).hits]


# --- remembered passages ---------------------------------------------------------------------------------


def test_a_passage_is_remembered_word_for_word_with_all_that_cites_it() -> None:
    text = "Intro.\n\n## Why\n\n### Really\n\nIt\u2019s \u201cso\u201d \u2014 \U0001f600!"
    item = written(text, "A title", "2019-05-01", address="https://x.org/" + "a" * 600)
    passage = cut([item])[-1]
    prompt = prompt_of(passage, TWIN, NOW)
    assert (prompt.id, prompt.text, prompt.at) == (twin_id(TWIN, passage.id), passage.text, item.date)
    assert {fact.path.partition("/")[0] for fact in prompt.facts} == {item.id[:40]}
    assert {fact.at for fact in prompt.facts} == {item.date}
    quote = quote_of(prompt)
    assert (quote.text, quote.title, quote.heading) == (passage.text, "A title", "Why > Really")
    assert (quote.source, quote.audience, quote.date) == ("files", "notes", date(2019, 5, 1))
    assert quote.address == item.address[:500]
    assert quote.item == item.id[:40]


def test_without_a_date_it_is_of_the_time_of_collecting_and_has_no_date() -> None:
    prompt = prompt_of(cut(ITEMS[3:])[0], TWIN, NOW)
    assert prompt.at == NOW
    assert {fact.path.partition("/")[2] for fact in prompt.facts} == {
        "title",
        "address",
        "source",
        "audience",
    }
    assert quote_of(prompt).date is None


def test_forgetting_a_title_forgets_the_document(memory: Memory) -> None:
    long = written("\n\n".join(f"Paragraph {n}. " + "Some words. " * 60 for n in range(4)), "Long")
    remember(memory, [long])
    assert memory.count(TWIN) == len(ITEMS) + len(cut([long]))
    memory.forget(TWIN, f"{long.id[:40]}/title")
    assert memory.count(TWIN) == len(ITEMS)


# --- what a question says beside its subject -------------------------------------------------------------

DAY = "%Y-%m-%d"


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("What did I write in 2019?", "2019-01-01", "2020-01-01"),
        ("What was new last spring?", "2026-03-01", "2026-06-01"),
        ("What did you think before March 2020?", None, "2020-03-01"),
        ("Tests between March 2019 and June 2020", "2019-03-01", "2020-07-01"),
        ("bread from 2015 to 2017", "2015-01-01", "2018-01-01"),
        ("bread in the summer of 2014", "2014-06-01", "2014-09-01"),
        ("bread since 3 May 2021", "2021-05-03", None),
        ("bread after May 2021", "2021-06-01", None),
        ("bread until 2021", None, "2022-01-01"),
        ("bread in the 1990s", "1990-01-01", "2000-01-01"),
        ("two years ago", "2024-01-01", "2025-01-01"),
        ("yesterday", "2026-11-22", "2026-11-23"),
        ("in last month's notes", "2026-10-01", "2026-11-01"),
    ],
)
def test_a_time_that_is_named_is_understood(text: str, since: str | None, until: str | None) -> None:
    (found,) = stretches(text, NOW)
    assert (found.since and found.since.strftime(DAY), found.until and found.until.strftime(DAY)) == (
        since,
        until,
    )


@pytest.mark.parametrize(
    "text", ["What may happen?", "in 1000 words", "PEP 2019", "Python 3.12", "in two steps", "march on", ""]
)
def test_what_is_no_time_is_none(text: str) -> None:
    assert list(stretches(text, NOW)) == []


@given(st.datetimes(datetime(1000, 1, 1), datetime(2199, 11, 30)), st.sampled_from(("in", "before", "since")))
def test_any_month_is_the_month_it_says(time: datetime, how: str) -> None:
    (found,) = stretches(f"What of bread {how} {time:%B} {time.year:04d}?", NOW)
    begin = time.replace(day=1, hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    end = (begin + timedelta(days=31)).replace(day=1)
    expected = {"in": (begin, end), "before": (None, begin), "since": (begin, None)}[how]
    assert (found.since, found.until) == expected


@given(st.text(max_size=80) | st.from_regex(r"(in|since|of) \w{0,6} \d{1,6}s?( \d{4})?", fullmatch=True))
def test_any_text_can_be_asked(text: str) -> None:
    with Memory(Path(":memory:")) as memory:
        remember(memory, ITEMS[:1])
        asked = take_apart(text, memory, TWIN, NOW)
        memory.count(TWIN, asked.only)
        variants(asked.subject)


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("What did you write about tests in 2019?", ["Tests on SQLite"]),
        ("What did you write about tests in your mails?", ["Parser"]),
        ("What did I write to Bob about tests?", ["Parser"]),
        ("What did I tell bob@example.org about tests?", ["Parser"]),
        ("What about the first minutes of tests on my blog?", ["Baking bread"]),
        ("What have you written about minutes since 2020 in your wordpress?", ["Baking bread"]),
    ],
)
def test_a_filter_that_exists_leaves_nothing_else(memory: Memory, question: str, found: list[str]) -> None:
    assert titles(memory, question) == found


@pytest.mark.parametrize(
    ("question", "nothing"),
    [
        ("What did you write about tests in 1850?", "in 1850"),
        ("What did you say about tests in your newsletter?", "in my newsletter"),
        ("What did I write to Zaphod about tests?", "to Zaphod"),
        ("What about tests in your mails in 2019?", "in 2019 in my mails"),
        ("Which tulips did you write about in 2026?", "in 2026"),  # collected then, of no known date
    ],
)
def test_a_stranger_or_an_empty_time_gives_nothing_and_makes_nothing(
    memory: Memory, question: str, nothing: str
) -> None:
    before = (memory.count(TWIN), memory.snapshot(TWIN))
    found = retrieve(ask(question), memory, None)
    assert (found.hits, found.nothing, found.known) == ((), nothing, False)
    assert (memory.count(TWIN), memory.snapshot(TWIN)) == before


def test_another_twin_is_another_memory(memory: Memory) -> None:
    question = ask("What about tests on SQLite?").model_copy(update={"twin": "you"})
    assert retrieve(question, memory, None).hits == ()


# --- ranks -----------------------------------------------------------------------------------------------


def test_a_question_is_looked_for_whole_by_its_content_by_its_parts_and_as_a_title() -> None:
    assert variants("What did you write about baking bread, and why does the crust crack?") == [
        "What did you write about baking bread, and why does the crust crack?",
        "baking bread crust crack",
        "What did you write about baking bread",
        "why does the crust crack?",
        "baking bread, and why does the crust crack",
    ]
    assert variants("bread") == ["bread"]


def test_without_embeddings_words_decide_and_the_note_says_so(memory: Memory) -> None:
    found = retrieve(ask("How long does the test suite take?"), memory, None)
    assert found.hits[0].quote.title == "Tests on SQLite"
    assert found.note is not None and "no sentence embeddings" in found.note
    with pytest.raises(Unavailable, match="make person"):
        retrieve(ask("tests"), memory, None, mode=Mode.DENSE)


@needs_embeddings
def test_meaning_finds_what_shares_no_word(memory: Memory) -> None:
    question = "Growing flowers, any advice?"
    assert titles(memory, question, None) == []
    assert titles(memory, question, embedder())[0] == "Bulbs"
    assert retrieve(ask(question), memory, embedder()).note is None


@needs_embeddings
def test_passages_are_embedded_once_in_batches(memory: Memory) -> None:
    assert not embed_passages(memory, "you", embedder(), 0) or memory.count("you") == 0
    remember(memory, [written(f"Sentence number {n} is here.", f"T{n}") for n in range(70)])
    assert not embed_passages(memory, TWIN, embedder(), 64)
    assert len(memory.unembedded(TWIN, embedder().name, 100)) == memory.count(TWIN) - 64
    assert embed_passages(memory, TWIN, embedder())
    assert memory.unembedded(TWIN, embedder().name, 100) == []


def test_the_context_is_whole_passages_within_its_budget_and_none_twice(memory: Memory) -> None:
    texts = [
        "one two three four five six seven",
        "One two, three four five six seven!",
        "eight nine ten",
        "x" * 90,
    ]
    quotes = [quote_of(prompt_of(cut([written(text, text[:3])])[0], TWIN, NOW)) for text in texts]
    hits = Scorer("two eight", memory, TWIN, None).hits(quotes)
    assert [hit.quote.text for hit in within(hits, 5, 60)] == [texts[0], texts[2]]
    assert [hit.quote.text for hit in within(hits, 1, 60)] == [texts[0]]
    assert [hit.quote.text for hit in within(hits, 5, 200)] == [texts[0], texts[2], texts[3]]


def test_a_word_that_was_never_used_weighs_most(memory: Memory) -> None:
    known = retrieve(ask("What about the crust of sourdough?"), memory, None)
    unheard = retrieve(ask("What about the kryptonite of sourdough?"), memory, None)
    assert known.known and not unheard.known
    assert known.hits[0].score > 2 * unheard.hits[0].score


@given(st.text(max_size=200), st.text(max_size=60))
def test_scores_stay_between_0_and_1_and_sentences_are_of_the_passage(text: str, question: str) -> None:
    with Memory(Path(":memory:")) as memory:
        remember(memory)
        item = written(f"{text}.", "T")
        quotes = [quote_of(prompt_of(passage, TWIN, NOW)) for passage in cut([item])]
        for hit in Scorer(question, memory, TWIN, None).hits(quotes):
            assert 0 <= hit.score <= 1 + 1e-9
            for sentence in hit.sentences:
                assert hit.quote.text[sentence.start :].startswith(sentence.text)
                assert 0 <= sentence.score <= 1 + 1e-9
