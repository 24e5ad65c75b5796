"""Valley margins: the outlines of rock, as on the whole image, by their length in metres."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import pytest
import shapely
import xarray as xr
from affine import Affine
from fronts_for_tests import (
    ICE,
    NORTH_UP,
    ROCK,
    SNOW_ON_ROCK,
    WATER,
    fjord_codes,
    on_map,
    raster,
    rough_codes,
    small_chunks,
)
from skimage.measure import find_contours

from csc_xr.errors import LegendError, LineError, ParameterError
from csc_xr.fronts.margins import extract_margins
from csc_xr.legend import GLACIER, RIVER
from csc_xr.metres import to_metres


def plain_margins(image: xr.DataArray) -> set[bytes]:
    """Outlines of rock on the whole image, of any length, however they begin and run."""
    land = np.isin(image.to_numpy(), (SNOW_ON_ROCK, ROCK))
    lines = find_contours(land, 0.5, fully_connected="low")
    return {as_they_lie(shapely.LineString(on_map(line, image))) for line in lines}


def as_they_lie(line: shapely.LineString) -> bytes:
    return shapely.normalize(line).wkb


@pytest.mark.parametrize("chunks", [None, 40, (9, 150)])
@pytest.mark.parametrize("turn", [Affine.identity(), Affine.rotation(30) @ Affine.scale(2, -1)])
def test_margins_are_those_of_the_whole_image(chunks: Any, turn: Affine) -> None:
    image = raster(rough_codes(seed=3), transform=NORTH_UP @ turn, chunks=chunks)
    with small_chunks(4096, 60), dask.config.set(scheduler="synchronous"):
        margins = extract_margins(image, GLACIER, min_length_m=0)
        longer = extract_margins(image, GLACIER, min_length_m=300)
    assert {as_they_lie(line) for line in margins} == plain_margins(image)
    assert margins.crs == longer.crs == "EPSG:32624"
    lengths = to_metres(margins).length
    assert longer.to_list() == margins[lengths >= 300].to_list()
    assert 1 < len(longer) < len(margins)
    assert longer.index.tolist() == list(range(len(longer)))


def test_valley_sides_and_a_nunatak() -> None:
    codes = np.full((100, 150), ICE, np.uint8)
    codes[:20] = ROCK
    codes[:10] = SNOW_ON_ROCK  # no margin between the two
    codes[80:] = SNOW_ON_ROCK
    codes[40:60, 50:90] = ROCK
    margins = extract_margins(raster(codes), GLACIER)
    north, south, nunatak = sorted(margins, key=lambda line: line.length, reverse=True)
    assert nunatak.is_ring
    assert {north.length, south.length} == {1490.0}
    assert {line.coords[0][0] for line in (north, south)} == {500_005.0, 501_495.0}
    assert to_metres(margins).length.min() > 1000
    assert len(extract_margins(raster(codes), GLACIER, min_length_m=1300)) == 2
    only_rock = extract_margins(raster(codes), GLACIER, land=("Bedrock",))
    assert len(only_rock) == 3


def test_rock_is_on_the_left() -> None:
    codes = np.full((40, 150), ICE, np.uint8)
    codes[:20] = ROCK
    image = raster(codes)
    for turned in (image, image.isel(y=slice(None, None, -1)), image.isel(x=slice(None, None, -1))):
        (line,) = extract_margins(turned, GLACIER)
        x, y = np.asarray(line.coords).T
        assert (np.diff(x) > 0).all()  # to the east, as the rock lies in the north
        assert set(y.tolist()) == {NORTH_UP.f - 200}


def test_length_is_in_true_metres() -> None:
    """149 steps: 1490 m on the map; 1512 m or so in EPSG:3413 where that shows them as 1490."""
    codes = np.full((40, 150), ICE, np.uint8)
    codes[:20] = ROCK
    for image, true in [
        (raster(codes), 1490 * 1.0004),
        (raster(codes, transform=NORTH_UP @ Affine.scale(3)), 4470 * 1.0004),
        (raster(codes, transform=Affine(10, 0, 3e5, 0, -10, -2.575e6), crs="EPSG:3413"), 1471),
    ]:
        assert len(extract_margins(image, GLACIER, min_length_m=true - 2)) == 1
        assert len(extract_margins(image, GLACIER, min_length_m=true + 2)) == 0


def test_longest_comes_first() -> None:
    """A slanting line has more vertices to the metre than a straight one."""
    codes = np.full((150, 150), ICE, np.uint8)
    rows, columns = np.indices(codes.shape)
    codes[rows + columns < 100] = ROCK  # 1400 m
    codes[130:] = ROCK  # 1490 m
    lengths = extract_margins(raster(codes), GLACIER).length
    assert lengths.tolist() == sorted(lengths, reverse=True)


def test_no_margins() -> None:
    for code in (ICE, ROCK):
        margins = extract_margins(raster(np.full((30, 30), code, np.uint8)), GLACIER)
        assert len(margins) == 0
        assert margins.crs == "EPSG:32624"
    # Long enough nowhere
    assert len(extract_margins(raster(fjord_codes()), GLACIER, min_length_m=1e5)) == 0


def test_classes_by_code_of_another_legend() -> None:
    codes = np.full((30, 150), 1, np.uint8)
    codes[:10] = 2
    assert len(extract_margins(raster(codes), RIVER, land=(2,))) == 1
    assert len(extract_margins(raster(codes), RIVER, land=("Dry Sediment",))) == 1


def test_swap_of_the_axes_changes_the_result() -> None:
    codes = fjord_codes()
    margins, swapped = (extract_margins(raster(c), GLACIER) for c in (codes, codes.T))
    assert len(margins) >= 2
    assert not set(map(as_they_lie, margins)) & set(map(as_they_lie, swapped))


@pytest.mark.parametrize("length", [-1.0, float("nan"), float("inf")])
def test_length_that_makes_no_sense(length: float) -> None:
    with pytest.raises(ParameterError, match=f"min_length_m must be 0 or more, got {length}"):
        extract_margins(raster(fjord_codes()), GLACIER, min_length_m=length)


def test_image_that_is_not_one_of_classes() -> None:
    with pytest.raises(LineError, match=r"must have dims \(y, x\) and hold integer codes"):
        extract_margins(raster(fjord_codes().astype(float)), GLACIER)
    for codes in (fjord_codes(), np.full((9, 9), WATER, np.uint8)):
        with pytest.raises(LineError, match="need a CRS to be measured"):
            extract_margins(raster(codes, crs=None), GLACIER)
    with pytest.raises(LegendError, match="that are land must be in legend 'river'"):
        extract_margins(raster(fjord_codes()), RIVER)
