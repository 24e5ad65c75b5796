"""Validation points: drawn by class, labelled, and taken back as a sample; also by command."""

from __future__ import annotations

import warnings
from pathlib import Path

import dask
import dask.array as da
import geopandas
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasters_for_tests import NORTH_UP
from runs_for_tests import PLACE, run_cli, write_labels
from scipy.stats import chisquare

from csc_xr.accuracy.areas import estimate_areas
from csc_xr.accuracy.confusion import count_classes, count_codes
from csc_xr.accuracy.points import (
    classes_at_points,
    draw_validation_points,
    drawn_from,
    open_points,
    point_labels,
)
from csc_xr.draws import draw_positions
from csc_xr.errors import CscWarning, LabelError, ParameterError
from csc_xr.evaluation import count_files, estimate_file_areas, pool_counts
from csc_xr.export import write_result_zarr
from csc_xr.grid import place
from csc_xr.legend import GLACIER, RIVER

SHAPE = (60, 80)
SHARES = [0.1, 0.5, 0.3, 0.1]
CODES = np.random.default_rng(4).choice(4, SHAPE, p=SHARES).astype(np.uint8)


def map_of(
    codes: np.ndarray = CODES, chunks: object = None, crs: str = "EPSG:32633"
) -> xr.DataArray:
    data = codes if chunks is None else da.from_array(codes, chunks)
    raster = xr.DataArray(data, dims=("y", "x"))
    return place(raster, NORTH_UP, CRS.from_string(crs)) if crs else raster


@given(chunks=st.tuples(st.integers(9, 70), st.integers(15, 90)), seed=st.integers(0, 5))
@settings(max_examples=8, deadline=None)
def test_chunks_do_not_matter(chunks: tuple[int, int], seed: int) -> None:
    with dask.config.set(scheduler="synchronous"):
        whole, parts = (
            draw_validation_points(raster, legend=RIVER, per_class=20, seed=seed)
            for raster in (map_of(), map_of(chunks=chunks))
        )
    pd.testing.assert_frame_equal(whole, parts)


def test_points_lie_where_they_say() -> None:
    points = draw_validation_points(map_of(), legend=RIVER, per_class=30)
    assert points["map_code"].value_counts().to_dict() == {1: 30, 2: 30, 3: 30}
    assert not points.duplicated(["row", "column"]).any()
    np.testing.assert_array_equal(CODES[points["row"], points["column"]], points["map_code"])
    assert points["map_class"].tolist() == [RIVER.class_name(c) for c in points["map_code"]]
    wanted = {"x": 330005 + 10 * points["column"], "y": 5822035 - 10 * points["row"]}
    np.testing.assert_allclose(points[["x", "y"]], pd.DataFrame(wanted))
    np.testing.assert_array_equal(points.geometry.x, points["x"])
    assert points.crs == "EPSG:32633"
    assert (points["label"] == "").all()
    # an order that tells nothing of the class
    assert 5 < (points["map_code"].to_numpy()[:30] == 1).sum() < 15
    assert draw_validation_points(map_of(crs=""), legend=RIVER, per_class=3).crs is None


def test_points_are_not_what_phase_two_learns_from() -> None:
    learnt = draw_positions(map_of(chunks=60), per_class=20, seed=0)
    points = draw_validation_points(map_of(), legend=RIVER, per_class=20, seed=0)
    both = set(zip(learnt["row"], learnt["column"], strict=True))
    assert len(both & set(zip(points["row"], points["column"], strict=True))) < 5


def test_more_points_keep_those_there_were() -> None:
    few, many = (
        draw_validation_points(map_of(), legend=RIVER, per_class=n, seed=9) for n in (20, 40)
    )
    places = [set(zip(p["row"], p["column"], strict=True)) for p in (few, many)]
    assert places[0] < places[1]
    other = draw_validation_points(map_of(), legend=RIVER, per_class=20, seed=10)
    assert len(places[0] & set(zip(other["row"], other["column"], strict=True))) < 10


def test_every_pixel_of_a_class_has_the_same_chance() -> None:
    drawn = np.zeros((100, 100))
    for seed in range(3):
        codes = map_of(np.full(drawn.shape, 1, np.uint8))
        points = draw_validation_points(codes, legend=RIVER, per_class=2000, seed=seed)
        drawn[points["row"], points["column"]] += 1
    parts = drawn.reshape(10, 10, 10, 10).sum(axis=(1, 3))
    assert parts.sum() == 6000
    assert 0.001 < chisquare(parts, axis=None).pvalue < 0.999
    assert np.unique(drawn).tolist() == [0, 1, 2, 3]


@given(total=st.integers(30, 4000), least=st.integers(1, 10))
@settings(max_examples=10, deadline=None)
def test_total_is_shared_by_area(total: int, least: int) -> None:
    counts = count_classes(map_of(), legend=RIVER).values[1:4]
    points = draw_validation_points(map_of(), legend=RIVER, total=total, least=least)
    assert len(points) == total
    sizes = points["map_code"].value_counts().sort_index().to_numpy()
    wanted = least + (total - 3 * least) * (counts - least) / (counts - least).sum()
    assert (np.abs(sizes - wanted) < 1).all()


def test_small_classes_give_all_their_pixels() -> None:
    codes = np.full((10, 10), 1, np.uint8)
    codes[0, :3] = 2
    points = draw_validation_points(map_of(codes), legend=RIVER, per_class=5)
    assert points["map_code"].value_counts().to_dict() == {1: 5, 2: 3}
    points = draw_validation_points(map_of(codes), legend=RIVER, total=100, least=5)
    assert points["map_code"].value_counts().to_dict() == {1: 97, 2: 3}


def test_draw_refuses() -> None:
    for numbers in ({}, {"per_class": 3, "total": 9}):
        with pytest.raises(ParameterError, match="Give either per_class or total, got per_class="):
            draw_validation_points(map_of(), legend=RIVER, **numbers)
    with pytest.raises(ParameterError, match="per_class must be 1 or more, got 0"):
        draw_validation_points(map_of(), legend=RIVER, per_class=0)
    with pytest.raises(ParameterError, match="least must be 1 or more, got 0"):
        draw_validation_points(map_of(), legend=RIVER, total=10, least=0)
    for total in (149, 5000):
        with pytest.raises(ParameterError, match=r"total must lie between 150 \(50 in each of 3"):
            draw_validation_points(map_of(), legend=RIVER, total=total)
    with pytest.raises(ParameterError, match="seed must be a whole number"):
        draw_validation_points(map_of(), legend=RIVER, per_class=1, seed=-1)
    with pytest.raises(ParameterError, match="drawn in the classes of a map, got a map without"):
        draw_validation_points(map_of(np.zeros_like(CODES)), legend=RIVER, per_class=1)
    with pytest.raises(ParameterError, match="must hold 0 or codes of the legend"):
        draw_validation_points(map_of(CODES + 9), legend=RIVER, per_class=1)


def test_places_are_found_in_every_form() -> None:
    raster = map_of(chunks=13)
    points = draw_validation_points(raster, legend=RIVER, per_class=20)
    table = pd.DataFrame(points.drop(columns="geometry"))
    for form in (
        points,
        points.to_crs("EPSG:4326"),
        table,
        table.drop(columns=["row", "column"]),
        table.drop(columns=["x", "y"]),
        table.astype({"row": float, "column": str}).drop(columns="x"),
    ):
        np.testing.assert_array_equal(classes_at_points(form, raster), points["map_code"])
    local = map_of(crs="")
    drawn = draw_validation_points(local, legend=RIVER, per_class=20)
    np.testing.assert_array_equal(classes_at_points(drawn, local), drawn["map_code"])


def test_places_that_cannot_be_used() -> None:
    raster = map_of()
    points = draw_validation_points(raster, legend=RIVER, per_class=5)
    table = pd.DataFrame(points.drop(columns="geometry"))
    with pytest.raises(
        LabelError, match=r"must lie on the class raster, 60 rows .* 15 of 15 do not"
    ):
        classes_at_points(points.set_geometry(points.translate(1e6)), raster)
    with pytest.raises(LabelError, match=r"1 of 2 do not, the first in row 60, column 3"):
        classes_at_points(pd.DataFrame({"row": [1, 60], "column": [1, 3]}), raster)
    with pytest.raises(LabelError, match=r"need geometry, or the columns x and y, .* got where"):
        classes_at_points(pd.DataFrame({"where": [1]}), raster)
    with pytest.raises(LabelError, match="'y' of points must hold a number in every row, got 'a'"):
        classes_at_points(table.assign(y=["a"] * 15), raster)
    with pytest.raises(LabelError, match="must both have a CRS or none, but they have none"):
        classes_at_points(points.set_crs(None, allow_override=True), raster)
    with pytest.raises(LabelError, match="or none, but the class raster has none"):
        classes_at_points(points, map_of(crs=""))
    areas = points.set_geometry(points.geometry.where(points.index > 3, points.buffer(5)))
    with pytest.raises(LabelError, match="must be single points, got Point, Polygon"):
        classes_at_points(areas, raster)


@pytest.mark.parametrize(
    "given_labels",
    [
        ["water", " Dry Sediment ", "GREEN VEGETATION", ""],
        ["1", "2", "3", None],
        [1.0, 2.0, 3.0, np.nan],
        [1, 2, 3, 0],
        pd.array([1, 2, 3, None], dtype="Int64"),
        pd.array(["1.0", "2", "Green Vegetation", None], dtype="string"),
    ],
)
def test_labels_are_codes_or_names(given_labels: object) -> None:
    points = pd.DataFrame({"truth": given_labels})
    found = point_labels(points, legend=RIVER, column="truth")
    assert found.tolist() == [1, 2, 3, 0]
    assert found.dtype == np.uint8


def test_labels_that_are_no_classes() -> None:
    with pytest.raises(LabelError, match="need a column 'label' of labels, got row, column"):
        point_labels(pd.DataFrame({"row": [1], "column": [1]}), legend=RIVER)
    wrong = pd.DataFrame({"label": ["Water", "Wader", 1.5, "inf", 9, 9]})
    with pytest.raises(
        LabelError, match=r"1 Water, 2 Dry .* got 'Wader', '1.5', 'inf', '9'\. Corr"
    ):
        point_labels(wrong, legend=RIVER)
    with pytest.raises(LabelError, match="got 'Calving Front'"):
        point_labels(pd.DataFrame({"label": ["Calving Front"]}), legend=GLACIER)


def test_points_are_read_from_files(tmp_path: Path) -> None:
    points = draw_validation_points(map_of(), legend=RIVER, per_class=3)
    for name in ("a.gpkg", "a.geojson", "a.shp"):
        points.to_file(tmp_path / name)
        found = open_points(tmp_path / name)
        np.testing.assert_array_equal(classes_at_points(found, map_of()), points["map_code"])
    table = points.drop(columns="geometry")
    for number, (separator, encoding) in enumerate([(",", "utf-8"), (";", "utf-8-sig")]):
        file = tmp_path / f"{number}.csv"
        table.to_csv(file, sep=separator, encoding=encoding, lineterminator="\r\n", index=False)
        assert list(open_points(file)) == list(table)


def test_files_that_hold_no_points(tmp_path: Path) -> None:
    points = draw_validation_points(map_of(), legend=RIVER, per_class=3)
    points.to_file(tmp_path / "two.gpkg", layer="a")
    points.to_file(tmp_path / "two.gpkg", layer="b")
    with pytest.raises(LabelError, match="must have one layer with geometry, got a, b in"):
        open_points(tmp_path / "two.gpkg")
    (tmp_path / "header.csv").write_text("row,column,label\n")
    with pytest.raises(LabelError, match="Points to score by must be one at least, got none in"):
        open_points(tmp_path / "header.csv")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "text.gpkg").write_text("no")
    (tmp_path / "latin.csv").write_bytes(b"row,column,label\n1,1,M\xe9lange\n")
    for name in ("absent.csv", "absent.gpkg", "empty.csv", "text.gpkg", "latin.csv"):
        with pytest.raises(LabelError, match=r"Points must be a readable file, but .* Check the"):
            open_points(tmp_path / name)


def labelled(points: geopandas.GeoDataFrame, truth: np.ndarray) -> geopandas.GeoDataFrame:
    """Points as somebody who knows the truth returns them."""
    codes = truth[points["row"], points["column"]]
    return points.assign(label=[RIVER.class_name(int(code)) for code in codes])


def wrong_here_and_there() -> np.ndarray:
    """A truth that the map has right in four of five pixels."""
    rng = np.random.default_rng(6)
    return np.where(rng.random(SHAPE) < 0.2, rng.integers(1, 4, SHAPE), CODES).astype(np.uint8)


def test_drawn_and_labelled_points_give_the_areas() -> None:
    truth = wrong_here_and_there()
    points = labelled(draw_validation_points(map_of(), legend=RIVER, per_class=150), truth)
    counts = count_codes(
        point_labels(points, legend=RIVER),
        classes_at_points(points, map_of()),
        legend=RIVER,
        units="points",
    )
    found = estimate_areas(counts, count_classes(map_of(), legend=RIVER)).classes
    areas = np.bincount(truth[CODES > 0], minlength=4)[1:]
    assert ((found["lower"] <= areas) & (areas <= found["upper"])).all()
    assert (found["half_width"] < 0.2 * areas).all()
    assert drawn_from(points, map_of())
    assert not drawn_from(points, map_of(truth))
    assert drawn_from(points.drop(columns="map_code"), map_of(truth))


def result_with_points(folder: Path) -> tuple[Path, Path, np.ndarray]:
    """A result of both phases, and labelled points drawn in its pixel classes."""
    truth = wrong_here_and_there()
    tiles = np.roll(CODES, 3, axis=1)
    result = xr.Dataset({"tile_class": map_of(tiles), "pixel_class": map_of()}).chunk(y=30)
    write_result_zarr(result, folder / "result.zarr")
    ended = run_cli(
        "sample-points", folder / "result.zarr", "--legend", "river", "--per-class", 40,
        "--out", folder / "points.gpkg", "--seed", 5,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "Dry Sediment" in ended.out
    points = geopandas.read_file(folder / "points.gpkg", layer="points")
    assert len(points) == 120
    labelled(points, truth).to_file(folder / "labelled.gpkg", layer="points")
    return folder / "result.zarr", folder / "labelled.gpkg", truth


def test_commands_draw_and_evaluate(tmp_path: Path) -> None:
    result, points, truth = result_with_points(tmp_path)
    files = {name: tmp_path / f"{name}.csv" for name in ("out", "tidy", "areas")}
    ended = run_cli(
        "evaluate", result, points, "--legend", "river",
        *(word for name, file in files.items() for word in (f"--{name}", file)),
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "Scores count every point alike" in ended.err
    assert "areas in m2, 95 % intervals" in ended.out
    assert "left out, without a class in the map" in ended.out
    areas = pd.read_csv(files["areas"])
    # the tiles' classes are other strata than those the points were drawn in
    assert areas["phase"].tolist() == ["pixel_class"] * 3
    assert set(areas["unit"]) == {"m2"}
    wanted = np.bincount(truth[CODES > 0], minlength=4)[1:] * 100
    assert (np.abs(areas["estimated_area"] - wanted) < 2 * areas["half_width"]).all()
    np.testing.assert_allclose(
        areas["mapped_area"] / np.bincount(CODES.ravel())[1:], 100, rtol=2e-3
    )
    tidy = pd.read_csv(files["tidy"])
    assert set(tidy["phase"]) == {"tile_class", "pixel_class"}
    right = tidy.set_index(["phase", "kind"]).loc[("pixel_class", "overall"), "accuracy"]
    by_hand = geopandas.read_file(points, layer="points")
    assert right.item() == pytest.approx((by_hand["label"] == by_hand["map_class"]).mean())
    assert len(pd.read_csv(files["out"])) == 12


def test_commands_pool_and_thin_rasters(tmp_path: Path) -> None:
    truth = wrong_here_and_there()
    one, two, labels = (
        write_labels(tmp_path / name, codes)
        for name, codes in (("a.tif", CODES), ("b.tif", np.roll(CODES, 1)), ("t.tif", truth))
    )
    tidy, areas = tmp_path / "tidy.csv", tmp_path / "areas.csv"
    ended = run_cli("evaluate", one, labels, two, labels, "--legend", "river", "--tidy", tidy)
    assert ended.code == 0, ended.err
    table = pd.read_csv(tidy).query("kind == 'overall'").set_index("file")
    assert table.loc["all", "support"] == 2 * np.count_nonzero(truth)
    parts = table.loc[[str(one), str(two)], "accuracy"]
    assert table.loc["all", "accuracy"] == pytest.approx(parts.mean())
    assert ended.out.count("Weighted_avg") == 1
    thin = ("--sample", 500, "--seed", 3, "--areas", areas, "--tidy", tidy)
    ended = run_cli("evaluate", one, labels, "--legend", "river", *thin)
    assert ended.code == 0, ended.err
    assert "Intervals of areas hold where the labelled pixels are a random sample" in ended.err
    assert pd.read_csv(tidy)["support"].max() == 500
    assert pd.read_csv(areas)["samples"].sum() < 500  # some lie where the map has no class
    ended = run_cli("evaluate", one, labels, "--legend", "river", "--out", tidy, "--tidy", tidy)
    assert ended.code == 2
    assert "write different tables and need a file each, got tidy.csv, tidy.csv" in ended.err


def test_points_of_pictures_are_in_pixels(tmp_path: Path) -> None:
    nowhere = {"transform": None, "crs": None}
    plain = {key: value for key, value in PLACE.items() if key not in nowhere}
    picture = tmp_path / "picture.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_labels(picture, CODES, **plain | nowhere)
    csv, areas = tmp_path / "points.csv", tmp_path / "areas.csv"
    words = ("sample-points", picture, "--legend", "river", "--total", 200)
    ended = run_cli(*words, "--out", tmp_path / "points.gpkg")
    assert ended.code == 2
    assert "Points of a raster without a CRS are written to a file that ends in .csv" in ended.err
    assert run_cli(*words, "--out", csv).code == 0
    ended = run_cli(*words, "--out", csv)
    assert ended.code == 2
    assert "must not exist yet" in ended.err
    table = pd.read_csv(csv)
    table.assign(label=table["map_code"]).to_csv(csv, index=False)
    ended = run_cli("evaluate", picture, csv, "--legend", "river", "--areas", areas)
    assert ended.code == 0, ended.err
    found = pd.read_csv(areas)
    assert found["estimated_area"].tolist() == pytest.approx(
        np.bincount(CODES.ravel())[1:].tolist()
    )
    assert set(found["unit"]) == {"pixels"}


def test_evaluate_refuses_points(tmp_path: Path) -> None:
    result, points, _ = result_with_points(tmp_path)
    other = write_labels(tmp_path / "other.tif", np.roll(CODES, 9))
    areas = ("--areas", tmp_path / "areas.csv")
    few = tmp_path / "few.csv"
    frame = geopandas.read_file(points, layer="points")
    kept = frame.index.isin(frame.groupby("map_code").head(1).index) | (frame["map_code"] > 1)
    frame.assign(label=frame["label"].where(kept, "")).drop(columns="geometry").to_csv(few)
    for words, part in [
        ((result,), "evaluate takes pairs of a class raster and its labels, got 1 files"),
        ((result, points, result, points, *areas), "--areas takes one class raster and its labels"),
        ((other, points, *areas), "Areas need the map that the points were drawn in, but the map_"),
        (
            (result, points, other, points),
            "must all hold the same, got classes or tile_class+pixel",
        ),
        (
            (result, few, *areas),
            "two labelled points at least in each class of the map, and should",
        ),
        ((result, points, "--column", "truth"), "need a column 'truth' of labels"),
    ]:
        ended = run_cli("evaluate", *words, "--legend", "river")
        assert ended.code == 2
        assert part in ended.err, ended.err
    assert "39 of 120 points" in run_cli("evaluate", result, few, "--legend", "river").err
    assert not (tmp_path / "areas.csv").exists()


def test_sample_points_refuses(tmp_path: Path) -> None:
    raster = write_labels(tmp_path / "map.tif", CODES)
    result = xr.Dataset({"tile_class": map_of(), "pixel_class": map_of()})
    write_result_zarr(result, tmp_path / "result.zarr")
    out = ("--out", tmp_path / "points.gpkg")
    for words, part in [
        ((raster, "--out", tmp_path / "p.shp", "--per-class", 5), "ends in .csv or .gpkg or .geoj"),
        ((raster, *out), "Give either per_class or total"),
        (
            (tmp_path / "result.zarr", *out, "--per-class", 5, "--phase", "one"),
            "--phase must be on",
        ),
    ]:
        ended = run_cli("sample-points", *words, "--legend", "river")
        assert ended.code == 2
        assert part in ended.err, ended.err
    assert not (tmp_path / "points.gpkg").exists()


def test_library_counts_files_as_the_command_does(tmp_path: Path) -> None:
    result, points, _ = result_with_points(tmp_path)
    with pytest.warns(CscWarning, match="Scores count every point alike"):
        counted = count_files(result, points, legend=RIVER)
    assert pool_counts([counted, counted])["pixel_class"].sum() == 240
    assert list(estimate_file_areas(result, points, counted, legend=RIVER)) == ["pixel_class"]
