"""`try` against real servers: checks of one's own, what is foretold, and what came."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from llmtwin.cli import app
from llmtwin.errors import InputError, NotFound
from llmtwin.primary.equal import compare
from llmtwin.primary.foretold import ELSEWHERE, foretold
from llmtwin.primary.place import set_primary
from llmtwin.primary.trying import STAYED, try_change
from llmtwin.primary.users import talk
from llmtwin.settings import Settings
from llmtwin.twin import Twin
from llmtwin.twins.model import forecast
from llmtwin.twins.model.checks import read_checks
from tests.model_speaker import Json, Speaker, asked, line, record
from tests.person_models import needs_embeddings

COUNT = 20


def say(request: Json) -> str | int | Json:
    """Hotter than 1 it forgets the price, at 2 it is down, and at 1.5 what it says is no reply."""
    heat = request.get("temperature", 0)
    number = request["messages"][-1]["content"].split()[-1]
    if heat == 2:
        return 500
    if heat == 1.5:
        return {"choices": []}
    if heat > 1 and int(number) % 4 == 0:
        return "I do not know."
    return f"Lamp {number} costs EUR {number}."


@pytest.fixture(scope="module")
def primary() -> Iterator[Speaker]:
    with Speaker(say) as speaker:
        yield speaker


@pytest.fixture
def desk(settings: Settings, tmp_path: Path, primary: Speaker) -> Iterator[Twin]:
    with Twin.new("desk", "model", settings=settings) as twin:
        set_primary("desk", primary.url, settings)
        lines = [line(1e9 + n, f"s{n}", price(n), f"Lamp {n} costs EUR {n}.") for n in range(COUNT)]
        record(settings, "desk", lines)
        yield twin


def price(number: int, **more: Any) -> Json:
    return asked(f"What is lamp {number}", temperature=0.5, **more)


def checks(folder: Path) -> list[str]:
    (folder / "price.regex").write_text("EUR \\d+\n")
    (folder / "own.py").write_text("def short(text):\n    return len(text) < 40\n")
    (folder / "object.json").write_text('{"type": "object"}')
    return [str(folder / "price.regex"), f"{folder}/own.py:short", str(folder / "object.json")]


def test_checks_are_rows_with_pass_rates_of_both_sides(
    desk: Twin, settings: Settings, tmp_path: Path
) -> None:
    told: list[int] = []
    given = checks(tmp_path)
    found = try_change("desk", ["temperature=1.2"], given, settings=settings, tell=told.append)
    assert told == [COUNT]
    rows = {one.name: one for one in found.measured.measures}
    assert set(given) < set(rows)
    rates = {one.name: one for one in found.rates}
    priced = rates[given[0]]
    assert (priced.primary, priced.twin) == (1, pytest.approx(0.75))
    assert priced.difference.value == pytest.approx(-0.25)
    assert -1 < priced.difference.low < -0.25 < priced.difference.high < 0.01
    apart = rows[given[0]].discrepancy
    assert apart is not None and apart.value == pytest.approx(0.25)
    assert (rates[given[1]].primary, rates[given[2]].twin) == (1, 0)
    assert [one.score for one in found.foretold] == [STAYED, *given]


def test_a_request_on_record_twice_is_the_noise_floor(desk: Twin, settings: Settings, tmp_path: Path) -> None:
    again = [line(1e9 + 100 + n, f"s{n}", price(n), "No idea.") for n in range(COUNT)]
    record(settings, "desk", again)
    given = checks(tmp_path)[:1]
    found = try_change("desk", ["temperature=1.2"], given, settings=settings)
    row = next(one for one in found.measured.measures if one.name == given[0])
    assert row.floor is not None and row.floor.value == 1
    assert row.ratio is not None and row.ratio.value == pytest.approx(0.25)


@needs_embeddings
def test_meanings_are_compared_and_a_multiple_of_the_noise_floor(desk: Twin, settings: Settings) -> None:
    again = [line(1e9 + 100 + n, f"s{n}", price(n), "No idea.") for n in range(COUNT)]
    record(settings, "desk", again)
    found = try_change("desk", ["temperature=1.2"], settings=settings)
    row = next(one for one in found.measured.measures if one.name == "embedding_distance")
    assert row.ratio is not None and 0 < row.ratio.value < 1


def test_each_key_goes_to_its_own_host_alone(
    desk: Twin, settings: Settings, primary: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "the primary's")
    with Speaker(say) as other:
        before = len(primary.keys)
        for base in (other.url, primary.url):
            try_change("desk", [f"base={base}"], sample=2, settings=settings)
        compare("desk", [f"base={other.url}"], 5, 2, settings)
        assert set(primary.keys[before:]) == {"Bearer the primary's"} and set(other.keys) == {None}
        monkeypatch.setenv("LLMTWIN_TRY_API_KEY", "the other's")
        try_change("desk", [f"base={other.url}"], sample=2, settings=settings)
        assert other.keys[-1] == "Bearer the other's"


def test_a_reply_that_cannot_be_read_is_a_failure_and_not_the_end(
    settings: Settings, tmp_path: Path, desk: Twin
) -> None:
    for heat, told in (
        ("2", "20 times: it answers with status 500"),
        ("1.5", "20 times: the response is not"),
    ):
        with pytest.raises(InputError, match=told):
            try_change("desk", [f"temperature={heat}"], settings=settings)
    odd = line(1e9 + 500, "odd", price(1), "") | {"response": {"error": "it was down"}}
    record(settings, "desk", [odd])
    assert try_change("desk", ["temperature=1"], settings=settings).measured.exchanges == COUNT


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.json", None, "there is no .*none.json"),
        ("bad.json", "{", "is no JSON"),
        ("list.json", "[]", "is no JSON schema"),
        ("odd.json", '{"type": "nonsense"}', "no JSON schema"),
        ("none.regex", None, "there is no .*none.regex"),
        ("bad.regex", "(", "no regular expression"),
        ("empty.regex", "\n", "is empty"),
        ("own.txt", "EUR", "is no check"),
        ("own.py:none", "x = 1", "no function none"),
        ("own.py:bad", "def bad(text):\n    return 1 / 0", "bad failed: ZeroDivisionError"),
        ("own.py:odd", "def odd(text):\n    return 7", "returned 7"),
        ("own.py:odd", "def odd(", "cannot be loaded: SyntaxError"),
        ("none.py:odd", None, "cannot be loaded: FileNotFoundError"),
    ],
)
def test_a_bad_check_is_one_line_and_nobody_is_asked(
    desk: Twin,
    settings: Settings,
    primary: Speaker,
    name: str,
    content: str | None,
    told: str,
    tmp_path: Path,
) -> None:
    if content is not None:
        (tmp_path / name.partition(":")[0]).write_text(content)
    before = len(primary.received)
    for ask in (try_change, lambda name, change, given, **more: talk(name, change, 2, given, **more)):
        with pytest.raises(InputError, match=told):
            ask("desk", ["temperature=1"], [f"{tmp_path}/{name}"], settings=settings)
    assert len(primary.received) == before


def test_no_check_is_read_twice() -> None:
    assert list(read_checks(["json:loads", "json:loads"])) == ["json:loads"]


def test_what_was_foretold_is_set_beside_what_came(
    desk: Twin, settings: Settings, tmp_path: Path, primary: Speaker
) -> None:
    with pytest.raises(NotFound, match="no forecasts"):
        foretold("desk", settings=settings)
    given = checks(tmp_path)[:1]
    hot, brief = ["temperature=1.2"], tmp_path / "brief prompt.txt"
    brief.write_text("Be brief.")
    try_change("desk", hot, given, settings=settings)
    try_change("desk", [f"prompt={brief}"], settings=settings)
    try_change("desk", [f"base={primary.url}"], settings=settings)
    nothing = foretold("desk", given, settings)
    assert [one.answers for one in nothing.since] == [0, 0, 0, 0] and nothing.calibration is None

    # At 1.2 all goes on as foretold, and once the system prompt is there nothing stays as it was.
    at_s = time.time() + 1
    came = [line(at_s + n, f"n{n}", {**price(n), "temperature": 1.2}, str(said)) for n, said in answered()]
    came += [line(at_s + n, f"b{n}", {**price(n, system="Be brief.")}, "EUR.") for n in range(COUNT)]
    came += [line(at_s + n, f"c{n}", price(n), "It is as it was.") for n in range(COUNT)]
    record(settings, "desk", came)
    stayed, priced, briefer, elsewhere = foretold("desk", given, settings).since
    assert (stayed.answers, stayed.share) == (COUNT, pytest.approx(0.75))
    assert stayed.checked is not None and stayed.checked.inside
    assert priced.share == pytest.approx(0.75) and priced.checked is not None and priced.checked.inside
    assert (briefer.answers, briefer.share) == (COUNT, 0)
    assert briefer.checked is not None and not briefer.checked.inside
    assert (elsewhere.note, elsewhere.checked) == (ELSEWHERE, None)
    held = foretold("desk", given, settings).calibration
    assert held == forecast.Calibration(3, 2, pytest.approx(2 / 3))
    (without,) = (one for one in foretold("desk", (), settings).since if one.forecast.score == given[0])
    assert without.note == f"give its check again: --check {given[0]}"
    brief.write_text("Be long.")
    assert "not that of the forecast" in str(foretold("desk", given, settings).since[2].note)
    brief.unlink()
    assert "cannot be read" in str(foretold("desk", given, settings).since[2].note)


def answered() -> Iterator[tuple[int, str | int | Json]]:
    for number in range(COUNT):
        yield number, say({**price(number), "temperature": 1.2})


def test_too_few_answers_are_not_judged(desk: Twin, settings: Settings, tmp_path: Path) -> None:
    try_change("desk", ["temperature=1.2"], settings=settings)
    few = [
        line(time.time() + 1 + n, f"n{n}", {**price(n), "temperature": 1.2}, "Never.")
        for n in range(COUNT - 1)
    ]
    record(settings, "desk", few)
    (one,) = foretold("desk", settings=settings).since
    assert (one.answers, one.share, one.checked) == (COUNT - 1, 0, None)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.97])
def test_forecasts_of_shares_hold_as_often_as_they_say(share: float) -> None:
    rng = np.random.default_rng(7)
    checked = []
    for _ in range(200):
        then, now = (list((rng.random(40) < share).astype(float)) for _ in range(2))
        made = forecast.foretell(then, "model=x", "match", 40)
        assert 0 <= made.low <= made.mean <= made.high <= 1
        checked.append(forecast.check(made, now))
    assert forecast.calibration(checked).share >= 0.92


def test_items_that_all_agree_do_not_say_that_none_will_differ() -> None:
    made = forecast.foretell([1.0] * 20, "model=x", "match", 20)
    assert made.high == 1 and 0.8 < made.low < 1


def test_the_command_line_shows_it_all_and_takes_one_question(
    desk: Twin, settings: Settings, tmp_path: Path
) -> None:
    given = checks(tmp_path)[0]

    def ran(*more: str) -> str:
        found = CliRunner().invoke(app, ["try", "desk", *more], catch_exceptions=False)
        assert found.exit_code == 0, found.output
        return found.output

    shown = ran("--change", "temperature=1.2", "--check", given)
    assert "20 requests at most" in shown and "75.0%" in shown and "-0.250" in shown
    assert "0 of 20 answers since: not judged yet" in ran("--foretold", "--check", given)
    for more in (
        ["--foretold", "--users", "2"],
        ["--change", "model=a", "--users", "2", "--repeats", "2"],
        ["--change", "model=a", "--repeats", "2", "--check", given],
        ["--foretold", "--change", "model=a"],
    ):
        with pytest.raises(InputError, match="ask one thing"):
            CliRunner().invoke(app, ["try", "desk", *more], catch_exceptions=False)
    with pytest.raises(InputError, match="no change is given"):
        CliRunner().invoke(app, ["try", "desk"], catch_exceptions=False)


def test_without_traffic_or_primary_one_line_says_what_to_do(settings: Settings, tmp_path: Path) -> None:
    with Twin.new("bare", "model", settings=settings):
        with pytest.raises(InputError, match="nothing is on record yet"):
            try_change("bare", ["temperature=1"], settings=settings)
        record(settings, "bare", [line(1e9 + n, f"s{n}", price(n), "a") for n in range(COUNT)])
        with pytest.raises(InputError, match="say where with base="):
            try_change("bare", ["temperature=1"], settings=settings)
        for ask in (talk, compare):
            with pytest.raises(InputError, match="no primary to ask beside the change"):
                ask("bare", ["temperature=1"], 5, settings=settings)
