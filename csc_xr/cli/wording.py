"""Messages in the words of the command line: options where Python has arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup, TyperOption

_ARGUMENT = re.compile(
    r"(?<![\w.`\/-])(?P<name>[a-z]\w*)="
    r"(?P<value>'[^']*'|\((?:\.\.\.)?\)|-?\d+(?:\.\d+)?|[A-Za-z]\w*)?"
    r"(?: \((?P<option>--[^)]+)\))?"
)


def as_options(message: str, application: Any, words: Sequence[str]) -> str:
    """Put options where a message names the arguments that stand for them in Python.

    ``Pass offset=-1000`` becomes ``Pass --offset -1000`` for a command that has the option,
    ``bands=(...)`` becomes ``--bands LIST``, and ``overwrite=True (--overwrite)`` becomes
    ``--overwrite``. The rest stays as it is.

    Parameters
    ----------
    message : str
        What is to be told.
    application : typer.core.TyperGroup
        All commands.
    words : sequence of str
        What the user typed after the name of the program.

    Returns
    -------
    str
        The message, reworded.
    """
    options = _options(application, words)

    def reworded(found: re.Match[str]) -> str:
        if found["option"]:
            return found["option"]
        option = options.get(found["name"])
        if option is None:
            return found[0]
        value = found["value"] or ""
        if option.is_flag:
            off = value in ("()", "False") and option.secondary_opts
            return (option.secondary_opts if off else option.opts)[0]
        value = "LIST" if value == "(...)" else value.strip("'")
        return f"{option.opts[0]} {value}".rstrip()

    return _ARGUMENT.sub(reworded, message)


def _options(command: Any, words: Sequence[str]) -> dict[str, TyperOption]:
    """Look up the options of the command that these words call."""
    for word in words:
        if not isinstance(command, TyperGroup) or word not in command.commands:
            break
        command = command.commands[word]
    return {
        option.opts[0].removeprefix("--").replace("-", "_"): option
        for option in command.params
        if isinstance(option, TyperOption)
    }
