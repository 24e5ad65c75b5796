"""Where the files of Sentinel-2 products lie, and what they are called."""

from __future__ import annotations

import shutil
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from products_for_tests import CRS, SENSED, edit, expected, granule, some_surface, write_safe
from rasters_for_tests import write_raster

from csc_xr.errors import CscWarning, SceneError
from csc_xr.products.sentinel2 import open_sentinel2

SIDE = 36


@pytest.fixture
def product(tmp_path: Path) -> Path:
    """A product of level 2, to be changed."""
    return write_safe(tmp_path, some_surface(side=SIDE))


def test_places_a_product_can_lie(product: Path, tmp_path: Path) -> None:
    reference = open_sentinel2(product).compute()
    inner = granule(product)
    loose = [inner, inner / "IMG_DATA", inner / "IMG_DATA/R10m", product.parent]
    files = sorted((inner / "IMG_DATA/R10m").iterdir())
    for path in (*loose, files):
        scene = open_sentinel2(path, mask=())
        np.testing.assert_array_equal(scene, reference)
        assert scene.time.values == reference.time.values
    bare = product.rename(tmp_path / "product")
    np.testing.assert_array_equal(open_sentinel2(bare), reference)
    archive = tmp_path / "flat.zip"
    with zipfile.ZipFile(archive, "w") as target:  # without a folder around
        for entry in bare.rglob("*"):
            target.write(entry, entry.relative_to(bare))
    np.testing.assert_array_equal(open_sentinel2(str(archive)), reference)


def test_old_names(tmp_path: Path) -> None:
    surface = some_surface(side=SIDE)
    path = write_safe(tmp_path, surface, level="L1C", baseline="02.01")
    (path / "MTD_MSIL1C.xml").rename(path / "S2A_OPER_MTD_SAFL1C_PDMC_20160101T000000.xml")
    inner = granule(path)
    (inner / "MTD_TL.xml").rename(inner / "S2A_OPER_MTD_L1C_TL_SGS__20160101_T24WWU.xml")
    for file in (inner / "IMG_DATA").iterdir():
        file.rename(file.with_name(f"S2A_OPER_MSI_L1C_TL_SGS__20160101_T24WWU_{file.name[-7:]}"))
    scene = open_sentinel2(path)
    np.testing.assert_array_equal(scene[0], expected(surface["B04"]))
    assert scene.time.values == np.datetime64(SENSED[:-1])


def test_old_names_of_level_2(tmp_path: Path) -> None:
    scl = np.full((SIDE // 2, SIDE // 2), 9, "uint8")
    path = write_safe(tmp_path, some_surface(side=SIDE), baseline="02.01", scl=scl)
    root = path / "S2A_USER_MTD_SAFL2A_PDMC_20160101T000000.xml"
    (path / "MTD_MSIL2A.xml").rename(root)
    edit(root, "BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE")
    image = next(granule(path).rglob("*_SCL_20m.jp2"))
    image.rename(image.parents[1] / "S2A_USER_SCL_L2A_TL_MTI__20160101T131225_A002_T24WWU_20m.jp2")
    assert not open_sentinel2(path).valid.any()


def test_files_that_are_no_bands(product: Path) -> None:
    """Copies of attributes by a Mac, masks of quality, other images."""
    reference = open_sentinel2(product).values
    for file in [entry for entry in product.rglob("*") if entry.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5")
    inner = granule(product)
    (inner / "QI_DATA").mkdir()
    others = ("QI_DATA/MSK_DETFOO_B04.jp2", "QI_DATA/MSK_QUALIT_B04.jp2", "QI_DATA/T24WWU_PVI.jp2")
    for name in (*others, "IMG_DATA/R10m/T24WWU_20210715T143749_TCI_10m.jp2"):
        (inner / name).write_bytes(b"x")
    for path in (product, inner, inner / "IMG_DATA/R10m"):
        np.testing.assert_array_equal(open_sentinel2(path, mask=()), reference)
    with zipfile.ZipFile(product.parent / "mac.zip", "w") as archive:
        for entry in product.rglob("*"):
            archive.write(entry, Path("a folder") / entry.relative_to(product))
        archive.writestr("__MACOSX/a folder/MTD_MSIL2A.xml", b"x")
    np.testing.assert_array_equal(open_sentinel2(product.parent / "mac.zip"), reference)


def test_paths_of_zips(tmp_path: Path) -> None:
    surface = {"B04": some_surface(("B04",), side=SIDE)["B04"]}
    product = write_safe(tmp_path / "new", surface, zipped=True)
    for name in ("a b#%20?&<ü>", "{a}{b", "}{"):
        archive = tmp_path / name / "x{1}.SAFE.zip"
        archive.parent.mkdir()
        shutil.copy(product, archive)
        if name[0] == "a":
            np.testing.assert_array_equal(
                open_sentinel2(archive, "B04")[0], expected(surface["B04"])
            )
            assert open_sentinel2(archive, "B04", resolution=7).values.any()
            continue
        with pytest.raises(SceneError, match="must not have a brace without its other half"):
            open_sentinel2(archive, "B04")
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as archive:
        archive.writestr("x.SAFE\\MTD_MSIL2A.xml", b"x")
    with pytest.raises(SceneError, match=r"must have / between folders, but .* Unpack it"):
        open_sentinel2(tmp_path / "windows.zip")


def test_loose_bands_of_two_dates(product: Path, tmp_path: Path) -> None:
    folder = tmp_path / "loose"
    folder.mkdir()
    for band, day in (("B04", "20210715"), ("B08", "20210716")):
        file = next(product.rglob(f"*_{band}_10m.jp2"))
        shutil.copy(file, folder / f"T24WWU_{day}T143749_{band}.jp2")
    with pytest.raises(SceneError, match="one date, but holds 20210715T143749, 20210716T143749"):
        open_sentinel2(folder, ("red", "nir"), offset=0)


def test_what_loose_bands_say_of_nodata(tmp_path: Path) -> None:
    pixels = np.array([[[0, 1, 65535, 9]]], "uint16")
    for nodata, wanted in ((65535, [1, 1, 0, 9]), (None, [0, 1, 65535, 9]), (9, [1, 1, 65535, 0])):
        path = write_raster(tmp_path / f"{nodata}_B04.tif", pixels, crs=CRS, nodata=nodata)
        assert open_sentinel2(path, "B04", offset=0).values.tolist() == [[wanted]]


def test_loose_bands_without_metadata(tmp_path: Path) -> None:
    pixels = np.arange(1, 101, dtype="uint16").reshape(1, 10, 10) + 1000
    write_raster(tmp_path / "B04.tif", pixels, driver="GTiff", crs=CRS)
    write_raster(tmp_path / "B08.tif", pixels + 5, driver="GTiff", crs=CRS)
    with pytest.warns(CscWarning, match="has no metadata, so the offset .* pass offset=-1000"):
        plain = open_sentinel2(tmp_path, ("B04",))
    np.testing.assert_array_equal(plain, pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shifted = open_sentinel2([tmp_path / "B08.tif", tmp_path / "B04.tif"], ("red", "nir"),
                                 offset=-1000)  # fmt: skip
        alone = open_sentinel2(tmp_path / "B04.tif", ("red",), offset=-1000)
    np.testing.assert_array_equal(shifted, np.concatenate([pixels, pixels + 5]) - 1000)
    np.testing.assert_array_equal(alone[0], shifted[0])
    assert "time" not in shifted.coords
