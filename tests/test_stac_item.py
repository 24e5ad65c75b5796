"""STAC items of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import odc.stac
import pystac
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pystac.validation import validate_dict
from rasterio.crs import CRS

from csc_xr.export import write_class_geotiff, write_float_geotiff
from csc_xr.files import write_json
from csc_xr.grid import place
from csc_xr.legend import GLACIER
from csc_xr.record import start_record
from csc_xr.stac_item import dates_of, footprint, scene_item

UTM = CRS.from_epsg(32624)
POLAR = CRS.from_epsg(3413)
NORTH_UP = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 7_400_000.0)


def raster(
    transform: Affine = NORTH_UP, crs: Any = UTM, shape: tuple[int, int] = (40, 50)
) -> xr.DataArray:
    values = xr.DataArray(np.full(shape, 4, np.uint8), dims=("y", "x"), name="pixel_class")
    return place(values, transform, crs)


def centred(x: float, y: float, side: float, crs: Any = POLAR) -> xr.DataArray:
    """Lay a square raster of 10 x 10 pixels around a place."""
    step = side / 10
    return raster(Affine(step, 0, x - side / 2, 0, -step, y + side / 2), crs, (10, 10))


def item_of(scene: xr.DataArray, folder: Path, name: str = "fjord_20210715") -> dict[str, Any]:
    outputs = {"classes": folder / "a_classified.tif", "confidence": folder / "a_confidence.tif"}
    write_class_geotiff(scene, outputs["classes"], legend=GLACIER)
    write_float_geotiff((scene / 8).astype(np.float32), outputs["confidence"])
    outputs |= {"result": folder / "a_classified.zarr", "record": folder / "a_run.json"}
    outputs["front lines"] = folder / "sub" / "a.gpkg"
    item = scene_item(
        name,
        scene,
        outputs,
        folder=folder,
        legend=GLACIER,
        record=start_record(parameters={}, seed=3, networks={"tiles": "ab" * 32}),
        facts={"patch_size": 7, "scores": {"pixel_class": 0.9}},
    )
    assert item is not None
    write_json(item, folder / "a_item.json")
    return item


def checked(item: dict[str, Any]) -> pystac.Item:
    """Validate by the schema of STAC itself, which lies in pystac; those of extensions do not."""
    validate_dict({**item, "stac_extensions": []})
    return pystac.Item.from_dict(item)


def test_an_item_says_what_where_and_when(tmp_path: Path) -> None:
    scene = raster().assign_coords(time=np.datetime64("2021-07-15T14:37:49.024", "ns"))
    item = item_of(scene, tmp_path)
    read = checked(item)
    assert item["stac_version"] == "1.1.0"
    assert str(read.datetime) == "2021-07-15 14:37:49.024000+00:00"
    said = item["properties"]
    assert (said["proj:code"], said["proj:shape"]) == ("EPSG:32624", [40, 50])
    assert said["proj:transform"] == list(NORTH_UP)[:6]
    assert (said["csc_xr:seed"], said["csc_xr:patch_size"]) == (3, 7)
    assert said["csc_xr:networks"] == {"tiles": "ab" * 32}
    assert said["processing:software"]["csc_xr"]
    hrefs = {key: asset["href"] for key, asset in item["assets"].items()}
    assert hrefs["classes"] == "./a_classified.tif"
    assert hrefs["front_lines"] == "./sub/a.gpkg"
    classes = item["assets"]["classes"]["classification:classes"]
    assert classes[0] == {"value": 0, "name": "unclassified", "nodata": True}
    assert classes[3] == {
        "value": 3, "name": "melange", "title": "Mélange", "color_hint": "6FE1E5",
    }  # fmt: skip
    confidence = item["assets"]["confidence"]
    assert (confidence["raster:scale"], confidence["raster:offset"]) == (0.0001, 0.0)
    assert (confidence["nodata"], confidence["data_type"]) == (65535, "uint16")
    prefixes = {url.rsplit("/", 3)[1] for url in item["stac_extensions"]}
    assert prefixes == {"projection", "classification", "raster", "processing"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_an_item_is_loaded_by_catalogue_software(tmp_path: Path) -> None:
    item_of(raster(), tmp_path)
    read = pystac.Item.from_file(str(tmp_path / "a_item.json"))
    loaded = odc.stac.load([read], bands=["classes"], chunks={})
    assert dict(loaded.sizes) == {"time": 1, "y": 40, "x": 50}
    assert (loaded["classes"].values == 4).all()
    assert loaded.odc.geobox.affine == NORTH_UP


def test_dates_come_from_the_scene_then_from_the_name() -> None:
    scene = raster()
    assert dates_of("S2B_20210715T143749", scene) == {"datetime": "2021-07-15T14:37:49Z"}
    assert dates_of("fjord_20210715", scene) == {
        "datetime": None,
        "start_datetime": "2021-07-15T00:00:00Z",
        "end_datetime": "2021-07-15T23:59:59Z",
    }
    assert dates_of("fjord", scene) is None
    never = scene.assign_coords(time=np.datetime64("NaT", "ns"))
    assert dates_of("fjord", never) is None


def test_without_a_date_there_is_no_item(tmp_path: Path) -> None:
    record = start_record(parameters={}, seed=3)
    found = scene_item(
        "fjord", raster(), {}, folder=tmp_path, legend=GLACIER, record=record, facts={}
    )
    assert found is None


def test_without_a_crs_the_item_lies_nowhere(tmp_path: Path) -> None:
    scene = raster(Affine.identity(), None)
    item = item_of(scene, tmp_path)
    checked(item)
    assert item["geometry"] is None
    assert "bbox" not in item
    assert "proj:code" not in item["properties"]


def test_a_crs_without_a_code_is_written_out(tmp_path: Path) -> None:
    own = CRS.from_proj4("+proj=laea +lat_0=61.5 +lon_0=-41.25 +datum=WGS84 +units=m")
    said = item_of(raster(crs=own), tmp_path)["properties"]
    assert said["proj:code"] is None
    assert CRS.from_wkt(said["proj:wkt2"]) == own


def test_a_local_crs_leads_to_no_place_on_the_globe(tmp_path: Path) -> None:
    local = CRS.from_wkt('LOCAL_CS["quarry",UNIT["metre",1]]')
    item = item_of(raster(crs=local), tmp_path)
    checked(item)
    assert item["geometry"] is None
    assert CRS.from_wkt(item["properties"]["proj:wkt2"]) == local


def outline(where: dict[str, Any] | None) -> Any:
    assert where is not None
    shape = shapely.geometry.shape(where["geometry"])
    assert shape.is_valid
    for part in shapely.get_parts(shape):
        assert part.exterior.is_ccw
    return shape


def test_a_footprint_holds_the_pole() -> None:
    where = footprint(centred(0, 0, 200_000))
    assert where is not None
    west, south, east, north = where["bbox"]
    assert (west, east, north) == (-180.0, 180.0, 90.0)
    assert 88 < south < 89
    shape = outline(where)
    for longitude in range(-179, 180, 30):
        assert shape.contains(shapely.Point(longitude, 89.5))
        assert not shape.contains(shapely.Point(longitude, 88.5))


def test_a_footprint_is_cut_at_the_antimeridian() -> None:
    (x,), (y,) = rasterio.warp.transform("EPSG:4326", POLAR, [180.0], [70.0])
    where = footprint(centred(x, y, 100_000))
    shape = outline(where)
    assert shape.geom_type == "MultiPolygon"
    assert where is not None
    west, _, east, _ = where["bbox"]
    assert 170 < west < 180
    assert -180 < east < -170
    assert shape.contains(shapely.Point(179.9, 70))
    assert shape.contains(shapely.Point(-179.9, 70))
    assert not shape.contains(shapely.Point(0, 70))


def test_degrees_beyond_180_are_turned_back() -> None:
    step = Affine(0.1, 0, 190.0, 0, -0.1, 60.0)
    where = footprint(raster(step, CRS.from_epsg(4326), (10, 20)))
    assert where is not None
    assert where["bbox"] == [-170.0, 59.0, -168.0, 60.0]
    whole = footprint(raster(Affine(1, 0, -180, 0, -1, 90), CRS.from_epsg(4326), (180, 360)))
    assert whole is not None
    assert whole["bbox"] == [-180.0, -90.0, 180.0, 90.0]


@given(x=st.floats(-3e6, 3e6), y=st.floats(-3e6, 3e6), side=st.floats(1e3, 5e5))
@settings(max_examples=25, deadline=None)
def test_a_footprint_holds_the_inside_of_its_raster(x: float, y: float, side: float) -> None:
    shape = outline(footprint(centred(x, y, side)))
    assert shape.bounds[0] >= -180
    assert shape.bounds[2] <= 180
    offsets = np.array([-0.45, 0.0, 0.45]) * side
    xs, ys = (grid.ravel() for grid in np.meshgrid(x + offsets, y + offsets))
    longitude, latitude = rasterio.warp.transform(POLAR, "EPSG:4326", xs, ys)
    assert shape.buffer(1e-6).contains(shapely.points(longitude, latitude)).all()


def test_runs_write_items_that_are_plain_json(tmp_path: Path) -> None:
    item_of(raster(), tmp_path)
    text = (tmp_path / "a_item.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert json.loads(text)["type"] == "Feature"
    with pytest.raises(KeyError):
        json.loads(text)["collection"]
