"""One scene, both phases."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_for_tests import brightness_network, noise_scene, patch_network, striped_scene
from sklearn.ensemble import RandomForestClassifier

from csc_xr.errors import CscWarning, NetworkError, ParameterError, SceneError
from csc_xr.grid import place, scene_transform
from csc_xr.training.phase_two.fitting import FitSettings
from csc_xr.workflow import ClassifySettings, check_job, classify_scene

NETWORK = brightness_network()
FAST = FitSettings(steps=120, batch_size=64, samples_per_class=200)
STRIPES = np.repeat([1, 2, 3], 32)


def fast(**changes: Any) -> ClassifySettings:
    return ClassifySettings(**{"patch_size": 3, "mode_radius": 2, "fit": FAST, **changes})


def test_stripes_are_found() -> None:
    result = classify_scene(striped_scene((72, 96)), NETWORK, settings=fast())
    assert set(result.data_vars) == {"tile_class", "pixel_class"}
    assert all(isinstance(v.data, dask.array.Array) for v in result.data_vars.values())
    assert (result["tile_class"] == STRIPES).all()
    assert (result["pixel_class"].values == STRIPES).mean() > 0.97
    for name in result.data_vars:
        assert result[name].dtype == np.uint8
        assert result[name].attrs["flag_values"] == [1, 2, 3]


@settings(max_examples=3, deadline=None)
@given(chunks=st.tuples(st.integers(4, 72), st.integers(4, 96)), threads=st.booleans())
def test_chunks_and_scheduler_do_not_matter(chunks: tuple[int, int], threads: bool) -> None:
    scene = striped_scene((72, 96))
    outputs = ("confidence", "probability", "disagreement")
    with dask.config.set(scheduler="threads" if threads else "sync"):
        one = classify_scene(scene, NETWORK, settings=fast(outputs=outputs)).compute()
        cut = scene.chunk(y=chunks[0], x=chunks[1])
        other = classify_scene(cut, NETWORK, settings=fast(outputs=outputs)).compute()
    xr.testing.assert_identical(one, other)


def test_every_output_lies_on_the_scenes_grid() -> None:
    transform = Affine(8, 3, 300, 2, -9, 700)
    scene = place(striped_scene((40, 96)), transform, "EPSG:3413")
    outputs = ("confidence", "margin", "entropy", "probability", "disagreement")
    result = classify_scene(scene, NETWORK, settings=fast(outputs=outputs))
    assert set(result.data_vars) == {"tile_class", "pixel_class", *outputs}
    assert scene_transform(result) == transform
    assert result.rio.crs == scene.rio.crs
    for dim in ("y", "x"):
        np.testing.assert_array_equal(result[dim].values, scene[dim].values)
    differ = result["tile_class"].values != result["pixel_class"].values
    np.testing.assert_array_equal(result["disagreement"].values, differ.astype(np.uint8))
    assert result["disagreement"].dtype == np.uint8


def test_nodata_stays_nodata_to_the_pixel() -> None:
    scene = striped_scene((72, 96)).copy().assign_attrs(_FillValue=0)
    holes = np.random.default_rng(0).random((72, 96)) < 0.1
    scene = scene.where(~xr.DataArray(holes, dims=("y", "x")), np.uint8(0))
    outputs = ("confidence", "probability", "disagreement")
    result = classify_scene(scene, NETWORK, settings=fast(outputs=outputs)).compute()
    for name in ("tile_class", "pixel_class"):
        np.testing.assert_array_equal(result[name].values == 0, holes)
    assert (result["probability"].values[:, holes] == 0).all()
    assert (result["confidence"].values[holes] == 0).all()
    assert (result["disagreement"].values[holes] == 0).all()


def test_random_forest_takes_the_place_of_the_network() -> None:
    forest = RandomForestClassifier(20, random_state=0)
    result = classify_scene(
        striped_scene((72, 96)), NETWORK, settings=fast(patch_size=1), classifier=forest
    )
    assert (result["pixel_class"].values == STRIPES).mean() > 0.97


def test_single_class_works_and_says_so() -> None:
    scene = noise_scene((40, 40)).copy(data=np.full((3, 40, 40), 30, np.uint8))
    with pytest.warns(CscWarning, match="Phase one found a single class, Water: all pixels"):
        result = classify_scene(scene, NETWORK, settings=fast())
    assert (result["pixel_class"] == 1).all()


def test_class_of_a_handful_of_tiles_works_and_says_so() -> None:
    scene = striped_scene((72, 96)).copy()
    scene[:, :, 64:] = 128
    scene[:, 8:16, 40:48] = 225
    with pytest.warns(CscWarning, match=r"only a few tiles of Rock \(1\)"):
        result = classify_scene(scene, NETWORK, settings=fast())
    assert set(np.unique(result["pixel_class"])) <= {1, 2, 3}


def test_patch_as_large_as_the_scene_works() -> None:
    result = classify_scene(striped_scene((9, 96)), NETWORK, settings=fast(patch_size=9))
    assert (result["pixel_class"].values > 0).all()


def test_scene_without_valid_pixels_is_refused_before_any_network_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from csc_xr.networks import runtime

    def never(*_: Any) -> None:
        raise AssertionError("a network ran")

    monkeypatch.setattr(runtime, "batch_size", lambda _: 8)
    monkeypatch.setattr(runtime, "tile_function", lambda *_: never)
    scene = noise_scene((40, 40)).copy(data=np.zeros((3, 40, 40), np.uint8))
    with pytest.raises(SceneError, match="found none: the scene is all nodata or masked"):
        classify_scene(scene.assign_attrs(_FillValue=0), NETWORK, settings=fast())


def test_errors_come_before_any_work() -> None:
    scene = striped_scene((40, 96))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something computed")

    with dask.config.set(scheduler=refuse):
        with pytest.raises(
            SceneError, match="network needs bands red, green, blue, got red, green"
        ):
            classify_scene(scene.isel(band=[0, 1]), NETWORK, settings=fast())
        with pytest.raises(ParameterError, match="patch of 15 x 15 pixels and a scene of 9 x 96"):
            classify_scene(scene[:, :9], NETWORK, settings=fast(patch_size=15))
        with pytest.raises(ParameterError, match="at least one tile of 8 x 8 pixels"):
            classify_scene(scene[:, :7], NETWORK, settings=fast())
        with pytest.raises(NetworkError, match="needs a tile network, got a patch network"):
            classify_scene(scene, patch_network(3), settings=fast())
        with pytest.raises(ParameterError, match="takes single pixels, got patch size 3"):
            check_job(scene, NETWORK, settings=fast(), classifier=RandomForestClassifier())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("patch_size", 4, "Patch size must be odd"),
        ("patch_size", -7, "Patch size must be a positive odd number"),
        ("patch_size", 17, "Patch size must be at most 15, got 17"),
        ("seed", -1, "seed must be 0 or more"),
        ("min_probability", 1.0, "min_probability must be 0 or more and below 1"),
        ("despeckle", -1, "despeckle must be 0 or more"),
        ("mode_radius", -1, "mode_radius must be 0 or more"),
        ("edge", "wrap", "edge must be 'cover' or 'blank', got 'wrap'"),
        ("outputs", ("colour",), r"outputs may hold .*, got \['colour'\]"),
    ],
)
def test_settings_are_checked(name: str, value: object, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        ClassifySettings(**{name: value})  # type: ignore[arg-type]
