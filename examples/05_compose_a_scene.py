"""Compose a scene out of loose Sentinel-2 bands, crop it, look at it.

python examples/05_compose_a_scene.py [--size 400 600] [--out composed]

The bands are generated: one GeoTIFF each, named as ESA names them, with numbers 1000 higher than
reflectance x 10000, as delivered from processing baseline 04.00 on. A real product, a .SAFE folder
or its zip, says this itself and needs no offset. The same in one line:
csc-xr compose composed/IMG_DATA --offset -1000 --box ... --out composed/fjord.tif
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.image
import numpy as np

from csc_xr import (
    ComposeSettings,
    compose,
    open_scene,
    open_sentinel2,
    valid_pixels,
    write_scene_geotiff,
)
from csc_xr.synthetic import fjord

BANDS = {"red": "B04", "green": "B03", "blue": "B02", "nir": "B08"}


def write_bands(size: tuple[int, int], folder: Path) -> None:
    """Write a generated fjord as a product delivers it: a file a band."""
    scene = fjord(size, seed=7)["scene"].astype("uint16")
    for band, name in BANDS.items():
        delivered = scene.sel(band=[band]) + 1000
        delivered.attrs["_FillValue"] = np.uint16(0)
        file = folder / f"T24WWU_20210715T143749_{name}.tif"
        write_scene_geotiff(delivered, file, overwrite=True)


def main() -> None:
    """Generate bands, compose a crop of them, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--size", type=int, nargs=2, default=(400, 600), metavar=("ROWS", "COLUMNS")
    )
    parser.add_argument("--out", type=Path, default=Path("composed"))
    arguments = parser.parse_args()
    bands, target = arguments.out / "IMG_DATA", arguments.out / "fjord.tif"
    write_bands(tuple(arguments.size), bands)

    whole = open_sentinel2(bands, offset=-1000)  # lazy
    print(f"{whole.sizes['y']} x {whole.sizes['x']} pixels in {whole.rio.crs}")

    # The middle of it, in metres of the CRS.
    xs, ys = np.quantile(whole.x, (0.25, 0.75)), np.quantile(whole.y, (0.25, 0.75))
    settings = ComposeSettings(box=(xs[0], ys[0], xs[1], ys[1]), offset=-1000)
    compose([bands], target, settings=settings, overwrite=True)

    scene = open_scene(target)
    print(f"{', '.join(scene.band.values)} of {str(scene.time.values)[:16]}")
    print(f"{scene.sizes['y']} x {scene.sizes['x']} pixels, {scene.dtype}")
    print(f"{float(valid_pixels(scene).mean()):.0%} valid")
    picture = scene.sel(band=["red", "green", "blue"]).transpose("y", "x", "band").values
    matplotlib.image.imsave(target.with_suffix(".png"), np.clip(picture / 10000, 0, 1))


if __name__ == "__main__":
    main()
