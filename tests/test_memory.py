"""The prompt database: its laws against a plain model of them, and its promises under faults."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtwin.errors import Conflict, InputError, Unavailable
from llmtwin.memory import Memory
from llmtwin.records import Fact, Prompt, State, Statistic, Value

START = datetime(2026, 3, 1, tzinfo=UTC)
TWINS = ("home1", "home-2", "home_3")
PATHS = ("light.lamp/brightness", "sensor.hall/temperature")
MEASURES = ("light.brightness", "temperature")


def minute(count: int) -> datetime:
    return START + timedelta(minutes=count)


def prompt(
    prompt_id: str,
    value: Value = 1,
    at: int = 0,
    twin: str = "home1",
    path: str = PATHS[0],
    text: str = "a word",
) -> Prompt:
    fact = Fact(path=path, value=value, unit="%", at=minute(at), measure=MEASURES[0], area="hall")
    return Prompt(id=prompt_id, twin=twin, text=text, facts=(fact,), at=minute(at))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory(tmp_path / "memory.sqlite") as memory:
        yield memory


# --- the law: the database agrees with a list of prompts -------------------------------------------------

values = st.one_of(
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(-1e9, 1e9),
    st.sampled_from(("on", "off", "", "\x00", 'a"b')),
    st.integers(0, 3),
)
times = st.integers(0, 6).map(minute)
facts = st.builds(
    Fact,
    path=st.sampled_from(PATHS),
    value=values,
    unit=st.sampled_from((None, "%", "lx")),
    at=times,
    measure=st.sampled_from((None, *MEASURES)),
    area=st.sampled_from((None, "hall", "attic")),
)
prompts = st.builds(
    Prompt,
    id=st.uuids(version=4).map(str),
    twin=st.sampled_from(TWINS),
    text=st.text(min_size=1, max_size=20),
    facts=st.lists(facts, max_size=3).map(tuple),
    at=times,
)
appends = st.tuples(st.just("append"), st.lists(prompts, max_size=4))
repeats = st.tuples(st.just("repeat"), st.integers(0, 50))
forgets = st.tuples(st.just("forget"), st.sampled_from(TWINS), st.sampled_from((None, *PATHS)))


class Model:
    """What the database promises, as a dict of prompts."""

    def __init__(self) -> None:
        self.prompts: dict[str, Prompt] = {}

    def append(self, prompts: list[Prompt]) -> int:
        before = len(self.prompts)
        self.prompts.update({prompt.id: prompt for prompt in prompts})
        return len(self.prompts) - before

    def forget(self, twin: str, path: str | None) -> int:
        gone = [
            prompt.id
            for prompt in self.prompts.values()
            if prompt.twin == twin and (path is None or path in {fact.path for fact in prompt.facts})
        ]
        for prompt_id in gone:
            del self.prompts[prompt_id]
        return len(gone)

    def states(self, twin: str, path: str) -> list[State]:
        keyed = [
            ((fact.at, prompt.id, position), State(twin=twin, fact=fact, prompt_id=prompt.id))
            for prompt in self.prompts.values()
            if prompt.twin == twin
            for position, fact in enumerate(prompt.facts)
            if fact.path == path
        ]
        return [state for _, state in sorted(keyed, key=lambda pair: pair[0])]

    def as_of(self, twin: str, path: str, when: datetime) -> State | None:
        return next((state for state in reversed(self.states(twin, path)) if state.fact.at <= when), None)

    def history(self, twin: str, path: str, since: datetime, until: datetime) -> list[State]:
        led_by = self.as_of(twin, path, since)
        later = [state for state in self.states(twin, path) if since < state.fact.at <= until]
        return ([led_by] if led_by else []) + later

    def latest(self) -> list[State]:
        return [states[-1] for twin in TWINS for path in PATHS if (states := self.states(twin, path))]

    def average(
        self, measure: str, twins: set[str], area: str | None
    ) -> tuple[float | None, str | None, int]:
        by_unit: dict[str | None, dict[str, list[Fraction]]] = defaultdict(lambda: defaultdict(list))
        for state in self.latest():
            fact = state.fact
            matches = state.twin in twins and fact.measure == measure and area in (None, fact.area)
            if matches and isinstance(fact.value, int | float) and not isinstance(fact.value, bool):
                by_unit[fact.unit][state.twin].append(Fraction(fact.value))
        if not by_unit:
            return None, None, 0
        unit = sorted(by_unit, key=lambda unit: (-len(by_unit[unit]), unit or ""))[0]
        means = [sum(numbers) / len(numbers) for numbers in by_unit[unit].values()]
        return float(sum(means) / len(means)), unit, len(means)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.one_of(appends, appends, repeats, forgets), max_size=10),
    moments=st.tuples(times, times).map(sorted),
    twins=st.sets(st.sampled_from((*TWINS, "stranger"))),
    area=st.sampled_from((None, "hall")),
)
def test_agrees_with_a_plain_list_of_prompts(
    steps: list[tuple[Any, ...]], moments: list[datetime], twins: set[str], area: str | None
) -> None:
    model = Model()
    sent: list[Prompt] = []
    with tempfile.TemporaryDirectory() as folder, Memory(Path(folder) / "memory.sqlite") as memory:
        for name, *arguments in steps:
            if name == "forget":
                assert memory.forget(*arguments) == model.forget(*arguments)
                continue
            batch = arguments[0] if name == "append" else sent[: arguments[0]]
            sent += batch if name == "append" else []
            assert memory.append(batch) == model.append(batch)

        for twin in TWINS:
            assert memory.snapshot(twin) == [state for state in model.latest() if state.twin == twin]
            for path in PATHS:
                states = model.states(twin, path)
                assert memory.latest(twin, path) == (states[-1] if states else None)
                assert memory.as_of(twin, path, moments[0]) == model.as_of(twin, path, moments[0])
                assert memory.history(twin, path, *moments) == model.history(twin, path, *moments)
        for known in sent:
            assert memory.prompt(known.id) == model.prompts.get(known.id)
        for measure in MEASURES:
            got = memory.aggregate(measure, Statistic.AVERAGE, twins, area)
            value, unit, size = model.average(measure, twins, area)
            assert (got.unit, got.cohort_size) == (unit, size)
            assert got.value == (None if value is None else pytest.approx(value, rel=1e-12, abs=1e-12))


def test_values_keep_their_type(memory: Memory) -> None:
    values: list[Value] = [True, 1, 1.0, "1", 10**30, 0.1 + 0.2]
    for number, value in enumerate(values):
        memory.append([prompt(f"p{number}", value, at=number)])
        stored = memory.latest("home1", PATHS[0])
        assert stored is not None
        assert (type(stored.fact.value), stored.fact.value) == (type(value), value)


# --- append ----------------------------------------------------------------------------------------------


def test_another_prompt_under_a_known_id_is_a_conflict_and_nothing_of_the_batch_stays(memory: Memory) -> None:
    memory.append([prompt("known", value=1)])
    for changed in (
        prompt("known", value=True),
        prompt("known", value=1, text="other"),
        prompt("known", at=1),
    ):
        with pytest.raises(Conflict, match="known"):
            memory.append([prompt("new"), changed])
    assert memory.prompt("new") is None
    assert memory.append([prompt("known", value=1)]) == 0


def test_a_time_in_another_zone_is_the_same_time(memory: Memory) -> None:
    memory.append([prompt("p")])
    elsewhere = START.astimezone(timezone(timedelta(hours=9)))
    fact = prompt("p").facts[0].model_copy(update={"at": elsewhere})
    assert memory.append([prompt("p").model_copy(update={"at": elsewhere, "facts": (fact,)})]) == 0


def test_a_time_that_utc_cannot_hold_is_refused(memory: Memory) -> None:
    early = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    with pytest.raises(InputError, match="years"):
        memory.append([Prompt(twin="home1", text="once", at=early)])


def test_threads_share_one_memory(memory: Memory) -> None:
    def work(name: int) -> None:
        for count in range(20):
            memory.append([prompt(f"{name}-{count}", at=count)])
            assert memory.latest("home1", PATHS[0])

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(memory.history("home1", PATHS[0], minute(0), minute(20))) == 1 + 4 * 19


CHILD = """
import sys
from pathlib import Path
from llmtwin.memory import Memory
from llmtwin.records import Fact, Prompt, now
memory = Memory(Path(sys.argv[1]))
while True:
    fact = Fact(path="a/b", value=1, at=now())
    batch = [Prompt(twin="home1", text="alive", facts=(fact,), at=now()) for _ in range(3)]
    memory.append(batch)
    print(*(prompt.id for prompt in batch), flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "memory.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True, env={**os.environ}
    ) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline() for _ in range(40)]
        child.send_signal(signal.SIGKILL)
        acknowledged += child.stdout.readlines()
        assert child.wait() == -signal.SIGKILL
    complete = [prompt_id for line in acknowledged if line.endswith("\n") for prompt_id in line.split()]
    assert len(complete) >= 120
    with Memory(path) as memory:
        assert all(memory.prompt(prompt_id) for prompt_id in complete)
        assert memory.append([prompt("after")]) == 1
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# --- cost ------------------------------------------------------------------------------------------------


def test_latest_and_aggregate_read_only_the_latest_table(memory: Memory, tmp_path: Path) -> None:
    memory.append([prompt(f"p{count}", count, at=count) for count in range(50)])
    statements: list[str] = []
    memory._database.set_trace_callback(statements.append)
    memory.latest("home1", PATHS[0])
    memory.aggregate(MEASURES[0], Statistic.AVERAGE, {"home1"})
    memory._database.set_trace_callback(None)
    queries = [statement for statement in statements if statement.startswith("SELECT")]
    with sqlite3.connect(tmp_path / "memory.sqlite") as database:
        plans = [[row[-1] for row in database.execute(f"EXPLAIN QUERY PLAN {query}")] for query in queries]
    read = [step for plan in plans for step in plan if re.match(r"SEARCH|SCAN", step)]
    assert len(plans) == 2
    assert read[0] == "SEARCH latest USING PRIMARY KEY (twin=? AND path=?)"
    assert read[1] == "SEARCH latest USING INDEX latest_of_measure (measure=? AND twin=?)"
    assert all("json_each" in step for step in read[2:])  # the cohort itself


def test_every_commit_waits_for_the_disk(memory: Memory) -> None:
    settings = {
        name: memory._database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout")
    }
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
        "busy_timeout": 10_000,
    }


# --- aggregate -------------------------------------------------------------------------------------------


def test_each_twin_counts_once_with_its_mean(memory: Memory) -> None:
    memory.append(
        [
            prompt("a", 10, at=1, twin="home1"),
            prompt("b", 30, at=2, twin="home1", path=PATHS[1]),
            prompt("c", 50, at=3, twin="home-2"),
        ]
    )
    results = {
        statistic: memory.aggregate(MEASURES[0], statistic, ["home1", "home-2", "home-2"])
        for statistic in Statistic
    }
    assert {statistic: result.value for statistic, result in results.items()} == {
        Statistic.AVERAGE: 35,
        Statistic.MINIMUM: 20,
        Statistic.MAXIMUM: 50,
        Statistic.SUM: 70,
        Statistic.COUNT: 2,
    }
    assert {(r.unit, r.cohort_size, r.oldest_at, r.newest_at) for r in results.values()} == {
        ("%", 2, minute(1), minute(3))
    }


def test_a_count_of_equal_values_tells_on_from_one(memory: Memory) -> None:
    memory.append(
        [prompt("a", True, twin="home1"), prompt("b", 1, twin="home-2"), prompt("c", 1.0, twin="home_3")]
    )
    for equals, count in ((True, 1), (1, 2), ("1", 0)):
        result = memory.aggregate(MEASURES[0], Statistic.COUNT, TWINS, equals=equals)
        assert (result.value, result.cohort_size) == (count, 3)
    with pytest.raises(InputError, match="count"):
        memory.aggregate(MEASURES[0], Statistic.SUM, TWINS, equals=1)


def test_one_absurd_number_does_not_break_an_average(memory: Memory) -> None:
    memory.append(
        [
            prompt("a", 1.7e308, twin="home1"),
            prompt("b", 10**400, twin="home_3"),
            prompt("c", 5, twin="home-2"),
        ]
    )
    assert memory.aggregate(MEASURES[0], Statistic.SUM, TWINS).value == 5


def test_nothing_known_is_no_number(memory: Memory) -> None:
    result = memory.aggregate("unheard", Statistic.AVERAGE, TWINS)
    assert (result.value, result.cohort_size, result.oldest_at) == (None, 0, None)


# --- search ----------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    text=st.one_of(
        st.text(max_size=60),
        st.sampled_from(('"', "NEAR(", "a* OR", "text:x", "-", "_", "^a", "\x00", "AND " * 5000)),
    )
)
def test_any_text_can_be_searched(text: str) -> None:
    with Memory(Path(":memory:")) as memory:
        memory.append([prompt("p", text="The bedroom lamp is at 40 %.")])
        assert [found.id for found in memory.search("home1", f"bedroom {text}")] == ["p"]
        memory.search("home1", text)


def test_the_best_match_comes_first_and_only_of_this_twin(memory: Memory) -> None:
    memory.append(
        [
            prompt("one", text="The bedroom is warm."),
            prompt("two", text="The bedroom lamps are on."),
            prompt("three", text="The bedroom lamps are on.", twin="home-2"),
            prompt("four", text="The bedroom lamps are on.", twin="home1-2"),
        ]
    )
    assert [found.id for found in memory.search("home1", "which bedroom lamp?")] == ["two", "one"]
    assert [found.id for found in memory.search("home1", "which bedroom lamp?", limit=1)] == ["two"]
    assert memory.search("home1", "home1") == []


# --- forget ----------------------------------------------------------------------------------------------


def test_forgotten_words_and_values_are_in_no_file(memory: Memory, tmp_path: Path) -> None:
    def on_disk(word: bytes) -> int:
        return sum(file.read_bytes().count(word) for file in tmp_path.iterdir())

    memory.append(
        [prompt("kept", text="the lamp"), prompt("gone", "qqvalueqq", text="zzsecretzz", path=PATHS[1])]
    )
    assert on_disk(b"zzsecretzz") >= 2  # the text and its index
    assert on_disk(b"qqvalueqq") >= 2  # the fact and the latest state
    assert memory.forget("home1", PATHS[1]) == 1
    assert (on_disk(b"zzsecretzz"), on_disk(b"qqvalueqq")) == (0, 0)
    assert [found.id for found in memory.search("home1", "lamp")] == ["kept"]
    assert memory.forget("home1") == 1
    assert memory.snapshot("home1") == []
    assert on_disk(b"the lamp") == 0


# --- the file --------------------------------------------------------------------------------------------


def test_a_reopened_memory_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "new" / "memory.sqlite"
    with Memory(path) as memory:
        memory.append([prompt("p")])
    with Memory(path) as memory:
        assert memory.prompt("p") == prompt("p")


def test_a_file_of_a_newer_llmtwin_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "memory.sqlite"
    Memory(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 999")
    with pytest.raises(Conflict, match="newer"):
        Memory(path)


def test_what_is_no_database_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "memory.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(Unavailable, match="not a database") as caught:
        Memory(path)
    assert "\n" not in str(caught.value)


def test_a_closed_memory_says_so(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory.sqlite")
    memory.close()
    with pytest.raises(Unavailable, match="closed"):
        memory.latest("home1", PATHS[0])
