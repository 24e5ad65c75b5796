"""Code blocks of a page: found, and what they should print compared with what they print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

RUN = {"sh", "python"}
FILES = {"csv", "json", "toml"}
SHOWN = {"text", "xml", "yaml", "bibtex", "dockerfile"}
"""Languages that are looked at only, unless text follows a block that runs."""

FENCE = re.compile(r"^ {0,3}(?P<marks>```+|~~~+)(?P<language>.*)$")
INDENTED = re.compile(r"^ {4}(?=\S)")
NAMED = re.compile(r"`([^`\s]+\.(?:csv|json|toml))`.*:$")
NUMBER = re.compile(
    r"(?<![\w.])(?:nan|NaN|[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?)(?![\w.]*[A-Za-z_])"
)
ANYTHING = "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True)
class Block:
    """A block of code, or of what code printed.

    Attributes
    ----------
    language : str
        As the fence says it; "" where it says nothing.
    text : str
        What stands in it.
    line : int
        Of its first line in the page, from 1.
    before : str
        The last line of text before the fence; "" where another block ends there.
    """

    language: str
    text: str
    line: int
    before: str

    @property
    def file(self) -> str | None:
        """Name of the file that this block is, where the line before the fence names one."""
        named = NAMED.search(self.before)
        return named[1] if named and self.language in FILES else None

    @property
    def is_output(self) -> bool:
        """Whether it stands right after a block."""
        return self.language == "text" and not self.before


def read_blocks(page: Path) -> list[Block]:
    """Find the blocks of a page in order; indented lines of code count as commands."""
    lines = page.read_text(encoding="utf-8").splitlines()
    blocks: list[Block] = []
    before = "start"
    at = 0
    while at < len(lines):
        fence = FENCE.match(lines[at])
        if fence:
            end = next(
                row for row in range(at + 1, len(lines)) if lines[row].strip() == fence["marks"]
            )
            language = fence["language"].strip()
            indent = len(lines[at]) - len(lines[at].lstrip())
            text = "\n".join(line[indent:] for line in lines[at + 1 : end])
            blocks.append(Block(language, text, at + 2, before))
            before, at = "", end + 1
            continue
        if INDENTED.match(lines[at]) and not lines[at - 1].strip() and before[:1] not in "-*1":
            blocks.append(Block("sh", lines[at].strip(), at + 1, before))
        elif lines[at].strip():
            before = lines[at].strip()
        at += 1
    return blocks


def differs(expected: str, printed: str) -> str | None:
    """Say where what was printed is not what the page shows, or None.

    Words must agree, and a number must stand where the page has one; its value may be another,
    since pages are written about larger scenes than the stand-ins. ``...`` stands for anything,
    on a line of its own for any lines.
    """
    pattern = []
    for line in expected.strip().splitlines():
        if line.strip() == "...":
            pattern.append(r"(?:[^\n]*\n)*?")
        else:
            parts = _plain(line.replace("...", ANYTHING)).split(ANYTHING)
            pattern.append(r"[^\n]*".join(map(re.escape, parts)) + "\n")
    plain = "".join(f"{_plain(line)}\n" for line in printed.splitlines() if line.strip())
    wanted = "".join(part for part in pattern if part != "\n")
    if re.fullmatch(wanted, plain):
        return None
    return f"the page shows\n\n{expected}\n\nand printed was\n\n{printed}"


def _plain(line: str) -> str:
    """Give a line with ``#`` for numbers, and single spaces."""
    return " ".join(NUMBER.sub("#", line).split())
