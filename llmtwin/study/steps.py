"""Finished steps of a long run, each a JSON file: a killed run goes on after the last. It knows no study."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmtwin.errors import InputError


class Steps:
    """The steps of one run in a folder of its own."""

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        """Take up the run in `folder`, or begin it. Raises InputError where another run lies there."""
        self.folder = folder
        if self.do("run", lambda: dict(run)) != json.loads(json.dumps(run)):
            raise InputError(
                f"{folder} holds the steps of a run with other options: remove it, or name another"
            )

    def do(self, name: str, make: Callable[[], Any]) -> Any:
        """What a step gave when it was done, now or earlier; `name` may have slashes."""
        path = self.folder / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text())
        made = make()
        write(path, made)
        return json.loads(json.dumps(made))


def write(path: Path, content: Any) -> None:
    """Put JSON at `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(scratch, path)
