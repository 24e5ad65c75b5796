"""Labels drawn as polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import geopandas
import numpy as np
import pytest
import rasterio.crs
import rasterio.features
import shapely
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasters_for_tests import NORTH_UP, never, write_raster
from typer.testing import CliRunner

from csc_xr.cli import app
from csc_xr.errors import CscWarning, LabelError, LegendError, OutputError, ParameterError
from csc_xr.geotiff import raster_legend
from csc_xr.grid import place, scene_transform
from csc_xr.label_polygons import rasterize_labels
from csc_xr.labels import find_labels, open_labels
from csc_xr.legend import GLACIER, ClassLegend, LegendClass
from csc_xr.metres import with_pixel_size
from csc_xr.polygons import class_polygons
from csc_xr.scene import open_scene

UTM = "EPSG:32630"
TRANSFORMS = {
    "north up": (NORTH_UP, UTM),
    "oblong, south up": (Affine(10.0, 0.0, 330000.0, 0.0, 20.0, 5822040.0), UTM),
    "mirrored": (Affine(-10.0, 0.0, 330000.0, 0.0, -10.0, 5822040.0), UTM),
    "axes exchanged": (Affine(0.0, 20.0, 330000.0, 10.0, 0.0, 5822040.0), UTM),
    "rotated": (NORTH_UP @ Affine.rotation(30) @ Affine.scale(1.0, 2.0), UTM),
    "degrees": (Affine(2e-4, 0.0, -51.0, 0.0, -1e-4, 69.0), "EPSG:4326"),
}
MANY = ClassLegend("many", [LegendClass(code, f"class {code}", "red") for code in range(1, 9)])
# Also on borders and centres of pixels, where rounding decides.
NUMBERS = st.integers(-12, 60).map(lambda quarter: quarter / 4) | st.floats(-3, 15, width=32)
CORNERS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=9)
HOLES = st.tuples(*[st.integers(0, 24).map(lambda half: half / 2)] * 2)


def scene(
    shape: tuple[int, int] = (12, 14),
    transform: Affine = NORTH_UP,
    crs: str | None = UTM,
    chunks: tuple[int, int] = (5, 4),
) -> xr.DataArray:
    pixels = da.zeros((1, *shape), chunks=(1, *chunks), dtype=np.uint8)
    found = xr.DataArray(pixels, dims=("band", "y", "x"))
    return place(found, transform, None if crs is None else rasterio.crs.CRS.from_string(crs))


def on_map(shapes: Any, transform: Affine = NORTH_UP) -> Any:
    """Bring shapes drawn in pixels to the map."""
    to_map = np.array(transform).reshape(3, 3)[:2]
    return shapely.transform(shapes, lambda xy: np.column_stack([xy, np.ones(len(xy))]) @ to_map.T)


def drawn(
    shapes: list[Any], classes: list[Any] | None = None, crs: str | None = UTM, **columns: Any
) -> geopandas.GeoDataFrame:
    """A table of shapes drawn in pixels of the north-up scene."""
    values = list(range(1, len(shapes) + 1)) if classes is None else classes
    table = {"class": values, **columns}
    return geopandas.GeoDataFrame(table, geometry=list(on_map(np.array(shapes))), crs=crs)


def labels(polygons: Any, **settings: Any) -> xr.DataArray:
    chosen = {"like": scene(), "attribute": "class", "legend": MANY} | settings
    return rasterize_labels(polygons, **chosen)


def pixels(polygons: Any, **settings: Any) -> np.ndarray:
    with dask.config.set(scheduler="synchronous"):
        return labels(polygons, **settings).values


def by_rasterio(frame: geopandas.GeoDataFrame, like: xr.DataArray) -> np.ndarray:
    shapes = zip(frame.geometry, frame["class"], strict=True)
    return rasterio.features.rasterize(
        shapes, out_shape=like.shape[1:], transform=scene_transform(like), dtype="uint8"
    )


@st.composite
def polygons(draw: Any) -> list[Any]:
    """Valid polygons and multipolygons, with holes, slivers and shared edges."""
    found = []
    for corners in draw(st.lists(CORNERS, min_size=1, max_size=4)):
        shape = shapely.Polygon(corners).buffer(0)
        for left, top in draw(st.lists(HOLES, max_size=2)):
            shape = shape.difference(shapely.box(left, top, left + 2.5, top + 3))
        for left, top in draw(st.lists(HOLES, max_size=1)):
            piece = shapely.box(left, top, left + 3, top + 2.5)
            found += [piece.difference(shape)]
            shape = shapely.union(shape, shapely.box(left + 5, top, left + 6, top + 0.5))
        found.append(shape)
    whole = {"Polygon", "MultiPolygon"}
    return [shape for shape in found if shape.area and shape.geom_type in whole][:8]


@pytest.mark.parametrize(("transform", "crs"), TRANSFORMS.values(), ids=TRANSFORMS)
@settings(max_examples=15, deadline=None)
@given(shapes=polygons(), chunks=st.tuples(st.integers(1, 12), st.integers(1, 14)))
def test_labels_equal_those_of_rasterio(
    transform: Affine, crs: str, shapes: list[Any], chunks: tuple[int, int]
) -> None:
    inside = shapely.box(0, 0, 2, 2)  # on the scene, so that there is something
    placed = [on_map(shape, transform) for shape in [inside, *shapes]]
    valid = [shape for shape in placed if shape.is_valid and shape.area]
    classes = [1 + number % 8 for number in range(len(valid))]
    frame = geopandas.GeoDataFrame({"class": classes}, geometry=valid, crs=crs)
    like = scene(transform=transform, crs=crs, chunks=chunks)
    assert np.array_equal(pixels(frame, like=like), by_rasterio(frame, like))


def test_form_is_that_of_label_rasters(tmp_path: Path) -> None:
    like = scene()
    with dask.config.set(scheduler=never):
        found = labels(drawn([shapely.box(2, 3, 7, 9)]), like=like, legend=GLACIER)
    path = write_raster(
        tmp_path / "SCLS_a.tif", found.values[None], transform=NORTH_UP, crs=UTM, nodata=0
    )
    opened = open_labels(path, like=like, legend=GLACIER)
    assert found.drop_attrs(deep=False).identical(opened.drop_attrs(deep=False))
    assert found.chunks == opened.chunks == like.chunks[1:]
    assert found.attrs == {**opened.attrs, "source": "the polygons"}


def test_names_and_codes() -> None:
    shapes = [shapely.box(left, 0, left + 1, 1) for left in range(6)]
    frame = drawn(shapes, ["4", "glacier ice ", "MÉLANGE", "Calving Front", "unclassified", "0"])
    assert pixels(frame, legend=GLACIER)[0].tolist() == [4, 4, 3, 0, 0, 0] + [0] * 8
    assert pixels(drawn(shapes[:2], [2.0, 1.0]))[0, :3].tolist() == [2, 1, 0]


def test_overlaps() -> None:
    large, small, late = shapely.box(0, 0, 8, 8), shapely.box(2, 2, 4, 4), shapely.box(6, 0, 12, 9)
    frame = drawn([small, large, late])
    assert pixels(frame)[2, [2, 6]].tolist() == [2, 3]
    assert pixels(frame, overlaps="smaller")[2, [2, 6]].tolist() == [1, 3]
    degrees = frame.to_crs(4326)  # areas in degrees are only compared, and no reason to warn
    assert pixels(degrees, overlaps="smaller")[2, [2, 6]].tolist() == [1, 3]
    with pytest.raises(LabelError, match=r"but rows 0 and 1, 1 and 2 of the polygons do\. Correct"):
        labels(frame, overlaps="refuse")
    beside = drawn([small, small, shapely.box(4, 2, 6, 4)], [5, 5, 6])  # one class, or an edge
    assert np.array_equal(pixels(beside, overlaps="refuse"), pixels(beside))
    with pytest.raises(ParameterError, match="must be one of later, smaller, refuse, got 'first'"):
        labels(frame, overlaps="first")


def test_polygons_in_another_crs() -> None:
    """Long edges in degrees are curves on the map: held to edges of ten thousand pieces."""
    like = scene((300, 400), Affine(500.0, 0.0, 3e5, 0.0, -500.0, 7.7e6), chunks=(128, 128))
    wide = shapely.box(-4.9, 68.2, 0.1, 69.1)
    frame = geopandas.GeoDataFrame({"class": [3]}, geometry=[wide], crs="EPSG:4326")
    fine = frame.assign(geometry=frame.segmentize(5e-4)).to_crs(UTM)
    found, true, plain = (pixels(some, like=like) for some in (frame, fine, frame.to_crs(UTM)))
    assert (found != true).sum() < 0.02 * 900  # pixels of the outline
    assert (plain != true).sum() > 500
    assert 3 in found


def test_rows_that_cannot_be_brought_to_the_scene() -> None:
    far = shapely.box(-4.0, 52.5, 100.0, 95.0)
    there = shapely.box(-6.0, 52.0, 0.0, 53.0)
    frame = geopandas.GeoDataFrame({"class": [1, 2]}, geometry=[far, there], crs="EPSG:4326")
    with pytest.warns(CscWarning, match="Rows 0 of the polygons reach beyond what the CRS"):
        assert np.all(pixels(frame) == 2)


def test_geometries_that_are_mended_or_left_out() -> None:
    bow = shapely.Polygon([(1, 1), (9, 9), (9, 1), (1, 9)])
    line = shapely.Polygon([(1, 1), (5, 5), (1, 1)])
    box = shapely.box(10, 0, 12, 2)
    frame = drawn([box, bow, shapely.Polygon()], [1, 2, 3])
    frame.loc[3] = [4, None]
    with (
        pytest.warns(CscWarning, match="Rows 1 of the polygons cross themselves and are mended"),
        pytest.warns(CscWarning, match="Rows 2, 3 of the polygons have no area and are left out"),
    ):
        found = pixels(frame)
    assert found[4, [1, 2, 7, 8]].tolist() == [2, 2, 2, 2]
    assert found[1].tolist() == [0, 2] + [0] * 8 + [1, 1, 0, 0]
    with (
        pytest.warns(CscWarning),
        pytest.raises(LabelError, match="must have one polygon at least, got none"),
    ):
        labels(drawn([line]))


def test_scenes_without_crs(tmp_path: Path) -> None:
    """Coordinates are pixels as QGIS shows them: a GeoJSON always has a CRS."""
    bare = scene(transform=Affine.identity(), crs=None)
    box = geopandas.GeoDataFrame({"class": [1]}, geometry=[shapely.box(2, -5, 4, -1)])
    found = pixels(box, like=bare)
    assert np.array_equal(np.argwhere(found == 1)[[0, -1]], [[1, 2], [4, 3]])
    box.set_crs("EPSG:4326").to_file(tmp_path / "a.geojson")
    with pytest.warns(CscWarning, match="has no CRS, so the coordinates .* are taken to be pixels"):
        assert np.array_equal(pixels(tmp_path / "a.geojson", like=bare), found)
    with pytest.warns(CscWarning, match="to be in the same system"):
        pixels(drawn([shapely.box(2, 1, 4, 5)]), like=scene(crs=None))
    in_metres = with_pixel_size(bare, 2.0)
    doubled = box.assign(geometry=box.scale(2, 2, origin=(0, 0)))
    assert np.array_equal(pixels(doubled, like=in_metres), found)
    with pytest.raises(LabelError, match=r"scene, x 0 to 14, y -12 to 0, but none .* y 1 to 5"):
        labels(box.assign(geometry=box.scale(1, -1, origin=(0, 0))), like=bare)


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.geojson"])
def test_files(tmp_path: Path, name: str) -> None:
    frame = drawn([shapely.box(2, 3, 7, 9), shapely.box(5, 5, 9, 9)], ["class 3", "class 4"])
    found = frame.to_crs("EPSG:4326") if name.endswith("json") else frame
    found.to_file(tmp_path / name)
    assert np.array_equal(pixels(tmp_path / name), pixels(frame))
    with pytest.raises(LabelError, match=r"but rows (1 and 2|0 and 1) of .* do"):  # their numbers
        labels(tmp_path / name, overlaps="refuse")


def test_layers(tmp_path: Path) -> None:
    path, box = tmp_path / "a.gpkg", shapely.box(2, 3, 7, 9)
    for layer in ("ice", "rock"):
        drawn([box], [2 if layer == "ice" else 7]).to_file(path, layer=layer)
    assert pixels(path, layer="rock").max() == 7
    with pytest.raises(LabelError, match=r"One layer .*, which has ice, rock\. Name it"):
        labels(path)
    with pytest.raises(LabelError, match="must have the layer 'snow' of polygons, but has ice, ro"):
        labels(path, layer="snow")
    with pytest.raises(LabelError, match="cannot be read as one"):
        labels(tmp_path / "b.gpkg")


def test_bad_polygons() -> None:
    box = shapely.box(2, 3, 7, 9)
    with pytest.raises(
        LabelError, match=r"need an attribute 'kind' .*, but the polygons has class"
    ):
        labels(drawn([box]), attribute="kind")
    frame = drawn([box] * 5, ["class 1", "Eis", 9, None, 2.5])
    with pytest.raises(LabelError, match=r"'many', 1 class 1, .*, got Eis, 9, None, 2\.5 in the p"):
        labels(frame)
    with pytest.raises(LabelError, match="must be polygons, got LineString, Point in"):
        labels(drawn([box, box.exterior.interpolate(1), shapely.LineString([(0, 0), (1, 1)])]))
    with pytest.raises(LabelError, match="but the polygons has no CRS"):
        labels(drawn([box], crs=None))
    with pytest.raises(LabelError, match=r"must lie on the scene, x 330000 to 330140, .* none of"):
        labels(drawn([shapely.box(14, 0, 15, 1)]))


def test_round_trip_keeps_areas() -> None:
    """Within one pixel of the outline, by class; nothing lies further than half a diagonal."""
    rng = np.random.default_rng(2)
    shapes = [
        shapely.Point(rng.uniform(8, 40, 2)).buffer(rng.uniform(2, 8), quad_segs=6)
        for _ in range(12)
    ]
    frame = drawn(shapes, [1 + number % 4 for number in range(12)])
    like = scene((50, 50), chunks=(17, 23))
    painted = labels(frame, like=like)
    back = class_polygons(painted, MANY)
    assert np.array_equal(pixels(back, like=like, attribute="code"), painted)
    later = [shapely.union_all(frame.geometry[row + 1 :]) for row in range(12)]
    seen = frame.difference(geopandas.GeoSeries(later, crs=UTM))
    check_areas(frame.assign(geometry=seen), painted, MANY)


def check_areas(frame: geopandas.GeoDataFrame, labels: xr.DataArray, legend: ClassLegend) -> None:
    """Hold polygons of labels with pixels of 10 m to those that they were made of."""
    theirs = class_polygons(labels, legend).dissolve("code").geometry
    height, width = labels.shape
    frame = frame.to_crs(labels.rio.crs.to_wkt())
    frame = frame.clip(on_map(shapely.box(0, 0, width, height), scene_transform(labels)))
    for code, shape in frame.dissolve("class").geometry.items():
        assert abs(theirs[code].area - shape.area) <= shape.length * 10
        near = shape.boundary.buffer(7.2)
        assert theirs[code].symmetric_difference(shape).difference(near).area < 1e-3


@pytest.mark.shared
def test_polygons_of_a_real_scene(shared: Path) -> None:
    folder = shared / "data" / "s2_l1c_jp2"
    like = open_scene(next(folder.glob("IMG_DATA/**/*B04*.jp2")))
    frame = geopandas.read_file(folder / "s2l1c_ref.gpkg").rename(columns={"cid": "class"})
    painted = labels(frame, like=like, overlaps="refuse")
    assert np.array_equal(painted, by_rasterio(frame, like))
    check_areas(frame, painted, MANY)


@pytest.mark.shared
def test_outlines_of_real_snow(shared: Path) -> None:
    """The labels beside them were made from them: 2 is snow, 1 other glacier."""
    snow = ClassLegend("snow", [LegendClass(2, "Snow", "white")])
    for path in sorted((shared / "data" / "s2_glacier_snow").glob("*.shp"))[:3]:
        like = open_scene(path.with_suffix(".tif"))
        frame = geopandas.read_file(path).assign(**{"class": 2})
        painted = labels(frame, like=like, legend=snow)
        published = open_scene(path.with_name(f"{path.stem}_label.tif"))[0].values
        glacier = published > 0
        assert np.array_equal(painted.values[glacier] == 2, published[glacier] == 2)
        check_areas(frame, painted, snow)


def run(*words: Any, ends: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if not isinstance(result.exception, SystemExit) and result.exception is not None:
        raise result.exception
    assert result.exit_code == ends
    return result.output


def test_commands(tmp_path: Path) -> None:
    image = write_raster(
        tmp_path / "fjord.tif", np.ones((3, 12, 14), np.uint8), transform=NORTH_UP, crs=UTM
    )
    areas = tmp_path / "training_areas.gpkg"
    drawn([shapely.box(2, 3, 7, 9)], ["Mélange"]).to_file(areas)
    said = run("rasterize", areas, "--like", image, "--legend", "glacier")
    rows = [line.split() for line in said.splitlines()]
    assert ["Mélange", "30", "0.30"] in rows
    assert ["Bedrock", "0", "0.00"] in rows  # a class that nobody drew is told
    written = find_labels(image)
    assert written == tmp_path / "SCLS_fjord.tif"
    expected = labels(areas, legend=GLACIER)
    opened = open_labels(written, like=open_scene(image), legend=GLACIER)
    assert np.array_equal(opened, expected)
    with pytest.raises(OutputError, match="must not exist yet"):
        run("rasterize", areas, "--like", image, "--legend", "glacier")
    out = tmp_path / "back.gpkg"
    assert "Mélange" in run("polygons", written, "--out", out)
    again = geopandas.read_file(out, layer="classes")
    assert again[["code", "name", "area_m2"]].round().values.tolist() == [[3, "Mélange", 3000.0]]
    run("rasterize", out, "--like", image, "--legend", "glacier", "--attribute", "name",
        "--out", tmp_path / "again.tif")  # fmt: skip
    assert np.array_equal(open_scene(tmp_path / "again.tif")[0], expected)


def test_legend_of_a_raster(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "a.tif", np.ones((1, 3, 4), np.uint8), transform=NORTH_UP, crs=UTM
    )
    with pytest.raises(LegendError, match=r"need a legend, but it carries none\. Pass the one"):
        run("polygons", path, "--out", tmp_path / "a.gpkg")
    assert run("polygons", path, "--out", tmp_path / "a.gpkg", "--legend", "glacier")
    with rasterio.open(path, "r+") as file:
        file.update_tags(CSC_LEGEND="{")
    with pytest.raises(LegendError, match=r"CSC_LEGEND of .* must be JSON, but cannot be read"):
        raster_legend(path)
