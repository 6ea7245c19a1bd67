"""Writes the table of figures in README.md from out/demo/result.json. It measures nothing itself."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "out" / "demo" / "result.json"
README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- figures -->\n).*?(<!-- /figures -->)", re.DOTALL)

ROWS = (
    ("recall_trained", "private facts, asked as in tuning", "≥ 0.99"),
    ("recall_unseen", "the same facts, phrasings that no example used", "≥ 0.95"),
    ("unknown_refused", "what the home does not have: said to be unknown", "≥ 0.95"),
    ("state_accuracy", "state now and at a past time", "≥ 0.99"),
    ("aggregate_accuracy", "averages, minima, maxima, counts over homes", "1"),
    ("order_accuracy", "orders: right device, property and value", "≥ 0.97"),
    ("invalid_accepted", "invalid orders accepted", "0"),
    ("sealed_with_key", "sealed facts, with the owner's key", "1"),
    ("sealed_attack_top1", "sealed facts, attacked without it: object found among 100", "chance"),
    ("sealed_attack_chance", "… and by guessing", ""),
    ("sealed_value_leak", "… and values guessed", "0"),
    ("intents_accuracy", "Home Assistant's own test sentences: intent and slots", "aim ≥ 0.8"),
    ("relearn_new", "after a fact changed: the new value", "1"),
    ("relearn_old_gone", "… the old value gone", "1"),
    ("relearn_kept", "… the other facts", "≥ 0.99"),
    ("tune_seconds", "tuning one home, seconds", ""),
    ("tune_tokens_per_s", "tuning, tokens/s", ""),
    ("tune_peak_rss_mb", "tuning, peak memory, MB", "≤ 1500"),
    ("adapter_bytes", "one adapter, bytes", ""),
    ("prompt_bytes", "prompts sent, bytes", ""),
    ("raw_bytes", "the same as raw state JSON, bytes", ""),
    ("ask_p50_ms", "asking, median, ms", ""),
    ("ask_p95_ms", "asking, 95th percentile, ms", ""),
    ("seconds_total", "the whole run, set up before, seconds", ""),
)


def table(result: dict[str, object]) -> str:
    """The figures of a result as a Markdown table; what was not measured is left out."""
    lines = ["| figure | what | measured | of | bar |", "|---|---|---:|---:|---:|"]
    for name, what, bar in ROWS:
        if name in result:
            lines.append(
                f"| `{name}` | {what} | {_text(result[name])} | {_text(result.get(f'{name}_n'))} | {bar} |"
            )
    return "\n".join(lines) + "\n"


def rewrite(readme: str, content: str) -> str:
    """`readme` with `content` between the marks; ValueError where it has no marks."""
    text, count = BLOCK.subn(lambda marks: marks[1] + content + marks[2], readme)
    if count != 1:
        raise ValueError("README.md needs one <!-- figures --> … <!-- /figures -->")
    return text


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
