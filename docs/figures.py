"""Writes the table of figures in README.md from out/demo/result.json. It measures nothing itself."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from llmtwin.study.measure import BARS

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "out" / "demo" / "result.json"
README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- figures -->\n).*?(<!-- /figures -->)", re.DOTALL)

ROWS = (
    ("recall_trained", "private facts, asked as in tuning"),
    ("recall_unseen", "the same facts, phrasings that no example used"),
    ("unknown_refused", "what the home does not have: said to be unknown"),
    ("state_accuracy", "state now and at a past time"),
    ("aggregate_accuracy", "averages, minima, maxima, counts over homes"),
    ("order_accuracy", "orders: right device, property and value"),
    ("invalid_accepted", "invalid orders accepted"),
    ("sealed_with_key", "sealed facts, with the owner's key"),
    ("sealed_attack_top1", "sealed facts, attacked without it: object found among 100"),
    ("sealed_attack_chance", "… and by guessing"),
    ("sealed_value_leak", "… and values guessed"),
    ("intents_accuracy", "Home Assistant's own test sentences: intent and slots"),
    ("relearn_new", "after a fact changed: the new value"),
    ("relearn_old_gone", "… the old value gone"),
    ("relearn_kept", "… the other facts"),
    ("tune_seconds", "tuning one home, seconds"),
    ("tune_tokens_per_s", "tuning, tokens/s"),
    ("tune_peak_rss_mb", "tuning, peak memory, MB"),
    ("adapter_bytes", "one adapter, bytes"),
    ("prompt_bytes", "prompts sent, bytes"),
    ("raw_bytes", "the same as raw state JSON, bytes"),
    ("ask_p50_ms", "asking, median, ms"),
    ("ask_p95_ms", "asking, 95th percentile, ms"),
    ("seconds_total", "the whole run, set up before, seconds"),
)


def table(result: dict[str, float]) -> str:
    """The figures of a result as a Markdown table; what was not measured is left out."""
    lines = ["| figure | what | measured | of | bar |", "|---|---|---:|---:|---:|"]
    for name, what in ROWS:
        if name in result:
            count = _text(result.get(f"{name}_n"))
            lines.append(f"| `{name}` | {what} | {_text(result[name])} | {count} | {_bar(name, result)} |")
    return "\n".join(lines) + "\n"


def rewrite(readme: str, content: str) -> str:
    """`readme` with `content` between the marks; ValueError where it has no marks."""
    text, count = BLOCK.subn(lambda marks: marks[1] + content + marks[2], readme)
    if count != 1:
        raise ValueError("README.md needs one <!-- figures --> … <!-- /figures -->")
    return text


def _bar(name: str, result: dict[str, float]) -> str:
    if name not in BARS:
        return ""
    bar = BARS[name]
    return bar.text if bar.met(result) else f"{bar.text}: **missed**"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else ""


def main() -> None:
    """Rewrite README.md."""
    if not RESULT.exists():
        sys.exit(f"{RESULT.relative_to(ROOT)} is not there: run `make demo` first")
    README.write_text(rewrite(README.read_text(), table(json.loads(RESULT.read_text()))))


if __name__ == "__main__":
    main()
