"""Rasters of results as other software reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from csc_xr.export import (
    open_result,
    write_class_geotiff,
    write_flag_geotiff,
    write_float_geotiff,
    write_result_zarr,
)
from csc_xr.grid import place
from csc_xr.legend import GLACIER, RIVER
from csc_xr.raster_styles import category_xml

TRANSFORM = Affine(10.1, 0.0, 500_000.3, 0.0, -10.1, 7_400_000.7)
OWN = CRS.from_proj4("+proj=laea +lat_0=61.5 +lon_0=-41.25 +x_0=1000 +datum=WGS84 +units=m")
POLAR = CRS.from_epsg(3413)


def placed(values: np.ndarray, transform: Affine = TRANSFORM, crs: Any = POLAR) -> xr.DataArray:
    raster = xr.DataArray(da.from_array(values, 256), dims=("y", "x"), name="pixel_class")
    return place(raster, transform, crs)


def blobs(shape: tuple[int, int], codes: list[int], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.choice(codes, (-(-shape[0] // 7), -(-shape[1] // 9)))
    return np.kron(coarse, np.ones((7, 9)))[: shape[0], : shape[1]].astype(np.uint8)


@pytest.mark.parametrize("shape", [(70, 90), (511, 700), (513, 514), (1200, 1100)])
def test_rasters_are_cloud_optimised(tmp_path: Path, shape: tuple[int, int]) -> None:
    classes = placed(blobs(shape, [0, 1, 2, 5]))
    write_class_geotiff(classes, tmp_path / "classes.tif", legend=RIVER)
    write_float_geotiff((classes / 5).astype(np.float32), tmp_path / "values.tif")
    write_flag_geotiff(classes > 1, tmp_path / "flags.tif", labels=("no", "yes"))
    for name in ("classes", "values", "flags"):
        assert cog_validate(tmp_path / f"{name}.tif", strict=True) == (True, [], []), name
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            assert bool(file.overviews(1)) == (max(shape) > 512)
    assert not list(tmp_path.glob("*.ovr"))


@given(
    rows=st.integers(1, 30),
    columns=st.integers(513, 1300),
    codes=st.lists(st.integers(0, 8), min_size=1, max_size=5, unique=True),
    seed=st.integers(0, 99),
)
@settings(max_examples=6, deadline=None)
def test_overviews_hold_only_codes_of_the_raster(
    tmp_path_factory: pytest.TempPathFactory, rows: int, columns: int, codes: list[int], seed: int
) -> None:
    values = np.random.default_rng(seed).choice(codes, (rows, columns)).astype(np.uint8)
    path = tmp_path_factory.mktemp("cog") / "a.tif"
    write_class_geotiff(placed(values), path, legend=GLACIER)
    with rasterio.open(path) as file:
        levels = len(file.overviews(1))
    assert levels
    for level in range(levels):
        with rasterio.open(path, overview_level=level) as file:
            assert set(np.unique(file.read(1)).tolist()) <= set(np.unique(values).tolist())


def overview(path: Path, level: int) -> np.ndarray:
    with rasterio.open(path, overview_level=level) as file:
        return np.asarray(file.read(1))


def test_overviews_hold_the_commonest_class_but_keep_a_front(tmp_path: Path) -> None:
    noisy = np.full((600, 600), 4, np.uint8)
    noisy[::3, ::3] = 1  # a ninth of the pixels, none beside another
    write_class_geotiff(placed(noisy), tmp_path / "a.tif", legend=GLACIER)
    assert (overview(tmp_path / "a.tif", 0) == 4).mean() > 0.99
    front = np.full((2100, 600), 4, np.uint8)
    front[:, 256] = 8  # drawn for display, one pixel wide
    write_class_geotiff(placed(front), tmp_path / "b.tif", legend=GLACIER)
    assert (overview(tmp_path / "b.tif", 1) == 8).any(axis=1).all()


def attribute_table(path: Path) -> list[dict[str, str]]:
    root = ElementTree.parse(path).getroot()  # noqa: S314
    names = [entry.findtext("Name") or "" for entry in root.iter("FieldDefn")]
    rows = root.iter("Row")
    return [
        dict(zip(names, [cell.text or "" for cell in row.iter("F")], strict=True)) for row in rows
    ]


def test_pixels_are_counted(tmp_path: Path) -> None:
    values = blobs((700, 600), [0, 1, 2, 5], seed=3)
    write_class_geotiff(placed(values), tmp_path / "a.tif", legend=RIVER)
    table = attribute_table(tmp_path / "a.tif.aux.xml")
    assert [row["Class"] for row in table] == ["Unclassified", *RIVER.names]
    assert [int(row["Count"]) for row in table] == [(values == code).sum() for code in range(6)]
    with rasterio.open(tmp_path / "a.tif") as file:
        tags = file.tags(1)
    assert (tags["STATISTICS_MINIMUM"], tags["STATISTICS_MAXIMUM"]) == ("1", "5")
    assert "STATISTICS_MEAN" not in tags
    assert float(tags["STATISTICS_VALID_PERCENT"]) == pytest.approx(
        100 * (values > 0).mean(), rel=1e-3
    )


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@given(values=st.lists(st.floats(0, 5.5, width=32) | st.just(np.nan), min_size=1, max_size=60))
@settings(max_examples=10, deadline=None)
def test_readers_that_scale_get_values_within_half_a_step(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    given_values = np.array([values], np.float32)
    path = tmp_path_factory.mktemp("float") / "a.tif"
    write_float_geotiff(placed(given_values), path, unit="nat")
    with rioxarray.open_rasterio(path, mask_and_scale=True) as opened:
        found = opened.values[0]
    np.testing.assert_array_equal(np.isnan(found), np.isnan(given_values))
    error = np.abs(found.astype(np.float64) - given_values)
    assert not (error > 0.5e-4 + 1e-6).any()  # float32 of the reader
    with rasterio.open(path) as file:
        assert (file.units, file.nodata) == (("nat",), 65535)


def test_statistics_are_those_of_all_pixels(tmp_path: Path) -> None:
    values = np.random.default_rng(2).random((700, 530), np.float32)
    values[:90] = np.nan
    write_float_geotiff(placed(values), tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        numbers, tags = file.read(1), file.tags(1)
    seen = numbers[numbers != 65535].astype(np.float64)
    for name, true in (
        ("MINIMUM", seen.min()),
        ("MAXIMUM", seen.max()),
        ("MEAN", seen.mean()),
        ("STDDEV", seen.std()),
    ):
        assert float(tags[f"STATISTICS_{name}"]) == pytest.approx(true, rel=1e-12), name
    assert "STATISTICS_APPROXIMATE" not in tags
    write_float_geotiff(placed(np.full((5, 6), np.nan, np.float32)), tmp_path / "b.tif")
    with rasterio.open(tmp_path / "b.tif") as file:
        assert file.tags(1)["STATISTICS_VALID_PERCENT"] == "0"


def test_flags_are_0_and_1_and_nodata_255(tmp_path: Path) -> None:
    classes = placed(blobs((40, 50), [0, 1, 2]))
    write_flag_geotiff(
        (classes == 2).astype(np.uint8),
        tmp_path / "a.tif",
        labels=("agree", "differ"),
        class_raster=classes,
    )
    with rasterio.open(tmp_path / "a.tif") as file:
        expected = np.where(classes.values == 0, 255, classes.values == 2)
        np.testing.assert_array_equal(file.read(1), expected)
        assert file.nodata == 255
        assert file.colormap(1)[1] == (215, 48, 31, 255)
        share = float(file.tags(1)["STATISTICS_MEAN"])
    assert share == pytest.approx((expected == 1).sum() / (expected != 255).sum())


GRIDS = [
    pytest.param(TRANSFORM, POLAR, id="polar"),
    pytest.param(Affine(10.1, 0.0, 500_000.3, 0.0, 9.7, 7e6), POLAR, id="south-up"),
    pytest.param(Affine(1e-3 / 3, 0, -51.1, 0, -1e-3 / 3, 69.9), CRS.from_epsg(4326), id="degrees"),
    pytest.param(TRANSFORM, OWN, id="own-crs"),
]


@pytest.mark.parametrize(("transform", "crs"), GRIDS)
def test_gdal_reads_results_in_zarr(tmp_path: Path, transform: Affine, crs: CRS) -> None:
    values = blobs((70, 90), [0, 1, 5])
    classes = placed(values, transform, crs)
    result = xr.Dataset({"pixel_class": classes, "confidence": (classes / 5).astype(np.float32)})
    write_result_zarr(result, tmp_path / "a.zarr")
    with rasterio.open(f'ZARR:"{tmp_path / "a.zarr"}":/pixel_class') as file:
        assert file.crs == crs
        assert file.dtypes == ("uint8",)
        np.testing.assert_array_equal(file.read(1), values)
        # GDAL works the corner out from x and y.
        found, size = np.array(file.transform), abs(transform.a)
        assert np.abs(found - np.array(transform)).max() < 1e-6 * size
    with rasterio.open(f'ZARR:"{tmp_path / "a.zarr"}":/confidence') as file:
        assert (file.crs, file.dtypes) == (crs, ("float32",))
    plain = xr.open_zarr(tmp_path / "a.zarr")
    assert plain["pixel_class"].rio.crs == crs
    assert plain["pixel_class"].dtype == np.uint8
    assert "_CRS" not in open_result(tmp_path / "a.zarr")["pixel_class"].attrs


def test_gdal_finds_the_crs_of_a_rotated_result(tmp_path: Path) -> None:
    turned = Affine(8.1, 6.3, 500_000.3, 6.2, -8.4, 7e6)
    classes = placed(blobs((20, 30), [1]), turned)
    write_result_zarr(classes.to_dataset(), tmp_path / "a.zarr")
    with rasterio.open(f'ZARR:"{tmp_path / "a.zarr"}":/pixel_class') as file:
        assert file.crs == POLAR


def test_stores_of_format_3_are_still_opened(tmp_path: Path) -> None:
    classes = placed(blobs((20, 30), [1, 2]))
    classes.to_dataset().to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    found = open_result(tmp_path / "a.zarr")["pixel_class"]
    np.testing.assert_array_equal(found.values, classes.values)


def test_more_pixels_than_gdal_has_integers_for() -> None:
    text = category_xml(RIVER, {1: 2**31}).decode()
    assert f"<F>{2**31}</F>" in text
    definitions = list(ElementTree.fromstring(text).iter("FieldDefn"))  # noqa: S314
    assert definitions[1].findtext("Type") == "1"  # real
