"""Run records."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasters_for_tests import NORTH_UP, some_pixels, write_raster

from csc_xr.errors import ParameterError, SceneError
from csc_xr.files import write_json
from csc_xr.record import (
    StageTimer,
    describe_input,
    fingerprint,
    software_versions,
    start_record,
)
from csc_xr.runs.identity import input_files
from csc_xr.scene import open_scene

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_fingerprint_ignores_the_order_of_keys(content: dict[str, object]) -> None:
    turned = dict(reversed(list(content.items())))
    assert fingerprint(content) == fingerprint(turned)


@given(st.lists(values, max_size=4), st.lists(values, max_size=4))
def test_different_content_has_different_fingerprints(one: list[object], two: list[object]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    assert (fingerprint(*one) == fingerprint(*two)) == same


def test_fingerprint_tells_nan_from_none_and_is_the_same_everywhere() -> None:
    assert fingerprint({"nodata": None}) != fingerprint({"nodata": float("nan")})
    assert fingerprint({"size": np.int64(7)}) == fingerprint({"size": 7})
    wanted = hashlib.sha256(b'[{"patch":7,"seed":0}]').hexdigest()
    assert fingerprint({"seed": 0, "patch": 7}) == wanted


def test_fingerprint_refuses_what_has_no_plain_form() -> None:
    with pytest.raises(ParameterError, match="Records hold numbers, text, lists and mappings"):
        fingerprint(object())


def test_describe_input_follows_content_not_time(tmp_path: Path) -> None:
    file = tmp_path / "scene.tif"
    file.write_bytes(b"pixels")
    found = describe_input(file)
    assert found.sha256 == hashlib.sha256(b"pixels").hexdigest()
    assert (found.size, found.path) == (6, str(file))
    assert datetime.fromisoformat(found.modified).utcoffset().total_seconds() == 0
    file.write_bytes(b"pixelS")
    assert describe_input(file).sha256 != found.sha256


def test_describe_input_covers_names_and_contents_of_a_folder(tmp_path: Path) -> None:
    store = tmp_path / "scene.zarr"
    (store / "c").mkdir(parents=True)
    (store / "c" / "0").write_bytes(b"abc")
    first = describe_input(store)
    assert first.size == 3
    (store / "c" / "0").rename(store / "c" / "1")
    renamed = describe_input(store)
    assert renamed.sha256 != first.sha256
    (store / "c" / "1").write_bytes(b"abd")
    assert describe_input(store).sha256 != renamed.sha256


def test_describe_input_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="must be a file or folder that can be read, got: No such"):
        describe_input(tmp_path / "absent.tif")


def test_pixels_are_said_to_be_where_any_folder_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raster(tmp_path / "a.tif", some_pixels(3, 8, 9), driver="GTiff", transform=NORTH_UP)
    monkeypatch.chdir(tmp_path)
    scene = open_scene("a.tif")
    assert input_files(scene, {})["pixels"].path == str(tmp_path / "a.tif")
    elsewhere = scene.assign_attrs(source="gone.tif")
    assert input_files(elsewhere, {})["pixels"].path == "gone.tif"


def test_timer_adds_up_and_notifies_also_when_a_stage_fails() -> None:
    seen: list[tuple[str, bool]] = []
    timer = StageTimer(lambda name, seconds: seen.append((name, seconds is not None)))
    with timer.stage("tiles"):
        pass
    first = timer.seconds["tiles"]
    with pytest.raises(KeyError), timer.stage("tiles"):
        raise KeyError
    assert timer.seconds["tiles"] > first >= 0
    assert seen == [("tiles", False), ("tiles", True)] * 2


def test_record_goes_to_json(tmp_path: Path) -> None:
    scene = tmp_path / "scene.tif"
    scene.write_bytes(b"pixels")
    record = start_record(
        parameters={"patch_size": 7, "radius": np.float32(4), "nodata": float("nan")},
        seed=3,
        inputs=[describe_input(scene)],
        networks={"tiles": "ab" * 32},
    )
    assert record.finished == ""
    done = record.finish(
        stage_seconds={"tiles": 1.5}, outputs={"classes": tmp_path / "a.tif"}, warnings=["careful"]
    )
    write_json(done.to_dict(), tmp_path / "run.json")
    content = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert content["parameters"] == {"patch_size": 7, "radius": 4.0, "nodata": "NaN"}
    assert content["inputs"][0]["sha256"] == hashlib.sha256(b"pixels").hexdigest()
    assert content["networks"] == {"tiles": "ab" * 32}
    assert content["outputs"] == {"classes": str(tmp_path / "a.tif")}
    assert content["stage_seconds"] == {"tiles": 1.5}
    assert content["warnings"] == ["careful"]
    assert content["seed"] == 3
    assert content["started"] <= content["finished"]
    assert content["peak_memory_bytes"] > 1e7
    assert content["platform"]["processors"] >= 1


def test_versions_name_what_results_depend_on() -> None:
    versions = software_versions()
    needed = {"csc_xr", "python", "gdal", "xarray", "dask", "zarr", "rasterio", "keras"}
    assert needed <= set(versions)
    assert versions["python"] == ".".join(str(n) for n in sys.version_info[:3])


def test_peak_memory_is_in_bytes_and_stays_after_memory_is_freed() -> None:
    code = (
        "from csc_xr.record import peak_memory_bytes as peak; before = peak();"
        "block = bytearray(b'x') * 200_000_000; del block; print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1.5e8 < int(done.stdout) < 5e8


def test_versions_come_without_tensorflow() -> None:
    code = (
        "import sys, csc_xr.record as r; r.software_versions(); print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
