"""Commands about labelled tiles: ``tiles``, ``import-tiles`` and ``export-tiles``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csc_xr.cli import options
from csc_xr.cli.options import integers, words
from csc_xr.cli.terminal import app
from csc_xr.errors import ParameterError

Images = Annotated[list[Path], typer.Argument(help="Labelled images, Zarr stores, or folders.")]
Legend = Annotated[str, typer.Option(help="'glacier', 'river', or a JSON or CSV file of classes.")]
StorePath = Annotated[Path, typer.Option("--out", help="Store to write, such as tiles.zarr.")]
ClassKeyPath = Annotated[
    Path | None,
    typer.Option(help="CSV of LocalClass,HierarchClass where labels hold local classes."),
]


@app.command()
def tiles(
    images: Images,
    out: StorePath,
    legend: Legend,
    size: Annotated[int, typer.Option(help="Side of a tile in pixels.")] = 50,
    stride: Annotated[int, typer.Option(help="Pixels from one window to the next.")] = 25,
    purity: Annotated[float, typer.Option(help="Least share of a tile of its class.")] = 0.95,
    max_unlabelled: Annotated[float, typer.Option(help="Most of a tile without a label.")] = 0.10,
    per_class: options.PerClass = None,
    leave_out: Annotated[
        str | None, typer.Option(help="Codes of classes to take as unlabelled: 4,5.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Label raster of one image (default: SCLS_<image>.tif beside it)."),
    ] = None,
    class_key: ClassKeyPath = None,
    bands: Annotated[
        str | None, typer.Option(help="Bands the tiles hold: red,green,blue (default: all).")
    ] = None,
    band_names: options.BandNames = None,
    scale: options.Scale = None,
    nodata: options.Nodata = None,
    copies: Annotated[
        bool, typer.Option("--copies", help="Also store copies turned by 90, 180, 270 degrees.")
    ] = False,
    flips: Annotated[
        bool, typer.Option("--flips", help="And copies that are mirrored, then turned.")
    ] = False,
    noise: Annotated[float, typer.Option(help="Noise of the copies.")] = 10.0,
    seed: options.Seed = 0,
    overwrite: options.Replace = False,
) -> None:
    """Cut labelled tiles of nearly one class out of images, into a Zarr store."""
    from csc_xr.inputs import list_images
    from csc_xr.legend import open_legend
    from csc_xr.progress import stage_progress
    from csc_xr.runs.tiles import cut_images
    from csc_xr.tiles.keys import open_class_key
    from csc_xr.tiles.layout import count_tiles
    from csc_xr.tiles.purity import WindowRule

    known = open_legend(legend)
    key = None if class_key is None else open_class_key(class_key)
    listed = list_images(images)
    with stage_progress(f"tiles of {len(listed)} images") as (timer, _):
        cut = cut_images(
            listed, out,
            legend=known, rule=WindowRule(size, stride, purity, max_unlabelled), labels=labels,
            class_key=key, bands=words(bands),
            scene_options={"band_names": words(band_names), "scale": scale, "nodata": nodata},
            per_class=per_class, leave_out=integers(leave_out or "", "--leave-out"),
            copies=copies or flips, flips=flips, noise=noise, seed=seed, overwrite=overwrite,
            timer=timer,
        )  # fmt: skip
    typer.echo(count_tiles(cut).to_string())
    typer.echo(f"wrote {out}")


@app.command("import-tiles")
def import_tiles(
    source: Annotated[
        Path, typer.Argument(help="Folder with C1 ... CN of tile images, or an .npy of tiles.")
    ],
    out: StorePath,
    legend: Legend,
    bands: Annotated[str, typer.Option(help="Names of the tiles' bands: red,green,blue,nir.")],
    scale: Annotated[float, typer.Option(help="Divisor of the scenes' numbers: 255 or 8192.")],
    labels: Annotated[Path | None, typer.Option(help="The .npy of labels of an .npy.")] = None,
    class_key: ClassKeyPath = None,
    overwrite: options.Replace = False,
) -> None:
    """Bring tiles of other programs into a store: class folders, or compiled arrays.

    Numbers of float16 arrays have been divided by the scale, and are multiplied again.
    """
    from csc_xr.legend import open_legend
    from csc_xr.progress import stage_progress
    from csc_xr.tiles.forms import import_compiled, import_tile_folders
    from csc_xr.tiles.keys import open_class_key, with_class_key
    from csc_xr.tiles.layout import count_tiles
    from csc_xr.tiles.store import write_tiles

    names, known = words(bands) or [], open_legend(legend)
    key = None if class_key is None else open_class_key(class_key)
    local = known if key is None else key.local_legend(known)
    if not source.is_dir() and labels is None:
        raise ParameterError(
            f"Tiles come from a folder of class folders, or from an .npy file with --labels, got "
            f"{source} alone."
        )
    with stage_progress(f"tiles of {source}") as (timer, _):
        with timer.stage("headers"):
            if labels is None:
                found = import_tile_folders(source, bands=names, scale=scale, legend=local)
            else:
                found = import_compiled(source, labels, bands=names, scale=scale, legend=local)
            if key is not None:
                found = with_class_key(found, key, known)
        with timer.stage("writing"):
            written = write_tiles(found, out, overwrite=overwrite)
    typer.echo(count_tiles(written).to_string())
    typer.echo(f"wrote {out}")


@app.command("export-tiles")
def export_tiles(
    store: Annotated[Path, typer.Argument(help="Store that csc-xr tiles wrote.")],
    out: Annotated[Path, typer.Option(help="Folder, or what the names of .npy files begin with.")],
    form: Annotated[
        str,
        typer.Option(help="folders: C1 ... CN of TIFF tiles; float16 or uint8: compiled arrays."),
    ] = "folders",
    validation: options.Validation = "none",
    validation_share: options.ValidationShare = 0.2,
    validation_scenes: options.ValidationScenes = None,
    seed: options.Seed = 0,
    overwrite: options.Replace = False,
) -> None:
    """Write tiles as other programs read them: class folders, or compiled arrays.

    Class folders lie under training and validation where something is held out.
    """
    from csc_xr.tiles.forms import export_compiled, export_tile_folders
    from csc_xr.tiles.split import split_tiles
    from csc_xr.tiles.store import open_tiles

    tiles = open_tiles(store)
    if form != "folders" and (validation != "none" or validation_scenes is not None):
        raise ParameterError(
            f"A compiled array holds all tiles, got --form {form} with something held out. Export "
            "folders, or leave --validation out."
        )
    if form == "folders":
        split = split_tiles(
            tiles,
            by="scene" if validation_scenes else validation,  # type: ignore[arg-type]  # checked there
            share=validation_share, scenes=words(validation_scenes), seed=seed,
        )  # fmt: skip
        export_tile_folders(
            tiles, out, split=split if len(split.check) else None, overwrite=overwrite
        )
    else:
        export_compiled(tiles, out, form=form, overwrite=overwrite)  # type: ignore[arg-type]  # checked there
    typer.echo(f"wrote {out}")
