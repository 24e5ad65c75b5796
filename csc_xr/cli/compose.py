"""The command ``compose``: a scene or a stack out of satellite products."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from csc_xr.cli import options
from csc_xr.cli.terminal import app, print_rows
from csc_xr.errors import ParameterError

if TYPE_CHECKING:
    import xarray as xr

Products = Annotated[
    list[Path],
    typer.Argument(
        help="Sentinel-2 products (.SAFE, zip, folder of bands), folders of Landsat bands, STAC "
        "items (.json), or folders of them."
    ),
]


@app.command()
def compose(
    products: Products,
    out: Annotated[
        Path, typer.Option(help="scene.tif or scene.zarr; stack.zarr for several products.")
    ],
    bands: Annotated[
        str | None,
        typer.Option(help="Bands: red,green,blue,nir (default), or names as B04,B8A."),
    ] = None,
    box: Annotated[
        str | None, typer.Option(help="Crop to xmin,ymin,xmax,ymax in the CRS of the result.")
    ] = None,
    box_crs: Annotated[str | None, typer.Option(help="CRS of the box: EPSG:4326.")] = None,
    polygon: Annotated[
        Path | None,
        typer.Option(help="File of polygons: crop to their extent, mask what lies outside."),
    ] = None,
    crs: Annotated[
        str | None, typer.Option(help="CRS of the result (default: that of the product).")
    ] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Pixel size of the result (default: that of the bands).")
    ] = None,
    resampling: Annotated[
        str,
        typer.Option(
            help="nearest, bilinear, cubic, average or lanczos, where pixels are not the product's."
        ),
    ] = "bilinear",
    mask: Annotated[
        bool, typer.Option("--mask/--no-mask", help="Mask clouds and their shadows, where known.")
    ] = True,
    offset: Annotated[
        float | None,
        typer.Option(help="Of the products' numbers, where the metadata are absent: 0 or -1000."),
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Divisor of pixel values for networks (default: 8192).")
    ] = None,
    overwrite: options.Replace = False,
) -> None:
    """Make one scene of a satellite product, or a stack of several, for classify and stack.

    Numbers are reflectance x 10000 whatever the product; 0 is nodata.
    """
    from csc_xr.progress import stage_progress
    from csc_xr.runs.compose import ComposeSettings, compose

    chosen = options.words(bands)
    settings = ComposeSettings(
        bands=None if chosen is None else tuple(chosen),
        crs=crs, resolution=resolution, box=_box(box), box_crs=box_crs, polygon=polygon,
        resampling=resampling, mask=mask, offset=offset, scale=scale,
    )  # fmt: skip
    with stage_progress(f"{out}") as (timer, _):
        composed = compose(products, out, settings=settings, overwrite=overwrite, timer=timer)
    names = composed.coords["band"].values.tolist()
    print_rows(
        {
            "bands": ", ".join(names),
            "size": f"{composed.sizes['y']} x {composed.sizes['x']} pixels",
            "CRS": composed.rio.crs,
            "time": ", ".join(_times(composed)) or "not known",
        }
    )
    typer.echo(f"wrote {out}")


def _times(composed: xr.DataArray) -> list[str]:
    if "time" not in composed.coords:
        return []
    return [str(time)[:19] for time in composed.coords["time"].values.reshape(-1)]


def _box(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    try:
        left, bottom, right, top = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ParameterError(
            f"--box takes xmin,ymin,xmax,ymax with commas and no spaces, got {text!r}."
        ) from error
    return left, bottom, right, top
