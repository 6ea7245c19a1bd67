"""Measures of a pair of replies: what is alike, what differs, what cannot be said, and a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.errors import InputError
from llmtwin.memory.embed import Vectors
from llmtwin.twins.model.logprobs import NotComparable
from llmtwin.twins.model.measures import (
    Better,
    CheckDifference,
    EmbeddingDistance,
    ExactMatch,
    FollowsSchema,
    Function,
    LengthRatio,
    Matches,
    Measure,
    NormalisedMatch,
    TokenDivergence,
    normalised,
    refuses,
)
from llmtwin.twins.model.reply import Reply, Token

SURE, HALF = Token("a", 0.0, {"a": 0.0}), Token("a", log(0.5), {"a": log(0.5), "b": log(0.5)})
AGE = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


class Letters:
    """Embeds a text as how often it has a, b and c."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        counts = np.array([[text.count(sign) for sign in "abc"] for text in texts], np.float32)
        unit: Vectors = counts / np.linalg.norm(counts, axis=1, keepdims=True)
        return unit


MEASURES: list[Measure] = [
    ExactMatch(),
    NormalisedMatch(),
    EmbeddingDistance(Letters()),
    LengthRatio(),
    LengthRatio("tokens"),
    TokenDivergence("js", "low"),
    TokenDivergence("kl", "high"),
    CheckDifference("refusal", refuses),
    CheckDifference("json", FollowsSchema(AGE)),
]


@pytest.mark.parametrize("measure", MEASURES, ids=lambda one: one.name)
def test_a_reply_is_like_itself(measure: Measure) -> None:
    reply = Reply("aab c", (HALF, SURE))
    assert measure.score(reply, reply) == pytest.approx(float(measure.better is Better.HIGHER), abs=1e-6)


@given(st.text(), st.text())
def test_the_same_is_the_same_when_normalised_and_normalising_twice_is_once(one: str, other: str) -> None:
    assert normalised(normalised(one)) == normalised(one)
    exact, alike = (kind().score(Reply(one), Reply(other)) for kind in (ExactMatch, NormalisedMatch))
    assert exact <= alike


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Hello,  World!", "hello world", True),
        ("\ufb01ne \u2460", "fine 1", True),
        ("STRASSE", "stra\u00dfe", True),
        ("don\u2019t", "don't", True),
        ("5 euros", "6 euros", False),
        ("now here", "nowhere", False),
    ],
)
def test_what_counts_as_the_same(one: str, other: str, alike: bool) -> None:
    assert NormalisedMatch().score(Reply(one), Reply(other)) == alike
    assert ExactMatch().score(Reply(one), Reply(other)) == 0


def test_other_tool_calls_are_no_exact_match() -> None:
    assert ExactMatch().score(Reply("", tool_calls=(("pay", "{}"),)), Reply("")) == 0


def test_distances_by_hand() -> None:
    assert EmbeddingDistance(Letters()).score(Reply("aa"), Reply("b")) == pytest.approx(1)
    assert EmbeddingDistance(Letters()).score(Reply(" "), Reply("b")) is None
    assert EmbeddingDistance(Letters()).score(Reply("abbc"), Reply("cabb")) == 0
    assert LengthRatio().score(Reply("abc"), Reply("a")) == pytest.approx(log(2))
    assert LengthRatio().score(Reply("a"), Reply("abc")) == pytest.approx(log(2))
    assert LengthRatio("tokens").score(Reply("a", (SURE,)), Reply("a")) is None
    pair = Reply("aa", (SURE, SURE)), Reply("aa", (SURE, HALF))
    assert TokenDivergence("kl", "low").score(*pair) == pytest.approx(log(2) / 2)
    assert TokenDivergence("kl", "high").score(pair[1], pair[0]) is None
    assert TokenDivergence().score(Reply("aa"), pair[1]) is None
    with pytest.raises(NotComparable, match="place 1"):
        TokenDivergence().score(pair[0], Reply("a", (SURE,)))


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I\u2019m sorry, but I can't help with that.", True),
        ("Unfortunately, I am unable to open accounts.", True),
        ("I cannot do that.", True),
        ("You cannot return it after 30 days. I can't help noticing it is late.", False),
        ("Sorry for the wait! Your order is on its way.", False),
    ],
)
def test_refusals_by_their_opening(text: str, refused: bool) -> None:
    assert refuses(Reply(text)) == refused
    assert refuses(Reply("Sure.", refused=True)) == 1


@pytest.mark.parametrize(
    ("text", "passes"), [('{"age": 3}', 1), ('{"age": "3"}', 0), ("{", 0), ("[" * 9999, 0)]
)
def test_json_by_a_schema(text: str, passes: int) -> None:
    assert FollowsSchema(AGE)(Reply(text)) == passes
    difference = CheckDifference("json", FollowsSchema(AGE)).score(Reply('{"age": 3}'), Reply(text))
    assert difference == 1 - passes


def test_bad_schemas_and_patterns_are_named() -> None:
    with pytest.raises(InputError, match="no JSON schema"):
        FollowsSchema({"type": "nonsense"})(Reply("{}"))
    with pytest.raises(InputError, match="refers to what is not in it"):
        FollowsSchema({"$ref": "http://localhost:1/other"})(Reply("{}"))
    with pytest.raises(InputError, match="no regular expression"):
        Matches("(")
    assert [Matches(r"\bEUR \d+")(Reply(text)) for text in ("It is EUR 5.", "It is 5.")] == [1, 0]


def test_a_users_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "def short(text):\n    return len(text) < 4\ndef bad(text):\n    return 1 / 0\nodd = lambda text: 7\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for where in (f"{file}:short", "own:short"):
        assert [Function(where)(Reply(text)) for text in ("abc", "abcd")] == [1, 0]
    for where, said in (
        (f"{file}:bad", "ZeroDivisionError"),
        (f"{file}:odd", "returned 7"),
        (f"{file}:none", "no function none"),
        ("own", "names no function"),
        ("no.such:one", "cannot be loaded"),
        (f"{tmp_path}/not.py:one", "cannot be loaded"),
    ):
        with pytest.raises(InputError, match=said):
            Function(where)(Reply("abc"))
