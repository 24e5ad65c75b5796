"""Scenes and stacks from satellite products: which products, one grid, one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas
import pyogrio
import pyogrio.errors
import xarray as xr

from csc_xr.errors import LabelError, ParameterError, SceneError
from csc_xr.export import write_scene_geotiff
from csc_xr.files import check_target
from csc_xr.label_polygons import rasterize_labels
from csc_xr.legend import ClassLegend, LegendClass
from csc_xr.products.open import list_products, open_product
from csc_xr.products.series import join_scenes
from csc_xr.products.target import Box
from csc_xr.record import StageTimer
from csc_xr.scene import write_scene
from csc_xr.stack import write_stack

_GEOTIFF = {".tif", ".tiff"}


@dataclass(frozen=True)
class ComposeSettings:
    """How products become a scene.

    Attributes
    ----------
    bands : tuple of str, optional
        Bands to take, by product name (``B04``) or common name (``red``); red, green, blue and
        nir by default, of plain images all.
    crs : str, optional
        CRS of the result; by default that of the (first) product.
    resolution : float, optional
        Pixel size in units of the CRS; by default that of the bands.
    box : tuple of float, optional
        xmin, ymin, xmax and ymax to crop to.
    box_crs : str, optional
        CRS of the box; by default that of the result.
    polygon : Path, optional
        File of polygons: pixels whose centres lie outside are masked, and without `box` the result
        is cropped to their extent.
    resampling : str
        How bands of another grid are resampled: ``nearest``, ``bilinear``, ``cubic`` ...
    mask : bool
        False leaves clouds and their shadows in.
    offset : float, optional
        In place of that of the products' metadata, in their numbers: 0 or -1000.
    scale : float, optional
        What networks divide pixels by; 8192 by default.
    """

    bands: tuple[str, ...] | None = None
    crs: str | None = None
    resolution: float | None = None
    box: Box | None = None
    box_crs: str | None = None
    polygon: Path | None = None
    resampling: str = "bilinear"
    mask: bool = True
    offset: float | None = None
    scale: float | None = None


def compose(
    products: Sequence[str | Path],
    out: str | Path,
    *,
    settings: ComposeSettings | None = None,
    overwrite: bool = False,
    timer: StageTimer | None = None,
) -> xr.DataArray:
    """Write products as a scene, or several as a stack.

    All products are opened before anything is written; then pixels are computed chunk by chunk.

    Parameters
    ----------
    products : sequence of str or Path
        Sentinel-2 products (``.SAFE``, zip, folder of loose bands), folders of Landsat bands, STAC
        items (JSON), images; or folders of them.
    out : str or Path
        ``.zarr``, or for one product ``.tif``.
    settings : ComposeSettings, optional
        Bands, grid and mask.
    overwrite : bool
        True replaces what is there.
    timer : StageTimer, optional
        Takes the time of each stage.

    Returns
    -------
    xarray.DataArray
        The scene or stack that was written. Lazy.

    Raises
    ------
    LabelError
        When the polygons cannot be used.
    OutputError
        When the result exists or cannot be written.
    ParameterError
        When the ending of `out` does not fit.
    SceneError
        When products cannot be opened or do not fit together; nothing is written then.
    """
    timer, settings = timer or StageTimer(), settings or ComposeSettings()
    target = Path(out)
    with timer.stage("opening"):
        paths = list_products(products)
        _check_ending(target, paths)
        check_target(target, folder=target.suffix == ".zarr", overwrite=overwrite)
        scenes = _open_all(paths, settings)
        composed = scenes[0] if len(scenes) == 1 else join_scenes(scenes)
    with timer.stage("writing"):
        if len(scenes) > 1:
            write_stack(composed, target, overwrite=overwrite)
        elif target.suffix == ".zarr":
            write_scene(composed, target, overwrite=overwrite)
        else:
            write_scene_geotiff(composed, target, overwrite=overwrite)
    return composed


def _check_ending(target: Path, paths: Sequence[Path]) -> None:
    allowed = {".zarr"} if len(paths) > 1 else {".zarr"} | _GEOTIFF
    if target.suffix not in allowed:
        what = "One product is" if len(paths) == 1 else f"{len(paths)} products are"
        raise ParameterError(
            f"{what} written as {' or '.join(sorted(allowed))}, got "
            f"{target.name}. A GeoTIFF holds one scene; a stack is a Zarr store."
        )


def _open_all(paths: Sequence[Path], settings: ComposeSettings) -> list[xr.DataArray]:
    """Open products on the grid of the first that opens, masked outside the polygons."""
    polygons = None if settings.polygon is None else _read_polygons(settings.polygon)
    scenes: list[xr.DataArray] = []
    failed: dict[Path, str] = {}
    for path in paths:
        like = scenes[0] if scenes and _regrids(settings) else None
        try:
            scenes.append(_open_one(path, settings, polygons, like))
        except SceneError as error:
            failed[path] = str(error)
    if failed and len(paths) == 1:
        raise SceneError(failed[paths[0]])
    if failed:
        reasons = "".join(f"\n  {path}: {reason}" for path, reason in failed.items())
        raise SceneError(
            f"All products must open before anything is written, but {len(failed)} of "
            f"{len(paths)} do not. Mend them or leave them out:{reasons}"
        )
    if polygons is not None:
        inside = _inside(polygons, scenes[0])
        scenes = [_masked(scene, inside) for scene in scenes]
    return scenes


def _regrids(settings: ComposeSettings) -> bool:
    asked = (settings.crs, settings.resolution, settings.box, settings.polygon)
    return any(part is not None for part in asked)


def _open_one(
    path: Path,
    settings: ComposeSettings,
    polygons: geopandas.GeoDataFrame | None,
    like: xr.DataArray | None,
) -> xr.DataArray:
    if like is None and polygons is not None and settings.box is None:
        settings = _cropped_to(polygons, path, settings)
    placed = like is None
    return open_product(
        path,
        settings.bands,
        crs=settings.crs if placed else None,
        resolution=settings.resolution if placed else None,
        box=settings.box if placed else None,
        box_crs=settings.box_crs if placed else None,
        like=like,
        resampling=settings.resampling,
        mask=None if settings.mask else (),
        offset=settings.offset,
        scale=settings.scale,
    )


def _cropped_to(
    polygons: geopandas.GeoDataFrame, path: Path, settings: ComposeSettings
) -> ComposeSettings:
    """Give settings with the extent of the polygons as box, in the CRS of the result."""
    crs = settings.crs
    if crs is None:
        whole = open_product(
            path, settings.bands, resolution=settings.resolution, offset=settings.offset, mask=()
        )
        crs = whole.rio.crs
    if crs is None:
        raise SceneError(
            f"{path} must have a CRS to be cropped to polygons, but has none. Leave --polygon out."
        )
    left, bottom, right, top = polygons.to_crs(crs).total_bounds.tolist()
    return replace(settings, box=(left, bottom, right, top), box_crs=None)


def _read_polygons(path: Path) -> geopandas.GeoDataFrame:
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) != 1:
            raise LabelError(
                f"{path} must hold one layer of polygons, got {', '.join(layers) or 'none'}. Save "
                "the one to crop to as a file of its own."
            )
        polygons = geopandas.read_file(path, engine="pyogrio", columns=[])
    except (OSError, pyogrio.errors.DataSourceError) as error:
        raise LabelError(
            f"{path} must be a file of polygons, but cannot be read: {error}. Check the path."
        ) from error
    if polygons.crs is None or polygons.is_empty.all():
        raise LabelError(
            f"{path} must hold polygons in a CRS, got {len(polygons)} in {polygons.crs or 'none'}. "
            "Set the CRS of the layer, or pass another file."
        )
    return polygons


def _inside(polygons: geopandas.GeoDataFrame, scene: xr.DataArray) -> xr.DataArray:
    """Pixels whose centres lie in a polygon; lazy."""
    legend = ClassLegend("inside", [LegendClass(1, "Inside", "#000000")])
    marked = polygons.assign(code=1)
    return rasterize_labels(marked, like=scene, attribute="code", legend=legend) == 1


def _masked(scene: xr.DataArray, inside: xr.DataArray) -> xr.DataArray:
    seen = inside.data.rechunk(scene.data.chunks[1:])
    if "valid" in scene.coords:
        seen = seen & scene.coords["valid"].data
    return scene.assign_coords(valid=(("y", "x"), seen))
