"""The commands ``front``, ``front-error`` and ``front-series``: calving fronts of class rasters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from csc_xr.cli.options import FrontSetting, Replace
from csc_xr.cli.terminal import app, finding_rows, print_rows

if TYPE_CHECKING:
    import xarray as xr

    from csc_xr.fronts.series import FrontSeries

Rasters = Annotated[
    list[Path],
    typer.Argument(help="Class rasters: files, results of classify, or a stack's store."),
]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Legend = Annotated[str, typer.Option(help="'glacier', or a JSON or CSV file of classes.")]
PixelSize = Annotated[
    float | None, typer.Option(help="Metres to a pixel, for rasters without a CRS.")
]
Within = Annotated[
    Path | None, typer.Option(help="Vector file of polygons that the front lies in.")
]


@app.command()
def front(
    classes: Rasters,
    out: Out,
    legend: Legend = "glacier",
    front_setting: FrontSetting = None,
    pixel_size: PixelSize = None,
    within: Within = None,
    lines: Annotated[
        Path | None,
        typer.Option(help="Folder of EDGE_ and VM_ files (default: beside the rasters)."),
    ] = None,
    margins: Annotated[
        bool, typer.Option("--margins", help="Also write valley margins, where rock begins.")
    ] = False,
    polygons: Annotated[
        bool, typer.Option("--polygons", help="Also write the classes as polygons.")
    ] = False,
    overwrite: Replace = False,
) -> None:
    """Find calving fronts in class rasters: lines for GIS, and errors where one was digitised."""
    from csc_xr.fronts.settings import read_front_settings
    from csc_xr.legend import open_legend
    from csc_xr.runs.front_files import open_class_rasters, open_reference, write_fronts

    known, settings = open_legend(legend), read_front_settings(front_setting or ())
    rasters = open_class_rasters(classes, legend=known, settings=settings, pixel_size_m=pixel_size)
    for raster, found in write_fronts(
        rasters, out,
        legend=known, settings=settings, lines=lines,
        within=None if within is None else open_reference(within),
        margins=margins, polygons=polygons, overwrite=overwrite,
    ):  # fmt: skip
        typer.secho(raster.name, bold=True)
        print_rows({**finding_rows(found.findings), **found.outputs}, width=15)
        typer.echo("")


@app.command()
def front_error(
    predicted: Annotated[Path, typer.Argument(help="Lines found: vector file or raster.")],
    digitised: Annotated[Path, typer.Argument(help="Lines a person drew, in any of these forms.")],
    layer: Annotated[
        str | None, typer.Option(help="Layer of the file of lines found, where it has several.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file for the figures.")] = None,
    figure: Annotated[Path | None, typer.Option(help="PNG file for a histogram.")] = None,
) -> None:
    """Measure how far lines lie from digitised ones, in true metres: fronts or valley margins."""
    import pandas as pd

    from csc_xr.export import write_table_csv
    from csc_xr.figures.fronts import error_histogram
    from csc_xr.fronts.deviation import front_error as measure
    from csc_xr.fronts.digitised import open_digitised

    found = open_digitised(predicted, layer=layer)
    deviation = measure(found, open_digitised(digitised))
    figures = deviation.to_dict()
    print_rows({name: f"{value:.6g}" for name, value in figures.items()}, width=29)
    if out is not None:
        write_table_csv(pd.DataFrame([figures]), out)
    if figure is not None:
        error_histogram(deviation, title=f"{predicted.name} from {digitised.name}", path=figure)


@app.command()
def front_series(
    classes: Rasters,
    out: Out,
    legend: Legend = "glacier",
    front_setting: FrontSetting = None,
    pixel_size: PixelSize = None,
    within: Within = None,
    centreline: Annotated[
        Path | None, typer.Option(help="Vector file of one line along the flow (default: derived).")
    ] = None,
    box: Annotated[
        Path | None, typer.Option(help="Vector file of one four-cornered box (default: derived).")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="Image to draw the fronts on (default: the last classes).")
    ] = None,
    overwrite: Replace = False,
) -> None:
    """Follow a calving front through dated class rasters of one place: table, lines, figures."""
    from csc_xr.fronts.settings import read_front_settings
    from csc_xr.legend import open_legend
    from csc_xr.runs.front_files import open_class_rasters, open_reference, write_series

    known, settings = open_legend(legend), read_front_settings(front_setting or ())
    rasters = open_class_rasters(classes, legend=known, settings=settings, pixel_size_m=pixel_size)
    series, outputs = write_series(
        rasters, out,
        legend=known, settings=settings,
        within=None if within is None else open_reference(within),
        centreline=None if centreline is None else open_reference(centreline, "centreline"),
        box=None if box is None else open_reference(box, "box"),
        background=None if image is None else _background(image, pixel_size),
        overwrite=overwrite,
    )  # fmt: skip
    _print_series(series)
    print_rows(outputs)


def _background(image: Path, pixel_size: float | None) -> xr.DataArray:
    from csc_xr.grid import is_georeferenced
    from csc_xr.metres import with_pixel_size
    from csc_xr.scene import open_scene

    scene = open_scene(image)
    if pixel_size is None or is_georeferenced(scene):
        return scene
    return with_pixel_size(scene, pixel_size)


def _print_series(series: FrontSeries) -> None:
    columns = ["time", "outcome", "length_m", "box_change_m", "centreline_change_m"]
    table = series.table[columns]
    typer.echo(table.to_string(index=False, na_rep="", float_format="{:.1f}".format))
    gaps = series.table[series.table["box_position_m"].isna()]
    for row in gaps.itertuples():
        typer.echo(f"{row.name}: {row.outcome}. {row.reason}")
    typer.echo("")
