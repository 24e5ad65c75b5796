"""Stacks: scenes of one grid opened, taken one by one, and written."""

from __future__ import annotations

import datetime
import pickle
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
import zarr
from affine import Affine
from dask.blockwise import Blockwise
from hypothesis import given, settings
from hypothesis import strategies as st
from rasters_for_tests import NORTH_UP, never, some_pixels, write_raster

from csc_xr.errors import OutputError, SceneError
from csc_xr.scene import open_scene, scene_transform, valid_pixels, validate_scene, write_scene
from csc_xr.stack import open_stack, stack_names, stack_scene, validate_stack, write_stack

PLACE = {"driver": "GTiff", "transform": NORTH_UP, "crs": "EPSG:32633"}


def images(folder: Path, *names: str, **profile: Any) -> list[Path]:
    """Write images of 3 x 40 x 50 pixels that differ by their first pixel."""
    paths = []
    for number, name in enumerate(names):
        pixels = some_pixels(3, 40, 50)
        pixels[:, 0, 0] = number
        paths.append(write_raster(folder / name, pixels, **{**PLACE, **profile}))
    return paths


def numbers(stack: xr.DataArray) -> list[int]:
    return [int(value) for value in stack[:, 0, 0, 0].values]


def array(*chunks: int, lead: str = "scene", **coords: Any) -> xr.DataArray:
    """Three scenes of 2 x 5 x 7 pixels in memory, or Dask-backed."""
    pixels: Any = some_pixels(3, 2, 5, 7)
    if chunks:
        pixels = da.from_array(pixels, chunks=chunks)
    return xr.DataArray(pixels, dims=(lead, "band", "y", "x"), coords=coords)


def times(*days: int) -> Any:
    return ("time", np.array([f"2021-07-{day:02}" for day in days], dtype="datetime64[ns]"))


def test_images_keep_their_order(tmp_path: Path) -> None:
    paths = images(tmp_path, "c.tif", "a.tif", "b.tif")
    stack = open_stack(paths)
    assert stack.dims == ("scene", "band", "y", "x")
    assert stack.data.chunks == ((1, 1, 1), (3,), (40,), (50,))
    assert stack_names(stack) == stack.indexes["scene"].tolist() == ["c", "a", "b"]
    assert stack.coords["source"].values.tolist() == [str(path) for path in paths]
    assert numbers(stack) == [0, 1, 2]
    folder = open_stack(str(tmp_path), chunks=16)
    assert folder.name == tmp_path.name
    assert stack_names(folder) == ["a", "b", "c"]
    assert numbers(folder) == [1, 2, 0]
    np.testing.assert_array_equal(folder.sel(scene="c"), open_scene(paths[0]))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x_20210715", "x_20200715"], ["2020-07-15", "2021-07-15"]),
        (["2021-07-15_a", "2020-07-15_a"], ["2020-07-15", "2021-07-15"]),
        (["s20210715T143751", "s20210715"], ["2021-07-15", "2021-07-15T14:37:51"]),
        (["2021-07-15T14-37-51", "20200715T14"], ["2020-07-15", "2021-07-15T14:37:51"]),
        (["2021-07-15T14:37:51Z", "a_20200715_20200715"], ["2020-07-15", "2021-07-15T14:37:51"]),
        (["20210715_20219999", "20200715_19990101012"], ["2020-07-15", "2021-07-15"]),
        (["20210715_20210720", "20200715"], None),  # which of the two?
        (["20210715_a", "20210715_b"], None),  # not a time of its own
        (["20210715", "second"], None),
        (["20211315", "20200715"], None),
        (["120210715", "20200715"], None),
        (["10101010", "20200715"], None),
        (["2021-0715", "20200715"], None),
        (["20210715T250000", "20200715"], None),
    ],
)
def test_times_are_read_from_names(
    tmp_path: Path, names: list[str], expected: list[str] | None
) -> None:
    stack = open_stack(images(tmp_path, *(f"{name}.tif" for name in names)))
    if expected is None:
        assert stack.dims[0] == "scene"
        assert stack_names(stack) == names
        assert "time" not in stack.coords
    else:
        assert stack.dims[0] == "time"
        np.testing.assert_array_equal(stack.time, np.array(expected, dtype="datetime64[ns]"))
        assert stack_names(stack) == names[::-1]
        assert numbers(stack) == [1, 0]


@pytest.mark.parametrize(
    "given_times",
    [
        ["2021-07-16", "20210715T143751"],
        ["2021-07-16T00:00Z", datetime.datetime(2021, 7, 15, 16, 37, 51, tzinfo=datetime.UTC)],
        [np.datetime64("2021-07-16T00:00:00.123456789"), datetime.date(2021, 7, 15)],
        pd.DatetimeIndex(["2021-07-16", "2021-07-15"]),
        [20210716, 20210715],
    ],
)
def test_times_are_taken_as_given(tmp_path: Path, given_times: Any) -> None:
    stack = open_stack(images(tmp_path, "20010101.tif", "20020202.tif"), times=given_times)
    assert stack.time.dtype == "datetime64[ns]"
    found = stack.time.values
    np.testing.assert_array_equal(found.astype("datetime64[D]"), times(15, 16)[1])
    np.testing.assert_array_equal(found.astype("datetime64[s]")[1], np.datetime64("2021-07-16"))
    assert stack_names(stack) == ["20020202", "20010101"]
    assert numbers(stack) == [1, 0]
    if "123456789" in str(given_times[0]):
        assert found[1] == given_times[0]


@pytest.mark.parametrize(
    "wrong", [["2021"], ["2021", "2021"], ["2021", None], ["x", "2021"], [1.5, 2.5], ["1", "1500"]]
)
def test_times_that_do_not_fit_are_refused(tmp_path: Path, wrong: list[Any]) -> None:
    paths = images(tmp_path, "a.tif", "b.tif")
    match = f"times must be 2 different dates.* one for each scene, got {len(wrong)}: {wrong[0]}"
    with pytest.raises(SceneError, match=match):
        open_stack(paths, times=wrong)
    write_stack(open_stack(paths), tmp_path / "s.zarr")
    with pytest.raises(SceneError, match=match):
        open_stack(tmp_path / "s.zarr", times=wrong)


def test_options_of_a_scene_hold_for_all(tmp_path: Path) -> None:
    paths = images(tmp_path, "a.tif", "b.tif")
    stack = open_stack(
        paths,
        band_names=["nir", "red", "green"],
        bands=["red", 1],
        scale=100,
        nodata=7,
        nodata_when="all",
        chunks={"y": 16},
    )
    assert stack.band.values.tolist() == ["red", "nir"]
    assert stack.attrs == {"scale": 100.0, "_FillValue": np.uint8(7), "nodata_when": "all"}
    assert stack.data.chunks[2:] == ((16, 16, 8), (50,))
    np.testing.assert_array_equal(stack[1], open_scene(paths[1], bands=[2, 1]))
    write_stack(stack, tmp_path / "s.zarr")
    again = open_stack(
        tmp_path / "s.zarr", bands=[2], scale=5, nodata=0, nodata_when="any", chunks=(20, 30)
    )
    assert again.name == "s"
    assert again.band.values.tolist() == ["nir"]
    assert (again.attrs["scale"], again.attrs["_FillValue"]) == (5.0, 0)
    assert again.attrs["nodata_when"] == "any"
    assert again.data.chunks == ((1, 1), (1,), (20, 20), (30, 20))
    np.testing.assert_array_equal(again, stack.sel(band=["nir"]))
    with pytest.raises(SceneError, match="nodata must be a value that pixels of dtype uint8"):
        open_stack(tmp_path / "s.zarr", nodata=-1)


@pytest.mark.parametrize(
    ("profile", "match"),
    [
        ({"transform": NORTH_UP @ Affine.translation(1, 0)}, r"one place, .*330010\.0.*330000\.0"),
        ({"crs": "EPSG:32632"}, r"one place, .*EPSG:32632 and .*EPSG:32633 and"),
        ({"nodata": 3}, r"one nodata value, .* has 3, and .* none\. Pass nodata="),
        ({"pixels": some_pixels(3, 40, 49)}, "one size, .* 40 x 49 pixels, and .* 40 x 50"),
        (
            {"pixels": some_pixels(4, 40, 50), "photometric": "RGB", "alpha": "no"},
            "one set of bands",
        ),
        ({"pixels": some_pixels(3, 40, 50, dtype="int16")}, "one dtype, .* int16, and .* uint8"),
    ],
)
def test_a_scene_that_differs_is_refused(tmp_path: Path, profile: Any, match: str) -> None:
    paths = images(tmp_path, "a.tif", "b.tif")
    pixels = profile.pop("pixels", some_pixels(3, 40, 50))
    paths.append(write_raster(tmp_path / "odd.tif", pixels, **{**PLACE, **profile}))
    with pytest.raises(SceneError, match=rf"(?s){match}") as raised:
        open_stack(paths)
    assert "must have one" in str(raised.value)
    assert f"but {tmp_path / 'odd.tif'} has" in str(raised.value)
    assert f"and {tmp_path / 'a.tif'}" in str(raised.value)


def test_settings_of_stores_that_differ_are_refused(tmp_path: Path) -> None:
    scene = validate_scene(array()[0]).assign_coords(time=times(1)[1][0])
    write_scene(scene, tmp_path / "a.zarr")
    for name, attrs in {"scale": {"scale": 5}, "nodata_when": {"nodata_when": "all"}}.items():
        write_scene(scene.assign_attrs(attrs), tmp_path / f"{name}.zarr")
        paths = [tmp_path / "a.zarr", tmp_path / f"{name}.zarr"]
        with pytest.raises(SceneError, match=f"must have one {name}.* Pass {name}="):
            open_stack(paths)
        stack = open_stack(paths, scale=10, nodata_when="any")
        np.testing.assert_array_equal(stack[0], stack[1])
        assert "time" not in stack.coords  # that of one scene is not that of all


def test_nodata_that_is_nan_is_one(tmp_path: Path) -> None:
    pixels = some_pixels(3, 40, 50, dtype="float32")
    paths = [
        write_raster(tmp_path / name, pixels, **PLACE, nodata=np.nan) for name in ("a.tif", "b.tif")
    ]
    stack = open_stack(paths)
    assert np.isnan(stack.attrs["_FillValue"])
    write_stack(stack, tmp_path / "s.zarr")
    assert np.isnan(open_stack(tmp_path / "s.zarr").attrs["_FillValue"])


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="must have at least one scene, got an empty list"):
        open_stack([])
    with pytest.raises(SceneError, match=r"The folder .* must hold images .* got none"):
        open_stack(tmp_path)
    path = images(tmp_path, "a.tif")[0]
    for wrong in (path, tmp_path / "none.zarr"):
        with pytest.raises(SceneError, match=r"or a list of images, but .* is none"):
            open_stack(wrong)
    (tmp_path / "more").mkdir()
    twin = images(tmp_path / "more", "a.tif")[0]
    with pytest.raises(SceneError, match="a name of its own, got a more than once"):
        open_stack([path, twin])
    write_scene(open_scene(path), tmp_path / "scene.zarr")
    with pytest.raises(SceneError, match=r"\(time or scene, band, y, x\), or one called 'stack'"):
        open_stack(tmp_path / "scene.zarr")
    write_stack(open_stack([path]), tmp_path / "stack.zarr")
    with pytest.raises(SceneError, match=r"\(band, y, x\), or one called 'scene', got none"):
        open_scene(tmp_path / "stack.zarr")


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        (array().to_dataset(name="a"), "A stack must be an xarray.DataArray, got Dataset"),
        (array()[0], r"must have dims time or scene, band, y and x.*got \{'band': 2"),
        (array().rename(band="time"), "must have dims time or scene, band, y and x"),
        (array().isel(x=[]), "none of length 0"),
        (array(scene=["a", "b", "a"]), "a name of its own, got a more than once"),
        (array(scene="a", time=times(1, 2, 3), lead="time"), r"scene along time, got dims \(\)"),
        (array(lead="time"), "dtype datetime64, got none. Pass times="),
        (array(time=[1, 2, 3], lead="time"), "dtype datetime64, got int64"),
        (array(time=times(1, 2, 1), lead="time"), "times must be 3 different dates"),
        (array().astype("complex64"), "got dtype complex64"),
        (array().assign_attrs(scale=0), "scale of a scene must be a positive number"),
        (array(valid=("y", np.ones(5, bool))), "valid must have dims"),
    ],
)
def test_what_is_no_stack_is_refused(broken: Any, match: str) -> None:
    with pytest.raises(SceneError, match=match):
        validate_stack(broken)


def test_arrays_of_users_become_stacks() -> None:
    made = array().transpose("y", "x", "band", "scene")
    before = made.copy(deep=True)
    stack = validate_stack(made)
    xr.testing.assert_identical(made, before)
    assert stack_names(stack) == ["scene_1", "scene_2", "scene_3"]
    assert stack.band.values.tolist() == ["band_1", "band_2"]
    assert stack.x.values.tolist()[:2] == [0.5, 1.5]
    assert stack.attrs == {"scale": 255.0, "nodata_when": "any"}
    np.testing.assert_array_equal(stack, array())
    xr.testing.assert_identical(validate_stack(stack), stack)
    dated = validate_stack(array(time=times(3, 1, 2), lead="time"))
    assert stack_names(dated) == ["20210701", "20210702", "20210703"]
    np.testing.assert_array_equal(dated, array()[[1, 2, 0]])
    moments = ("time", times(1, 2, 3)[1] + np.timedelta64(3661, "s"))
    timed = validate_stack(array(time=moments, lead="time"))
    assert stack_names(timed)[0] == "20210701T010101"


def test_scenes_joined_by_xarray_become_a_stack(tmp_path: Path) -> None:
    paths = images(tmp_path, "a.tif", "b.tif")
    mask = write_raster(tmp_path / "m.tif", some_pixels(1, 40, 50) % 2, **PLACE)
    scenes = [open_scene(paths[0], mask=mask), open_scene(paths[1])]
    joined = xr.concat(scenes, pd.Index([scene.name for scene in scenes], name="scene"))
    stack = validate_stack(joined)
    assert stack_names(stack) == ["a", "b"]
    np.testing.assert_array_equal(stack, open_stack(paths))
    shared = validate_stack(open_stack(paths).assign_coords(valid=scenes[0].coords["valid"]))
    assert shared.coords["valid"].dims == ("scene", "y", "x")
    for position in (0, 1):
        seen = valid_pixels(stack_scene(shared, position))
        np.testing.assert_array_equal(seen, valid_pixels(scenes[0]))


@settings(max_examples=15, deadline=None)
@given(st.tuples(*(st.integers(1, length) for length in (3, 2, 5, 7))))
def test_chunks_do_not_matter(chunks: tuple[int, ...]) -> None:
    stack = validate_stack(array(*chunks))
    assert stack.data.chunks[:2] == ((1, 1, 1), (2,))
    np.testing.assert_array_equal(stack_scene(stack, -1), array()[2])


@pytest.mark.parametrize("kind", ["tiled", "striped", "png", "zarr", "store"])
def test_a_scene_taken_is_the_scene_opened(tmp_path: Path, kind: str) -> None:
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    profile: dict[str, Any] = {"tiled": tiles, "png": {"driver": "PNG"}}.get(kind, {})
    suffix = ".png" if kind == "png" else ".tif"
    paths = images(tmp_path, f"20200101{suffix}", f"20210101{suffix}", nodata=3, **profile)
    if kind == "zarr":
        for path in paths:
            write_scene(open_scene(path), path.with_suffix(".zarr"))
        paths = [path.with_suffix(".zarr") for path in paths]
    with dask.config.set(scheduler=never):
        stack = open_stack(paths, chunks=16)
    if kind == "store":
        write_stack(stack, tmp_path / "s.zarr")
        with dask.config.set(scheduler=never):
            stack = open_stack(tmp_path / "s.zarr", chunks=16)
    with dask.config.set(scheduler=never):
        scene = stack_scene(stack, 1)
        valid_pixels(validate_scene(scene))
        by_hand = validate_scene(stack.isel(time=1))
    opened = open_scene(paths[1], chunks=16)
    xr.testing.assert_equal(scene.drop_vars("time"), opened)
    assert scene.time == np.datetime64("2021-01-01")
    assert scene.name == opened.name == "20210101"
    wanted = {**opened.attrs, "source": str(tmp_path / "s.zarr" if kind == "store" else paths[1])}
    assert scene.attrs == wanted
    assert scene.data.chunks == opened.data.chunks
    assert scene_transform(scene) == scene_transform(opened)
    assert scene.rio.crs == opened.rio.crs
    again = pickle.loads(pickle.dumps(scene))  # noqa: S301
    np.testing.assert_array_equal(again, opened)
    write_scene(scene, tmp_path / "one.zarr")
    xr.testing.assert_equal(open_scene(tmp_path / "one.zarr", chunks=16), scene)
    write_scene(by_hand, tmp_path / "one.zarr", overwrite=True)
    np.testing.assert_array_equal(open_scene(tmp_path / "one.zarr"), opened)


def test_position_must_be_in_the_stack() -> None:
    for wrong in (3, -4, 1.0, "a"):
        with pytest.raises(SceneError, match="whole number from 0 to 2, got") as raised:
            stack_scene(array(), wrong)  # type: ignore[arg-type]
        assert repr(wrong) in str(raised.value)
    assert stack_scene(array(), -3).name == "scene_1"


def test_masks_are_carried(tmp_path: Path) -> None:
    paths = images(tmp_path, "20200101.tif", "20210101.tif", "20220101.tif", photometric="RGB")
    mask = some_pixels(1, 40, 50)[0] > 60
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(paths[1], "r+") as dataset,
    ):
        dataset.write_mask(mask)
    stack = open_stack(paths, chunks=16)
    assert stack.coords["valid"].dims == ("time", "y", "x")
    write_stack(stack, tmp_path / "s.zarr")
    for found in (stack, open_stack(tmp_path / "s.zarr")):
        assert found.coords["valid"].data.chunks == ((1, 1, 1), *found.data.chunks[2:])
        np.testing.assert_array_equal(valid_pixels(stack_scene(found, 1)), mask)
        assert valid_pixels(stack_scene(found, 2)).all()
        scene = stack_scene(found, 0)
        assert len(scene.coords["valid"].data.dask) <= 8 * scene.data.npartitions
    assert "valid" not in open_stack(paths[::2]).coords


@pytest.mark.parametrize("lead", ["time", "scene"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "bool"])
def test_a_store_gives_back_everything(tmp_path: Path, dtype: str, lead: str) -> None:
    moments = times(1, 2, 3)[1] + np.timedelta64(123456789, "ns")
    coords = {
        "scene": (lead, ["á", "b c", "d"]),
        "band": ["nir", "red"],
        "valid": ((lead, "y", "x"), some_pixels(3, 5, 7) > 50),
        "cloud": (lead, [0.5, np.nan, 0.25]),
    }
    made = array(1, 2, 2, 3, lead=lead, **coords).astype(dtype)
    made = made.assign_coords(time=moments) if lead == "time" else made
    made = made.assign_attrs(scale=17.5, _FillValue=3, nodata_when="all", sensor="OLI")
    transform = Affine(0.1, 0.02, 1 / 3, 0.03, -0.1, 2 / 3)
    made = made.rio.write_crs("EPSG:3413").rio.write_transform(transform)
    stack = validate_stack(made)
    write_stack(stack, tmp_path / "s.zarr")
    back = open_stack(tmp_path / "s.zarr", chunks=(2, 3))
    xr.testing.assert_equal(back, stack)
    assert back.dtype == dtype
    assert back.time.dtype == "datetime64[ns]" if lead == "time" else "time" not in back.coords
    assert {**stack.attrs, "source": str(tmp_path / "s.zarr")} == back.attrs
    assert ("_FillValue" in back.attrs) == (dtype != "bool")
    assert back.attrs.get("_FillValue", np.bool()).dtype == dtype
    assert scene_transform(back) == transform
    assert back.rio.crs == stack.rio.crs
    stored = zarr.open_group(tmp_path / "s.zarr", mode="r")
    assert stored["stack"].chunks == (1, 2, 2, 3)  # type: ignore[union-attr]
    write_stack(back[1:], tmp_path / "s.zarr", overwrite=True)  # onto the store it is read from
    xr.testing.assert_equal(open_stack(tmp_path / "s.zarr", chunks=(2, 3)), stack[1:])


def test_times_of_a_store_can_be_set(tmp_path: Path) -> None:
    write_stack(array(scene=["a", "b", "c"]), tmp_path / "s.zarr")
    stack = open_stack(tmp_path / "s.zarr", times=["2021", "2019", "2020"])
    assert stack.dims[0] == "time"
    assert stack_names(stack) == ["b", "c", "a"]
    np.testing.assert_array_equal(stack, array()[[1, 2, 0]])
    plain = array().rename("anything", scene="time").to_dataset()
    plain.to_zarr(tmp_path / "p.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(SceneError, match="Pass times= to open_stack"):
        open_stack(tmp_path / "p.zarr")
    stack = open_stack(tmp_path / "p.zarr", times=["2021", "2019", "2020"])
    assert stack_names(stack) == ["20190101", "20200101", "20210101"]


def test_store_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    paths = images(tmp_path, "a.tif", "b.tif")
    stack = open_stack(paths)
    write_stack(stack, tmp_path / "s.zarr")
    with pytest.raises(OutputError, match="must not exist yet, but it does"):
        write_stack(stack, tmp_path / "s.zarr")
    paths[1].unlink()
    with pytest.raises(SceneError, match=r"b\.tif must be an image GDAL can read"):
        write_stack(stack, tmp_path / "s.zarr", overwrite=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.tif", "s.zarr"]
    assert numbers(open_stack(tmp_path / "s.zarr")) == [0, 1]


def test_a_thousand_scenes_weigh_no_more_than_one(tmp_path: Path) -> None:
    """Neither opening nor taking a scene makes a task for each chunk of the whole stack."""
    group = zarr.open_group(tmp_path / "s.zarr", mode="w")
    pixels = group.create_array(
        "stack",
        shape=(1000, 4, 3000, 3000),
        chunks=(1, 4, 1024, 1024),
        dtype="uint16",
        dimension_names=("scene", "band", "y", "x"),
    )
    pixels[700, :, :8, :8] = 7
    stack = open_stack(tmp_path / "s.zarr")
    assert all(isinstance(layer, Blockwise) or len(layer) == 1 for layer in layers(stack))
    assert len(pickle.dumps(stack)) < 1_000_000
    scene = stack_scene(stack, 700)
    assert scene.name == "scene_701"
    assert len(scene.data.dask) <= 2 * scene.data.npartitions + 1
    assert len(pickle.dumps(scene)) < 200_000
    assert scene[:, :9, :9].values.sum() == 7 * 4 * 8 * 8


def test_images_on_disk_are_one_layer(tmp_path: Path) -> None:
    paths = images(tmp_path, *(f"{number}.tif" for number in range(20)))
    stack = open_stack(paths)
    assert len(layers(stack)) == 2
    graph = stack_scene(stack, 7).data.dask
    assert len(graph) == 3
    assert numbers(stack) == list(range(20))
    striped = open_stack(paths, chunks=16)  # what is read at once is cut, so each has layers
    assert len(layers(striped)) > 20
    assert len(stack_scene(striped, 7).data.dask) <= 5 * stack_scene(striped, 7).data.npartitions


def layers(stack: xr.DataArray) -> list[Any]:
    return list(stack.data.dask.layers.values())
