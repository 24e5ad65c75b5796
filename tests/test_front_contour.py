"""The active contour: that of scikit-image, and the same over chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import dask
import dask.array as da
import numpy as np
import pytest
from fronts_for_tests import ICE, fjord_codes, plain_contour, plain_ice, raster, small_chunks
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from csc_xr.fronts import active_contour
from csc_xr.fronts.active_contour import evolve, firm_glacier
from csc_xr.fronts.settings import FrontSettings, PixelSettings, in_pixels
from csc_xr.legend import GLACIER

FEW = settings(max_examples=8, deadline=None)
TRUE_PIXEL = (10.0, 10.0)  # near enough to that of the raster below


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


def in_10_m_pixels(given: FrontSettings) -> PixelSettings:
    return in_pixels(given, GLACIER, raster(np.zeros((9, 9), np.uint8)))


def blobs(shape: tuple[int, int], *, seed: int, size: float, share: float = 0.5) -> np.ndarray:
    """Irregular regions that cover a share of the image; noise where size is 0."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), size)
    return field > np.quantile(field, 1 - share)


def firm(
    glacier: np.ndarray, given: FrontSettings, *, chunk: int, labelled: int = 4096
) -> np.ndarray:
    with small_chunks(labelled, chunk):
        return firm_glacier(da.from_array(glacier, chunk), in_10_m_pixels(given)).compute()


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(3, 60), st.integers(3, 60)),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 0.7, 1.5, 4]),
    st.integers(0, 9),
)
def test_contour_is_that_of_scikit_image(
    shape: tuple[int, int], seed: int, size: float, iterations: int
) -> None:
    glacier = blobs(shape, seed=seed, size=size)
    start = ndimage.binary_closing(glacier, np.ones((5, 5))) | blobs(shape, seed=seed + 1, size=2)
    far = 3 * iterations + 1  # what lies beyond the image is another matter
    start, glacier = (np.pad(mask, far, mode="symmetric") for mask in (start, glacier))
    inside = (slice(far, -far), slice(far, -far))
    found, expected = evolve(start, glacier, iterations), plain_contour(start, glacier, iterations)
    np.testing.assert_array_equal(found[inside], expected[inside])


def test_contour_far_from_the_border_of_the_image() -> None:
    glacier = blobs((120, 130), seed=3, size=2)
    start = ndimage.binary_dilation(glacier, iterations=3)
    found, expected = evolve(start, glacier, 30), plain_contour(start, glacier, 30)
    inside = (slice(50, -50), slice(50, -50))
    assert (found[inside] != start[inside]).sum() > 20
    np.testing.assert_array_equal(found[inside], expected[inside])


def test_published_balloon_never_acts() -> None:
    """Without it the contour is the same, which is why there is none."""
    codes = fjord_codes()
    glacier = codes == ICE
    start = ndimage.binary_dilation(glacier, iterations=4)
    with_balloon = plain_contour(start, glacier, 10)
    np.testing.assert_array_equal(with_balloon, plain_contour(start, glacier, 10, balloon=0.0))


def test_what_was_given_is_left_alone() -> None:
    glacier = blobs((40, 40), seed=1, size=2)
    start = ndimage.binary_dilation(glacier, iterations=2)
    before = start.copy(), glacier.copy()
    assert (evolve(start, glacier, 3) != start).any()
    np.testing.assert_array_equal((start, glacier), before)
    np.testing.assert_array_equal(evolve(start, glacier, 0), start)


@FEW
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(50, 90), st.integers(50, 90)),
    size=st.sampled_from([0, 2, 6]),
    margin=st.integers(2, 4),
    closing=st.integers(0, 6),
    iterations=st.integers(0, 8),
    chunk=st.integers(20, 50),
)
def test_firm_glacier_is_that_of_the_whole_image(
    seed: int,
    shape: tuple[int, int],
    size: float,
    margin: int,
    closing: int,
    iterations: int,
    chunk: int,
) -> None:
    """Chunks thinner than the halo are joined, so they are among these."""
    glacier = blobs(shape, seed=seed, size=size, share=0.4)
    given = FrontSettings(margin_m=10.0 * margin, closing_m=20.0 * closing, iterations=iterations)
    found = firm(glacier, given, chunk=chunk, labelled=55)
    np.testing.assert_array_equal(found, plain_ice(glacier, given, TRUE_PIXEL))


def test_firm_glacier_in_pixels_that_are_not_square() -> None:
    glacier = blobs((70, 90), seed=5, size=3)
    given = FrontSettings(margin_m=40, closing_m=120, iterations=4)
    pixels = replace(in_10_m_pixels(given), margin=(4, 2), closing=(6, 3))
    with small_chunks(100, 30):
        found = firm_glacier(da.from_array(glacier, 30), pixels).compute()
    np.testing.assert_array_equal(found, plain_ice(glacier, given, (10.0, 20.0)))
    assert (found != plain_ice(glacier, given, (20.0, 10.0))).any()


@pytest.mark.parametrize("chunk", [3, 100])
def test_firm_glacier_in_chunks_thinner_than_the_halo(chunk: int) -> None:
    glacier = blobs((41, 43), seed=7, size=2)
    given = FrontSettings(margin_m=20, closing_m=40, iterations=10)  # halo of 32
    np.testing.assert_array_equal(
        firm(glacier, given, chunk=chunk), plain_ice(glacier, given, TRUE_PIXEL)
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (2, 2), (3, 3), (9, 25), (20, 20)])
def test_image_smaller_than_the_halo(shape: tuple[int, int]) -> None:
    every = np.ones(shape, bool)
    assert firm(every, FrontSettings(), chunk=4).all()
    assert not firm(~every, FrontSettings(), chunk=4).any()


@pytest.mark.parametrize("margin_m", [20, 30, 10, 0])
def test_straight_edge_stays_where_it_is(margin_m: float) -> None:
    """The edge pulls an outline nearer than 2 pixels to its other side; that is made up for."""
    below, right = np.indices((60, 60))
    for glacier in (right < 30, below < 30, right + below < 60, right > below + 3):
        given = FrontSettings(margin_m=margin_m, closing_m=40, iterations=10)
        inside = (slice(10, -10), slice(10, -10))
        np.testing.assert_array_equal(firm(glacier, given, chunk=60)[inside], glacier[inside])


@pytest.mark.parametrize(
    ("shape", "seed"),
    [((113, 7), 1), ((9, 150), 2), ((8, 200), 3)],
)
def test_strip_narrower_than_the_halo(shape: tuple[int, int], seed: int) -> None:
    for closing_m in (60, 100):
        given = FrontSettings(closing_m=closing_m, iterations=20)
        glacier = blobs(shape, seed=seed, size=3)
        whole = firm(glacier, given, chunk=1000)
        np.testing.assert_array_equal(firm(glacier, given, chunk=20), whole)


def test_chunks_without_an_edge_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 6 x 6 chunks, an edge down the middle of the fourth column reaches that alone."""
    glacier = np.zeros((240, 240), bool)
    glacier[:, :140] = True
    given = FrontSettings(margin_m=20, closing_m=40, iterations=3)
    seen: list[tuple[int, ...]] = []

    def counted(level_set: np.ndarray, glacier: np.ndarray, iterations: int) -> np.ndarray:
        seen.append(level_set.shape)
        return evolve(level_set, glacier, iterations)

    monkeypatch.setattr(active_contour, "evolve", counted)
    np.testing.assert_array_equal(firm(glacier, given, chunk=40), glacier)
    assert seen == [(68, 68)] * 6  # with a halo of 14


def test_inlets_are_closed_and_spikes_go() -> None:
    glacier = np.zeros((80, 80), bool)
    glacier[:, :40] = True
    glacier[36:44, 20:40] = False  # an inlet 80 m wide
    glacier[20, 40:60] = True  # a spike 10 m wide
    given = FrontSettings(margin_m=20, closing_m=80, iterations=30)
    found = firm(glacier, given, chunk=80)
    assert found[36:44, 20:30].all()
    assert not found[20, 48:].any()  # the foot of it is given back
    assert not firm(glacier, replace(given, closing_m=0), chunk=80)[36:44, 30:].any()
