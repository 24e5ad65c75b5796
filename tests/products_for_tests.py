"""Generated Sentinel-2 products, laid out as they are delivered."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

BAND_IDS = {
    name: number
    for number, name in enumerate(
        ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
    )
}
PIXEL = dict.fromkeys(BAND_IDS, 20)
PIXEL.update(dict.fromkeys(("B02", "B03", "B04", "B08"), 10))
PIXEL.update(dict.fromkeys(("B01", "B09", "B10"), 60))
CORNER = (500000.0, 7400040.0)
CRS = "EPSG:32624"
SENSED = "2021-07-15T14:37:52.024Z"
STARTED = "2021-07-15T14:37:49.024Z"


def some_surface(
    bands: Sequence[str] = ("B02", "B03", "B04", "B08"), side: int = 120, seed: int = 1
) -> dict[str, np.ndarray]:
    """Reflectance by band, each on its native pixels, of a square of `side` pixels of 10 m.

    NaN stands for no data, infinity for saturated.
    """
    rng = np.random.default_rng(seed)
    return {name: rng.integers(1, 9000, (side * 10 // PIXEL[name],) * 2) / 10000 for name in bands}


def write_safe(
    folder: Path,
    surface: Mapping[str, np.ndarray],
    *,
    level: str = "L2A",
    baseline: str = "05.11",
    zipped: bool = False,
    scl: np.ndarray | None = None,
    offsets: Mapping[str, int] | None = None,
    quantification: int = 10000,
    copies: bool = False,
    granules: int = 1,
    tile: str = "T24WWU",
    corner: tuple[float, float] = CORNER,
    crs: str = CRS,
    started: str = STARTED,
    sensed: str | None = SENSED,
    block: int = 1024,
    name: str | None = None,
) -> Path:
    """Write a generated product in compact naming.

    Parameters
    ----------
    folder : Path
        Where to; made if absent.
    surface : mapping of str to numpy.ndarray
        Reflectance by band ("B04"), each on its native pixels (10, 20 or 60 m); NaN is written as
        no data, infinity as saturated. The product has these bands only.
    level : {"L1C", "L2A"}
        Processing level.
    baseline : str
        Processing baseline; from 04.00 on numbers are shifted by 1000, as delivered, and before
        it reflectance under zero is cut to the number 1.
    zipped : bool
        True gives ``<product>.zip`` with the folder inside, and no folder.
    scl : numpy.ndarray, optional
        Scene classification at 20 m, L2A only; by default 5 (bare soil) everywhere. The size is
        read off the bands.
    offsets : mapping of str to int, optional
        Offsets by band written to the metadata and applied, in place of the baseline's; an
        empty one leaves the list out.
    quantification : int
        Numbers of a reflectance of 1.
    copies : bool
        True writes the bands of 10 m at 20 and 60 m too, every second and sixth pixel (L2A).
    granules : int
        Folders in GRANULE; those after the first are copies.
    tile, corner, crs : str, tuple of float, str
        Name of the tile, and where its upper left corner lies.
    started, sensed : str, optional
        Start of the product, and sensing time of the tile (None leaves it out).
    block : int
        Sides of the tiles of the JP2 files.
    name : str, optional
        Of the product without ``.SAFE``; by default as delivered.

    Returns
    -------
    Path
        The ``.SAFE`` folder, or the zip.
    """
    day = started[:19].replace("-", "").replace(":", "")
    number = baseline.replace(".", "")
    name = name or f"S2B_MSI{level}_{day}_N{number}_R053_{tile}_{day[:8]}T171201"
    product = folder / f"{name}.SAFE"
    granule = product / "GRANULE" / f"{level}_{tile}_A022752_{day}"
    (granule / "IMG_DATA").mkdir(parents=True)
    if offsets is None:
        offsets = dict.fromkeys(BAND_IDS, -1000) if baseline >= "04" else {}
    for band, reflectance in surface.items():
        pixels = as_delivered(reflectance, quantification, offsets.get(band, 0))
        sides = [PIXEL[band]]
        if copies and level == "L2A":
            sides += [side for side in (20, 60) if side > PIXEL[band]]
        for side in sides:
            step = side // PIXEL[band]
            path = _image(granule, level, f"{tile}_{day}_{band}", side)
            write_jp2(path, pixels[::step, ::step], side, corner, crs, block)
    if level == "L2A":
        band, reflectance = next(iter(surface.items()))
        rows = -(-reflectance.shape[0] * PIXEL[band] // 20)
        columns = -(-reflectance.shape[1] * PIXEL[band] // 20)
        classes = np.full((rows, columns), 5, "uint8") if scl is None else scl
        write_jp2(_image(granule, level, f"{tile}_{day}_SCL", 20), classes, 20, corner, crs, block)
    (granule / "MTD_TL.xml").write_text(tile_xml(level, sensed))
    for more in range(1, granules):
        shutil.copytree(granule, granule.with_name(f"{level}_T24WW{more}_A022752_{day}"))
    (product / f"MTD_MSI{level}.xml").write_text(
        product_xml(level, baseline, offsets, quantification, started)
    )
    if not zipped:
        return product
    return zip_product(product)


def zip_product(product: Path) -> Path:
    """Put a product into ``<product>.zip`` beside it, and take the folder away."""
    target = product.with_suffix(".zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in sorted(product.rglob("*")):
            archive.write(entry, entry.relative_to(product.parent))
    shutil.rmtree(product)
    return target


def as_delivered(reflectance: np.ndarray, quantification: int, offset: int) -> np.ndarray:
    """Numbers of a product: 0 where NaN, 65535 where infinite, never less than 1 elsewhere."""
    known = np.where(np.isfinite(reflectance), reflectance, 0)
    numbers = np.clip(np.round(known * quantification) - offset, 1, 65534).astype("uint16")
    numbers[np.isnan(reflectance)] = 0
    numbers[np.isinf(reflectance)] = 65535
    return numbers


def write_jp2(
    path: Path,
    pixels: np.ndarray,
    side: float,
    corner: tuple[float, float] = CORNER,
    crs: str = CRS,
    block: int = 1024,
) -> Path:
    """Write a JP2 without loss, of (y, x) pixels with `side` metres."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="JP2OpenJPEG",
        count=1,
        height=height,
        width=width,
        dtype=pixels.dtype,
        crs=crs,
        transform=Affine(side, 0, corner[0], 0, -side, corner[1]),
        REVERSIBLE="YES",
        QUALITY="100",
        tiled=True,
        blockxsize=block,
        blockysize=block,
    ) as dataset:
        dataset.write(pixels, 1)
    return path


def product_xml(
    level: str, baseline: str, offsets: Mapping[str, int], quantification: int, started: str
) -> str:
    """Metadata of a product, as far as anything reads it."""
    digit = level[1:]
    tag = "RADIO_ADD_OFFSET" if level == "L1C" else "BOA_ADD_OFFSET"
    entries = "".join(
        f'<{tag} band_id="{BAND_IDS[band]}">{value}</{tag}>' for band, value in offsets.items()
    )
    around = "Radiometric_Offset_List" if level == "L1C" else "BOA_ADD_OFFSET_VALUES_LIST"
    unit = f'unit="none">{quantification}'
    quantity = f"<QUANTIFICATION_VALUE {unit}</QUANTIFICATION_VALUE>"
    if level == "L2A":
        quantity = (
            f"<QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE {unit}"
            "</BOA_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>"
        )
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{digit}_User_Product
    xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{digit}.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>{started}</PRODUCT_START_TIME>
      <PROCESSING_LEVEL>Level-{digit}</PROCESSING_LEVEL>
      <PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX>
      </Special_Values>
      {quantity}
      {f"<{around}>{entries}</{around}>" if entries else ""}
    </Product_Image_Characteristics>
  </n1:General_Info>
</n1:Level-{digit}_User_Product>
"""


def tile_xml(level: str, sensed: str | None) -> str:
    """Metadata of a tile, as far as anything reads it."""
    digit = level[1:]
    time = f'<SENSING_TIME metadataLevel="Standard">{sensed}</SENSING_TIME>' if sensed else ""
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{digit}_Tile_ID
    xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-{digit}_Tile_Metadata.xsd">
  <n1:General_Info>{time}</n1:General_Info>
</n1:Level-{digit}_Tile_ID>
"""


def granule(product: Path) -> Path:
    """The folder of its one tile."""
    return next((product / "GRANULE").iterdir())


def edit(path: Path, old: str, new: str) -> None:
    """Replace what a file of text must have."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def expected(reflectance: np.ndarray) -> np.ndarray:
    """Numbers of a scene: 0 where NaN, 65535 where infinite, never less than 1 elsewhere."""
    known = np.where(np.isfinite(reflectance), reflectance, 0)
    numbers = np.round(known * 10000).clip(1, 65535)
    numbers[np.isnan(reflectance)] = 0
    numbers[np.isinf(reflectance)] = 65535
    return numbers.astype("uint16")


def _image(granule: Path, level: str, stem: str, side: int) -> Path:
    if level == "L1C":
        return granule / "IMG_DATA" / f"{stem}.jp2"
    return granule / "IMG_DATA" / f"R{side}m" / f"{stem}_{side}m.jp2"
