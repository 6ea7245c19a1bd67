"""The edge's store on real files: its laws, and what happens to a bad file."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmtwin.edge.locks import acting, learning
from llmtwin.edge.schema import MIGRATIONS
from llmtwin.edge.store import EdgeStore, ExecutionState, Item, ItemKind, Report, Settings
from llmtwin.errors import Conflict, InputError, NotFound, Unavailable
from llmtwin.records import (
    Command,
    CommandState,
    Description,
    Device,
    Document,
    Fact,
    Observation,
    Prompt,
    new_id,
    now,
)

AT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
ALL = tuple(ItemKind)


def prompt(text: str = "The lamp is on.", path: str = "light.lamp/state") -> Prompt:
    return Prompt(twin="home1", text=text, facts=(Fact(path=path, value=True, at=AT),), at=AT)


def command() -> Command:
    created = now()
    return Command(
        twin="home1",
        path="light.lamp/state",
        value=True,
        created_at=created,
        expires_at=created + timedelta(minutes=1),
    )


def waiting(store: EdgeStore) -> list[Item]:
    return store.queued(ALL, 10_000)


values = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())
# ISO 8601 knows offsets of whole minutes.
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
observations = st.builds(
    Observation,
    fact=st.builds(
        Fact,
        path=st.sampled_from(["lampe.küche/ein", "a/b", "灯/亮度"]),
        value=values,
        unit=st.none() | st.sampled_from(["°C", "%"]),
        at=st.datetimes(timezones=zones),
    ),
    device=st.text(max_size=20),
    property=st.text(max_size=20),
    private=st.booleans(),
    sealed=st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(observations, max_size=4), max_size=4))
def test_the_latest_observation_of_a_path_stays_in_whatever_order_they_come(
    batches: list[list[Observation]],
) -> None:
    latest: dict[str, Observation] = {}
    for one in (one for batch in batches for one in batch):
        known = latest.get(one.fact.path)
        if known is None or one.fact.at >= known.fact.at:
            latest[one.fact.path] = one
    with TemporaryDirectory() as folder:
        with EdgeStore(Path(folder)) as store:
            for batch in batches:
                store.record(batch, [], "{}")
        with EdgeStore(Path(folder)) as store:
            assert {one.fact.path: one for one in store.observations()} == latest


class OutboxMachine(RuleBasedStateMachine):
    """The outbox against a list: nothing is lost, doubled or moved, also over a restart."""

    @initialize()
    def open(self) -> None:
        self.folder = TemporaryDirectory()
        self.store = EdgeStore(Path(self.folder.name))
        self.expected: list[str] = []
        self.refused: list[str] = []

    @rule(texts=st.lists(st.text(min_size=1, max_size=5), max_size=3))
    def prompts(self, texts: list[str]) -> None:
        made = [prompt(text) for text in texts]
        self.store.record([], made, "{}")
        self.expected += [one.model_dump_json() for one in made]

    @rule()
    def queue_again(self) -> None:
        waiting_prompts = self.store.queued([ItemKind.PROMPT], 1)
        known = [Prompt.model_validate_json(item.body) for item in waiting_prompts]
        self.store.record([], known, "{}")  # it waits once, where it was

    @rule()
    def adapter(self) -> None:
        version = self.store.reserve_version()
        self.store.enqueue_adapter(version)
        self.expected.append(str(version))

    @rule(name=st.text(min_size=1, max_size=5))
    def description(self, name: str) -> None:
        body = Description(devices=(Device(id="lamp", name=name, domain="light"),))
        self.store.enqueue_description(body)
        self.expected = [one for one in self.expected if not one.startswith('{"devices"')]
        self.expected.append(body.model_dump_json())

    @precondition(lambda self: self.expected)
    @rule(count=st.integers(1, 3))
    def taken(self, count: int) -> None:
        self.store.settle(self.store.queued(ALL, count))
        del self.expected[:count]

    @precondition(lambda self: self.expected)
    @rule()
    def refuse(self) -> None:
        (item,) = self.store.queued(ALL, 1)
        self.store.settle([], [(item, "no room")])
        self.refused.append(item.id)
        del self.expected[0]

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = EdgeStore(Path(self.folder.name))

    @invariant()
    def as_expected(self) -> None:
        assert [item.body for item in waiting(self.store)] == self.expected
        assert self.store.queued_count() == len(self.expected)
        assert [(one.id, one.reason) for one in self.store.refused()] == [
            (id_, "no room") for id_ in self.refused
        ]

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)


def test_what_is_queued_again_keeps_its_place(tmp_path: Path) -> None:
    first, second = prompt("one"), prompt("two")
    with EdgeStore(tmp_path) as store:
        store.record([], [first, second], "{}")
        store.record([], [first], "{}")
        assert [item.id for item in waiting(store)] == [first.id, second.id]


def test_a_description_replaced_while_it_is_sent_is_not_lost(tmp_path: Path) -> None:
    with EdgeStore(tmp_path) as store:
        store.enqueue_description(Description())
        being_sent = waiting(store)
        newer = Description(devices=(Device(id="lamp", name="Lamp", domain="light"),))
        store.enqueue_description(newer)
        store.settle(being_sent)
        assert [item.body for item in waiting(store)] == [newer.model_dump_json()]


def test_a_record_that_fails_midway_leaves_nothing(tmp_path: Path) -> None:
    seen = Observation(fact=prompt().facts[0], device="lamp", property="state")
    with EdgeStore(tmp_path) as store:
        store.record([], [], "before")
        with pytest.raises(AttributeError):
            store.record([seen], [prompt(), None], "after")  # type: ignore[list-item]
        assert store.observations() == []
        assert waiting(store) == []
        assert store.encoder_state() == "before"


def test_a_finished_command_keeps_its_first_end(tmp_path: Path) -> None:
    order = command()
    with EdgeStore(tmp_path) as store:
        with pytest.raises(NotFound):
            store.finish(order.id)
        assert store.start(order)
        assert not store.start(order)
        assert store.unfinished() == [order.id]
        store.finish(order.id)
        store.finish(order.id, "too late to be refused")
        execution = store.execution(order.id)
        assert execution is not None
        assert (execution.state, execution.reason) == (ExecutionState.DONE, None)
        assert store.unfinished() == []
        (item,) = waiting(store)
        assert Report.model_validate_json(item.body).state is CommandState.REPORTED
        store.settle([item])
        store.finish(order.id)  # handed out again: the report goes again
        assert [one.id for one in waiting(store)] == [item.id]


def test_forgetting_a_path_reaches_what_was_never_sent(tmp_path: Path) -> None:
    def observation(path: str) -> Observation:
        return Observation(fact=Fact(path=path, value=1, at=AT), device="d", property="p")

    with EdgeStore(tmp_path) as store:
        kept, gone, bad = prompt(path="a/b"), prompt("secret", path="c/d"), prompt("other", path="c/d")
        store.record([observation("a/b"), observation("c/d")], [kept, gone, bad], "{}")
        store.settle([], [(waiting(store)[2], "no")])
        store.enqueue_adapter(1)
        store.forget("c/d")
        assert [one.fact.path for one in store.observations()] == ["a/b"]
        assert [one.id for one in waiting(store)] == [kept.id, "adapter-1"]
        assert store.refused() == []


def test_versions_are_given_once_also_to_many_threads(tmp_path: Path) -> None:
    given_out: list[int] = []
    with EdgeStore(tmp_path) as one, EdgeStore(tmp_path) as other:
        threads = [
            threading.Thread(target=lambda s=store: given_out.append(s.reserve_version()))
            for store in [one, other] * 5
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(given_out) == list(range(1, 11))


def test_what_versions_learned_is_known_until_some_of_it_is_forgotten(tmp_path: Path) -> None:
    first, second = (Document(id=c * 64, source="files", address=f"/{c}.md", body="{}") for c in "ab")
    with EdgeStore(tmp_path) as store:
        store.record([], [], "{}", [first, second])
        assert store.learned(1) is None
        store.note_learned(1, [first.address], [first])
        store.note_learned(2, [], [first])
        assert store.learned(1) == {first.address} and store.learned(2) == frozenset()
        assert store.unlearned() == [second]
        store.drop([first])
        assert store.learned(1) is store.learned(2) is None
        assert not any(b"/a.md" in file.read_bytes() for file in tmp_path.iterdir())


def test_settings_survive_and_tokens_are_not_shown(tmp_path: Path) -> None:
    mine = Settings(twin="home1", kind="home", server="http://localhost:1", edge_token=new_id())
    with EdgeStore(tmp_path) as store:
        with pytest.raises(NotFound, match="llmtwin new"):
            store.settings()
        store.save_settings(mine)
    with EdgeStore(tmp_path) as store:
        assert store.settings() == mine
    assert mine.edge_token is not None and mine.edge_token not in repr(mine)


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    with EdgeStore(tmp_path / "home1") as store:
        store.record([], [prompt()], "{}")
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home1").iterdir()}
        assert modes == {0o600}


def test_one_agent_at_a_time(tmp_path: Path) -> None:
    with EdgeStore(tmp_path) as one, EdgeStore(tmp_path) as other:
        with acting(one), pytest.raises(Conflict, match="already running"), acting(other):
            pass
        with acting(other):
            pass


def test_what_is_learned_from_is_so_by_one_alone_and_what_is_gone_does_not_come_back(tmp_path: Path) -> None:
    with EdgeStore(tmp_path / "home1") as one, EdgeStore(tmp_path / "home1") as other:
        with learning(one), pytest.raises(Conflict, match="being learned or forgotten"), learning(other):
            pass
        with learning(other):
            shutil.rmtree(other.folder)
        with pytest.raises(NotFound, match="any more"), learning(one):
            pass
        assert not one.folder.exists()


def test_a_file_of_an_older_llmtwin_keeps_its_documents(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "edge.sqlite")) as database:
        for statement in (statement for step in MIGRATIONS[:2] for statement in step):
            database.execute(statement)
        database.execute("INSERT INTO document VALUES ('/a.md', ?, 'files', '{}')", ("a" * 64,))
        database.execute("PRAGMA user_version = 2")
        database.commit()
    with EdgeStore(tmp_path) as store:
        assert store.documents() == [Document(id="a" * 64, source="files", address="/a.md", body="{}")]


def test_a_file_of_a_newer_llmtwin_is_left_alone(tmp_path: Path) -> None:
    EdgeStore(tmp_path).close()
    db = sqlite3.connect(tmp_path / "edge.sqlite")
    db.execute("PRAGMA user_version = 999")
    db.close()
    with pytest.raises(InputError, match="newer"):
        EdgeStore(tmp_path)


def test_a_file_that_is_no_database_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "edge.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(Unavailable) as raised:
        EdgeStore(tmp_path)
    assert "\n" not in str(raised.value)
