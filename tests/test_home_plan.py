"""The plan's grammar, and the examples that teach it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.errors import InputError
from llmtwin.records import Statistic
from llmtwin.study.phrasings import DEFAULT
from llmtwin.twins.home.plan import Act, Plan, PlanKind, allows, grammar, spans
from llmtwin.twins.home.skill.build import sentences
from llmtwin.twins.home.skill.generate import examples, normal

INTENTS = Path(__file__).parents[2] / "shared" / "data" / "home" / "intents"


@given(st.text(max_size=200))
def test_every_span_is_part_of_its_text_and_any_text_has_a_grammar(text: str) -> None:
    assert all(span in text for span in spans(text))
    assert json.loads(grammar(text))["anyOf"]


def test_a_plan_survives_its_json() -> None:
    plan = Plan(
        kind=PlanKind.ORDER, act=Act.RAISE, statistic=Statistic.AVERAGE, name="lamp", property="brighter"
    )
    assert Plan.from_json(plan.to_json()) == plan
    assert (
        plan.to_json()
        == '{"kind":"order","act":"raise","statistic":"average","property":"brighter","name":"lamp"}'
    )


@pytest.mark.parametrize("text", ["", "lamp on", '{"kind":"dance"}', '{"kind":"ask","pin":"1"}', "[]"])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Plan.from_json(text)


def test_the_grammar_admits_what_was_said_and_nothing_else() -> None:
    text = "turn on the kitchen lamp"
    assert allows(text, Plan(kind=PlanKind.ORDER, act=Act.ON, name="kitchen lamp"))
    assert not allows(text, Plan(kind=PlanKind.ORDER, act=Act.ON, name="bedroom lamp"))
    assert not allows(text, Plan(kind=PlanKind.ORDER, act=Act.ON, name="the"))
    assert not allows("hello", Plan(kind=PlanKind.OTHER, name="hello"))


def test_a_seed_gives_the_same_examples_and_their_plans_obey_the_grammar() -> None:
    made = examples(300, seed=3)
    assert made == examples(300, seed=3) != examples(300, seed=4)
    assert len({example.prompt for example in made}) == 300
    for example in made:
        assert allows(example.prompt, Plan.from_json(example.completion))


def test_no_held_out_wording_is_among_the_training_wordings() -> None:
    training = yaml.safe_load(
        (Path(DEFAULT).parents[1] / "twins/home/skill/phrasings.yaml").read_text("utf-8")
    )
    known = {_shape(text) for group in training for text in group["texts"]}
    held = [
        text for text in _texts(yaml.safe_load(Path(DEFAULT).read_text("utf-8"))) if _shape(text) in known
    ]
    assert not held, f"take these out of the training wordings: {held}"


def _texts(node: object) -> list[str]:
    if isinstance(node, str):
        return [node]
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return [text for part in inner for text in _texts(part)]


def _shape(text: str) -> str:
    for slot in ("device", "group", "person"):
        text = text.replace("{" + slot + "}", "{thing}")
    return normal(text.replace("{", " ").replace("}", " "))


def test_no_sentence_of_the_intent_tests_is_taught() -> None:
    if not INTENTS.is_dir():
        pytest.skip(f"{INTENTS} is not here")
    kept_out = sentences(INTENTS)
    assert len(kept_out) > 250
    assert not {normal(example.prompt) for example in examples(2000, 0, kept_out)} & kept_out
