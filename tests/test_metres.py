"""Lines and pixels in true metres, whatever CRS they are in."""

from __future__ import annotations

import dask
import geopandas
import numpy as np
import pytest
import rasterio.crs
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Geod, Proj
from rasters_for_tests import never
from shapely import LineString, Point

from csc_xr.errors import LineError
from csc_xr.grid import place, same_grid, scene_transform
from csc_xr.metres import pixel_size_m, to_metres, with_pixel_size

GEOD = Geod(ellps="WGS84")
FEET = 'LOCAL_CS["Plan",UNIT["foot",0.3048],AXIS["X",EAST],AXIS["Y",NORTH]]'


def line(*places: tuple[float, float], crs: object = 4326) -> geopandas.GeoSeries:
    """Vertices given as longitude and latitude."""
    return geopandas.GeoSeries([LineString(places)], crs=4326).to_crs(crs)


def raster(crs: object, transform: Affine, *, rows: int = 20, columns: int = 30) -> xr.DataArray:
    pixels = xr.DataArray(np.zeros((rows, columns), "uint8"), dims=("y", "x"))
    return place(pixels, transform, crs and rasterio.crs.CRS.from_user_input(crs))


def centred(crs: int, longitude: float, latitude: float, pixel: Affine) -> xr.DataArray:
    """Raster of 20 x 30 such pixels, its middle at that place."""
    middle = geopandas.GeoSeries([Point(longitude, latitude)], crs=4326).to_crs(crs).iloc[0]
    moved = Affine.translation(middle.x, middle.y) @ pixel @ Affine.translation(-15, -10)
    return raster(crs, moved)


@pytest.mark.parametrize(
    ("crs", "longitude", "latitude"),
    [
        (4326, -38.0, 66.3),
        (32624, -38.0, 66.3),
        (3413, -38.0, 66.3),
        (3413, -51.0, 82.0),
        (3031, 167.0, -77.5),
        (2263, -74.0, 40.7),  # in feet
        ("ESRI:54009", 10.0, 47.0),  # Mollweide: neither angles nor distances
    ],
)
def test_lengths_are_those_on_the_ellipsoid(
    crs: int | str, longitude: float, latitude: float
) -> None:
    for azimuth in (0, 35, 90):
        east, north, _ = GEOD.fwd(longitude, latitude, azimuth, 3000)
        measured = to_metres(line((longitude, latitude), (east, north), crs=crs))
        assert measured.length.item() == pytest.approx(3000, rel=1e-5)


def test_length_on_the_map_would_be_wrong() -> None:
    """EPSG:3413 is 1.4 % out at this latitude, and a degree is no metre."""
    drawn = line((-38.0, 66.3), (-37.9, 66.3))
    true = GEOD.inv(-38.0, 66.3, -37.9, 66.3)[2]
    assert abs(drawn.to_crs(3413).length.item() / true - 1) > 0.01
    assert to_metres(drawn.to_crs(3413)).length.item() == pytest.approx(true, rel=1e-5)


@pytest.mark.parametrize(("distance", "error"), [(10e3, 5e-7), (100e3, 4.2e-5), (500e3, 1.1e-3)])
def test_accuracy_far_from_the_middle(distance: float, error: float) -> None:
    middle = geopandas.GeoSeries([Point(-40, 65)], crs=4326)
    for azimuth in (0, 90, 225):
        longitude, latitude, _ = GEOD.fwd(-40, 65, azimuth, distance)
        ends = [GEOD.fwd(longitude, latitude, azimuth + side, 500)[:2] for side in (-90, 90)]
        assert to_metres(line(*ends), around=middle).length.item() == pytest.approx(1000, rel=error)


@pytest.mark.parametrize(("crs", "limit"), [(3413, 0.005), (32624, 0.005), (4326, 0.05)])
def test_a_straight_piece_need_not_be_densified(crs: int, limit: float) -> None:
    for azimuth in (0, 45, 90):
        far = GEOD.fwd(-40, 65, azimuth, 1000)[:2]
        drawn = line((-40, 65), far, crs=crs)
        places = drawn.get_coordinates().to_numpy()
        middle = geopandas.GeoSeries([Point(places.mean(axis=0))], crs=crs)
        beside = to_metres(drawn).distance(to_metres(middle, around=drawn))
        assert beside.item() < limit


@pytest.mark.parametrize("crs", [4326, 32624, 3413])
def test_x_is_east_and_y_is_north(crs: int) -> None:
    """EPSG:4326 names latitude first, which geometries do not."""
    here = geopandas.GeoSeries([Point(-38, 66)], crs=4326).to_crs(crs)
    there = geopandas.GeoSeries([Point(-37.9, 66), Point(-38, 66.1)], crs=4326).to_crs(crs)
    east, north = to_metres(there, around=here)
    assert (east.x, east.y) == (pytest.approx(4530, rel=0.01), pytest.approx(0, abs=5))
    assert (north.x, north.y) == (pytest.approx(0, abs=0.1), pytest.approx(11_150, rel=0.01))


def test_swapped_axes_change_the_result() -> None:
    drawn = geopandas.GeoSeries([LineString([(-38, 66), (-37, 66.1)])], crs=4326)
    swapped = geopandas.GeoSeries([LineString([(66, -38), (66.1, -37)])], crs=4326)
    lengths = [to_metres(lines).length.item() for lines in (drawn, swapped)]
    assert lengths[1] > 2 * lengths[0]


def test_all_compared_lie_around_the_same_place() -> None:
    one, other = line((-38, 66), (-37.9, 66)), line((-37, 66.5), (-36, 67), crs=3413)
    assert to_metres(other, around=one).crs == to_metres(one).crs
    assert to_metres(other).crs != to_metres(one).crs
    assert list(to_metres(other, around=one).index) == [0]
    gap = to_metres(one).distance(to_metres(other, around=one)).item()
    assert gap == pytest.approx(GEOD.inv(-37.9, 66, -37, 66.5)[2], rel=1e-4)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ((179.9, -78.0), (-179.9, -78.0)),
        ((0.0, 89.99), (180.0, 89.99)),
        ((90.0, 90.0), (0.0, 89.9)),
    ],
)
def test_date_line_and_poles(start: tuple[float, float], end: tuple[float, float]) -> None:
    measured = to_metres(geopandas.GeoSeries([Point(start), Point(end)], crs=4326))
    assert measured[0].distance(measured[1]) == pytest.approx(GEOD.inv(*start, *end)[2], rel=1e-6)


def test_no_lines_are_no_metres() -> None:
    empty, some = geopandas.GeoSeries([], crs=4326), line((-38, 66), (-37, 66))
    assert to_metres(empty).empty
    assert to_metres(empty, around=some).crs == to_metres(some).crs
    assert to_metres(geopandas.GeoSeries([None, LineString()], crs=3413)).crs.is_projected
    with pytest.raises(LineError, match="measure around must have at least one vertex, got none"):
        to_metres(some, around=empty)


def test_local_coordinates_are_metres_already() -> None:
    local = with_pixel_size(raster(None, Affine.identity()), 15.0)
    drawn = geopandas.GeoSeries([LineString([(0, 0), (30, 40)])], crs=local.rio.crs)
    assert to_metres(drawn) is drawn
    assert to_metres(drawn, around=drawn.buffer(1)).length.item() == 50
    for pair in ((drawn, line((0, 1), (2, 3))), (line((0, 1), (2, 3)), drawn)):
        with pytest.raises(LineError, match=r"only with lines in the same ones, got '.*' and '.*'"):
            to_metres(pair[0], around=pair[1])


def test_lines_without_metres_are_refused() -> None:
    bare = geopandas.GeoSeries([LineString([(0, 0), (1, 1)])])
    with pytest.raises(LineError, match=r"Lines need a CRS .* got none\. .*with_pixel_size"):
        to_metres(bare)
    with pytest.raises(LineError, match="Lines need a CRS"):
        to_metres(line((0, 0), (1, 1)), around=bare)
    for crs, name in ((CRS(FEET), "Plan"), (CRS(4978), "WGS 84")):
        with pytest.raises(LineError, match=f"must be in a projected .* got {name!r}"):
            to_metres(bare.set_crs(crs))


def test_places_beyond_the_earth_are_refused() -> None:
    """Metres of a map that were called degrees."""
    wrong = geopandas.GeoSeries(
        [LineString([(545_000, 7_361_000), (546_000, 7_361_000)])], crs=4326
    )
    with pytest.raises(
        LineError, match="must be places on the Earth in 'WGS 84', but some are not"
    ):
        to_metres(wrong)
    with pytest.raises(
        LineError, match="must be places on the Earth in 'WGS 84', but some are not"
    ):
        to_metres(wrong, around=line((0, 1), (1, 1)))


@settings(max_examples=30, deadline=None)
@given(
    crs=st.sampled_from([32624, 3413]),
    longitude=st.floats(-41, -37),
    latitude=st.floats(60, 80),
    sides=st.tuples(st.floats(0.5, 60), st.floats(0.5, 60)),
    turn=st.floats(0, 360),
)
def test_pixels_of_conformal_maps(
    crs: int, longitude: float, latitude: float, sides: tuple[float, float], turn: float
) -> None:
    pixel = Affine.rotation(turn) @ Affine.scale(sides[1], -sides[0])
    scale = Proj(crs).get_factors(longitude, latitude).meridional_scale
    found = pixel_size_m(centred(crs, longitude, latitude, pixel))
    assert found == pytest.approx((sides[0] / scale, sides[1] / scale), rel=1e-5)


def test_pixels_in_degrees_and_feet() -> None:
    height, width = pixel_size_m(centred(4326, -38, 66, Affine.scale(2e-4, -1e-4)))
    assert height == pytest.approx(GEOD.inv(-38, 66, -38, 66.0001)[2], rel=1e-4)
    assert width == pytest.approx(GEOD.inv(-38, 66, -37.9998, 66)[2], rel=1e-4)
    feet = pixel_size_m(centred(2263, -74, 40.7, Affine.scale(10, -10)))
    assert feet == pytest.approx((3.048, 3.048), rel=1e-4)


def test_pixels_of_a_flipped_and_cropped_raster() -> None:
    whole = centred(32624, -38, 66, Affine.scale(30, -10))
    assert pixel_size_m(whole.isel(y=slice(None, None, -1), x=slice(20, None))) == pytest.approx(
        pixel_size_m(whole), rel=1e-5
    )
    assert pixel_size_m(whole.isel(y=slice(None, None, 2)))[0] == pytest.approx(20, rel=1e-3)


def test_pixels_are_measured_without_reading_them() -> None:
    lazy = centred(3413, -38, 66, Affine.scale(10, -10)).chunk(8)
    with dask.config.set(scheduler=never):
        assert pixel_size_m(lazy) == pytest.approx((9.87, 9.87), rel=0.01)
        bare = xr.DataArray(lazy.data, dims=("y", "x"))
        assert pixel_size_m(with_pixel_size(bare, 15)) == (15, 15)


def test_pixels_without_metres_are_refused() -> None:
    with pytest.raises(LineError, match=r"Pixels need a CRS .* got none\. .*with_pixel_size"):
        pixel_size_m(raster(None, Affine.scale(10, -10)))
    with pytest.raises(LineError, match=r"Pixels must be in a projected .* got 'Plan'"):
        pixel_size_m(raster(FEET, Affine.scale(10, -10)))
    with pytest.raises(LineError, match="must be places on the Earth"):
        pixel_size_m(raster(4326, Affine.translation(500_000, 7_000_000) @ Affine.scale(10, -10)))


def test_an_image_gets_local_coordinates() -> None:
    image = xr.DataArray(np.arange(12).reshape(3, 4), dims=("y", "x"), name="image")
    local = with_pixel_size(image, 15.0)
    assert scene_transform(local) == Affine(15, 0, 0, 0, -15, 0)
    assert local.y.values.tolist() == [-7.5, -22.5, -37.5]
    assert local.x.values.tolist() == [7.5, 22.5, 37.5, 52.5]
    assert CRS.from_user_input(local.rio.crs).is_engineering
    np.testing.assert_array_equal(local, image)
    part = place(image, Affine.identity(), None)[1:, 2:]
    assert same_grid(with_pixel_size(part, 15.0), local[1:, 2:])


def test_a_pixel_size_is_given_once() -> None:
    image = raster(None, Affine.identity())
    for size in (0.0, -10.0, np.nan, np.inf):
        with pytest.raises(LineError, match=f"must be a positive number of metres, got {size}"):
            with_pixel_size(image, size)
    with pytest.raises(LineError, match=r"this one has a CRS\. Leave the size out\.$"):
        with_pixel_size(with_pixel_size(image, 10.0), 10.0)
    with pytest.raises(LineError, match=r"has a transform\. Name the CRS it is in with"):
        with_pixel_size(raster(None, Affine.scale(10, -10)), 10.0)
