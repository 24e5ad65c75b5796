"""The installed package: light to import, complete, and of one version everywhere."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

import csc_xr

# Modules that take from a tenth of a second to many seconds to import. Which of them an import
# loads is the same on every machine; how long it takes is not.
HEAVY = (
    "dask",
    "distributed",
    "h5py",
    "keras",
    "matplotlib",
    "numpy",
    "pandas",
    "rasterio",
    "rioxarray",
    "scipy",
    "skimage",
    "sklearn",
    "tensorflow",
    "xarray",
    "zarr",
)


def loaded_by(statements: str, *candidates: str) -> list[str]:
    """Those of `candidates` that a new interpreter holds after running `statements`."""
    report = f"print('LOADED', *(name for name in {candidates!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{statements}\n{report}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_import_loads_nothing_heavy() -> None:
    assert loaded_by("import csc_xr", *HEAVY) == []


def test_loading_is_noticed() -> None:
    assert loaded_by("import csc_xr, numpy", *HEAVY) == ["numpy"]


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("no-such-command", 2)])
def test_command_line_answers_without_tensorflow(argument: str, status: int) -> None:
    statements = (
        "from csc_xr.cli import main\n"
        f"sys.argv = ['csc-xr', {argument!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        f"    assert end.code == {status}, end.code"
    )
    assert loaded_by(statements, "keras", "tensorflow") == []


def test_every_public_name_resolves() -> None:
    assert csc_xr.__all__
    missing = [name for name in csc_xr.__all__ if not hasattr(csc_xr, name)]
    assert missing == []
    assert set(csc_xr.__all__) <= set(dir(csc_xr))


def test_version_is_that_of_the_distribution() -> None:
    assert csc_xr.__version__ == importlib.metadata.version("csc_xr")
