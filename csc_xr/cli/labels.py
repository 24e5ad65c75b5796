"""The commands ``rasterize`` and ``polygons``: labels from drawn polygons, and classes back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from csc_xr.cli import options
from csc_xr.cli.terminal import app, print_rows

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from csc_xr.legend import ClassLegend


@app.command()
def rasterize(
    polygons: Annotated[
        Path, typer.Argument(help="Polygons: GeoPackage, shapefile or GeoJSON, in any CRS.")
    ],
    like: Annotated[Path, typer.Option(help="Image to make labels for.")],
    legend: Annotated[
        str, typer.Option(help="'glacier', 'river', or a JSON or CSV file of classes.")
    ],
    attribute: Annotated[
        str, typer.Option(help="Attribute that holds the classes: codes or names.")
    ] = "class",
    layer: Annotated[str | None, typer.Option(help="Layer, where the file has several.")] = None,
    overlaps: Annotated[
        str,
        typer.Option(help="Which polygon has a pixel that several claim: later, smaller, refuse."),
    ] = "later",
    out: Annotated[
        Path | None, typer.Option(help="GeoTIFF (default: SCLS_<image>.tif beside the image).")
    ] = None,
    overwrite: options.Replace = False,
) -> None:
    """Turn drawn polygons into labels: a class GeoTIFF on the pixels of an image."""
    from csc_xr.export import write_class_geotiff
    from csc_xr.files import check_target
    from csc_xr.label_polygons import rasterize_labels
    from csc_xr.legend import open_legend
    from csc_xr.scene import open_scene

    target = like.with_name(f"SCLS_{like.stem}.tif") if out is None else out
    check_target(target, folder=False, overwrite=overwrite)
    known = open_legend(legend)
    labels = rasterize_labels(
        polygons,
        like=open_scene(like),
        attribute=attribute,
        legend=known,
        overlaps=overlaps,  # type: ignore[arg-type]  # checked by the function
        layer=layer,
    )
    write_class_geotiff(labels, target, legend=known)
    _print_pixels(target, known)
    print_rows({"labels": target})


@app.command()
def polygons(
    classes: Annotated[
        Path, typer.Argument(help="Class raster: a file, or the store of a result.")
    ],
    out: Annotated[Path, typer.Option(help="File to write: .gpkg or .geojson.")],
    legend: options.RasterLegend = None,
    min_area_m2: Annotated[
        float, typer.Option(help="Leave out polygons smaller than this, in square metres.")
    ] = 0.0,
    overwrite: options.Replace = False,
) -> None:
    """Turn a class raster into polygons with the names and colours of its classes."""
    import pandas as pd

    from csc_xr.export import open_classes
    from csc_xr.files import check_target
    from csc_xr.polygons import class_polygons
    from csc_xr.vectors import write_lines

    check_target(out, folder=False, overwrite=overwrite)
    known = options.legend_of(classes, legend)
    found = open_classes(classes)
    raster = found.get("pixel_class", next(iter(found.values())))
    pieces = class_polygons(raster, known, min_area_m2=min_area_m2)
    write_lines(pieces, out, layer="classes", overwrite=overwrite)
    of_class = pieces.groupby("code")
    table = {
        "Class": of_class["name"].first(),
        "Polygons": of_class.size(),
        "Hectares": of_class["area_m2"].sum() / 10_000,
    }
    _print_table(pd.DataFrame(table))
    print_rows({"polygons": out})


def _print_pixels(target: Path, legend: ClassLegend) -> None:
    """Print how many pixels and hectares each class has."""
    import pandas as pd

    from csc_xr.accuracy.areas import pixel_area_m2
    from csc_xr.accuracy.confusion import count_classes
    from csc_xr.export import open_classes

    labels: xr.DataArray = open_classes(target)["classes"]
    counts = count_classes(labels, legend=legend)
    table = pd.DataFrame({"Class": counts["class_name"].values, "Pixels": counts.values})
    if labels.rio.crs is not None:
        table["Hectares"] = table["Pixels"] * pixel_area_m2(labels) / 10_000
    told = counts["code"].isin(legend.codes).values | (counts.values > 0)
    _print_table(table[told])


def _print_table(table: pd.DataFrame) -> None:
    typer.echo(table.to_string(index=False, float_format="{:.2f}".format))
    typer.echo("")
