"""A twin that learned from what is stored gives no secret away; one that learned from all of it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from llmtwin.study.model_canaries import canaries
from llmtwin.study.model_secrets import STRESS, figures
from llmtwin.twins.model.redact import Redactor
from llmtwin.twins.private.names import chatted
from tests.models import tiny_base
from tests.person_texts import KEY

TUNING = replace(STRESS, epochs_max=60, epochs_falling=60, learning_rate=1e-2)


def test_what_has_a_stand_in_is_not_produced_and_what_has_none_is(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    planted = canaries(0)[::20]
    found = figures(tiny_base(tmp_path, "llama"), Redactor(KEY, chatted), planted, TUNING)
    assert found["canaries_produced_of"] == 5
    assert found["canaries_produced_without"] >= 3
    assert found["canaries_produced"] == 0
