"""Options that several commands share, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csc_xr.errors import ParameterError

if TYPE_CHECKING:
    from csc_xr.fronts.settings import FrontSettings
    from csc_xr.legend import ClassLegend
    from csc_xr.workflow import ClassifySettings

ModelPath = Annotated[Path, typer.Option("--model", help="Tile network: .keras or legacy .h5.")]
LegendName = Annotated[
    str | None, typer.Option(help="'glacier', 'river', or a JSON or CSV file of classes.")
]
RasterLegend = Annotated[
    str | None,
    typer.Option(
        help="'glacier', 'river', or a JSON or CSV file of classes (default: what a class GeoTIFF "
        "of csc_xr carries)."
    ),
]
BandNames = Annotated[str | None, typer.Option(help="Names of the bands: red,green,blue,nir.")]
Scale = Annotated[
    float | None, typer.Option(help="Divisor of pixel values (default: by data type).")
]
Nodata = Annotated[
    float | None, typer.Option(help="Nodata value of the images (default: the files' own).")
]
PatchSize = Annotated[
    int, typer.Option(help="Patch side in pixels, odd, 1 to 15. 1 uses single pixels.")
]
Seed = Annotated[int, typer.Option(help="All randomness comes from it.")]
TileSize = Annotated[
    int | None, typer.Option(help="Tile side in pixels, for networks of any tile size.")
]
Output = Annotated[
    list[str] | None,
    typer.Option(
        help="Also write confidence, margin, entropy, probability or disagreement; "
        "give the option again for each."
    ),
]
Activation = Annotated[str, typer.Option(help="Of the convolutions: relu or linear.")]
SamplesPerClass = Annotated[int, typer.Option(help="Samples of each class.")]
Steps = Annotated[
    int | None,
    typer.Option(help="Optimiser steps of the fit (default: 100 a class, 300 at least)."),
]
MinProbability = Annotated[float, typer.Option(help="Tiles less certain than this teach nothing.")]
Despeckle = Annotated[
    int, typer.Option(help="Radius in tiles of a mode filter over the tiles, 0 for none.")
]
ModeRadius = Annotated[
    int, typer.Option(help="Radius in pixels of the mode filter over pixels, 0 for none.")
]
EdgeRule = Annotated[str, typer.Option(help="cover: every pixel; blank: border stays 0.")]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Begin anew. By default results made in the same way are kept, unfinished work "
        "goes on, and what was made in another way is refused.",
    ),
]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Scheduler = Annotated[
    str,
    typer.Option(
        help="threads, processes (worker processes on this machine), or the address of a Dask "
        "scheduler: tcp://host:8786."
    ),
]
Workers = Annotated[
    int | None, typer.Option(help="Threads, or with processes their number (default: cores).")
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(help="Memory the run may take: 4GB (default: four fifths of the machine's)."),
]

FrontSetting = Annotated[
    list[str] | None,
    typer.Option(
        help="How to look for the front, NAME=VALUE: closing_m=100, ocean=Open Water,Mélange. "
        "Give the option again for each; docs/fronts.md has all names."
    ),
]

PerClass = Annotated[
    int | None, typer.Option(help="Most tiles of a class, drawn at random (default: all).")
]
Validation = Annotated[
    str,
    typer.Option(
        help="What is held out to measure by: scene, block (parts of scenes), none, or auto "
        "(scenes where there are three)."
    ),
]
ValidationShare = Annotated[float, typer.Option(help="Share of the tiles to hold out.")]
ValidationBlock = Annotated[
    int | None, typer.Option(help="Side of the blocks in pixels (default: ten tiles or less).")
]
ValidationScenes = Annotated[
    str | None, typer.Option(help="Names of scenes to hold out: a,b (default: chosen).")
]


def settings_of(
    *,
    patch_size: int,
    tile_size: int | None,
    seed: int,
    min_probability: float,
    despeckle: int,
    mode_radius: int,
    edge: str,
    output: list[str] | None,
    activation: str,
    samples_per_class: int,
    steps: int | None,
    front: FrontSettings | None = None,
) -> ClassifySettings:
    """Make settings of the options of a command."""
    from csc_xr.training.phase_two.fitting import FitSettings
    from csc_xr.workflow import ClassifySettings

    return ClassifySettings(
        patch_size=patch_size,
        tile_size=tile_size,
        seed=seed,
        min_probability=min_probability,
        despeckle=despeckle,
        mode_radius=mode_radius,
        edge=edge,  # type: ignore[arg-type]  # checked by the settings
        outputs=tuple(output or ()),
        fit=FitSettings(
            activation=activation,  # type: ignore[arg-type]  # checked by the settings
            samples_per_class=samples_per_class,
            steps=steps,
        ),
        front=front,
    )


@contextmanager
def computing(
    scheduler: str,
    *,
    workers: int | None,
    memory_limit: str | None,
    scene: Any,
    network: Any,
    settings: ClassifySettings,
) -> Iterator[Any]:
    """Plan the memory of a run, say so, and lend the scheduler; gives its client, if it has one."""
    from csc_xr.runs.cluster import using_scheduler, worker_limits
    from csc_xr.runs.memory import give_back_large_buffers, parse_bytes, plan_memory

    if workers is not None and workers < 1:
        raise ParameterError(f"--workers must be 1 or more, got {workers}.")
    limit = None if memory_limit is None else parse_bytes(memory_limit)
    if scheduler not in ("threads", "processes") and (limit or workers):
        raise ParameterError(
            "--workers and --memory-limit are for work on this machine, but the workers of the "
            f"cluster at {scheduler} were started already. Leave them out; give each worker its "
            "limit when it is started: dask worker --memory-limit 4GB."
        )
    give_back_large_buffers()
    if scheduler == "threads":
        plan = plan_memory(scene, network, settings, limit=limit, threads=workers)
        typer.secho(f"plan: {plan}", err=True, dim=True)
        with using_scheduler("threads", threads=plan.threads):
            yield None
        return
    with using_scheduler(scheduler, workers=workers, memory_limit=limit) as client:
        threads, least = worker_limits(client)
        plan = plan_memory(scene, network, settings, limit=least, threads=threads)
        typer.secho(f"plan for each worker: {plan}", err=True, dim=True)
        if plan.threads < threads:
            raise ParameterError(
                f"Workers must have memory for what their {threads} threads do at once, but one "
                f"with {plan.limit / 1e9:.1f} GB has for {plan.threads}. Start workers with fewer "
                "threads (--nthreads) or more memory (--memory-limit)."
            )
        yield client


def legend_of(raster: Path, given: str | None) -> ClassLegend:
    """Give the legend that was named, or else the one that a class raster carries."""
    from csc_xr.geotiff import raster_legend
    from csc_xr.legend import open_legend

    return raster_legend(raster) if given is None else open_legend(given)


def words(text: str | None) -> list[str] | None:
    """Split a list of words at its commas."""
    return None if text is None else [word.strip() for word in text.split(",")]


def integers(text: str, option: str) -> tuple[int, ...]:
    """Split a list of whole numbers at its commas."""
    try:
        return tuple(int(part) for part in text.split(",") if text.strip())
    except ValueError as error:
        raise ParameterError(f"{option} takes whole numbers with commas, got {text!r}.") from error
