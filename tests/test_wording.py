"""Messages name options on the command line, and arguments in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from runs_for_tests import run_cli, write_image

from csc_xr.cli import app
from csc_xr.cli.wording import as_options


@pytest.fixture(scope="module")
def application() -> Any:
    return typer.main.get_command(app)


@pytest.mark.parametrize(
    ("words", "message", "told"),
    [
        ("compose a.zip", "pass offset=-1000, or offset=0.", "pass --offset -1000, or --offset 0."),
        ("compose a.zip", "Pass mask=() to mask nothing.", "Pass --no-mask to mask nothing."),
        ("compose a.zip", "pass mask=() (--no-mask).", "pass --no-mask."),
        ("compose a.zip", "Correct box=, or box_crs=.", "Correct --box, or --box-crs."),
        ("compose a.zip", "Pass resolution=10, or like= a scene.",
         "Pass --resolution 10, or like= a scene."),
        ("classify a.tif", "with overwrite=True (--overwrite).", "with --overwrite."),
        ("classify a.tif", "Choose another, or pass overwrite=True.",
         "Choose another, or pass --overwrite."),
        ("classify a.tif", "open it with band_names=(...).", "open it with --band-names LIST."),
        ("rasterize a.gpkg", "pass overlaps='later'.", "pass --overlaps later."),
        ("model info a.h5", "Pass codes= with the codes.", "Pass --codes with the codes."),
        ("stack a.zarr", "Pass times= to open_stack.", "Pass times= to open_stack."),
        ("classify a.tif", "/maps/scale=3/a.tif is none", "/maps/scale=3/a.tif is none"),
        ("--help", "Pass scale=255.", "Pass scale=255."),
    ],
)  # fmt: skip
def test_messages_name_options(words: str, message: str, told: str, application: Any) -> None:
    assert as_options(message, application, words.split()) == told


def test_an_error_names_options(tmp_path: Path) -> None:
    image = write_image(tmp_path / "plain.tif", np.full((3, 8, 8), 30, "uint8"))
    ended = run_cli("compose", image, "--out", image)
    assert ended.code == 2
    assert "=True" not in ended.err
    assert "--overwrite" in ended.err
