"""The command ``csc-xr``: parse, call, print."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csc_xr.errors import CscError, CscWarning

if TYPE_CHECKING:
    import pandas as pd

    from csc_xr.runs import RunResult

app = typer.Typer(
    help="CNN-Supervised Classification of imagery of any size.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
model_app = typer.Typer(help="Look at networks and convert them.", no_args_is_help=True)
app.add_typer(model_app, name="model")

BadInput = 2
"""Exit code for input that cannot be used."""


def main() -> None:
    """Run the command line; errors csc_xr raises on purpose are one message and exit code 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    warnings.showwarning = _print_warning
    try:
        app()
    except CscError as error:
        typer.secho(f"csc-xr: {error}", fg="red", err=True)
        sys.exit(BadInput)


def _print_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, CscWarning):
        typer.secho(f"csc-xr: note: {message}", fg="yellow", err=True)


Images = Annotated[list[Path], typer.Argument(help="Images, Zarr stores, or folders of them.")]
ModelPath = Annotated[Path, typer.Option("--model", help="Tile network: .keras or legacy .h5.")]
LegendName = Annotated[
    str | None, typer.Option(help="'glacier', 'river', or a JSON or CSV file of classes.")
]


@app.command()
def classify(
    images: Images,
    model: ModelPath,
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    patch_size: Annotated[
        int, typer.Option(help="Patch side in pixels, odd, 1 to 15. 1 uses single pixels.")
    ] = 7,
    seed: Annotated[int, typer.Option(help="All randomness comes from it.")] = 0,
    labels: Annotated[
        Path | None, typer.Option(help="Label raster of one image (default: SCLS_ files).")
    ] = None,
    legend: LegendName = None,
    band_names: Annotated[
        str | None, typer.Option(help="Names of the files' bands: red,green,blue,nir.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Divisor of pixel values (default: by data type).")
    ] = None,
    nodata: Annotated[float | None, typer.Option(help="Nodata value of the images.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Raster, 0 where to mask.")] = None,
    tile_size: Annotated[int | None, typer.Option(help="For networks of any tile size.")] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(help="confidence, margin, entropy, probability, disagreement; repeat."),
    ] = None,
    classifier: Annotated[
        str, typer.Option(help="'network', or for patch size 1 'random-forest'.")
    ] = "network",
    activation: Annotated[str, typer.Option(help="Of the convolutions: relu or linear.")] = "relu",
    samples_per_class: Annotated[int | None, typer.Option(help="Samples of each class.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps of the fit.")] = None,
    min_probability: Annotated[
        float, typer.Option(help="Tiles less certain than this teach nothing.")
    ] = 0.0,
    despeckle: Annotated[int, typer.Option(help="Mode filter over tiles, radius.")] = 0,
    mode_radius: Annotated[int, typer.Option(help="Mode filter over pixels, radius.")] = 4,
    edge: Annotated[str, typer.Option(help="cover: every pixel; blank: border stays 0.")] = "cover",
    experiment: Annotated[str | None, typer.Option(help="Short name in report names.")] = None,
) -> None:
    """Classify images by both phases: Zarr, GeoTIFF or PNG, scores, figure and run record."""
    from csc_xr.networks.bundle import open_network
    from csc_xr.runs import prepare_jobs, run_job
    from csc_xr.training.fitting import FitSettings
    from csc_xr.workflow import ClassifySettings

    fit = {"activation": activation, "samples_per_class": samples_per_class, "steps": steps}
    settings = ClassifySettings(
        patch_size=patch_size,
        tile_size=tile_size,
        seed=seed,
        min_probability=min_probability,
        despeckle=despeckle,
        mode_radius=mode_radius,
        edge=edge,  # type: ignore[arg-type]  # checked by the settings
        outputs=tuple(output or ()),
        fit=FitSettings(**{name: value for name, value in fit.items() if value is not None}),  # type: ignore[arg-type]
    )
    paths = _images(images, labels)
    network = open_network(model, legend=legend)
    options = {
        "band_names": None if band_names is None else band_names.split(","),
        "scale": scale,
        "nodata": nodata,
        "mask": mask,
    }
    estimator = _classifier(classifier, seed)
    jobs = prepare_jobs(
        paths, network, out,
        settings=settings, labels=labels, scene_options=options, classifier=estimator,
    )  # fmt: skip
    for number, job in enumerate(jobs, 1):
        with _progress(f"{job.name} ({number} of {len(jobs)})") as (timer, fit_progress):
            result = run_job(
                job, network, out,
                settings=settings, experiment=experiment, classifier=estimator,
                timer=timer, fit_progress=fit_progress,
            )  # fmt: skip
        _print_result(result)


@app.command()
def evaluate(
    classes: Annotated[Path, typer.Argument(help="Class raster to score.")],
    labels: Annotated[Path, typer.Argument(help="Label raster on the same grid.")],
    legend: Annotated[str, typer.Option(help="'glacier', 'river', or a legend file.")],
    out: Annotated[Path | None, typer.Option(help="CSV file for the scores.")] = None,
) -> None:
    """Score an existing class raster against labels."""
    from csc_xr.accuracy import classification_report, confusion_matrix
    from csc_xr.export import write_table_csv
    from csc_xr.labels import open_labels
    from csc_xr.legend import open_legend
    from csc_xr.scene import open_scene

    known = open_legend(legend)
    raster = open_scene(classes, band_names=["class"]).isel(band=0, drop=True)
    digitised = open_labels(labels, like=raster.expand_dims(band=["class"]), legend=known)
    report = classification_report(confusion_matrix(digitised, raster, legend=known))
    if out is not None:
        write_table_csv(report, out)
    _print_scores({"classes": report})


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("csc_xr_demo"),
    seed: Annotated[int, typer.Option(help="Another seed makes another fjord.")] = 7,
) -> None:
    """Classify a generated fjord with the network that ships with the package."""
    from csc_xr.demo import run_demo

    with _progress("demo fjord") as (timer, fit_progress):
        result = run_demo(out, seed=seed, timer=timer, fit_progress=fit_progress)
    _print_result(result)


@model_app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Legacy .h5 or card-less .keras file.")],
    target: Annotated[Path, typer.Argument(help=".keras file to write.")],
    kind: Annotated[str, typer.Option(help="tile or patch.")] = "tile",
    bands: Annotated[str | None, typer.Option(help="Band names: red,green,blue,nir.")] = None,
    scale: Annotated[float | None, typer.Option(help="Divisor of pixel values.")] = None,
    size: Annotated[int | None, typer.Option(help="Tile or patch size in pixels.")] = None,
    legend: LegendName = None,
    codes: Annotated[str | None, typer.Option(help="Class code of each output: 0,1,2.")] = None,
) -> None:
    """Write a network as .keras with its card: bands, scale, size and legend."""
    from csc_xr.networks.bundle import open_network, save_network

    network = open_network(
        source,
        kind=kind,  # type: ignore[arg-type]  # checked by the card
        bands=None if bands is None else bands.split(","),
        scale=scale,
        size=size,
        legend=legend,
        codes=None if codes is None else _integers(codes, "--codes"),
    )
    save_network(network, target)
    typer.echo(f"wrote {target}")


@model_app.command()
def info(
    source: Annotated[Path, typer.Argument(help=".keras or .h5 file.")],
    legend: LegendName = None,
) -> None:
    """Print what a network is and needs."""
    from csc_xr.networks.bundle import open_network

    network = open_network(source, legend=legend)
    card = network.card
    rows = {
        "kind": card.kind,
        "bands": ", ".join(card.bands),
        "scale": "the scene's own" if card.scale is None else card.scale,
        "size": f"{card.size} px",
        "classes": ", ".join(f"{c} {card.legend.class_name(c)}" for c in card.codes if c),
        "parameters": f"{network.model.count_params():,}",
        "fingerprint": network.fingerprint,
        **card.provenance,
    }
    for name, value in rows.items():
        typer.echo(f"{name:12} {value}")


def _images(given: list[Path], labels: Path | None) -> list[Path]:
    """Spread folders into the images they hold."""
    from csc_xr.scene import find_images

    paths: list[Path] = []
    for path in given:
        folder = path.is_dir() and path.suffix != ".zarr"
        paths.extend(find_images(path) if folder else [path])
    if not paths:
        raise typer.BadParameter(f"no image in {', '.join(map(str, given))}")
    if labels is not None and len(paths) > 1:
        raise typer.BadParameter(
            f"--labels goes with one image, got {len(paths)}; name label files SCLS_<image>.tif"
        )
    return paths


def _classifier(name: str, seed: int) -> Any:
    if name == "network":
        return None
    if name != "random-forest":
        raise typer.BadParameter(f"--classifier must be network or random-forest, got {name}")
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=100, max_depth=16, random_state=seed)


def _integers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{option} takes integers with commas, got {text!r}") from error


@contextmanager
def _progress(title: str) -> Iterator[tuple[Any, Any]]:
    """Show a bar for each stage: Dask tasks, or steps of the fit, with the time left."""
    from csc_xr.progress import stage_progress

    with stage_progress(title) as shown:
        yield shown


def _print_result(result: RunResult) -> None:
    if result.scores:
        _print_scores(result.scores)
    for role, path in result.outputs.items():
        typer.echo(f"{role:12} {path}")
    peak = result.record.peak_memory_bytes / 1e9
    typer.echo(f"{'took':12} {sum(result.record.stage_seconds.values()):.1f} s, {peak:.2f} GB\n")


def _print_scores(scores: dict[str, pd.DataFrame]) -> None:
    for phase, report in scores.items():
        typer.echo(f"\n{phase}")
        typer.echo(report.round(3).to_string(index=False, na_rep=""))
    typer.echo("")
