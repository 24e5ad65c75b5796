"""Generated scenes: chunks do not matter, and the truth is exact."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from csc_xr.errors import ParameterError
from csc_xr.legend import GLACIER, RIVER
from csc_xr.synthetic import FrontShape, Tributary, fjord, river

CLASSES = (0, 23167, 12883, 8251, 20065, 29666, 52314, 53654)
MEANS = (4420.4, 4436.0, 4881.5, 4006.5)
"""Pixels of each class and mean of each band of one scene, which must stay as they are."""

SHAPES: tuple[FrontShape, ...] = ("straight", "concave", "angled", "rough")
sides = st.integers(32, 300)


@pytest.fixture(scope="module")
def scenes() -> list[xr.Dataset]:
    """Three scenes of a usual size, computed."""
    return [fjord((1000, 1400), seed=seed).compute() for seed in range(3)]


@settings(max_examples=8, deadline=None)
@given(
    shape=st.tuples(sides, sides),
    chunks=st.tuples(st.integers(30, 400), st.integers(30, 400)),
    seed=st.integers(0, 2**40),
    margin=st.sampled_from((0.0, 0.1)),
)
def test_fjord_does_not_depend_on_chunks(
    shape: tuple[int, int], chunks: tuple[int, int], seed: int, margin: float
) -> None:
    whole = fjord(shape, seed=seed, chunks=10_000, nodata_margin=margin)
    parts = fjord(shape, seed=seed, chunks=chunks, nodata_margin=margin)
    assert whole["labels"].data.npartitions == 1
    xr.testing.assert_identical(whole.compute(), parts.compute())


@settings(max_examples=6, deadline=None)
@given(
    shape=st.tuples(sides, sides),
    chunks=st.tuples(st.integers(30, 400), st.integers(30, 400)),
    seed=st.integers(0, 2**40),
)
def test_river_does_not_depend_on_chunks(
    shape: tuple[int, int], chunks: tuple[int, int], seed: int
) -> None:
    whole = river(shape, seed=seed, chunks=10_000)
    xr.testing.assert_identical(whole.compute(), river(shape, seed=seed, chunks=chunks).compute())


def test_any_slice_equals_the_same_part_of_the_whole() -> None:
    scene = fjord((300, 411), seed=5, chunks=128)["scene"]
    whole = scene.to_numpy()
    for rows, columns in (
        (slice(3, 290), slice(7, 401)),
        (slice(101, 102), slice(None)),
        (slice(1, 300, 3), slice(5, None, 7)),
        (slice(None, None, -1), slice(None)),
        (slice(4, 4), slice(None)),
    ):
        np.testing.assert_array_equal(scene[:, rows, columns].to_numpy(), whole[:, rows, columns])
    np.testing.assert_array_equal(scene.sel(band="nir").to_numpy(), whole[3])


@pytest.mark.parametrize("scene", [fjord, river])
def test_same_seed_same_graph_other_seed_other_scene(scene: object) -> None:
    make = fjord if scene is fjord else river
    first, again, other = (make((90, 120), seed=seed) for seed in (1, 1, 2))
    assert first["scene"].data.name == again["scene"].data.name
    assert first["scene"].data.name != make((90, 120), seed=1, chunks=50)["scene"].data.name
    xr.testing.assert_identical(first.compute(), again.compute())
    assert (first["labels"] != other["labels"]).mean() > 0.02
    assert (first["scene"] != other["scene"]).mean() > 0.9


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("computed")

    with dask.config.set(scheduler=refuse):
        dataset = fjord((10980, 10980), seed=1)
        river((5000, 5000))
        with pytest.raises(RuntimeError, match="computed"):
            dataset["labels"][0, 0].compute()
    assert dataset["scene"].chunks[1][0] == 1024
    corner = dataset["labels"][5000:5020, 5000:5020].to_numpy()
    assert corner.shape == (20, 20)


def test_grid_and_attributes() -> None:
    origin = (400000.0, 7000000.0)
    dataset = fjord((50, 80), pixel_size=20.0, crs="EPSG:32622", origin=origin)
    scene, labels = dataset["scene"], dataset["labels"]
    assert scene.dims == ("band", "y", "x")
    assert list(scene["band"].to_numpy()) == ["red", "green", "blue", "nir"]
    assert (scene.dtype, labels.dtype) == (np.uint16, np.uint8)
    assert scene.attrs["scale"] == 8192.0
    assert scene.rio.crs.to_epsg() == labels.rio.crs.to_epsg() == 32622
    assert scene["spatial_ref"].attrs["GeoTransform"] == "400000.0 20.0 0.0 7000000.0 0.0 -20.0"
    assert scene["x"].to_numpy()[[0, -1]].tolist() == [400010.0, 401590.0]
    assert scene["y"].to_numpy()[[0, -1]].tolist() == [6999990.0, 6999010.0]
    assert scene.rio.nodata is None
    for name, value in GLACIER.flag_attributes().items():
        assert labels.attrs[name] == value
    assert dataset.attrs["front_shape"] in SHAPES


def test_river_is_a_plain_image() -> None:
    dataset = river((200, 300), seed=3).compute()
    scene, labels = dataset["scene"], dataset["labels"]
    assert (scene.dtype, scene.sizes["band"], scene.attrs["scale"]) == (np.uint8, 3, 255.0)
    assert scene.rio.crs is None
    assert scene["x"].to_numpy()[:2].tolist() == [0.5, 1.5]
    assert labels.attrs["flag_meanings"] == RIVER.flag_attributes()["flag_meanings"]
    assert set(np.unique(labels)) == {1, 2, 3}
    red, green, _ = (scene.to_numpy().astype(float)[band] for band in range(3))
    plants = labels.to_numpy() == 3
    assert (green - red)[plants].mean() > 10 > (green - red)[~plants].mean()


def test_every_class_covers_at_least_two_per_cent(scenes: list[xr.Dataset]) -> None:
    for dataset in scenes:
        labels = dataset["labels"].to_numpy()
        share = np.bincount(labels.ravel(), minlength=8) / labels.size
        assert share.size == 8
        assert share[0] == 0
        assert share[1:].min() > 0.02


def test_spectra_overlap_but_tell_something(scenes: list[xr.Dataset]) -> None:
    for dataset in scenes:
        pixels = dataset["scene"].to_numpy().reshape(4, -1).T[::61].astype(float)
        labels = dataset["labels"].to_numpy().ravel()[::61]
        means = np.stack([pixels[labels == code].mean(0) for code in GLACIER.codes])
        nearest = ((pixels[:, None] - means) ** 2).sum(2).argmin(1) + 1
        assert 0.35 < (nearest == labels).mean() < 0.9


def test_digital_numbers_are_those_of_reflectance(scenes: list[xr.Dataset]) -> None:
    for dataset in scenes:
        red = dataset["scene"].sel(band="red").to_numpy()
        labels = dataset["labels"].to_numpy()
        assert 200 < np.median(red[labels == 1]) < 1200
        assert 3000 < np.median(red[labels == 4]) < 7000
        assert 6500 < np.median(red[labels == 5]) < 11000
        assert red.min() > 0


@pytest.mark.parametrize("front_shape", SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("melange", [True, False])
def test_front_parts_ice_from_sea(front_shape: FrontShape, seed: int, melange: bool) -> None:
    dataset = fjord((500, 700), seed=seed, front_shape=front_shape, melange=melange).compute()
    upwards = bool(dataset["front_y"][0] < dataset["front_y"][-1])
    if upwards:  # the glacier is on the left of the line
        dataset = dataset.isel(front_vertex=slice(None, None, -1))
    labels, y = dataset["labels"], dataset["front_y"]
    sides = [labels.sel(x=dataset["front_x"] + step, y=y, method="nearest") for step in (-15, 15)]
    # Right next to the fjord walls the offset points may lie on rock.
    left, right = (side.to_numpy()[5:-5] for side in sides)
    ice, sea = (left, right) if upwards else (right, left)
    assert (ice == 4).mean() > 0.97
    assert (sea == (3 if melange else 2)).mean() > 0.97
    assert np.unique(np.diff(y)).tolist() == [-10.0]
    # The line reaches both walls: rock lies beyond its ends.
    rows = np.searchsorted(-labels["y"].to_numpy(), -y.to_numpy()[[0, -1]])
    ends = dataset["front_x"].to_numpy()[[0, -1]]
    for row, x in ((rows[0] - 1, ends[0]), (rows[1] + 1, ends[1])):
        assert 7 in labels[int(row)].sel(x=slice(x - 60, x + 60))


TRIBUTARIES: tuple[Tributary, ...] = ("joining", "land", "fjord")
ALL = {"nunataks": 3, "tributaries": TRIBUTARIES, "icebergs": 4, "lakes": 3}
places = st.fixed_dictionaries(
    {
        "shape": st.sampled_from([(300, 400), (400, 500), (500, 450), (430, 600)]),
        "seed": st.integers(0, 2**40),
        "front_shape": st.sampled_from(SHAPES),
        "front_position": st.floats(0.42, 0.62),
        "melange": st.booleans(),
        "tongue": st.booleans(),
    }
)


def pixel_of(dataset: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, with fractions, of the vertices of the true front."""
    step = float(dataset["x"][1] - dataset["x"][0])
    rows = (float(dataset["y"][0]) - dataset["front_y"].to_numpy()) / step
    return rows, (dataset["front_x"].to_numpy() - float(dataset["x"][0])) / step


@example(
    place={
        "shape": (500, 450),
        "seed": 25969,
        "front_shape": "concave",
        "front_position": 0.47560797809375915,
        "melange": False,
        "tongue": True,
    },
    grid={},
)
@settings(max_examples=12, deadline=None)
@given(place=places, grid=st.sampled_from([{}, {"pixel_size": 30.0, "crs": "EPSG:3413"}]))
def test_true_front_lies_between_ice_and_sea(place: dict[str, object], grid: dict) -> None:
    dataset = fjord(**place, **grid, **ALL)
    labels = dataset["labels"].to_numpy()
    rows, columns = pixel_of(dataset)
    assert len(rows) > 0.15 * labels.shape[0]
    row = np.rint(rows).astype(int)
    np.testing.assert_allclose(rows, row, atol=1e-6)
    # Of the pixels whose centres lie left and right of a vertex, one is ice and one is sea; the
    # pixel that a vertex lies in the middle of may be either.
    left, right = np.ceil(columns - 1e-6).astype(int) - 1, np.floor(columns + 1e-6).astype(int) + 1
    first, second = labels[row, left], labels[row, right]
    low, high = np.minimum(first, second), np.maximum(first, second)
    assert set(low.tolist()) <= {1, 2, 3}
    assert set(high.tolist()) == {4}
    # Down the scene with the glacier on the right of the image, up with it on the left.
    np.testing.assert_array_equal(np.diff(row), 1 if (second == 4).all() else -1)
    assert dataset.attrs["tongue"] == bool({0, labels.shape[0] - 1} & {row[0], row[-1]})


@settings(max_examples=6, deadline=None)
@given(place=places)
def test_features_change_only_what_they_are(place: dict[str, object]) -> None:
    plain = fjord(**place)
    before = plain["labels"].to_numpy()
    ice, sea = np.isin(before, (4, 5)), np.isin(before, (1, 2, 3))

    def changed(**feature: object) -> tuple[np.ndarray, np.ndarray]:
        dataset = fjord(**place, **feature)
        np.testing.assert_array_equal(dataset["front_x"], plain["front_x"])
        after = dataset["labels"].to_numpy()
        assert (after != before).any() or "icebergs" in feature
        return after, after != before

    after, new = changed(nunataks=3)
    assert (before[new] >= 4).all()
    assert set(after[new]) <= {6, 7}
    after, new = changed(icebergs=4)
    assert sea[new].all()
    assert set(after[new]) <= {4}
    assert not (ndimage.binary_dilation(new, np.ones((5, 5))) & ~sea).any()
    after, new = changed(lakes=3)
    assert (before[new] >= 6).all()
    assert set(after[new]) <= {1}
    for tributary in TRIBUTARIES:
        after, new = changed(tributaries=[tributary])
        # Only the glacier that ends in the fjord covers any of the sea.
        assert tributary == "fjord" or not sea[new].any()
        assert not ice[new].any() or set(before[new & ice]) == {5}


def test_features_are_where_they_are_said_to_be() -> None:
    settings = {"shape": (400, 500), "seed": 207, "front_position": 0.45}
    plain, full = fjord(**settings), fjord(**settings, **ALL)
    before, after = plain["labels"].to_numpy(), full["labels"].to_numpy()
    rows, columns = pixel_of(full)
    ice = np.isin(after, (4, 5))
    regions, _ = ndimage.label(ice)
    trunk = regions[np.rint(rows).astype(int), np.floor(columns).astype(int)].max()
    assert trunk
    own = [fjord(**settings, tributaries=[kind])["labels"].to_numpy() for kind in TRIBUTARIES]
    for kind, labels in zip(TRIBUTARIES, own, strict=True):
        valley = np.isin(labels, (4, 5)) & (before >= 6)
        assert valley.sum() > 500
        pieces, _ = ndimage.label(np.isin(labels, (4, 5)))
        trunk = pieces[np.isin(before, (4, 5))].max()
        assert (pieces[valley] == trunk).mean() > 0.9 if kind == "joining" else True
        touches = ndimage.binary_dilation(valley, iterations=3) & np.isin(before, (1, 2, 3))
        assert touches.any() == (kind == "fjord")
    lakes = (after == 1) & (before >= 6)
    assert lakes[0].any() or lakes[-1].any()


def test_icebergs_drift_and_rocks_stay() -> None:
    place = {"shape": (300, 400), "seed": 4, "front_shape": "straight", **ALL}
    early, late = (
        fjord(**place, date_seed=date, front_position=position)["labels"].to_numpy()
        for date, position in ((10, 0.55), (11, 0.5))
    )
    np.testing.assert_array_equal(early >= 6, late >= 6)
    seaward = (np.isin(early, (1, 2, 3)) | np.isin(late, (1, 2, 3))) & ((early == 4) | (late == 4))
    assert (early[seaward] != late[seaward]).any()


@pytest.mark.parametrize("tongue", [True, False])
def test_features_do_not_depend_on_chunks(tongue: bool) -> None:
    whole, parts = (
        fjord((301, 399), seed=6, tongue=tongue, chunks=chunks, **ALL) for chunks in (999, (70, 93))
    )
    xr.testing.assert_identical(whole.compute(), parts.compute())


def test_scenes_without_features_stay_as_they_were() -> None:
    dataset = fjord((400, 500), seed=3, date_seed=9).compute()
    classes = np.bincount(dataset["labels"].to_numpy().ravel(), minlength=8)
    assert classes == pytest.approx(CLASSES, abs=5)
    means = dataset["scene"].mean(("y", "x")).to_numpy()
    assert means == pytest.approx(MEANS, abs=0.5)


def test_melange_can_be_left_out() -> None:
    assert 3 in fjord((300, 400), seed=2)["labels"].to_numpy()
    assert 3 not in fjord((300, 400), seed=2, melange=False)["labels"].to_numpy()


def test_series_moves_the_front_and_keeps_the_land() -> None:
    early, late = (
        fjord((400, 600), seed=4, date_seed=date, front_position=place, front_shape="straight")
        for date, place in ((10, 0.6), (11, 0.5))
    )
    before, after = early["labels"].to_numpy(), late["labels"].to_numpy()
    np.testing.assert_array_equal(before >= 6, after >= 6)
    np.testing.assert_array_equal(before == 5, after == 5)
    retreat = abs(float(early["front_x"].mean() - late["front_x"].mean()))
    assert retreat == pytest.approx(0.1 * 600 * 10, rel=0.2)
    assert (early["scene"] != late["scene"]).mean() > 0.9


def test_noise_is_white_and_of_the_deviation_asked_for() -> None:
    clean, noisy = (fjord((200, 200), noise=noise)["scene"].astype(float) for noise in (0, 50))
    error = (noisy - clean).to_numpy()
    assert error.std(axis=(1, 2)) == pytest.approx(50, rel=0.03)
    for first, second in ((error[0], error[1]), (error[:, 1:], error[:, :-1])):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_nodata_wedge_is_blank_in_scene_and_labels() -> None:
    dataset = fjord((300, 400), seed=3, nodata_margin=0.2).compute()
    blank = dataset["labels"].to_numpy() == 0
    assert blank.mean() == pytest.approx(0.2, abs=0.01)
    np.testing.assert_array_equal((dataset["scene"].to_numpy() == 0).all(0), blank)
    np.testing.assert_array_equal((dataset["scene"].to_numpy() == 0).any(0), blank)
    assert dataset["scene"].rio.nodata == 0
    assert len(np.unique(blank.sum(1))) > 10


def test_unusable_settings_are_named() -> None:
    with pytest.raises(ParameterError, match=r"shape must be rows and columns of at least 32"):
        fjord((31, 100))
    with pytest.raises(ParameterError, match=r"seed must be an integer of at least 0, got -1"):
        fjord((50, 50), seed=-1)
    with pytest.raises(ParameterError, match=r"date_seed must be an integer"):
        fjord((50, 50), date_seed=1.5)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"front_position must lie in 0.2 to 0.9, got 1"):
        fjord((50, 50), front_position=1)
    with pytest.raises(ParameterError, match=r"front_shape must be one of straight, .*'round'"):
        fjord((50, 50), front_shape="round")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"nunataks must lie in 0 to 20, got 21"):
        fjord((50, 50), nunataks=21)
    with pytest.raises(ParameterError, match=r"icebergs must be an integer of at least 0"):
        fjord((50, 50), icebergs=True)
    with pytest.raises(ParameterError, match=r"lakes must lie in 0 to 20"):
        fjord((50, 50), lakes=100)
    with pytest.raises(ParameterError, match=r"tributaries must be any of joining, .* got 'j'"):
        fjord((50, 50), tributaries="joining")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"with nunataks .* must lie in 0.42 to 0.62"):
        fjord((50, 50), nunataks=1, front_position=0.3)
    with pytest.raises(ParameterError, match=r"nodata_margin must lie in 0 to 0.5"):
        fjord((50, 50), nodata_margin=0.6)
    with pytest.raises(ParameterError, match=r"pixel_size must lie in"):
        fjord((50, 50), pixel_size=0)
    with pytest.raises(ParameterError, match=r"crs must be a CRS such as"):
        fjord((50, 50), crs="nowhere")
    with pytest.raises(ParameterError, match=r"chunks must be 1 or more"):
        river((50, 50), chunks=0)
    with pytest.raises(ParameterError, match=r"noise must lie in 0 to 100, got nan"):
        river((50, 50), noise=float("nan"))
