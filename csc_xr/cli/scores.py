"""Commands that score a class raster, draw points to score by, and show what the method does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from csc_xr.cli import options
from csc_xr.cli.terminal import PHASES, app, near, print_result, print_scores
from csc_xr.errors import ParameterError

if TYPE_CHECKING:
    import geopandas
    import pandas as pd
    import xarray as xr

    from csc_xr.accuracy.areas import AreaEstimates


@app.command()
def evaluate(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="CLASSES LABELS...",
            help="Class raster to score (GeoTIFF, PNG or a result's .zarr), then labels of the "
            "same place: a raster, or points in a .csv or vector file. More pairs are pooled.",
        ),
    ],
    legend: options.RasterLegend = None,
    out: Annotated[Path | None, typer.Option(help="CSV file for the scores.")] = None,
    tidy: Annotated[
        Path | None, typer.Option(help="CSV file for all scores, to filter and plot.")
    ] = None,
    areas: Annotated[
        Path | None,
        typer.Option(
            help="CSV file for areas of classes with 95 % intervals, from labels that are a random "
            "sample; in square metres, or in pixels where there is no CRS."
        ),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(help="Score so many of the labelled pixels, drawn at random.")
    ] = None,
    seed: options.Seed = 0,
    column: Annotated[str, typer.Option(help="Column of points that holds their label.")] = "label",
) -> None:
    """Score existing class rasters against labels."""
    from csc_xr.accuracy.confusion import subsample
    from csc_xr.accuracy.scores import classification_report, tidy_scores
    from csc_xr.evaluation import count_files, estimate_file_areas, pool_counts
    from csc_xr.export import write_table_csv

    pairs = _pairs(files, areas=areas is not None)
    known = options.legend_of(pairs[0][0], legend)
    targets = [file.absolute() for file in (out, tidy, areas) if file is not None]
    if len(set(targets)) < len(targets):
        raise ParameterError(
            "--out, --tidy and --areas write different tables and need a file each, got "
            f"{', '.join(file.name for file in targets)}."
        )
    names = [str(classes) for classes, _ in pairs]
    counted = [count_files(*pair, legend=known, column=column) for pair in pairs]
    if len(pairs) > 1:
        names.append("all")
        counted.append(pool_counts(counted))
    if sample is not None:
        counted = [
            {phase: subsample(c, n=sample, seed=seed) for phase, c in counts.items()}
            for counts in counted
        ]
    reports = {phase: classification_report(counts) for phase, counts in counted[-1].items()}
    estimates = {} if areas is None else estimate_file_areas(*pairs[0], counted[0], legend=known)
    if out is not None:
        write_table_csv(_one_table(reports), out)
    if tidy is not None:
        write_table_csv(_stacked([tidy_scores(c) for c in counted], names, "file"), tidy)
    if areas is not None:
        tables = [found.to_table() for found in estimates.values()]
        write_table_csv(_stacked(tables, list(estimates), "phase"), areas)
    print_scores(reports)
    _print_areas(estimates)


@app.command("sample-points")
def sample_points(
    classes: Annotated[
        Path, typer.Argument(help="Class raster: GeoTIFF, PNG or a result's .zarr.")
    ],
    out: Annotated[Path, typer.Option(help="File for the points: .gpkg, .geojson or .csv.")],
    legend: options.RasterLegend = None,
    per_class: Annotated[int | None, typer.Option(help="Points in each class.")] = None,
    total: Annotated[
        int | None,
        typer.Option(help="Points in all; those beyond --least go by the area of classes."),
    ] = None,
    least: Annotated[int, typer.Option(help="With --total: least points in each class.")] = 50,
    phase: Annotated[
        str, typer.Option(help="Of a result: pixel_class or tile_class.")
    ] = "pixel_class",
    seed: options.Seed = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file of points.")
    ] = False,
) -> None:
    """Draw random points in each class of a map, to label them and evaluate the map with them."""
    from csc_xr.accuracy.points import draw_validation_points
    from csc_xr.export import open_classes

    rasters = open_classes(classes)
    if len(rasters) > 1 and phase not in rasters:
        raise ParameterError(f"--phase must be one of {', '.join(rasters)}, got {phase!r}.")
    raster = rasters[phase] if phase in rasters else next(iter(rasters.values()))
    _check_points_file(out, raster, overwrite=overwrite)
    points = draw_validation_points(
        raster, legend=options.legend_of(classes, legend),
        per_class=per_class, total=total, least=least, seed=seed,
    )  # fmt: skip
    _write_points(points, out)
    typer.echo(points.groupby("map_class", sort=False).size().to_string())
    typer.echo(f"wrote {out}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("csc_xr_demo"),
    seed: Annotated[int, typer.Option(help="Another seed makes another fjord.")] = 7,
) -> None:
    """Classify a generated fjord with the network that ships with the package."""
    from csc_xr.demo import run_demo
    from csc_xr.progress import stage_progress
    from csc_xr.report.page import write_report

    rows, columns = 1200, 1600
    with stage_progress(f"demo fjord {seed}", pixels=rows * columns) as (timer, fit_progress):
        result = run_demo(
            out, seed=seed, shape=(rows, columns), timer=timer, fit_progress=fit_progress
        )
    print_result(result)
    image, model = (near(result.outputs[role]) for role in ("image", "tile network"))
    typer.echo(f"Open in a browser: {write_report(out).absolute()}")
    typer.echo(f"Go on with: csc-xr classify {image} --model {model} --out results")


def _pairs(files: list[Path], *, areas: bool) -> list[tuple[Path, Path]]:
    if len(files) % 2:
        raise ParameterError(
            f"evaluate takes pairs of a class raster and its labels, got {len(files)} files. Name "
            "the labels after each class raster."
        )
    if areas and len(files) > 2:
        raise ParameterError(
            f"--areas takes one class raster and its labels, got {len(files)} files. A sample is "
            "drawn within the classes of one map: estimate areas for each."
        )
    return list(zip(files[::2], files[1::2], strict=True))


def _check_points_file(out: Path, raster: xr.DataArray, *, overwrite: bool) -> None:
    """Refuse what cannot be written before points are drawn."""
    from csc_xr.files import check_target

    check_target(out, folder=False, overwrite=overwrite)
    allowed = [".csv"] if raster.rio.crs is None else [".csv", ".gpkg", ".geojson"]
    if out.suffix.lower() not in allowed:
        lacking = " of a raster without a CRS" if raster.rio.crs is None else ""
        raise ParameterError(
            f"Points{lacking} are written to a file that ends in {' or '.join(allowed)}, got "
            f"{out.name!r}. Choose another name."
        )


def _write_points(points: geopandas.GeoDataFrame, out: Path) -> None:
    from csc_xr.export import write_table_csv
    from csc_xr.vector_styles import point_style
    from csc_xr.vectors import write_lines

    if out.suffix.lower() == ".csv":
        write_table_csv(points.drop(columns="geometry"), out)
    else:
        write_lines(points, out, layer="points", style=point_style())


def _one_table(reports: dict[str, pd.DataFrame]) -> pd.DataFrame:
    tables = list(reports.values())
    return tables[0] if len(tables) == 1 else _stacked(tables, list(reports), "Phase")


def _stacked(tables: list[pd.DataFrame], names: list[str], title: str) -> pd.DataFrame:
    """Put tables into one, with their names in its first column."""
    import numpy as np
    import pandas as pd

    stacked = pd.concat(tables, ignore_index=True)
    stacked.insert(0, title, np.repeat(names, [len(table) for table in tables]))
    return stacked


def _print_areas(estimates: dict[str, AreaEstimates]) -> None:
    import pandas as pd

    for phase, found in estimates.items():
        level = f"{100 * found.level:g} % intervals"
        typer.echo(f"{PHASES.get(phase, phase)}: areas in {found.unit}, {level}")
        table = found.classes
        shown = {
            "Class": table["class"],
            "Mapped": [f"{area:,.0f}" for area in table["mapped_area"]],
            "Estimated": _with_width(table, "estimated_area", "half_width", ",.0f"),
            "User's": _with_width(table, "users_accuracy", "users_half_width", ".2f"),
            "Producer's": _with_width(table, "producers_accuracy", "producers_half_width", ".2f"),
            "Samples": table["samples"],
        }
        typer.echo(pd.DataFrame(shown).to_string(index=False))
        overall = f"{found.overall_accuracy:.2f} +- {found.overall_half_width:.2f}"
        typer.echo(f"overall accuracy {overall}")
        if found.unmapped_area:
            without = f"{found.unmapped_area:,.0f} {found.unit}, {found.unmapped_samples} samples"
            typer.echo(f"left out, without a class in the map: {without}")
        typer.echo("")


def _with_width(table: pd.DataFrame, estimate: str, width: str, form: str) -> list[str]:
    """Estimates and half widths as text, empty where they are missing."""
    return [
        "" if value != value else f"{value:{form}} +- {half:{form}}"
        for value, half in zip(table[estimate], table[width], strict=True)
    ]
