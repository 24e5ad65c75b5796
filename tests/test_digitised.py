"""Lines that a person digitised, from rasters and vector files."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import dask.array as da
import geopandas
import numpy as np
import pyogrio
import pytest
import xarray as xr
from affine import Affine
from rasters_for_tests import NORTH_UP, reading, some_pixels, write_raster
from shapely import LineString, MultiLineString, MultiPoint, Point, Polygon, box

from csc_xr.errors import LabelError, LineError, SceneError
from csc_xr.fronts.digitised import (
    check_lines,
    digitised_points,
    find_edge,
    find_margin,
    open_digitised,
)
from csc_xr.grid import place
from csc_xr.metres import with_pixel_size
from csc_xr.scene import open_scene

PLACE: dict[str, Any] = {"driver": "GTiff", "transform": NORTH_UP, "crs": "EPSG:32633"}
FRONT = [(330_000, 5_822_000), (330_100, 5_821_950), (330_150, 5_821_900)]


def drawn(rows: int = 20, columns: int = 30, value: float = 1, dtype: str = "uint8") -> np.ndarray:
    """One band with a line down column 4 and right along row 12."""
    pixels = np.zeros((1, rows, columns), dtype)
    pixels[0, 2:13, 4] = value
    pixels[0, 12, 4:9] = value
    return pixels


def write_lines(path: Path, *geometries: Any, crs: Any = "EPSG:32633", **options: Any) -> Path:
    geopandas.GeoDataFrame(geometry=list(geometries), crs=crs).to_file(path, **options)
    return path


def places(series: geopandas.GeoSeries) -> list[tuple[float, float]]:
    return [(point.x, point.y) for point in series]


@pytest.mark.parametrize(("find", "prefix"), [(find_edge, "EDGE"), (find_margin, "VM")])
def test_lines_lie_beside_their_image(find: Any, prefix: str, tmp_path: Path) -> None:
    image = tmp_path / "Helheim_2019_08_01.tif"
    assert find(image) is None
    (tmp_path / "EDGE_Helheim.tif").touch()
    (tmp_path / f"SCLS_{image.name}").touch()
    assert find(image) is None
    for name in ("Helheim20190801.gpkg", "Helheim20190801.tif", image.name):  # ever nearer
        (tmp_path / f"{prefix}_{name}").touch()
        assert find(str(image)) == tmp_path / f"{prefix}_{name}"


@pytest.mark.parametrize(("value", "dtype"), [(1, "uint8"), (255, "uint8"), (0.5, "float32")])
def test_pixels_become_their_centres(tmp_path: Path, value: float, dtype: str) -> None:
    path = write_raster(tmp_path / "EDGE_a.tif", drawn(value=value, dtype=dtype), **PLACE)
    points = open_digitised(path)
    assert points.crs == "EPSG:32633"
    assert len(points) == 15
    rows = [*range(2, 13), 12, 12, 12, 12]
    columns = [*[4] * 11, 5, 6, 7, 8]
    expected = [(330_005 + 10 * c, 5_822_035 - 10 * r) for r, c in zip(rows, columns, strict=True)]
    assert places(points) == expected


def test_swapped_axes_change_the_points(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", drawn(), **PLACE)
    swapped = write_raster(tmp_path / "b.tif", drawn().transpose(0, 2, 1), **PLACE)
    assert set(places(open_digitised(path))) != set(places(open_digitised(swapped)))


def test_chunks_do_not_matter() -> None:
    raster = place(xr.DataArray(drawn()[0], dims=("y", "x")), NORTH_UP @ Affine.rotation(20), None)
    whole = digitised_points(raster)
    assert whole.crs is None
    assert whole[0].coords[0] == pytest.approx((NORTH_UP @ Affine.rotation(20)) @ (4.5, 2.5, 1)[:2])
    for chunks in (7, {"y": 3, "x": 30}, {"y": 20, "x": 1}):
        assert places(digitised_points(raster.chunk(chunks))) == places(whole)
    assert places(digitised_points(raster.transpose("x", "y"))) == places(whole)
    assert places(digitised_points(raster.expand_dims("band"))) == places(whole)
    assert places(digitised_points(raster.astype(bool))) == places(whole)


def test_pixels_without_data_are_not_on_the_line(tmp_path: Path) -> None:
    pixels = drawn(dtype="float32")
    pixels[0, 0, :] = np.nan
    pixels[0, 1, :] = -9999
    path = write_raster(tmp_path / "a.tif", pixels, nodata=-9999, **PLACE)
    assert len(open_digitised(path)) == 15
    only = write_raster(tmp_path / "b.tif", drawn(), nodata=0, **PLACE)
    assert len(open_digitised(only)) == 15


def test_memory_grows_with_the_line_only() -> None:
    """16 MB of pixels are looked through in chunks of a quarter of a MB."""
    pixels = da.zeros((4000, 4000), chunks=500, dtype="uint8")
    pixels = da.concatenate([da.ones((1, 4000), chunks=500, dtype="uint8"), pixels[1:]])
    raster = xr.DataArray(pixels, dims=("y", "x"))
    tracemalloc.start()
    points = digitised_points(raster)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(points) == 4000
    assert peak < 6e6


def test_a_bare_raster_takes_the_place_of_its_image(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "EDGE_a.png", drawn(value=255), driver="PNG")
    image = open_scene(write_raster(tmp_path / "a.tif", some_pixels(3, 20, 30), **PLACE))
    placed = open_digitised(path, like=image)
    assert placed.crs == "EPSG:32633"
    assert places(placed)[0] == (330_045, 5_822_015)
    local = with_pixel_size(xr.DataArray(np.zeros((20, 30)), dims=("y", "x")), 15.0)
    assert places(open_digitised(path, like=local))[0] == (67.5, -37.5)
    with pytest.raises(LabelError, match=r"needs a place on the map, but .*EDGE_a\.png has no CRS"):
        open_digitised(path)
    with pytest.raises(LabelError, match=r"has no CRS\. Pass like=.* give a pixel size in metres"):
        open_digitised(path, like=xr.DataArray(np.zeros((20, 30)), dims=("y", "x")))


def test_a_raster_with_a_transform_alone_takes_the_crs(tmp_path: Path) -> None:
    image = open_scene(write_raster(tmp_path / "a.tif", some_pixels(3, 20, 30), **PLACE))
    path = write_raster(tmp_path / "b.tif", drawn(), driver="GTiff", transform=NORTH_UP)
    assert open_digitised(path, like=image).crs == "EPSG:32633"
    moved = NORTH_UP @ Affine.translation(3, 0)
    path = write_raster(tmp_path / "b.tif", drawn(), driver="GTiff", transform=moved)
    with pytest.raises(LabelError, match="must lie on the grid of its image"):
        open_digitised(path, like=image)


@pytest.mark.parametrize(
    "change",
    [
        {"crs": "EPSG:32632"},
        {"transform": NORTH_UP @ Affine.translation(1, 0)},
        {"transform": NORTH_UP @ Affine.scale(2)},
        {"shape": (30, 20)},
        {"shape": (30, 20), "crs": None, "transform": Affine.identity()},
    ],
)
def test_a_raster_of_another_grid_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    image = open_scene(write_raster(tmp_path / "a.tif", some_pixels(3, 20, 30), **PLACE))
    profile = {**PLACE, **change}
    path = write_raster(tmp_path / "b.tif", drawn(*profile.pop("shape", (20, 30))), **profile)
    grid = r"grid of its image, 20 x 30 pixels .* in EPSG:32633, but .*b\.tif is .* Warp it there"
    with pytest.raises(LabelError, match=grid):
        open_digitised(path, like=image)


def test_rasters_that_are_no_line_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "EDGE_a.tif"
    write_raster(path, drawn() * 0, **PLACE)
    with pytest.raises(LabelError, match=r"at least one pixel, got none in .*EDGE_a\.tif"):
        open_digitised(path)
    write_raster(path, some_pixels(1, 20, 30), **PLACE)
    with pytest.raises(LabelError, match=r"one number on the line and 0 .* got 1, 2, 3, 4, 5 in"):
        open_digitised(path)
    write_raster(path, 1 - drawn(), **PLACE)
    with pytest.raises(LabelError, match="must leave most pixels 0, but 585 of 600 are not"):
        open_digitised(path)
    write_raster(path, some_pixels(3, 20, 30), **PLACE)
    with pytest.raises(LabelError, match=r"must be one band, got 3 in .*EDGE_a\.tif"):
        open_digitised(path)
    with pytest.raises(LabelError, match=r"cannot be read\. .*there is no such file"):
        open_digitised(tmp_path / "none.tif")
    with pytest.raises(SceneError, match="must have dims band, y and x"):
        digitised_points(xr.DataArray(np.zeros(3), dims="y"))


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson", "fgb"])
def test_lines_of_vector_files(tmp_path: Path, suffix: str) -> None:
    lines = LineString(FRONT), MultiLineString([FRONT[:2], FRONT[1:]])
    path = write_lines(tmp_path / f"EDGE_a.{suffix}", *lines)
    opened = open_digitised(path)
    assert opened.index.tolist() == [0, 1]
    assert opened.to_crs("EPSG:32633").length.tolist() == pytest.approx([182.51, 182.51], abs=0.01)
    assert opened.crs == (
        "EPSG:4326" if suffix == "geojson" and opened.crs.is_geographic else 32633
    )


def test_heights_and_empty_geometries_are_left_out(tmp_path: Path) -> None:
    high = LineString([(x, y, 100) for x, y in FRONT])
    opened = open_digitised(write_lines(tmp_path / "a.gpkg", None, LineString(), high))
    assert opened.to_list() == [LineString(FRONT)]
    assert not opened.has_z.any()


def test_points_of_vector_files(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.gpkg", MultiPoint(FRONT), MultiPoint(FRONT[:1]))
    assert open_digitised(path).geom_type.to_list() == ["MultiPoint", "MultiPoint"]
    path = write_lines(tmp_path / "a.shp", *map(Point, FRONT))
    assert places(open_digitised(path)) == FRONT


def test_the_layer_of_a_geopackage(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.gpkg", LineString(FRONT), layer="front")
    table = geopandas.pd.DataFrame({"styleName": ["red"]})
    pyogrio.write_dataframe(table, path, layer="layer_styles")  # as QGIS keeps styles
    assert len(open_digitised(path)) == 1
    write_lines(path, Polygon([*FRONT, (0, 0)]), layer="classes")
    with pytest.raises(LineError, match=r"One layer must be chosen in .*a\.gpkg, which has front,"):
        open_digitised(path)
    assert len(open_digitised(path, layer="front")) == 1
    with pytest.raises(LineError, match=r"must have the layer 'lines' .* but has front, classes"):
        open_digitised(path, layer="lines")
    with pytest.raises(
        LineError, match=r"got Polygon in .*a\.gpkg\. Of a polygon take the boundary"
    ):
        open_digitised(path, layer="classes")


def test_vector_files_without_lines_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    with pytest.raises(
        LineError, match=r"must be readable, but .*a\.gpkg is not: .* Check the path"
    ):
        open_digitised(path)
    path.write_bytes(b"no database")
    with pytest.raises(LineError, match=r"must be readable, but .*a\.gpkg is not"):
        open_digitised(path)
    with pytest.raises(LineError, match=r"at least one geometry, got none in .*empty\.gpkg"):
        open_digitised(write_lines(tmp_path / "empty.gpkg", LineString()))
    pyogrio.write_dataframe(geopandas.pd.DataFrame({"name": ["a"]}), tmp_path / "table.gpkg")
    with pytest.raises(LineError, match=r"at least one geometry, got none in .*table\.gpkg"):
        open_digitised(tmp_path / "table.gpkg")
    with pytest.raises(LineError, match="must have the layer 'table' of geometries, but has none"):
        open_digitised(tmp_path / "table.gpkg", layer="table")


def test_lines_without_crs_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="crs"):
        path = write_lines(tmp_path / "a.shp", LineString(FRONT), crs=None)
    with pytest.raises(LineError, match=r"needs a place on the map, but .*a\.shp has no CRS"):
        open_digitised(path)


def test_polygons_are_no_lines() -> None:
    series = geopandas.GeoSeries([LineString(FRONT), box(0, 0, 1, 1), None])
    with pytest.raises(
        LineError, match="LineString, a MultiLineString or points, got Polygon in it"
    ):
        check_lines(series, "it")
    assert len(check_lines(series.boundary, "it")) == 2


def test_fronts_of_a_published_survey(shared: Path) -> None:
    """Lines one pixel wide, black on white in three equal bands, without georeference."""
    path = min((shared / "data/landsat_fronts/labels_1px").glob("*.png"))
    white = with_pixel_size(open_scene(path, bands=[1]), 15.0)
    with pytest.raises(LabelError, match="must leave most pixels 0, but 59807 of 60000 are not"):
        digitised_points(white)
    with reading(path) as dataset:
        rows, columns = np.nonzero(dataset.read(1) == 0)
    expected = np.stack([15 * (columns + 0.5), -15 * (rows + 0.5)], axis=1)
    np.testing.assert_array_equal(digitised_points(255 - white).get_coordinates(), expected)
