"""The scenes that fronts are tested on: their truth holds whichever way they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from front_scenes_for_tests import front_cases, open_case, transposed, true_front

from csc_xr.demo import TRAINING_SEEDS
from csc_xr.grid import scene_transform

CASES = front_cases()


def test_there_are_many_cases() -> None:
    names = [name for name, _ in CASES]
    seeds = {settings["seed"] for _, settings in CASES}
    assert len(set(names)) == len(seeds) == len(CASES) >= 32
    assert not seeds & set(TRAINING_SEEDS)


@pytest.mark.parametrize("settings", [case[1] for case in CASES], ids=[case[0] for case in CASES])
def test_truth_parts_ice_from_sea(settings: dict[str, Any]) -> None:
    dataset = open_case(settings)
    labels, (line,) = dataset["labels"].to_numpy(), true_front(dataset)
    x, y = np.asarray(line.coords).T
    transform = scene_transform(dataset)
    column, row = (x - transform.c) / transform.a, (y - transform.f) / transform.e
    # One of the coordinates is a pixel centre; along the other the vertex lies between two.
    along = (1, 0) if settings.get("transposed") else (0, 1)
    sides = []
    for step in (-0.5, 0.5):
        rows, columns = row + along[0] * step, column + along[1] * step
        sides.append(labels[np.floor(rows).astype(int), np.floor(columns).astype(int)])
    assert set(np.maximum(*sides).tolist()) == {4}
    assert set(np.minimum(*sides).tolist()) <= {1, 2, 3}


def test_glacier_lies_on_the_left_of_every_true_front() -> None:
    for _, settings in CASES[::5]:
        dataset = open_case(settings)
        step = abs(scene_transform(dataset)[0])
        (line,) = true_front(dataset)
        on_left = line.offset_curve(2 * step).interpolate(0.5, normalized=True)
        assert dataset["labels"].sel(x=on_left.x, y=on_left.y, method="nearest") == 4


def test_transposed_twice_is_the_same() -> None:
    dataset = open_case(CASES[0][1])
    twice = transposed(transposed(dataset))
    for name in ("scene", "labels", "front_x", "front_y"):
        np.testing.assert_allclose(twice[name], dataset[name], rtol=0, atol=1e-6)
    assert scene_transform(twice) == scene_transform(dataset)
