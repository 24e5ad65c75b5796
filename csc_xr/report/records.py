"""Which runs a report is about: the run records of a folder, and where their results lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csc_xr.errors import ParameterError
from csc_xr.files import files_below, read_json
from csc_xr.record import RECORD_END
from csc_xr.results.observations import ImageRecord, read_image_record
from csc_xr.runs.ledger import LEDGER, SCENES, SceneStatus, folder_status

STACK_STORE = "classified.zarr"
"""Store of a classified stack, in the folder above the records of its scenes."""


@dataclass(frozen=True, eq=False)
class Run:
    """One classified scene and its record.

    Attributes
    ----------
    path : Path
        The record.
    name : str
        The scene.
    group : str
        Equal for scenes that were classified in the same way into the same folder.
    content : mapping
        What the record says, as plain values.
    store : Path
        Where its classes are; it may be gone.
    in_stack : bool
        Whether the store holds a whole stack.
    image : ImageRecord or None
        Scores and settings; None for a scene of a stack, which has no scores.
    """

    path: Path
    name: str
    group: str
    content: Mapping[str, Any]
    store: Path
    in_stack: bool
    image: ImageRecord | None

    @property
    def folder(self) -> Path:
        """Folder of the record; of a stack, the output folder."""
        return self.path.parent.parent if self.in_stack else self.path.parent

    @property
    def stage_seconds(self) -> Mapping[str, float]:
        """Seconds by stage."""
        return self.content.get("stage_seconds") or {}

    @property
    def seconds(self) -> float:
        """How long it took."""
        return sum(self.stage_seconds.values())

    def output(self, role: str) -> Path | None:
        """Find an output beside the record, also after its folder was moved.

        Parameters
        ----------
        role : str
            Such as ``"figure"``.

        Returns
        -------
        Path or None
            None when there is none, or it is gone.
        """
        known = self.content["outputs"].get(role)
        beside = None if known is None else self.path.with_name(Path(known).name)
        return beside if beside is not None and beside.exists() else None


def find_runs(path: str | Path) -> list[Run]:
    """Find the runs that a report is to show.

    Parameters
    ----------
    path : str or Path
        A run record, an output folder, or a folder of these.

    Returns
    -------
    list of Run
        Ordered by folder, then by name; records of trainings are left out.

    Raises
    ------
    ParameterError
        When there is no run, a record cannot be read, or all results are gone.
    """
    source = Path(path)
    if not source.exists():
        raise ParameterError(
            f"A report is about a folder of results or a run record, but there is no {source}. "
            "Check the path."
        )
    if source.is_file() and not source.name.endswith(RECORD_END):
        raise ParameterError(
            f"A report is about a folder of results or a run record (<name>{RECORD_END}), got the "
            f"file {source}. Pass the folder that it lies in."
        )
    runs = []
    for record in _files(source, RECORD_END):
        try:
            run = _read_run(record)
        except ParameterError:
            if source.is_file():
                raise
            continue  # collect_results names it
        runs += [] if run is None else [run]
    if not runs:
        raise ParameterError(
            f"A report needs the run record of a classified image (<name>{RECORD_END}), but there "
            f"is none in {source}. Pass a folder that csc-xr classify, stack or batch wrote."
        )
    if not any(run.store.is_dir() for run in runs):
        raise ParameterError(
            f"A report needs the classes beside the run records, but {runs[0].store} is gone"
            f"{'' if len(runs) == 1 else f', and those of {len(runs) - 1} other runs too'}. "
            "Put the result back where its record is, or classify again."
        )
    return runs


def unfinished_scenes(path: str | Path) -> list[tuple[str, SceneStatus]]:
    """List what a folder was to hold, but does not.

    Parameters
    ----------
    path : str or Path
        A run record or folder.

    Returns
    -------
    list of tuple
        Folder, relative to the path, and status of each scene that is not done; for a single
        record none.
    """
    source = Path(path)
    if source.is_file():
        return []
    return [
        (_relative(ledger.parent, source), status)
        for ledger in _files(source, LEDGER)
        for status in folder_status(ledger.parent)
        if status.state != "done"
    ]


def _files(source: Path, end: str) -> list[Path]:
    found = [source] if source.is_file() else files_below(source, end)
    return sorted(found, key=lambda file: (str(file.parent), file.name))


def _read_run(path: Path) -> Run | None:
    image = read_image_record(path)  # raises where it cannot be read
    content = read_json(path)
    name = path.name.removesuffix(RECORD_END)
    if image is not None:
        store = path.with_name(Path(content["outputs"]["result"]).name)
        group = f"{path.parent} {image.run}"
        return Run(path, image.scene, group, content, store, in_stack=False, image=image)
    above = path.parent.parent
    if path.parent.name != SCENES or read_json(above / LEDGER).get("kind") != "stack":
        return None
    return Run(path, name, str(above), content, above / STACK_STORE, in_stack=True, image=None)


def _relative(folder: Path, source: Path) -> str:
    return folder.relative_to(source).as_posix() if folder != source else ""
