"""Sentinel-2 products as delivered."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from products_for_tests import (
    BAND_IDS,
    CORNER,
    PIXEL,
    SENSED,
    STARTED,
    edit,
    expected,
    granule,
    some_surface,
    write_jp2,
    write_safe,
    zip_product,
)
from rasters_for_tests import never, reading

from csc_xr.errors import SceneError
from csc_xr.grid import scene_transform
from csc_xr.products.safe import BANDS
from csc_xr.products.sentinel2 import SCL_CLASSES, open_sentinel2
from csc_xr.scene import valid_pixels

SIDE = 36
FOUR = ("B04", "B03", "B02", "B08")


def hard_surface(bands: tuple[str, ...] = FOUR) -> dict[str, np.ndarray]:
    """Reflectance with what is hard about it: under zero, none, saturated, the smallest."""
    surface = some_surface(bands, side=SIDE)
    for pixels in surface.values():
        pixels[0, 0] = np.nan
        pixels[0, 1] = np.inf
        pixels[1, :2] = -0.05, -0.0999
        pixels[2, :2] = 0, 0.0001
        pixels[3, :2] = 1.4, 5.5534
    return surface


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An L2A product of all kinds of bands, with clouds; not to be changed."""
    scl = np.full((SIDE // 2, SIDE // 2), 4, "uint8")
    scl[:3, :4] = np.arange(12).reshape(3, 4)
    surface = some_surface(("B01", "B02", "B03", "B04", "B05", "B08", "B11"), side=SIDE)
    return write_safe(tmp_path_factory.mktemp("safe"), surface, scl=scl, copies=True)


@pytest.fixture
def copy(safe: Path, tmp_path: Path) -> Path:
    """A copy of the product, to be damaged."""
    return Path(shutil.copytree(safe, tmp_path / safe.name))


@pytest.mark.parametrize("level", ["L1C", "L2A"])
def test_every_baseline_gives_the_same_numbers(tmp_path: Path, level: str) -> None:
    surface = hard_surface()
    scenes = []
    for baseline in ("02.08", "03.01", "04.00", "05.11"):
        for zipped in (False, True):
            path = write_safe(
                tmp_path / f"{baseline}{zipped}", surface, level=level, baseline=baseline,
                zipped=zipped,
            )  # fmt: skip
            scenes.append(open_sentinel2(path).compute())
            warped = open_sentinel2(path, resolution=7, crs="EPSG:3413", resampling="cubic")
            scenes.append(warped.compute())
    for scene, warped in zip(scenes[2::2], scenes[3::2], strict=True):
        np.testing.assert_array_equal(scene, scenes[0])
        np.testing.assert_array_equal(warped, scenes[1])
        assert scene.attrs["_FillValue"] == 0
    first = scenes[0]
    for name, pixels in zip(FOUR, first.values, strict=True):
        np.testing.assert_array_equal(pixels, expected(surface[name]))
    valid = valid_pixels(first).values
    assert not valid[0, 0]
    assert valid.sum() == valid.size - 1
    assert (first.values[:, 1, :2] == 1).all()  # under zero, but known
    assert first.dtype == np.uint16
    assert first.time.values == np.datetime64(SENSED[:-1], "ns")
    assert {key: first.attrs[key] for key in ("scale", "nodata_when", "quantification")} == {
        "scale": 8192.0, "nodata_when": "any", "quantification": 10000.0,
    }  # fmt: skip
    assert first.band.values.tolist() == ["red", "green", "blue", "nir"]


def test_offsets_and_quantification_by_band(tmp_path: Path) -> None:
    surface = some_surface(("B02", "B8A", "B12"), side=SIDE)
    offsets = {name: -100 * (number + 1) for name, number in BAND_IDS.items()}
    for level in ("L1C", "L2A"):
        path = write_safe(tmp_path / level, surface, level=level, offsets=offsets)
        scene = open_sentinel2(path, ("B8A", "B12"))
        np.testing.assert_array_equal(scene[0], expected(surface["B8A"]))
        np.testing.assert_array_equal(scene[1], expected(surface["B12"]))
        fewer = write_safe(tmp_path / f"{level}q", surface, level=level, quantification=5000)
        halved = open_sentinel2(fewer, ["B02"]).values[0].astype(int)
        assert np.abs(halved - expected(surface["B02"])).max() <= 1


def test_real_bands_are_what_rasterio_reads(shared: Path) -> None:
    folder = shared / "data/s2_l1c_jp2/IMG_DATA"
    for name, common in BANDS.items():
        scene = open_sentinel2(folder, [name], offset=0)
        with reading(folder / f"T33UUU_20170216T102101_{name}.jp2") as dataset:
            np.testing.assert_array_equal(scene.values[0], dataset.read(1))
            assert scene_transform(scene) == dataset.transform
            assert scene.rio.crs == dataset.crs
        assert scene.band.values.tolist() == [common]
        assert scene.time.values == np.datetime64("2017-02-16T10:21:01")
        assert "valid" not in scene.coords


def test_real_bands_side_by_side(shared: Path) -> None:
    folder = shared / "data/s2_l1c_jp2/IMG_DATA"
    bands = ("B05", "B11")
    scene = open_sentinel2(folder, bands, offset=0, chunks=250)
    with dask.config.set(scheduler="threads", num_workers=8):
        one = scene.values
    for name, pixels in zip(bands, one, strict=True):
        with reading(folder / f"T33UUU_20170216T102101_{name}.jp2") as dataset:
            np.testing.assert_array_equal(pixels, dataset.read(1))


def test_common_names_and_short_ones(safe: Path) -> None:
    one = open_sentinel2(safe, ("red", "B3", "b02"))
    assert one.band.values.tolist() == ["red", "green", "blue"]
    np.testing.assert_array_equal(one, open_sentinel2(safe, ("B04", "green", "BLUE")))


def test_opening_computes_nothing(safe: Path) -> None:
    with dask.config.set(scheduler=never):
        open_sentinel2(safe, ("B04", "B05"), resolution=10)


def test_the_scene_classification_masks(safe: Path) -> None:
    scl = np.full((SIDE // 2, SIDE // 2), 4)
    scl[:3, :4] = np.arange(12).reshape(3, 4)
    fine = scl.repeat(2, 0).repeat(2, 1)
    choices: list[tuple[Any, tuple[int, ...]]] = [
        (None, (3, 8, 9, 10)), ("snow", (11,)), (("water", 4, "cloud_shadow"), (3, 4, 6)),
        (2, (2,)),
    ]  # fmt: skip
    for mask, classes in choices:
        scene = open_sentinel2(safe, ("B04",), mask=mask)
        np.testing.assert_array_equal(scene.valid, ~np.isin(fine, classes))
        coarse = open_sentinel2(safe, ("B11",), mask=mask)
        np.testing.assert_array_equal(coarse.valid, ~np.isin(scl, classes))
    assert "valid" not in open_sentinel2(safe, mask=()).coords
    assert SCL_CLASSES["thin_cirrus"] == 10


def test_bands_of_several_resolutions(safe: Path) -> None:
    with pytest.raises(SceneError, match=r"B04 10, B05 20\. Pass resolution=10"):
        open_sentinel2(safe, ("B04", "B05"))
    surface = some_surface(("B01", "B02", "B03", "B04", "B05", "B08", "B11"), side=SIDE)
    fine = open_sentinel2(safe, ("B04", "B05"), resolution=10, resampling="nearest")
    np.testing.assert_array_equal(fine[0], expected(surface["B04"]))
    np.testing.assert_array_equal(fine[1], expected(surface["B05"]).repeat(2, 0).repeat(2, 1))
    coarse = open_sentinel2(safe, ("B04", "B05"), resolution=20)
    np.testing.assert_array_equal(coarse[0], expected(surface["B04"])[::2, ::2])  # the file at 20 m
    like = open_sentinel2(safe, ("B01", "B11"), like=fine)
    assert scene_transform(like) == scene_transform(fine)
    assert like.shape == (2, SIDE, SIDE)
    polar = open_sentinel2(safe, ("B04", "B05"), crs="EPSG:3413", chunks=9)
    assert polar.rio.crs.to_epsg() == 3413
    parts, whole = polar, open_sentinel2(safe, ("B04", "B05"), crs="EPSG:3413", chunks=-1)
    np.testing.assert_array_equal(parts, whole)
    np.testing.assert_array_equal(parts.valid, whole.valid)


def test_a_box_is_the_same_pixels(safe: Path) -> None:
    whole = open_sentinel2(safe)
    part = open_sentinel2(safe, box=(500041, 7399811, 500120, 7399990))
    same = whole.sel(x=part.x, y=part.y)
    assert part.shape == (4, 18, 8)
    np.testing.assert_array_equal(part, same)
    np.testing.assert_array_equal(part.valid, same.valid)


def test_time_of_the_product_where_the_tile_has_none(tmp_path: Path) -> None:
    path = write_safe(tmp_path, some_surface(side=12), sensed=None)
    assert open_sentinel2(path).time.values == np.datetime64(STARTED[:-1], "ns")


def test_offset_given(copy: Path) -> None:
    edit(copy / "MTD_MSIL2A.xml", "BOA_ADD_OFFSET", "SOMETHING")
    with pytest.raises(SceneError, match=r"offset of B04 \(BOA_ADD_OFFSET\).*baseline 05.11"):
        open_sentinel2(copy)
    given = open_sentinel2(copy, offset=-1000)
    np.testing.assert_array_equal(given[0], expected(some_surface_of(copy, "B04")))
    with pytest.raises(SceneError, match="offset must be a number"):
        open_sentinel2(copy, offset="-1000")  # type: ignore[arg-type]


def some_surface_of(product: Path, band: str) -> np.ndarray:
    file = next(granule(product).rglob(f"*_{band}_{PIXEL[band]}m.jp2"))
    with reading(file) as dataset:
        return (dataset.read(1).astype(float) - 1000) / 10000


def test_a_product_with_a_missing_band(copy: Path) -> None:
    for file in granule(copy).rglob("*_B03_*"):
        file.unlink()
    with pytest.raises(SceneError, match=r"must hold band B03 \(green\), but has only B01, B02, B"):
        open_sentinel2(copy)
    with pytest.raises(SceneError, match=r"L2A products never have B10"):
        open_sentinel2(copy, ("B10",))


def test_a_product_with_a_truncated_band(copy: Path) -> None:
    file = next(granule(copy).rglob("*_B03_10m.jp2"))
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(SceneError, match=r"_B03_10m\.jp2 must be complete, but it is \d+ bytes"):
        open_sentinel2(copy)
    with pytest.raises(SceneError, match=r"_B03_10m\.jp2 must be complete, but it is \d+ bytes"):
        open_sentinel2(zip_product(copy))


def test_products_with_two_granules(tmp_path: Path) -> None:
    path = write_safe(tmp_path, some_surface(side=12), granules=2)
    with pytest.raises(SceneError, match=r"one granule \(tile\), but holds 2: L2A_T24WW1_A"):
        open_sentinel2(path)
    assert open_sentinel2(granule(path)).shape == (4, 12, 12)


def test_folders_of_several(tmp_path: Path, safe: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(safe, tmp_path / name / safe.name)
    with pytest.raises(SceneError, match="must be one product, but holds 2: a/S2B_"):
        open_sentinel2(tmp_path)
    loose = tmp_path / "loose"
    loose.mkdir()
    file = next(safe.rglob("*_B04_10m.jp2"))
    for name in ("T24WWU_20210715T143749_B04.jp2", "T24WWU_20210715T143749_B4_B04.jp2"):
        shutil.copy(file, loose / name)
    with pytest.raises(SceneError, match="must hold each band once, but holds T24WWU_20210715T"):
        open_sentinel2(loose, ("B04",), offset=0)
    shutil.copy(file, loose / "T24WWV_20210716T143749_B04.jp2")
    with pytest.raises(SceneError, match="must hold bands of one tile, but holds T24WWU, T24WWV"):
        open_sentinel2(loose, ("B04",), offset=0)


def test_what_is_no_product(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="there is no such file or folder"):
        open_sentinel2(tmp_path / "absent.SAFE")
    with pytest.raises(SceneError, match="must hold a Sentinel-2 product: MTD"):
        open_sentinel2(tmp_path)
    text = tmp_path / "product.zip"
    text.write_text("no zip")
    with pytest.raises(SceneError, match=r"its zip, or bands .* is none of these, or a zip that"):
        open_sentinel2(text)
    with pytest.raises(SceneError, match=r"there is no .*B04\.jp2"):
        open_sentinel2([tmp_path / "B04.jp2"])
    with pytest.raises(SceneError, match="there is no file in the list"):
        open_sentinel2([])
    with pytest.raises(SceneError, match=r"must end in the band's name.*got product\.zip"):
        open_sentinel2([text])


def test_a_zip_cut_short(copy: Path) -> None:
    archive = zip_product(copy)
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(SceneError, match="or a zip that is cut short"):
        open_sentinel2(archive)


def test_a_zip_whose_list_is_damaged(copy: Path) -> None:
    archive = zip_product(copy)
    data = bytearray(archive.read_bytes())
    data[data.find(b"PK\x01\x02")] = 0
    archive.write_bytes(data)
    with pytest.raises(SceneError, match="its list of files is damaged"):
        open_sentinel2(archive)


def test_a_zip_with_a_damaged_member(copy: Path) -> None:
    for member, message in (("_B03_10m.jp2", "B03_10m.jp2"), ("MTD_MSIL2A.xml", "cannot be read")):
        again = Path(shutil.copytree(copy, copy.parent / member / copy.name))
        archive = zip_product(again)
        with zipfile.ZipFile(archive) as whole:
            entry = next(e for e in whole.infolist() if e.filename.endswith(member))
        data = bytearray(archive.read_bytes())
        start = entry.header_offset + 30 + len(entry.filename)
        data[start : start + 60] = bytes([255] * 60)
        archive.write_bytes(data)
        with pytest.raises(SceneError, match=message):
            open_sentinel2(archive)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</n1:General_Info>", "", "cannot be read: mismatched tag"),
        ("<n1:Level-2A_User_Product", "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>\n"
         "<n1:Level-2A_User_Product", "cannot be read: it has a DOCTYPE"),
        ("BOA_QUANTIFICATION_VALUE", "OTHER", r"must say what numbers mean \(BOA_QUANT"),
        ('encoding="UTF-8"', 'encoding="none"', "cannot be read: unknown encoding"),
        (">10000<", ">0<", "must be positive, got 0"),
        (">10000<", ">many<", "must be a number, got 'many'"),
        ('band_id="3"', 'band_id="17"', "by band_id 0 to 12, got '17'"),
        (">-1000<", "><", "must be a number, got ''"),
        ('band_id="3"', 'band_id="2"', r"offset of B04 \(BOA_ADD_OFFSET\)"),
    ],
)  # fmt: skip
def test_metadata_that_cannot_be_used(copy: Path, old: str, new: str, message: str) -> None:
    edit(copy / "MTD_MSIL2A.xml", old, new)
    with pytest.raises(SceneError, match=message):
        open_sentinel2(copy)


def test_metadata_of_the_tile_that_cannot_be_used(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(granule(copy) / "MTD_TL.xml", SENSED, "yesterday")
    with pytest.raises(SceneError, match="must be as 2021-07-15T14:37:49Z, got 'yesterday'"):
        open_sentinel2(copy)
    monkeypatch.setattr("csc_xr.products.safe._LARGEST_XML", 100)
    with pytest.raises(SceneError, match="it is larger than"):
        open_sentinel2(copy)


def test_products_without_bands_or_classification(copy: Path, tmp_path: Path) -> None:
    next(granule(copy).rglob("*_SCL_20m.jp2")).unlink()
    with pytest.raises(SceneError, match=r"must hold the scene classification .* mask=\(\)"):
        open_sentinel2(copy)
    assert "valid" not in open_sentinel2(copy, mask=()).coords
    (copy / "MTD_MSIL2A.xml").unlink()
    with pytest.raises(SceneError, match=r"must hold MTD_MSIL1C\.xml or .* above GRANULE"):
        open_sentinel2(copy)
    (copy / "MTD_MSIL2A.xml").write_text("<x/>")
    shutil.rmtree(granule(copy) / "IMG_DATA")
    with pytest.raises(SceneError, match="must hold bands in GRANULE"):
        open_sentinel2(copy)
    level_one = write_safe(tmp_path / "one", some_surface(side=12), level="L1C")
    assert "valid" not in open_sentinel2(level_one).coords
    with pytest.raises(SceneError, match="only L2A products have one"):
        open_sentinel2(level_one, mask=("snow",))


def test_bands_of_different_grids(copy: Path) -> None:
    file = next(granule(copy).rglob("*_B03_10m.jp2"))
    moved = (CORNER[0] + 100000, CORNER[1])
    write_jp2(file, np.ones((SIDE, SIDE), "uint16"), 10, corner=moved)
    with pytest.raises(SceneError, match="must lie in one CRS and cover one area, but B04"):
        open_sentinel2(copy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": ("B04", "B13")}, "Bands of Sentinel-2 are B01, .* got B13"),
        ({"bands": ("B04", "red")}, "at least one band, and each once, got B04, red"),
        ({"bands": ()}, "at least one band, and each once, got none"),
        ({"mask": ("fog",)}, "mask must hold classes .* got fog"),
        ({"mask": 12}, "mask must hold classes .* got 12"),
        ({"box": (0, 0, 1, 1)}, "must touch the image"),
        ({"resampling": "best"}, "resampling must be one of"),
        ({"scale": -1}, "scale of a scene must be a positive number"),
        ({"chunks": 0}, "chunks must be"),
    ],
)
def test_settings_that_cannot_be_used(safe: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        open_sentinel2(safe, **options)
