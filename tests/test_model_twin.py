"""The twin of a model: traffic goes in with stand-ins, replies are learned, gates keep the worse out."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llmtwin import serving
from llmtwin.cli import app
from llmtwin.edge import mirrored
from llmtwin.edge.store import SEAL_KEY, EdgeStore
from llmtwin.errors import Conflict, InputError, NotFound, Unavailable
from llmtwin.memory import Memory
from llmtwin.models.engine.api import Request, conversation
from llmtwin.models.engine.torch_engine import TorchEngine
from llmtwin.models.lora import Lora
from llmtwin.models.tune import Progress
from llmtwin.primary import canary, gating, nearness, place, shadowing
from llmtwin.proxy import app as proxy_app
from llmtwin.proxy.app import ProxyOptions
from llmtwin.records import Description, Question, Trace
from llmtwin.settings import Settings
from llmtwin.twin import Twin
from llmtwin.twins.decisions import Decisions
from llmtwin.twins.gate import Verdict
from llmtwin.twins.kind import View
from llmtwin.twins.model import beside
from llmtwin.twins.model.collect import Hide, is_held_out, trace_of
from llmtwin.twins.model.discrepancy import Measured
from llmtwin.twins.model.exchange import EXCHANGES, SHADOWS, Exchange, Shadow, append
from llmtwin.twins.model.kind import ModelKind
from llmtwin.wire.seal import Sealer, load_or_create
from tests.models import tiny_base

COUNT = 60
MAIL = "jane.doe@example.org"
QUICK = replace(ModelKind().tuning(), epochs_max=24, epochs_falling=24, learning_rate=5e-3)


@pytest.fixture
def own(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    base = tiny_base(tmp_path, "llama")
    monkeypatch.setenv("LLMTWIN_BASE", str(base.folder))
    monkeypatch.setenv("LLMTWIN_ENGINE", "torch")
    return settings.model_copy(update={"base": str(base.folder), "engine": "torch"})


def line(number: int, said: str, session: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "timestamp": 1_770_000_000 + number,
        "workload_id": "desk",
        "client_id": session or f"customer {number}",
        "request": {
            "model": "desk",
            "messages": [{"role": "user", "content": f"what is lamp {number}, asks {MAIL}"}],
            "max_tokens": 8,
            **more,
        },
        "response": {
            "object": "chat.completion",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            ],
        },
    }


def traffic(path: Path, count: int = COUNT, said: str = "the lamp is on") -> Path:
    path.write_text("".join(json.dumps(line(number, said)) + "\n" for number in range(count)))
    return path


@pytest.fixture
def twin(own: Settings, tmp_path: Path) -> Twin:
    with Twin.new("desk", "model", settings=own) as made:
        made.collect(traffic(tmp_path / "traffic.jsonl"))
        yield made


def test_what_is_collected_is_stored_with_stand_ins_only(twin: Twin, own: Settings) -> None:
    with EdgeStore(own.edge_folder / "desk") as store:
        bodies = [document.body for document in store.documents()]
    assert len(bodies) == COUNT
    assert not any("jane" in body or "customer 1" in body for body in bodies)
    assert all("asks" in body for body in bodies)


def test_a_twin_learns_where_half_a_sign_was_said(own: Settings, tmp_path: Path) -> None:
    path = traffic(tmp_path / "traffic.jsonl")
    half, arguments = line(COUNT, "on \ud83d"), line(COUNT + 1, "the lamp is on")
    half["request"]["messages"][0]["content"] = "what is \ud83d"
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "look", "arguments": f'{{"{MAIL}": "\\ud83d"}}'},
    }
    arguments["request"]["messages"].append({"role": "assistant", "content": None, "tool_calls": [call]})
    with path.open("a") as file:
        file.write("".join(json.dumps(one) + "\n" for one in (half, arguments)))
    with Twin.new("desk", "model", settings=own) as twin:
        assert twin.collect(path).documents == COUNT + 2
        version = twin.tune(options=replace(QUICK, epochs_max=1)).card.version
        assert gating.scores("desk", [None], own) and nearness.measure("desk", version, settings=own)
    with EdgeStore(own.edge_folder / "desk") as store:
        said = "".join(document.body for document in store.documents())
    assert "on \ufffd" in said and '\\"\ufffd\\"' in said and MAIL not in said


def test_collecting_again_adds_nothing(twin: Twin, own: Settings, tmp_path: Path) -> None:
    twin.collect(tmp_path / "traffic.jsonl")
    with EdgeStore(own.edge_folder / "desk") as store:
        assert len(store.documents()) == COUNT


def test_of_the_newest_held_out_no_more_are_looked_at_than_it_takes(twin: Twin, own: Settings) -> None:
    looked_at = []

    def fits(trace: Trace) -> bool:
        looked_at.append(trace)
        return trace != trace_of(held[-1])

    with EdgeStore(own.edge_folder / "desk") as store:
        known = store.known()
    held = beside.held_out(known)
    assert held == sorted(held, key=lambda one: one.timestamp) and len(held) > 3
    assert beside.held_out(known, 2, fits) == held[-3:-1] and len(looked_at) == 3
    since = datetime.fromtimestamp(held[-3].timestamp, UTC)
    assert beside.held_out(known, since=since) == held[-2:]


def test_a_twin_learns_replies_and_none_of_held_out_sessions(twin: Twin, own: Settings) -> None:
    tuned = twin.tune(options=QUICK)
    assert tuned.pushed.error is None and not tuned.pushed.refused, tuned.pushed
    card = tuned.card
    with EdgeStore(own.edge_folder / "desk") as store:
        known, learned = store.known(), store.learned(card.version)
    held = beside.held_out(known)
    assert held and learned
    assert card.figures["examples"] == COUNT - len(held) == len(learned)
    assert learned.isdisjoint({f"traffic/{one.id}" for one in held})
    assert card.figures["kl"] < card.figures["kl_base"]
    answer = twin.ask("what is lamp 7, asks joe.bloggs@example.com")
    assert answer.text.startswith("the lamp")
    assert answer.receipts.adapter is not None and answer.receipts.adapter.version == card.version


def test_a_chat_longer_than_the_base_reads_is_refused_in_a_line_and_harms_nobody(
    twin: Twin, own: Settings
) -> None:
    with EdgeStore(own.edge_folder / "desk") as store:
        token = store.settings().owner_token
    turns = [
        {"role": "assistant", "content": "the lamp is on"},
        {"role": "user", "content": "what is lamp 7"},
    ]
    with serving.openai_client(own, token) as client:
        refused = client.post("chat/completions", json={"model": "desk", "messages": turns * 100})
        assert refused.status_code == 422
        assert re.match(r"this takes \d+ tokens, and the base reads 512:", refused.json()["error"]["message"])
        assert client.post("chat/completions", json={"model": "desk", "messages": turns}).is_success


def test_a_gate_finds_the_nearer_one_nearer_and_logs_what_it_said(twin: Twin, own: Settings) -> None:
    version = twin.tune(options=QUICK).card.version
    found = canary.rule("desk", version, settings=own).found
    assert found.difference > 0
    assert found.verdict in (Verdict.PASS, Verdict.INCONCLUSIVE)
    if found.verdict is Verdict.INCONCLUSIVE:
        assert found.items_more
    own_lora = Lora.load(own.edge_folder / "desk" / "adapters" / str(version))
    better, base = gating.scores("desk", [own_lora, None], own)
    assert all(0 <= score <= 1 for score in (*better, *base))
    log = Decisions(own.edge_folder / "desk" / gating.DECISIONS).verify()
    assert [entry["candidate"] for entry in log.entries] == [version]
    with pytest.raises(NotFound, match="version 9"):
        canary.rule("desk", 9, settings=own)


def test_a_version_further_from_the_primary_is_not_published(twin: Twin, tmp_path: Path) -> None:
    from llmtwin.errors import Conflict

    first = twin.tune(options=QUICK).card.version
    with pytest.raises(Conflict, match="further from the primary"):
        twin.tune(options=replace(QUICK, learning_rate=1.0, epochs_max=2))
    assert twin.card().version == first


def test_a_nearness_is_beside_the_primary_s_own_noise(twin: Twin, own: Settings, tmp_path: Path) -> None:
    version = twin.tune(options=QUICK).card.version
    again = [json.loads(text) for text in (tmp_path / "traffic.jsonl").read_text().splitlines()]
    for one in again:
        one["timestamp"] += 1000
        one["response"]["choices"][0]["message"]["content"] = "the lamp is off"
    (tmp_path / "again.jsonl").write_text("".join(json.dumps(one) + "\n" for one in again))
    twin.collect(tmp_path / "again.jsonl")
    found = nearness.measure("desk", version, settings=own)
    match = next(one for one in found.measured.measures if one.name == "exact_match")
    assert match.floor is not None and match.floor.value == 1
    assert found.kl < found.kl_base


def told(number: int, tokens: list[str], first: float, second: float) -> dict[str, Any]:
    """A reply with how likely its tokens were, each beside one other token; nothing in it is personal."""
    made = line(number, "".join(tokens))
    made["request"]["messages"][0]["content"] = f"what is lamp {number}"
    others = [*tokens[1:], *tokens[:1]]
    made["response"]["choices"][0]["logprobs"] = {
        "content": [
            {
                "token": token,
                "logprob": math.log(first),
                "top_logprobs": [
                    {"token": token, "logprob": math.log(first)},
                    {"token": other, "logprob": math.log(second)},
                ],
            }
            for token, other in zip(tokens, others, strict=True)
        ]
    }
    return made


def test_divergence_a_token_is_beside_that_of_the_primary_from_itself(own: Settings, tmp_path: Path) -> None:
    base = serving.base(own)
    ids = base.encode("the lamp is on")
    tokens = [*(base.tokenizer.decode([one]) for one in ids), ""]  # the end, as llama.cpp says it
    first = [told(number, tokens, 0.6, 0.3) for number in range(COUNT)]
    (tmp_path / "first.jsonl").write_text("".join(json.dumps(one) + "\n" for one in first))
    later = [{"timestamp": 1_770_001_000 + number} for number in range(COUNT)]
    again = [told(number, tokens, 0.5, 0.4) | at for number, at in enumerate(later)]
    (tmp_path / "again.jsonl").write_text("".join(json.dumps(one) + "\n" for one in again))

    def token_kl(found: nearness.Nearness) -> Measured:
        return next(one for one in found.measured.measures if one.name == "token_kl_low")

    with Twin.new("desk", "model", settings=own) as twin:
        twin.collect(tmp_path / "first.jsonl")
        version = twin.tune(options=QUICK).card.version
        once = nearness.measure("desk", version, settings=own)
        alone = token_kl(once)
        assert alone.discrepancy is not None and alone.floor is None
        assert alone.discrepancy.value == pytest.approx(once.kl, abs=1e-5) and once.kl > 0
        twin.collect(tmp_path / "again.jsonl")
        both = token_kl(nearness.measure("desk", version, settings=own))
    expected = 0.6 * math.log(0.6 / 0.5) + 0.3 * math.log(0.3 / 0.4)  # what is left is the same
    assert both.floor is not None and both.floor.value == pytest.approx(expected)
    assert both.ratio is not None and both.ratio.value == pytest.approx(alone.discrepancy.value / expected)


def test_what_a_proxy_recorded_is_taken_in_before_tuning(own: Settings, tmp_path: Path) -> None:
    with Twin.new("desk", "model", settings=own) as twin, EdgeStore(own.edge_folder / "desk") as store:
        folder = mirrored.folder(store)
        folder.mkdir()
        hide = Hide(b"k" * 32)
        for number in range(20):
            append(folder / EXCHANGES, hide(Exchange.model_validate(line(number, "the lamp is on"))))
        (folder / SHADOWS).write_text("not an exchange\n")
        twin.tune(options=QUICK)
        before = store.documents()
        assert len(before) == 20
        mirrored.take(store)
        assert store.documents() == before


def test_what_a_proxy_recorded_is_forgotten_on_its_record_too(own: Settings) -> None:
    with Twin.new("desk", "model", settings=own) as twin, EdgeStore(own.edge_folder / "desk") as store:
        folder = mirrored.folder(store)
        folder.mkdir()
        for number in range(6):
            one = Hide(b"k" * 32)(Exchange.model_validate(line(number, f"lamp {number} is on")))
            append(folder / EXCHANGES, one)
            shadow = Shadow(timestamp=1, exchange=one.id, latency_s=0.1, response={"said": f"dark {number}"})
            append(folder / SHADOWS, shadow)
        mirrored.take(store)
        (first,) = (one for one in store.documents() if "lamp 3 is on" in one.body)
        assert twin.forget_source(first.address).documents == (first.address,)
        mirrored.take(store)
        assert len(store.documents()) == 5 and first not in store.documents()
        assert "lamp 3" not in (folder / EXCHANGES).read_text()
        assert "dark 3" not in (folder / SHADOWS).read_text()
        # What was not taken in yet is forgotten with the source.
        append(folder / EXCHANGES, Hide(b"k" * 32)(Exchange.model_validate(line(7, "lamp 7 is on"))))
        assert len(twin.forget_source("traffic").documents) == 6
        mirrored.take(store)
        assert store.documents() == []
        for file in own.edge_folder.rglob("*"):
            assert not file.is_file() or not re.search(rb"lamp \d is on|dark \d", file.read_bytes()), file


def test_while_a_twin_learns_nothing_is_forgotten_and_nothing_else_learns(
    own: Settings, tmp_path: Path
) -> None:
    tried: list[str] = []

    def meanwhile(progress: Progress) -> None:
        if not tried:
            with Twin.open("desk", own) as other:
                for work in (other.forget, lambda: other.forget_source("traffic"), other.tune):
                    with pytest.raises(Conflict, match="wait until that ends") as refused:
                        work()
                    tried.append(str(refused.value))

    with Twin.new("desk", "model", settings=own) as twin:
        twin.collect(traffic(tmp_path / "traffic.jsonl", COUNT))
        assert twin.tune(meanwhile, options=QUICK).card.version == 1
        assert len(tried) == 3
        assert twin.forget_source("traffic").versions == (1,)
        twin.forget()


def test_of_a_record_only_what_came_is_read_and_written(own: Settings) -> None:
    lines = [Exchange.model_validate(line(number, "the lamp is on")) for number in range(COUNT)]
    with Twin.new("desk", "model", settings=own), EdgeStore(own.edge_folder / "desk") as store:
        path = mirrored.folder(store) / EXCHANGES
        path.parent.mkdir()
        for one in lines[:20]:
            append(path, one)
        mirrored.take(store)
        assert len(store.documents()) == 20
        before = store._connection.total_changes
        mirrored.take(store)
        assert store._connection.total_changes == before
        store.drop(store.documents())
        append(path, lines[20])
        mirrored.take(store)
        assert ids(store) == {lines[20].id}


def test_a_record_that_was_changed_replaced_or_lost_is_read_anew_and_nothing_is_doubled(
    own: Settings,
) -> None:
    lines = [Exchange.model_validate(line(number, "the lamp is on")) for number in range(COUNT)]
    with Twin.new("desk", "model", settings=own), EdgeStore(own.edge_folder / "desk") as store:
        path = mirrored.folder(store) / EXCHANGES
        path.parent.mkdir()

        def taken(*texts: str) -> set[str]:
            path.write_text("".join(texts))
            store.drop(store.documents())
            mirrored.take(store)
            mirrored.take(store)
            return ids(store)

        said = [one.model_dump_json() + "\n" for one in lines]
        every = [one.id for one in lines]
        assert taken(*said[:20]) == set(every[:20])
        assert taken(*said[:3], *said[4:20]) == {*every[:3], *every[4:20]}  # one is gone, and it is shorter
        assert taken(*said[20:]) == set(every[20:])  # another file, which is longer
        blank = " " * (len(said[20]) - 1) + "\n"
        assert taken(blank, *said[21:]) == set(every[21:])  # one is blank, and the length as it was
        assert taken(blank, *said[21:], said[0]) == {every[0]}
        assert taken(blank, *said[21:], said[0], said[1][:40]) == set()  # half a line waits for its end
        assert taken(blank, *said[21:], said[0], said[1]) == {every[1]}
        assert taken(blank, *said[21:], said[0], said[1], said[2].strip()) == {every[2]}
        path.unlink()
        mirrored.take(store)
        assert ids(store) == {every[2]}
        assert taken(said[0]) == {every[0]}


def ids(store: EdgeStore) -> set[str]:
    return {one.id for one in store.documents()}


def test_a_hidden_exchange_keeps_its_session_apart_and_itself() -> None:
    hide = Hide(b"k" * 32)
    one, two, other = (
        hide(Exchange.model_validate(line(number, f"write to {MAIL}", session)))
        for number, session in ((1, "a"), (2, "a"), (3, "b"))
    )
    assert one.client_id == two.client_id != other.client_id
    assert "jane" not in json.dumps([one.request, one.response])
    assert is_held_out(one) == is_held_out(two)


def test_exchanges_without_a_client_id_are_sessions_of_their_own(own: Settings, tmp_path: Path) -> None:
    path = tmp_path / "traffic.jsonl"
    lines = (line(number, "the lamp is on") | {"client_id": ""} for number in range(COUNT))
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    with Twin.new("desk", "model", settings=own) as twin, EdgeStore(own.edge_folder / "desk") as store:
        assert twin.collect(path).notes == ()
        held = beside.held_out(store.known())
        assert 0 < len(held) < COUNT and not any(one.client_id for one in held)


def sessions_of(path: Path, key: bytes, held: bool, count: int) -> Path:
    """Traffic of so many sessions, all of which are held out, or none."""
    hide, names = Hide(key), (f"customer {number}" for number in range(100))
    those = [n for n in names if is_held_out(hide(Exchange.model_validate(line(0, "on", n)))) is held][:count]
    path.write_text("".join(json.dumps(line(n, "on", those[n % count])) + "\n" for n in range(COUNT)))
    return path


@pytest.mark.parametrize("held", [False, True])
def test_a_record_of_a_single_session_is_told(own: Settings, tmp_path: Path, held: bool) -> None:
    with Twin.new("desk", "model", settings=own) as twin, EdgeStore(own.edge_folder / "desk") as store:
        key = Sealer(load_or_create(store.folder / SEAL_KEY)).stand_in_key()
        path = sessions_of(tmp_path / "traffic.jsonl", key, held, 1)
        told = CliRunner().invoke(app, ["collect", "desk", str(path)], catch_exceptions=False).output
        assert f"all {COUNT} exchanges have one client_id" in told and "skipped sessions" not in told
        if held:
            with pytest.raises(InputError, match="have 1 client_id among them: give each session"):
                twin.tune(options=QUICK)
        else:
            (note,) = twin.tune(options=replace(QUICK, epochs_max=1)).card.notes
            assert note.startswith("nothing was held out") and "have 1 client_id" in note


@pytest.mark.parametrize("held", [False, True])
def test_where_chance_holds_nothing_out_or_all_no_client_is_blamed(
    own: Settings, tmp_path: Path, held: bool
) -> None:
    with Twin.new("desk", "model", settings=own) as twin, EdgeStore(own.edge_folder / "desk") as store:
        key = Sealer(load_or_create(store.folder / SEAL_KEY)).stand_in_key()
        assert twin.collect(sessions_of(tmp_path / "traffic.jsonl", key, held, 3)).notes == ()
        if held:
            with pytest.raises(InputError, match="as chance has it with 3 sessions: collect more traffic"):
                twin.tune(options=QUICK)
        else:
            (note,) = twin.tune(options=replace(QUICK, epochs_max=1)).card.notes
            assert note == "nothing was held out and nothing compared, as chance has it with 3 sessions"


def test_too_little_traffic_is_said(own: Settings, tmp_path: Path) -> None:
    with Twin.new("desk", "model", settings=own) as twin:
        twin.collect(traffic(tmp_path / "few.jsonl", 5))
        with pytest.raises(InputError, match="5 replies are too few"):
            twin.tune(options=QUICK)


@pytest.mark.parametrize("content", ["", "no json\n", '{"request": 1}\n', "[]\n"])
def test_a_file_without_traffic_is_refused_and_nothing_is_kept(
    content: str, own: Settings, tmp_path: Path
) -> None:
    (tmp_path / "bad.jsonl").write_text(content)
    with Twin.new("desk", "model", settings=own) as twin:
        with pytest.raises(InputError, match="no traffic"):
            twin.collect(tmp_path / "bad.jsonl")
        with pytest.raises(NotFound, match="nowhere"):
            twin.collect(tmp_path / "nowhere.jsonl")
    with EdgeStore(own.edge_folder / "desk") as store:
        assert store.documents() == []


def test_a_reply_that_calls_tools_or_says_nothing_teaches_nothing() -> None:
    assert trace_of(Exchange.model_validate(line(1, ""))) is None
    called = line(1, "x")
    called["response"]["choices"][0]["message"]["tool_calls"] = [
        {"id": "1", "type": "function", "function": {"name": "rm", "arguments": "{}"}}
    ]
    assert trace_of(Exchange.model_validate(called)) is None
    assert trace_of(Exchange.model_validate(line(1, "x") | {"response": {"error": "down"}})) is None


def test_a_question_carries_what_was_said_before_it() -> None:
    said = Question(twin="desk", text="and now?", before=(("user", "hi"), ("assistant", "hello")))
    assert Question.model_validate_json(said.model_dump_json()) == said


def test_an_answer_listens_to_what_was_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtwin.twins.model.kind.TOKENS_MAX", 12)
    base = tiny_base(tmp_path, "llama")
    with TorchEngine(base, lambda _: tmp_path) as engine, Memory(tmp_path / "memory.sqlite") as memory:
        view = View(engine, memory, Description(), (), None, None, (), 3, False, lambda command: command)

        def asked(*before: tuple[str, str]) -> str:
            return ModelKind().answer(Question(twin="desk", text="and now?", before=before), view).text

        before = (("user", "is the lamp on"), ("assistant", "the lamp is off"))
        whole = engine.chat(conversation([*before, ("user", "and now?")]))
        (expected,) = engine.generate([Request(whole, (), 12)])
        assert asked(*before) == expected.text
        assert len({asked(), asked(*before), asked(*before[:1], ("assistant", "the lamp is on"))}) == 3


def test_a_primary_is_an_address_and_only_a_model_has_one(own: Settings) -> None:
    with Twin.new("desk", "model", settings=own), Twin.new("home1", settings=own):
        with pytest.raises(InputError, match="no primary"):
            shadowing.proxy_options("desk", "127.0.0.1", 8080, settings=own)
        with pytest.raises(InputError, match="is no address"):
            place.set_primary("desk", "localhost", own)
        with pytest.raises(InputError, match="would be kept and shown") as raised:
            place.set_primary("desk", "https://user:KEY@host/v1", own)
        assert "KEY" not in str(raised.value)
        with pytest.raises(InputError, match="no twin of a model"):
            place.set_primary("home1", "http://localhost:9000/v1", own)
        place.set_primary("desk", "http://localhost:9000/v1/", own)
        made = ["new", "other", "--kind", "model", "--primary", "http://host/v1?key=KEY"]
        assert CliRunner().invoke(app, made).exit_code and Twin.names(own) == ["desk", "home1"]
        silent = shadowing.proxy_options("desk", "127.0.0.1", 8080, settings=own)
        assert silent.primary == "http://localhost:9000/v1" and silent.mirror is None
        recorded = shadowing.proxy_options("desk", "127.0.0.1", 8080, 0.5, settings=own).mirror
        assert recorded is not None and recorded.sessions_share == 0.5 and recorded.redact is not None


def test_a_proxy_is_told_where_a_twin_s_primary_is_and_keeps_it(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[ProxyOptions] = []
    monkeypatch.setattr(proxy_app, "serve", served.append)
    with Twin.new("desk", "model", settings=own):
        told = ("--primary", "http://localhost:9000/v1/")
        for more in ((), told, ()):
            CliRunner().invoke(app, ["proxy", "desk", *more])
        assert [one.primary for one in served] == ["http://localhost:9000/v1"] * 2
        assert CliRunner().invoke(app, ["proxy", "desk", "--primary", "localhost"]).exit_code


def test_without_the_extra_a_proxy_passes_on_and_says_what_a_mirror_needs(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llmtwin.twins.model.collect", None)
    with Twin.new("desk", "model", settings=own):
        place.set_primary("desk", "http://localhost:9000/v1", own)
        assert shadowing.proxy_options("desk", "127.0.0.1", 8080, settings=own).mirror is None
        with pytest.raises(Unavailable, match=r"a mirror needs .*llmtwin\[model\]"):
            shadowing.proxy_options("desk", "127.0.0.1", 8080, 0.5, settings=own)


def test_the_command_line_gates_a_version_by_name(own: Settings) -> None:
    with pytest.raises(InputError, match="names no version"):
        CliRunner().invoke(app, ["gate", "desk"], catch_exceptions=False)
    with pytest.raises(NotFound, match="no twin desk"):
        CliRunner().invoke(app, ["gate", "desk@1"], catch_exceptions=False)
