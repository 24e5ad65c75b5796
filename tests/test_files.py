"""Files whole or not at all."""

from __future__ import annotations

import datetime
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csc_xr.errors import OutputError, ParameterError
from csc_xr.files import (
    check_output_folder,
    free_bytes,
    plain_values,
    put_in_place,
    replacing,
    scratch_folder,
    write_json,
)
from csc_xr.legend import RIVER


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "result.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012, SIM117
        with replacing(target) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert names(tmp_path) == ["result.txt"]
    with replacing(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["result.txt"]


def test_a_folder_is_replaced_once_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "store"
    for content in ("old", "new"):
        with replacing(target, folder=True) as partial:
            (partial / content).write_text(content)
    assert names(target) == ["new"]
    with pytest.raises(ValueError, match="broken"):  # noqa: PT012, SIM117
        with replacing(target, folder=True) as partial:
            (partial / "newer").write_text("half")
            raise ValueError("broken")
    assert names(target) == ["new"]
    assert names(target.parent) == ["store"]


def test_what_another_process_has_begun_does_not_stay_in_a_moved_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "work" / "result.zarr", tmp_path / "result.zarr"
    begun, vanishing = source / "band" / "0.0.1a2b.partial", source / "0.1.3c4d.partial"
    begun.parent.mkdir(parents=True)
    for file in (begun, vanishing, source / "zarr.json"):
        file.write_text("content")

    def rename_first(stream: int, sync: Callable[[int], None] = os.fsync) -> None:
        if vanishing.exists():
            vanishing.rename(source / "0.1")
        sync(stream)

    monkeypatch.setattr(os, "fsync", rename_first)
    put_in_place(source, target)
    assert sorted(p.name for p in target.rglob("*")) == ["0.1", "band", "zarr.json"]


def test_a_folder_that_cannot_be_moved_gets_its_old_content_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "store"
    target.mkdir()
    (target / "old").touch()
    move = Path.replace

    def fail_second(self: Path, other: Path) -> Path:
        if self.name.endswith(".partial") and "-old" not in self.name:
            raise OSError(errno.EIO, "no luck")
        return move(self, other)

    monkeypatch.setattr(Path, "replace", fail_second)
    with pytest.raises(OSError, match="no luck"), replacing(target, folder=True) as partial:
        (partial / "new").touch()
    assert names(target) == ["old"]
    assert names(tmp_path) == ["store"]


@pytest.mark.parametrize("folder", [False, True])
def test_existing_targets_are_refused_on_request(tmp_path: Path, folder: bool) -> None:
    target = tmp_path / "taken"
    target.mkdir() if folder else target.touch()
    with (
        pytest.raises(OutputError, match="must not exist yet, but it does"),
        replacing(target, folder=folder, overwrite=False),
    ):
        pass
    with (
        pytest.raises(
            OutputError, match=r"must be a (file|folder), but is a (folder|file) already"
        ),
        replacing(target, folder=not folder),
    ):
        pass


def test_a_parent_that_is_a_file_fails_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match=r"must be written, but .*bytes are free.*Make room or"),
        replacing(tmp_path / "file" / "result.txt"),
    ):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_an_output_error(tmp_path: Path, number: int) -> None:
    with (
        pytest.raises(
            OutputError, match=r"result\.txt must be written, but the disk is full"
        ) as info,
        replacing(tmp_path / "result.txt"),
    ):
        raise OSError(number, os.strerror(number))
    assert info.value.errno == number
    assert names(tmp_path) == []


def test_a_full_disk_found_on_flushing_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fail)
    (tmp_path / "result.txt").write_text("old")
    with (
        pytest.raises(OutputError, match="disk is full"),
        replacing(tmp_path / "result.txt") as partial,
    ):
        partial.write_text("new")
    assert (tmp_path / "result.txt").read_text() == "old"


def test_errors_of_inputs_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "result.txt"):
        (tmp_path / "absent.tif").read_bytes()


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with replacing(tmp_path / "made"):
        pass
    assert (tmp_path / "made").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_what_a_killed_process_left_goes_when_the_target_is_made_again(tmp_path: Path) -> None:
    target, other = tmp_path / "result.txt", tmp_path / "other.txt"
    code = (
        "import sys, time; from csc_xr.files import replacing, scratch_folder\n"
        "with replacing(sys.argv[1]), scratch_folder(sys.argv[1]), replacing(sys.argv[2]):\n"
        "    print('writing', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(target), str(other)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        with replacing(target) as partial:
            partial.write_text("first")
        assert len(names(tmp_path)) == 4  # the other process is alive: its files stay
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    with replacing(target) as partial:
        partial.write_text("second")
    left = names(tmp_path)
    assert len(left) == 2
    assert left[0].startswith(".other.txt.")
    assert target.read_text() == "second"


def test_a_folder_set_aside_comes_back_when_its_replacement_never_arrived(tmp_path: Path) -> None:
    target = tmp_path / "store"
    with replacing(target, folder=True) as partial:
        (partial / "old").touch()
        living = partial.name
    finished = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    dead = living.replace(f"-{os.getpid()}-", f"-{finished.stdout.strip()}-")
    target.rename(tmp_path / dead.replace(".partial", "-old.partial"))
    with pytest.raises(ValueError, match="stop"), replacing(target, folder=True):
        raise ValueError("stop")
    assert names(target) == ["old"]


def test_scratch_folders_go_away(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "result.tif") as folder:
        (folder / "piece").touch()
        assert folder.parent == tmp_path
    assert names(tmp_path) == []


def test_partial_names_are_no_images(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.tif") as partial:
        assert list(tmp_path.glob("*.tif")) == []
        assert partial.name.startswith(".a.tif.")


def test_output_folder_is_created_and_left_empty(tmp_path: Path) -> None:
    folder = check_output_folder(tmp_path / "a" / "b", 1000)
    assert folder.is_dir()
    assert names(folder) == []


def test_output_folder_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"must be a folder, but .*file is a file"):
        check_output_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="must be writable, but creating a file in it failed"):
        check_output_folder(tmp_path / "file" / "below")


def test_output_folder_must_take_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path, __: bytes) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OutputError, match=r"must be writable, .* failed: Permission denied"):
        check_output_folder(tmp_path)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs a read-only file system")
def test_output_folder_on_a_read_only_file_system() -> None:
    with pytest.raises(OutputError, match="must be writable, but creating a file in it failed"):
        check_output_folder("/proc/results")


def test_output_folder_must_have_room(tmp_path: Path) -> None:
    needed = free_bytes(tmp_path) + 10**15
    with pytest.raises(
        OutputError, match=rf"room for about {needed} bytes, but \d+ bytes are free"
    ):
        check_output_folder(tmp_path, needed)


def test_free_bytes_of_a_folder_to_come(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b") > 0


def test_plain_values_of_every_kind() -> None:
    content = {
        1: (np.int64(2), np.float32(0.5), np.bool_(True), np.array([1, 2])),
        "path": Path("a") / "b",
        "when": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
        "set": {3, 1, 2},
        "odd": [np.inf, -np.inf, np.nan, None],
        "legend": RIVER.classes[0],
    }
    assert plain_values(content) == {
        "1": [2, 0.5, True, [1, 2]],
        "path": str(Path("a") / "b"),
        "when": "2020-01-02T00:00:00+00:00",
        "set": [1, 2, 3],
        "odd": ["Infinity", "-Infinity", "NaN", None],
        "legend": {"code": 1, "name": "Water", "colour": "#add8e6", "display_only": False},
    }


def test_values_without_a_plain_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="Records hold numbers, text, lists and mappings, got"):
        write_json({"model": object()}, tmp_path / "a.json")
    assert names(tmp_path) == []


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_json_values_are_left_as_they_are(content: object) -> None:
    assert plain_values(content) == content


def test_json_is_utf8_with_a_final_newline(tmp_path: Path) -> None:
    write_json({"name": "Mélange"}, tmp_path / "a.json")
    text = (tmp_path / "a.json").read_bytes().decode("utf-8")
    assert text.endswith("}\n")
    assert "Mélange" in text
    assert json.loads(text) == {"name": "Mélange"}
