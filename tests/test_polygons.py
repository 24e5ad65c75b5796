"""Class rasters as polygons."""

from __future__ import annotations

from pathlib import Path

import dask
import dask.array as da
import geopandas
import numpy as np
import pytest
import rasterio.features
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyproj import CRS, Geod
from rasters_for_tests import NORTH_UP, never
from scipy import ndimage

from csc_xr.errors import LineError, OutputError, ParameterError
from csc_xr.grid import place
from csc_xr.legend import GLACIER
from csc_xr.metres import pixel_size_m, with_pixel_size
from csc_xr.polygons import class_polygons

TRANSFORMS = {
    "north up": NORTH_UP,
    "oblong": Affine(10.0, 0.0, 330000.0, 0.0, -20.0, 5822040.0),
    "south up": Affine(10.0, 0.0, 330000.0, 0.0, 20.0, 5822040.0),
    "mirrored": Affine(-10.0, 0.0, 330000.0, 0.0, -10.0, 5822040.0),
    "axes exchanged": Affine(0.0, 20.0, 330000.0, 10.0, 0.0, 5822040.0),
    "rotated": NORTH_UP @ Affine.rotation(30) @ Affine.scale(1.0, 2.0),
}
# Near 65 degrees north, where a metre is 1.016 metres of this map.
POLAR = Affine(10.0, 0.0, -200000.0, 0.0, -10.0, -2700000.0)
CODES = arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 2), elements=st.sampled_from([0, 1, 7]))


def raster(
    codes: np.ndarray, transform: Affine = NORTH_UP, crs: str | None = "EPSG:32630"
) -> xr.DataArray:
    found = xr.DataArray(codes.astype(np.uint8), dims=("y", "x"))
    return place(found, transform, None if crs is None else rasterio.crs.CRS.from_string(crs))


def some_codes(rows: int = 23, columns: int = 31) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 3, (rows, columns))


def drawn(polygons: geopandas.GeoDataFrame, shape: tuple[int, ...], at: Affine) -> np.ndarray:
    """Pixels that the polygons were made of."""
    if polygons.empty:
        return np.zeros(shape, np.uint8)
    shapes = zip(polygons.geometry, polygons["code"], strict=True)
    return rasterio.features.rasterize(shapes, out_shape=shape, transform=at, dtype="uint8")


def same(one: geopandas.GeoDataFrame, other: geopandas.GeoDataFrame) -> bool:
    return one.drop(columns="geometry").equals(other.drop(columns="geometry")) and bool(
        one.geometry.geom_equals_exact(other.geometry, 0).all()
    )


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@settings(max_examples=25, deadline=None)
@given(codes=CODES)
def test_polygons_are_the_pixels(transform: Affine, codes: np.ndarray) -> None:
    classes = raster(codes, transform)
    found = class_polygons(classes, GLACIER)
    assert np.array_equal(drawn(found, codes.shape, transform), codes)
    assert found.is_valid.all()
    assert found.crs == CRS(32630)
    for code in (1, 7):
        of_class, count = found[found["code"] == code], (codes == code).sum()
        assert len(of_class) == ndimage.label(codes == code)[1]
        assert of_class.area.sum() == pytest.approx(count * abs(transform.determinant), rel=1e-9)
        true = count * np.prod(pixel_size_m(classes))
        assert of_class["area_m2"].sum() == pytest.approx(true, rel=1e-4)


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (POLAR, "EPSG:3413"),
        (NORTH_UP, "EPSG:32630"),
        (Affine(2e-4, 0.0, -51.0, 0.0, -1e-4, 69.0), "EPSG:4326"),
    ],
)
def test_area_is_in_true_metres(transform: Affine, crs: str) -> None:
    """Held to areas on the ellipsoid, which know nothing of projections."""
    found = class_polygons(raster(some_codes(), transform, crs), GLACIER)
    degrees = found.to_crs("OGC:CRS84").geometry
    areas = [abs(Geod(ellps="WGS84").geometry_area_perimeter(piece)[0]) for piece in degrees]
    assert found["area_m2"].to_numpy() == pytest.approx(np.array(areas), rel=1e-5)
    if crs == "EPSG:3413":
        assert found["area_m2"].sum() / found.area.sum() == pytest.approx(0.969, abs=0.001)


def test_columns_come_from_the_legend() -> None:
    found = class_polygons(raster(np.array([[0, 3], [4, 4]])), GLACIER)
    assert list(found.columns) == ["code", "name", "colour", "area_m2", "geometry"]
    assert sorted(zip(found["code"], found["name"], found["colour"], strict=True)) == [
        (3, "Mélange", "#6fe1e5"),
        (4, "Glacier Ice", "#b9ebee"),
    ]


def test_axes_are_not_exchanged() -> None:
    codes = np.zeros((6, 9), np.uint8)
    codes[1:3, 2:7] = 4
    found = class_polygons(raster(codes, TRANSFORMS["oblong"]), GLACIER)
    assert found.total_bounds.tolist() == [330020.0, 5821980.0, 330070.0, 5822020.0]
    exchanged = class_polygons(raster(codes.T, TRANSFORMS["oblong"]), GLACIER)
    assert exchanged.total_bounds.tolist() != found.total_bounds.tolist()


def test_small_polygons_are_left_out() -> None:
    codes = np.full((5, 8), 1)
    codes[0, 0], codes[2:4, 3:6] = 7, 4
    found = class_polygons(raster(codes), GLACIER, min_area_m2=500)
    assert sorted(found["code"]) == [1, 4]
    assert len(found[found["code"] == 1].geometry.iloc[0].interiors) == 1


@pytest.mark.parametrize("codes", [np.zeros((4, 5)), np.full((4, 5), 7)])
def test_rasters_of_one_class(codes: np.ndarray) -> None:
    found = class_polygons(raster(codes), GLACIER)
    assert len(found) == int(codes.any())
    assert found.crs == CRS(32630)
    assert [str(found[name].dtype) for name in ("code", "area_m2")] == ["int32", "float64"]


@pytest.mark.parametrize("chunks", [(7, 5), (23, 4), (6, 31)])
def test_chunks_do_not_matter(tmp_path: Path, chunks: tuple[int, int]) -> None:
    """Nor do they leave anything behind, and each is computed once."""
    codes, seen = some_codes(), []

    def count(block: np.ndarray) -> np.ndarray:
        seen.append(block.shape)
        return block

    whole = raster(codes)
    lazy = da.from_array(codes.astype(np.uint8), chunks).map_blocks(
        count, dtype=np.uint8, meta=np.empty((0, 0), np.uint8)
    )
    found = class_polygons(whole.copy(data=lazy), GLACIER, scratch=tmp_path)
    assert same(found, class_polygons(whole, GLACIER))
    assert len(seen) == lazy.npartitions
    assert list(tmp_path.iterdir()) == []


def test_more_than_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = raster(some_codes())
    whole = class_polygons(classes, GLACIER)
    monkeypatch.setattr("csc_xr.polygons._POLYGONS_AT_ONCE", 17)
    assert same(class_polygons(classes, GLACIER), whole)


def test_local_coordinates() -> None:
    bare = xr.DataArray(np.full((2, 3), 4, np.uint8), dims=("y", "x"))
    found = class_polygons(with_pixel_size(bare, 2.0), GLACIER)
    assert found["area_m2"].tolist() == [24.0]
    assert found.crs.is_engineering


def test_bad_input() -> None:
    lazy = raster(some_codes()).chunk({"y": 5})
    with dask.config.set(scheduler=never):
        with pytest.raises(LineError, match="need a CRS to be measured in metres, got none"):
            class_polygons(raster(some_codes(), crs=None).chunk({"y": 5}), GLACIER)
        with pytest.raises(ParameterError, match=r"must be uint8 with the dims y and x, got int64"):
            class_polygons(lazy.astype(int), GLACIER)
        with pytest.raises(ParameterError, match=r"got uint8 with \('x', 'y'\)"):
            class_polygons(lazy.T, GLACIER)
        with pytest.raises(ParameterError, match="min_area_m2 must be 0 or more, got nan"):
            class_polygons(lazy, GLACIER, min_area_m2=np.nan)
    with pytest.raises(ParameterError, match=r"legend .glacier., .*got \[9, 200\] too"):
        class_polygons(raster(np.array([[1, 9, 200]])), GLACIER)


def test_scratch_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="must be written, but"):
        class_polygons(raster(some_codes()).chunk({"y": 5}), GLACIER, scratch=tmp_path / "file")
