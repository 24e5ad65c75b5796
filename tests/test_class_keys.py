"""Class keys: local classes and the common ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from networks_for_tests import LEGEND
from tiles_for_tests import coloured_tiles

from csc_xr.errors import LegendError
from csc_xr.legend import RIVER
from csc_xr.tiles.keys import ClassKey, class_key_of, open_class_key, with_class_key


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_key_is_read(encoding: str, tmp_path: Path) -> None:
    text = "LocalClass, HierarchClass,River\n1, 1,Sainte Marguerite\n 7,2.0,\n2,1,x\n"
    key = open_class_key(write(tmp_path / "key.csv", text, encoding))
    assert key == ClassKey({1: 1, 7: 2, 2: 1})
    assert all(type(code) is int for pair in key.common.items() for code in pair)


def test_local_legend_has_the_common_colours() -> None:
    legend = ClassKey({4: 2, 1: 1, 9: 1}).local_legend(RIVER)
    assert legend.codes == (1, 4, 9)
    assert legend.name == "river, local classes"
    assert legend.names[1] == "Dry Sediment, local class 4"
    assert [entry.colour for entry in legend.classes] == ["#add8e6", "#ffa500", "#add8e6"]


def test_tiles_tell_their_key() -> None:
    key = ClassKey({3: 1, 1: 2, 2: 1})
    tiles = coloured_tiles(8, size=4, legend=key.local_legend(LEGEND))
    assert class_key_of(tiles) is None
    told = with_class_key(tiles, key, LEGEND)
    assert class_key_of(told) == (key, LEGEND)
    assert "class_key" not in tiles.attrs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("LocalClass,Common\n1,1\n", "columns LocalClass and HierarchClass, but cannot be read"),
        ("", "cannot be read as one: No columns"),
        ("LocalClass,HierarchClass\n1,x\n", "cannot be read as one: .*'x'"),
        ("LocalClass,HierarchClass\n1,1.5\n", r"cannot be read as one: 1\.5 is no whole number"),
        ("LocalClass,HierarchClass\n1,\n", "cannot be read as one: nan is no whole number"),
        (
            "LocalClass,HierarchClass\n1,1\n2,1\n1,2\n",
            "each local class once, got 1 twice in",
        ),
        ("LocalClass,HierarchClass\n", "both 1 to 255, got nothing"),
        ("LocalClass,HierarchClass\n0,1\n300,2\n", "both 1 to 255, got 0, 300"),
    ],
)
def test_other_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LegendError, match=message):
        open_class_key(write(tmp_path / "key.csv", text))


def test_bytes_and_absent_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "key.csv").write_bytes(b"\xff\xfe\x00\x81")
    for name in ("key.csv", "absent.csv"):
        with pytest.raises(LegendError, match=rf"{name} must be a CSV file with whole numbers"):
            open_class_key(tmp_path / name)


def test_common_classes_must_be_in_the_legend() -> None:
    with pytest.raises(LegendError, match=r"legend 'test', 1, 2, 3, got 4, 9\. Pass the legend"):
        ClassKey({1: 1, 2: 9, 3: 4}).local_legend(LEGEND)
