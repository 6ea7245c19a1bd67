"""Two rules that let a Markdown parser read reStructuredText. It does not know what its blocks are for.

Many notes are written in reStructuredText, or in plain text that looks like it. CommonMark takes its
underlined headings for fences and its literal blocks for paragraphs; these rules come first.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock

# `=` and `-` are headings of CommonMark already, of the levels 1 and 2.
_UNDERLINE = re.compile(r"([~^\"'*+#:.`_])\1{2,}\s*\Z")
_LEVEL_MIN = 3
# What the lines before a literal block end with, or are.
_ANNOUNCED = re.compile(r"::\s*\Z|^\s*\.\. (?:code|code-block|sourcecode|parsed-literal|math)::")
_ENDS_LIKE_PROSE = re.compile(r"^\s*\.\. (?!code|sourcecode|parsed-literal|math)[\w-]+::\s*\Z")


def parser() -> MarkdownIt:
    """A parser of CommonMark with tables, underlined headings and literal blocks; it takes no line apart."""
    made = MarkdownIt("commonmark").enable("table")
    made.block.ruler.before("code", "literal_block", _literal_block)
    made.block.ruler.before("fence", "underlined_heading", _underlined_heading)
    made.core.ruler.disable(["inline", "text_join"])
    return made


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] : state.eMarks[line]]


def _underlined_heading(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A line with one of punctuation below it, at least as long."""
    if state.is_code_block(start) or start + 1 >= end or state.sCount[start + 1] < state.blkIndent:
        return False
    title, rule = _line(state, start).strip(), _line(state, start + 1).strip()
    underline = _UNDERLINE.match(rule)
    if underline is None or not title or len(rule) < len(title) or _UNDERLINE.match(title):
        return False
    if not silent:
        # Levels are in the order in which the rules first appear, as in reStructuredText.
        ranks: list[str] = state.env.setdefault("underlines", [])
        if underline[1] not in ranks:
            ranks.append(underline[1])
        tag = f"h{min(6, _LEVEL_MIN + ranks.index(underline[1]))}"
        state.line = start + 2
        opening = state.push("heading_open", tag, 1)
        opening.map = [start, state.line]
        content = state.push("inline", "", 0)
        content.content, content.map, content.children = title, [start, state.line], []
        state.push("heading_close", tag, -1)
    return True


def _literal_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """The indented lines after a line that ends in `::`, however small the indent."""
    above = start - 1
    while above >= 0 and state.isEmpty(above):
        above -= 1
    if above < 0 or above == start - 1 or state.sCount[start] <= max(state.sCount[above], state.blkIndent):
        return False
    announced = _line(state, above)
    if not _ANNOUNCED.search(announced) or _ENDS_LIKE_PROSE.match(announced):
        return False
    if not silent:
        state.line = _dedent(state, start, end, state.sCount[above])
        token = state.push("literal_block", "code", 0)
        token.map = [start, state.line]
    return True


def _dedent(state: StateBlock, start: int, end: int, indent: int) -> int:
    """The line after the last that is indented by more than that."""
    line = last = start
    while line < end and (state.isEmpty(line) or state.sCount[line] > indent):
        if not state.isEmpty(line):
            last = line
        line += 1
    return last + 1
