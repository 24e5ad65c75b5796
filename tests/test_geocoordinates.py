"""Every output lies where its input lies, to the bit, through Zarr and GeoTIFF."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks_for_tests import LEGEND, brightness_network, patch_network, striped_scene
from rasterio.crs import CRS
from rasters_for_tests import reading
from runs_for_tests import QUICKEST, run_cli, write_image, write_network

from csc_xr.export import (
    open_result,
    write_class_geotiff,
    write_float_geotiff,
    write_result_zarr,
)
from csc_xr.grid import is_georeferenced, place, scene_transform
from csc_xr.inference import classify_pixels, expand_tiles, predict_tiles
from csc_xr.scene import open_scene, write_scene
from csc_xr.workflow import OUTPUTS

GRIDS = {
    "south up": (Affine(30.0, 0.0, 412345.0, 0.0, 30.0, 7654321.0), "EPSG:32624"),
    "rotated": (Affine(8.1, 3.3, 300000.1, 2.7, -9.4, 7000000.7), "EPSG:32624"),
    "not square": (Affine(10.0, 0.0, 5e5, 0.0, -20.5, 6.9e6), "EPSG:32624"),
    "polar": (Affine(9.97, 0.0, -212345.6, 0.0, -9.97, -2234567.8), "EPSG:3413"),
    "degrees": (Affine(1 / 3600, 0.0, -49.7, 0.0, -1 / 3600, 69.3), "EPSG:4326"),
    "no CRS": (Affine(0.1, 0.0, 7.3, 0.0, -0.1, 11.1), None),
}
RASTERS = ("classified", *OUTPUTS)


class Run(NamedTuple):
    """A folder of images on every grid, and of results."""

    images: Path
    out: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Classify a GeoTIFF on each grid and the same as a Zarr scene, with one command."""
    folder = tmp_path_factory.mktemp("grids")
    images, out = folder / "images", folder / "out"
    images.mkdir()
    for name, (transform, crs) in GRIDS.items():
        path = write_image(images / f"{name}.tif", transform=transform, crs=crs)
        write_scene(open_scene(path), images / f"{name} stored.zarr")
    wanted = [word for name in OUTPUTS for word in ("--output", name)]
    model = write_network(folder)
    with mock.patch("csc_xr.runs.scene.four_part_figure"):  # pictures take half the time
        ended = run_cli("classify", images, "--model", model, "--out", out, *QUICKEST, *wanted)
    assert ended.code == 0, ended.err
    return Run(images, out)


@pytest.fixture(params=[(name, end) for name in GRIDS for end in ("", " stored")], ids="".join)
def case(request: pytest.FixtureRequest, run: Run) -> tuple[str, Affine, str | None, Run]:
    name, end = request.param
    return (f"{name}{end}", *GRIDS[name], run)


def crs_of(name: str | None) -> CRS | None:
    return None if name is None else CRS.from_string(name)


def test_zarr_lies_where_the_image_lies(case: tuple[str, Affine, str | None, Run]) -> None:
    name, transform, crs, run = case
    result = open_result(run.out / f"{name}_classified.zarr")
    scene = open_scene(run.images / f"{name.removesuffix(' stored')}.tif")
    assert set(result.data_vars) == {"tile_class", "pixel_class", *OUTPUTS}
    for raster in (result, *result.data_vars.values()):
        assert scene_transform(raster) == transform
        assert raster.rio.crs == crs_of(crs)
        for dim in ("y", "x"):
            np.testing.assert_array_equal(raster[dim].values, scene[dim].values)
            assert raster[dim].dtype == scene[dim].dtype
    assert result["class"].values.tolist() == [1, 2, 3]


def test_any_reader_of_zarr_finds_the_place(case: tuple[str, Affine, str | None, Run]) -> None:
    name, _, crs, run = case
    plain = xr.open_zarr(run.out / f"{name}_classified.zarr", consolidated=False)
    assert plain["pixel_class"].dtype == np.uint8
    assert "spatial_ref" in plain["pixel_class"].coords
    assert plain["pixel_class"].rio.crs == crs_of(crs)


@pytest.mark.parametrize("raster", RASTERS)
def test_geotiff_lies_where_the_image_lies(
    raster: str, case: tuple[str, Affine, str | None, Run]
) -> None:
    name, transform, crs, run = case
    result = open_result(run.out / f"{name}_classified.zarr")
    with reading(run.out / f"{name}_{raster}.tif") as file:
        assert file.transform == transform
        assert file.crs == crs_of(crs)
        assert file.shape == (result.sizes["y"], result.sizes["x"])
        stored = result["pixel_class" if raster == "classified" else raster]
        seen = file.read().squeeze()
        assert file.nodata == {"classified": 0, "disagreement": 255}.get(raster, 65535)
        if raster in ("classified", "disagreement"):
            np.testing.assert_array_equal(seen, stored.values)
        else:
            step = file.scales[0]
            np.testing.assert_allclose(seen * step, stored.values, rtol=0, atol=0.501 * step)
        if raster == "probability":
            assert file.descriptions == ("Water", "Ice", "Rock")


@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="gdalinfo is not installed")
def test_gdal_sees_place_names_colours_and_nodata(
    case: tuple[str, Affine, str | None, Run],
) -> None:
    name, transform, crs, run = case
    path = run.out / f"{name}_classified.tif"
    told = subprocess.run(["gdalinfo", "-json", path], capture_output=True, check=True, text=True)
    seen: dict[str, Any] = json.loads(told.stdout)
    assert seen["geoTransform"] == pytest.approx(transform.to_gdal(), rel=1e-12)  # as printed
    if crs is None:
        assert not seen.get("coordinateSystem", {}).get("wkt")
    else:
        wkt = seen["coordinateSystem"]["wkt"]
        assert CRS.from_wkt(wkt) == crs_of(crs)
    (band,) = seen["bands"]
    assert band["type"] == "Byte"
    assert band["noDataValue"] == 0
    assert band["colorInterpretation"] == "Palette"
    for entry in LEGEND.classes:
        assert band["colorTable"]["entries"][entry.code] == [*entry.rgb, 255]
    # With names and colours as categories, QGIS needs no style file.
    sidecar = path.with_name(f"{path.name}.aux.xml").read_text(encoding="utf-8")
    assert all(entry.name in sidecar for entry in LEGEND.classes)
    table = subprocess.run(["gdalinfo", path], capture_output=True, check=True, text=True).stdout
    assert "Categories:" in table
    assert "1: Water" in table


def test_tile_grid_is_coarser_and_begins_in_the_same_corner() -> None:
    for transform, crs in GRIDS.values():
        scene = place(striped_scene((40, 96)), transform, crs_of(crs))
        tiles = predict_tiles(scene, brightness_network())
        assert scene_transform(tiles) == transform @ Affine.scale(8)
        spread = expand_tiles(tiles["tile_class"], scene, tile_size=8)
        assert scene_transform(spread) == transform


sizes = st.floats(1e-5, 1e4).flatmap(lambda size: st.sampled_from([size, -size]))
origins = st.floats(-1e7, 1e7)
shears = st.one_of(st.just(0.0), st.floats(-0.3, 0.3))


@st.composite
def transforms(draw: st.DrawFn) -> Affine:
    across, down = draw(sizes), draw(sizes)
    shear = draw(shears), draw(shears)
    return Affine(across, shear[0] * across, draw(origins), shear[1] * down, down, draw(origins))


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    transform=transforms(),
    crs=st.sampled_from(["EPSG:3413", "EPSG:32624", "EPSG:4326", None]),
    chunks=st.integers(7, 40),
)
def test_any_place_survives_all_the_way(
    transform: Affine, crs: str | None, chunks: int, tmp_path: Path
) -> None:
    """From a GeoTIFF to a scene in Zarr, to a result in Zarr, to GeoTIFFs, and back."""
    image = write_image(
        tmp_path / "scene.tif",
        np.full((3, 16, 24), 9, "uint8"),
        transform=transform,
        crs=crs,
    )
    opened = open_scene(image, chunks=chunks)
    assert scene_transform(opened) == transform
    write_scene(opened, tmp_path / "scene.zarr", overwrite=True)
    scene = open_scene(tmp_path / "scene.zarr")
    result = classify_pixels(scene, PATCHES, outputs=("pixel_class", "confidence"))
    write_result_zarr(result, tmp_path / "result.zarr", overwrite=True)
    stored = open_result(tmp_path / "result.zarr")
    write_class_geotiff(stored["pixel_class"], tmp_path / "classes.tif", legend=LEGEND)
    write_float_geotiff(stored["confidence"], tmp_path / "confidence.tif")
    for raster in (scene, result, stored, stored["confidence"]):
        assert scene_transform(raster) == transform
        assert raster.rio.crs == crs_of(crs)
        for dim in ("y", "x"):
            np.testing.assert_array_equal(raster[dim].values, opened[dim].values)
    for name in ("classes", "confidence"):
        with reading(tmp_path / f"{name}.tif") as file:
            assert (file.transform, file.crs) == (transform, crs_of(crs))
        assert is_georeferenced(open_scene(tmp_path / f"{name}.tif"))


PATCHES = patch_network(3)


def test_scene_without_georeference_stays_without(tmp_path: Path) -> None:
    image = write_image(tmp_path / "photo.tif", transform=Affine.identity(), crs=None)
    result = classify_pixels(open_scene(image), PATCHES)
    write_result_zarr(result, tmp_path / "result.zarr")
    stored = open_result(tmp_path / "result.zarr")
    assert "spatial_ref" not in stored.coords
    assert scene_transform(stored) == Affine.identity()
    np.testing.assert_array_equal(stored["x"].values[:3], [0.5, 1.5, 2.5])
    with rasterio.open(image) as file:
        assert file.crs is None
