"""Scenes of a report: where they lie, and the layers there are to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray

from csc_xr.accuracy.confusion import count_classes
from csc_xr.errors import CscError
from csc_xr.export import open_result
from csc_xr.figures.panels import averaged, shown_bands, stretch, stretch_limits, thinning
from csc_xr.grid import is_georeferenced, scene_transform
from csc_xr.labels import open_labels
from csc_xr.legend import GLACIER, RIVER, ClassLegend, LegendClass
from csc_xr.metres import pixel_size_m
from csc_xr.notes import heard_warnings
from csc_xr.record import describe_input, fingerprint, looks_unchanged
from csc_xr.report.pyramid import Kind
from csc_xr.report.records import Run
from csc_xr.runs.checksums import known_inputs, pixel_checksum
from csc_xr.scene import open_scene, valid_pixels
from csc_xr.stack import open_stack, stack_names, stack_scene

CLASSES = {"tile_class": "Tile classes (phase one)", "pixel_class": "Pixel classes (phase two)"}
"""Variables of a result that hold classes, and what they are called."""

_OPENING = ("bands", "band_names", "scale", "nodata", "mask", "nodata_when")


@dataclass(frozen=True, eq=False)
class Layer:
    """Something to look at.

    Attributes
    ----------
    name : str
        Such as ``image`` or ``pixel_class``.
    title : str
        What people read.
    kind : {"picture", "classes", "scalar", "mask"}
        What its pixels are.
    raster : callable
        Gives them, lazily, as :func:`csc_xr.report.pyramid.pyramid_tiles` takes them.
    content : str
        Equal for layers that look the same, so that they are written once.
    low, high : float
        Scalars: what the values 1 and 255 stand for.
    unit : str
        Scalars: their unit.
    """

    name: str
    title: str
    kind: Kind
    raster: Callable[[], da.Array]
    content: str
    low: float = 0.0
    high: float = 1.0
    unit: str = ""


@dataclass(frozen=True, eq=False)
class ReportScene:
    """A classified scene that can be looked at.

    Attributes
    ----------
    run : Run
        Where it comes from.
    shape : tuple of int
        Rows and columns.
    crs : str or None
        Name of the CRS.
    transform : affine.Affine or None
        From columns and rows to the map.
    pixel_m : tuple of float or None
        Height and width of a pixel in metres.
    legend : ClassLegend
        Its classes.
    result : xarray.Dataset
        Lazy.
    layers : list of Layer
        What there is, the image first.
    notes : list of str
        What is missing, and why.
    """

    run: Run
    shape: tuple[int, int]
    crs: str | None
    transform: Affine | None
    pixel_m: tuple[float, float] | None
    legend: ClassLegend
    result: xr.Dataset
    layers: list[Layer]
    notes: list[str]

    @cached_property
    def class_counts(self) -> dict[str, NDArray[np.int64]]:
        """Pixels of each class by phase, of code 0 first; computes once, chunk by chunk."""
        return {
            name: count_classes(self.result[name], legend=self.legend).values
            for name in CLASSES
            if name in self.result
        }


@dataclass
class KnownInputs:
    """Checksums of the inputs met so far, as several runs often read the same file."""

    checksums: dict[Path, str] = field(default_factory=dict)

    def trouble(self, entry: Mapping[str, Any]) -> str:
        """Tell why an input cannot be shown.

        Parameters
        ----------
        entry : mapping
            Path, size, time and checksum, as the run record has them.

        Returns
        -------
        str
            Empty when the file is there and has not changed.
        """
        path = Path(entry["path"])
        if not path.exists():
            return f"{path.name} is no longer at {path.parent}"
        if looks_unchanged(path, entry["size"], entry["modified"]):
            return ""
        if path not in self.checksums:
            self.checksums[path] = describe_input(path).sha256
        changed = self.checksums[path] != entry["sha256"]
        return f"{path} has changed since it was classified" if changed else ""


def open_report_scene(run: Run, known: KnownInputs) -> ReportScene:
    """Open what a run left and what it was made of; lazy, but for checksums and labels.

    Parameters
    ----------
    run : Run
        A run whose store is there.
    known : KnownInputs
        Checksums of inputs.

    Returns
    -------
    ReportScene
        Layers and where they lie.

    Raises
    ------
    CscError
        When the result cannot be opened.
    """
    result = _open_classes(run)
    classes = result["pixel_class"]
    legend = _legend_of(run, classes)
    found = {
        "image": _image_layer(run, classes, known),
        "labels": _labels_layer(run, classes, known, legend),
    }
    layers = [part for part in found.values() if isinstance(part, Layer)]
    notes = [
        f"The {what} cannot be shown: {part}."
        for what, part in found.items()
        if isinstance(part, str) and part
    ]
    layers += _class_layers(run, result)
    layers += _further_layers(run, result, legend)
    placed = is_georeferenced(classes)
    return ReportScene(
        run=run,
        shape=(classes.sizes["y"], classes.sizes["x"]),
        crs=classes.rio.crs.to_string() if classes.rio.crs is not None else None,
        transform=scene_transform(classes) if placed else None,
        pixel_m=_pixel_metres(classes),
        legend=legend,
        result=result,
        layers=layers,
        notes=notes,
    )


def _open_classes(run: Run) -> xr.Dataset:
    result = open_result(run.store)
    if not run.in_stack:
        return result
    lead = str(result["pixel_class"].dims[0])
    position = result["scene"].values.tolist().index(run.name)
    return result.isel({lead: position}, drop=True)


def _legend_of(run: Run, classes: xr.DataArray) -> ClassLegend:
    """Give the legend that the record names, or else that of the raster's CF attributes."""
    if run.image is not None and run.image.legend is not None:
        return run.image.legend
    attributes = classes.attrs
    for legend in (GLACIER, RIVER):
        if all(attributes.get(name) == value for name, value in legend.flag_attributes().items()):
            return legend
    rows = zip(
        np.atleast_1d(attributes["flag_values"]),
        attributes["flag_meanings"].split(),
        attributes["flag_colors"].split(),
        strict=True,
    )
    named = [LegendClass(int(code), name.replace("_", " "), colour) for code, name, colour in rows]
    return ClassLegend("of the result", named)


def _image_layer(run: Run, classes: xr.DataArray, known: KnownInputs) -> Layer | str:
    """Give the picture of a scene, or say why there is none."""
    inputs = known_inputs(run.content)
    entry = inputs.get("image")
    given = run.content["parameters"].get("scene") or {}
    opening = {name: given[name] for name in _OPENING if given.get(name) is not None}
    if "nodata" in opening:
        opening["nodata"] = float(opening["nodata"])  # NaN is text in a record
    try:
        with heard_warnings():
            if "pixels" in inputs:
                entry = inputs["pixels"]
                scene = _identified_by_pixels(run, entry)
            elif entry is None:
                return "the run record does not name it"
            elif trouble := known.trouble(entry):
                return trouble
            else:
                scene = open_scene(entry["path"], **opening)
    except CscError as error:
        return str(error).rstrip(".")
    if scene is None:
        return "its pixels are not at hand as they were classified"
    if scene.shape[1:] != classes.shape:
        return "it has another size than the classes"
    content = fingerprint("image", entry["sha256"], opening)
    return Layer("image", shown_bands(scene)[1], "picture", _picture(scene), content)


def _identified_by_pixels(run: Run, entry: Mapping[str, Any]) -> xr.DataArray | None:
    """Find a scene that the record knows by its pixels alone, as those of stacks."""
    source = Path(entry["path"])
    if not entry["path"] or not source.exists():
        return None
    if run.in_stack and source.is_dir():
        stack = open_stack(source)
        names = stack_names(stack)
        if run.name not in names:
            return None
        scene = stack_scene(stack, names.index(run.name))
    else:
        scene = open_scene(source)
    return scene if pixel_checksum(scene) == entry["sha256"] else None


def _labels_layer(
    run: Run, classes: xr.DataArray, known: KnownInputs, legend: ClassLegend
) -> Layer | str:
    """Give the labels of a scene, or say why there are none; nothing where it never had any."""
    entry = known_inputs(run.content).get("labels")
    if entry is None:
        return ""
    if trouble := known.trouble(entry):
        return trouble
    grid = classes.expand_dims(band=["class"])
    try:
        with heard_warnings():
            labels = open_labels(entry["path"], like=grid, legend=legend)
    except CscError as error:
        return str(error).rstrip(".")
    content = fingerprint("labels", entry["sha256"], legend.to_dict(), grid.shape)
    return Layer("labels", "Labels", "classes", _getter(labels.data), content)


def _class_layers(run: Run, result: xr.Dataset) -> list[Layer]:
    return [
        Layer(name, title, "classes", _getter(result[name].data), f"{run.path} {name}")
        for name, title in CLASSES.items()
        if name in result
    ]


def _further_layers(run: Run, result: xr.Dataset, legend: ClassLegend) -> list[Layer]:
    """Confidence and the like where the run kept them, and where the phases differ."""
    classes = result["pixel_class"].data
    scalars = {
        "confidence": ("Confidence", 1.0, ""),
        "margin": ("Margin of the first class over the second", 1.0, ""),
        "entropy": ("Entropy", float(np.log(max(len(legend.codes), 2))), "nats"),
    }
    layers = [
        Layer(
            name, title, "scalar", _getter(_quantised(result[name].data, classes, high)),
            f"{run.path} {name}", high=high, unit=unit,
        )
        for name, (title, high, unit) in scalars.items()
        if name in result
    ]  # fmt: skip
    if "tile_class" in result:
        tiles = result["tile_class"].data
        differ = (tiles > 0) & (classes > 0) & (tiles != classes)
        mask = differ.astype(np.uint8) * np.uint8(255)
        title = "Disagreement of the phases"
        identity = f"{run.path} disagreement"
        layers.append(Layer("disagreement", title, "mask", _getter(mask), identity))
    return layers


def _getter(raster: da.Array) -> Callable[[], da.Array]:
    return lambda: raster


def _picture(scene: xr.DataArray) -> Callable[[], da.Array]:
    """Give red, green, blue and opacity of a scene, stretched as in its figure."""

    def picture() -> da.Array:
        bands = shown_bands(scene)[0]
        valid = valid_pixels(scene)
        values = bands.where(valid).astype(np.float32)
        sample = averaged(bands.where(valid), thinning(scene)).values
        grey = [
            stretch(band, stretch_limits(part)) * 255 + 0.5
            for band, part in zip(values.data, sample, strict=True)
        ]
        seen = valid.data
        shown = [da.where(seen, band, 0).astype(np.uint8) for band in grey]
        if len(shown) == 1:
            shown *= 3
        return da.stack([*shown, seen.astype(np.uint8) * np.uint8(255)], axis=-1)

    return picture


def _quantised(values: da.Array, classes: da.Array, high: float) -> da.Array:
    """Give 1 to 255 for 0 to `high`, and 0 where there is no class."""
    steps = da.clip(da.rint(values / np.float32(high) * 254), 0, 254) + 1
    return da.where(classes.rechunk(values.chunks) > 0, steps, 0).astype(np.uint8)


def _pixel_metres(classes: xr.DataArray) -> tuple[float, float] | None:
    try:
        return pixel_size_m(classes)
    except CscError:
        return None
