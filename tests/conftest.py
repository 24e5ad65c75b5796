"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

collect_ignore = ["qgis_for_tests.py"]  # run by the Python that has QGIS


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the development imagery; tests that need it skip without it, but fail under CI."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("CSC_XR_SHARED", default))
    if not (folder / "data").is_dir():
        message = f"development imagery is absent: no folder {folder}/data (set CSC_XR_SHARED)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
