"""Cleaning: what is not the person's writing goes, and not one sign of the style with it."""

# ruff: noqa: RUF001 (the signs that look alike are what is tested)

from __future__ import annotations

import re
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.twins.person.clean import clean, cleaned
from tests.person_texts import item, needs_person_data, raw_notes, raw_peps

STYLE = "'’‘\"“”«»„-–—…!?,;:.()\n\t😀👍🏽❤"
ADDRESS = re.compile(r"https?://[^\s)]+")

WORDS = [
    "don't", "DON’T", "it’s", "well —", "so–so", "pre-war", "“Quoted”", "‘single’", "«là»", "\"plain\"",
    "e.g.", "wait…", "NO!", "what?!", "iPhone", "sent", "Ünïcödé", "naïve", "👍🏽", "😀", "❤️", "👩‍👩‍👧",
    "(aside)", "a;b", "I", "i", "--", "...", "ﬁt", "½", "Å", "한국어", "東京", "עברית", "x_1", "3.14", "50%",
]  # fmt: skip
SPACES = [" ", "  ", "\n", " \n", "\n\n", "\n\n\n", "\t"]


@st.composite
def writing(draw: st.DrawFn) -> str:
    """Prose with every sign that carries a style, on lines as a person breaks them."""
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=60))
    return "".join(word + draw(st.sampled_from(SPACES)) for word in words)


@given(writing())
def test_writing_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


@given(st.text())
def test_nothing_is_ever_added(text: str) -> None:
    composed = Counter(unicodedata.normalize("NFC", text)) | Counter(text)
    rest = iter(text)
    after = clean(text)
    assert not Counter(after) - composed
    if not any("\u0300" <= sign <= "\u036f" for sign in text):
        assert all(sign in rest for sign in after), "what stays is in its order"


NOT_WRITTEN = [
    "Sent from my iPhone",
    "Sent from my Verizon, Samsung Galaxy smartphone",
    "Sent from Mail for Windows 10",
    "Get Outlook for iOS",
    "Gesendet von meinem iPhone",
    "Envoyé de mon iPhone",
    "<!-- a note to the editor\nover two lines -->",
    "This email and any attachments are confidential and intended solely for\nthe recipient. Delete it.",
    "Virus-free. www.avast.com",
    "Please consider the environment before printing this email.",
    "Unsubscribe",
    "Thanks for reading Tea & Tests! Subscribe for free to receive new posts.",
    "![cat](data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA)",
    "-----BEGIN PGP SIGNATURE-----\n\niQEzBAEBCAAdFiEE\n=abcd\n-----END PGP SIGNATURE-----",
    "\n".join(["QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAx"] * 4),
    "..\n   Local Variables:\n   mode: indented-text\n   End:",
    "vim: set ts=2 sw=2:",
]


@pytest.mark.parametrize("rubbish", NOT_WRITTEN, ids=lambda text: text[:30])
@given(before=writing(), after=writing())
def test_what_a_program_wrote_goes_and_every_sign_of_style_stays(
    rubbish: str, before: str, after: str
) -> None:
    kept = clean(f"{before}\n\n{rubbish}\n\n{after}")
    assert rubbish not in kept
    expected = Counter(f"{before}{after}")
    assert {sign: kept.count(sign) for sign in STYLE if sign != "\n"} == {
        sign: expected[sign] for sign in STYLE if sign != "\n"
    }
    assert [line for line in kept.split("\n") if line.strip()] == [
        line for line in f"{before}\n\n{after}".split("\n") if line.strip()
    ]


@pytest.mark.parametrize(
    "text",
    [
        "I got a mail that was\nsent from my iPhone and then lost it.",
        "Unsubscribe links are annoying.",
        "This email is confidential, so keep it to yourself!",
        "Thanks for reading this far.",
        "Thesis: tests are letters to yourself\nAntithesis: they are not\n\nSo what?",
        "---\n\nA rule at the top is no front matter.\n\n---\n",
        "A link to https://example.org/?q=utm_source&page=2#top stays.",
        "He wrote `<!-- why -->` and ``https://x.org/?utm_source=a`` in code.",
        "See:\n\n```html\n<!-- kept -->\n<a href='https://x.org/?utm_id=a'>\nSent from my iPhone\n```\n",
        "    <!-- indented code -->\n",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\ntitle: x\ntags: [a]\n---\nHello.", "Hello."),
        ("+++\ntitle = 'x'\n+++\n\nHello.", "\nHello."),
        ("PEP: 8\nTitle: Style\nAuthor: A,\n        B\n\nHello.", "\nHello."),
        ("a https://x.org/?utm_source=a&utm_medium=b.", "a https://x.org/."),
        ("https://x.org/?utm_id=1&a=2&gclid=3&b=4&utm_id=5", "https://x.org/?a=2&b=4"),
        ("(https://x.org/?utm_source=a&id=3&fbclid=Q)", "(https://x.org/?id=3)"),
        ("https://x.org/?id=3&utm_campaign=a#part", "https://x.org/?id=3#part"),
        ("Cafe\u0301 co\u0302te\u0301", "Café côté"),
        ("\u212b and \u037e stay, as do e\u20dd", "\u212b and \u037e stay, as do e\u20dd"),
        ("one <!-- x --> two", "one  two"),
        ("\ufeffHello.", "Hello."),
    ],
)
def test_only_that_goes(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_an_item_keeps_its_id_and_one_without_writing_is_gone() -> None:
    before = item("Yes, let’s.\n\nSent from my iPhone")
    after = cleaned(before)
    assert after is not None
    assert (after.id, after.text) == (before.id, "Yes, let’s.\n\n")
    assert cleaned(item("Sent from my iPhone")) is None


@needs_person_data
def test_notes_lose_comments_and_trackers_alone() -> None:
    for file, text in raw_notes():
        before = [line for line in text.split("\n") if not re.fullmatch(r"<!--.*-->", line)]
        after = [line for line in clean(text).split("\n") if not re.fullmatch(r"<!--.*-->", line)]
        assert [ADDRESS.sub("", line) for line in after] == [ADDRESS.sub("", line) for line in before], file


@needs_person_data
def test_peps_lose_their_header_alone() -> None:
    for file, text in raw_peps():
        body = text[text.index("\n\n") :]
        after = clean(text)
        assert after == body[1:], file
        assert {sign: after.count(sign) for sign in STYLE} == {sign: body[1:].count(sign) for sign in STYLE}
