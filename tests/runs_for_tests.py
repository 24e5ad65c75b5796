"""Runs of the command line inside the test process, and the small files they work on."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from networks_for_tests import brightness_network, striped_scene
from rasters_for_tests import NORTH_UP, write_raster

from csc_xr import cli
from csc_xr.networks.bundle import save_network

SHAPE = (40, 96)
STRIPES = np.repeat(np.array([1, 2, 3], "uint8"), 32)
QUICK = ("--patch-size", "3", "--steps", "150", "--samples-per-class", "200", "--mode-radius", "2")
# Without a network to fit and to compile, a run takes half the time.
QUICKEST = ("--patch-size", "1", "--classifier", "random-forest", "--mode-radius", "2")
PLACE = {"driver": "GTiff", "transform": NORTH_UP, "crs": "EPSG:32633"}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def run_cli(*words: object) -> Ended:
    """Run ``csc-xr`` with these words, as the shell would start it."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with (
        mock.patch.object(sys, "argv", ["csc-xr", *map(str, words)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
    return Ended(code, out.getvalue(), err.getvalue())


def write_network(folder: Path) -> Path:
    """Write the network that tells dark, middling and bright tiles of 8 px apart."""
    save_network(brightness_network(), folder / "tiles.keras")
    return folder / "tiles.keras"


def striped_pixels(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Give three stripes, of classes 1, 2 and 3."""
    return striped_scene(shape).values


def write_image(path: Path, pixels: np.ndarray | None = None, **profile: Any) -> Path:
    """Write an image of stripes, georeferenced unless another profile is given."""
    pixels = striped_pixels() if pixels is None else pixels
    return write_raster(path, pixels, **{**PLACE, **profile})


def write_labels(path: Path, codes: np.ndarray | None = None, **profile: Any) -> Path:
    """Write the true classes of the stripes, with some pixels unlabelled."""
    if codes is None:
        codes = np.tile(STRIPES, (SHAPE[0], 1))
        codes[:5] = 0
    return write_raster(path, codes[None], **{**PLACE, **profile})


def files_in(folder: Path) -> list[str]:
    """List every file below a folder, hidden ones too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
