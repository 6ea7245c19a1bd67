"""How a real llama.cpp at F16 scatters while it is in use, how often the drift alarm errs on that, and how
soon it sees the same model after one more step of training.

python bench/drift.py OUT.json [--demo out/demo-model]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rich.progress import Progress

from llmtwin.settings import read_settings
from llmtwin.study import desk_case, probes
from llmtwin.study.model_gate import PROBE_ANCHOR
from llmtwin.study.processes import Child, free_port
from llmtwin.study.steps import write

QUESTIONS = 500
PROBE_CHECKS_MAX = 10


def main() -> None:
    """Probe the demo's desk, then the changed one, while others ask; write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--demo", type=Path, default=Path("out/demo-model"))
    parser.add_argument("--checks", type=int, default=probes.CHECKS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/model/customer-support"))
    given = parser.parse_args()
    questions = desk_case.utterances(given.data, QUESTIONS, seed=0)
    with Progress() as bar:
        task = bar.add_task("probes", total=given.checks)
        with desk(given.demo / "desk.gguf", given.out) as url:
            tokens = probes.tokens_of(url)
            seen = probes.while_busy(url, tokens, given.checks, questions, lambda: bar.advance(task))
        with desk(given.demo / "changed.gguf", given.out) as url:
            changed = probes.while_busy(url, tokens, PROBE_CHECKS_MAX, questions)
    found = probes.false_alarms(seen) | probes.detected(seen[-PROBE_ANCHOR:], changed)
    write(given.out, found | {"served_logprobs": seen.tolist()})
    print(found)


@contextmanager
def desk(model: Path, out: Path) -> Iterator[str]:
    """The address of the demo's desk on that file."""
    settings, port = read_settings(), free_port()
    arguments = ["llmtwin.study.desk", str(model), desk_case.INSTRUCTIONS, str(port)]
    child = Child(arguments, out.with_suffix(".log"), settings.home, settings.cache_folder, settings.base)
    with closing(child):
        url = f"http://127.0.0.1:{port}/v1"
        child.wait(f"{url}/models")
        yield url


if __name__ == "__main__":
    main()
