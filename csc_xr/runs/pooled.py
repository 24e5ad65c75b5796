"""One patch network for all scenes of a stack, from samples of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from csc_xr.errors import SceneError
from csc_xr.inference import expand_tiles
from csc_xr.networks.bundle import Network
from csc_xr.record import StageTimer, fingerprint
from csc_xr.runs.jobs import Job
from csc_xr.runs.scene import RunResult, begin_scene
from csc_xr.runs.spread import Failure, Progress, SceneTask, Watch, outcomes
from csc_xr.training.phase_two.fitting import fit_patch_network
from csc_xr.training.phase_two.sampling import Samples, draw_samples
from csc_xr.workflow import ClassifySettings, find_tiles

SHARED = "shared"
"""What the identity of a scene names as origin when all share one network."""


@dataclass(frozen=True)
class Drawn:
    """What one scene adds to a shared network.

    Attributes
    ----------
    name : str
        The scene.
    samples : Samples
        Its share of the samples.
    tile_counts : dict of int to int
        Its tiles by class code.
    """

    name: str
    samples: Samples
    tile_counts: dict[int, int]


@dataclass(frozen=True)
class SampleTask(SceneTask):
    """Phase one of a scene, and its share of the samples."""

    network: Network
    settings: ClassifySettings
    per_class: int

    @property
    def key(self) -> str:
        """Name of the task on a scheduler: the same for the same work."""
        identity = self.job.identity(self.network, self.settings)
        known = fingerprint(identity, self.per_class, self.files.absolute())
        return f"csc_xr-samples-{self.name}-{known[:16]}"

    def run(self, timer: StageTimer, fit_progress: Progress | None) -> Drawn | None:
        """Classify the tiles and draw samples.

        Parameters
        ----------
        timer : StageTimer
            Takes the time of each stage.
        fit_progress : callable or None
            Not called: nothing is fitted here.

        Returns
        -------
        Drawn or None
            None when the scene is finished already.
        """
        del fit_progress
        begun = begin_scene(
            self.job, self.network, self.files, settings=self.settings, origin=SHARED
        )
        if isinstance(begun, RunResult):
            return None
        scene, keep = self.job.scene, partial(begun.work.keep, "tiles")
        tiles = find_tiles(scene, self.network, settings=self.settings, timer=timer, keep=keep)
        with timer.stage("samples"):
            samples = draw_samples(
                scene,
                expand_tiles(tiles["tile_class"], scene, tile_size=tiles.attrs["tile_size"]),
                bands=self.network.card.bands,
                patch_size=self.settings.patch_size,
                per_class=self.per_class,
                seed=self.settings.seed,
            )
        codes, counts = np.unique(tiles["tile_class"].values, return_counts=True)
        found = {int(code): int(n) for code, n in zip(codes, counts, strict=True) if code}
        return Drawn(self.name, samples, found)


def learn_together(
    jobs: Sequence[Job],
    network: Network,
    files: Path,
    *,
    settings: ClassifySettings,
    client: Any = None,
    watch: Watch | None = None,
) -> tuple[Network, list[Failure]]:
    """Fit one patch network to samples of all scenes. Computes.

    Parameters
    ----------
    jobs : sequence of Job
        The scenes; each gives an equal share of ``samples_per_class``.
    network : Network
        The tile network.
    files : Path
        Where unfinished work goes.
    settings : ClassifySettings
        How to classify.
    client : distributed.Client, optional
        Connected to a cluster.
    watch : callable, optional
        Shows how far a scene is.

    Returns
    -------
    network : Network
        The patch network.
    failures : list of Failure
        Scenes that gave no samples.

    Raises
    ------
    SceneError
        When no scene gave samples.
    """
    per_class = max(1, -(-settings.fit.samples_per_class // len(jobs)))
    tasks = [SampleTask(job, files, network, settings, per_class) for job in jobs]
    drawn, failures = {}, []
    for _, outcome in outcomes(tasks, client, watch):
        if isinstance(outcome, Failure):
            failures.append(outcome)
        elif outcome is not None:
            drawn[outcome.name] = outcome
    parts = [drawn[job.name] for job in jobs if job.name in drawn]  # not as they came
    if not parts:
        raise SceneError(
            "A shared network needs samples of at least one scene, got none: "
            f"{'; '.join(f'{failure.name}: {failure.message}' for failure in failures)}."
        )
    counts: Counter[int] = sum((Counter(part.tile_counts) for part in parts), Counter())
    card, total = network.card, counts.total()
    learned, _ = fit_patch_network(
        _joined([part.samples for part in parts]),
        bands=card.bands,
        scale=card.scale or float(jobs[0].scene.attrs["scale"]),
        legend=card.legend,
        class_shares={code: count / total for code, count in counts.items()},
        seed=settings.seed,
        settings=settings.fit,
    )
    return learned, failures


def _joined(parts: Sequence[Samples]) -> Samples:
    return Samples(
        codes=np.concatenate([part.codes for part in parts]),
        rows=np.concatenate([part.rows for part in parts]),
        columns=np.concatenate([part.columns for part in parts]),
        patches=np.concatenate([part.patches for part in parts]),
    )
