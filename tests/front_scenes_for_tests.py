"""Generated scenes whose calving front is known, and what its extraction must cope with."""

from __future__ import annotations

from typing import Any

import geopandas
import numpy as np
import xarray as xr
from rasterio import Affine
from shapely import LineString

from csc_xr.grid import scene_transform
from csc_xr.synthetic import fjord

Case = tuple[str, dict[str, Any]]

SMALL, LARGE, TALL = (400, 500), (600, 800), (500, 450)
_POLAR = {"crs": "EPSG:3413", "origin": (302000.0, -2575000.0)}
_COARSE = {"pixel_size": 30.0}
_ALL = {
    "nunataks": 3,
    "tributaries": ("joining", "land", "fjord"),
    "icebergs": 4,
    "lakes": 3,
}


def front_cases() -> list[Case]:
    """Name and settings of every case; the seeds are none of the demo network's."""
    return [*_forms(), *_obstacles(), *_grids(), *_turned()]


def open_case(settings: dict[str, Any]) -> xr.Dataset:
    """Generate the scene of a case: settings of `fjord`, and whether it is ``transposed``."""
    given = dict(settings)
    turned = given.pop("transposed", False)
    dataset = fjord(given.pop("shape"), **given)
    return transposed(dataset) if turned else dataset


def true_front(dataset: xr.Dataset) -> geopandas.GeoSeries:
    """The calving front of a generated scene as a line in its CRS, with the glacier on the left."""
    vertices = np.column_stack([dataset["front_x"], dataset["front_y"]])
    middle = len(vertices) // 2
    along = vertices[middle] - vertices[middle - 1]
    step = abs(scene_transform(dataset)[0]) / np.hypot(*along)
    x, y = vertices[middle] + 3 * step * np.array([-along[1], along[0]])
    if dataset["labels"].sel(x=x, y=y, method="nearest") != 4:
        vertices = vertices[::-1]
    return geopandas.GeoSeries([LineString(vertices)], crs=dataset.rio.crs)


def transposed(dataset: xr.Dataset) -> xr.Dataset:
    """Swap rows and columns of a generated scene about its top left corner, truth and all."""
    step, left, top = scene_transform(dataset)[0], *_corner(dataset)
    turned = dataset[["scene", "labels"]].drop_vars(["x", "y"]).rename(x="y", y="x")
    turned = turned.transpose("band", "y", "x")
    turned = turned.assign_coords(
        x=left + step * (np.arange(turned.sizes["x"]) + 0.5),
        y=top - step * (np.arange(turned.sizes["y"]) + 0.5),
    )
    turned["front_x"] = left + (top - dataset["front_y"])
    turned["front_y"] = top - (dataset["front_x"] - left)
    turned = turned.rio.write_transform(Affine(step, 0, left, 0, -step, top))
    return turned.assign_attrs(dataset.attrs)


def _case(name: str, shape: tuple[int, int], seed: int, **settings: Any) -> Case:
    return name, {"shape": shape, "seed": seed, **settings}


def _corner(dataset: xr.Dataset) -> tuple[float, float]:
    transform = scene_transform(dataset)
    return transform.c, transform.f


def _forms() -> list[Case]:
    """Forms of the front, with mélange and without, the glacier on the left and on the right."""
    cases: list[Case] = []
    for number, form in enumerate(("straight", "concave", "angled", "rough")):
        for melange in (True, False):
            name = f"{form}, {'mélange' if melange else 'no mélange'}"
            seed = 400 + 2 * number + melange
            cases.append(_case(name, SMALL, seed, front_shape=form, melange=melange))
    return [
        *cases,
        _case("straight, far down", SMALL, 410, front_position=0.75),
        _case("rough, large", LARGE, 411, front_shape="rough"),
        _case("concave, tall", TALL, 412, front_shape="concave", melange=False),
        _case("edge of the swath", SMALL, 413, nodata_margin=0.2),
    ]


def _obstacles() -> list[Case]:
    """What is taken for the front where it is not."""
    every = ("joining", "land", "fjord")
    near = {"front_position": 0.43}
    return [
        _case("icebergs in mélange", SMALL, 420, icebergs=5),
        _case("icebergs in water", LARGE, 421, icebergs=8, melange=False),
        _case(
            "nunataks near a straight front",
            SMALL,
            422,
            nunataks=3,
            front_shape="straight",
            **near,
        ),
        _case(
            "nunataks near a concave front",
            LARGE,
            423,
            nunataks=4,
            front_shape="concave",
            melange=False,
            **near,
        ),
        _case("nunataks near a rough front", SMALL, 424, nunataks=4, front_shape="rough", **near),
        _case("tributary that joins", SMALL, 425, tributaries=("joining",), **near),
        _case("tributary that ends on land", SMALL, 426, tributaries=("land",)),
        _case("tributary that ends in the fjord", SMALL, 427, tributaries=("fjord",)),
        _case(
            "tributary in the fjord, no mélange",
            LARGE,
            428,
            tributaries=("fjord",),
            melange=False,
        ),
        _case("three tributaries", LARGE, 429, tributaries=every),
        _case("tongue, mélange", SMALL, 430, tongue=True),
        _case("tongue, no mélange", SMALL, 431, tongue=True, melange=False),
        _case("tongue, angled", LARGE, 432, tongue=True, front_shape="angled"),
        _case("lakes", SMALL, 433, lakes=5),
        _case("everything", LARGE, 434, **_ALL),
        _case("everything, no mélange", SMALL, 435, melange=False, **_ALL),
    ]


def _grids() -> list[Case]:
    """Pixels of 30 m, and a projection whose metres are not metres."""
    return [
        _case("30 m, straight", SMALL, 440, front_shape="straight", **_COARSE),
        _case("30 m, angled", SMALL, 441, front_shape="angled", melange=False, **_COARSE),
        _case("30 m, rough", SMALL, 442, front_shape="rough", **_COARSE),
        _case("30 m, everything", LARGE, 443, **_ALL, **_COARSE),
        _case("polar, concave", SMALL, 444, front_shape="concave", **_POLAR),
        _case("polar, tongue", SMALL, 445, tongue=True, **_POLAR),
        _case("polar, everything", LARGE, 446, **_ALL, **_POLAR),
        _case("polar, 30 m, icebergs", SMALL, 447, icebergs=5, melange=False, **_POLAR, **_COARSE),
        _case(
            "polar, 30 m, nunataks",
            SMALL,
            448,
            nunataks=3,
            front_position=0.43,
            **_POLAR,
            **_COARSE,
        ),
    ]


def _turned() -> list[Case]:
    """Glaciers that come from above or from below."""
    turned = {"transposed": True}
    return [
        _case("turned, straight", SMALL, 450, front_shape="straight", **turned),
        _case("turned, angled", SMALL, 451, front_shape="angled", melange=False, **turned),
        _case("turned, rough", SMALL, 452, front_shape="rough", **turned),
        _case("turned, tributary in the fjord", SMALL, 453, tributaries=("fjord",), **turned),
        _case("turned, tongue", SMALL, 454, tongue=True, **turned),
        _case("turned, everything", LARGE, 455, **_ALL, **turned),
        _case("turned, polar, 30 m, everything", SMALL, 456, **_ALL, **turned, **_POLAR, **_COARSE),
    ]
