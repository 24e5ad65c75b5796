"""Results as files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.crs import CRS
from rasters_for_tests import POLAR, POLAR_GRID, make_classes, names

from csc_xr.errors import OutputError, ParameterError
from csc_xr.export import (
    open_result,
    write_class_geotiff,
    write_class_png,
    write_flag_geotiff,
    write_float_geotiff,
    write_result_zarr,
    write_table_csv,
)
from csc_xr.geotiff import check_written
from csc_xr.grid import scene_transform
from csc_xr.legend import GLACIER, RIVER, ClassLegend, LegendClass
from csc_xr.raster_styles import category_xml

OWN = CRS.from_proj4("+proj=laea +lat_0=61.5 +lon_0=-41.25 +x_0=1000 +datum=WGS84 +units=m")
GRIDS = [
    pytest.param(POLAR_GRID, POLAR, id="3413"),
    pytest.param(Affine(10.1, 0, 500_000.3, 0, 9.7, 7_000_000.1), POLAR, id="south-up"),
    pytest.param(
        Affine(30 / 7, 0, 1 / 3, 0, -20 / 3, 2 / 3), CRS.from_epsg(32633), id="not-square"
    ),
    pytest.param(Affine(8.1, 6.3, 500_000.3, 6.2, -8.4, 7e6), CRS.from_epsg(32633), id="rotated"),
    pytest.param(Affine(1e-3 / 3, 0, -51.1, 0, -1e-3 / 3, 69.9), CRS.from_epsg(4326), id="degrees"),
    pytest.param(POLAR_GRID, OWN, id="own-crs"),
    pytest.param(POLAR_GRID, None, id="no-crs"),
    pytest.param(Affine.identity(), None, id="no-georeference"),
]


def make_result(transform: Affine = POLAR_GRID, crs: CRS | None = POLAR) -> xr.Dataset:
    classes = make_classes(transform=transform, crs=crs)
    share = da.from_array(np.random.default_rng(1).random((2, 70, 90), np.float32), (2, 32, 32))
    probability = xr.DataArray(
        share, dims=("class", "y", "x"), coords={"class": ["Water", "Mélange"]}
    )
    confidence = probability[0].drop_vars("class").where(classes.data > 0)
    return xr.Dataset(
        {
            "tile_class": classes,
            "pixel_class": classes,
            "confidence": classes.copy(data=confidence.data).drop_attrs(),
            "probability": probability,
        },
        attrs={"seed": np.int64(3), "settings": {"patch_size": np.int32(7), "nodata": np.nan}},
    )


# Zarr


@pytest.mark.parametrize(("transform", "crs"), GRIDS)
def test_zarr_round_trip_to_the_bit(tmp_path: Path, transform: Affine, crs: CRS | None) -> None:
    result = make_result(transform, crs)
    write_result_zarr(result, tmp_path / "result.zarr")
    found = open_result(tmp_path / "result.zarr")
    assert set(found.data_vars) == set(result.data_vars)
    assert set(found.coords) == set(result.coords)
    for name in result.variables:
        assert found[name].dtype == result[name].dtype, name
        np.testing.assert_array_equal(found[name].values, result[name].values, err_msg=str(name))
    assert scene_transform(found["pixel_class"]) == transform
    assert found.rio.crs == crs
    assert found["pixel_class"].rio.crs == crs
    assert found["pixel_class"].rio.nodata == 0
    assert found["pixel_class"].attrs["flag_meanings"] == RIVER.flag_attributes()["flag_meanings"]
    assert found.attrs == {"seed": 3, "settings": {"patch_size": 7, "nodata": "NaN"}}
    assert found["pixel_class"].data.chunks == result["pixel_class"].data.chunks
    assert names(tmp_path) == ["result.zarr"]


def test_zarr_is_format_2_and_classes_stay_integers_for_any_reader(tmp_path: Path) -> None:
    write_result_zarr(make_result(), tmp_path / "result.zarr")
    metadata = json.loads((tmp_path / "result.zarr" / "pixel_class" / ".zarray").read_text())
    assert metadata["zarr_format"] == 2
    assert metadata["dtype"] == "|u1"
    plain = xr.open_zarr(tmp_path / "result.zarr")
    assert plain["pixel_class"].dtype == np.uint8
    assert "spatial_ref" in plain.coords
    assert plain.rio.crs == POLAR


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), data=st.data())
@settings(max_examples=15, deadline=None)
def test_zarr_takes_any_chunks(
    tmp_path_factory: pytest.TempPathFactory, rows: int, columns: int, data: st.DataObject
) -> None:
    def layout(length: int) -> tuple[int, ...]:
        cuts = data.draw(st.sets(st.integers(1, length), max_size=4)) | {0, length}
        return tuple(np.diff(sorted(cuts)).tolist())

    classes = make_classes((rows, columns), (layout(rows), layout(columns)))
    other = make_classes((rows, columns), (layout(rows), layout(columns)))
    path = tmp_path_factory.mktemp("zarr") / "result.zarr"
    write_result_zarr(xr.Dataset({"tile_class": other, "pixel_class": classes}), path)
    found = open_result(path)
    np.testing.assert_array_equal(found["pixel_class"].values, classes.values)
    np.testing.assert_array_equal(found["tile_class"].values, other.values)


def test_zarr_is_not_replaced_unasked_and_not_by_half(tmp_path: Path) -> None:
    path, result = tmp_path / "result.zarr", make_result()
    write_result_zarr(result, path)
    with pytest.raises(OutputError, match=r"result\.zarr must not exist yet"):
        write_result_zarr(result, path)

    def fail(_: np.ndarray) -> np.ndarray:
        raise ValueError("no network")

    broken = result.copy()
    broken["pixel_class"] = broken["pixel_class"].copy(
        data=broken["pixel_class"].data.map_blocks(fail, dtype=np.uint8)
    )
    with pytest.raises(ValueError, match="no network"):
        write_result_zarr(broken, path, overwrite=True)
    np.testing.assert_array_equal(open_result(path)["pixel_class"], result["pixel_class"])
    write_result_zarr(result[["tile_class"]], path, overwrite=True)
    assert set(open_result(path).data_vars) == {"tile_class"}
    assert names(tmp_path) == ["result.zarr"]


def test_zarr_leaves_the_result_as_it_was(tmp_path: Path) -> None:
    result = make_result()
    before = result.copy(deep=True)
    write_result_zarr(result, tmp_path / "result.zarr")
    xr.testing.assert_identical(result, before)
    assert result["pixel_class"].encoding["grid_mapping"] == "spatial_ref"


def test_zarr_can_be_written_again_from_itself(tmp_path: Path) -> None:
    write_result_zarr(make_result(), tmp_path / "a.zarr")
    write_result_zarr(open_result(tmp_path / "a.zarr"), tmp_path / "b.zarr")
    xr.testing.assert_identical(open_result(tmp_path / "a.zarr"), open_result(tmp_path / "b.zarr"))


def test_open_result_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"A result is a Zarr folder .* which has none"):
        open_result(tmp_path)


# GeoTIFF


@pytest.mark.parametrize(("transform", "crs"), GRIDS)
@pytest.mark.parametrize("chunks", [None, 32])
def test_class_geotiff_round_trip(
    tmp_path: Path, transform: Affine, crs: CRS | None, chunks: int | None
) -> None:
    classes = make_classes(chunks=chunks, transform=transform, crs=crs)
    path = tmp_path / "classes.tif"
    write_class_geotiff(classes, path, legend=RIVER)
    with open_quietly(path) as file:
        np.testing.assert_array_equal(file.read(1), classes.values)
        assert file.transform == transform
        assert file.crs == crs
        assert (file.nodata, file.dtypes, file.compression.name) == (0, ("uint8",), "deflate")
        assert file.block_shapes == [(256, 256)]
        assert file.descriptions == ("pixel_class",)
        assert file.colormap(1)[2] == (255, 165, 0, 255)
        assert json.loads(file.tags()["CSC_LEGEND"]) == RIVER.to_dict()
        assert file.tags()["TIFFTAG_SOFTWARE"].startswith("csc_xr ")
    assert names(tmp_path) == ["classes.qml", "classes.tif", "classes.tif.aux.xml"]


def open_quietly(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path)


@given(rows=st.integers(1, 1100), columns=st.integers(1, 40), chunk=st.integers(7, 600))
@settings(max_examples=15, deadline=None)
def test_every_row_is_written(
    tmp_path_factory: pytest.TempPathFactory, rows: int, columns: int, chunk: int
) -> None:
    classes = make_classes((rows, columns), chunk)
    path = tmp_path_factory.mktemp("tif") / "classes.tif"
    write_class_geotiff(classes, path, legend=RIVER)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), classes.values)


@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="gdalinfo (gdal-bin) is not installed")
@pytest.mark.parametrize("writer", [write_class_geotiff, write_class_png])
def test_gdalinfo_shows_names_colours_and_nodata(tmp_path: Path, writer: Any) -> None:
    path = tmp_path / "classes.tif"
    writer(make_classes(top=8), path, legend=GLACIER)
    command = ["gdalinfo", "-json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (band,) = json.loads(done.stdout)["bands"]
    text = subprocess.run(command[::2], capture_output=True, text=True, check=True).stdout
    for code, name in enumerate(["Unclassified", *(entry.name for entry in GLACIER.classes)]):
        assert f"{code}: {name}" in text
    assert band["noDataValue"] == 0
    assert band["colorTable"]["entries"][8] == [255, 0, 0, 255]
    assert "<GDALRasterAttributeTable" in text
    assert "<F>Mélange</F>" in text


def test_codes_with_gaps_keep_their_names() -> None:
    legend = ClassLegend("gaps", [LegendClass(2, "Ice & <snow>", "red")])
    text = category_xml(legend).decode("utf-8")
    categories = text[text.index("<CategoryNames>") : text.index("</CategoryNames>")]
    assert categories.count("<Category") == 4  # the list itself and codes 0, 1, 2
    assert "<Category>Ice &amp; &lt;snow&gt;</Category>" in categories


def test_large_rasters_have_tiles_of_512(tmp_path: Path) -> None:
    write_class_geotiff(make_classes((520, 600)), tmp_path / "a.tif", legend=RIVER)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.block_shapes == [(512, 512)]


def test_a_lazy_raster_is_computed_once(tmp_path: Path) -> None:
    calls = []
    lock = threading.Lock()

    def count(block: np.ndarray) -> np.ndarray:
        if block.size:
            with lock:
                calls.append(1)
        return block

    classes = make_classes((1600, 40), 100)
    halo = classes.data.map_blocks(count, dtype=np.uint8, meta=np.empty((0, 0), np.uint8))
    both = da.overlap.overlap(halo, depth=3, boundary="reflect")
    trimmed = da.overlap.trim_internal(both, {0: 3, 1: 3}, boundary="reflect")
    write_class_geotiff(classes.copy(data=trimmed), tmp_path / "a.tif", legend=RIVER)
    assert len(calls) == 16
    with rasterio.open(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(file.read(1), classes.values)


@pytest.mark.parametrize("writer", [write_class_geotiff, write_class_png])
def test_memory_is_bounded(tmp_path: Path, writer: Any) -> None:
    data = da.ones((8192, 4096), chunks=512, dtype=np.uint8)
    classes = xr.DataArray(data, dims=("y", "x"))
    tracemalloc.start()
    with dask.config.set(scheduler="synchronous"):
        writer(classes, tmp_path / "a", legend=RIVER)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < data.nbytes / 2


def test_a_failure_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_class_geotiff(make_classes(), path, legend=RIVER)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    for writer in (write_class_geotiff, write_class_png):
        with pytest.raises(
            ParameterError, match=r"codes of the legend 'river', .* got \[6, 7\] too"
        ):
            writer(make_classes(top=7), path, legend=RIVER)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_what_others_derived_from_the_old_file_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for suffix in (".ovr", ".msk", ".aux.xml"):
        (tmp_path / f"a.tif{suffix}").write_text("<PAMDataset/>")
    write_class_geotiff(make_classes(), path, legend=RIVER)
    assert names(tmp_path) == ["a.qml", "a.tif", "a.tif.aux.xml"]
    write_float_geotiff(make_classes().astype(np.float32), path)
    assert names(tmp_path) == ["a.qml", "a.tif"]


def test_class_rasters_are_checked(tmp_path: Path) -> None:
    for writer in (write_class_geotiff, write_class_png):
        with pytest.raises(ParameterError, match="must be uint8, got int64"):
            writer(make_classes().astype(np.int64), tmp_path / "a", legend=RIVER)
        with pytest.raises(ParameterError, match="class raster must have the dims y and x"):
            writer(make_classes().transpose("x", "y"), tmp_path / "a", legend=RIVER)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("transform", "crs"), GRIDS)
def test_float_geotiff_round_trip(tmp_path: Path, transform: Affine, crs: CRS | None) -> None:
    result = make_result(transform, crs)
    write_float_geotiff(result["confidence"], tmp_path / "a.tif")
    with open_quietly(tmp_path / "a.tif") as file:
        assert_near(file.read(1), result["confidence"].values)
        assert (file.transform, file.crs) == (transform, crs)
        assert (file.nodata, file.dtypes) == (65535, ("uint16",))
        assert (file.scales, file.offsets, file.units) == ((0.0001,), (0.0,), ("1",))


def assert_near(numbers: np.ndarray, values: np.ndarray, step: float = 0.0001) -> None:
    """Numbers times the step lie within half a step of the values; 65535 stands for NaN."""
    np.testing.assert_array_equal(numbers == 65535, np.isnan(values))
    decoded = np.where(numbers == 65535, np.nan, numbers * step)
    assert not (np.abs(decoded - values.astype(np.float64)) > 0.5 * step * (1 + 1e-9)).any()


def test_float_geotiff_has_a_band_a_class_and_nodata_where_there_is_none(tmp_path: Path) -> None:
    result = make_result()
    write_float_geotiff(
        result["probability"], tmp_path / "a.tif", class_raster=result["pixel_class"]
    )
    with rasterio.open(tmp_path / "a.tif") as file:
        values = file.read()
        assert file.descriptions == ("Water", "Mélange")
    none = result["pixel_class"].values == 0
    assert (values[:, none] == 65535).all()
    assert_near(values[:, ~none], result["probability"].values[:, ~none])


def test_float_rasters_are_checked(tmp_path: Path) -> None:
    values = make_classes().astype(np.float32)
    with pytest.raises(ParameterError, match="A raster must have the dims y and x"):
        write_float_geotiff(values.transpose("x", "y"), tmp_path / "a.tif")
    with pytest.raises(ParameterError, match="class_raster must have the grid of the values"):
        write_float_geotiff(values, tmp_path / "a.tif", class_raster=make_classes((3, 3)))
    with pytest.raises(ParameterError, match=r"lie in 0 to 6\.5534 .* got 7"):
        write_float_geotiff(values + 2, tmp_path / "a.tif")
    with pytest.raises(ParameterError, match=r"lie in 0 to 6\.5534 .* got -1"):
        write_float_geotiff(values - 1, tmp_path / "a.tif")
    with pytest.raises(ParameterError, match="scale must be a positive number, got 0"):
        write_float_geotiff(values, tmp_path / "a.tif", scale=0)
    with pytest.raises(ParameterError, match="highest must be a number above 0, got -1"):
        write_float_geotiff(values, tmp_path / "a.tif", highest=-1)
    with pytest.raises(ParameterError, match="Flags must be 0 or 1, got 2 too"):
        write_flag_geotiff(xr.full_like(values, 2), tmp_path / "a.tif", labels=("a", "b"))
    with pytest.raises(ParameterError, match="Flags must have the dims y and x"):
        write_flag_geotiff(values.transpose("x", "y"), tmp_path / "a.tif", labels=("a", "b"))
    assert names(tmp_path) == []


# PNG


def test_png_holds_codes_and_colours(tmp_path: Path) -> None:
    classes = make_classes(transform=Affine.identity(), crs=None)
    write_class_png(classes, tmp_path / "a.png", legend=RIVER)
    with Image.open(tmp_path / "a.png") as image:
        assert (image.format, image.mode) == ("PNG", "P")
        np.testing.assert_array_equal(np.asarray(image), classes.values)
        colours = np.asarray(image.convert("RGBA"))
    for code, colour in RIVER.colour_table().items():
        found = {tuple(pixel) for pixel in colours[classes.values == code].tolist()}
        assert {pixel[3] for pixel in found} == {colour[3]}
        if code:
            assert found == {colour}
    assert names(tmp_path) == ["a.png", "a.png.aux.xml", "a.qml"]


# Tables


def test_csv_keeps_numbers_and_leaves_missing_cells_empty(tmp_path: Path) -> None:
    table = pd.DataFrame({"Class": ["Mélange", "Accuracy"], "Recall": [1 / 3, np.nan], "n": [1, 2]})
    write_table_csv(table, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == (
        f"Class,Recall,n\nMélange,{1 / 3!r},1\nAccuracy,,2\n"
    )


def test_a_file_that_reads_back_differently_is_refused(tmp_path: Path) -> None:
    write_class_geotiff(make_classes(), tmp_path / "a.tif", legend=RIVER)
    with pytest.raises(OutputError, match="what was written differs from what is read back"):
        check_written(tmp_path / "a.tif", 0, target=tmp_path / "b.tif")


def test_no_tensorflow_is_imported() -> None:
    code = "import sys, csc_xr.export, csc_xr.accuracy.scores; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
