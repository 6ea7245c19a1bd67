"""What others wrote is shown as they wrote it: it is no markup, and breaks nothing."""

from __future__ import annotations

import pytest

from llmtwin.primary.trying import Tried
from llmtwin.records import Card, now
from llmtwin.show import out, show_audit, show_card, show_tried
from llmtwin.twins.audit import Audit
from llmtwin.twins.intervals import Estimate
from llmtwin.twins.model.checks import PassRates
from llmtwin.twins.model.discrepancy import Discrepancy, Measured
from llmtwin.twins.model.forecast import foretell

ODD = "[/terms] [x] [red]all:on:"


def test_the_notes_and_figures_of_a_card_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_card(Card(twin="ada", version=1, kind="person", created_at=now(), figures={ODD: 1.0}, notes=(ODD,)))
    assert capsys.readouterr().out.count(ODD) == 2


def test_the_notes_of_an_audit_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_audit(Audit((), notes=(ODD,)))
    assert ODD in capsys.readouterr().out


def test_the_names_of_checks_are_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "width", 200)
    measured = Discrepancy(1, (Measured(ODD, None, None, None, None),))
    rates = (PassRates(ODD, 1.0, 1.0, Estimate(0.0, 0.0, 0.0, 1)),)
    show_tried(Tried(measured, rates, {ODD: 1}, (foretell([1.0, 1.0], "a change", ODD, 1),)))
    shown = capsys.readouterr()
    assert (shown.out.count(ODD), shown.err.count(ODD)) == (3, 1)
