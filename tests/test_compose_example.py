"""The example that composes a scene runs, at small size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from test_examples import run_example

from csc_xr.scene import open_scene
from csc_xr.synthetic import fjord


def test_compose_a_scene(tmp_path: Path) -> None:
    said = run_example("05_compose_a_scene.py", "--size", "60", "80", "--out", str(tmp_path))
    assert "60 x 80 pixels in EPSG:32624" in said
    assert "red, green, blue, nir of 2021-07-15T14:37" in said
    assert "30 x 40 pixels, uint16" in said
    assert "100% valid" in said
    scene, surface = open_scene(tmp_path / "fjord.tif"), fjord((60, 80), seed=7)["scene"]
    np.testing.assert_array_equal(scene.values, surface.values[:, 15:45, 20:60])
    with Image.open(tmp_path / "fjord.png") as picture:
        assert picture.size == (40, 30)
