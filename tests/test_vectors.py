"""Lines and polygons in files, with styles."""

from __future__ import annotations

import datetime
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio.crs
import xarray as xr
from pyogrio.errors import DataLayerError
from pyproj import CRS
from rasters_for_tests import NORTH_UP
from shapely import LineString, MultiLineString, Point, box
from styles_for_tests import seen_by_qgis

from csc_xr.errors import LineError, OutputError, ParameterError
from csc_xr.fronts.extraction import Front
from csc_xr.fronts.settings import FrontSettings
from csc_xr.grid import place
from csc_xr.legend import GLACIER
from csc_xr.metres import with_pixel_size
from csc_xr.polygons import class_polygons
from csc_xr.vector_styles import box_style, class_style, dated_style, line_style
from csc_xr.vectors import front_frame, write_layers, write_lines

LINE = LineString([(330000.123456789, 5822000.5), (330400.0, 5821900.25), (330650.0, 5821950.0)])


def front(outcome: str = "found", **measures: float) -> Front:
    blank = xr.DataArray(np.zeros((1, 1), np.uint8), dims=("y", "x"))
    return Front(
        outcome=outcome,
        reason=f"It was {outcome}.",
        line=LINE if measures else None,
        crs=CRS(32624),
        measures=measures,
        pieces=geopandas.GeoSeries([], crs=CRS(32624)),
        settings=FrontSettings(contact_m=90.0),
        raster=blank,
        classes=blank,
    )


def three_fronts() -> geopandas.GeoDataFrame:
    return front_frame(
        [front(length_m=512.5, sinuosity=1.25), front("no ocean"), front("too long", length_m=9e4)],
        scenes=["first", "second", "third"],
        dates=["2017-08-21T14:05:10.250", None, np.datetime64("2018-07-01")],
    )


def classes() -> geopandas.GeoDataFrame:
    codes = np.array([[1, 1, 4, 4], [1, 0, 4, 7]], np.uint8)
    raster = place(
        xr.DataArray(codes, dims=("y", "x")), NORTH_UP, rasterio.crs.CRS.from_epsg(32624)
    )
    return class_polygons(raster, GLACIER)


def same(one: geopandas.GeoDataFrame, other: geopandas.GeoDataFrame) -> bool:
    """Values, places of missing ones and geometries, these to the bit."""
    attributes = [frame.drop(columns=frame.geometry.name).astype(object) for frame in (one, other)]
    plain = [frame.where(frame.notna(), None) for frame in attributes]
    return (
        plain[0].equals(plain[1])
        and one.crs == other.crs
        and one.geometry.to_wkb().equals(other.geometry.to_wkb())
    )


def rows(file: Path, query: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(file)) as base:
        base.row_factory = sqlite3.Row
        return [dict(row) for row in base.execute(query)]


def renderer(qml: str) -> ElementTree.Element:
    found = ElementTree.fromstring(qml).find("renderer-v2")  # noqa: S314
    assert found is not None
    return found


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_table_of_fronts() -> None:
    found = three_fronts()
    assert list(found["outcome"]) == ["found", "no ocean", "too long"]
    assert list(found["reason"]) == ["It was found.", "It was no ocean.", "It was too long."]
    assert found["date"].dt.year.tolist()[::2] == [2017, 2018]
    assert found["date"].isna().tolist() == [False, True, False]
    assert found["length_m"].tolist()[::2] == [512.5, 9e4]
    assert found[["length_m", "glacier_area_m2", "sinuosity"]].isna().sum().tolist() == [1, 3, 2]
    assert found.geometry.isna().tolist() == [False, True, False]
    assert json.loads(found["parameters"][1])["contact_m"] == 90.0
    assert {"csc_xr", "python", "gdal"} <= set(json.loads(found["software"][0]))
    assert found.crs == CRS(32624)


def test_dates_are_brought_to_utc() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=-3))
    moments = [datetime.datetime(2020, 5, 1, 22, tzinfo=zone), datetime.date(2020, 5, 1)]
    found = front_frame([front()] * 2, scenes=["a", "b"], dates=moments)
    assert found["date"].astype(str).tolist() == ["2020-05-02 01:00:00", "2020-05-01 00:00:00"]


def test_fronts_that_make_no_table() -> None:
    with pytest.raises(LineError, match="needs one front at least, got none"):
        front_frame([], scenes=[], dates=[])
    with pytest.raises(ParameterError, match="got 1 fronts, 2 scenes and 1 dates"):
        front_frame([front()], scenes=["a", "b"], dates=[None])
    with pytest.raises(ParameterError, match=r"ISO text such as 2017-08-21, got: .*spring"):
        front_frame([front()], scenes=["a"], dates=["spring"])
    elsewhere = front()
    object.__setattr__(elsewhere, "crs", CRS(3413))
    with pytest.raises(LineError, match=r"must be in one CRS, got \['WGS 84 / NSIDC.*zone 24N'\]"):
        front_frame([front(), elsewhere], scenes=["a", "b"], dates=[None, None])


@pytest.mark.parametrize("name", ["fronts.gpkg", "fronts.geojson", "FRONTS.GPKG"])
def test_lines_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    fronts = three_fronts()
    write_lines(fronts, tmp_path / "deep" / name)
    found = geopandas.read_file(tmp_path / "deep" / name, layer="fronts")
    if name.endswith("geojson"):  # where JSON is JSON
        for column in ("software", "parameters"):
            found[column] = [json.dumps(value, ensure_ascii=False) for value in found[column]]
    assert same(found, fronts)
    assert [found[column].dtype.kind for column in ("date", "length_m")] == ["M", "f"]
    beside = ["fronts.qml"] if name.endswith("geojson") else []
    assert names(tmp_path / "deep") == [name, *beside]


def test_the_tables_of_a_geopackage(tmp_path: Path) -> None:
    """Read without GDAL."""
    file = tmp_path / "map.gpkg"
    write_layers({"fronts": three_fronts(), "classes": classes()}, file)
    contents = rows(file, "select table_name, data_type, srs_id from gpkg_contents")
    assert [tuple(row.values()) for row in contents] == [
        ("fronts", "features", 32624),
        ("classes", "features", 32624),
        ("layer_styles", "attributes", 0),
    ]
    kinds = rows(
        file, "select table_name, column_name, geometry_type_name from gpkg_geometry_columns"
    )
    assert [tuple(row.values()) for row in kinds] == [
        ("fronts", "geom", "LINESTRING"),
        ("classes", "geom", "POLYGON"),
    ]
    fronts = rows(file, "select * from fronts order by fid")
    assert [row["date"] for row in fronts] == [
        "2017-08-21T14:05:10.250",
        None,
        "2018-07-01T00:00:00.000",
    ]
    assert [row["length_m"] for row in fronts] == [512.5, None, 90000.0]
    assert [row["geom"] is None for row in fronts] == [False, True, False]
    pieces = rows(file, "select code, name, area_m2 from classes order by code")
    assert [(row["code"], row["name"]) for row in pieces] == [
        (1, "Open Water"),
        (4, "Glacier Ice"),
        (7, "Bedrock"),
    ]
    assert [row["area_m2"] for row in pieces] == pytest.approx([300, 300, 100], rel=0.01)
    styles = rows(file, "select * from layer_styles")
    assert [(row["f_table_name"], row["f_geometry_column"]) for row in styles] == [
        ("fronts", "geom"),
        ("classes", "geom"),
    ]
    for row in styles:
        assert (row["useAsDefault"], row["f_table_schema"], row["f_table_catalog"]) == (1, "", "")
    assert [renderer(row["styleQML"]).get("attr") for row in styles] == ["outcome", "code"]


def test_geojson_says_which_crs_it_is_in(tmp_path: Path) -> None:
    write_lines(three_fronts(), tmp_path / "fronts.geojson")
    content = json.loads((tmp_path / "fronts.geojson").read_text(encoding="utf-8"))
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32624"
    assert content["features"][0]["geometry"]["coordinates"][0] == [330000.123456789, 5822000.5]
    assert content["features"][1]["geometry"] is None


def test_exchanged_axes_change_what_is_written(tmp_path: Path) -> None:
    fronts = three_fronts()
    exchanged = fronts.set_geometry(fronts.geometry.affine_transform([0, 1, 1, 0, 0, 0]))
    write_lines(fronts, tmp_path / "one.gpkg")
    write_lines(exchanged, tmp_path / "other.gpkg")
    lows = [
        geopandas.read_file(tmp_path / name, layer="fronts").total_bounds[1]
        for name in ("one.gpkg", "other.gpkg")
    ]
    assert lows == [5821900.25, 330000.123456789]


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:4326", "+proj=aeqd +lat_0=65 +lon_0=-40"])
def test_any_crs_in_a_geopackage(tmp_path: Path, crs: str) -> None:
    fronts = three_fronts().set_crs(crs, allow_override=True)
    write_lines(fronts, tmp_path / "fronts.gpkg")
    assert same(geopandas.read_file(tmp_path / "fronts.gpkg", layer="fronts"), fronts)


def test_local_coordinates_in_a_geopackage(tmp_path: Path) -> None:
    image = with_pixel_size(xr.DataArray(np.ones((2, 2), np.uint8), dims=("y", "x")), 5.0)
    pieces = class_polygons(image, GLACIER)
    write_lines(pieces, tmp_path / "pieces.gpkg", layer="classes")
    found = geopandas.read_file(tmp_path / "pieces.gpkg", layer="classes")
    assert found.crs.is_engineering
    assert same(found.set_crs(pieces.crs, allow_override=True), pieces)
    with pytest.raises(LineError, match=r"for GeoJSON one with an EPSG code, got .Image in metres"):
        write_lines(pieces, tmp_path / "pieces.geojson")
    assert names(tmp_path) == ["pieces.gpkg"]


def test_dates_without_a_front_alone(tmp_path: Path) -> None:
    lost = three_fronts().iloc[[1]].reset_index(drop=True)
    write_lines(lost, tmp_path / "lost.gpkg")
    assert (
        pyogrio.read_info(tmp_path / "lost.gpkg", layer="fronts")["geometry_type"] == "LineString"
    )
    assert geopandas.read_file(tmp_path / "lost.gpkg", layer="fronts")["outcome"].tolist() == [
        "no ocean"
    ]


def test_lines_of_several_parts(tmp_path: Path) -> None:
    parts = MultiLineString([LINE, [(0, 0), (1, 1)]])
    lines = geopandas.GeoDataFrame({"n": [1, 2]}, geometry=[LINE, parts], crs=32624)
    write_lines(lines, tmp_path / "lines.gpkg", layer="margins")
    found = geopandas.read_file(tmp_path / "lines.gpkg", layer="margins")
    assert set(found.geom_type) == {"MultiLineString"}
    assert found.length.tolist() == lines.length.tolist()


@pytest.mark.parametrize("name", ["fronts.gpkg", "fronts.geojson"])
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = tmp_path / name
    write_lines(three_fronts().iloc[:1], file)
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}

    def fail(*_: object, **__: object) -> None:
        raise DataLayerError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(pyogrio, "write_dataframe", fail)
        with pytest.raises(OutputError, match="disk I/O error"):
            write_lines(three_fronts(), file)
    with monkeypatch.context() as patch:
        patch.setattr(pyogrio, "read_info", lambda *_, **__: {"features": 0})
        with pytest.raises(OutputError, match="0 of 3 rows are read back"):
            write_lines(three_fronts(), file)
    with pytest.raises(OutputError, match="must not exist yet, but it does"):
        write_lines(three_fronts(), file, overwrite=False)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before
    write_lines(three_fronts(), file)
    assert len(geopandas.read_file(file, layer="fronts")) == 3


def test_names_that_are_written_in_other_ways_in_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where a name cut short would go
    write_lines(three_fronts(), tmp_path / "a;b" / "100 %41 #1 &amp;.gpkg")
    assert names(tmp_path / "a;b") == ["100 %41 #1 &amp;.gpkg"]
    with pytest.raises(ParameterError, match="written to a path with '!', which means an archive"):
        write_lines(three_fronts(), tmp_path / "a!b.gpkg")
    assert names(tmp_path) == ["a;b"]


def test_layers_that_cannot_be_written(tmp_path: Path) -> None:
    fronts, style = three_fronts(), line_style("Margins")
    mixed = geopandas.GeoDataFrame(geometry=[LINE, box(0, 0, 1, 1), Point(0, 0)], crs=32624)
    bare = geopandas.GeoDataFrame({"n": [1]}, geometry=[LINE])
    file = tmp_path / "fronts.gpkg"
    with pytest.raises(ParameterError, match=r"ends in \.gpkg or \.geojson, got 'fronts\.shp'"):
        write_lines(fronts, tmp_path / "fronts.shp")
    with pytest.raises(LineError, match="'fronts' needs one row at least, got none"):
        write_lines(fronts.iloc[:0], file)
    with pytest.raises(LineError, match="'fronts' must have a CRS, got none"):
        write_lines(bare, file)
    with pytest.raises(
        LineError, match="all lines or all polygons, got LineString, Point, Polygon"
    ):
        write_lines(mixed, file)
    with pytest.raises(ParameterError, match=r"fronts\.geojson must get one layer, got 2"):
        write_layers({"a": fronts, "b": fronts}, tmp_path / "fronts.geojson")
    with pytest.raises(ParameterError, match=r"fronts\.gpkg must get one layer or more, got 0"):
        write_layers({}, file)
    for same_name in ({"a": fronts, "A": fronts}, {" ": fronts}, {"layer_styles": fronts}):
        with pytest.raises(ParameterError, match="Layers need names of their own"):
            write_layers(same_name, file)
    with pytest.raises(ParameterError, match=r"for the layers \['a'\], got \['b'\]"):
        write_layers({"a": fronts}, file, styles={"b": style})
    assert names(tmp_path) == []


def test_styles_suit_what_is_written(tmp_path: Path) -> None:
    plain = geopandas.GeoDataFrame(geometry=[LINE], crs=32624)
    outline = geopandas.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs=32624)
    file = tmp_path / "map.gpkg"
    layers = {"fronts": three_fronts(), "margins": plain, "box": outline, "classes": classes()}
    write_layers(layers, file, styles={"margins": line_style("Margins", dashed=True)})
    found = {row["f_table_name"]: row for row in rows(file, "select * from layer_styles")}
    kinds = {name: renderer(row["styleQML"]).get("type") for name, row in found.items()}
    assert kinds == {
        "fronts": "categorizedSymbol",
        "margins": "singleSymbol",
        "box": "singleSymbol",
        "classes": "categorizedSymbol",
    }
    assert [found[name]["styleName"] for name in layers] == [
        "Calving fronts",
        "Margins",
        "box",
        "Classes",
    ]


def test_classes_have_the_colours_of_the_legend() -> None:
    found = renderer(class_style(GLACIER.classes).qml)
    labels = [entry.get("label") for entry in found.iter("category")]
    assert labels == [entry.name for entry in GLACIER.classes]
    colours = [
        option.get("value") for option in found.iter("Option") if option.get("name") == "color"
    ]
    assert colours == [",".join(map(str, (*entry.rgb, 255))) for entry in GLACIER.classes]


@pytest.mark.parametrize(("count", "entries"), [(1, 1), (2, 2), (30, 30), (31, 12), (400, 12)])
def test_each_date_has_one_colour(count: int, entries: int) -> None:
    dates = pd.Timestamp("2016-12-20") + pd.to_timedelta(np.arange(count) * 5.3, unit="D")
    found = renderer(dated_style([*dates, dates[0], None, pd.NaT]).qml)
    ranges = [
        (float(entry.get("lower", "nan")), float(entry.get("upper", "nan")))
        for entry in found.iter("range")
    ]
    assert len(ranges) == entries
    for date in dates:
        number = float(date.strftime("%Y%m%d"))
        assert sum(lower <= number <= upper for lower, upper in ranges) == 1
    labels = [entry.get("label", "") for entry in found.iter("range")]
    assert labels[0].startswith("2016-12-20")
    assert labels[-1].endswith(f"{dates[-1]:%Y-%m-%d}")


def test_a_colour_that_is_none() -> None:
    for style in (line_style, box_style):
        with pytest.raises(ParameterError, match="#rrggbb or the name of one, got '#f00000000'"):
            style("Centreline", colour="#f00000000")


def test_dates_that_make_no_style() -> None:
    with pytest.raises(ParameterError, match="needs a date at least, got none"):
        dated_style([None, np.datetime64("NaT")])
    quoted = renderer(dated_style([datetime.date(2020, 1, 1)], field='day "of" image').qml)
    assert quoted.get("attr") == 'to_int(format_date("day ""of"" image", \'yyyyMMdd\'))'


def test_qgis_shows_layers_in_their_styles(tmp_path: Path) -> None:
    file, fronts = tmp_path / "map.gpkg", three_fronts()
    dated = dated_style(fronts["date"])
    layers = {"fronts": fronts, "classes": classes(), "series": fronts}
    write_layers(layers, file, styles={"series": dated})
    write_lines(fronts, tmp_path / "fronts.geojson")
    write_lines(fronts, tmp_path / "dated.geojson", style=dated)
    sources = [f"{file}|layername={name}" for name in layers]
    found = seen_by_qgis(
        *sources, *(str(tmp_path / f"{name}.geojson") for name in ("fronts", "dated"))
    )
    by_name = dict(zip([*layers, "fronts.geojson", "dated.geojson"], found, strict=True))
    assert all(layer["valid"] and layer["crs"] == "EPSG:32624" for layer in found)
    for name in ("fronts", "fronts.geojson"):
        layer = by_name[name]
        assert (layer["rows"], layer["renderer"]) == (3, "categorizedSymbol")
        assert [layer["fields"][key] for key in ("date", "length_m")] == ["DateTime", "Real"]
        assert layer["symbols"] == [
            ["Calving front", "#ff0000", "solid"],
            ["Not accepted", "#ff0000", "dash"],
        ]
        assert layer["drawn"]["#ff0000"] > 100
    for name in ("series", "dated.geojson"):
        assert [entry[0] for entry in by_name[name]["symbols"]] == ["2017-08-21", "2018-07-01"]
        # Both lie in one place, the later above.
        assert by_name[name]["drawn"][by_name[name]["symbols"][1][1]] > 100
    known = {entry.code: entry.colour for entry in GLACIER.classes}
    assert all(by_name["classes"]["drawn"][known[code]] > 1000 for code in (1, 4, 7))
