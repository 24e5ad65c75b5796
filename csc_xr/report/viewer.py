"""What the viewer of a report reads: scenes and layers as JSON, pixels as small pictures."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from csc_xr.report.pyramid import (
    MIME,
    TILE_SIDE,
    dropped_levels,
    level_count,
    pyramid_tiles,
)
from csc_xr.report.scenes import Layer, ReportScene


@dataclass(frozen=True, eq=False)
class Shown:
    """Scenes on their way into the viewer.

    Attributes
    ----------
    scenes : sequence of ReportScene
        In the order of the page.
    names : sequence of str
        Of the run of each scene; empty where there is only one.
    max_side : int or None
        Longest side of the finest level; None keeps full size.
    """

    scenes: Sequence[ReportScene]
    names: Sequence[str]
    max_side: int | None = None
    _prefixes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, scene in enumerate(self.scenes):
            for layer in scene.layers:
                self._prefixes.setdefault(layer.content, f"s{number}/{layer.name}")

    @property
    def pixels(self) -> int:
        """Pixels of all layers that have to be read."""
        return sum(scene.shape[0] * scene.shape[1] for scene, _, _ in self._to_write())

    def data(self) -> dict[str, Any]:
        """Describe scenes and layers.

        Returns
        -------
        dict
            Plain values, as viewer.js takes them.
        """
        pairs = enumerate(zip(self.scenes, self.names, strict=True))
        return {
            "tile_side": TILE_SIDE,
            "scenes": [self._describe(number, scene, name) for number, (scene, name) in pairs],
        }

    def tiles(self, progress: Callable[[int], None] | None = None) -> Iterator[tuple[str, str]]:
        """Make the small pictures of all layers, each once. Computes, a band of rows at a time.

        Parameters
        ----------
        progress : callable, optional
            Called with the number of pixels done since the last call.

        Yields
        ------
        tuple of str
            Identifier in the page, and the picture in base 64.
        """
        for scene, layer, prefix in self._to_write():
            dropped = dropped_levels(scene.shape, self.max_side)
            parts = pyramid_tiles(layer.raster(), layer.kind, dropped=dropped, progress=progress)
            for tile in parts:
                place = f"t/{prefix}/{tile.level}/{tile.row}/{tile.column}"
                yield place, base64.b64encode(tile.content).decode("ascii")

    def _to_write(self) -> Iterator[tuple[ReportScene, Layer, str]]:
        for number, scene in enumerate(self.scenes):
            for layer in scene.layers:
                prefix = f"s{number}/{layer.name}"
                if self._prefixes[layer.content] == prefix:
                    yield scene, layer, prefix

    def _describe(self, number: int, scene: ReportScene, name: str) -> dict[str, Any]:
        dropped = dropped_levels(scene.shape, self.max_side)
        described: dict[str, Any] = {
            "id": f"s{number}",
            "name": scene.run.name,
            "width": scene.shape[1],
            "height": scene.shape[0],
            "levels": level_count(scene.shape, dropped),
            "scale": 2**dropped,
            "crs": scene.crs,
            "transform": None if scene.transform is None else list(scene.transform)[:6],
            # Its width: the scale bar lies along a row.
            "pixel_m": None if scene.pixel_m is None else scene.pixel_m[1],
            "classes": [
                {"code": entry.code, "name": entry.name, "colour": entry.colour}
                for entry in scene.legend.predicted
            ],
            "layers": [self._describe_layer(number, layer) for layer in scene.layers],
        }
        notes = list(scene.notes)
        if dropped:
            notes.append(f"The finest levels were left out: a pixel shown is {2**dropped} wide.")
        return (
            described
            | ({"run": name} if name else {})
            | ({"note": " ".join(notes)} if notes else {})
        )

    def _describe_layer(self, number: int, layer: Layer) -> dict[str, Any]:
        described: dict[str, Any] = {
            "id": layer.name,
            "title": layer.title,
            "kind": layer.kind,
            "mime": MIME[layer.kind],
        }
        if layer.kind == "scalar":
            described |= {"low": layer.low, "high": layer.high, "unit": layer.unit}
        prefix = self._prefixes[layer.content]
        return described if prefix == f"s{number}/{layer.name}" else described | {"tiles": prefix}
