"""Code in the tutorials runs, and prints what the page shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_pages import NAMES, TUTORIALS, check_page
from docs_world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("stock"))
    yield world
    world.close()


@pytest.mark.parametrize("page", TUTORIALS, ids=NAMES.get)
def test_code_runs(
    page: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_page(page, tmp_path, world, monkeypatch)
