"""The command ``batch``: the jobs of a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csc_xr.cli import options
from csc_xr.cli.options import computing
from csc_xr.cli.terminal import BAD_INPUT, app, print_outcomes

if TYPE_CHECKING:
    import xarray as xr

    from csc_xr.runs.batch import Batch, PlannedJob


@app.command()
def batch(
    table: Annotated[Path, typer.Argument(help="CSV with a job in each line; docs/sweeps.md.")],
    models: Annotated[
        Path | None, typer.Option(help="Folder of the networks (default: that of the table).")
    ] = None,
    overwrite: options.Overwrite = False,
    scheduler: options.Scheduler = "threads",
    workers: options.Workers = None,
    memory_limit: options.MemoryLimit = None,
) -> None:
    """Do the jobs of a table, and note in it what is done.

    Killed and started again, it keeps what is finished and goes on with what is not.
    """
    from csc_xr.runs.batch import plan_batch, run_batch

    planned = plan_batch(table, models=models, overwrite=overwrite)
    if not planned.jobs:
        typer.echo(f"All jobs of {table} are done.")
        return
    scene, job = _most_demanding(planned)
    with computing(
        scheduler, workers=workers, memory_limit=memory_limit,
        scene=scene, network=job.network, settings=job.spec.settings,
    ) as client:  # fmt: skip
        failed = print_outcomes(
            planned.sizes, client, lambda watch: run_batch(planned, client=client, watch=watch)
        )
    if failed:
        raise typer.Exit(BAD_INPUT)


def _most_demanding(planned: Batch) -> tuple[xr.DataArray, PlannedJob]:
    """Find the scene and the job that take most memory for each chunk."""
    from csc_xr.runs.memory import plan_memory

    kinds: dict[Any, tuple[xr.DataArray, PlannedJob]] = {}
    for job in planned.jobs:
        settings = job.spec.settings
        scene = max((image.scene for image in job.images), key=lambda scene: scene.sizes["x"])
        kind = (
            job.network.fingerprint, settings.patch_size, settings.tile_size, settings.outputs,
            settings.fit, scene.sizes["x"],
        )  # fmt: skip
        kinds.setdefault(kind, (scene, job))

    def peak(found: tuple[xr.DataArray, PlannedJob]) -> int:
        scene, job = found
        settings = job.spec.settings
        return plan_memory(scene, job.network, settings, limit=2**62, threads=1).predicted_peak

    return max(kinds.values(), key=peak)
