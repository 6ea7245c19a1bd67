"""How a real llama.cpp at F16 scatters while it is in use, and how often the drift alarm errs on that.

python bench/drift.py OUT.json [--model out/demo-model/desk.gguf]
"""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from rich.progress import Progress

from llmtwin.settings import read_settings
from llmtwin.study import desk_case, probes
from llmtwin.study.processes import Child, free_port
from llmtwin.study.steps import write

QUESTIONS = 500


def main() -> None:
    """Start the demo's desk, probe it while others ask, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, default=Path("out/demo-model/desk.gguf"))
    parser.add_argument("--checks", type=int, default=probes.CHECKS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/model/customer-support"))
    given = parser.parse_args()
    settings, port = read_settings(), free_port()
    url = f"http://127.0.0.1:{port}/v1"
    arguments = ["llmtwin.study.desk", str(given.model), desk_case.INSTRUCTIONS, str(port)]
    log = given.out.with_suffix(".log")
    desk = Child(arguments, log, settings.home, settings.cache_folder, settings.base)
    with closing(desk), Progress() as bar:
        desk.wait(f"{url}/models")
        task = bar.add_task("probes", total=given.checks)
        questions = desk_case.utterances(given.data, QUESTIONS, seed=0)
        seen = probes.while_busy(url, given.checks, questions, lambda: bar.advance(task))
    found = probes.false_alarms(seen)
    write(given.out, found)
    print(found)


if __name__ == "__main__":
    main()
