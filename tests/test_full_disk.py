"""A disk that is full, really or by what the system says."""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from rasters_for_tests import make_classes, names

from csc_xr.errors import OutputError
from csc_xr.export import (
    write_class_geotiff,
    write_class_png,
    write_float_geotiff,
    write_result_zarr,
    write_table_csv,
)
from csc_xr.legend import RIVER


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB that can really be full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path, left: int) -> None:
    """Leave about so many bytes free."""
    with (disk / "filler").open("wb") as stream:
        stream.write(b"x" * (shutil.disk_usage(disk).free - left))


WRITERS = {
    "tif": lambda path, size: write_class_geotiff(
        make_classes((size, size), 256), path, legend=RIVER
    ),
    "png": lambda path, size: write_class_png(make_classes((size, size), 256), path, legend=RIVER),
    "float.tif": lambda path, size: write_float_geotiff(
        make_classes((size, size), 256).astype(np.float32), path
    ),
    "zarr": lambda path, size: write_result_zarr(
        make_classes((size, size), 256).to_dataset(), path, overwrite=True
    ),
    "csv": lambda path, size: write_table_csv(
        pd.DataFrame({"a": np.arange(size * size / 4)}), path
    ),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("left", [0, 8192, 100_000])
def test_a_full_disk_is_said_and_keeps_what_was_finished(
    small_disk: Path, kind: str, left: int
) -> None:
    path = small_disk / f"result.{kind}"
    WRITERS[kind](path, 20)
    before = {p: p.read_bytes() for p in small_disk.rglob("*") if p.is_file()}
    fill(small_disk, left)
    with pytest.raises(
        OutputError, match=r"must be written, but the disk is full.* bytes are free"
    ):
        WRITERS[kind](path, 1200)
    (small_disk / "filler").unlink()
    assert {p: p.read_bytes() for p in small_disk.rglob("*") if p.is_file()} == before


def test_failures_that_gdal_keeps_to_itself_are_found(small_disk: Path) -> None:
    """At some amounts of free space GDAL closes a broken file without an error."""
    classes = make_classes((300, 300), None)
    written = 0
    for left in range(60_000, 240_000, 12_288):
        path = small_disk / "a.tif"
        fill(small_disk, left)
        try:
            write_class_geotiff(classes, path, legend=RIVER)
        except OutputError:
            assert names(small_disk) == ["filler"]
        else:
            written += 1
            with rasterio.open(path) as file:
                np.testing.assert_array_equal(file.read(1), classes.values)
            for made in ("a.tif", "a.tif.aux.xml", "a.qml"):
                (small_disk / made).unlink()
        (small_disk / "filler").unlink()
    assert 0 < written < 15


def test_a_full_disk_during_a_lazy_computation(tmp_path: Path) -> None:
    def fail(_: np.ndarray) -> np.ndarray:
        raise OSError(errno.ENOSPC, "No space left on device")

    classes = make_classes()
    data = classes.data.map_blocks(fail, dtype=np.uint8, meta=np.empty((0, 0), np.uint8))
    with pytest.raises(OutputError, match="the disk is full"):
        write_class_geotiff(classes.copy(data=data), tmp_path / "a.tif", legend=RIVER)
    assert names(tmp_path) == []
