"""Samples depend on position and seed alone."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_for_tests import BANDS, noise_scene

from csc_xr.draws import draw_positions
from csc_xr.errors import ParameterError, SceneError
from csc_xr.priorities import pixel_priority
from csc_xr.training.phase_two.sampling import draw_samples


def classes_like(scene: xr.DataArray, seed: int = 0) -> xr.DataArray:
    random = np.random.default_rng(seed)
    shape = (scene.sizes["y"], scene.sizes["x"])
    codes = random.choice(4, size=shape, p=[0.2, 0.6, 0.19, 0.01]).astype(np.uint8)
    return xr.DataArray(codes, dims=("y", "x")).chunk(y=scene.sizes["y"], x=scene.sizes["x"])


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(7, 60), st.integers(7, 60)),
    chunks=st.tuples(st.integers(4, 60), st.integers(4, 60)),
    per_class=st.integers(1, 200),
    patch_size=st.sampled_from([1, 3, 7]),
    seed=st.integers(0, 2**40),
)
def test_chunks_do_not_matter(
    shape: tuple[int, int], chunks: tuple[int, int], per_class: int, patch_size: int, seed: int
) -> None:
    scene = noise_scene(shape, holes=0.1)
    classes = classes_like(scene)
    arguments = {"bands": BANDS, "patch_size": patch_size, "per_class": per_class, "seed": seed}
    one = draw_samples(scene, classes, **arguments)  # type: ignore[arg-type]
    cut = {"y": chunks[0], "x": chunks[1]}
    other = draw_samples(scene.chunk(cut), classes.chunk(cut), **arguments)  # type: ignore[arg-type]
    for name in ("codes", "rows", "columns", "patches"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(7, 40), st.integers(7, 40)),
    per_class=st.integers(1, 300),
    seed=st.integers(0, 9),
)
def test_draws_equal_the_plain_way(shape: tuple[int, int], per_class: int, seed: int) -> None:
    """Sort all pixels of each class by priority, take the first."""
    scene = noise_scene(shape)
    classes = classes_like(scene)
    found = draw_samples(scene, classes, bands=BANDS, patch_size=3, per_class=per_class, seed=seed)
    rows, columns = np.indices(shape)
    priority = pixel_priority(rows, columns, seed)
    codes = classes.values
    expected = set()
    for code in (1, 2, 3):
        order = np.sort(priority[codes == code])[:per_class]
        expected |= {(code, *np.argwhere(priority == p)[0].tolist()) for p in order}
    drawn = set(zip(found.codes.tolist(), found.rows.tolist(), found.columns.tolist(), strict=True))
    assert drawn == expected
    assert len(found.codes) == len(expected)
    padded = np.pad(scene.values, ((0, 0), (1, 1), (1, 1)), mode="symmetric")
    for patch, row, column in zip(found.patches, found.rows, found.columns, strict=True):
        np.testing.assert_array_equal(
            patch.transpose(2, 0, 1), padded[:, row : row + 3, column : column + 3]
        )


def test_rows_and_columns_are_not_swapped() -> None:
    """A scene that is not square: every sample's patch centre is the pixel it names."""
    scene = noise_scene((20, 90))
    found = draw_samples(
        scene, classes_like(scene), bands=BANDS, patch_size=5, per_class=400, seed=1
    )
    assert found.columns.max() > 20
    centres = found.patches[:, 2, 2]
    np.testing.assert_array_equal(centres, scene.values[:, found.rows, found.columns].T)


def test_classes_are_balanced_as_far_as_there_are_pixels() -> None:
    scene = noise_scene((60, 60))
    classes = classes_like(scene)
    there = np.bincount(classes.values.ravel(), minlength=4)
    found = draw_samples(scene, classes, bands=BANDS, patch_size=1, per_class=300, seed=0)
    assert found.counts() == {1: 300, 2: 300, 3: min(300, there[3])}


def test_seeds_and_position_decide() -> None:
    rows, columns = np.indices((50, 70))
    one, other = (pixel_priority(rows, columns, seed) for seed in (0, 1))
    assert len(np.unique(one)) == one.size
    assert (one != other).all()
    # uniform: the lowest half holds about half of any part of the scene
    low = one < np.uint64(2**63)
    assert abs(low[:25].mean() - 0.5) < 0.05
    assert abs(low[:, ::2].mean() - 0.5) < 0.05


def test_invalid_pixels_in_patches_are_zero() -> None:
    scene = noise_scene((30, 30)).assign_attrs(_FillValue=7)
    values = scene.values
    found = draw_samples(
        scene, classes_like(scene), bands=BANDS, patch_size=3, per_class=100, seed=0
    )
    invalid = (values == 7).any(0)
    assert invalid.any()
    blank = np.where(invalid, 0, values)
    padded = np.pad(blank, ((0, 0), (1, 1), (1, 1)), mode="symmetric")
    for patch, row, column in zip(found.patches, found.rows, found.columns, strict=True):
        np.testing.assert_array_equal(
            patch.transpose(2, 0, 1), padded[:, row : row + 3, column : column + 3]
        )


def test_memory_limit_thins_the_largest_classes() -> None:
    scene = noise_scene((60, 60))
    patch_bytes = 5 * 5 * 3
    found = draw_samples(
        scene, classes_like(scene), bands=BANDS, patch_size=5, per_class=1000, seed=0,
        memory_limit=200 * patch_bytes,
    )  # fmt: skip
    assert found.patches.nbytes <= 200 * patch_bytes
    counts = found.counts()
    everything = draw_samples(
        scene, classes_like(scene), bands=BANDS, patch_size=5, per_class=1000, seed=0
    ).counts()
    assert counts[3] == everything[3]
    assert counts[1] == counts[2] > 60


def test_samples_are_ordered_by_priority() -> None:
    scene = noise_scene((30, 30))
    found = draw_positions(classes_like(scene), per_class=50, seed=3)
    assert (np.diff(found["priority"].astype(object)) > 0).all()


def test_errors() -> None:
    scene = noise_scene((20, 30))
    nothing = classes_like(scene) * np.uint8(0)
    with pytest.raises(SceneError, match="pixels with a class to learn from, but phase one gave"):
        draw_samples(scene, nothing, bands=BANDS, patch_size=3, per_class=5, seed=0)
    with pytest.raises(ParameterError, match="per_class must be 1 or more, got 0"):
        draw_samples(scene, nothing, bands=BANDS, patch_size=3, per_class=0, seed=0)
    with pytest.raises(ParameterError, match="patch of 21 x 21 pixels and a scene of 20 x 30"):
        draw_samples(scene, nothing, bands=BANDS, patch_size=21, per_class=1, seed=0)
