"""QGIS of the system, asked what it makes of files and their styles."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

QGIS_PYTHON = "/usr/bin/python3"


def seen_by_qgis(*sources: str) -> list[dict[str, Any]]:
    """Open sources in QGIS without a screen; one description each."""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": "/tmp"}  # noqa: S108
    probe = [QGIS_PYTHON, "-c", "import qgis.core"]
    if not Path(QGIS_PYTHON).exists() or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip(f"QGIS is not installed for {QGIS_PYTHON} (Debian: python3-qgis)")
    script = Path(__file__).with_name("qgis_for_tests.py")
    done = subprocess.run(
        [QGIS_PYTHON, script, *sources], env=environment, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
