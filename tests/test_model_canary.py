"""A version on a share of the sessions: a bad one is taken back by itself, a good one stays and goes live."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from llmtwin.cli import app
from llmtwin.edge import mirrored, publish
from llmtwin.edge.audit import publish_audited
from llmtwin.edge.likeness import compare
from llmtwin.edge.link import Link
from llmtwin.edge.store import KEY, EdgeStore
from llmtwin.errors import Conflict, InputError, NotFound, Unavailable, Untrusted
from llmtwin.models.base import Base
from llmtwin.models.distil import distil
from llmtwin.models.lora import Lora
from llmtwin.models.transformer import Transformer
from llmtwin.primary import canary, carding, gating, nearness
from llmtwin.primary.gating import Action
from llmtwin.primary.place import open_link
from llmtwin.settings import Settings
from llmtwin.twin import Twin
from llmtwin.twins.audit import Adversary, Audit, Found
from llmtwin.twins.gate import Verdict
from llmtwin.twins.intervals import Estimate
from llmtwin.twins.kind import Lessons
from llmtwin.twins.model.collect import is_held_out, trace_of
from llmtwin.twins.model.exchange import EXCHANGES, Exchange, append
from llmtwin.twins.model.kind import ModelKind
from llmtwin.twins.sessions import sampled, session_means, session_of
from llmtwin.wire.sign import load_key
from tests.models import tiny_base

ENOUGH = 16
"""Held-out sessions after which the gate tells the learned version from one that learned nothing."""
QUICK = replace(ModelKind().tuning(), epochs_max=12, epochs_falling=12, learning_rate=5e-3)


def exchange(number: int, said: str = "the lamp is on") -> Exchange:
    message = {"role": "assistant", "content": said}
    return Exchange(
        timestamp=1_770_000_000 + 60 * number,
        workload_id="desk",
        client_id=f"client {number}",
        request={"messages": [{"role": "user", "content": f"what is lamp {number}"}], "max_tokens": 8},
        response={"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]},
    )


EXCHANGES_ALL = [exchange(number) for number in range(30 * ENOUGH)]
HELD_OUT = [one for one in EXCHANGES_ALL if is_held_out(one)]
LEARNED = [one for one in EXCHANGES_ALL if not is_held_out(one)]


@dataclass(frozen=True)
class Adapters:
    """A base, an adapter that learned what the primary says, and one that learned nothing."""

    base: Base
    learned: Lora
    nothing: Lora


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Adapters:
    model = Transformer(tiny_base(tmp_path_factory.mktemp("base"), "llama"))
    traces = [trace for trace in map(trace_of, LEARNED[:16]) if trace]
    nothing = Lora.fresh(model.config, QUICK.rank, model.config.first_of(QUICK.layers_share), 0)
    return Adapters(model.base, distil(model, traces, QUICK).lora, nothing)


@dataclass
class Desk:
    """A twin of a model, what of its primary's traffic is on record, and its line to the server."""

    twin: Twin
    store: EdgeStore
    own: Settings
    link: Link
    base: Base
    passed: list[Exchange]

    def record(self, sessions: int) -> None:
        """That many more held-out sessions pass."""
        for one in HELD_OUT[len(self.passed) :][:sessions]:
            self.passed.append(self.goes_on(one))

    def goes_on(self, one: Exchange) -> Exchange:
        """A session passes, or goes on, now."""
        folder = mirrored.folder(self.store)
        folder.mkdir(exist_ok=True)
        now = one.model_copy(update={"timestamp": time.time()})
        append(folder / EXCHANGES, now)
        mirrored.take(self.store)
        return now

    def publish(self, lora: Lora) -> int:
        """The next version, pushed."""
        with tempfile.TemporaryDirectory(dir=self.store.folder) as scratch:
            lora.save(Path(scratch), self.base.name)
            made = publish.Tuned(Path(scratch), self.base.hash, "0" * 64, figures={"loss": 0.5})
            key = load_key(self.store.folder / KEY)
            version = publish.publish(self.store, made, key, self.store.description()).version
        known = self.store.known().documents
        self.store.note_learned(version, [one.address for one in known][:3], known)
        assert self.twin.push().error is None
        return version

    def actions(self) -> list[str]:
        """What was done with each verdict so far."""
        return [entry["action"] for entry in gating.decisions(self.store).verify().entries]

    def answering(self) -> tuple[int | None, int | None]:
        """The live version and the canary."""
        info = self.link.info()
        return info.live_version, info.canary_version


@pytest.fixture
def desk(settings: Settings, adapters: Adapters, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    folder = str(adapters.base.folder)
    monkeypatch.setenv("LLMTWIN_BASE", folder)
    monkeypatch.setenv("LLMTWIN_ENGINE", "torch")
    own = settings.model_copy(update={"base": folder, "engine": "torch"})
    with Twin.new("desk", "model", settings=own) as twin, EdgeStore(own.edge_folder / "desk") as store:
        yield Desk(twin, store, own, open_link(store, own), adapters.base, [])


def test_a_bad_canary_is_taken_back_by_itself(desk: Desk, adapters: Adapters) -> None:
    desk.record(3)
    good, bad = desk.publish(adapters.learned), desk.publish(adapters.nothing)
    begun = canary.begin("desk", bad, 0.3, desk.own)
    assert (begun.found.verdict, begun.in_use, desk.answering()) == (Verdict.INCONCLUSIVE, good, (good, bad))
    desk.record(ENOUGH)
    looked = canary.look("desk", desk.own)
    assert looked and (looked.found.verdict, looked.action) == (Verdict.FAIL, Action.ROLL_BACK)
    assert looked.found.items == ENOUGH
    assert desk.answering() == (good, None)
    assert canary.look("desk", desk.own) is None
    assert desk.actions() == ["canary", "rollback"]
    entries = gating.decisions(desk.store).read().entries
    assert entries[0]["share"] == 0.3 and entries[1]["verdict"] == "fail" and entries[1]["in_use"] == good


def test_a_watch_takes_it_back_and_says_so(desk: Desk, adapters: Adapters) -> None:
    desk.record(ENOUGH)
    good, bad = desk.publish(adapters.learned), desk.publish(adapters.nothing)
    desk.link.set_canary(bad, 0.3)
    said = CliRunner().invoke(app, ["watch", "desk", "--once"], catch_exceptions=False).output
    assert f"desk@{bad} is taken back: desk@{good} is live" in said.splitlines()
    assert desk.answering() == (good, None) and desk.actions() == ["rollback"]


def test_a_watch_outlives_a_look_that_fails(
    desk: Desk, adapters: Adapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = desk.publish(adapters.learned), desk.publish(adapters.nothing)
    desk.link.set_canary(bad, 0.3)
    with pytest.raises(InputError, match="no session is held out yet"):
        CliRunner().invoke(app, ["watch", "desk", "--once"], catch_exceptions=False)
    looks = count(1)

    def sleep(seconds: float) -> None:
        if next(looks) == 2:
            raise KeyboardInterrupt
        desk.record(ENOUGH)

    monkeypatch.setattr("time.sleep", sleep)
    said = CliRunner().invoke(app, ["watch", "desk"]).output
    assert "this look failed: no session is held out yet" in said
    assert f"desk@{bad} is taken back: desk@{good} is live" in said.splitlines()
    assert desk.answering() == (good, None)


def test_a_good_canary_stays_and_is_promoted_once_it_passes(desk: Desk, adapters: Adapters) -> None:
    desk.record(3)
    first, good = desk.publish(adapters.nothing), desk.publish(adapters.learned)
    canary.begin("desk", good, 0.3, desk.own)
    with pytest.raises(Conflict, match=r"desk@2 does not go live .* INCONCLUSIVE over 3 held-out"):
        canary.promote("desk", good, desk.own)
    desk.record(ENOUGH)
    looked = canary.rule("desk", good, settings=desk.own)
    assert (looked.found.verdict, looked.in_use, looked.action) == (Verdict.PASS, first, Action.NONE)
    assert desk.answering() == (first, good)
    assert canary.promote("desk", good, desk.own).action is Action.PROMOTE
    assert desk.answering() == (good, None)
    still = canary.look("desk", desk.own)
    assert still and (still.candidate, still.in_use, still.action) == (good, first, Action.NONE)
    assert desk.answering() == (good, None)
    assert desk.actions() == ["canary", "refuse", "none", "promote", "none"]


def test_a_promoted_version_that_fails_later_is_rolled_back(desk: Desk, adapters: Adapters) -> None:
    desk.record(3)
    good, bad = desk.publish(adapters.learned), desk.publish(adapters.nothing)
    gating.keep(desk.store, bad, good, gating.judge(desk.store, bad, good, desk.own), Action.PROMOTE)
    # What let it go live does not count; of a session that had begun by then, what it says since does.
    for passed in (0, 1):
        looked = canary.look("desk", desk.own)
        assert looked and looked.action is Action.NONE and desk.answering() == (bad, None)
        assert looked.found.items == passed
        desk.goes_on(desk.passed[0])
    desk.record(ENOUGH)
    looked = canary.look("desk", desk.own)
    assert looked and looked.action is Action.ROLL_BACK and desk.answering() == (good, None)
    assert looked.found.items == 1 + ENOUGH
    # Whoever makes it live again by hand is not overruled.
    desk.twin.roll_back(bad)
    assert canary.look("desk", desk.own) is None


def test_what_speaks_against_a_version_on_trial_counts_for_a_larger_share_too(
    desk: Desk, adapters: Adapters
) -> None:
    """The primary says something else since it is on trial, which the version in use has learned."""
    dark = [exchange(number, "it is dark") for number in range(len(EXCHANGES_ALL))]
    traces = [trace for trace in map(trace_of, dark[:16]) if trace]
    in_use = desk.publish(distil(Transformer(adapters.base), traces, QUICK).lora)
    tried = desk.publish(adapters.learned)
    desk.record(3 * ENOUGH)
    assert canary.begin("desk", tried, 0.3, desk.own).found.verdict is Verdict.PASS
    held = [one for one in dark if is_held_out(one)][-ENOUGH:]
    desk.goes_on(held[0])
    assert canary.begin("desk", tried, 0.5, desk.own).found.verdict is Verdict.PASS
    for one in held[1:]:
        desk.goes_on(one)
    for decide in (partial(canary.begin, share=0.9), canary.promote):
        with pytest.raises(Conflict, match=f"FAIL over {ENOUGH} held-out sessions"):
            decide("desk", tried, settings=desk.own)
    looked = canary.look("desk", desk.own)
    assert looked and (looked.action, looked.found.items) == (Action.ROLL_BACK, ENOUGH)
    assert desk.answering() == (in_use, None)
    # Once it was taken back, another trial begins.
    assert canary.begin("desk", tried, 0.3, desk.own).found.items == 4 * ENOUGH


def spoil_log(desk: Desk, damage: str) -> str:
    """Make the log one that cannot be written or read; how that is told."""
    log = desk.store.folder / gating.DECISIONS
    if damage == "unwritable":
        log.symlink_to(desk.store.folder / "none" / "log")
        return "cannot be written"
    log.write_text("{}\n")
    return "line 1 is no line of this log"


@pytest.mark.parametrize("damage", ["unwritable", "changed"])
def test_what_cannot_be_logged_does_not_go_live(desk: Desk, adapters: Adapters, damage: str) -> None:
    desk.record(ENOUGH)
    first, good = desk.publish(adapters.nothing), desk.publish(adapters.learned)
    desk.twin.roll_back(first)
    told = spoil_log(desk, damage)
    for decide in (partial(canary.begin, share=0.3), canary.promote):
        with pytest.raises((Unavailable, Untrusted), match=told):
            decide("desk", good, settings=desk.own)
        assert desk.answering() == (first, None)


@pytest.mark.parametrize("damage", ["unwritable", "changed"])
def test_a_bad_canary_is_taken_back_whatever_became_of_the_log(
    desk: Desk, adapters: Adapters, damage: str
) -> None:
    desk.record(ENOUGH)
    good, bad = desk.publish(adapters.learned), desk.publish(adapters.nothing)
    desk.link.set_canary(bad, 0.3)
    with pytest.raises((Unavailable, Untrusted), match=spoil_log(desk, damage)):
        canary.look("desk", desk.own)
    assert desk.answering() == (good, None)


@pytest.mark.parametrize("done", [False, True])
def test_what_the_server_did_not_confirm_is_a_line_and_what_is_live_stays_on_trial(
    desk: Desk, adapters: Adapters, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    """The answer of the server is lost, whether it did as it was told or not."""

    def lost(link: Link, version: int | None = None) -> None:
        if done:
            roll_back(link, version)
        raise Unavailable("the server cannot be reached")

    roll_back = Link.roll_back
    desk.record(ENOUGH)
    first, good = desk.publish(adapters.nothing), desk.publish(adapters.learned)
    desk.twin.roll_back(first)
    with monkeypatch.context() as patch:
        patch.setattr(Link, "roll_back", lost)
        with pytest.raises(Unavailable, match="cannot be reached"):
            canary.promote("desk", good, desk.own)
    assert desk.actions() == ["promote", "unconfirmed"]
    assert gating.decisions(desk.store).read().entries[-1]["why"] == "the server cannot be reached"
    assert desk.answering() == ((good if done else first), None)
    assert bool(canary.look("desk", desk.own)) is done


def test_a_rollback_that_the_server_did_not_confirm_is_tried_again(
    desk: Desk, adapters: Adapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(link: Link, version: int | None = None) -> None:
        raise KeyboardInterrupt

    desk.record(3)
    good, bad = desk.publish(adapters.learned), desk.publish(adapters.nothing)
    gating.keep(desk.store, bad, good, gating.judge(desk.store, bad, good, desk.own), Action.PROMOTE)
    desk.record(ENOUGH)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Link, "roll_back", lost)
        canary.look("desk", desk.own)
    assert desk.answering() == (bad, None)
    looked = canary.look("desk", desk.own)
    assert looked and looked.action is Action.ROLL_BACK and desk.answering() == (good, None)
    assert desk.actions() == ["promote", "unconfirmed", "rollback"]


def test_a_rollback_of_which_the_answer_was_lost_is_found_done(
    desk: Desk, adapters: Adapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(link: Link, version: int | None = None) -> None:
        assert desk.actions() == ["promote"], "what ends here has no line of what it did not do"
        roll_back(link, version)
        raise Unavailable("the server cannot be reached")

    roll_back = Link.roll_back
    desk.record(3)
    good, bad = desk.publish(adapters.learned), desk.publish(adapters.nothing)
    gating.keep(desk.store, bad, good, gating.judge(desk.store, bad, good, desk.own), Action.PROMOTE)
    desk.record(ENOUGH)
    with monkeypatch.context() as patch, pytest.raises(Unavailable, match="cannot be reached"):
        patch.setattr(Link, "roll_back", lost)
        canary.look("desk", desk.own)
    assert canary.look("desk", desk.own) is None and desk.answering() == (good, None)
    assert desk.actions() == ["promote", "unconfirmed", "rollback"]
    # Whoever makes it live again by hand is not overruled.
    desk.twin.roll_back(bad)
    assert canary.look("desk", desk.own) is None


def test_a_bad_version_is_let_before_nobody(desk: Desk, adapters: Adapters) -> None:
    desk.record(ENOUGH)
    good, bad = desk.publish(adapters.learned), desk.publish(adapters.nothing)
    desk.twin.roll_back(good)
    refused = f"desk@{bad} does not go live in place of desk@{good}: FAIL"
    with pytest.raises(Conflict, match=refused):
        canary.begin("desk", bad, 0.3, desk.own)
    with pytest.raises(Conflict, match=refused):
        canary.promote("desk", bad, desk.own)
    assert desk.answering() == (good, None) and desk.actions() == ["refuse", "refuse"]


def test_a_canary_that_cannot_be_is_refused(desk: Desk, adapters: Adapters) -> None:
    desk.record(3)
    first = desk.publish(adapters.nothing)
    with pytest.raises(Conflict, match="only version"):
        canary.begin("desk", first, 0.3, desk.own)
    with pytest.raises(NotFound, match="no version 9 of desk"):
        canary.begin("desk", 9, 0.3, desk.own)
    with pytest.raises(InputError, match="between 0 and 1"):
        canary.begin("desk", first, 1.0, desk.own)
    second, third = desk.publish(adapters.nothing), desk.publish(adapters.nothing)
    desk.link.set_canary(second, 0.3)
    with pytest.raises(Conflict, match=f"desk@{second} is on trial"):
        canary.begin("desk", third, 0.3, desk.own)
    assert desk.actions() == []


def test_what_became_live_while_it_was_judged_is_not_undone(
    desk: Desk, adapters: Adapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.record(ENOUGH)
    first, good = desk.publish(adapters.nothing), desk.publish(adapters.learned)
    desk.twin.roll_back(first)
    newer = [desk.publish(adapters.learned)]
    desk.twin.roll_back(first)

    def judge(*given: object) -> object:
        found = gating.judge(*given)  # type: ignore[arg-type]
        desk.twin.roll_back(newer[0])
        return found

    monkeypatch.setattr(canary, "judge", judge)
    with pytest.raises(Conflict, match="gate it again"):
        canary.promote("desk", good, desk.own)
    assert desk.answering() == (newer[0], None) and desk.actions() == []


def test_a_model_card_is_derived_to_the_same_bytes(desk: Desk, adapters: Adapters, tmp_path: Path) -> None:
    desk.record(ENOUGH)
    first, good = desk.publish(adapters.nothing), desk.publish(adapters.learned)
    canary.begin("desk", good, 0.3, desk.own)
    by_gate = (desk.store.adapter_folder(good) / carding.FILE).read_bytes()
    written = tmp_path / "card.md"
    run = ["card", "desk", "--version", str(good), "--markdown", str(written)]
    CliRunner().invoke(app, run, catch_exceptions=False)
    assert written.read_bytes() == by_gate
    _, head, text = by_gate.decode().split("---\n", 2)
    assert yaml.safe_load(head)["base_model"] == adapters.base.name
    manifest = next(one.manifest for one in desk.link.adapters() if one.manifest.version == good)
    for digest in (manifest.weights, manifest.data, manifest.base, gating.decisions(desk.store).read().head):
        assert f"`{digest}`" in text
    assert f"{ENOUGH} replies in {ENOUGH} sessions" in " ".join(text.split())
    assert f"| version {first} | PASS |" in text and "canary for 0.3 of the sessions" in text
    assert sum(f"`{one.id}`" in text for one in desk.passed) == carding.FARTHEST
    assert "lamp" not in text and "client" not in text
    # What was measured and is half written is measured again, to the same.
    kept = desk.store.adapter_folder(good) / nearness.FILE
    kept.write_bytes(kept.read_bytes()[:100])
    assert carding.write("desk", good, written, desk.own).read_bytes() == by_gate
    # Of its privacy it says what an audit found.
    assert "Nobody has attacked it yet" in text
    estimates = Estimate(0.61, 0.5, 0.72, 40), Estimate(0.5, 0.4, 0.6, 40)
    beside = Found("membership_ratio_auc", Adversary.LOGPROBS, estimates[0], None)
    found = Audit((Found("membership_loss_auc", Adversary.LOGPROBS, *estimates), beside))
    made = publish_audited(desk.store, good, found, load_key(desk.store.folder / KEY))
    attacked = carding.write("desk", made.version, written, desk.own).read_text()
    assert "| membership loss auc | 0.6100 (0.5000 to 0.7200) | 0.5000 |" in attacked
    assert "| membership ratio auc | 0.6100 (0.5000 to 0.7200) | - |" in attacked
    assert "Nobody has attacked" not in attacked
    # More traffic is another record.
    desk.record(1)
    assert carding.write("desk", good, written, desk.own).read_bytes() != by_gate


def test_the_command_line_takes_one_thing_at_a_time() -> None:
    for flags in (["--canary", "0.1", "--promote"], ["--against", "1", "--promote"]):
        with pytest.raises(InputError, match="one of"):
            CliRunner().invoke(app, ["gate", "desk@2", *flags], catch_exceptions=False)


def test_a_tuned_version_is_compared_by_sessions(adapters: Adapters) -> None:
    traces = {str(number): trace for number, trace in enumerate(map(trace_of, HELD_OUT[:8])) if trace}
    sessions = {address: f"session {int(address) % 2}" for address in traces}
    lessons = Lessons(held_traces=traces, held_sessions=sessions)
    found = compare(Transformer(adapters.base), lessons, adapters.learned, None)
    assert found.figures["gate_items"] == 2 and found.figures["kl"] < found.figures["kl_base"]
    assert found.notes == ("8 held-out replies of 2 sessions against the base: inconclusive",)


@given(st.text(max_size=9), st.text(max_size=9), st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_larger_share_holds_all_of_a_smaller_one(name: str, draw: str, shares: tuple[float, float]) -> None:
    session, (small, large) = session_of(name, {}), sorted(shares)
    assert sampled(session, large, draw) or not sampled(session, small, draw)
    assert sampled(session, 1.0, draw) and not sampled(session, 0.0, draw)


def test_draws_do_not_depend_on_each_other() -> None:
    sessions = [session_of(str(number), {}) for number in range(4000)]
    for draws in (("", "desk@4"), ("desk@4", "desk@5")):
        both = sum(all(sampled(session, 0.5, draw) for draw in draws) for session in sessions)
        assert both / len(sessions) == pytest.approx(0.25, abs=0.04)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), min_size=1))
def test_a_session_is_one_item_in_the_order_of_beginning(
    values: list[tuple[str, float]],
) -> None:
    sessions = [session for session, _ in values]
    found = session_means(sessions, [value for _, value in values])
    assert len(found) == len(set(sessions))
    for session, mean in zip(dict.fromkeys(sessions), found, strict=True):
        own = [value for name, value in values if name == session]
        assert mean == pytest.approx(sum(own) / len(own))
