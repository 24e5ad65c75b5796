"""Bands resampled to another grid, lazily, with the same numbers whatever the chunks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

import dask.array as da
import numpy as np
from affine import Affine
from dask.base import tokenize
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from csc_xr.errors import SceneError
from csc_xr.products.target import TargetGrid
from csc_xr.raster import file_stamp, open_raster

RESAMPLING = {
    "nearest": "NearestNeighbour",
    "bilinear": "Bilinear",
    "cubic": "Cubic",
    "average": "Average",
    "lanczos": "Lanczos",
}
"""Ways to resample, with the names GDAL has for them."""

_BLOCK = 256
TOP = 65535
"""The largest number of a scene, which also stands for saturated."""


@dataclass(frozen=True)
class Numbers:
    """How the numbers of a file become reflectance x 10000: 1 to 65535, 0 for no data.

    Attributes
    ----------
    gain, offset : float
        The line from one to the other.
    nodata, saturated : int or None
        Numbers of the file that become 0 and 65535.
    """

    gain: float
    offset: float
    nodata: int | None
    saturated: int | None

    def of(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        """Convert numbers.

        Parameters
        ----------
        values : numpy.ndarray
            Whole numbers of a file, any shape.

        Returns
        -------
        numpy.ndarray
            Same shape, uint16; rounded, half up.
        """
        exact = self.gain == 1 and self.offset == round(self.offset)
        if exact:
            line = values.astype(np.int32) + np.int32(round(self.offset))
        else:
            line = np.floor(values.astype(np.float64) * self.gain + (self.offset + 0.5))
        numbers: NDArray[np.uint16] = np.clip(line, 1, TOP).astype(np.uint16)
        if self.saturated is not None:
            numbers[values == self.saturated] = TOP
        if self.nodata is not None:
            numbers[values == self.nodata] = 0
        return numbers

    def lazily(self, values: da.Array) -> da.Array:
        """Convert numbers when they are computed.

        Parameters
        ----------
        values : dask.array.Array
            Whole numbers of a file.

        Returns
        -------
        dask.array.Array
            Same shape and chunks, uint16.
        """
        return da.core.elemwise(self.of, values, dtype=np.uint16)

    def table(self, dtype: np.dtype[Any]) -> str:
        """Write the conversion as points with lines between them.

        Parameters
        ----------
        dtype : numpy.dtype
            Of the file, whole numbers.

        Returns
        -------
        str
            ``number:becomes`` pairs, as GDAL's look-up tables have them.
        """
        limits = np.iinfo(dtype)
        low, high = int(limits.min), int(limits.max)
        marks = {low, high}
        specials = {mark for mark in (self.nodata, self.saturated) if mark is not None}
        for special in specials:
            marks |= {special - 1, special, special + 1}
        for bound in (1, TOP):  # where the line leaves the range
            meets = (bound - self.offset) / self.gain
            marks |= {math.floor(meets), math.ceil(meets), round(meets)}
        points = sorted(mark for mark in marks if low <= mark <= high)
        pairs = []
        for point in points:
            value = float(self.of(np.array([point], dtype))[0])
            line = self.gain * point + self.offset
            if point not in specials and 1 <= line <= TOP:
                value = line
            pairs.append(f"{point}:{value!r}")
        return ",".join(pairs)


_File = tuple[str, int, str, Numbers | None]


@dataclass(frozen=True)
class WarpedWindows:
    """Windows of files of one grid as they are on another grid.

    Each read opens the files anew, so that threads and processes share nothing.

    Attributes
    ----------
    files : tuple
        Path, band number, dtype and conversion of each; classes, which have none, stay as they are.
    native, grid : TargetGrid
        Grid of the files and the one to go to.
    resampling : str
        One of :data:`RESAMPLING`.
    stamps : tuple of tuple of int
        Of the files, so that changed ones get new Dask keys.
    """

    files: tuple[_File, ...]
    native: TargetGrid
    grid: TargetGrid
    resampling: str
    stamps: tuple[tuple[int, int], ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows, columns."""
        return len(self.files), self.grid.height, self.grid.width

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is read."""
        return np.dtype(np.uint16)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return 3

    def read(self, key: tuple[slice, slice, slice]) -> NDArray[Any]:
        """Read one window.

        Parameters
        ----------
        key : tuple of slice
            Bands, rows and columns.

        Returns
        -------
        numpy.ndarray
            Shape (bands, rows, columns), uint16.

        Raises
        ------
        SceneError
            When a file cannot be read there, or is another than when it was opened.
        """
        paths = [file[0] for file in self.files]
        for path, stamp in zip(paths, self.stamps, strict=True):
            if file_stamp(path) != stamp:
                raise SceneError(f"{path} must stay as it was opened, but changed. Open it again.")
        numbers = list(range(1, len(self.files) + 1))[key[0]]
        try:
            with open_raster(self._warped()) as dataset:
                window = Window.from_slices(key[1], key[2])
                return np.asarray(dataset.read(numbers, window=window))
        except RasterioError as error:
            raise SceneError(
                f"{', '.join(paths)} must be readable, but are not where rows {key[1].start} to "
                f"{key[1].stop} of the scene lie: {error.__cause__ or error}. A file is damaged or "
                "incomplete: get it again."
            ) from error

    def _converted(self) -> str:
        """Describe the files to GDAL as one image of reflectance x 10000."""
        bands = []
        for number, (path, band, dtype, numbers) in enumerate(self.files, start=1):
            table = "" if numbers is None else f"<LUT>{numbers.table(np.dtype(dtype))}</LUT>"
            nodata = "" if numbers is None else "<NoDataValue>0</NoDataValue>"
            bands.append(
                f'<VRTRasterBand dataType="UInt16" band="{number}">{nodata}<ComplexSource>'
                f'<SourceFilename relativeToVRT="0">{escape(path)}</SourceFilename>'
                f"<SourceBand>{band}</SourceBand>{table}</ComplexSource></VRTRasterBand>"
            )
        return _image(self.native, "".join(bands))

    def _warped(self) -> str:
        """Describe that image to GDAL as it is on the other grid.

        Written out, since what opens it through options leaves two things open that let numbers
        depend on the window that is read: every place is transformed exactly (rasterio 1.4 fails
        with tolerance 0), and the ratio of pixel sizes, which decides how far a pixel sees, is
        fixed instead of measured in every window.
        """
        across, down = _ratios(self.native, self.grid)
        options = {
            "UNIFIED_SRC_NODATA": "NO",
            "INIT_DEST": "NO_DATA" if self.files[0][3] is not None else "0",
            "ERROR_OUT_IF_EMPTY_SOURCE_WINDOW": "FALSE",
            "XSCALE": repr(across),
            "YSCALE": repr(down),
            "SAMPLE_GRID": "YES",
            "SOURCE_EXTRA": "8",
        }
        listed = "".join(f'<Option name="{key}">{text}</Option>' for key, text in options.items())
        mapped, bands = [], []
        for number, (_, _, _, numbers) in enumerate(self.files, start=1):
            nodata = "" if numbers is None else _NODATA
            mapped.append(f'<BandMapping src="{number}" dst="{number}">{nodata}</BandMapping>')
            bands.append(
                f'<VRTRasterBand dataType="UInt16" band="{number}" subClass="VRTWarpedRasterBand">'
                f"{'' if numbers is None else '<NoDataValue>0</NoDataValue>'}</VRTRasterBand>"
            )
        content = (
            f"{''.join(bands)}<BlockXSize>{_BLOCK}</BlockXSize><BlockYSize>{_BLOCK}</BlockYSize>"
            "<GDALWarpOptions><WarpMemoryLimit>6.7e7</WarpMemoryLimit>"
            f"<ResampleAlg>{RESAMPLING[self.resampling]}</ResampleAlg>"
            f"<WorkingDataType>UInt16</WorkingDataType>{listed}"
            f'<SourceDataset relativeToVRT="0">{escape(self._converted())}</SourceDataset>'
            f"<Transformer>{_transformer(self.native, self.grid)}</Transformer>"
            f"<BandList>{''.join(mapped)}</BandList></GDALWarpOptions>"
        )
        return _image(self.grid, content, ' subClass="VRTWarpedDataset"')


def lazy_warped(
    files: Sequence[_File],
    native: TargetGrid,
    grid: TargetGrid,
    *,
    resampling: str,
    sides: tuple[int, int],
) -> da.Array:
    """Read files of one grid lazily on another.

    Parameters
    ----------
    files : sequence of tuple
        Path, band number, dtype and :class:`Numbers` of each; None in place of the last leaves
        classes as they are. Converted first and resampled then, so that products that write the
        same reflectance in other numbers give the same.
    native, grid : TargetGrid
        Grid of the files, and the one to go to.
    resampling : str
        One of :data:`RESAMPLING`.
    sides : tuple of int
        Rows and columns of a chunk; they do not change the numbers.

    Returns
    -------
    dask.array.Array
        Shape (files, y, x), uint16, 0 beyond the files; all bands in one chunk.
    """
    windows = WarpedWindows(
        tuple(files), native, grid, resampling, tuple(file_stamp(file[0]) for file in files)
    )
    described = [(path, band, str(numbers)) for path, band, _, numbers in files]
    grids = [(str(at.crs), tuple(at.transform), at.height, at.width) for at in (native, grid)]
    return da.from_array(
        windows,
        chunks=(-1, *sides),
        name=f"warp-{tokenize(described, grids, resampling, windows.stamps, sides)}",
        getitem=WarpedWindows.read,
        meta=np.empty((0, 0, 0), np.uint16),
        inline_array=True,
    )


_NODATA = (
    "<SrcNoDataReal>0</SrcNoDataReal><SrcNoDataImag>0</SrcNoDataImag>"
    "<DstNoDataReal>0</DstNoDataReal><DstNoDataImag>0</DstNoDataImag>"
)


def _image(grid: TargetGrid, content: str, kind: str = "") -> str:
    crs = (
        ""
        if grid.crs is None
        else f'<SRS dataAxisToSRSAxisMapping="1,2">{escape(grid.crs.to_wkt())}</SRS>'
    )
    return (
        f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}"{kind}>{crs}'
        f"<GeoTransform>{_six(grid.transform)}</GeoTransform>{content}</VRTDataset>"
    )


def _transformer(native: TargetGrid, grid: TargetGrid) -> str:
    between = ""
    if native.crs is not None and grid.crs is not None and native.crs != grid.crs:
        between = (
            "<ReprojectTransformer><ReprojectionTransformer>"
            f"<SourceSRS>{escape(native.crs.to_wkt())}</SourceSRS>"
            f"<TargetSRS>{escape(grid.crs.to_wkt())}</TargetSRS>"
            "</ReprojectionTransformer></ReprojectTransformer>"
        )
    return (
        f"<GenImgProjTransformer><SrcGeoTransform>{_six(native.transform)}</SrcGeoTransform>"
        f"<SrcInvGeoTransform>{_six(~native.transform)}</SrcInvGeoTransform>"
        f"<DstGeoTransform>{_six(grid.transform)}</DstGeoTransform>"
        f"<DstInvGeoTransform>{_six(~grid.transform)}</DstInvGeoTransform>{between}"
        "</GenImgProjTransformer>"
    )


def _six(transform: Affine) -> str:
    return ",".join(repr(float(number)) for number in transform.to_gdal())


def _ratios(native: TargetGrid, grid: TargetGrid) -> tuple[float, float]:
    """Pixels of the grid per pixel of the file, across and down, in the middle of the grid."""
    column, row = grid.width / 2, grid.height / 2
    points = [grid.transform @ at for at in ((column, row), (column + 1, row), (column, row + 1))]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if native.crs != grid.crs:
        xs, ys = transform_points(grid.crs, native.crs, xs, ys)
    moved = [~native.transform @ (x, y) for x, y in zip(xs, ys, strict=True)]
    (left, top), *others = moved
    steps = [(abs(x - left), abs(y - top)) for x, y in others]
    across = math.hypot(steps[0][0], steps[1][0])
    down = math.hypot(steps[0][1], steps[1][1])
    return _ratio(across), _ratio(down)


def _ratio(size: float) -> float:
    """Turn pixels of the file per pixel of the grid round, without what rounding left in them."""
    return float(f"{1 / size:.9g}") if size > 0 and math.isfinite(size) else 1.0
