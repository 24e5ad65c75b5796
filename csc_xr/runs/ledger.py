"""The account of an output folder: which scenes it is to hold, and how far each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from csc_xr.errors import ParameterError
from csc_xr.files import read_json, write_json
from csc_xr.record import RECORD_END
from csc_xr.runs.unfinished import failure_file, find_work

LEDGER = "csc_xr_job.json"
"""Name of the file in an output folder that lists its scenes."""

SCENES = "scenes"
"""Folder of the files of single scenes, in the output folder of a stack."""

State = Literal["done", "unfinished", "failed", "missing"]


@dataclass(frozen=True)
class SceneStatus:
    """How far a scene is.

    Attributes
    ----------
    name : str
        The scene.
    state : {"done", "unfinished", "failed", "missing"}
        Missing scenes have not been begun.
    detail : str
        When it was done, how many chunks there are, or why it failed.
    """

    name: str
    state: State
    detail: str = ""


def write_ledger(
    out: Path, names: Sequence[str], *, kind: Literal["images", "stack"], facts: Mapping[str, Any]
) -> None:
    """List the scenes that an output folder is to hold, before work begins.

    Parameters
    ----------
    out : Path
        The output folder. Images that are listed already stay listed; a stack is one whole.
    names : sequence of str
        Scenes.
    kind : {"images", "stack"}
        Where the outputs of a scene are.
    facts : mapping
        What else a reader may want to know, as plain values.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    listed = read_json(out / LEDGER).get("scenes", []) if kind == "images" else []
    scenes = list(dict.fromkeys([*listed, *names]))
    write_json({"kind": kind, "scenes": scenes, **facts}, out / LEDGER)


def folder_status(folder: str | Path) -> list[SceneStatus]:
    """Tell what is done, unfinished, failed and missing in an output folder.

    Parameters
    ----------
    folder : str or Path
        Output folder of ``classify`` or ``classify_stack``, or the store in it.

    Returns
    -------
    list of SceneStatus
        In order of the scenes.

    Raises
    ------
    ParameterError
        When nothing was classified into the folder.
    """
    out = Path(folder)
    if not (out / LEDGER).is_file() and (out.parent / LEDGER).is_file():
        out = out.parent
    ledger = read_json(out / LEDGER)
    if not ledger:
        raise ParameterError(
            f"The status of an output folder is asked for, but {folder} has no {LEDGER}: nothing "
            "was classified into it. Check the path."
        )
    files = out / SCENES if ledger["kind"] == "stack" else out
    unfinished = {work.name: work for work in find_work(files)}
    found = []
    for name in ledger["scenes"]:
        record = read_json(files / f"{name}{RECORD_END}")
        failure = read_json(failure_file(files, name))
        if name in unfinished:
            counts = unfinished[name].counts()
            told = [f"{what} {count.found}/{count.total}" for what, count in counts.items()]
            status = SceneStatus(name, "unfinished", f"chunks: {', '.join(told)}")
        elif record:
            status = SceneStatus(name, "done", str(record["finished"]))
        else:
            status = SceneStatus(name, "missing")
        if failure and status.state != "done":
            status = SceneStatus(name, "failed", str(failure["error"]))
        found.append(status)
    return found
