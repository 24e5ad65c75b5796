"""STAC items as scenes and stacks: what catalogues say of offsets, and where bands are."""

from __future__ import annotations

import builtins
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import DEVNULL, PIPE
from threading import Thread
from typing import Any

import dask
import numpy as np
import pystac
import pytest
from products_for_tests import CORNER, CRS, some_surface
from rasters_for_tests import never
from stac_for_tests import CATALOGUES, write_item

from csc_xr.errors import SceneError
from csc_xr.products.open import open_product
from csc_xr.products.stac import open_stac, search_stac
from csc_xr.products.stac_items import find_band, read_items, scaling_of
from csc_xr.scene import valid_pixels

SURFACE = some_surface(side=40)
NUMBERS = np.stack([np.round(SURFACE[band] * 10000) for band in ("B04", "B03", "B02", "B08")])


def edited(path: Path, **properties: Any) -> dict[str, Any]:
    """The item with other properties; None takes one away."""
    item = json.loads(path.read_text())
    item["properties"].update(properties)
    item["properties"] = {k: v for k, v in item["properties"].items() if v is not None}
    item["links"] = [{"rel": "self", "href": str(path)}]
    return item


@pytest.mark.parametrize(
    ("catalogue", "shifted", "baseline"),
    [
        ("earth-search-v1", False, "05.11"),  # applied, though raster:bands says -0.1
        ("earth-search-v1", True, "05.11"),
        ("earth-search-v1", False, "02.14"),  # never had one, though raster:bands says -0.1
        ("earth-search-v0", False, "04.00"),
        ("planetary-computer", False, "03.01"),
        ("copernicus", True, "05.11"),
        ("copernicus", False, "02.14"),
        ("bands", True, "05.11"),
        ("bands", False, "05.11"),
    ],
)
def test_one_surface_gives_one_scene(
    tmp_path: Path, catalogue: str, shifted: bool, baseline: str
) -> None:
    path = write_item(tmp_path, SURFACE, catalogue=catalogue, shifted=shifted, baseline=baseline)
    with dask.config.set(scheduler=never):
        scene = open_stac(path)
    assert scene.band.values.tolist() == ["red", "green", "blue", "nir"]
    assert scene.dtype == "uint16"
    assert scene.rio.crs.to_string() == CRS
    assert str(scene.time.values) == "2021-07-15T14:37:52.024000000"
    np.testing.assert_array_equal(scene.values, NUMBERS)


def test_forms_of_an_item(tmp_path: Path) -> None:
    path = write_item(tmp_path, SURFACE, catalogue="copernicus", shifted=True)
    item = pystac.Item.from_file(str(path))
    for given in (str(path), edited(path), item, [item]):
        np.testing.assert_array_equal(open_stac(given).values, NUMBERS)


def test_product_names_and_other_bands(tmp_path: Path) -> None:
    surface = some_surface(("B04", "B05"), side=40)
    path = write_item(tmp_path, surface)
    scene = open_stac(path, ("B05", "red"), resolution=20, resampling="nearest")
    assert scene.band.values.tolist() == ["rededge1", "red"]
    assert scene.shape == (2, 20, 20)
    np.testing.assert_array_equal(scene.values[0], np.round(surface["B05"] * 10000))
    with pytest.raises(SceneError, match="resolution"):
        open_stac(path, ("B05", "red"))


def test_offset_given_goes_first(tmp_path: Path) -> None:
    path = write_item(tmp_path, SURFACE, catalogue="planetary-computer", shifted=True)
    with pytest.raises(SceneError, match="must say which offset numbers of B04 have"):
        open_stac(path)
    np.testing.assert_array_equal(open_stac(path, offset=-1000).values, NUMBERS)
    told = write_item(tmp_path / "told", SURFACE, catalogue="copernicus", shifted=False)
    low = open_stac(told, offset=-1000).values
    np.testing.assert_array_equal(low, np.maximum(NUMBERS - 1000, 1))


@pytest.mark.parametrize(
    ("properties", "offset"),
    [
        ({"earthsearch:boa_offset_applied": True}, 0),
        ({"sentinel:boa_offset_applied": True}, 0),
        ({"earthsearch:boa_offset_applied": False}, -1000),
        ({"earthsearch:boa_offset_applied": None}, -1000),
        ({"earthsearch:boa_offset_applied": None, "s2:processing_baseline": "02.09"}, -1000),
        ({"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "02.09"}, 0),
    ],
)
def test_what_goes_before_what(tmp_path: Path, properties: dict[str, Any], offset: float) -> None:
    (item,) = read_items(edited(write_item(tmp_path, SURFACE), **properties))
    band = find_band(item, ("B04", "red"), sign=None)
    assert band is not None
    assert band.key == "red"  # not red-jp2
    assert scaling_of(item, band, None) == (1, offset)


def test_collections_of_items(tmp_path: Path) -> None:
    paths = [
        write_item(tmp_path, SURFACE, name=day, sensed=f"{day}T14:30:00Z", shifted=True)
        for day in ("2021-07-15", "2021-06-01")
    ]
    both = {"type": "FeatureCollection", "features": [edited(path) for path in paths]}
    saved = tmp_path / "items.json"
    saved.write_text(json.dumps(both))
    wanted = open_stac(paths)
    items = pystac.ItemCollection([pystac.Item.from_file(str(path)) for path in paths])
    for collection in (saved, items, (path for path in paths)):
        found = open_stac(collection)
        np.testing.assert_array_equal(found, wanted)
        assert found.time.equals(wanted.time)
    with pytest.raises(SceneError, match="must be one STAC item, but holds 2"):
        open_product(saved)


def test_items_that_contradict_themselves(tmp_path: Path) -> None:
    item = edited(write_item(tmp_path, SURFACE), **{"earthsearch:boa_offset_applied": False})
    item["assets"]["red"]["raster:bands"][0]["offset"] = 0
    with pytest.raises(SceneError, match=r"says 0 and that it was not applied\. Pass offset=-1000"):
        open_stac(item, ("red",))
    item["properties"]["s2:processing_baseline"] = "03.01"
    assert open_stac(tmp_item(tmp_path, item), ("red",)).shape == (1, 40, 40)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("scale", "x", "scale of red in item .* must be a number, got 'x'"),
        ("scale", 0, "scale of red in item .* must be positive, got 0"),
        ("offset", [1], "offset of red in item .* must be a number"),
        ("nodata", "none", "nodata of red in item .* must be a number"),
        ("nodata", "nan", None),
        ("nodata", None, None),
        ("scale", "0.0001", None),
    ],
)
def test_numbers_in_items(tmp_path: Path, field: str, value: object, message: str | None) -> None:
    item = edited(write_item(tmp_path, SURFACE, shifted=True))
    item["assets"]["red"]["raster:bands"][0][field] = value
    item["assets"]["note"] = "not an asset"
    item["assets"]["visual"]["eo:bands"] = {"name": "red"}
    item["links"] = ["not a link"]
    path = tmp_item(tmp_path, item)
    if message is None:
        np.testing.assert_array_equal(open_stac(path, ("red",)), NUMBERS[:1])
        return
    with pytest.raises(SceneError, match=message):
        open_stac(path, ("red",))


def tmp_item(folder: Path, item: dict[str, Any]) -> Path:
    path = folder / "edited.json"
    path.write_text(json.dumps(item))
    return path


def test_masks_in_other_words(tmp_path: Path) -> None:
    scl = np.full((20, 20), 11, "uint8")
    path = write_item(tmp_path, SURFACE, shifted=True, scl=scl)
    for mask in ("snow", 11, ["snow"]):
        assert not open_stac(path, ("red",), mask=mask).valid.any()
    assert "valid" not in open_stac(path, ("red",), mask=[]).coords


def test_clouds_of_the_scene_classification(tmp_path: Path) -> None:
    scl = np.full((20, 20), 5, "uint8")
    scl[3, 4:8] = (3, 8, 9, 10)
    surface = {"B04": SURFACE["B04"]}
    for catalogue in CATALOGUES:
        path = write_item(
            tmp_path / catalogue, surface, catalogue=catalogue, baseline="03.01", scl=scl,
            properties={"earthsearch:boa_offset_applied": True},
        )  # fmt: skip
        valid = valid_pixels(open_stac(path, ("red",))).values
        wanted = ~np.kron(np.isin(scl, (3, 8, 9, 10)), np.ones((2, 2), bool))
        np.testing.assert_array_equal(valid, wanted)
    assert valid_pixels(open_stac(path, ("red",), mask=())).values.all()


def test_items_become_a_stack(tmp_path: Path) -> None:
    days = ("2021-07-15", "2021-06-01", "2021-08-20")
    surfaces = [some_surface(side=40, seed=seed) for seed in range(3)]
    paths = [
        write_item(tmp_path, surface, name=f"item_{day}", sensed=f"{day}T14:30:00Z", shifted=True)
        for surface, day in zip(surfaces, days, strict=True)
    ]
    with dask.config.set(scheduler=never):
        stack = open_stac(paths)
    assert stack.dims == ("time", "band", "y", "x")
    assert [str(time)[:10] for time in stack.time.values] == sorted(days)
    assert stack.scene.values.tolist() == [f"item_{day}" for day in sorted(days)]
    for place, number in enumerate((1, 0, 2)):
        wanted = np.round(surfaces[number]["B04"] * 10000)
        np.testing.assert_array_equal(stack.sel(band="red").values[place], wanted)


def test_stack_of_neighbours_lies_on_the_grid_of_the_first(tmp_path: Path) -> None:
    one = write_item(tmp_path, SURFACE, name="one", shifted=True)
    moved = (CORNER[0] + 200, CORNER[1])
    two = write_item(
        tmp_path, SURFACE, name="two", shifted=True, sensed="2021-08-01T10:00:00Z", corner=moved
    )
    stack = open_stac([one, two])
    assert stack.shape == (2, 4, 40, 40)
    np.testing.assert_array_equal(stack.values[1, :, :, 20:], NUMBERS[:, :, :20])
    assert not valid_pixels(stack.isel(time=1, drop=True)).values[:, :20].any()
    with pytest.raises(SceneError, match="were both taken at 2021-07-15T14:37:52"):
        open_stac([one, write_item(tmp_path / "again", SURFACE, name="again", shifted=True)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_own_grid_equals_odc_stac(tmp_path: Path) -> None:
    """On the pixels of the files themselves, where odc-stac is exact whatever the chunks."""
    odc_stac = pytest.importorskip("odc.stac")
    path = write_item(tmp_path, SURFACE, catalogue="copernicus", shifted=True)
    item = pystac.Item.from_file(str(path))
    left, top = CORNER
    loaded = odc_stac.load(
        [item], bands=["B04_10m"], crs=CRS, resolution=10, dtype="uint16", nodata=0,
        x=(left, left + 400), y=(top - 400, top),
    )  # fmt: skip
    numbers = loaded["B04_10m"].values[0]
    np.testing.assert_array_equal(open_stac(path, ("red",)).values[0] + 1000, numbers)


def test_remote_assets_are_paths_of_gdal(tmp_path: Path) -> None:
    path = write_item(tmp_path, SURFACE)
    item = json.loads(path.read_text())
    hrefs = {
        "https://host/a.tif?b=1": "/vsicurl/https://host/a.tif?b=1",
        "s3://bucket/a.tif": "/vsis3/bucket/a.tif",
        "gs://bucket/a.tif": "/vsigs/bucket/a.tif",
        "file:///data/a%20b.tif": "/data/a b.tif",
        "/data/a.tif": "/data/a.tif",
    }
    for href, wanted in hrefs.items():
        item["assets"]["red"]["href"] = href
        band = find_band(read_items(item)[0], ("red",), sign=None)
        assert band is not None
        assert band.path == wanted
    item["assets"]["red"]["href"] = "https://host/a.tif"
    item["links"] = [{"rel": "self", "href": "https://host/items/x.json"}]
    item["assets"]["green"]["href"] = "../files/b.tif"
    (read,) = read_items(item)
    found = [find_band(read, (name,), sign=lambda href: f"{href}?key") for name in ("red", "green")]
    assert [band.path for band in found if band] == [
        "/vsicurl/https://host/a.tif?key",
        "/vsicurl/https://host/files/b.tif?key",
    ]


def test_assets_on_another_machine(tmp_path: Path) -> None:
    path = write_item(tmp_path, SURFACE, shifted=True)
    item = edited(path)
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=PIPE, stderr=DEVNULL, text=True) as server:
        assert server.stdout is not None
        port = re.search(r"port (\d+)", server.stdout.readline())
        assert port is not None
        item["links"] = [{"rel": "self", "href": f"http://127.0.0.1:{port[1]}/{path.name}"}]
        try:
            np.testing.assert_array_equal(open_stac(item).values, NUMBERS)
        finally:
            server.kill()


def test_landsat_items(tmp_path: Path) -> None:
    """As the Planetary Computer gives them: near infrared is nir08 there, and nir here."""
    item = json.loads(write_item(tmp_path, SURFACE).read_text())
    raster = [{"scale": 2.75e-05, "offset": -0.2, "nodata": 0}]
    item["properties"] = {"datetime": "2021-07-15T14:00:00Z", "platform": "landsat-8"}
    item["assets"]["nir08"] = {**item["assets"].pop("nir"), "raster:bands": raster}
    item["assets"]["nir08"]["eo:bands"] = [{"name": "OLI_B5", "common_name": "nir08"}]
    item["links"] = [{"rel": "self", "href": str(tmp_path / "item.json")}]
    scene = open_stac(item, ("nir",), mask=())
    assert scene.band.values.tolist() == ["nir"]
    wanted = np.maximum(NUMBERS[3] * 0.275 - 2000, 1)
    assert np.abs(scene.values[0] - wanted).max() <= 1
    del item["assets"]["nir08"]["raster:bands"]
    with pytest.raises(SceneError, match="must say how numbers of nir08 become reflectance"):
        open_stac(item, ("nir",), mask=())


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    path = write_item(tmp_path, SURFACE)
    with pytest.raises(SceneError, match=r"band\(s\) swir16.* has .*red"):
        open_stac(path, ("red", "swir16"))
    bare = {**edited(path), "assets": {"red": edited(path)["assets"]["red"]}}
    with pytest.raises(SceneError, match="no such classes"):
        open_stac(bare, ("red",), mask=("cloud_shadow",))
    assert "valid" not in open_stac(bare, ("red",)).coords
    with pytest.raises(SceneError, match="mask must hold classes of the scene classification"):
        open_stac(path, mask=("haze",))
    with pytest.raises(SceneError, match="at least one band"):
        open_stac(path, ())
    with pytest.raises(SceneError, match="Each band can be there once, got red, B04"):
        open_stac(path, ("red", "B04"))
    with pytest.raises(SceneError, match=r"must be a STAC item \(JSON\), but cannot be read"):
        open_stac(tmp_path / "none.json")
    with pytest.raises(SceneError, match="with assets, got Collection"):
        open_stac({"type": "Collection", "id": "x"})
    with pytest.raises(SceneError, match="with assets, got int"):
        open_stac(3)
    with pytest.raises(SceneError, match="at least one item"):
        open_stac([])
    with pytest.raises(SceneError, match="datetime of item"):
        open_stac(edited(path, datetime="soon"))
    item = edited(path)
    del item["assets"]["red"]["href"]
    with pytest.raises(SceneError, match=r"say where its file is \(href\)"):
        open_stac(item)
    (tmp_path / "S2B_24WWU_20210715_0_L2A_B04.tif").unlink()
    with pytest.raises(SceneError, match=r"B04\.tif"):
        open_stac(path)


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A STAC API on this machine that finds four items a page of two, and what it was asked."""
    days = ("2021-08-20", "2021-06-01", "2021-07-15", "2021-07-01")
    items = []
    for cloud, day in zip((5, 80, None, 20), days, strict=True):
        path = write_item(tmp_path, SURFACE, name=day, sensed=f"{day}T14:30:00Z", shifted=True)
        items.append(edited(path, **{"eo:cloud_cover": cloud}))
    asked: list[dict[str, Any]] = []

    class Api(BaseHTTPRequestHandler):
        def answer(self, content: dict[str, Any]) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def do_GET(self) -> None:
            search = {
                "rel": "search", "href": f"{url}/search", "type": "application/geo+json",
                "method": "POST",
            }  # fmt: skip
            core = "https://api.stacspec.org/v1.0.0/"
            self.answer({
                "type": "Catalog", "id": "local", "description": "x", "stac_version": "1.0.0",
                "conformsTo": [f"{core}core", f"{core}item-search"],
                "links": [{"rel": "self", "href": url}, {"rel": "root", "href": url}, search],
            })  # fmt: skip

        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            start = 2 * asked[-1].get("page", 0)
            body = {**asked[-1], "page": start // 2 + 1}
            more = {"rel": "next", "href": f"{url}/search", "method": "POST", "body": body}
            self.answer({
                "type": "FeatureCollection", "features": items[start : start + 2],
                "links": [more] if start + 2 < len(items) else [],
            })  # fmt: skip

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield url, asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_search(catalogue: tuple[str, list[dict[str, Any]]]) -> None:
    url, asked = catalogue
    found = search_stac(
        url, collections=["sentinel-2-l2a"], box=(-40, 66, -39, 67),
        dates=("2021-06-01", "2021-08-31"), max_cloud=30,
    )  # fmt: skip
    assert [item.id for item in found] == ["2021-07-01", "2021-08-20"]
    assert asked[0]["collections"] == ["sentinel-2-l2a"]
    assert asked[0]["bbox"] == [-40, 66, -39, 67]
    assert asked[0]["datetime"] == "2021-06-01T00:00:00Z/2021-08-31T23:59:59Z"
    assert open_stac(found).shape == (2, 4, 40, 40)
    everything = search_stac(url, collections="sentinel-2-l2a", dates="2021-06-01/2021-08-31")
    assert [item.id for item in everything] == sorted(item.id for item in everything)
    assert len(everything) == 4
    assert len(search_stac(url, collections="sentinel-2-l2a", most=3)) == 3


def test_search_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SceneError, match=r"catalogue http://127.0.0.1:9 must answer"):
        search_stac("http://127.0.0.1:9", collections="x")
    imported = builtins.__import__

    def absent(name: str, *words: Any, **more: Any) -> Any:
        if name.startswith("pystac_client"):
            raise ImportError(name)
        return imported(name, *words, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(SceneError, match=r"pip install csc_xr\[stac\]"):
        search_stac("https://host", collections="x")
