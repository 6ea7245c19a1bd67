"""The process beside the proxy: it gives way, reports together, and outlives what cannot be shown."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import replace

import pytest

from llmtwin.proxy.aside import REPORTS_MAX, Aside, Reporter
from llmtwin.proxy.metrics import Outcome, Report, Usage
from llmtwin.proxy.passed import Passed
from tests.model_proxies import PASSED, until


def passed(tokens: int) -> Passed:
    """A whole call whose answer says what it used."""
    used = {"prompt_tokens": tokens, "completion_tokens": 1}
    return replace(
        PASSED,
        request=json.dumps({"model": "gpt", "messages": []}).encode(),
        response=json.dumps({"choices": [], "usage": used}).encode(),
    )


def test_reports_go_together_the_last_ones_at_the_end_and_no_more_than_so_many() -> None:
    near, far = multiprocessing.Pipe(duplex=False)
    reporter = Reporter(far)
    used = [Usage("chat", "gpt", number, 1) for number in range(3)]
    for report in (*used[:2], Outcome("recorded"), Outcome("cut"), Outcome("recorded"), used[2]):
        reporter.send(report)
    reporter.close()
    assert near.recv() == [Outcome("recorded", 2), Outcome("cut", 1), *used] and not near.poll()
    crowded = Reporter(far)
    for number in range(REPORTS_MAX + 2):
        crowded.send(Outcome(str(number)))
    assert len(crowded._waiting) <= REPORTS_MAX
    near.close()
    crowded.close()  # with nobody there, too


def test_a_report_that_cannot_be_shown_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    shown: list[Report] = []

    def take(report: Report) -> None:
        if isinstance(report, Usage) and report.tokens_input == 10**400:
            raise OverflowError
        shown.append(report)

    aside = Aside(None, take)
    try:
        aside.offer(passed(10**400))
        aside.offer(passed(7))
        until(lambda: bool(shown))
    finally:
        aside.close()
    assert [report.tokens_input for report in shown if isinstance(report, Usage)] == [7]
    assert "not shown: OverflowError" in caplog.text


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="this system has no class for idle cores")
def test_it_runs_on_what_the_cores_leave_idle() -> None:
    aside = Aside(None, lambda report: None)
    try:
        until(lambda: os.sched_getscheduler(aside._process.pid or 0) == os.SCHED_IDLE)
    finally:
        aside.close()
