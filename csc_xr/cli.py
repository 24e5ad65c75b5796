"""The command ``csc-xr``: parse, call, print."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csc_xr.errors import CscError, CscWarning, OutputError, ParameterError

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

BAD_INPUT = 2
"""Exit code for input that cannot be used."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_PHASES = {"tile_class": "phase one, tiles", "pixel_class": "phase two, pixels"}


def main() -> None:
    """Run the command line; errors csc_xr raises on purpose are one message and exit code 2."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", CscWarning)
        warnings.showwarning = _print_warning  # type: ignore[assignment]  # called by position
        try:
            app(prog_name="csc-xr")
        except CscError as error:
            _print_error(error)
            sys.exit(BAD_INPUT)
        except SystemExit as end:
            if end.code == INTERRUPTED:
                typer.secho("csc-xr: interrupted; what was finished is kept.", fg="red", err=True)
                _leave(INTERRUPTED)
            raise


def _leave(code: int) -> None:
    """End at once: threads that still compute would write into folders already removed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _print_error(error: CscError) -> None:
    typer.secho(f"csc-xr: {error}", fg="red", err=True)


def _print_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, CscWarning):
        typer.secho(f"csc-xr: note: {message}", fg="yellow", err=True)


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Hide what TensorFlow's libraries write while they start, which no setting of theirs does.

    Set the log level in the environment to see it.
    """
    if _LOG_LEVEL in os.environ:
        yield
        return
    os.environ[_LOG_LEVEL] = "2"
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


Images = Annotated[list[Path], typer.Argument(help="Images, Zarr stores, or folders of them.")]
ModelPath = Annotated[Path, typer.Option("--model", help="Tile network: .keras or legacy .h5.")]
LegendName = Annotated[
    str | None, typer.Option(help="'glacier', 'river', or a JSON or CSV file of classes.")
]
BandNames = Annotated[str | None, typer.Option(help="Band names: red,green,blue,nir.")]
ModelScale = Annotated[float | None, typer.Option(help="Divisor of pixel values.")]
WindowSize = Annotated[int | None, typer.Option(help="Tile or patch size in pixels.")]
Codes = Annotated[str | None, typer.Option(help="Class code of each output: 0,1,2.")]
Kind = Annotated[str | None, typer.Option(help="tile or patch (default: the file's, or tile).")]


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
        Path | None,
        typer.Option(help="Label raster of one image (default: SCLS_<image>.tif beside it)."),
    ] = None,
    legend: LegendName = None,
    band_names: Annotated[
        str | None, typer.Option(help="Names of the files' bands: red,green,blue,nir.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Divisor of pixel values (default: by data type).")
    ] = None,
    nodata: Annotated[
        float | None, typer.Option(help="Nodata value of the images (default: the files' own).")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Raster on the grid of the images, 0 where to mask.")
    ] = None,
    tile_size: Annotated[
        int | None, typer.Option(help="Tile side in pixels, for networks of any tile size.")
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            help="Also write confidence, margin, entropy, probability or disagreement; "
            "give the option again for each."
        ),
    ] = None,
    classifier: Annotated[
        str, typer.Option(help="'network', or for patch size 1 'random-forest'.")
    ] = "network",
    activation: Annotated[str, typer.Option(help="Of the convolutions: relu or linear.")] = "relu",
    samples_per_class: Annotated[int, typer.Option(help="Samples of each class.")] = 5000,
    steps: Annotated[
        int | None,
        typer.Option(help="Optimiser steps of the fit (default: 100 a class, 300 at least)."),
    ] = None,
    min_probability: Annotated[
        float, typer.Option(help="Tiles less certain than this teach nothing.")
    ] = 0.0,
    despeckle: Annotated[
        int, typer.Option(help="Radius in tiles of a mode filter over the tiles, 0 for none.")
    ] = 0,
    mode_radius: Annotated[
        int, typer.Option(help="Radius in pixels of the mode filter over pixels, 0 for none.")
    ] = 4,
    edge: Annotated[str, typer.Option(help="cover: every pixel; blank: border stays 0.")] = "cover",
    experiment: Annotated[
        str | None, typer.Option(help="Short name in report names (default: k<patch size>).")
    ] = None,
) -> None:
    """Classify images by both phases: Zarr, GeoTIFF or PNG, scores, figure and run record."""
    with _quiet_start():
        from csc_xr.inputs import list_images
        from csc_xr.networks.bundle import open_network
        from csc_xr.progress import stage_progress
        from csc_xr.runs import prepare_jobs, run_job
        from csc_xr.training.fitting import FitSettings
        from csc_xr.workflow import ClassifySettings

        settings = ClassifySettings(
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
        )
        estimator = _classifier(classifier, seed)
        network = open_network(model, legend=legend)
    jobs = prepare_jobs(
        list_images(images),
        network,
        out,
        settings=settings,
        labels=labels,
        scene_options={
            "band_names": _words(band_names),
            "scale": scale,
            "nodata": nodata,
            "mask": mask,
        },
        classifier=estimator,
    )
    failed = []
    for number, job in enumerate(jobs, 1):
        title = f"{job.name} ({number} of {len(jobs)})"
        pixels = job.scene.sizes["y"] * job.scene.sizes["x"]
        try:
            with stage_progress(title, pixels=pixels) as (timer, fit_progress):
                result = run_job(
                    job, network, out,
                    settings=settings, experiment=experiment, classifier=estimator,
                    network_path=model, timer=timer, fit_progress=fit_progress,
                )  # fmt: skip
        except OutputError:  # the next image would fail the same way
            raise
        except CscError as error:
            _print_error(error)
            failed.append(job.name)
        else:
            _print_result(result)
    if failed:
        raise typer.Exit(BAD_INPUT)


@app.command()
def evaluate(
    classes: Annotated[
        Path, typer.Argument(help="Class raster to score: GeoTIFF, PNG or a result's .zarr.")
    ],
    labels: Annotated[Path, typer.Argument(help="Label raster of the same place.")],
    legend: Annotated[str, typer.Option(help="'glacier', 'river', or a JSON or CSV file.")],
    out: Annotated[Path | None, typer.Option(help="CSV file for the scores.")] = None,
) -> None:
    """Score an existing class raster against labels."""
    from csc_xr.accuracy import classification_report, confusion_matrix
    from csc_xr.export import open_classes, write_table_csv
    from csc_xr.labels import open_labels
    from csc_xr.legend import open_legend

    known = open_legend(legend)
    rasters = open_classes(classes)
    reports = {}
    for name, raster in rasters.items():
        digitised = open_labels(labels, like=raster.expand_dims(band=["class"]), legend=known)
        reports[name] = classification_report(confusion_matrix(digitised, raster, legend=known))
    if out is not None:
        write_table_csv(_one_table(reports), out)
    _print_scores(reports)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("csc_xr_demo"),
    seed: Annotated[int, typer.Option(help="Another seed makes another fjord.")] = 7,
) -> None:
    """Classify a generated fjord with the network that ships with the package."""
    with _quiet_start():
        from csc_xr.demo import open_demo_network, run_demo
        from csc_xr.progress import stage_progress

        open_demo_network()  # TensorFlow looks for devices when the first network is made

    rows, columns = 1200, 1600
    with stage_progress(f"demo fjord {seed}", pixels=rows * columns) as (timer, fit_progress):
        result = run_demo(
            out, seed=seed, shape=(rows, columns), timer=timer, fit_progress=fit_progress
        )
    _print_result(result)


@model_app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Legacy .h5 or card-less .keras file.")],
    target: Annotated[Path, typer.Argument(help=".keras file to write.")],
    kind: Kind = None,
    bands: BandNames = None,
    scale: ModelScale = None,
    size: WindowSize = None,
    legend: LegendName = None,
    codes: Codes = None,
) -> None:
    """Write a network as .keras with its card: bands, scale, size and legend."""
    with _quiet_start():
        from csc_xr.networks.bundle import save_network

        network = _open_any(source, kind, bands, scale, size, legend, codes)
        save_network(network, target)
    typer.echo(f"wrote {target}")


@model_app.command()
def info(
    source: Annotated[Path, typer.Argument(help=".keras or .h5 file.")],
    kind: Kind = None,
    bands: BandNames = None,
    scale: ModelScale = None,
    size: WindowSize = None,
    legend: LegendName = None,
    codes: Codes = None,
) -> None:
    """Print what a network is and needs."""
    with _quiet_start():
        network = _open_any(source, kind, bands, scale, size, legend, codes)
    card = network.card
    rows = {
        "kind": card.kind,
        "bands": ", ".join(card.bands),
        "scale": "the scene's own" if card.scale is None else card.scale,
        "size": f"{card.size} px",
        "legend": card.legend.name,
        "classes": ", ".join(f"{c} {card.legend.class_name(c)}" for c in card.codes if c),
        "parameters": f"{network.model.count_params():,}",
        "fingerprint": network.fingerprint,
        **card.provenance,
    }
    _print_rows(rows)


def _open_any(
    source: Path,
    kind: str | None,
    bands: str | None,
    scale: float | None,
    size: int | None,
    legend: str | None,
    codes: str | None,
) -> Any:
    from csc_xr.networks.bundle import open_network

    return open_network(
        source,
        kind=kind,  # type: ignore[arg-type]  # checked by the card
        bands=_words(bands),
        scale=scale,
        size=size,
        legend=legend,
        codes=None if codes is None else _integers(codes, "--codes"),
    )


def _classifier(name: str, seed: int) -> Any:
    if name == "network":
        return None
    if name != "random-forest":
        raise ParameterError(f"--classifier must be network or random-forest, got {name!r}.")
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=100, max_depth=16, random_state=seed)


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",")]


def _integers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ParameterError(f"{option} takes whole numbers with commas, got {text!r}.") from error


def _one_table(reports: dict[str, pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    if len(reports) == 1:
        return next(iter(reports.values()))
    return pd.concat(reports, names=["Phase", None]).reset_index(level=0)


def _print_result(result: RunResult) -> None:
    _print_scores(result.scores)
    _print_rows(result.outputs)
    seconds = sum(result.record.stage_seconds.values())
    peak = result.record.peak_memory_bytes / 1e9
    _print_rows({"took": f"{seconds:.1f} s, at most {peak:.2f} GB of memory"})
    typer.echo("")


def _print_scores(scores: dict[str, pd.DataFrame]) -> None:
    for phase, report in scores.items():
        typer.echo(f"\n{_PHASES.get(phase, phase)}")
        typer.echo(report.round(3).to_string(index=False, na_rep=""))
    if scores:
        typer.echo("")


def _print_rows(rows: Mapping[str, Any]) -> None:
    for name, value in rows.items():
        typer.echo(f"{name:12} {value}")
