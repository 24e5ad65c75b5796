"""Landsat products: metadata, scaling to reflectance, masks."""

from __future__ import annotations

import math
from pathlib import Path

import dask
import numpy as np
import pytest
from landsat_for_tests import CORNER, CRS, SURFACE, TOP, some_numbers, write_landsat
from rasters_for_tests import never

from csc_xr.errors import SceneError
from csc_xr.grid import scene_transform
from csc_xr.products.landsat import open_landsat
from csc_xr.products.mtl import find_landsat, read_mtl
from csc_xr.scene import valid_pixels


def expected(numbers: np.ndarray, values: dict[str, float], height: float = 90.0) -> np.ndarray:
    """Reflectance x 10000 after the handbook, rounded half up."""
    sine = math.sin(math.radians(height))
    gain, offset = (round(10000 * values[what] / sine, 9) for what in ("MULT", "ADD"))
    return np.clip(np.floor(gain * numbers + offset + 0.5), 1, 65535)


@pytest.mark.parametrize("form", ["txt", "json"])
@pytest.mark.parametrize("level", ["L2SP", "L1TP"])
def test_reflectance_of_both_levels(tmp_path: Path, level: str, form: str) -> None:
    numbers = some_numbers()
    folder = write_landsat(tmp_path, numbers, level=level, form=form, elevation=30.0)
    with dask.config.set(scheduler=never):
        scene = open_landsat(folder)
    assert scene.band.values.tolist() == ["red", "green", "blue", "nir"]
    assert scene.dtype == "uint16"
    assert scene.attrs["_FillValue"] == 0
    assert scene.attrs["scale"] == 8192
    assert scene.attrs["quantification"] == 10000
    assert str(scene.time.values) == "2021-07-15T14:37:52.123456000"
    assert tuple(scene_transform(scene))[:6] == (30, 0, CORNER[0], 0, -30, CORNER[1])
    assert scene.rio.crs.to_string() == CRS
    wanted = [
        expected(numbers[band], SURFACE if level == "L2SP" else TOP, 90 if level == "L2SP" else 30)
        for band in ("B4", "B3", "B2", "B5")
    ]
    np.testing.assert_array_equal(scene.values, wanted)


def test_older_sensors_count_their_bands_otherwise(tmp_path: Path) -> None:
    numbers = some_numbers(("B1", "B2", "B3", "B4"))
    newer = open_landsat(
        write_landsat(
            tmp_path / "8", dict(zip(("B2", "B3", "B4", "B5"), numbers.values(), strict=True))
        ),
    )
    for craft, sensor in ((7, "ETM"), (5, "TM")):
        older = open_landsat(write_landsat(tmp_path / sensor, numbers, craft=craft, sensor=sensor))
        np.testing.assert_array_equal(older.values, newer.values)
        assert older.band.values.tolist() == newer.band.values.tolist()


def test_bands_by_product_name(tmp_path: Path) -> None:
    folder = write_landsat(tmp_path, some_numbers())
    scene = open_landsat(folder, ("B5", "b2"))
    assert scene.band.values.tolist() == ["nir", "blue"]
    np.testing.assert_array_equal(scene.values, open_landsat(folder, ("nir", "blue")).values)


def test_mask_and_fill(tmp_path: Path) -> None:
    numbers = some_numbers()
    numbers["B4"][0, :5] = 0
    qa = np.full((60, 60), 21824, "uint16")
    for bit in range(8):
        qa[10, bit] |= 1 << bit
    folder = write_landsat(tmp_path, numbers, qa=qa)
    valid = valid_pixels(open_landsat(folder)).values
    wanted = np.ones((60, 60), bool)
    wanted[0, :5] = False
    everything = wanted.copy()
    wanted[10, :5] = False  # fill, dilated cloud, cirrus, cloud, shadow
    np.testing.assert_array_equal(valid, wanted)
    open_sky = open_landsat(folder, mask=())
    assert "valid" not in open_sky.coords
    np.testing.assert_array_equal(valid_pixels(open_sky).values, everything)
    everything[10, 5] = False
    snow = valid_pixels(open_landsat(folder, mask=("snow",))).values
    everything[10, 0] = False  # fill goes with any mask
    np.testing.assert_array_equal(snow, everything)


def test_low_reflectance_is_never_nodata(tmp_path: Path) -> None:
    numbers = some_numbers()
    numbers["B4"][0, :4] = (0, 1, 7000, 65535)
    scene = open_landsat(write_landsat(tmp_path, numbers))
    assert scene.sel(band="red").values[0, :4].tolist() == [0, 1, 1, 65535]


def test_given_gain_and_offset(tmp_path: Path) -> None:
    numbers = some_numbers()
    told = open_landsat(write_landsat(tmp_path / "a", numbers))
    bare = write_landsat(tmp_path / "b", numbers, form="none")
    given = open_landsat(bare, gain=2.75e-05, offset=-0.2)
    np.testing.assert_array_equal(given.values, told.values)
    assert str(given.time.values)[:19] == "2021-07-15T00:00:00"
    with pytest.raises(SceneError, match="no MTL file"):
        open_landsat(bare)
    with pytest.raises(SceneError, match="gain= and offset= go together"):
        open_landsat(bare, gain=2.75e-05)


def test_box_and_grid_of_another(tmp_path: Path) -> None:
    folder = write_landsat(tmp_path, some_numbers())
    whole = open_landsat(folder)
    left, top = CORNER
    box = (left + 300, top - 900, left + 600, top - 300)
    part = open_landsat(folder, box=box)
    np.testing.assert_array_equal(part.values, whole.values[:, 10:30, 10:20])
    again = open_landsat(folder, like=part)
    np.testing.assert_array_equal(again.values, part.values)
    coarse = open_landsat(folder, resolution=60, resampling="nearest")
    assert coarse.shape[1:] in {(30, 30), (31, 31), (31, 30), (30, 31)}


def test_mtl_file_itself(tmp_path: Path) -> None:
    folder = write_landsat(tmp_path, some_numbers())
    (mtl,) = folder.glob("*_MTL.txt")
    np.testing.assert_array_equal(open_landsat(mtl).values, open_landsat(folder).values)
    product = find_landsat(mtl)
    assert product is not None
    assert product.scaling_of("B4") == (2.75e-05, -0.2)
    assert find_landsat(tmp_path) is None


def test_files_copied_about(tmp_path: Path) -> None:
    """With the copies of attributes that a Mac makes, and endings in small letters."""
    folder = write_landsat(tmp_path, some_numbers())
    wanted = open_landsat(folder).compute()
    for file in list(folder.iterdir()):
        file.with_name(f"._{file.name}").write_bytes(b"\0\5")
    np.testing.assert_array_equal(open_landsat(folder), wanted)
    (mtl,) = folder.glob("LC*_MTL.txt")
    mtl.unlink()
    for file in folder.glob("*.TIF"):
        file.rename(file.with_suffix(".tif"))
    np.testing.assert_array_equal(open_landsat(folder, gain=2.75e-05, offset=-0.2), wanted)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    folder = write_landsat(tmp_path, some_numbers())
    with pytest.raises(SceneError, match=r"band\(s\) swir16.*blue \(B2\)"):
        open_landsat(folder, ("red", "swir16"))
    with pytest.raises(SceneError, match=r"among coastal .* got lwir11, B10"):
        open_landsat(folder, ("lwir11", "B10"))
    (qa,) = folder.glob("*QA_PIXEL.TIF")
    qa.unlink()
    with pytest.raises(SceneError, match=r"no file QA_PIXEL.*mask=\(\)"):
        open_landsat(folder)
    with pytest.raises(SceneError, match="masks are chosen among"):
        open_landsat(folder, mask=("haze",))
    with pytest.raises(SceneError, match="must be a folder of Landsat bands"):
        open_landsat(tmp_path)
    other = write_landsat(tmp_path / "more", some_numbers(), day="2021-08-01")
    (mtl,) = other.glob("*MTL.txt")
    mtl.rename(folder / mtl.name)
    with pytest.raises(SceneError, match="must have a folder of its own"):
        open_landsat(folder)


def test_what_has_no_reflectance(tmp_path: Path) -> None:
    folder = write_landsat(tmp_path / "a", some_numbers())
    (mtl,) = folder.glob("*MTL.txt")
    text = mtl.read_text()
    mtl.write_text(text.replace("LEVEL2_SURFACE_REFLECTANCE", "LEVEL2_SURFACE_TEMPERATURE"))
    with pytest.raises(SceneError, match=r"B4 .*must have a scaling to reflectance.*level L2"):
        open_landsat(folder)
    mtl.write_text(text.replace("14:37:52.1234560Z", "noon"))
    with pytest.raises(SceneError, match="sensing time as DATE_ACQUIRED"):
        open_landsat(folder)
    night = write_landsat(tmp_path / "b", some_numbers(), level="L1TP", elevation=-3.0)
    with pytest.raises(SceneError, match="the sun stands at -3 degrees"):
        open_landsat(night)
    (mtl,) = night.glob("*MTL.txt")
    mtl.write_text(mtl.read_text().replace("SUN_ELEVATION", "SUN_HEIGHT"))
    with pytest.raises(SceneError, match="has no SUN_ELEVATION"):
        open_landsat(night)
    old = write_landsat(tmp_path / "c", some_numbers(), craft=3, sensor="MSS", level="L1TP")
    with pytest.raises(SceneError, match="known of the sensors TM"):
        open_landsat(old)


def test_other_metadata_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "LC08_MTL.txt"
    path.write_text("GROUP = L1_METADATA_FILE\nGROUP = METADATA_FILE_INFO\nA = 1\nEND\n")
    with pytest.raises(SceneError, match=r"Collection 2, .* got METADATA_FILE_INFO"):
        read_mtl(path)
    path = tmp_path / "LC08_MTL.json"
    path.write_text('{"LANDSAT_METADATA_FILE": [1')
    with pytest.raises(SceneError, match="must be the metadata of a Landsat product"):
        read_mtl(path)
