"""Scripts that a tokenizer splits to bytes: no sign is ever cut, from collecting to a tuned voice."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.models.base import Base
from llmtwin.models.engine.api import Request
from llmtwin.models.engine.torch_engine import HALF, TorchEngine
from llmtwin.records import Outcome
from llmtwin.settings import Settings
from llmtwin.twin import Twin
from llmtwin.twins.kind import ALL, Lessons, kind
from llmtwin.twins.person import collect
from llmtwin.twins.person.chunks import count_words, passages, words_that_fit
from llmtwin.twins.person.lessons import WINDOW_TOKENS_MAX
from tests.models import tiny_base
from tests.person_texts import item

AMHARIC = ["ሰላም", "ዳቦ", "እንጀራ", "ቡና", "ቤት", "ውሃ", "መጽሐፍ", "ልጅ", "ከተማ", "ዝናብ", "ጸሐይ", "መንገድ"]
TIBETAN = ["བཀྲ", "ཤིས", "བདེ", "ལེགས", "རྒྱལ", "སྒྲུབ", "ཆོས", "སྐད", "བརྗོད", "བྱེད", "གངས", "རི"]


SIGNS = ("བྒྱིུ", "བ", "་", "།", " ", "\n", "a", ".", "e\u0301", "👩‍💻", "ሰ", "。")


def amharic(rng: random.Random) -> str:
    return " ".join(rng.choices(AMHARIC, k=9)) + "።"


def tibetan(rng: random.Random) -> str:
    """A hundred syllables without a blank: some 900 bytes."""
    return "་".join(rng.choices(TIBETAN, k=100)) + "།"


SCRIPTS = {"amharic": (amharic, 40), "tibetan": (tibetan, 5)}


def signs(text: str) -> list[str]:
    return regex.findall(r"\X", text)


def is_whole(part: str, text: str) -> bool:
    """Whether a part begins and ends between two signs of the text that it is of."""
    inside = {0, *(sign.end() for sign in regex.finditer(r"\X", text))}
    return any(
        start in inside and start + len(part) in inside
        for start in (found.start() for found in re.finditer(re.escape(part), text))
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(params=SCRIPTS)
def twin(
    request: pytest.FixtureRequest,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: Base,
) -> Iterator[Twin]:
    """A twin that has collected three texts of its script."""
    monkeypatch.setattr("llmtwin.serving.base", lambda settings: base)
    monkeypatch.setattr("llmtwin.edge.preferences.ANSWERS_MAX", 4)
    sentence, count = SCRIPTS[request.param]
    rng = random.Random(0)
    notes = tmp_path / "notes"
    notes.mkdir()
    for number in range(3):
        (notes / f"{number}.md").write_text("\n\n".join(sentence(rng) for _ in range(count)))
    with Twin.new("me", "person") as made:
        made.collect(notes)
        yield made


def lessons(twin: Twin, base: Base) -> Lessons:
    return kind("person").lessons(twin._store.known(), ALL, lambda text: len(base.encode(text)), bytes(32))


def test_what_is_collected_and_quoted_is_whole(twin: Twin) -> None:
    texts = [one.item.text for one in collect.written(twin._store.known())]
    assert len(texts) == 3
    said = re.split(r"[།።]", texts[0])[0]
    answer = twin.ask(f"{said[:200]}?")
    assert answer.outcome is Outcome.ANSWERED
    for line in answer.text.partition("\n\n")[0].splitlines():
        quoted = line.rpartition(" [")[0]
        assert any(is_whole(quoted, text) for text in texts)


def test_lessons_hold_whole_signs_and_fit(twin: Twin, base: Base) -> None:
    texts = [one.item.text for one in collect.written(twin._store.known())]
    learned = lessons(twin, base).examples
    assert learned
    for example in learned:
        size = len(base.encode(example.completion))
        assert size <= WINDOW_TOKENS_MAX and size > len(signs(example.completion))  # split to bytes
        assert any(is_whole(example.completion, text) for text in texts)


@pytest.mark.parametrize("twin", ["amharic"], indirect=True)
def test_a_voice_is_tuned(twin: Twin) -> None:
    figures = twin.tune().card.figures
    assert 0 < figures["bits_per_char"] < figures["bits_per_char_base"]


def test_a_completion_that_the_limit_cuts_has_no_half_sign(base: Base) -> None:
    engine = TorchEngine(base, lambda name: base.folder)
    asked = [Request("ሰላም", tokens_max=3, temperature=1.5, seed=seed) for seed in range(60)]
    cut = [one for one in engine.generate(asked) if one.finish == "length"]
    raw = [base.tokenizer.decode(list(one.token_ids), skip_special_tokens=False) for one in cut]
    assert any(text.endswith(HALF) for text in raw)
    assert not any(one.text.endswith(HALF) for one in cut)


@given(st.lists(st.sampled_from(SIGNS), max_size=60).map("".join), st.integers(16, 40))
def test_no_cut_goes_through_a_sign_and_nothing_is_lost(text: str, tokens_max: int) -> None:
    def count(part: str) -> int:
        return len(part.encode())

    parts = list(words_that_fit(text, count, tokens_max))
    assert "".join(parts) == text.lstrip()
    for part in parts:
        assert count(part) <= tokens_max or len(signs(part)) == 1
    if text.strip():
        for passage in passages(item(text), count, tokens_max):
            assert is_whole(passage.text, item(text).text)


def test_words_are_counted_where_there_are_no_blanks_between_them() -> None:
    assert count_words("It's a well-known  thing: x=1.") == 5
    assert count_words("་".join(TIBETAN) + "།") == len(TIBETAN)
    assert count_words("今天天气很好。 OK") == 7
    assert count_words("") == 0
