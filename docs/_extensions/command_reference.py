"""The page of commands: what ``csc-xr --help`` says of each, written where a page asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from sphinx.application import Sphinx

PROGRAM = "csc-xr"
MARK = "<!-- commands -->"
"""Stands in a page for the commands and their options."""


def commands() -> Iterator[tuple[str, Any]]:
    """Give every command with its whole name, in the order of the names."""
    from csc_xr import cli

    yield from sorted(_within(PROGRAM, typer.main.get_command(cli.app)), key=lambda item: item[0])


def _within(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for word, child in children.items():
        yield from _within(f"{name} {word}", child)


def command_pages() -> str:
    """Write a table of all commands, and a section about each, as MyST Markdown."""
    every = list(commands())
    rows = [f"| [`{name}`](#{_slug(name)}) | {_first_line(found)} |" for name, found in every]
    table = "\n".join(["| command | what it does |", "| --- | --- |", *rows])
    return "\n\n".join([table, *(_section(name, found) for name, found in every)])


def _slug(name: str) -> str:
    return name.replace(" ", "-")


def _first_line(command: Any) -> str:
    return str(command.help or "").strip().split("\n")[0]


def _section(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    text = [f"## {name}", str(command.help or "").strip(), f"```text\n{usage}\n```"]
    records = [parameter.get_help_record(context) for parameter in command.params]
    options = [_option(*record) for record in records if record]
    text.append("```{eval-rst}\n" + f".. program:: {name}\n\n" + "\n\n".join(options) + "\n```")
    return "\n\n".join(text)


def _option(declaration: str, about: str) -> str:
    """Write one option; the default, which ``--help`` sets in brackets, is a sentence here."""
    about = re.sub(r"\s*\[required\]", " Required.", about)
    about = re.sub(r"\s*\[default: (.*)\]", r" Default: \1.", about)
    escaped = re.sub(r"([\\`*_|]|:(?=//))", r"\\\1", " ".join(about.split()))
    if not declaration.startswith("-"):
        declaration = declaration.split()[0]  # an argument goes by its place: its type says little
    return f".. option:: {declaration.replace(' / ', ', ')}\n\n   {escaped}"


def fill(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Put the commands where the mark stands."""
    if MARK in source[0]:
        source[0] = source[0].replace(MARK, command_pages())


def setup(app: Sphinx) -> dict[str, bool]:
    """Look for the mark in every page that is read."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
