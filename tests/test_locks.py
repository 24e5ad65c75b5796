"""One process at a time at a piece of work, whatever becomes of the others."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from csc_xr.errors import CscWarning, OutputError
from csc_xr.runs import locks
from csc_xr.runs.locks import one_at_a_time
from csc_xr.runs.unfinished import find_work, lock_file

HOLD = """
import sys, time
from pathlib import Path
from csc_xr.runs.locks import one_at_a_time
with one_at_a_time(Path(sys.argv[1]), "work"):
    print("held", flush=True)
    time.sleep(60)
"""


def side_by_side(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_nobody_is_at_it_together_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_PAUSE", 0.0005)
    path = tmp_path / "folder" / "work.lock"
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(25):  # each time the file and its folder are made anew
            with one_at_a_time(path, "work"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0002)
                inside.pop()

    side_by_side(work, 6)
    assert len(most) == 150
    assert max(most) == 1
    assert not path.parent.exists()


def test_a_killed_process_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "work.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "held\n"
        threading.Timer(0.4, holder.kill).start()
        monkeypatch.setattr(locks, "_TOLD_AFTER", 0.1)
        began = time.monotonic()
        told = pytest.warns(CscWarning, match=r"Another process is at fjord: waiting until it ends")
        with told, one_at_a_time(path, "fjord"):
            assert holder.wait(10) != 0
        assert time.monotonic() - began > 0.1
    assert not path.exists()


def test_waiting_may_be_nothing_to_tell_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_TOLD_AFTER", 0.0)
    path, waited = tmp_path / "work.lock", threading.Event()

    def work() -> None:
        with one_at_a_time(path, None):
            waited.set()

    with one_at_a_time(path, "work"):
        other = threading.Thread(target=work)
        other.start()
        assert not waited.wait(0.25)
    other.join()
    assert waited.is_set()


def test_an_error_gives_the_lock_back(tmp_path: Path) -> None:
    path = tmp_path / "work.lock"
    with pytest.raises(ValueError, match="no"), one_at_a_time(path, "work"):
        raise ValueError("no")
    with one_at_a_time(path, "work"):
        assert path.is_file()


def test_without_locks_nothing_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "work.lock"
    with one_at_a_time(path, "work"):
        monkeypatch.setattr(locks, "fcntl", None)
        with one_at_a_time(path, "work"):
            pass


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match=r"file.*must be written"),
        one_at_a_time(tmp_path / "file" / "work.lock", "work"),
    ):
        pass


def test_a_lock_is_no_unfinished_work(tmp_path: Path) -> None:
    with one_at_a_time(lock_file(tmp_path, "a-scene567"), "work"):
        assert find_work(tmp_path) == []
