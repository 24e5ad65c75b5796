"""What Sentinel-2 products hold and say about themselves."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree as ET

import numpy as np

from csc_xr.errors import SceneError
from csc_xr.raster import path_in_zip

BANDS = {
    "B01": "coastal",
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B05": "rededge1",
    "B06": "rededge2",
    "B07": "rededge3",
    "B08": "nir",
    "B8A": "nir08",
    "B09": "nir09",
    "B10": "cirrus",
    "B11": "swir16",
    "B12": "swir22",
}
"""Bands in the order of their numbers in the metadata, with their common names."""

OFFSET_SINCE = "04.00"
"""Processing baseline from which on the metadata must hold offsets."""

_PRODUCT = re.compile(r"(?:MTD_MSIL(?:1C|2A)|S2._.*_MTD_(?:SAF|DAM)L(?:1C|2A)_.*)\.xml", re.I)
_GRANULE = re.compile(r"(?:MTD_TL|S2._.*_MTD_L(?:1C|2A)_TL_.*)\.xml", re.I)
BAND_FILE = re.compile(
    r"(?!MSK_)(?:.*_)?(B(?:0[1-9]|1[0-2]|8A)|SCL)(?:_L2A_TL_\w+?)?(?:_(\d\d)m)?\.(?:jp2|tiff?)",
    re.I,
)
"""Names of files of bands and of the scene classification."""

_TILE = re.compile(r"(?:^|_)(T\d\d[A-Z]{3})(?=_)", re.I)
_DATE = re.compile(r"(?<!\d)(\d{8}(?:T\d{6})?)(?!\d)", re.I)
_OF_A_MAC = re.compile(r"(?:^|/)(?:\._|__MACOSX/)")  # copies of attributes, named like the files
_LARGEST_XML = 64 * 2**20
# Of XML, its encoding, files, and zips that are damaged, encrypted or packed in another way.
_UNREADABLE = (
    ET.ParseError, ValueError, LookupError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error
)  # fmt: skip
_ABOVE = 6  # folders from R10m up to the product, with some to spare


@dataclass(frozen=True)
class Image:
    """A band file of a product.

    Attributes
    ----------
    band : str
        As B04, or SCL.
    side : int or None
        Metres of a pixel, where the name says so.
    path : str
        As GDAL takes it.
    """

    band: str
    side: int | None
    path: str


@dataclass(frozen=True)
class Metadata:
    """What the metadata of a product say.

    Attributes
    ----------
    file : str
        Where it says so.
    level : str
        L1C or L2A.
    baseline : str or None
        Processing baseline.
    quantification : float
        Numbers of a reflectance of 1.
    offsets : mapping of str to float
        Added to the numbers of a band before they are divided.
    nodata, saturated : int
        Special numbers.
    time : numpy.datetime64 or None
        When the tile was sensed.
    """

    file: str
    level: str
    baseline: str | None
    quantification: float = 10000.0
    offsets: Mapping[str, float] = field(default_factory=dict)
    nodata: int = 0
    saturated: int = 65535
    time: np.datetime64 | None = None

    def offset_of(self, band: str) -> float:
        """Give the offset of a band.

        Parameters
        ----------
        band : str
            As B04.

        Returns
        -------
        float
            0 where products of the baseline have none.

        Raises
        ------
        SceneError
            When the metadata should hold one and do not.
        """
        if band in self.offsets:
            return self.offsets[band]
        if not self.offsets and self.baseline is not None and self.baseline < OFFSET_SINCE:
            return 0.0
        said = f"baseline {self.baseline}" if self.baseline else "no baseline"
        tag = "RADIO_ADD_OFFSET" if self.level == "L1C" else "BOA_ADD_OFFSET"
        raise SceneError(
            f"{self.file} must hold the offset of {band} ({tag}), as products of processing "
            f"baseline {OFFSET_SINCE} and later do, but says {said} and holds none. Get the "
            "metadata again, or pass offset=-1000 (offset=0 where none was added, or it was taken "
            "off already)."
        )


@dataclass(frozen=True)
class Product:
    """A product, or loose bands of one.

    Attributes
    ----------
    source : str
        What it was opened as.
    images : tuple of Image
        Files of bands.
    metadata : Metadata or None
        None where loose bands have none.
    """

    source: str
    images: tuple[Image, ...]
    metadata: Metadata | None


def find_product(path: str | Path | Sequence[str | Path]) -> Product:
    """Find the bands and metadata of a product.

    Parameters
    ----------
    path : str, Path or sequence of them
        A product, its zip, a folder of loose bands, or files of bands.

    Returns
    -------
    Product
        Only metadata are read; no image is opened.

    Raises
    ------
    SceneError
        When there is no product, or more than one, or its metadata cannot be read.
    """
    if not isinstance(path, str | Path):
        return _of_files([Path(entry) for entry in path])
    source = Path(path)
    if source.is_file() and BAND_FILE.fullmatch(source.name):
        return _of_files([source])
    if source.is_dir():
        return _in_place(_Folder(source), str(source))
    if not source.exists():
        raise SceneError(
            f"{source} must be a Sentinel-2 product, but there is no such file or folder. "
            "Check the path."
        )
    if not zipfile.is_zipfile(source):
        raise SceneError(
            f"{source} must be a Sentinel-2 product: a .SAFE folder, its zip, or bands named like "
            "T24WWU_20210715T143749_B04.jp2, but is none of these, or a zip that is cut short. "
            "Check the path, or get the file again."
        )
    return _in_place(_Zip(source), str(source))


@dataclass(frozen=True)
class _Folder:
    path: Path

    def names(self) -> list[str]:
        entries = sorted(entry for entry in self.path.rglob("*") if entry.is_file())
        return [entry.relative_to(self.path).as_posix() for entry in entries]

    def path_of(self, name: str) -> str:
        return str(self.path / name)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size


@dataclass(frozen=True)
class _Zip:
    path: Path

    def names(self) -> list[str]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = sorted(name for name in archive.namelist() if not name.endswith("/"))
        except zipfile.BadZipFile as error:
            raise SceneError(
                f"{self.path} must be a whole zip, but its list of files is damaged: {error}. Get "
                "it again."
            ) from error
        if strange := [name for name in names if "\\" in name]:
            raise SceneError(
                f"Names in a zip must have / between folders, but {self.path} holds {strange[0]}. "
                "Unpack it, and pass the folder."
            )
        return names

    def path_of(self, name: str) -> str:
        return path_in_zip(self.path, name)

    def read(self, name: str) -> bytes:
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(name)

    def size(self, name: str) -> int:
        with zipfile.ZipFile(self.path) as archive:
            return archive.getinfo(name).file_size


_Place = _Folder | _Zip


def _in_place(place: _Place, source: str) -> Product:
    names = [name for name in place.names() if not _OF_A_MAC.search(name)]
    roots = [name for name in names if _PRODUCT.fullmatch(_last(name))]
    if len(roots) > 1:
        raise SceneError(
            f"{source} must be one product, but holds {len(roots)}: {', '.join(roots[:3])}"
            f"{' ...' if len(roots) > 3 else ''}. Open them one by one."
        )
    if not roots:
        return _loose(place, names, source)
    base = roots[0].removesuffix(_last(roots[0]))
    inside = [name for name in names if name.startswith(base) and "/IMG_DATA/" in f"/{name}"]
    images = [name for name in inside if BAND_FILE.fullmatch(_last(name))]
    granules = sorted({name.split("/IMG_DATA/")[0] for name in images})
    if len(granules) > 1:
        raise SceneError(
            f"{source} must hold one granule (tile), but holds {len(granules)}: "
            f"{', '.join(_last(granule) for granule in granules)}. Pass one of the folders in "
            "GRANULE instead (unpack a zip first)."
        )
    if not images:
        raise SceneError(
            f"{source} must hold bands in GRANULE/*/IMG_DATA, but holds none. Get it again, whole."
        )
    tiles = [
        name
        for name in names
        if name.startswith(granules[0] + "/") and _GRANULE.fullmatch(_last(name))
    ]
    metadata = _read_metadata(place, roots[0], tiles[0] if tiles else None)
    return Product(source, _images(place, images), metadata)


def _loose(place: _Place, names: Sequence[str], source: str) -> Product:
    images = [name for name in names if BAND_FILE.fullmatch(_last(name))]
    if not images:
        raise SceneError(
            f"{source} must hold a Sentinel-2 product: MTD_MSIL1C.xml or MTD_MSIL2A.xml, or bands "
            "named like T24WWU_20210715T143749_B04.jp2, but holds neither. Check the path."
        )
    if any("/GRANULE/" in f"/{name}" for name in images):
        raise SceneError(
            f"{source} must hold MTD_MSIL1C.xml or MTD_MSIL2A.xml above GRANULE, but does not. Get "
            "it again, whole, or pass the folder of its bands with offset=."
        )
    _check_one(images, source)
    metadata = _metadata_above(place.path) if isinstance(place, _Folder) else None
    return Product(source, _images(place, images), metadata)


def _of_files(paths: Sequence[Path]) -> Product:
    absent = [str(path) for path in paths if not path.is_file()]
    if absent or not paths:
        raise SceneError(
            f"Bands must be files, but there is no {', '.join(absent) or 'file in the list'}. "
            "Check the paths."
        )
    others = [path.name for path in paths if not BAND_FILE.fullmatch(path.name)]
    if others:
        raise SceneError(
            "Files of bands must end in the band's name, as T24WWU_20210715T143749_B04.jp2 or "
            f"B8A.tif, got {', '.join(others)}. Rename them."
        )
    _check_one([path.as_posix() for path in paths], "The list of files")
    place = _Folder(paths[0].parent)
    images = _images(place, [str(path.absolute()) for path in paths])
    return Product(str(paths[0].parent), images, _metadata_above(place.path))


def _check_one(names: Sequence[str], source: str) -> None:
    """Loose bands are those of one tile, each there once at a resolution."""
    seen: dict[tuple[str, int | None], str] = {}
    for what, pattern in (("tile", _TILE), ("date", _DATE)):
        several = sorted({found[1] for name in names if (found := pattern.search(_last(name)))})
        if len(several) > 1:
            raise SceneError(
                f"{source} must hold bands of one {what}, but holds {', '.join(several[:3])}"
                f"{' ...' if len(several) > 3 else ''}. Pass the files of one as a list."
            )
    for name, image in zip(names, _images(_Folder(Path()), names), strict=True):
        key = (image.band, image.side)
        if key in seen:
            raise SceneError(
                f"{source} must hold each band once, but holds {seen[key]} and {name}. Pass the "
                "files of one image as a list."
            )
        seen[key] = name


def _images(place: _Place, names: Sequence[str]) -> tuple[Image, ...]:
    images = []
    for name in names:
        if found := BAND_FILE.fullmatch(_last(name)):
            side = found[2] or _side_folder(name)
            path = place.path_of(name)
            images.append(Image(found[1].upper(), int(side) if side else None, path))
    return tuple(images)


def _side_folder(name: str) -> str:
    found = re.fullmatch(r"R(\d\d)m", PurePosixPath(name).parent.name)
    return found[1] if found else ""


def _metadata_above(folder: Path) -> Metadata | None:
    """Metadata of the product that loose bands lie in."""
    above = [folder.absolute(), *folder.absolute().parents][:_ABOVE]
    tile: Path | None = None
    for level in above:
        if not level.is_dir():
            continue
        files = sorted(entry.name for entry in level.iterdir() if entry.suffix.lower() == ".xml")
        if tile is None:
            tile = next((level / name for name in files if _GRANULE.fullmatch(name)), None)
        root = next((name for name in files if _PRODUCT.fullmatch(name)), None)
        if root is not None:
            inner = None if tile is None else tile.relative_to(level).as_posix()
            return _read_metadata(_Folder(level), root, inner)
    return None


def _read_metadata(place: _Place, name: str, tile: str | None) -> Metadata:
    file = place.path_of(name)
    tags = _leaves(_parse(place, name))
    level = "L2A" if re.search(r"L2A", _last(name), re.I) else "L1C"
    times = [] if tile is None else _texts(_leaves(_parse(place, tile)), "SENSING_TIME")
    times += _texts(tags, "PRODUCT_START_TIME")
    offset_tag = "RADIO_ADD_OFFSET" if level == "L1C" else "BOA_ADD_OFFSET"
    quantity_tags = (
        ("QUANTIFICATION_VALUE",)
        if level == "L1C"
        else ("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE")
    )
    quantities = [text for tag in quantity_tags for text in _texts(tags, tag)]
    if not quantities:
        raise SceneError(
            f"{file} must say what numbers mean ({quantity_tags[0]}), but does not. Get the "
            "metadata again."
        )
    quantification = _number(quantities[0], quantity_tags[0], file)
    if not quantification > 0:
        raise SceneError(
            f"{quantity_tags[0]} in {file} must be positive, got {quantities[0]}. Get the metadata "
            "again."
        )
    baseline = _texts(tags, "PROCESSING_BASELINE")
    specials = dict(
        zip(
            _texts(tags, "SPECIAL_VALUE_TEXT"),
            (
                int(_number(text, "SPECIAL_VALUE_INDEX", file))
                for text in _texts(tags, "SPECIAL_VALUE_INDEX")
            ),
            strict=False,
        )
    )
    return Metadata(
        file=file,
        level=level,
        baseline=baseline[0] if baseline else None,
        quantification=quantification,
        offsets=_offsets(tags.get(offset_tag, []), offset_tag, file),
        nodata=specials.get("NODATA", 0),
        saturated=specials.get("SATURATED", 65535),
        time=_time(times, file),
    )


_Leaves = dict[str, list[ET.Element]]


def _offsets(elements: Sequence[ET.Element], tag: str, file: str) -> dict[str, float]:
    names = dict(enumerate(BANDS))
    offsets = {}
    for element in elements:
        number = element.get("band_id", "")
        if not number.isdecimal() or int(number) not in names:
            raise SceneError(
                f"{tag} in {file} must name a band by band_id 0 to 12, got {number!r}. Get the "
                "metadata again, or pass offset=."
            )
        offsets[names[int(number)]] = _number(element.text or "", tag, file)
    return offsets


def _time(texts: Sequence[str], file: str) -> np.datetime64 | None:
    for text in texts:
        try:
            return np.datetime64(text.removesuffix("Z"), "ns")
        except ValueError as error:
            raise SceneError(
                f"The time in the metadata {file} must be as 2021-07-15T14:37:49Z, got {text!r}. "
                "Get the metadata again."
            ) from error
    return None


def _number(text: str, tag: str, file: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise SceneError(
            f"{tag} in {file} must be a number, got {text!r}. Get the metadata again."
        ) from error


def _texts(leaves: _Leaves, tag: str) -> list[str]:
    return [element.text.strip() for element in leaves.get(tag, []) if element.text]


def _leaves(root: ET.Element) -> _Leaves:
    found: _Leaves = {}
    for element in root.iter():
        if len(element) == 0:
            found.setdefault(element.tag.rpartition("}")[2], []).append(element)
    return found


class _NoDoctype(ET.TreeBuilder):
    """Refuses documents that declare entities, which can grow without end or read files."""

    def doctype(self, name: str, *_: str | None) -> None:
        raise SceneError(f"it has a DOCTYPE ({name}), which metadata of products do not have")


def _parse(place: _Place, name: str) -> ET.Element:
    file = place.path_of(name)
    try:
        if place.size(name) > _LARGEST_XML:
            raise SceneError(f"it is larger than {_LARGEST_XML // 2**20} MiB")
        parser = ET.XMLParser(target=_NoDoctype())  # noqa: S314  # entities are refused
        parser.feed(place.read(name))
        root: ET.Element = parser.close()
    except _UNREADABLE as error:
        raise SceneError(
            f"{file} must be the metadata of a product, but cannot be read: {error}. Get it again."
        ) from error
    return root


def _last(name: str) -> str:
    return PurePosixPath(name).name
