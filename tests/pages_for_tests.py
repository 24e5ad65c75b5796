"""Small pages with a map, as the report's viewer reads them, and the browser they are opened in."""

from __future__ import annotations

import base64
import io
import json
import shutil
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import csc_xr

SIDE = 64
ASSETS = Path(csc_xr.__file__).parent / "report" / "assets"
POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
WATER, ICE, ROCK = (
    {"code": 1, "name": "Water", "colour": "#0000ff"},
    {"code": 2, "name": "Ice", "colour": "#ffffff"},
    {"code": 3, "name": "Rock", "colour": "#775b5a"},
)
Tiles = dict[str, bytes]
Scenes = list[dict[str, Any]]


def chromium() -> str | None:
    """Path of an installed Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for path in map(shutil.which, names) if path), None)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Grey codes (row, column) or colours (row, column, 3) as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def png_of_all_filters(codes: NDArray[np.uint8]) -> bytes:
    """Grey codes as a PNG file whose rows take turns with the five filters there are."""
    wide = codes.astype(int)
    left = np.pad(wide, ((0, 0), (1, 0)))[:, :-1]
    up = np.pad(wide, ((1, 0), (0, 0)))[:-1]
    corner = np.pad(wide, 1)[:-2, :-2]
    neighbours = np.stack([left, up, corner])
    nearest = np.abs(neighbours - (left + up - corner)).argmin(0)
    paeth = np.take_along_axis(neighbours, nearest[None], 0)[0]
    guesses = np.stack([np.zeros_like(wide), left, up, (left + up) // 2, paeth])
    rows = np.arange(len(codes))
    filtered = (wide - guesses[rows % 5, rows]) % 256
    packed = zlib.compress(np.c_[rows % 5, filtered].astype(np.uint8).tobytes())
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", *reversed(codes.shape), 8, 0, 0, 0, 0)),
        (b"IDAT", packed[:99]),
        (b"IDAT", packed[99:]),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I4s", len(part), name) + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def layer(name: str, kind: str = "classes", **more: Any) -> dict[str, Any]:
    """One layer of a scene; PNG pictures give exact colours."""
    ends = {"low": 0.0, "high": 1.0, "unit": ""} if kind == "scalar" else {}
    title = name.replace("_", " ").capitalize()
    return {"id": name, "title": title, "kind": kind, "mime": "image/png", **ends, **more}


def scene(
    layers: Sequence[dict[str, Any]], shape: tuple[int, int], *, levels: int = 1, **more: Any
) -> dict[str, Any]:
    """One scene; without ``levels`` it fits in one tile."""
    plain = {
        "id": "s0",
        "name": "fjord",
        "height": shape[0],
        "width": shape[1],
        "levels": levels,
        "scale": 1,
        "crs": None,
        "transform": None,
        "pixel_m": None,
        "classes": [WATER, ICE, ROCK],
        "layers": list(layers),
    }
    return {**plain, **more}


def tiles_of(
    name: str, pixels: NDArray[np.uint8], *, levels: int = 1, scene_id: str = "s0"
) -> Tiles:
    """Tiles of one layer; a coarser level has every second pixel."""
    tiles = {}
    for level in range(levels):
        coarse = pixels[:: 2**level, :: 2**level]
        for top in range(0, coarse.shape[0], SIDE):
            for left in range(0, coarse.shape[1], SIDE):
                place = f"{level}/{top // SIDE}/{left // SIDE}"
                cut = coarse[top : top + SIDE, left : left + SIDE]
                tiles[f"{scene_id}/{name}/{place}"] = png(cut)
    return tiles


def write_page(
    path: Path, scenes: Sequence[dict[str, Any]], tiles: Mapping[str, bytes], **more: Any
) -> Path:
    """Write a page with a map and nothing else."""
    style = "\n".join(file.read_text(encoding="utf-8") for file in sorted(ASSETS.glob("*.css")))
    script = "\n".join(file.read_text(encoding="utf-8") for file in sorted(ASSETS.glob("*.js")))
    data = json.dumps({"tile_side": SIDE, "scenes": list(scenes), **more}).replace("<", "\\u003c")
    elements = "\n".join(
        f'<script type="text/plain" id="t/{name}">{base64.b64encode(content).decode()}</script>'
        for name, content in tiles.items()
    )
    path.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width"><title>Map</title>'
        f"<style>body{{font-family:system-ui,sans-serif}}{style}</style></head><body><main>"
        '<section id="csc-viewer"><p>The map needs JavaScript.</p></section></main>\n'
        f'{elements}\n<script type="application/json" id="csc-viewer-data">{data}</script>\n'
        f"<script>{script}</script></body></html>",
        encoding="utf-8",
    )
    return path
