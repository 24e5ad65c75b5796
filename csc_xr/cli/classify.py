"""The commands ``classify``, over images, and ``status``, over what became of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csc_xr.cli import options
from csc_xr.cli.options import computing, settings_of, words
from csc_xr.cli.terminal import BAD_INPUT, app, print_outcomes, quoted

Images = Annotated[list[Path], typer.Argument(help="Images, Zarr stores, or folders of them.")]


@app.command()
def classify(
    images: Images,
    model: options.ModelPath,
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    patch_size: options.PatchSize = 7,
    seed: options.Seed = 0,
    labels: Annotated[
        Path | None,
        typer.Option(help="Label raster of one image (default: SCLS_<image>.tif beside it)."),
    ] = None,
    legend: options.LegendName = None,
    band_names: options.BandNames = None,
    scale: options.Scale = None,
    nodata: options.Nodata = None,
    mask: Annotated[
        Path | None, typer.Option(help="Raster on the grid of the images, 0 where to mask.")
    ] = None,
    tile_size: options.TileSize = None,
    output: options.Output = None,
    classifier: Annotated[
        str, typer.Option(help="'network', or for patch size 1 'random-forest'.")
    ] = "network",
    activation: options.Activation = "relu",
    samples_per_class: options.SamplesPerClass = 5000,
    steps: options.Steps = None,
    min_probability: options.MinProbability = 0.0,
    despeckle: options.Despeckle = 0,
    mode_radius: options.ModeRadius = 4,
    edge: options.EdgeRule = "cover",
    front: Annotated[
        bool, typer.Option("--front", help="Also find the calving front, as a line for GIS.")
    ] = False,
    front_setting: options.FrontSetting = None,
    experiment: Annotated[
        str | None, typer.Option(help="Short name in report names (default: k<patch size>).")
    ] = None,
    overwrite: options.Overwrite = False,
    scheduler: options.Scheduler = "threads",
    workers: options.Workers = None,
    memory_limit: options.MemoryLimit = None,
) -> None:
    """Classify images by both phases: Zarr, GeoTIFF or PNG, scores, figure and run record.

    Killed and started again, it keeps what is finished and goes on with what is not.
    """
    from csc_xr.fronts.settings import read_front_settings
    from csc_xr.inputs import list_images
    from csc_xr.networks.bundle import open_network
    from csc_xr.runs.folder import run_jobs
    from csc_xr.runs.jobs import prepare_jobs
    from csc_xr.training.phase_two.fitting import pixel_estimator

    settings = settings_of(
        patch_size=patch_size, tile_size=tile_size, seed=seed,
        min_probability=min_probability, despeckle=despeckle, mode_radius=mode_radius,
        edge=edge, output=output, activation=activation,
        samples_per_class=samples_per_class, steps=steps,
        front=read_front_settings(front_setting or ()) if front or front_setting else None,
    )  # fmt: skip
    estimator = pixel_estimator(classifier, seed)
    network = open_network(model, legend=legend)
    jobs = prepare_jobs(
        list_images(images),
        network,
        out,
        settings=settings,
        labels=labels,
        scene_options={
            "band_names": words(band_names),
            "scale": scale,
            "nodata": nodata,
            "mask": mask,
        },
        classifier=estimator,
        experiment=experiment,
        overwrite=overwrite,
    )
    largest = max((job.scene for job in jobs), key=lambda scene: scene.sizes["x"])
    with computing(
        scheduler, workers=workers, memory_limit=memory_limit,
        scene=largest, network=network, settings=settings,
    ) as client:  # fmt: skip
        sizes = {job.name: job.scene.sizes["y"] * job.scene.sizes["x"] for job in jobs}
        failed = print_outcomes(
            sizes,
            client,
            lambda watch: run_jobs(
                jobs, network, out,
                settings=settings, experiment=experiment, classifier=estimator,
                network_path=model, client=client, watch=watch,
            ),
        )  # fmt: skip
    if failed:
        raise typer.Exit(BAD_INPUT)


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(help="Folder of results, or the store of a stack.")],
) -> None:
    """Tell which scenes of a folder are done, unfinished, failed or missing."""
    from csc_xr.runs.ledger import folder_status

    found = folder_status(folder)
    for scene in found:
        typer.echo(f"{scene.state:11}{scene.name:32} {quoted(scene.detail)}".rstrip())
    states = [scene.state for scene in found]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states))]
    typer.echo(f"{len(found)} scenes: {', '.join(counts)}")
