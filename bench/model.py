"""Puts the figures of model twins on record: the demo's, the proxy's, the alarm's, the gate's, the canaries'.

python bench/model.py DEMO_RESULT PROXY_RESULT DRIFT_RESULT [--out docs/study/model.json]
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from llmtwin.models.base import find_base
from llmtwin.settings import read_settings
from llmtwin.study import model_canaries, model_gate, model_secrets
from llmtwin.study.steps import write
from llmtwin.twins.model.redact import Redactor
from llmtwin.twins.private.names import chatted, load_tagger

KEY = b"the bench is open"
OF_THE_DEMO = (
    *("kl_base", "kl_distilled", "kl_interpolated", "kl_reduction", "kl_reduction_interpolated", "held_out"),
    *("kl_reduction_without_own", "held_out_untold", "tunings"),
    *("discrepancy", "gate", "probe_tokens_to_detect", "drift_step_rate", "questions", "seconds_total"),
)


def main() -> None:
    """Measure what takes minutes, and take the rest from the demo and the other benches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path)
    parser.add_argument("proxy", type=Path)
    parser.add_argument("drift", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/study/model.json"))
    options = parser.parse_args()
    demo = json.loads(options.demo.read_text())
    figures = {name: demo[name] for name in OF_THE_DEMO}
    figures |= json.loads(options.proxy.read_text()) | json.loads(options.drift.read_text())
    del figures["served_logprobs"]
    redactor = Redactor(KEY, partial(chatted, tagger=load_tagger()))
    figures |= model_gate.model_gate() | model_canaries.figures(redactor)
    settings = read_settings()
    figures |= model_secrets.figures(find_base(settings.base, settings.cache_folder), redactor)
    write(options.out, figures)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
