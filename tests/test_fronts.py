"""Calving fronts: the whole method against a plain one, every outcome, what is in the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dask
import geopandas
import numpy as np
import pytest
import shapely
import xarray as xr
from affine import Affine
from fronts_for_tests import (
    FRONT,
    ICE,
    ICEBERGS,
    MELANGE,
    NORTH_UP,
    QUICK,
    ROCK,
    SNOW_ON_ROCK,
    WATER,
    fjord_codes,
    front_of,
    plain_front,
    raster,
    rough_codes,
    small_chunks,
    vertices,
)

from csc_xr.fronts.extraction import Front, extract_front
from csc_xr.fronts.settings import FrontSettings
from csc_xr.grid import scene_transform
from csc_xr.legend import GLACIER
from csc_xr.metres import pixel_size_m, to_metres
from csc_xr.synthetic import fjord


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


def wedge(codes: np.ndarray, pixels: int) -> np.ndarray:
    """Without classes beyond a diagonal in the lower right corner."""
    rows, columns = np.indices(codes.shape)
    return np.where(rows + columns > sum(codes.shape) - pixels, 0, codes).astype(np.uint8)


def check_plain(
    image: xr.DataArray, settings: FrontSettings, within: shapely.Polygon | None = None
) -> Front:
    """Hold a front to be what the plain version finds."""
    expected = plain_front(image, settings, within=within)
    region = None if within is None else geopandas.GeoSeries([within], crs=image.rio.crs)
    front = extract_front(image, GLACIER, settings=settings, within=region)
    assert front.outcome == expected.outcome
    np.testing.assert_array_equal(front.raster, expected.drawn)
    assert front.raster.dtype == np.uint8
    assert len(front.pieces) == len(expected.lines)
    for line, plain in zip(front.pieces, expected.lines, strict=True):
        np.testing.assert_array_equal(np.asarray(line.coords), plain)
    if expected.lines:
        np.testing.assert_array_equal(vertices(front), expected.lines[0])
        lengths = to_metres(front.pieces).length
        assert front.measures["length_m"] == pytest.approx(lengths[0])
        assert front.measures["other_contact_m"] == pytest.approx(lengths[1:].sum())
        assert front.measures["contact_share"] == pytest.approx(expected.contact_share)
        area = expected.ice.sum() * np.prod(pixel_size_m(image))
        assert front.measures["glacier_area_m2"] == pytest.approx(area)
    return front


@pytest.mark.parametrize("seed", range(3))
def test_rough_scenes(seed: int) -> None:
    """What comes of them is up to their errors; some are none."""
    check_plain(raster(rough_codes(seed=seed)), replace(QUICK, min_ocean_m2=2e4))


@pytest.mark.parametrize(
    ("codes", "chunks", "labelled", "worked"),
    [
        (fjord_codes((100, 110), seed=1), (50, 60), 60, 45),
        (rough_codes((100, 110), seed=2), (7, 110), 4096, 30),
        (wedge(rough_codes((100, 110), seed=4), 60).T, (25, 100), 60, 512),
    ],
    ids=["fjord", "rough", "wedge"],
)
def test_any_chunks(codes: np.ndarray, chunks: Any, labelled: int, worked: int) -> None:
    with small_chunks(labelled, worked):
        check_plain(raster(codes, chunks=chunks), replace(QUICK, contact_m=200))


@pytest.mark.parametrize(
    "turn",
    [Affine.scale(2, 1), Affine.scale(1, 2), Affine.rotation(25) @ Affine.scale(2, 1.5)],
    ids=["wide", "high", "rotated"],
)
def test_pixels_that_are_not_square(turn: Affine) -> None:
    settings = replace(QUICK, margin_m=40, closing_m=100)
    check_plain(raster(rough_codes(seed=5), transform=NORTH_UP @ turn), settings)


def test_generated_fjord_as_published() -> None:
    labels = fjord((260, 300), seed=7)["labels"]
    front = check_plain(labels, FrontSettings(min_ocean_m2=2e5))
    assert front.outcome == "found"


def test_reach_is_not_rounded_down() -> None:
    """Ocean 148.5 m away is within 150 m, also in pixels of 7 m: 21.4 of them."""
    rows, columns = np.indices((110, 90))
    codes = np.where(columns < 40, ICE, WATER).astype(np.uint8)
    codes[(rows - 55) ** 2 + (columns - 40) ** 2 < 21**2 + 3**2] = ROCK
    codes[columns < 40] = ICE
    codes[(rows < 15) | (rows >= 95)] = ROCK
    settings = replace(QUICK, contact_m=150, min_ocean_m2=1e4, margin_m=14, iterations=1)
    front = check_plain(raster(codes, transform=NORTH_UP @ Affine.scale(0.7)), settings)
    assert len(front.pieces) == 1


def test_front_is_found_with_its_measures() -> None:
    front = front_of(fjord_codes())
    assert front.outcome == "found"
    assert front.reason == f"A front of {front.measures['length_m']:.0f} m."
    assert front.settings is QUICK
    assert front.crs == "EPSG:32624"
    assert front.lines.crs == front.pieces.crs == front.crs
    assert front.lines.iloc[0] == front.line
    length = to_metres(front.lines).length.item()
    assert front.measures["length_m"] == pytest.approx(length)
    first, last = to_metres(front.lines).iloc[0].boundary.geoms
    assert front.measures["sinuosity"] == pytest.approx(length / first.distance(last))


def check_none(front: Front, outcome: str, reason: str) -> None:
    assert front.outcome == outcome
    assert front.reason == reason
    assert front.line is None
    assert len(front.lines) == 0
    assert front.lines.crs == front.crs == front.raster.rio.crs
    assert not front.raster.to_numpy().any()


def test_no_glacier() -> None:
    codes = fjord_codes()
    codes[codes == ICE] = SNOW_ON_ROCK
    front = front_of(codes)
    check_none(front, "no glacier", "No pixel is Glacier Ice.")
    assert front.measures == {}
    np.testing.assert_array_equal(front.classes, codes)
    both = replace(QUICK, glacier=("Glacier Ice", 5))
    check_none(front_of(codes, both), "no glacier", "No pixel is Glacier Ice or Snow on Ice.")


def test_no_ocean() -> None:
    codes = fjord_codes()
    larger = replace(QUICK, min_ocean_m2=1.5e6)
    reason = "No Open Water or Iceberg Water or Mélange covers 1.5 km2 or more."
    check_none(front_of(codes, larger), "no ocean", reason)
    codes[np.isin(codes, (WATER, MELANGE))] = ROCK
    front = front_of(codes, replace(QUICK, min_ocean_m2=0.0))
    assert front.outcome == "no ocean"


def test_no_contact() -> None:
    codes = fjord_codes()
    columns = np.indices(codes.shape)[1]
    codes[(codes == ICE) & (columns > 30)] = ROCK
    codes[(codes == WATER) & (columns < 45)] = ROCK
    front = front_of(codes)
    check_none(front, "no contact", "No ocean is within 80 m of the glacier, away from the frame.")


def test_too_long() -> None:
    codes = np.full((120, 150), WATER, np.uint8)
    codes[:15] = codes[105:] = ROCK
    codes[15:105, :30] = ICE
    for row in range(15, 105, 20):
        codes[row : row + 10, 30:120] = ICE  # a comb
    comb = replace(QUICK, closing_m=0, iterations=0)
    front = front_of(codes, comb)
    assert front.outcome == "too long"
    length, diagonal = front.measures["length_m"], np.hypot(120, 150) * 10
    assert length > 5 * diagonal / 2
    check_none(
        front, "too long",
        f"It would be {length:.0f} m long, more than the image: {1.00037 * diagonal:.0f} m.",
    )  # fmt: skip
    assert plain_front(raster(codes), comb).outcome == "found"


def test_front_that_goes_on_beyond_the_image() -> None:
    codes = fjord_codes()
    open_above = codes.copy()
    open_above[:40] = codes[40]
    front = check_plain(raster(open_above), QUICK)
    assert front.outcome == "touches the frame"
    assert front.reason == "The front goes on beyond what the image shows."
    assert front.line is not None
    assert vertices(front)[:, 1].max() <= NORTH_UP.f - QUICK.frame_m


def test_front_that_goes_on_where_there_are_no_classes() -> None:
    codes = fjord_codes()
    rows, columns = np.indices(codes.shape)
    codes[rows > 75 + (columns - 60) // 2] = 0
    front = check_plain(raster(codes), QUICK)
    assert front.outcome == "touches the frame"
    x, y = vertices(front).T
    row, column = (NORTH_UP.f - y) / 10, (x - NORTH_UP.c) / 10
    apart = (75 + (column - 60) / 2 - row) / np.hypot(1, 0.5)  # pixels to the edge of the classes
    assert 3 < apart.min() < 6
    assert apart.max() > 20


def test_blank_pixels_far_from_the_front_are_no_matter() -> None:
    codes = fjord_codes()
    blank = wedge(codes, 60)
    blank[50:70, 5:10] = 0  # a hole in the glacier is filled
    np.testing.assert_array_equal(vertices(front_of(blank)), vertices(front_of(codes)))


def test_ice_in_the_middle_of_the_sea_is_not_cut() -> None:
    codes = np.full((120, 150), WATER, np.uint8)
    codes[40:80, 50:100] = ICE
    front = front_of(codes)
    assert front.outcome == "found"
    assert front.line.is_ring
    assert shapely.Polygon(front.line).area == pytest.approx(40 * 50 * 100, rel=0.01)


def test_classes_hold_the_front() -> None:
    codes = fjord_codes()
    front = front_of(codes)
    drawn, classes = front.raster.to_numpy(), front.classes.to_numpy()
    assert set(np.unique(drawn)) == {0, 1}
    np.testing.assert_array_equal(classes, np.where(drawn == 1, FRONT, codes))
    assert classes.dtype == np.uint8
    assert front.classes.attrs == GLACIER.flag_attributes()
    for layer in (front.raster, front.classes):
        assert layer.rio.crs == "EPSG:32624"
        assert scene_transform(layer) == NORTH_UP
    assert front.raster.name == "front"
    assert front.raster.attrs == {}


def test_front_is_drawn_along_the_line() -> None:
    front = front_of(rough_codes(seed=1))
    rows, columns = np.nonzero(front.raster.to_numpy())
    points = shapely.points(NORTH_UP.c + 10 * (columns + 0.5), NORTH_UP.f - 10 * (rows + 0.5))
    assert shapely.distance(front.line, points).max() <= 5
    x, y = vertices(front).T
    assert shapely.distance(shapely.multipoints(points), shapely.points(x, y)).max() <= 5


def test_refined_classes() -> None:
    codes = fjord_codes()
    inlet = int((codes[60] == ICE).sum()) - 5
    codes[59:61, inlet - 10 : inlet + 10] = WATER  # closed
    codes[50, 20] = ROCK  # on the glacier
    codes[51, 20] = SNOW_ON_ROCK
    codes[52, 20], codes[53, 20], codes[54, 20] = MELANGE, 5, 0
    ice = plain_front(raster(codes), QUICK).ice
    refined = front_of(codes, replace(QUICK, refine=True))
    land = np.isin(codes, (ROCK, SNOW_ON_ROCK, 0))
    expected = np.where(ice & ~land, ICE, codes)
    expected[refined.raster.to_numpy() == 1] = FRONT
    np.testing.assert_array_equal(refined.classes, expected)
    assert expected[50:55, 20].tolist() == [ROCK, SNOW_ON_ROCK, ICE, ICE, 0]
    assert (expected[60, inlet - 10 : inlet - 4] == ICE).all()
    assert refined.line == front_of(codes).line
    spared = front_of(codes, replace(QUICK, refine=True, land=("Mélange",))).classes.to_numpy()
    assert spared[50:55, 20].tolist() == [ICE, ICE, MELANGE, ICE, 0]


def test_nunataks_are_part_of_the_glacier() -> None:
    codes = fjord_codes()
    islands = codes.copy()
    islands[50:60, 15:30] = ROCK
    islands[66:70, 20:24] = WATER
    front, same = front_of(codes), front_of(islands)
    assert same.line == front.line
    assert same.measures == front.measures


def test_icebergs_classified_as_glacier_are_passed_over() -> None:
    codes = fjord_codes()
    bergs = codes.copy()
    bergs[40:52, 100:115] = ICE
    bergs[60:70, 120:140] = ICEBERGS
    assert front_of(bergs).line == front_of(codes).line


def test_lake_at_the_frame_is_no_ocean() -> None:
    codes = fjord_codes()
    lake = codes.copy()
    lake[:, :25] = np.where(codes[:, :25] == ICE, WATER, ROCK)
    dry = lake.copy()
    dry[:, :25] = ROCK
    front = front_of(lake, replace(QUICK, min_ocean_m2=1e4))
    assert front.line == front_of(dry).line
    within = lake.copy()
    within[:, :5] = ROCK  # no longer at the frame
    assert len(front_of(within, replace(QUICK, min_ocean_m2=1e4)).pieces) == 2


def test_ring_of_mixed_pixels_around_a_mountain_is_no_ocean() -> None:
    codes = np.full((140, 150), ROCK, np.uint8)
    codes[20:70, :70] = ICE
    codes[20:70, 70:] = WATER
    ring = codes.copy()
    ring[70:110, 8:64] = MELANGE  # along the glacier's side, 20 m wide
    ring[72:108, 10:62] = ROCK
    assert front_of(ring).line == front_of(codes).line


def test_longest_piece_is_the_front() -> None:
    codes = fjord_codes()
    columns = np.indices(codes.shape)[1]
    codes[columns < 25] = ROCK
    codes[35:85, 10:25] = WATER  # a second, straight front
    front = check_plain(raster(codes), replace(QUICK, min_ocean_m2=0.0))
    lengths = [line.length for line in front.pieces]
    assert len(lengths) == 2
    assert front.line == front.pieces[0]
    assert lengths[0] == max(lengths)


def test_front_within_a_region() -> None:
    x, y = NORTH_UP.c, NORTH_UP.f
    upper = shapely.box(x, y - 600, x + 1500, y)
    image = raster(rough_codes(seed=1))
    front = check_plain(image, QUICK, within=upper)
    assert upper.contains(front.line)
    degrees = geopandas.GeoSeries([upper], crs=32624).segmentize(100).to_crs(4326)
    same = extract_front(image, GLACIER, settings=QUICK, within=degrees)
    assert same.line == front.line


def test_region_around_the_smaller_of_two_glaciers() -> None:
    codes = np.full((120, 150), WATER, np.uint8)
    codes[:50, :60] = codes[70:, :90] = ICE
    codes[50:70] = codes[:10] = codes[110:] = ROCK
    x, y = NORTH_UP.c, NORTH_UP.f
    upper = geopandas.GeoSeries([shapely.box(x, y - 500, x + 1500, y)], crs=32624)
    front = extract_front(raster(codes), GLACIER, settings=QUICK, within=upper)
    assert front.outcome == "found"


def test_front_of_classes_with_a_front_in_them() -> None:
    """What is drawn where an inlet was closed is glacier from then on, so the line may differ."""
    front = front_of(fjord_codes())
    again = extract_front(front.classes, GLACIER, settings=QUICK)
    assert again.outcome == "found"
    assert shapely.hausdorff_distance(again.line, front.line) < 40
