"""The project's style as a test: each finding names the file, the line and the remedy."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX = 480
# Longer ones that wait to be split; none may grow.
FILE_LINES_MAX_OF = {"llmtwin/twins/home/simulator.py": 915}
FUNCTION_LINES_MAX = 60

LIBRARY = sorted((ROOT / "llmtwin").rglob("*.py"))
OTHERS = [
    file for part in ("tests", "docs", "bench", "examples") for file in sorted((ROOT / part).glob("*.py"))
]
ALL = [*LIBRARY, *(file for file in OTHERS if file.name != "__init__.py")]


def name(file: Path) -> str:
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else file.name


def no_docstring(file: Path) -> Iterator[str]:
    if ast.get_docstring(ast.parse(file.read_text())) is None:
        yield f"{name(file)}:1: no docstring: open with one line on what the module does and does not know"


def too_long(file: Path) -> Iterator[str]:
    lines = len(file.read_text().splitlines())
    lines_max = FILE_LINES_MAX_OF.get(name(file), FILE_LINES_MAX)
    if lines > lines_max:
        yield f"{name(file)}:{lines_max}: {lines} lines: split it by what its parts know"


def long_functions(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            lines = node.end_lineno - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{name(file)}:{node.lineno}: {node.name} has {lines} lines: take a step of it out"


def prints(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{name(file)}:{node.lineno}: print: return it, report it, or leave it to the command line"


@pytest.mark.parametrize("file", ALL, ids=name)
def test_a_module_opens_with_a_docstring(file: Path) -> None:
    assert not (found := list(no_docstring(file))), "\n".join(found)


@pytest.mark.parametrize("file", LIBRARY, ids=name)
def test_a_file_of_the_library_is_short_and_so_are_its_functions(file: Path) -> None:
    found = [*too_long(file), *long_functions(file)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("file", LIBRARY, ids=name)
def test_the_library_does_not_print(file: Path) -> None:
    assert not (found := list(prints(file))), "\n".join(found)


def test_the_rules_find_what_they_look_for(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    body = "    x = 1\n" * FUNCTION_LINES_MAX
    file.write_text(f"def long():\n{body}print('hello')\n" + "y = 2\n" * FILE_LINES_MAX)
    (docstring,), (size,), (function,), (output,) = map(
        list, (no_docstring(file), too_long(file), long_functions(file), prints(file))
    )
    assert docstring.startswith("bad.py:1: no docstring")
    assert size.startswith(f"bad.py:{FILE_LINES_MAX}: ")
    assert function.startswith("bad.py:1: long has 61 lines")
    assert output.startswith("bad.py:62: print")
