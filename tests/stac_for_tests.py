"""Generated STAC items of Sentinel-2, in the forms that public catalogues give them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from products_for_tests import CORNER, CRS, PIXEL, SENSED, as_delivered
from rasterio.warp import transform_bounds
from rasters_for_tests import write_raster

COMMON = {"B02": "blue", "B03": "green", "B04": "red", "B05": "rededge1", "B08": "nir"}
CATALOGUES = ("earth-search-v1", "earth-search-v0", "planetary-computer", "copernicus", "bands")


def write_item(
    folder: Path,
    surface: Mapping[str, np.ndarray],
    *,
    catalogue: str = "earth-search-v1",
    shifted: bool = False,
    baseline: str = "05.11",
    scl: np.ndarray | None = None,
    name: str = "S2B_24WWU_20210715_0_L2A",
    sensed: str = SENSED,
    corner: tuple[float, float] = CORNER,
    properties: Mapping[str, Any] | None = None,
) -> Path:
    """Write an item and its GeoTIFFs beside it, of reflectance by band; give the item's path.

    ``shifted`` numbers are 1000 higher, as delivered from baseline 04.00 on; what the item
    says of that is what its catalogue says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    assets: dict[str, dict[str, Any]] = {}
    for band, reflectance in surface.items():
        numbers = as_delivered(reflectance, 10000, -1000 if shifted else 0)
        href = _image(folder, f"{name}_{band}", numbers, PIXEL[band], corner)
        key, fields = _asset_fields(catalogue, band, shifted)
        assets[key] = {"href": href, "type": "image/tiff", "roles": ["data"], **fields}
    band, reflectance = next(iter(surface.items()))
    coarse = [side * PIXEL[band] // 20 for side in reflectance.shape]
    classes = np.full(coarse, 5, "uint8") if scl is None else scl
    assets[_SCL[catalogue]] = {"href": _image(folder, f"{name}_SCL", classes, 20, corner)}
    assets["visual"] = {"href": "./TCI.tif", "roles": ["visual"], "eo:bands": _eo("red", "green")}
    if catalogue == "earth-search-v1":
        assets["red-jp2"] = {"href": "s3://sentinel-s2-l2a/B04.jp2", "eo:bands": _eo("red")}
    metres = reflectance.shape[0] * PIXEL[band]
    west, south, east, north = transform_bounds(
        CRS, "EPSG:4326", corner[0], corner[1] - metres, corner[0] + metres, corner[1]
    )
    item = {
        "type": "Feature",
        "stac_version": "1.0.0" if catalogue in CATALOGUES[:3] else "1.1.0",
        "id": name,
        "bbox": [west, south, east, north],
        "geometry": {
            "type": "Polygon",
            "coordinates": [
                [[west, south], [east, south], [east, north], [west, north], [west, south]]
            ],
        },
        "properties": {
            "datetime": sensed,
            "platform": "Sentinel-2B" if catalogue == "planetary-computer" else "sentinel-2b",
            **_properties(catalogue, shifted, baseline),
            **(properties or {}),
        },
        "links": [],
        "assets": assets,
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(item))
    return path


_SCL = dict(zip(CATALOGUES, ("scl", "SCL", "SCL", "SCL_20m", "SCL"), strict=True))


def _image(
    folder: Path, stem: str, pixels: np.ndarray, side: int, corner: tuple[float, float]
) -> str:
    transform = Affine(side, 0, corner[0], 0, -side, corner[1])
    write_raster(folder / f"{stem}.tif", pixels[None], crs=CRS, transform=transform, nodata=0)
    return f"./{stem}.tif"


def _eo(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "common_name": name} for name in names]


def _asset_fields(catalogue: str, band: str, shifted: bool) -> tuple[str, dict[str, Any]]:
    common = COMMON[band]
    offset = -0.1 if shifted else 0
    scaling = {"nodata": 0, "data_type": "uint16", "raster:scale": 0.0001, "raster:offset": offset}
    if catalogue == "earth-search-v1":  # gives -0.1 whether it was applied or not
        raster = {"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}
        return common, {"eo:bands": _eo(common), "raster:bands": [raster]}
    if catalogue == "copernicus":
        bands = [{"name": band, "eo:common_name": common}]
        return f"{band}_{PIXEL[band]}m", {"bands": bands, **scaling}
    if catalogue == "bands":
        return f"measured-{band}", {"bands": [{"name": band, **scaling}]}
    return band, {"eo:bands": [{"name": band, "common_name": common}]}


def _properties(catalogue: str, shifted: bool, baseline: str) -> dict[str, Any]:
    if catalogue == "earth-search-v1":
        applied = baseline >= "04" and not shifted
        return {"s2:processing_baseline": baseline, "earthsearch:boa_offset_applied": applied}
    if catalogue == "earth-search-v0":
        return {"sentinel:processing_baseline": baseline, "sentinel:boa_offset_applied": True}
    if catalogue == "planetary-computer":
        return {"s2:processing_baseline": baseline}
    return {"processing:version": baseline}
