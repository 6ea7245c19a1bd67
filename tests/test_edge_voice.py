"""A voice on held-out texts, on a small random base: what a card says of it, and what it is compared with."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llmtwin.edge.publish import Tuned, publish
from llmtwin.edge.store import EdgeStore, Settings
from llmtwin.edge.voice import InUse, find, hear
from llmtwin.errors import Conflict
from llmtwin.models.base import Base
from llmtwin.models.likelihood import Bits, raw, score
from llmtwin.models.lora import Lora
from llmtwin.models.transformer import Transformer
from llmtwin.models.tune import TuneOptions, tune
from llmtwin.records import Description, Example
from llmtwin.wire.sign import new_key
from tests.models import WORDS, tiny_base


def prose(seed: int, words: int = 120) -> str:
    return " ".join(random.Random(seed).choices(WORDS.split(), k=words))


HELD_OUT = {f"{number}.md": prose(number) for number in range(8)}
LEARNED = [Example(prompt="", completion=prose(seed)) for seed in range(100, 116)]
GENTLE = TuneOptions(epochs_max=1, learning_rate=2e-4, stop_when_complete=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(scope="module")
def transformer(base: Base) -> Transformer:
    torch.set_num_threads(1)
    return Transformer(base)


@pytest.fixture(scope="module")
def gentle(transformer: Transformer) -> Lora:
    return tune(transformer, LEARNED, GENTLE).lora


@pytest.fixture(scope="module")
def well(transformer: Transformer) -> Lora:
    return tune(transformer, LEARNED, replace(GENTLE, epochs_max=3, learning_rate=4e-3)).lora


@pytest.fixture(scope="module")
def foreign(transformer: Transformer) -> Lora:
    """It has learned to write something else."""
    other = [Example(prompt="", completion="zzz " * 100)] * 4
    return tune(transformer, other, replace(GENTLE, epochs_max=20, learning_rate=0.1)).lora


def test_a_voice_better_than_the_base_passes_and_its_card_says_by_how_much(
    transformer: Transformer, well: Lora
) -> None:
    heard = hear(transformer, HELD_OUT, well, None)
    assert heard.notes == ("held-out text against the base: pass",)
    rows = [raw(transformer, text) for text in HELD_OUT.values()]
    whole = map(Bits.total, score(transformer, rows, [None, well]))
    figures = [heard.figures[name] for name in ("bits_per_char_base", "bits_per_char")]
    assert figures == [cost.per_character for cost in whole]
    assert 0 < heard.figures["gate_difference_low"] < heard.figures["gate_difference"]
    assert heard.figures["gate_items"] >= len(HELD_OUT)


def test_a_better_version_passes_and_the_worse_one_is_kept_back_with_its_figures(
    transformer: Transformer, gentle: Lora, well: Lora
) -> None:
    heard = hear(transformer, HELD_OUT, well, InUse(1, gentle, frozenset()))
    assert heard.notes == ("held-out text against version 1: pass",)
    lost = heard.figures["gate_difference"]
    with pytest.raises(Conflict, match=rf"{lost:.3f} .* more than version 2 .*: the version in use stays$"):
        hear(transformer, HELD_OUT, gentle, InUse(2, well, frozenset()))


def test_a_first_voice_that_is_worse_than_the_base_is_kept_back(
    transformer: Transformer, foreign: Lora
) -> None:
    with pytest.raises(Conflict, match=r"more than the base .*: it is not published$"):
        hear(transformer, HELD_OUT, foreign, None)


def test_only_texts_that_the_rival_never_learned_count(
    transformer: Transformer, gentle: Lora, well: Lora
) -> None:
    alone = {at: hear(transformer, {at: text}, gentle, None) for at, text in HELD_OUT.items()}
    for learned in (None, frozenset(HELD_OUT), frozenset(list(HELD_OUT)[1:])):
        heard = hear(transformer, HELD_OUT, gentle, InUse(3, well, learned))
        assert heard.notes == ("held-out text against version 3: inconclusive",)
        fair = [] if learned is None else HELD_OUT.keys() - learned
        assert heard.figures["gate_items"] == sum(alone[at].figures["gate_items"] for at in fair)
    with pytest.raises(Conflict, match="version 3"):
        hear(transformer, HELD_OUT, gentle, InUse(3, well, frozenset(list(HELD_OUT)[:1])))


def test_without_held_out_text_nothing_is_said(transformer: Transformer, well: Lora) -> None:
    assert hear(transformer, {}, well, None).notes == ()
    assert hear(transformer, {"short.md": "4"}, well, None).figures == {"gate_items": 0, "gate_difference": 0}


def test_the_version_in_use_is_the_one_that_is_here_and_for_this_base(
    tmp_path: Path, base: Base, gentle: Lora
) -> None:
    with EdgeStore(tmp_path / "me") as store:
        store.save_settings(Settings(twin="me", kind="person"))
        gentle.save(tmp_path / "made", base.name)
        made = Tuned(tmp_path / "made", base=base.hash, data="0" * 64)
        version = publish(store, made, new_key(tmp_path / "key.pem"), Description()).version
        found = find(store, version, base)
        assert found is not None and (found.version, found.learned) == (version, None)
        assert all(torch.equal(found.lora.b[key], gentle.b[key]) for key in gentle.b)
        store.note_learned(version, ["a.md", "b.md"], [])
        found = find(store, version, base)
        assert found is not None and found.learned == {"a.md", "b.md"}
        assert find(store, None, base) is None
        assert find(store, version + 1, base) is None
        assert find(store, version, tiny_base(tmp_path, "llama", seed=1)) is None
