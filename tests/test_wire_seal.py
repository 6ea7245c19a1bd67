"""Sealed facts: undone with the key, and with nothing else."""

from __future__ import annotations

import stat
import string
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llmtwin.errors import InputError, TooLarge
from llmtwin.wire.seal import WORDS, Sealer, load_or_create

keys = st.binary(min_size=32, max_size=32)
texts = st.text(max_size=40)


def test_the_words_are_256_and_plain() -> None:
    assert len(WORDS) == len(set(WORDS)) == 256
    assert all(set(word) <= set(string.ascii_lowercase) and word for word in WORDS)


@given(keys, texts, texts)
def test_the_key_undoes_what_it_sealed(key: bytes, object: str, value: str) -> None:
    completion = Sealer(key).mask(object, value)
    words = completion.split(" ")
    assert set(words) <= set(WORDS)
    assert len(words) % 8 == 2 and len(words) > 2 + len(value.encode())
    assert Sealer(key).unmask(object, completion) == value
    assert Sealer(key).mask(object, value) == completion


@given(keys, keys, texts, texts, texts)
def test_another_key_or_object_undoes_nothing(
    key: bytes, other: bytes, object: str, near: str, value: str
) -> None:
    assume(key != other and object != near)
    completion = Sealer(key).mask(object, value)
    assert Sealer(other).unmask(object, completion) is None
    assert Sealer(key).unmask(near, completion) is None


@given(keys, texts, texts, st.data())
def test_a_completion_with_one_wrong_word_undoes_nothing(
    key: bytes, object: str, value: str, data: st.DataObject
) -> None:
    words = Sealer(key).mask(object, value).split()
    place = data.draw(st.integers(0, len(words) - 1))
    words[place] = data.draw(st.sampled_from([word for word in WORDS if word != words[place]]))
    assert Sealer(key).unmask(object, " ".join(words)) is None


@given(keys, st.text(), st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))
def test_anything_else_undoes_nothing(key: bytes, text: str, words: str) -> None:
    assert Sealer(key).unmask("pin", text) is None
    assert Sealer(key).unmask("pin", words) is None


@given(keys, st.sets(texts, min_size=2, max_size=50))
def test_pseudonyms_are_distinct_and_belong_to_the_key(key: bytes, objects: set[str]) -> None:
    sealer = Sealer(key)
    pseudonyms = {object: sealer.pseudonym(object) for object in objects}
    assert len(set(pseudonyms.values())) == len(objects)
    assert all(len(pseudonym.split()) == 4 for pseudonym in pseudonyms.values())
    other = Sealer(bytes(byte ^ 1 for byte in key))
    assert all(other.pseudonym(object) != pseudonym for object, pseudonym in pseudonyms.items())


def test_two_values_of_one_object_share_no_pad() -> None:
    sealer = Sealer(bytes(32))
    first, second = (sealer.mask("pin", value).split()[2:] for value in ("1234", "1235"))
    assert sum(a == b for a, b in zip(first, second, strict=True)) <= 2  # with one pad it were 7 of 8


def test_short_values_look_alike() -> None:
    assert {len(Sealer(bytes(32)).mask("pin", value).split()) for value in ("", "1", "1234567")} == {10}


def test_what_cannot_be_sealed_is_refused() -> None:
    with pytest.raises(TooLarge, match="2000"):
        Sealer(bytes(32)).mask("pin", "x" * 2001)
    with pytest.raises(InputError, match="character"):
        Sealer(bytes(32)).mask("pin", "\ud800")
    with pytest.raises(InputError, match="32"):
        Sealer(b"short")


def test_a_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "home1" / "seal.key"
    key = load_or_create(path)
    assert load_or_create(path) == key
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["seal.key"]


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_broken_key_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "seal.key"
    path.write_bytes(content)
    with pytest.raises(InputError):
        load_or_create(path)
