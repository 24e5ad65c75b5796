"""Command lines of a page: ``csc-xr`` runs in this process, long scripts are only parsed."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

from csc_xr import cli

ROOT = Path(__file__).resolve().parents[1]
RUN = {"ls", "cat", "head", "mkdir", "cp", "mv", "unzip", "gdalinfo", "gdal_translate"}
"""Programs that are small and harmless, and run where they are installed."""

KNOWN = {
    "cd",
    "source",
    "deactivate",
    "qgis",
    "xdg-open",
    "conda",
    "ssh",
    "asv",
    "du",
    "apt-get",
    "sudo",
    "export",
}
"""Programs that are recognised and not run."""


TRAINING = {"train", "tune", "finetune"}
EPOCHS = 2
"""Of a training, at most."""


class Parsed(Exception):  # noqa: N818  (no error)
    """The arguments of a script were accepted."""


def commands_of(text: str) -> Iterator[str]:
    """Split a block into single commands: continued lines joined, comments and ``&&`` gone."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars="&;|")
        words.whitespace_split = True
        command: list[str] = []
        for word in words:
            if word in {"&&", ";"}:
                yield shlex.join(command)
                command = []
            else:
                command.append(word)
        if command:
            yield shlex.join(command)


def expanded(words: Sequence[str], folder: Path) -> list[str]:
    """Expand wildcards as the shell does."""
    done: list[str] = []
    for word in words:
        found = sorted(folder.glob(word)) if re.search(r"[*?]", word) else []
        done += [path.relative_to(folder).as_posix() for path in found] or [word]
    return done


def run(command: str, *, folder: Path, scheduler: Callable[[], str]) -> tuple[str, str]:
    """Run or check one command in the folder, which is the working directory.

    Gives all that it printed as a terminal shows it, and its output alone. A cluster of processes
    or at an address is stood in for by ``scheduler``.
    """
    words = expanded(shlex.split(command), folder)
    name, rest = words[0], words[1:]
    if name == "csc-xr":
        return run_csc_xr(_on_stand_in(rest, scheduler))
    if name == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = [word for word in rest if "=" not in word]
        assert all(f"\n{target}:" in makefile for target in targets), f"no target of {command!r}"
    elif name in {"python", "python3"}:
        check_python(rest)
    elif name in {"pip", "git"}:
        check_setup(name, rest)
    elif name == "dask":
        check_dask(rest)
    elif name in RUN:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command!r}: {done.stderr}"
        return done.stdout + done.stderr, done.stdout
    else:
        assert name in KNOWN or re.match(r"\w+=", name), f"unknown command {command!r}"
    return "", ""


def _on_stand_in(words: Sequence[str], scheduler: Callable[[], str]) -> list[str]:
    """Change what stand-ins cannot do.

    Any cluster is the one in this process. Small scenes have no tile that is all mélange.
    Trainings are short.
    """
    done = list(words)
    if done[0] == "tiles" and "--purity" not in done:
        done += ["--purity", "0.6"]
    if done[0] in TRAINING:
        asked = int(done[done.index("--epochs") + 1]) if "--epochs" in done else 2
        done += ["--epochs", str(min(asked, EPOCHS))]  # the last that is given counts
    if "--scheduler" in done:
        at = done.index("--scheduler") + 1
        if done[at] == "processes" or "://" in done[at]:
            done[at] = scheduler()
            if "--workers" in done:
                start = done.index("--workers")
                del done[start : start + 2]
    return done


def run_csc_xr(words: Sequence[str]) -> tuple[str, str]:
    """Run ``csc-xr``; a command that fails is a failure of the page."""
    everything, out = StringIO(), StringIO()

    class Both(StringIO):
        def write(self, text: str) -> int:
            out.write(text)
            return everything.write(text)

    with (
        mock.patch.object(sys, "argv", ["csc-xr", *words]),
        redirect_stdout(Both()),
        redirect_stderr(everything),
    ):
        code = _exit_code_of(cli.main)
    assert not code, f"csc-xr {shlex.join(words)}:\n{everything.getvalue()}"
    return everything.getvalue(), out.getvalue()


def _exit_code_of(main: Callable[[], None]) -> Any:
    try:
        main()
    except SystemExit as end:
        return end.code
    return 0


def check_python(words: Sequence[str]) -> None:
    """Check that a script is there and takes these options; it does not run."""
    if words[:2] == ["-m", "venv"] or words[:2] == ["-m", "build"]:
        return
    if words[:2] == ["-m", "pip"]:
        check_setup("pip", words[2:])
        return
    script = ROOT / words[0]
    assert script.is_file(), f"no script {words[0]}"
    parse = argparse.ArgumentParser.parse_args

    def only_parse(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        parse(parser, [re.sub("[<>]", "", word) for word in words[1:]])
        raise Parsed

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", only_parse),
        mock.patch.object(sys, "path", [str(script.parent), *sys.path]),
    ):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except Parsed:
            return
        except SystemExit:
            raise AssertionError(f"{words} is not what the script takes") from None
    raise AssertionError(f"{words[0]} takes no options")


def check_setup(name: str, words: Sequence[str]) -> None:
    """Check that extras of csc_xr that are installed exist."""
    assert words[0] in {"pip": {"install"}, "git": {"clone", "pull"}}[name], words
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extras in re.findall(r"(?:\.|csc_xr)\[(.*?)\]", " ".join(words)):
        for extra in extras.split(","):
            assert extra in project["optional-dependencies"], extra


def check_dask(words: Sequence[str]) -> None:
    """Check that ``dask scheduler`` and ``dask worker`` take these options."""
    from distributed.cli import dask_scheduler, dask_worker

    command = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}[words[0]]
    command.make_context(words[0], list(words[1:]))
