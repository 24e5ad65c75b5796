"""Runs to make reports of, written without a classification, and pages of HTML taken apart."""

from __future__ import annotations

import base64
import html.parser
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from PIL import Image
from rasters_for_tests import write_raster
from results_for_tests import write_record
from runs_for_tests import PLACE

from csc_xr.export import write_result_zarr
from csc_xr.files import write_json
from csc_xr.legend import RIVER
from csc_xr.record import describe_input
from csc_xr.scene import open_scene

SHAPE = (30, 44)
VOID = {"area", "br", "hr", "img", "input", "link", "meta"}


def river_classes(shape: tuple[int, int] = SHAPE, seed: int = 0) -> list[np.ndarray]:
    """Labels with gaps, tile classes and pixel classes, river codes 1 to 3."""
    generator = np.random.default_rng(seed)
    truth = np.repeat([1, 2, 3], -(-shape[1] // 3))[None, : shape[1]].repeat(shape[0], 0)
    wrong = generator.random((2, *shape)) < np.array([0.3, 0.1])[:, None, None]
    tiles, pixels = np.where(wrong, generator.integers(1, 4, (2, *shape)), truth)
    labels = np.where(generator.random(shape) < 0.2, 0, truth)
    return [codes.astype(np.uint8) for codes in (labels, tiles, pixels)]


def write_run(
    folder: Path,
    name: str = "scene",
    *,
    images: Path | None = None,
    shape: tuple[int, int] = SHAPE,
    confidence: bool = False,
    seed: int = 0,
    **record: Any,
) -> dict[str, Any]:
    """Write an image, its labels, and what a run over them leaves: result and record."""
    beside = images or folder.parent / "images"
    beside.mkdir(parents=True, exist_ok=True)
    labels, tiles, pixels = river_classes(shape, seed)
    image, label = beside / f"{name}.tif", beside / f"SCLS_{name}.tif"
    if not image.exists():
        grey = np.random.default_rng(seed).integers(20, 60, (3, *shape)) + 60 * labels
        write_raster(image, grey.astype(np.uint8), **PLACE)
        write_raster(label, labels[None], **PLACE)
    content = write_record(folder, name, classes=(labels, tiles, pixels), **record)
    grid = open_scene(image).isel(band=0, drop=True)
    rasters = {"tile_class": tiles, "pixel_class": pixels}
    result = xr.Dataset({key: grid.copy(data=codes) for key, codes in rasters.items()})
    for key in rasters:
        result[key].attrs = RIVER.flag_attributes()
        result[key].encoding = {"grid_mapping": "spatial_ref"}
    if confidence:
        values = np.linspace(0, 1, pixels.size, dtype=np.float32).reshape(shape)
        result["confidence"] = grid.copy(data=values)
    (folder / f"{name}_classified.zarr").rmdir()  # the record's stand-in
    write_result_zarr(result.chunk({"y": 16, "x": 16}), folder / f"{name}_classified.zarr")
    inputs = {"image": describe_input(image), "labels": describe_input(label)}
    content["inputs"] = [asdict(file) for file in inputs.values()]
    content["identity"]["inputs"] = {role: file.sha256 for role, file in inputs.items()}
    content |= {"stage_seconds": {"tiles": 1.5, "pixels": 2.5}, "peak_memory_bytes": 1_500_000_000}
    write_json(content, folder / f"{name}_run.json")
    return content


@dataclass
class Page(html.parser.HTMLParser):
    """What a page holds; complains of tags that are not closed in order."""

    path: Path
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    scripts: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    open_tags: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.path.read_text(encoding="utf-8"))
        self.close()
        assert self.open_tags == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open_tags.append((tag, found.get("id", "")))

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        tag, name = self.open_tags[-1] if self.open_tags else ("", "")
        if tag == "script":
            self.scripts[name] = self.scripts.get(name, "") + data
        elif tag != "style" and data.strip():
            self.words.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        """All there is to read, in order."""
        return " ".join(self.words)

    @property
    def data(self) -> dict[str, Any]:
        """What the viewer is told."""
        content: dict[str, Any] = json.loads(self.scripts["csc-viewer-data"])
        return content

    def tiles(self, prefix: str) -> dict[str, np.ndarray]:
        """Small pictures of a layer, such as ``s0/image``, by level, row and column."""
        start = f"t/{prefix}/"
        return {
            name.removeprefix(start): np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
            for name, text in self.scripts.items()
            if name.startswith(start)
        }
