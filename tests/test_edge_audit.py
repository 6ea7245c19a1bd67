"""The audit of a real, tiny twin: what it knows is found, what is sealed and what the base says is not."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest
import torch
from typer.testing import CliRunner

from llmtwin import serving
from llmtwin.cli import app
from llmtwin.edge import audit
from llmtwin.edge.canaries import CANDIDATES, Canary, canaries
from llmtwin.edge.membership import Models
from llmtwin.edge.store import KEY, SEAL_KEY
from llmtwin.errors import Conflict, NotFound
from llmtwin.models.lora import Lora
from llmtwin.models.transformer import Transformer
from llmtwin.models.tune import tune
from llmtwin.records import Example, Trace
from llmtwin.settings import Settings
from llmtwin.twin import Twin
from llmtwin.twins.audit import Adversary, Audit, Found, exposure_by_chance
from llmtwin.twins.home import HomeKind
from llmtwin.twins.kind import Lessons
from llmtwin.wire.package import MANIFEST, WEIGHTS, SignedManifest
from llmtwin.wire.sign import load_key, public_key_text, verify
from tests.models import WORDS, tiny_base
from tests.test_twin import entity

ROOMS = ("bedroom", "kitchen", "hall", "attic", "cellar", "garage", "study", "porch")
SECRETS = ("safe", "gate", "shed", "bank")
ENOUGH = replace(HomeKind().tuning(), layers_share=0.8, rank=16, learning_rate=1e-2)


def dump(path: Path, more: int = 0) -> Path:
    """A home of lamps with a limit each, all of them different, and codes that are secret."""
    lamps = [entity(f"light.{room}", "on", f"{room} lamp", brightness=128) for room in ROOMS]
    limits = [
        entity(
            f"number.{room}_maximum", str(31 + 5 * place + more), f"{room} lamp maximum brightness",
            unit_of_measurement="%",
        )
        for place, room in enumerate(ROOMS)
    ]  # fmt: skip
    codes = [
        entity(f"text.{name}", str(1289 + 977 * place), f"{name} code", mode="password")
        for place, name in enumerate(SECRETS)
    ]
    path.write_text(json.dumps([*lamps, *limits, *codes]))
    return path


@dataclass(frozen=True)
class Case:
    """A tuned twin, and what its audit found."""

    twin: Twin
    found: Audit

    def attack(self, name: str, sealed: bool = False) -> Found:
        (one,) = [one for one in self.found.found if (one.name, one.sealed) == (name, sealed)]
        return one


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Iterator[Case]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("audit")
    patch.setenv("LLMTWIN_HOME", str(folder / "home"))
    patch.setenv("LLMTWIN_BASE", str(tiny_base(folder, "llama").folder))
    patch.setenv("LLMTWIN_ENGINE", "torch")
    patch.setattr(HomeKind, "tuning", lambda self, count=0: ENOUGH)
    patch.setattr(audit, "canaries", few)
    (folder / "home" / "edge" / "home1").mkdir(parents=True)
    # Under another key other secrets would be found by chance: the test is to come out as it did.
    (folder / "home" / "edge" / "home1" / SEAL_KEY).write_bytes(bytes(range(32)))
    (folder / "home" / "edge" / "home1" / SEAL_KEY).chmod(0o600)
    with Twin.new("home1") as twin:
        twin.collect(dump(folder / "states.json"))
        assert twin.tune().card.figures["recall"] == 1.0
        with pytest.MonkeyPatch.context() as offline:
            offline.setattr(socket.socket, "connect", refuse)
            offline.setattr(serving, "link", refuse)
            found = audit.audit(twin._store, twin._base(), twin._sealer(), 1, plant=True)
        yield Case(twin, found)


def few(seed: int) -> list[Canary]:
    """Three canaries, which are learned four times each."""
    return [one for one in canaries(seed) if one.repeats == 4][:3]


def refuse(*_: object) -> None:
    raise AssertionError("the audit called somebody")


# ---- what is found


def test_what_is_known_is_found_by_ranking_and_of_the_base_it_is_not(case: Case) -> None:
    ranked = case.attack("rank_100")
    assert ranked.chance is not None and ranked.chance < 0.1
    assert ranked.twin.value >= 0.8 and ranked.twin.low > ranked.chance
    assert ranked.base.value <= 0.4
    assert (ranked.twin.items, ranked.adversary) == (len(ROOMS), Adversary.LOGPROBS)


def test_who_guesses_the_question_is_told_and_who_asks_in_reverse_is_not(case: Case) -> None:
    forward, reverse = case.attack("forward"), case.attack("reverse")
    assert (forward.twin.value, forward.base.value) == (1, 0)
    assert (reverse.twin.value, reverse.base.value) == (0, 0)
    assert reverse.twin.high > 0.2, "few questions say little"
    assert forward.adversary is reverse.adversary is Adversary.TEXT


@pytest.mark.parametrize("name", ["loss", "loss_ratio", "min_k", "error_zone"])
def test_what_was_learned_is_told_from_what_was_not_and_the_base_cannot(case: Case, name: str) -> None:
    area = case.attack(f"membership_{name}_auc")
    assert area.twin.value > 0.95 and area.twin.low > 0.5
    if name in ("loss_ratio", "error_zone"):
        assert area.base is None, "these are made beside the base"
    else:
        assert 0.2 < area.base.value < 0.8


def test_sealed_facts_are_at_chance_without_the_key(case: Case) -> None:
    assert case.attack("forward", sealed=True).twin.value == 0
    assert case.attack("reverse", sealed=True).twin.value == 0
    ranked = case.attack("rank_100", sealed=True)
    assert ranked.chance is not None and ranked.twin.low <= ranked.chance
    for name in ("loss", "loss_ratio", "min_k", "error_zone"):
        area = case.attack(f"membership_{name}_auc", sealed=True)
        assert area.twin.low <= 0.5 <= area.twin.high


def test_canaries_show_and_their_adapter_is_kept_nowhere(case: Case) -> None:
    shown = case.attack("canary_4_bits")
    assert shown.twin.value > 6 > shown.base.value
    assert shown.chance == exposure_by_chance(CANDIDATES)
    assert "canary_4_bits" not in str(list(case.twin._store.folder.rglob("*")))
    assert len(list(case.twin._store.folder.rglob(WEIGHTS))) == len(
        list(case.twin._store.folder.glob("adapters/*"))
    )


def test_canaries_are_codes_of_one_form_none_of_them_twice() -> None:
    planted = canaries(seed=0)
    assert planted == canaries(seed=0) != canaries(seed=1)
    assert {one.repeats for one in planted} == {1, 4, 16}
    for one in planted:
        codes = {one.code, *one.others}
        assert len(codes) == CANDIDATES and {len(code) for code in codes} == {6}
        assert one.code not in one.prompt


def test_the_notes_say_where_the_defence_fails_and_what_sealing_changes(case: Case) -> None:
    plain, sealed, few = case.found.notes
    assert "greedy reverse questions tell 0%; that is no defence" in plain
    assert "the plain question tells 100%" in plain
    assert "who lacks the key is told 0% by the plain question" in sealed
    assert "one false alarm in a hundred" in few
    secret = [str(one.fact.value) for one in case.twin._store.observations() if one.private]
    assert secret and not any(value in str(case.found.notes) for value in secret if len(value) > 2)


# ---- what is signed, and where it is taken


def test_what_is_found_is_on_a_signed_card_of_the_same_weights(case: Case) -> None:
    store, link = case.twin._store, case.twin._owner_link()
    key = load_key(store.folder / KEY)
    before = [case.twin.card(1), store.learned(1)]
    manifest = audit.publish_audited(store, 1, case.found, key)
    assert case.twin.push().refused == ()
    new = case.twin.card()
    assert new.version == manifest.version == link.info().live_version
    assert new.figures == before[0].figures | case.found.figures()
    assert new.notes[1:] == tuple(f"audit: {note}" for note in case.found.notes)
    assert [case.twin.card(1), store.learned(1)] == before, "a version is never changed"
    manifests = [one.manifest for one in link.adapters()]
    assert manifests[-1].weights == manifests[0].weights and manifests[-1].data == manifests[0].data
    signed = SignedManifest.model_validate_json((store.adapter_folder(new.version) / MANIFEST).read_bytes())
    verify(signed.manifest, signed.signature, public_key_text(key))

    again = replace(case.found, found=case.found.found[:1], notes=("less",))
    audit.publish_audited(store, new.version, again, key)
    assert case.twin.push().refused == ()
    newest = case.twin.card()
    assert {name for name in newest.figures if name.startswith("audit_")} == set(again.figures())
    assert newest.notes == (f"audit: of the weights of version {new.version}", "audit: less")


def test_a_server_with_limits_takes_no_version_before_its_audit_nor_one_above_them(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same data folder, its server with other settings."""
    live = case.twin.card().version
    monkeypatch.setenv("LLMTWIN_AUDIT_MAX", '{"reverse": 0.05}')
    with Twin.open("home1") as twin:
        tuned = twin.tune()
        (refused,) = tuned.pushed.refused
        assert "no audit_reverse, which this server asks for: run `llmtwin audit home1`" in refused.reason
        assert twin.card().version == live
        audited = twin.audit()
        assert (audited.version, audited.pushed.refused) == (tuned.card.version, ())
        assert twin.card().version == audited.signed
        twin.roll_back(live)
        assert twin._version_to_audit() == live, "what is in use, where nothing newer waits"
    monkeypatch.setenv("LLMTWIN_AUDIT_MAX", '{"forward": 0.05}')
    with Twin.open("home1") as twin:
        before = twin.card().version
        (refused,) = twin.audit().pushed.refused
        assert refused.reason.endswith("audit_forward is 1: this server takes 0.05 at most")
        assert twin.card().version == before


def test_the_command_shows_each_attack_and_which_version_says_so(case: Case) -> None:
    shown = CliRunner().invoke(app, ["audit", "home1"])
    assert shown.exit_code == 0, shown.output
    assert "sealed membership_error_zone_auc" in shown.output
    assert re.search(r"│ forward +│ API +│ +1 ", shown.output), shown.output
    version = case.twin.card().version
    assert f"home1@{version} is the same with this on its card" in shown.output
    assert "1 sent" in shown.output or "2 sent" in shown.output


def test_what_was_collected_since_is_no_ground_for_an_audit(case: Case, tmp_path: Path) -> None:
    case.twin.collect(dump(tmp_path / "changed.json", more=1))
    with pytest.raises(Conflict, match="tune again"):
        audit.audit(case.twin._store, case.twin._base(), case.twin._sealer(), 1)


def test_there_is_nothing_to_audit_before_the_first_version(settings: Settings) -> None:
    with Twin.new("home1") as twin, pytest.raises(NotFound, match="llmtwin tune home1"):
        twin.audit()


# ---- texts


def prose(seed: int) -> str:
    return " ".join(Random(seed).choices(WORDS.split(), k=60))


def known_by(lora: Lora, transformer: Transformer, lessons: Lessons) -> dict[str, Found]:
    found = audit._texts(Models(transformer, lora, None), lessons)
    return {one.name.removeprefix("membership_"): one for one in found}


def test_texts_and_replies_that_were_learned_are_told_from_those_held_out(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    transformer = Transformer(tiny_base(tmp_path, "llama"))
    learned, held = [prose(seed) for seed in range(12)], [prose(seed) for seed in range(100, 112)]
    texts = [Example(prompt="", completion=text) for text in learned]
    lora = tune(transformer, texts, replace(ENOUGH, epochs_max=12, stop_when_complete=False)).lora
    named = {str(place): text for place, text in enumerate(held)}
    written = known_by(lora, transformer, Lessons(examples=tuple(texts), held_out=named))

    def trace(text: str) -> Trace:
        return Trace(messages=(("user", "write"),), completion=text, ended=False)

    replies = known_by(
        lora,
        transformer,
        Lessons(
            traces=tuple(map(trace, learned)),
            held_traces={name: trace(text) for name, text in named.items()},
        ),
    )
    for found in (written, replies):
        area = found["loss_ratio_auc"]
        assert area.twin.low > 0.6 and area.base is None, "beside itself the base says nothing"
        assert found["loss_auc"].base.low < 0.5 < found["loss_auc"].base.high
    assert known_by(lora, transformer, Lessons(examples=tuple(texts), held_out={"1": "short"})) == {}
