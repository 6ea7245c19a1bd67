"""Vectors beside prompts: the nearest against a plain reckoning, filters, forgetting, and the real model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtwin.errors import InputError, Unavailable
from llmtwin.memory import Memory
from llmtwin.memory.embed import DIMENSIONS, Embedder
from llmtwin.memory.only import Only
from llmtwin.records import Fact, Prompt
from tests.person_models import embedder, needs_embeddings

START = datetime(2026, 3, 1, tzinfo=UTC)
MODEL = "model"


def day(count: int) -> datetime:
    return START + timedelta(days=count)


def prompt(name: str, at: int = 0, twin: str = "me", text: str = "words", **facts: str) -> Prompt:
    made = tuple(Fact(path=f"{name}/{key}", value=value, at=day(at)) for key, value in facts.items())
    return Prompt(id=name, twin=twin, text=text, facts=made, at=day(at))


def unit(*numbers: float) -> np.ndarray:
    vector = np.asarray(numbers, np.float32)
    return vector / np.linalg.norm(vector)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory(tmp_path / "memory.sqlite") as memory:
        yield memory


kinds = st.sampled_from(("mail", "blog", 'odd "*?[ë'))
written = st.lists(st.tuples(kinds, st.integers(0, 6), st.integers(0, 2**16)), max_size=12)
times = st.none() | st.integers(0, 6).map(day)
filters = st.builds(
    Only,
    since=times,
    until=times,
    facts=st.dictionaries(
        st.sampled_from(("source", "audience")), st.none() | st.lists(kinds, max_size=2), max_size=2
    ),
)


def admits(only: Only, prompt: Prompt) -> bool:
    facts = {fact.path.partition("/")[2]: fact.value for fact in prompt.facts}
    return (
        (only.since is None or only.since <= prompt.at)
        and (only.until is None or prompt.at < only.until)
        and all(
            name in facts and (values is None or facts[name] in values) for name, values in only.facts.items()
        )
    )


@settings(max_examples=60)
@given(written=written, only=filters, limit=st.integers(1, 6))
def test_search_and_nearest_find_what_the_filter_admits_and_nothing_else(
    written: list[tuple[str, int, int]], only: Only, limit: int
) -> None:
    prompts = [prompt(f"p{n}", at, source=kind) for n, (kind, at, _) in enumerate(written)]
    vectors = {
        f"p{n}": unit(*np.random.default_rng(seed).normal(size=4)) for n, (_, _, seed) in enumerate(written)
    }
    asked = unit(1, 2, 3, 4)
    with tempfile.TemporaryDirectory() as folder, Memory(Path(folder) / "memory.sqlite") as memory:
        memory.append([*prompts, prompt("other", twin="you", source="mail")])
        memory.embed(MODEL, {**vectors, "other": asked})
        admitted = {one.id: float(vectors[one.id] @ asked) for one in prompts if admits(only, one)}
        assert {one.id for one in memory.search("me", "words", 20, only)} == set(admitted)
        found = memory.nearest("me", MODEL, asked, limit, only)
        assert [cosine for _, cosine in found] == pytest.approx(
            sorted(admitted.values(), reverse=True)[:limit], abs=1e-6
        )
        for one, cosine in found:
            assert cosine == pytest.approx(admitted[one.id], abs=1e-6)


def test_what_has_no_vector_of_this_model_is_named_until_it_has(memory: Memory) -> None:
    memory.append([prompt("a"), prompt("b"), prompt("c", twin="you")])
    assert [one.id for one in memory.unembedded("me", MODEL, 5)] == ["a", "b"]
    assert [one.id for one in memory.unembedded("me", MODEL, 1)] == ["a"]
    memory.embed("older", {"a": unit(1, 0)})
    assert [one.id for one in memory.unembedded("me", MODEL, 5)] == ["a", "b"]
    memory.embed(MODEL, {"a": unit(1, 0), "b": unit(0, 1)})
    assert memory.unembedded("me", MODEL, 5) == []
    assert memory.nearest("me", "older", unit(1, 0)) == []


def test_vectors_of_another_length_are_refused(memory: Memory) -> None:
    memory.append([prompt("a")])
    memory.embed(MODEL, {"a": unit(1, 0)})
    with pytest.raises(InputError, match="3 numbers"):
        memory.nearest("me", MODEL, unit(1, 0, 0))


def test_a_forgotten_prompt_takes_its_vector_with_it_from_memory_and_disk(
    memory: Memory, tmp_path: Path
) -> None:
    def on_disk(vector: np.ndarray) -> bool:
        return any(vector.tobytes() in file.read_bytes() for file in tmp_path.iterdir())

    kept, gone = (unit(*np.random.default_rng(seed).normal(size=384)) for seed in (1, 2))
    memory.append([prompt("kept", title="one"), prompt("gone", title="two")])
    memory.embed(MODEL, {"kept": kept, "gone": gone})
    assert [one.id for one, _ in memory.nearest("me", MODEL, gone)] == ["gone", "kept"]
    assert on_disk(gone)
    memory.forget("me", "gone/title")
    assert [one.id for one, _ in memory.nearest("me", MODEL, gone)] == ["kept"]
    assert not on_disk(gone)
    assert on_disk(kept)
    memory.embed(MODEL, {"gone": gone})  # it was being embedded while it was forgotten
    assert not on_disk(gone)


def test_another_process_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "memory.sqlite"
    with Memory(path) as one, Memory(path) as other:
        one.append([prompt("a"), prompt("b")])
        one.embed(MODEL, {"a": unit(1, 0)})
        assert len(other.nearest("me", MODEL, unit(1, 0))) == 1
        one.embed(MODEL, {"b": unit(0, 1)})
        assert len(other.nearest("me", MODEL, unit(1, 0))) == 2


def test_values_and_frequencies_are_of_this_twin_alone(memory: Memory) -> None:
    memory.append(
        [
            prompt("a", text="The tests are running.", source="mail"),
            prompt("b", text="We test it.", source="blog"),
            prompt("c", text="test", twin="you", source="chat"),
        ]
    )
    assert memory.values("me", "source") == ["blog", "mail"]
    assert memory.values("me", "s*") == []
    assert memory.frequencies("me", ["testing", "run", "zebra", "*"]) == {"testing": 2, "run": 1, "zebra": 0}
    assert (memory.count("me"), memory.count("me", Only(facts={"source": ["mail"]}))) == (2, 1)


# --- the model -------------------------------------------------------------------------------------------


@needs_embeddings
def test_like_sentences_are_near_and_each_text_has_its_own_unit_vector() -> None:
    texts = ["A cat sits on a mat.", "Stock markets fell. " * 200, "There is a cat on the rug.", ""]
    vectors = embedder().embed(texts)
    assert vectors.shape == (4, DIMENSIONS)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[2] > 0.5 > 0.2 > vectors[0] @ vectors[1]
    for at, text in enumerate(texts):  # what is embedded with it changes nothing
        assert embedder().embed([text])[0] == pytest.approx(vectors[at], abs=1e-5)
    assert embedder().embed([]).shape == (0, DIMENSIONS)


@needs_embeddings
def test_a_folder_serves_as_well_as_the_packages(tmp_path: Path) -> None:
    from llmtwin.memory.embed import MODEL, TOKENIZER, _files

    for name, file in zip((MODEL, TOKENIZER), _files(None), strict=True):
        (tmp_path / name).symlink_to(file)
    given = Embedder(tmp_path)
    assert given.name == embedder().name
    assert np.array_equal(given.embed(["one"]), embedder().embed(["one"]))


def test_no_model_is_said_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="make person"):
        Embedder(tmp_path)
    for name in ("model.onnx", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(Unavailable, match="cannot be loaded") as caught:
        Embedder(tmp_path)
    assert "\n" not in str(caught.value)
