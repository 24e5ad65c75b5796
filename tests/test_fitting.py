"""Phase two's fit."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from networks_for_tests import BANDS, LEGEND, noise_scene
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import LinearSVC

from csc_xr.errors import ParameterError
from csc_xr.inference import classify_pixels
from csc_xr.training.phase_two.fitting import (
    FitSettings,
    class_shares,
    fit_patch_network,
    fit_pixel_classifier,
)
from csc_xr.training.phase_two.sampling import Samples

FAST = FitSettings(steps=60, batch_size=64)
SHARES = {1: 0.5, 2: 0.3, 3: 0.2}


def bright_samples(size: int, *, n: int = 300, classes: int = 3, seed: int = 0) -> Samples:
    """Patches whose brightness tells their class."""
    random = np.random.default_rng(seed)
    codes = random.integers(1, classes + 1, n).astype(np.uint8)
    level = np.array([0, 40, 128, 215])[codes]
    patches = random.normal(level[:, None, None, None], 15, (n, size, size, 3))
    where = np.arange(n)
    return Samples(codes, where, where, np.clip(patches, 0, 255).astype(np.uint8))


def fit(samples: Samples, *, seed: int = 0, settings: FitSettings = FAST) -> tuple:
    return fit_patch_network(
        samples, bands=BANDS, scale=255.0, legend=LEGEND, class_shares=SHARES, seed=seed,
        settings=settings,
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 3, 5])
def test_learns_what_is_plain_to_see(size: int) -> None:
    network, report = fit(bright_samples(size))
    assert report.validation_accuracy > 0.95
    assert report.steps == 60
    assert report.samples == bright_samples(size).counts()
    assert (network.card.kind, network.card.size, network.card.bands) == ("patch", size, BANDS)
    assert network.card.provenance["samples"]["1"] > 50


def test_same_seed_same_weights() -> None:
    samples = bright_samples(3)
    one, again, other = (fit(samples, seed=seed)[0] for seed in (1, 1, 2))
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_weights_do_not_depend_on_the_number_of_cores() -> None:
    """The same fit in a process of its own that may use one core only."""
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from test_fitting import bright_samples, fit\n"
        "print(fit(bright_samples(5), seed=1)[0].fingerprint)"
    )
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system cannot pin a process")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=os.path.dirname(__file__), check=True,  # noqa: PTH120
        capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )  # fmt: skip
    assert done.stdout.split()[-1] == fit(bright_samples(5), seed=1)[0].fingerprint


def test_early_stopping_cannot_end_a_fit_before_it_has_begun() -> None:
    """Few samples, one step an epoch: epochs pass at once, steps do not."""
    samples = bright_samples(3, n=40)
    settings = FitSettings(steps=400, batch_size=256, patience=1)
    _, report = fit(samples, settings=settings)
    assert 100 <= report.steps < 400
    assert report.validation_accuracy > 0.9


def test_steps_follow_the_number_of_classes() -> None:
    assert [FitSettings().steps_for(n) for n in (1, 3, 7)] == [300, 300, 700]
    assert FitSettings(steps=20).steps_for(7) == 20


def test_patience_returns_the_best_weights() -> None:
    samples = bright_samples(3)
    network, report = fit(samples, settings=FitSettings(steps=300, batch_size=64, patience=50))
    assert report.steps < 300
    assert report.validation_accuracy >= max(a for _, a in report.history) - 0.005
    assert network.card.provenance["steps"] == report.steps


def test_class_frequency_moves_the_border_between_classes() -> None:
    """Where two classes look alike, the more frequent one wins."""
    random = np.random.default_rng(0)
    codes = np.tile(np.array([1, 2], np.uint8), 200)
    patches = random.normal(128, 20, (400, 1, 1, 3)).clip(0, 255).astype(np.uint8)
    where = np.arange(400)
    samples = Samples(codes, where, where, patches)
    scene = noise_scene((20, 20)).copy(data=np.full((3, 20, 20), 128, np.uint8))
    found = []
    for shares in ({1: 0.99, 2: 0.01}, {1: 0.01, 2: 0.99}):
        network, _ = fit_patch_network(
            samples, bands=BANDS, scale=255.0, legend=LEGEND, class_shares=shares, seed=0,
            settings=FitSettings(steps=30, frequency_power=1.0),
        )  # fmt: skip
        found.append(np.unique(classify_pixels(scene, network)["pixel_class"]).tolist())
    assert found == [[1], [2]]


def test_frequency_shift_is_exact() -> None:
    samples = bright_samples(3)
    plain, shifted = (
        fit(samples, settings=FitSettings(steps=20, frequency_power=power))[0]
        for power in (0.0, 0.5)
    )
    batch = samples.patches[:50].astype(np.float32) / 255
    expected = plain.model.predict(batch, verbose=0)
    for code, share in SHARES.items():
        expected[:, code] *= share**0.5
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(shifted.model.predict(batch, verbose=0), expected, atol=1e-5)


def test_only_classes_with_samples_are_predicted() -> None:
    network, _ = fit(bright_samples(1, classes=2))
    assert network.card.codes == (0, 1, 2, 0)
    scene = noise_scene((20, 20))
    assert set(np.unique(classify_pixels(scene, network)["pixel_class"])) <= {1, 2}


def test_single_class_and_single_sample_work() -> None:
    network, report = fit(bright_samples(3, classes=1), settings=FitSettings(steps=3))
    assert report.steps == 3
    assert (classify_pixels(noise_scene((9, 9)), network)["pixel_class"] == 1).all()
    _, report = fit(bright_samples(3, n=1), settings=FitSettings(steps=3, patience=1))
    assert report.validation_accuracy is None


def test_rare_class_is_not_lost() -> None:
    samples = bright_samples(1, n=600)
    keep = (samples.codes != 3) | (np.cumsum(samples.codes == 3) <= 8)
    rare = Samples(
        samples.codes[keep], samples.rows[keep], samples.columns[keep], samples.patches[keep]
    )
    network, _ = fit(rare, settings=FitSettings(steps=150, batch_size=64, frequency_power=0))
    bright = np.full((20, 1, 1, 3), 215 / 255, np.float32)
    assert (network.model.predict(bright, verbose=0).argmax(1) == 3).all()


def test_any_classifier_of_pixels() -> None:
    forest = RandomForestClassifier(10, random_state=0)
    fitted = fit_pixel_classifier(
        bright_samples(1), forest, bands=BANDS, scale=255.0, legend=LEGEND
    )
    scene = noise_scene((20, 30), chunks=(7, 9), holes=0.1)
    found = classify_pixels(scene, fitted, outputs=("pixel_class", "probability")).compute()
    pixels = scene.values.reshape(3, -1).T.astype(np.float32) / 255.0
    expected = forest.predict_proba(pixels.astype(np.float32)).astype(np.float32)
    valid = (scene.values != 0).all(0).ravel()
    np.testing.assert_allclose(
        found["probability"].values.reshape(3, -1).T[valid], expected[valid], atol=1e-6
    )
    assert (found["pixel_class"].values.ravel()[~valid] == 0).all()


def test_classifier_errors() -> None:
    arguments = {"bands": BANDS, "scale": 255.0, "legend": LEGEND}
    with pytest.raises(ParameterError, match="takes single pixels, got patch size 3"):
        fit_pixel_classifier(bright_samples(3), RandomForestClassifier(), **arguments)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="must have predict_proba, which LinearSVC has not"):
        fit_pixel_classifier(bright_samples(1), LinearSVC(), **arguments)  # type: ignore[arg-type]


def test_class_shares_leave_zero_out() -> None:
    codes = xr.DataArray(np.array([[0, 1, 1], [3, 1, 0]], np.uint8), dims=("y", "x"))
    assert class_shares(codes) == {1: 0.75, 3: 0.25}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 0, "steps must be 1 or more, got 0"),
        ("batch_size", 0, "batch_size must be 1 or more"),
        ("samples_per_class", -1, "samples_per_class must be 1 or more"),
        ("patience", -1, "patience must be 0 or more steps"),
        ("frequency_power", 2.0, "frequency_power must lie in 0 to 1"),
        ("validation_share", 1.0, "validation_share must lie between 0 and 1"),
        ("learning_rate", 0.0, "learning_rate must be above 0"),
        ("activation", "tanh", "activation must be one of relu, linear, got 'tanh'"),
        ("class_weights", "some", "class_weights must be one of none, balanced"),
    ],
)
def test_settings_are_checked(name: str, value: object, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        FitSettings(**{name: value})  # type: ignore[arg-type]
