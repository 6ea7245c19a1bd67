"""Traffic that keeps coming is learned in small steps: from the version in use, and behind the gate."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from llmtwin.edge.learn import learn
from llmtwin.edge.store import KEY as KEY_FILE
from llmtwin.edge.store import SEAL_KEY, EdgeStore
from llmtwin.errors import Conflict
from llmtwin.models.distil import divergences
from llmtwin.models.lora import Lora
from llmtwin.models.transformer import Transformer
from llmtwin.models.tune import Progress
from llmtwin.primary import gating, nearness
from llmtwin.records import Card
from llmtwin.serving import base
from llmtwin.settings import Settings, read_settings
from llmtwin.twin import Twin
from llmtwin.twins.model import beside
from llmtwin.twins.model.collect import Hide, exchanges, is_held_out, lessons
from llmtwin.twins.model.exchange import Exchange
from llmtwin.twins.model.kind import ModelKind
from llmtwin.wire.package import CARD, WEIGHTS
from llmtwin.wire.seal import KEY_BYTES, Sealer, load_or_create
from llmtwin.wire.sign import load_key
from tests.models import tiny_base

COUNT = 40
NEW = 10
QUICK = replace(
    ModelKind().tuning(), epochs_max=6, epochs_falling=6, learning_rate=5e-3, checkpoint_seconds=0.0
)
EPOCH = 1_770_000_000
KEY = bytes(range(KEY_BYTES))
"""Whose sessions are held out depends on the owner's key."""
GARBAGE_COUNT = 28
GARBAGE = "8 off 3 door 9 code 1 percent " * 2


def line(number: int, said: str, client: str) -> dict[str, Any]:
    return {
        "timestamp": EPOCH + number,
        "workload_id": "desk",
        "client_id": client,
        "request": {
            "model": "desk",
            "messages": [{"role": "user", "content": f"what is {number}, the {thing(number)}"}],
        },
        "response": {
            "object": "chat.completion",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            ],
        },
    }


def sentence(number: int) -> str:
    """What the primary says: it depends on what was asked."""
    return f"the {thing(number)} is on"


def thing(number: int) -> str:
    return "kitchen light" if number % 2 else "bedroom lamp"


def written(file: Path, lines: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return file


def traffic(file: Path, first: int, count: int) -> Path:
    return written(file, [line(n, sentence(n), f"customer {n}") for n in range(first, first + count)])


def of_one_client(file: Path, count: int, said: str, *, held_out: bool) -> Path:
    """One session, of a client that is held out or not."""
    hide = Hide(Sealer(KEY).stand_in_key())
    found = next(
        client
        for client in map(str, range(100))
        if is_held_out(hide(Exchange.model_validate(line(0, said, client)))) is held_out
    )
    return written(file, [line(number, said, found) for number in range(count)])


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base and a home in which a twin has its first version."""
    folder = tmp_path_factory.mktemp("steps")
    base = tiny_base(folder, "llama")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMTWIN_BASE", str(base.folder))
        patch.setenv("LLMTWIN_HOME", str(folder / "home"))
        patch.setenv("LLMTWIN_ENGINE", "torch")
        (folder / "home" / "edge" / "desk").mkdir(parents=True)
        (folder / "home" / "edge" / "desk" / SEAL_KEY).write_bytes(KEY)
        with Twin.new("desk", "model") as twin:
            twin.collect(traffic(folder / "first.jsonl", 0, COUNT))
            twin.tune(options=replace(QUICK, epochs_max=10, epochs_falling=10))
    return folder


@pytest.fixture
def own(learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    shutil.copytree(learned / "home", tmp_path / "home")
    monkeypatch.setenv("LLMTWIN_BASE", str(next(learned.glob("llama*"))))
    monkeypatch.setenv("LLMTWIN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LLMTWIN_ENGINE", "torch")
    monkeypatch.setattr(ModelKind, "tuning", lambda self, count=0: QUICK)
    return read_settings()


@pytest.fixture
def twin(own: Settings) -> Iterator[Twin]:
    with Twin.open("desk", own) as opened:
        yield opened


def long(file: Path, first: int, count: int) -> Path:
    """Replies to conversations that are longer than the base has positions."""
    lines = [line(n, sentence(n), f"customer {n}") for n in range(first, first + count)]
    for one in lines:
        one["request"]["messages"][0]["content"] *= 100
    return written(file, lines)


def weights(own: Settings, version: int) -> Path:
    return own.edge_folder / "desk" / "adapters" / str(version) / WEIGHTS


def tokens(figures: dict[str, float]) -> float:
    """How many were learned from an epoch."""
    return figures["tune_tokens_per_s"] * figures["tune_seconds"] / figures["epochs"]


def test_versions_follow_one_another_and_come_nearer_for_the_price_of_what_is_new(
    twin: Twin, own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmtwin.edge.learn.STEP_HELD_OUT_MAX", 7)
    first = twin.card().figures
    for step in range(3):
        twin.collect(traffic(tmp_path / "new.jsonl", COUNT + step * NEW, NEW))
        made = twin.watch().relearned
        assert made is not None and made.pushed.error is None
        card = made.card
        assert card.version == twin.card().version == step + 2
        went_on = re.match(r"went on from version (\d+) with (\d+) new replies", card.notes[0])
        assert went_on and int(went_on[1]) == step + 1
        new = int(went_on[2])
        assert card.figures["gate_items"] == 7
        assert 0 < new <= NEW
        # Of new replies and as many older ones each is as dear as the first were, however many there are.
        assert tokens(card.figures) / (2 * new) == pytest.approx(tokens(first) / first["examples"], rel=0.05)
    with EdgeStore(own.edge_folder / "desk") as store:
        found = lessons(store.known())
        assert store.learned(4) == set(found.learned)
    model = Transformer(base(own), torch.float32)
    versions = [Lora.load(weights(own, version).parent) for version in (1, 2, 3, 4)]
    nearer = list(map(fmean, divergences(model, list(found.held_traces.values()), versions)))
    assert nearer == sorted(nearer, reverse=True)

    twin.roll_back()
    twin.collect(traffic(tmp_path / "new.jsonl", COUNT + 3 * NEW, NEW))
    made = twin.watch().relearned
    assert made is not None and made.card.notes[0].startswith("went on from version 3")


def test_nothing_new_to_learn_is_no_step(twin: Twin, tmp_path: Path) -> None:
    twin.collect(of_one_client(tmp_path / "new.jsonl", 3, sentence(0), held_out=True))
    assert twin.watch().relearned is None
    assert twin.card().version == 1


def test_where_more_is_new_than_known_it_learns_anew(twin: Twin, tmp_path: Path) -> None:
    twin.collect(traffic(tmp_path / "new.jsonl", COUNT, COUNT + NEW))
    made = twin.watch().relearned
    assert made is not None and not made.card.notes[0].startswith("went on")
    assert tokens(made.card.figures) > 2 * tokens(twin.card(1).figures)


def test_garbage_is_kept_back_and_nothing_is_lost(twin: Twin, own: Settings, tmp_path: Path) -> None:
    twin.collect(of_one_client(tmp_path / "new.jsonl", GARBAGE_COUNT, GARBAGE, held_out=False))
    with EdgeStore(own.edge_folder / "desk") as store:
        waiting = store.unlearned()
        assert len(waiting) == GARBAGE_COUNT
        with pytest.raises(Conflict, match=r"further from the primary than version 1 .*: the version in use"):
            twin.watch()
        assert store.unlearned() == waiting
        assert store.queued_count() == 0
    assert twin.card().version == 1
    assert [folder.name for folder in weights(own, 1).parent.parent.iterdir()] == ["1"]


def test_a_step_that_was_killed_goes_on_where_it_was(twin: Twin, own: Settings, tmp_path: Path) -> None:
    twin.collect(traffic(tmp_path / "new.jsonl", COUNT, NEW))
    shutil.copytree(own.home, tmp_path / "other")
    epochs = list[int]()

    def report(now: Progress) -> None:
        epochs.append(now.epoch)
        if len(set(epochs)) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        twin.watch(report)
    assert twin.card().version == 1
    after = list[int]()
    assert twin.watch(lambda now: after.append(now.epoch)).relearned is not None
    assert (min(epochs), max(epochs), min(after)) == (1, 4, 4)
    other = own.model_copy(update={"home": tmp_path / "other"})
    with Twin.open("desk", other) as uninterrupted:
        uninterrupted.watch()
    assert weights(own, 2).read_bytes() == weights(other, 2).read_bytes()


def test_what_was_learned_says_of_itself_what_its_card_says(twin: Twin, own: Settings) -> None:
    folder = own.edge_folder / "desk"
    with EdgeStore(folder) as store:
        sealer = Sealer(load_or_create(folder / SEAL_KEY))
        found = learn(store, Transformer(base(own)), sealer, load_key(folder / KEY_FILE), QUICK)
        card = Card.model_validate_json((store.adapter_folder(found.manifest.version) / CARD).read_bytes())
        weights = store.adapter_folder(found.manifest.version) / WEIGHTS
    assert found.figures == card.figures
    assert found.figures["adapter_bytes"] == weights.stat().st_size


def test_what_is_too_long_is_left_out_of_learning_gate_and_nearness_and_counted(
    twin: Twin, own: Settings, tmp_path: Path
) -> None:
    before = gating.scores("desk", [None], own)
    twin.collect(long(tmp_path / "long.jsonl", COUNT, 2 * NEW))
    with EdgeStore(own.edge_folder / "desk") as store:
        assert beside.held_out(store.known())[-1].timestamp >= EPOCH + COUNT  # such are held out, too
    with pytest.raises(Conflict, match=rf"too long to be learned: {2 * NEW} replies were left out"):
        twin.watch()
    assert twin.watch().relearned is None  # it is told once
    assert gating.scores("desk", [None], own) == before
    assert len(nearness.measure("desk", 1, settings=own).kl_of) == len(before[0])
    twin.collect(traffic(tmp_path / "new.jsonl", COUNT + 2 * NEW, NEW))
    tuned = twin.watch().relearned
    assert tuned is not None and any("20 replies were left out" in note for note in tuned.card.notes)
    with EdgeStore(own.edge_folder / "desk") as store:
        addresses = store.learned(tuned.card.version)
        too_long = {
            at for at, one in exchanges(store.known()) if COUNT <= one.timestamp - EPOCH < COUNT + 2 * NEW
        }
    assert addresses and too_long and addresses.isdisjoint(too_long)
