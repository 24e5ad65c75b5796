"""What a report says of its runs: scores, areas, fronts, and the records themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from csc_xr.accuracy.scores import classification_report
from csc_xr.errors import ParameterError
from csc_xr.figures.confusion import confusion_figure
from csc_xr.figures.run_names import name_runs
from csc_xr.figures.score_marks import PHASES
from csc_xr.legend import ClassLegend
from csc_xr.report.pictures import Picture, picture_of_figure, picture_of_file
from csc_xr.report.records import Run
from csc_xr.report.scenes import ReportScene
from csc_xr.report.tables import (
    NOTHING,
    Cell,
    Table,
    area_table,
    confusion_table,
    front_table,
    score_table,
    value_words,
)
from csc_xr.results.tables import read_report

_WITH_LABELS = "Image, labels"
_FIGURES = {
    "figure": f"{_WITH_LABELS} and the classes of both phases",
    "front figure": "Distances from the digitised front",
    "margin figure": "Distances from the digitised valley margin",
}
_UNIT_STEP = 1000
_MOST_DRAWN = 6
"""Runs in a page whose confusion matrices are drawn; it takes a second each."""


@dataclass(frozen=True, eq=False)
class SceneEntry:
    """What the page says of one scene.

    Attributes
    ----------
    run : Run
        Where it comes from.
    anchor : str
        Its identifier in the page.
    scene : ReportScene or None
        What there is to look at; None where it is left out or gone.
    notes : list of str
        What is missing, and why.
    reports : dict of int to pandas.DataFrame
        Scores by phase.
    """

    run: Run
    anchor: str
    scene: ReportScene | None
    notes: list[str] = field(default_factory=list)
    reports: Mapping[int, pd.DataFrame] = field(default_factory=dict)

    @property
    def tables(self) -> list[Table]:
        """Scores and areas; computes."""
        name, found = self.run.name, []
        if self.reports:
            found.append(score_table(self.reports, f"Scores of {name}", self.legend))
        areas = area_table([self.scene] if self.scene else [], f"Classes of {name}")
        return [*found, *([areas] if areas else [])]

    @property
    def confusion_tables(self) -> list[Table]:
        """Confusion matrices of both phases, where pixels were counted."""
        if self.run.image is None or self.legend is None:
            return []
        return [
            confusion_table(
                matrix, f"{PHASES[phase]}, labelled and predicted: {self.run.name}", self.legend
            )
            for phase, matrix in self.run.image.confusions.items()
        ]

    @property
    def legend(self) -> ClassLegend | None:
        """Its classes, where they are known."""
        known = self.run.image.legend if self.run.image else None
        return known or (self.scene.legend if self.scene else None)

    def pictures(self) -> Iterator[Picture]:
        """Read the figures that lie beside the record, one at a time.

        Yields
        ------
        Picture
            Only of a scene that is shown.
        """
        for role, words in _FIGURES.items():
            path = self.run.output(role) if self.scene else None
            if path is not None:
                shown = words if self.reports else words.replace(_WITH_LABELS, "Image")
                yield picture_of_file(path, f"{self.run.name}: {shown.lower()}", f"{shown}.")

    @property
    def facts(self) -> list[tuple[str, str]]:
        """When it was made, how long it took, and what it read and wrote."""
        content = self.run.content
        stages = [f"{name} {took:.1f} s" for name, took in self.run.stage_seconds.items()]
        networks = [f"{role} {mark[:10]}" for role, mark in content["networks"].items()]
        machine = [f"{name} {value}" for name, value in (content.get("platform") or {}).items()]
        peak = content.get("peak_memory_bytes")
        return [
            ("Finished", value_words(content.get("finished"))),
            ("Took", f"{self.run.seconds:.1f} s: {', '.join(stages)}" if stages else NOTHING),
            ("Peak memory", bytes_words(peak) if peak else NOTHING),
            ("Machine", ", ".join(machine) or NOTHING),
            ("Networks", ", ".join(networks) or NOTHING),
            ("Record", self.run.path.name),
        ]

    @property
    def record_tables(self) -> list[Table]:
        """Settings, inputs, software and outputs, as the record has them."""
        content = self.run.content
        checksums = (content.get("identity") or {}).get("inputs") or {}
        roles = {sha: role for role, sha in checksums.items()}
        inputs = [
            [roles.get(entry["sha256"], "network"), entry["path"], bytes_words(entry["size"]),
             entry["modified"], entry["sha256"]]
            for entry in content["inputs"]
        ]  # fmt: skip
        return [
            _wordy("Settings", ["Setting", "Value"], _flat(content["parameters"])),
            _wordy("Inputs", ["Role", "File", "Size", "Modified", "SHA-256"], inputs),
            _wordy("Software", ["Package", "Version"], content["software"].items()),
            _wordy("Outputs", ["Role", "File"], content["outputs"].items()),
        ]

    @property
    def raw(self) -> str:
        """The record as it stands in its file."""
        return json.dumps(self.run.content, indent=2, ensure_ascii=False)


@dataclass(frozen=True, eq=False)
class Group:
    """Scenes that were classified in the same way.

    Attributes
    ----------
    title : str
        What tells it from the others; empty where there is only one.
    anchor : str
        Its identifier in the page.
    scenes : list of SceneEntry
        In order of their names.
    confusions : dict of int to xarray.DataArray
        Pooled confusion matrices by phase, where pixels were counted.
    is_drawn : bool
        Whether these are drawn, besides being in tables.
    """

    title: str
    anchor: str
    scenes: list[SceneEntry]
    confusions: Mapping[int, xr.DataArray]
    is_drawn: bool

    @property
    def legend(self) -> ClassLegend | None:
        """The classes of its scores."""
        return next((entry.legend for entry in self.scored), None)

    @property
    def scored(self) -> list[SceneEntry]:
        """Scenes that have scores."""
        return [entry for entry in self.scenes if entry.reports]

    @property
    def pooled(self) -> list[SceneEntry]:
        """Scenes whose pixels are counted together."""
        return [entry for entry in self.scenes if _is_pooled(entry.run)]

    @property
    def tables(self) -> list[Table]:
        """Scenes beside each other and pooled; none for a single scene. Computes."""
        if len(self.scenes) == 1:
            return []
        found = [self._scene_table()]
        if self.confusions:
            reports = {
                phase: classification_report(matrix) for phase, matrix in self.confusions.items()
            }
            caption = f"Scores of the pixels of {len(self.pooled)} scenes together"
            found.append(score_table(reports, caption, self.legend))
        shown = [entry.scene for entry in self.scenes if entry.scene is not None]
        alike = {json.dumps(scene.legend.to_dict()) for scene in shown}
        if len(shown) == len(self.scenes) and len(alike) == 1:
            areas = area_table(shown, f"Classes of {len(shown)} scenes together")
            found += [areas] if areas else []
        return found

    @property
    def confusion_tables(self) -> list[Table]:
        """Confusion matrices of its scenes together; none for a single scene."""
        if self.legend is None or len(self.scenes) == 1:
            return []
        what = f"labelled and predicted: {len(self.pooled)} scenes together"
        return [
            confusion_table(matrix, f"{PHASES[phase]}, {what}", self.legend)
            for phase, matrix in self.confusions.items()
        ]

    def pictures(self) -> Iterator[Picture]:
        """Draw the confusion matrices, of all scenes together.

        Yields
        ------
        Picture
            One for each phase.
        """
        legend = self.legend
        if legend is None or not self.is_drawn:
            return
        for phase, matrix in self.confusions.items():
            report = classification_report(matrix).set_index("Class")["F1_score"]
            words = PHASES[phase]
            figure = confusion_figure(matrix, legend=legend, title=words)
            alt = (
                f"Confusion matrix, {words.lower()}. Accuracy {100 * report['Accuracy']:.1f} %, "
                f"mean F1 {100 * report['Macro_avg']:.1f} %. The counts are in the tables."
            )
            yield picture_of_figure(figure, f"{words}: confusion matrix", alt)

    def _scene_table(self) -> Table:
        rows = []
        for entry in self.scenes:
            f1_scores = [_weighted_f1(entry.reports.get(phase)) for phase in PHASES]
            words = [*(f1_scores if self.scored else []), f"{entry.run.seconds:.0f}"]
            rows.append([Cell(entry.run.name), *map(Cell, words)])
        heads = [f"F1, {words.lower()}" for words in PHASES.values()] if self.scored else []
        return Table(f"The {len(rows)} scenes", ["Scene", *heads, "Took (s)"], rows)

    @property
    def fronts(self) -> Table | None:
        """What became of fronts."""
        caption = f"Calving fronts{f', {self.title}' if self.title else ''}"
        return front_table([entry.run for entry in self.scenes], caption)


def make_groups(
    runs: Sequence[Run], opened: Callable[[Run], tuple[ReportScene | None, list[str]]]
) -> list[Group]:
    """Gather the runs of a report by how they were classified.

    Parameters
    ----------
    runs : sequence of Run
        In the order of the page.
    opened : callable
        Gives what there is to look at of a run, and what is missing.

    Returns
    -------
    list of Group
        Each with a title that tells it apart.
    """
    by_group: dict[str, list[Run]] = {}
    for run in runs:
        by_group.setdefault(run.group, []).append(run)
    titles = _titles({group: members[0] for group, members in by_group.items()})
    groups = []
    for number, (group, members) in enumerate(by_group.items()):
        entries = []
        for place, run in enumerate(members):
            scene, notes = opened(run)
            reports = _reports(run, notes)
            entries.append(SceneEntry(run, f"scene-{number}-{place}", scene, notes, reports))
        confusions = _pooled(members)
        is_drawn = len(by_group) <= _MOST_DRAWN
        groups.append(Group(titles[group], f"run-{number}", entries, confusions, is_drawn))
    return groups


def bytes_words(count: float) -> str:
    """Put a number of bytes into words.

    Parameters
    ----------
    count : float
        Bytes.

    Returns
    -------
    str
        In the unit that fits.

    Examples
    --------
    >>> bytes_words(999), bytes_words(1_464_750)
    ('999 B', '1.5 MB')
    """
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if count < _UNIT_STEP:
            break
        count, unit = count / _UNIT_STEP, larger
    return f"{count:.0f} {unit}" if unit in ("B", "kB") else f"{count:.1f} {unit}"


def _titles(firsts: Mapping[str, Run]) -> dict[str, str]:
    """Name groups by the settings that tell them apart, or else by their folders."""
    if len(firsts) == 1:
        return dict.fromkeys(firsts, "")
    known = {group: run.image for group, run in firsts.items() if run.image is not None}
    rows = [{"Run": image.run, **image.columns} for image in known.values()]
    names = name_runs(pd.DataFrame(rows)) if rows else {}
    titles = {group: names.get(known[group].run, "") if group in known else "" for group in firsts}
    spoken = list(titles.values())
    unclear = [group for group, title in titles.items() if not title or spoken.count(title) > 1]
    folders = _short_names([firsts[group].folder for group in unclear])
    named = {
        group: ", ".join(filter(None, (folder, titles[group])))
        for group, folder in zip(unclear, folders, strict=True)
    }
    return titles | named


def _short_names(folders: Sequence[Path]) -> list[str]:
    """Give the last parts of paths, as many as tell different ones apart."""
    parts = [folder.absolute().parts for folder in folders]
    depth = 1
    while len({path[-depth:] for path in parts}) < len(set(parts)):
        depth += 1
    return ["/".join(path[-depth:]) for path in parts]


def _reports(run: Run, notes: list[str]) -> dict[int, pd.DataFrame]:
    if run.image is None:
        return {}
    image = run.image
    if image.confusions:
        return {phase: classification_report(found) for phase, found in image.confusions.items()}
    reports = {}
    for phase, path in image.reports.items():
        try:
            reports[phase] = read_report(path)
        except ParameterError as error:
            notes.append(f"Scores cannot be shown: {error}")
    return reports


def _is_pooled(run: Run) -> bool:
    """Whether pixels were counted, of an image that its network counts as unknown."""
    image = run.image
    return image is not None and bool(image.confusions) and not (image.is_joint and image.learned)


def _pooled(members: Sequence[Run]) -> dict[int, xr.DataArray]:
    """Add up the scenes of a folder; tables over runs add up those of other folders, too."""
    images = [run.image for run in members if run.image and (len(members) == 1 or _is_pooled(run))]
    pooled = {}
    for phase in PHASES:
        matrices = [image.confusions[phase] for image in images if phase in image.confusions]
        if matrices:
            pooled[phase] = matrices[0].copy(
                data=np.sum([part.values for part in matrices], axis=0)
            )
    return pooled


def _weighted_f1(report: pd.DataFrame | None) -> str:
    if report is None:
        return NOTHING
    found = report.loc[report["Class"] == "Weighted_avg", "F1_score"]
    return f"{float(found.iloc[0]):.3f}" if len(found) and np.isfinite(found.iloc[0]) else NOTHING


def _wordy(caption: str, columns: list[str], rows: Any) -> Table:
    cells = [[Cell(value_words(value)) for value in row] for row in rows]
    return Table(caption, columns, cells, wordy=True)


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
