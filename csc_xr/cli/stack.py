"""The command ``stack``: scenes of one place into one store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csc_xr.cli import options
from csc_xr.cli.options import computing, settings_of, words
from csc_xr.cli.terminal import BAD_INPUT, app, print_outcomes

Scenes = Annotated[
    list[Path],
    typer.Argument(help="Images on one grid, a folder of them, or one Zarr store of a stack."),
]


@app.command()
def stack(
    scenes: Scenes,
    model: options.ModelPath,
    out: Annotated[Path, typer.Option(help="Folder for the store and the scenes' files.")],
    networks: Annotated[
        str,
        typer.Option(
            help="each: every scene learns its own network; warm_start: it goes on from that of "
            "the scene before; shared: one network for all."
        ),
    ] = "each",
    rasters: Annotated[bool, typer.Option("--rasters", help="Write GeoTIFFs too.")] = False,
    patch_size: options.PatchSize = 7,
    seed: options.Seed = 0,
    legend: options.LegendName = None,
    band_names: options.BandNames = None,
    scale: options.Scale = None,
    nodata: options.Nodata = None,
    tile_size: options.TileSize = None,
    output: options.Output = None,
    activation: options.Activation = "relu",
    samples_per_class: options.SamplesPerClass = 5000,
    steps: options.Steps = None,
    min_probability: options.MinProbability = 0.0,
    despeckle: options.Despeckle = 0,
    mode_radius: options.ModeRadius = 4,
    edge: options.EdgeRule = "cover",
    overwrite: options.Overwrite = False,
    scheduler: options.Scheduler = "threads",
    workers: options.Workers = None,
    memory_limit: options.MemoryLimit = None,
) -> None:
    """Classify scenes of one place into one Zarr store, a region a scene."""
    from csc_xr.inputs import list_images
    from csc_xr.networks.bundle import open_network
    from csc_xr.runs.stack import stack_outcomes
    from csc_xr.stack import open_stack, stack_names, stack_scene

    settings = settings_of(
        patch_size=patch_size, tile_size=tile_size, seed=seed,
        min_probability=min_probability, despeckle=despeckle, mode_radius=mode_radius,
        edge=edge, output=output, activation=activation,
        samples_per_class=samples_per_class, steps=steps,
    )  # fmt: skip
    network = open_network(model, legend=legend)
    images = list_images(scenes)
    opened = open_stack(
        images[0] if len(images) == 1 else images,
        band_names=words(band_names), scale=scale, nodata=nodata,
    )  # fmt: skip
    pixels = opened.sizes["y"] * opened.sizes["x"]
    with computing(
        scheduler, workers=workers, memory_limit=memory_limit,
        scene=stack_scene(opened, 0), network=network, settings=settings,
    ) as client:  # fmt: skip
        failed = print_outcomes(
            dict.fromkeys(stack_names(opened), pixels),
            client,
            lambda watch: stack_outcomes(
                opened, network, out,
                settings=settings, networks=networks,  # type: ignore[arg-type]  # checked there
                rasters=rasters, overwrite=overwrite, client=client, watch=watch,
            ),
        )  # fmt: skip
    if failed:
        raise typer.Exit(BAD_INPUT)
