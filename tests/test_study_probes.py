"""Probes are asked of a model in use, and the alarm seldom errs where that stays as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from threading import Thread
from typing import Any, ClassVar

import numpy as np
import pytest

from llmtwin.study import probes

TOKENS = ("yes", "no")


class Noisy(BaseHTTPRequestHandler):
    """Says one token, and how likely it is, with some noise; remembers what it was asked."""

    asked: ClassVar[list[dict[str, Any]]] = []
    rng = Random(0)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(request)
        tops = [{"token": t, "logprob": -1.0 - i - self.rng.random() / 50} for i, t in enumerate(TOKENS)]
        content = [{"token": "yes", "logprob": -1.0, "top_logprobs": tops}]
        message = {"role": "assistant", "content": "yes"}
        body = json.dumps({"choices": [{"message": message, "logprobs": {"content": content}}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Noisy)
    Noisy.asked.clear()
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_probes_are_the_same_token_each_time_and_are_asked_while_others_ask(url: str) -> None:
    told = []
    tokens = probes.tokens_of(url)
    assert tokens == dict.fromkeys(probes.PROBES, "yes")
    seen = probes.while_busy(url, tokens, 5, ["Where is it?"], lambda: told.append(1))
    assert seen.shape == (5, len(probes.PROBES)) and len(told) == 5
    assert ((seen >= -1.02) & (seen <= -1)).all() and len(np.unique(seen)) > 5
    sampled = [one for one in Noisy.asked if one["temperature"] == 1]
    assert sampled and {one["messages"][0]["content"] for one in sampled} == {"Where is it?"}
    assert len({one["max_tokens"] for one in sampled}) > 1
    assert all(one["max_tokens"] == 1 for one in Noisy.asked if one["temperature"] == 0)


def test_a_token_that_is_no_longer_among_the_likeliest_is_censored(url: str) -> None:
    found = probes.ask(url, {"Hello": "maybe"}, ["Hello", "Who are you"])
    assert found["Hello"] == ("maybe", probes.CENSORED) and found["Who are you"][0] == "yes"


def test_the_alarm_errs_seldom_on_a_model_that_stays_and_its_noise_is_told() -> None:
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(300, 3)) * (rng.random((300, 3)) < 0.5)
    found = probes.false_alarms(seen, streams=200, anchor=50, checks=50)
    assert found["false_alarm_served"]["streams"] == 200
    assert found["false_alarm_served"]["low"] <= 0.05
    assert 0.4 < found["served_disturbed_share"] < 0.6 and found["served_scatter_nats"] > 0
    still = probes.false_alarms(np.zeros((20, 3)), streams=50, anchor=20, checks=20)
    assert still["served_disturbed_share"] == 0


def test_disturbances_that_come_in_clumps_do_not_make_it_err_more() -> None:
    rng = np.random.default_rng(0)
    clumps = np.repeat(rng.normal(size=(50, 1, 4)) * (rng.random((50, 1, 1)) < 0.3), 6, axis=1)
    seen = clumps.reshape(300, 4) + rng.normal(size=(300, 4)) / 10
    assert probes.false_alarms(seen, streams=100)["false_alarm_served"]["low"] <= 0.05


def test_a_changed_model_is_seen_after_a_few_tokens_and_the_same_is_not() -> None:
    rng = np.random.default_rng(0)
    anchor = rng.normal(size=(100, 4))
    changed = probes.detected(anchor, 30 + rng.normal(size=(10, 4)))
    assert changed["drift_alarm"] and changed["probe_tokens_to_detect"] <= 12
    same = probes.detected(anchor, rng.normal(size=(10, 4)))
    assert same == {"drift_alarm": False, "probe_tokens_to_detect": None}
