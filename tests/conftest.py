"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from maps_for_tests import Opener, Visitor
    from playwright.sync_api import Browser

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; tests that need it skip without it, but fail under CI."""
    from maps_for_tests import launched  # playwright is slow to load

    with launched() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visitor]:
    """Opens pages, and fails when one says anything on its console or asks for anything."""
    from maps_for_tests import quiet_visits

    with quiet_visits(browser) as visit:
        yield visit


@pytest.fixture
def opened(visit: Visitor, tmp_path: Path) -> Opener:
    """Opens a small report page."""
    from maps_for_tests import opener

    return opener(visit, tmp_path / "page.html")
