"""What `watch` shows of a model's twin by its record, and what `proxy --twin` asks of a real server."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from llmtwin import show
from llmtwin.cli import app
from llmtwin.edge import mirrored
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import InputError, Unavailable
from llmtwin.primary import place, shadowing
from llmtwin.primary.recorded import recorded
from llmtwin.settings import Settings
from llmtwin.twin import Twin
from llmtwin.twins.model.exchange import EXCHANGES, SHADOWS, Exchange, Shadow, append
from llmtwin.twins.model.running import ANCHOR, State, Tokens
from llmtwin.twins.private import names
from tests.conftest import ServerProcess
from tests.model_primary import Stub
from tests.model_proxies import Proxy, kept, until
from tests.models import tiny_base
from tests.test_model_twin import COUNT, QUICK, line

URL = "http://127.0.0.1:1/v1"


def record(settings: Settings) -> tuple[Path, Exchange]:
    """What a proxy leaves beside a twin's store: the folder, and the first exchange in it."""
    with EdgeStore(settings.edge_folder / "desk") as store:
        folder = mirrored.folder(store)
    folder.mkdir()
    lines = [Exchange.model_validate(line(number, "the lamp is on")) for number in range(COUNT)]
    for one in lines:
        append(folder / EXCHANGES, one)
    return folder, lines[0]


def test_what_is_on_record_says_drift_cost_and_what_the_twin_answered(settings: Settings) -> None:
    with Twin.new("desk", "model", settings=settings):
        assert recorded("desk", settings) == State(0, 0, None, None, Tokens(), Tokens())
    folder, first = record(settings)
    said = {**line(0, "the lamp is off")["response"], "usage": {"prompt_tokens": 7, "completion_tokens": 4}}
    append(folder / SHADOWS, Shadow(timestamp=1.0, exchange=first.id, latency_s=0.1, response=said))
    state = recorded("desk", settings)
    assert (state.exchanges, state.shadows) == (COUNT, 1) and state.tokens_twin == Tokens(7, 4)
    assert state.drift is not None and state.drift.replies == COUNT - ANCHOR and not state.drift.alarm
    assert state.discrepancy is not None and state.discrepancy.exchanges == 1


def test_watching_prints_nearness_drift_and_cost(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base(tmp_path, "llama")
    monkeypatch.setenv("LLMTWIN_BASE", str(base.folder))
    monkeypatch.setenv("LLMTWIN_ENGINE", "torch")
    own = settings.model_copy(update={"base": str(base.folder), "engine": "torch"})
    with Twin.new("desk", "model", settings=own) as twin:
        record(own)
        twin.tune(options=replace(QUICK, epochs_max=3))
    printed = CliRunner().invoke(app, ["watch", "desk", "--once"], catch_exceptions=False).output
    assert "0 facts asked, 0 wrong" in printed and "beside its primary" in printed
    assert f"of {COUNT - ANCHOR} replies beside the first ones" in printed and "ALARM" not in printed
    assert "cost: the primary 0 tokens asked and 0 said on record\n" in printed


def test_a_view_is_drawn_in_its_place_below_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(show, "out", Console(file=terminal, force_terminal=True, width=80))
    with show.in_place() as draw:
        draw("first view")
        show.out.print("a card")
        draw("second view")
    written = terminal.getvalue()
    assert written.index("first view") < written.index("a card") < written.index("second view")
    assert "\x1b[2K" in written[written.index("first view") : written.index("a card")]  # the line is erased


def test_the_server_that_serves_the_twin_is_asked_with_its_own_token(
    settings: Settings, tmp_path: Path, plugins: Path
) -> None:
    with Twin.new("desk", "model", settings=settings):
        pass
    server = ServerProcess(settings.server_folder, plugins)
    server.start()
    try:
        with Stub() as primary:
            place.set_primary("desk", primary.url, settings)
            options = shadowing.proxy_options("desk", "127.0.0.1", 0, 1.0, server.url, settings)
            assert options.mirror is not None
            mirror = replace(options.mirror, redact=kept)  # the libraries of the other take long to load
            with Proxy(tmp_path / "log", options.primary, mirror=mirror) as proxy:
                asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
                with proxy.counting("shadowed"), proxy.client() as client:
                    client.post("chat/completions", json=asked).raise_for_status()
                until(lambda: 'llmtwin_discrepancy{measure="exact_match"}' in proxy.metrics())
    finally:
        server.stop()
    assert recorded("desk", settings).shadows == 1


@pytest.mark.parametrize("installed", [False, True])
def test_a_proxy_says_first_that_names_are_recorded_where_nothing_finds_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    monkeypatch.setattr(names, "MODEL", "json" if installed else "no_such_model_of_names")
    with Twin.new("desk", "model", settings=settings):
        place.set_primary("desk", URL, settings)
    with EdgeStore(settings.edge_folder / "desk") as store:
        mirrored.folder(store).write_text("in the way")  # so that it does not start
    said = CliRunner().invoke(app, ["proxy", "desk", "--mirror", "0.5"])
    assert isinstance(said.exception, Unavailable) and "cannot be made" in str(said.exception)
    told = " ".join(said.output.split())
    assert ("names within sentences are NOT hidden" in told) is not installed
    assert ("pip install 'llmtwin[names]'" in told) is not installed


def test_there_is_nothing_to_ask_a_twin_where_nothing_is_recorded(settings: Settings) -> None:
    with Twin.new("desk", "model", settings=settings):
        place.set_primary("desk", URL, settings)
    with pytest.raises(InputError, match="add --mirror"):
        shadowing.proxy_options("desk", "127.0.0.1", 0, twin=URL, settings=settings)
    with pytest.raises(InputError, match="is no address"):
        shadowing.proxy_options("desk", "127.0.0.1", 0, 0.5, "localhost", settings)
    mirror = shadowing.proxy_options("desk", "127.0.0.1", 0, 0.5, "http://a:1/", settings).mirror
    assert mirror is not None and mirror.twin is not None and mirror.measures
    assert mirror.twin.url == "http://a:1/v1" and mirror.twin.model == "desk" and mirror.twin.token
    assert mirror.twin.token not in repr(mirror)
