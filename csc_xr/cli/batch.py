"""The command ``batch``: the jobs of a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from csc_xr.cli import options
from csc_xr.cli.options import computing
from csc_xr.cli.terminal import BAD_INPUT, app, print_outcomes, quiet_start

if TYPE_CHECKING:
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
    with quiet_start():
        from csc_xr.runs.batch import plan_batch, run_batch

        planned = plan_batch(table, models=models, overwrite=overwrite)
    largest = _most_demanding(planned)
    if largest is None:
        typer.echo(f"All jobs of {table} are done.")
        return
    scene = max((image.scene for image in largest.images), key=lambda scene: scene.sizes["x"])
    with computing(
        scheduler, workers=workers, memory_limit=memory_limit,
        scene=scene, network=largest.network, settings=largest.spec.settings,
    ) as client:  # fmt: skip
        failed = print_outcomes(
            planned.sizes, client, lambda watch: run_batch(planned, client=client, watch=watch)
        )
    if failed:
        raise typer.Exit(BAD_INPUT)


def _most_demanding(planned: Batch) -> PlannedJob | None:
    """Find the job that takes most memory for each chunk: that of the largest patch."""
    jobs = [job for job in planned.jobs if job.images]
    return max(jobs, key=lambda job: job.spec.settings.patch_size, default=None)
