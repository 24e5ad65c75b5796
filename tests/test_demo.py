"""The demo runs as a user's image would, with a network that has not seen its fjord."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

from csc_xr.demo import BANDS, NETWORK, TRAINING_SEEDS, open_demo_network, run_demo
from csc_xr.errors import CscWarning, ParameterError
from csc_xr.export import open_result
from csc_xr.labels import find_labels
from csc_xr.legend import GLACIER
from csc_xr.record import StageTimer
from csc_xr.runs.scene import RunResult
from csc_xr.scene import find_images
from csc_xr.synthetic import fjord

SHAPE = (300, 400)
FLOOR = 0.7
"""Weighted F1 of phase two; always answering with the commonest class gives under 0.1."""


def weighted_f1(result: RunResult, phase: str) -> float:
    return float(result.scores[phase].set_index("Class").loc["Weighted_avg", "F1_score"])


def test_the_shipped_network_is_what_the_demo_needs() -> None:
    card = open_demo_network().card
    assert (card.kind, card.size, card.scale, card.bands) == ("tile", 50, 8192.0, BANDS)
    assert card.legend == GLACIER
    assert card.codes == tuple(range(8))
    assert card.provenance["seeds"] == list(TRAINING_SEEDS)
    held_out = set(card.provenance["split"]["scenes"])
    assert len(held_out | set(card.provenance["learned_scenes"])) == len(TRAINING_SEEDS)
    assert card.provenance["validation_accuracy"] > 0.95
    assert NETWORK.stat().st_size < 1_000_000


def test_the_demo_fjord_is_none_the_network_has_seen(tmp_path: Path) -> None:
    default = inspect.signature(run_demo).parameters["seed"].default
    assert default not in TRAINING_SEEDS
    with pytest.raises(ParameterError, match=r"not seen, got seed 104, .*\(100 to 109\)"):
        run_demo(tmp_path / "out", seed=104)
    assert not (tmp_path / "out").exists()


def test_a_small_demo(tmp_path: Path) -> None:
    timer, steps = StageTimer(), []
    with pytest.warns(CscWarning, match="only a few tiles"):
        result = run_demo(
            tmp_path,
            shape=SHAPE,
            patch_size=3,
            timer=timer,
            fit_progress=lambda done, _: steps.append(done),
        )
    assert all(path.exists() for path in result.outputs.values())
    image = tmp_path / "fjord_7.tif"
    assert result.outputs["image"] == image
    assert image in find_images(tmp_path)
    shipped = result.outputs["tile network"]
    assert shipped == tmp_path / "fjord_tiles.keras"
    assert shipped.read_bytes() == NETWORK.read_bytes()
    assert find_labels(image) == tmp_path / "SCLS_fjord_7.tif"
    assert {"generate", "open", "tiles", "fit", "pixels"} <= set(timer.seconds)
    assert steps

    truth = fjord(SHAPE, seed=7)
    classes = open_result(result.outputs["result"])["pixel_class"]
    np.testing.assert_array_equal(classes["x"], truth["x"])
    np.testing.assert_array_equal(classes["y"], truth["y"])
    assert set(np.unique(classes)) == set(range(1, 8))
    right = float((classes.values == truth["labels"].values).mean())
    commonest = np.bincount(truth["labels"].values.ravel()).max() / np.prod(SHAPE)
    assert right > max(FLOOR, 2 * commonest)
    assert weighted_f1(result, "pixel_class") > max(FLOOR, weighted_f1(result, "tile_class"))
