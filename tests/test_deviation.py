"""How far a line found lies from the one digitised, in true metres."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio.crs
import rasterio.features
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from shapely import LineString, MultiLineString, Point, box, get_coordinates, points, segmentize
from shapely.affinity import affine_transform

from csc_xr.errors import LabelError, LineError, ParameterError
from csc_xr.fronts.deviation import Deviation, front_error, margin_error
from csc_xr.fronts.digitised import digitised_points
from csc_xr.grid import place
from csc_xr.metres import pixel_size_m, with_pixel_size

HELHEIM = "+proj=aeqd +lat_0=66.35 +lon_0=-38.2 +datum=WGS84 +units=m +type=crs"
LOCAL = with_pixel_size(xr.DataArray(np.zeros((2, 2)), dims=("y", "x")), 15.0).rio.crs
SYMMETRIC = ("hausdorff_m", "mean_distance_error_m")
DISTANCES = ("mean_m", "median_m", "p95_m", *SYMMETRIC, "predicted_to_digitised_mean_m")
BENT = [(0, 0), (800, 300), (1500, -200), (1700, 900), (2600, 1000)]


def series(*geometries: Any, crs: Any = HELHEIM) -> geopandas.GeoSeries:
    """Geometries given in metres around a glacier, in the CRS asked for."""
    return geopandas.GeoSeries(list(geometries), crs=HELHEIM).to_crs(crs)


def line(*places: tuple[float, float], crs: Any = HELHEIM) -> geopandas.GeoSeries:
    return series(LineString(places), crs=crs)


def burnt(lines: geopandas.GeoSeries, pixel: float) -> xr.DataArray:
    """EDGE raster of lines in their CRS, with a margin of 20 pixels."""
    left, bottom, right, top = lines.total_bounds
    rows, columns = (int((high - low) / pixel) + 40 for high, low in ((top, bottom), (right, left)))
    to_map = Affine(pixel, 0, left - 20 * pixel, 0, -pixel, top + 20 * pixel)
    pixels = rasterio.features.rasterize(
        lines, out_shape=(rows, columns), transform=to_map, all_touched=True
    )
    crs = rasterio.crs.CRS.from_user_input(lines.crs)
    return place(xr.DataArray(pixels.astype("uint8"), dims=("y", "x")), to_map, crs)


def swapped(lines: geopandas.GeoSeries) -> geopandas.GeoSeries:
    exchanged = [affine_transform(each, [0, 1, 1, 0, 0, 0]) for each in lines]
    return geopandas.GeoSeries(exchanged, crs=lines.crs)


def some_line(seed: int, count: int = 30) -> LineString:
    rng = np.random.default_rng(seed)
    return LineString(np.cumsum(rng.normal(0, 200, (count, 2)), axis=0))


@settings(max_examples=60, deadline=None)
@given(
    shift=st.floats(1, 3000),
    azimuth=st.floats(0, math.pi),
    crs=st.sampled_from([3413, 32624, 4326]),
    other=st.sampled_from([3413, 32624, 4326]),
)
def test_a_shifted_line_is_off_by_the_shift(
    shift: float, azimuth: float, crs: int, other: int
) -> None:
    along, across = (math.cos(azimuth), math.sin(azimuth)), (-math.sin(azimuth), math.cos(azimuth))
    ends = [(sign * 1000 * along[0], sign * 1000 * along[1]) for sign in (-1, 0, 1)]
    moved = [(x + shift * across[0], y + shift * across[1]) for x, y in ends]
    found = front_error(line(*moved, crs=other), line(*ends, crs=crs))
    for name in DISTANCES:  # halfway between vertices 1 km apart a piece lies 0.05 m aside
        assert getattr(found, name) == pytest.approx(shift, rel=1e-3, abs=0.1), name
    assert found.std_m < 0.1
    assert found.mode_m == pytest.approx(shift, abs=5.1)
    assert found.count in (201, 202)  # 2000 m, each 10 m


@pytest.mark.parametrize("pixel", [10, 30])
@pytest.mark.parametrize("crs", [3413, 32624])
def test_shifted_pixels_are_off_by_true_metres(crs: int, pixel: float) -> None:
    """A pixel of 10 m on the map of EPSG:3413 is 9.87 m here."""
    drawn = burnt(line((0, 0), (3000, 1000), crs=crs), pixel) * 0
    width = pixel_size_m(drawn)[1]
    drawn[:, 25] = 1
    found = drawn.roll(x=7, roll_coords=False)
    for name in DISTANCES:
        assert getattr(front_error(found, drawn), name) == pytest.approx(7 * width, rel=1e-3)


def test_one_front_has_the_same_metres_on_every_grid() -> None:
    """Digitised on grids of two CRSs and two pixel sizes, found as one line 400 m off."""
    found = line((400, -3000), (400, 3000), crs=4326)
    for crs, pixel in ((3413, 10), (3413, 30), (32624, 10), (32624, 30)):
        drawn = burnt(line((0, -2000), (0, 2000), crs=crs), pixel)
        deviation = front_error(found, drawn)
        assert deviation.mean_m == pytest.approx(400, abs=0.1 * pixel)
        assert deviation.median_m == pytest.approx(400, abs=0.4 * pixel)
        assert deviation.mode_m == pytest.approx(400, abs=20)


@settings(max_examples=20, deadline=None)
@given(seeds=st.tuples(st.integers(0, 99), st.integers(100, 199)), spacing=st.floats(20, 300))
def test_against_all_pairs_of_dense_points(seeds: tuple[int, int], spacing: float) -> None:
    one, other = (some_line(seed) for seed in seeds)
    found = front_error(
        *(geopandas.GeoSeries([each], crs=LOCAL) for each in (one, other)), spacing_m=spacing
    )
    dense = [np.asarray(segmentize(each, 4.0).coords) for each in (one, other)]
    pieces = math.ceil(other.length / spacing)
    places = other.interpolate(np.linspace(0, other.length, pieces + 1))
    expected = cdist(get_coordinates(places), dense[0]).min(axis=1)
    assert (found.distances_m <= expected + 1e-6).all()
    np.testing.assert_allclose(found.distances_m, expected, atol=2.0)  # half of 4 m at most
    pairs = cdist(*dense)
    largest = max(pairs.min(axis=0).max(), pairs.min(axis=1).max())
    assert largest - spacing / 2 - 2 <= found.hausdorff_m <= largest + 2
    if spacing < 30:
        mean = np.concatenate([pairs.min(axis=0), pairs.min(axis=1)]).mean()
        assert found.mean_distance_error_m == pytest.approx(mean, rel=0.02, abs=2)


def test_pixels_are_measured_as_the_benchmark_does() -> None:
    """Its own formula, on pixels of 15 m without a place on the map."""
    rng = np.random.default_rng(3)
    masks = rng.random((2, 60, 80)) < 0.02
    rasters = [with_pixel_size(xr.DataArray(mask, dims=("y", "x")), 15.0) for mask in masks]
    pixels = [np.argwhere(mask) for mask in masks]
    there = cdist(pixels[1], pixels[0]).min(axis=1) * 15
    back = cdist(pixels[0], pixels[1]).min(axis=1) * 15
    found = front_error(rasters[0], rasters[1])
    np.testing.assert_allclose(found.distances_m, there)
    np.testing.assert_allclose(found.predicted_distances_m, back)
    both = np.concatenate([there, back])
    assert found.mean_distance_error_m == pytest.approx(both.mean())
    assert found.hausdorff_m == pytest.approx(both.max())
    assert front_error(rasters[0], digitised_points(rasters[1])).to_dict() == found.to_dict()


@settings(max_examples=20, deadline=None)
@given(seeds=st.tuples(st.integers(0, 99), st.integers(100, 199)))
def test_symmetric_figures_do_not_know_which_is_which(seeds: tuple[int, int]) -> None:
    one, other = (series(some_line(seed), crs=3413) for seed in seeds)
    there, back = front_error(one, other), front_error(other, one)
    for name in SYMMETRIC:
        assert getattr(there, name) == pytest.approx(getattr(back, name), rel=1e-6)
    assert there.predicted_to_digitised_mean_m == pytest.approx(back.mean_m, rel=1e-6)
    assert there.mean_m != pytest.approx(back.mean_m, rel=1e-3)


@pytest.mark.parametrize("crs", [HELHEIM, 3413, 4326])
def test_swapped_axes_change_the_result(crs: Any) -> None:
    found, drawn = line(*BENT, crs=crs), line(*[(x + 90, y - 40) for x, y in BENT], crs=crs)
    right = front_error(found, drawn)
    assert right.hausdorff_m < 100
    assert front_error(swapped(found), drawn).hausdorff_m > 500
    assert front_error(found, swapped(drawn)).hausdorff_m > 500
    if crs == 4326:  # both: an error of the axis order, which would measure elsewhere
        assert front_error(swapped(found), swapped(drawn)).mean_m != pytest.approx(right.mean_m)


def test_swapped_axes_of_a_raster_change_the_result() -> None:
    drawn = with_pixel_size(burnt(line(*BENT), 30).drop_vars(["x", "y", "spatial_ref"]), 30.0)
    turned = drawn.copy(data=np.zeros_like(drawn.values))
    side = min(drawn.shape)
    turned[:side, :side] = drawn.values[:side, :side].T
    assert front_error(drawn, drawn).hausdorff_m == 0
    assert front_error(turned, drawn).hausdorff_m > 500


def test_how_densely_a_line_is_drawn_does_not_matter() -> None:
    moved = [(x, y + 150) for x, y in BENT]
    plain = front_error(line(*moved), line(*BENT))
    dense = front_error(series(segmentize(LineString(moved), 1.0)), line(*BENT))
    np.testing.assert_allclose(dense.distances_m, plain.distances_m, atol=1e-6)
    backwards = front_error(line(*moved[::-1]), line(*BENT[::-1]))
    np.testing.assert_allclose(backwards.distances_m[::-1], plain.distances_m, atol=1e-6)


def test_lines_are_sampled_evenly_with_both_ends() -> None:
    """Points are kept; each part of a line has samples of its own, also one of no length."""
    drawn = series(
        Point(5, 7),
        MultiLineString([[(0, 100), (95, 100)], [(0, 200), (3, 200)]]),
        LineString([(0, 300), (0, 300)]),
        LineString([(0, 400), (10, 400), (10, 400), (30, 400)]),
    )
    found = front_error(line((0, 0), (200, 0)), drawn, spacing_m=10)
    assert found.count == 1 + 11 + 2 + 1 + 4
    assert found.distances_m == pytest.approx(
        [7]
        + 11 * [100]
        + 2
        * [
            200,
        ]
        + [300]
        + 4 * [400]
    )
    ends = front_error(series(Point(0, 100)), line((0, 100), (95, 100)), spacing_m=10)
    assert ends.distances_m == pytest.approx(np.linspace(0, 95, 11), abs=1e-6)


def test_points_decide_the_spacing_of_lines() -> None:
    """So that both directions weigh alike in the symmetric figures."""
    drawn, found = line((0, 0), (0, 3000), crs=32624), line((200, 0), (200, 3000), crs=32624)
    assert front_error(found, drawn).count == pytest.approx(301, abs=1)
    assert front_error(found, drawn, spacing_m=100).count == pytest.approx(31, abs=1)
    for pixel in (10, 30):
        for pair in ((found, burnt(drawn, pixel)), (burnt(found, pixel), drawn)):
            deviation = front_error(*pair)
            assert deviation.count == pytest.approx(3000 / pixel, abs=6)
            assert len(deviation.predicted_distances_m) == pytest.approx(3000 / pixel, abs=6)
    assert len(front_error(found, series(Point(0, 0))).predicted_distances_m) == 301


def test_figures() -> None:
    found = Deviation(np.array([0.0, 4.9, 14, 99, 100, 250]), np.array([1.0, 2, 300]))
    assert found.to_dict() == {
        "count": 6,
        "mean_m": pytest.approx(467.9 / 6),
        "median_m": 56.5,
        "mode_m": 0.0,
        "std_m": pytest.approx(np.std([0.0, 4.9, 14, 99, 100, 250])),
        "share_under_100_m": pytest.approx(4 / 6),
        "p95_m": 212.5,
        "hausdorff_m": 300.0,
        "mean_distance_error_m": pytest.approx((467.9 + 303) / 9),
        "predicted_to_digitised_mean_m": 101.0,
    }
    assert {type(value) for value in found.to_dict().values()} == {int, float}


def test_the_mode_is_the_smallest_of_the_commonest() -> None:
    back = np.zeros(1)
    assert Deviation(np.array([31.0, 29, 9.9, 10.1, 200]), back).mode_m == 10
    assert Deviation(np.array([31.0, 29, 34, 10.1, 200]), back).mode_m == 30
    assert Deviation(np.array([4.9, 5.0, 5.1]), back).mode_m == 10


def test_histogram() -> None:
    found = Deviation(np.array([0.0, 9.99, 10, 35, 36]), np.zeros(1))
    counts, edges = found.histogram()
    assert (counts.tolist(), edges.tolist()) == ([2, 1, 0, 2], [0, 10, 20, 30, 40])
    assert found.histogram(bin_m=50)[0].tolist() == [5]
    with pytest.raises(ParameterError, match=r"width of a bin must be a positive number .* got 0"):
        found.histogram(bin_m=0)


@pytest.mark.parametrize("empty", [geopandas.GeoSeries([], crs=3413), geopandas.GeoSeries([None])])
def test_nothing_found_is_no_error(empty: geopandas.GeoSeries) -> None:
    drawn = line(*BENT)
    raster = burnt(drawn, 30)
    for nothing in (empty, raster * 0):
        found = front_error(nothing, drawn)
        figures = found.to_dict()
        assert figures.pop("count") == 0
        assert all(math.isnan(value) for value in figures.values())
        assert found.histogram()[0].tolist() == [0]


def test_margins_are_measured_alike() -> None:
    margins = series(LineString([(0, 0), (0, 5000)]), LineString([(3000, 0), (3000, 5000)]))
    drawn = line((20, 0), (20, 5000))
    found = margin_error(margins, drawn)
    assert found.to_dict() == front_error(margins, drawn).to_dict()
    assert found.mean_m == pytest.approx(20, rel=1e-6)
    assert found.predicted_to_digitised_mean_m == pytest.approx(1500, rel=1e-3)


def test_no_matrix_of_all_pairs_is_built() -> None:
    """It would take 13 GB."""
    rng = np.random.default_rng(1)
    x = np.linspace(0, 1e5, 40_000)
    lines = [LineString(np.stack([x, rng.normal(y, 50, x.size)], axis=1)) for y in (0, 300)]
    found, drawn = (geopandas.GeoSeries(points(get_coordinates(each)), crs=LOCAL) for each in lines)
    tracemalloc.start()
    deviation = front_error(found, drawn)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert deviation.count == 40_000
    assert peak < 40e6


def test_bad_lines_are_refused() -> None:
    good = line(*BENT)
    bare = geopandas.GeoSeries(good.to_list())
    for pair in ((good, bare), (bare, good)):
        with pytest.raises(LineError, match=r"Lines need a CRS .* got none"):
            front_error(*pair)
    for pair, name in (
        ((good, series(box(0, 0, 9, 9))), "digitised"),
        ((series(box(0, 0, 9, 9)), good), "found"),
    ):
        with pytest.raises(LineError, match=f"got Polygon in the line {name}"):
            front_error(*pair)
    for nothing in (geopandas.GeoSeries([], crs=3413), burnt(good, 30) * 0):
        with pytest.raises(LineError, match="must have at least one geometry or pixel, got none"):
            front_error(good, nothing)
    with pytest.raises(
        LineError, match=r"GeoSeries or a raster .* got LineString for the line found"
    ):
        front_error(good.iloc[0], good)
    with pytest.raises(LabelError, match="must leave most pixels 0"):
        front_error(good, 1 - burnt(good, 30))
    with pytest.raises(ParameterError, match="spacing of points along a line must be a positive"):
        front_error(good, good, spacing_m=-1)
