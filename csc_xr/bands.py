"""Bands of an image: which are imagery, what they are called, and which pixels hold data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from rasterio.enums import ColorInterp, MaskFlags

from csc_xr.errors import SceneError
from csc_xr.raster import lazy_bands

_DEFAULT_NAMES = {
    1: ("grey",),
    3: ("red", "green", "blue"),
    4: ("red", "green", "blue", "nir"),
}
_ALPHA_NAME = re.compile(r"alpha|mask|opacity|transparen|^band[ _]*\d+$", re.IGNORECASE)


def check_bands(scene: xr.DataArray, bands: Sequence[str], *, who: str) -> xr.DataArray:
    """Select the bands a network needs, in its order.

    Parameters
    ----------
    scene : xarray.DataArray
        A scene.
    bands : sequence of str
        Names of the bands needed.
    who : str
        What needs them, as the message begins.

    Returns
    -------
    xarray.DataArray
        The scene with these bands. Lazy.

    Raises
    ------
    SceneError
        When the scene lacks one of them.
    """
    names = names_of(scene)
    if names == list(bands):
        return scene
    if set(bands) - set(names):
        alpha = " A band marked as alpha counts as a mask unless it is named." * (
            "valid" in scene.coords
        )
        raise SceneError(
            f"{who} needs bands {', '.join(bands)}, got {', '.join(names)}. If these bands are in "
            "the image under other names, open it with band_names=(...), one name for each band "
            f"of the file.{alpha} Otherwise use a network trained on bands of this image."
        )
    return scene.isel(band=[names.index(band) for band in bands])


def imagery_bands(
    dataset: Any, band_names: Sequence[str] | None = None
) -> tuple[list[int], list[str]]:
    """Tell the bands of a file that are imagery from those that mask it, and name them.

    Parameters
    ----------
    dataset : rasterio.io.DatasetReader
        The open file.
    band_names : sequence of str, optional
        Names to give; as many as there are bands of imagery, or bands in all.

    Returns
    -------
    numbers : list of int
        Numbers of the bands of imagery, from 1.
    names : list of str
        Their names.

    Raises
    ------
    SceneError
        When the file has no band of imagery, or the names are more or fewer.
    """
    described = list(zip(dataset.indexes, dataset.colorinterp, dataset.descriptions, strict=True))
    imagery = [number for number, meaning, text in described if not _is_alpha(meaning, text)]
    if band_names is not None and len(band_names) == dataset.count:
        imagery = list(dataset.indexes)
    if not imagery:
        raise SceneError(
            f"{dataset.name} must hold at least one band of imagery, got none. "
            "Files with several images inside must be split first."
        )
    if band_names is not None:
        check_count(band_names, len(imagery), dataset.name)
        return imagery, list(band_names)
    names = [text for number, _, text in described if number in imagery]
    if all(names) and len(set(names)) == len(names):
        return imagery, names
    return imagery, _default_names([meaning for n, meaning, _ in described if n in imagery])


def names_of(scene: xr.DataArray) -> list[str]:
    """Read the band names of an array, or make them up where it has none.

    Parameters
    ----------
    scene : xarray.DataArray
        Array with dim band.

    Returns
    -------
    list of str
        The ``band`` coordinate; default names where there is none or it counts from 1.

    Raises
    ------
    SceneError
        When a name comes twice.
    """
    count = scene.sizes["band"]
    numbers = list(range(1, count + 1))
    values = scene.coords["band"].values.tolist() if "band" in scene.coords else numbers
    if values == numbers:  # as rioxarray numbers bands
        return _default_names([None] * count)
    names = [value if isinstance(value, str) else f"band_{value}" for value in values]
    _check_unique(names)
    return names


def check_count(names: Sequence[str], count: int, source: object) -> None:
    """Make sure that there is a name for every band.

    Parameters
    ----------
    names : sequence of str
        Names given.
    count : int
        Bands to name.
    source : object
        The file, for the message.

    Raises
    ------
    SceneError
        When there are more or fewer names, or one comes twice.
    """
    if len(names) != count:
        raise SceneError(
            f"band_names must name each of the {count} band(s) of {source}, got {len(names)}: "
            f"{', '.join(names)}. To take some of the bands only, pass bands= as well."
        )
    _check_unique(names)


def choose_bands(names: Sequence[str], bands: Sequence[str | int] | None) -> list[int]:
    """Find bands by name or number.

    Parameters
    ----------
    names : sequence of str
        Names of all bands.
    bands : sequence of str or int, or None
        Names, or numbers from 1; None for all.

    Returns
    -------
    list of int
        Their indices, from 0.

    Raises
    ------
    SceneError
        When a band is unknown or comes twice, or none is chosen.

    Examples
    --------
    >>> choose_bands(["red", "green", "nir"], ["nir", 1])
    [2, 0]
    """
    if bands is None:
        return list(range(len(names)))
    chosen = [bands] if isinstance(bands, str) else list(bands)
    known: dict[str | int, int] = {name: index for index, name in enumerate(names)}
    known.update({index + 1: index for index in range(len(names))})
    unknown = [band for band in chosen if band not in known]
    if unknown or not chosen:
        raise SceneError(
            f"bands must be among {', '.join(names)} or the numbers 1 to {len(names)}, "
            f"got {', '.join(map(str, unknown)) or 'none'}. "
            "Correct bands=, or name the bands of the file with band_names=."
        )
    positions = [known[band] for band in chosen]
    _check_unique([names[index] for index in positions])
    return positions


def file_nodata(dataset: Any, numbers: Sequence[int]) -> Any:
    """Read the nodata value that bands of a file share.

    Parameters
    ----------
    dataset : rasterio.io.DatasetReader
        The open file.
    numbers : sequence of int
        Band numbers, from 1.

    Returns
    -------
    numpy.generic or None
        In the dtype of the bands; None when there is none that pixels can have.

    Raises
    ------
    SceneError
        When the bands have different values.
    """
    dtype = np.dtype(dataset.dtypes[numbers[0] - 1])
    values = [nodata_in_dtype(dataset.nodatavals[number - 1], dtype) for number in numbers]
    if len({str(value) for value in values}) > 1:  # as text, NaN equals NaN
        raise SceneError(
            f"The bands of {dataset.name} must share one nodata value, got "
            f"{', '.join(str(value) for value in values)}. Pass nodata=, or choose other bands."
        )
    return values[0]


def file_mask(
    dataset: Any, numbers: Sequence[int], *, imagery: Sequence[int], nodata_when: str
) -> da.Array | None:
    """Look up where an alpha band or a mask of the file itself leaves pixels to see.

    Parameters
    ----------
    dataset : rasterio.io.DatasetReader
        The open file.
    numbers : sequence of int
        Numbers of the bands that were chosen, from 1.
    imagery : sequence of int
        Numbers of all bands of imagery; an alpha band among them is none.
    nodata_when : {"any", "all"}
        Where bands have masks of their own: a pixel is masked when any, or all, mask it.

    Returns
    -------
    dask.array.Array or None
        Shape (y, x), bool, False where masked, lazy; None when the file has no mask.
    """
    others = [number for number in dataset.indexes if number not in imagery]
    if others:
        return lazy_bands(dataset, others[:1])[0] != 0
    masked = [number for number in numbers if _has_mask(dataset.mask_flag_enums[number - 1])]
    if not masked:
        return None
    if MaskFlags.per_dataset in dataset.mask_flag_enums[masked[0] - 1]:
        masked = masked[:1]
    seen = lazy_bands(dataset, masked, of_masks=True) != 0
    every = nodata_when == "all" and len(masked) == len(numbers)
    return seen.any(axis=0) if every else seen.all(axis=0)


def nodata_in_dtype(value: float | None, dtype: np.dtype[Any]) -> Any:
    """Give a nodata value the dtype of the pixels.

    Parameters
    ----------
    value : float or None
        Nodata value.
    dtype : numpy.dtype
        Of the pixels.

    Returns
    -------
    numpy.generic or None
        None when pixels of that dtype cannot hold the value, so that none equals it.

    Examples
    --------
    >>> nodata_in_dtype(65535.0, np.dtype("uint16"))
    np.uint16(65535)
    >>> nodata_in_dtype(-9999, np.dtype("uint8")) is None
    True
    """
    if value is None:
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(value)
    if dtype.kind == "b" or not np.isfinite(value) or int(value) != value:
        return None
    limits = np.iinfo(dtype)
    return dtype.type(int(value)) if limits.min <= value <= limits.max else None


def pixels_with_data(scene: xr.DataArray) -> da.Array:
    """Find the pixels of a scene that hold data; see :func:`csc_xr.scene.valid_pixels`.

    Parameters
    ----------
    scene : xarray.DataArray
        Dims (band, y, x), Dask-backed, as :func:`csc_xr.scene.validate_scene` gives it.

    Returns
    -------
    dask.array.Array
        Shape (y, x), bool, lazy.
    """
    pixels = scene.data
    parts: list[da.Array] = []
    nodata = nodata_in_dtype(scene.attrs.get("_FillValue"), pixels.dtype)
    if nodata is not None and nodata == nodata:  # NaN is found below
        filled = pixels == nodata
        every = scene.attrs.get("nodata_when") == "all"
        parts.append(~(filled.all(axis=0) if every else filled.any(axis=0)))
    if pixels.dtype.kind == "f":
        parts.append(da.isfinite(pixels).all(axis=0))
    if "valid" in scene.coords:
        parts.append(scene.coords["valid"].data)
    if not parts:
        return da.ones(pixels.shape[1:], chunks=pixels.chunks[1:], dtype=bool)
    found = parts[0]
    for part in parts[1:]:
        found = found & part
    return found


def _default_names(meanings: Sequence[ColorInterp | None]) -> list[str]:
    count = len(meanings)
    names = list(_DEFAULT_NAMES.get(count, [f"band_{i + 1}" for i in range(count)]))
    marked = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(meanings.count(meaning) == 1 for meaning in marked):
        for index, meaning in enumerate(meanings):
            if meaning in marked:
                names[index] = meaning.name
    elif count == 1 and meanings[0] == ColorInterp.palette:
        names = ["palette"]
    return names


def _check_unique(names: Sequence[object]) -> None:
    doubles = sorted({str(name) for name in names if names.count(name) > 1})
    if doubles:
        raise SceneError(
            f"Each band must be named once, got {', '.join(doubles)} more than once. "
            "Pass names that differ."
        )


def _is_alpha(meaning: ColorInterp, description: str | None) -> bool:
    """Tell alpha from what is marked so by mistake, and described as something else.

    GDAL marks the fourth band of the 8-bit TIFFs it writes as alpha, near infrared or not.
    """
    described = description is not None and not _ALPHA_NAME.search(description)
    return meaning == ColorInterp.alpha and not described


def _has_mask(flags: Sequence[MaskFlags]) -> bool:
    return not {MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha} & set(flags)
