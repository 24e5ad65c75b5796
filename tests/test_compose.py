"""Products become scenes and stacks that the other commands take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio.features
import shapely
import xarray as xr
from landsat_for_tests import some_numbers, write_landsat
from networks_for_tests import striped_scene
from products_for_tests import CORNER, CRS, some_surface, write_safe
from rasters_for_tests import some_pixels, write_raster
from runs_for_tests import QUICKEST, run_cli, write_network
from stac_for_tests import write_item
from typer.testing import CliRunner

from csc_xr.cli import app
from csc_xr.errors import LabelError, OutputError, ParameterError, SceneError
from csc_xr.export import open_result
from csc_xr.grid import same_grid, scene_transform
from csc_xr.products.landsat import open_landsat
from csc_xr.products.open import list_products, open_product
from csc_xr.products.sentinel2 import open_sentinel2
from csc_xr.products.series import join_scenes
from csc_xr.products.stac import open_stac
from csc_xr.runs.compose import ComposeSettings, compose
from csc_xr.scene import open_scene, valid_pixels
from csc_xr.stack import open_stack, stack_scene

SURFACE = some_surface(side=60)
LEFT, TOP = CORNER
BOX = (LEFT + 100, TOP - 400, LEFT + 350, TOP - 150)
PART = (slice(None), slice(15, 40), slice(10, 35))


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scl = np.full((30, 30), 5, "uint8")
    scl[10:13, 8:12] = 9
    return write_safe(tmp_path_factory.mktemp("product"), SURFACE, scl=scl)


def reopened(path: Path) -> xr.DataArray:
    return open_stack(path) if path.name.startswith("stack") else open_scene(path)


def assert_equal(found: xr.DataArray, wanted: xr.DataArray) -> None:
    """Pixels where valid, valid pixels, time, bands, grid and settings."""
    assert found.dims == wanted.dims
    assert found.dtype == wanted.dtype
    assert found.band.values.tolist() == wanted.band.values.tolist()
    assert found.time.values.tolist() == wanted.time.values.tolist()
    assert found.time.dtype == wanted.time.dtype == "datetime64[ns]"
    assert same_grid(found, wanted)
    for key in ("scale", "nodata_when", "_FillValue", "quantification"):
        assert found.attrs[key] == wanted.attrs[key], key
    if "band" in found.dims and found.ndim == 3:
        seen = valid_pixels(wanted).values
        np.testing.assert_array_equal(valid_pixels(found).values, seen)
        np.testing.assert_array_equal(found.values[:, seen], wanted.values[:, seen])
        return
    for place in range(len(found)):
        assert_equal(stack_scene(found, place), stack_scene(wanted, place))


@pytest.mark.parametrize("ending", ["tif", "zarr"])
def test_a_scene_of_a_product(product: Path, tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"scene.{ending}"
    compose([product], target, settings=ComposeSettings(box=BOX))
    whole = open_sentinel2(product)
    found = open_scene(target)
    assert_equal(found, open_sentinel2(product, box=BOX))
    np.testing.assert_array_equal(valid_pixels(found), valid_pixels(whole).values[PART[1:]])
    assert not valid_pixels(found).values.all()
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".partial") == []


def test_every_kind_of_product(product: Path, tmp_path: Path) -> None:
    landsat = write_landsat(tmp_path / "landsat", some_numbers())
    item = write_item(tmp_path / "item", SURFACE, shifted=True)
    (mtl,) = landsat.glob("*MTL.txt")
    (jp2,) = product.glob("GRANULE/*/IMG_DATA/R10m")
    zipped = write_safe(tmp_path / "zip", SURFACE, zipped=True)
    kinds = {
        product: open_sentinel2(product),
        zipped: open_sentinel2(zipped),
        landsat: open_landsat(landsat),
        mtl: open_landsat(landsat),
        item: open_stac(item),
    }
    for path, wanted in kinds.items():
        assert_equal(open_product(path), wanted)
    loose = open_product(jp2, mask=())  # the classification lies in another folder
    assert_equal(loose, open_sentinel2(product, mask=()))


def test_a_plain_image(tmp_path: Path) -> None:
    pixels = some_pixels(4, 30, 40, dtype="uint16")
    transform = rasterio.Affine(10, 0, LEFT, 0, -10, TOP)
    path = write_raster(tmp_path / "image_20210715.tif", pixels, crs=CRS, transform=transform)
    box = (LEFT + 100, TOP - 200, LEFT + 200, TOP - 50)
    scene = open_product(path, ("nir", "red"), box=box)
    np.testing.assert_array_equal(scene.values, pixels[[3, 0], 5:20, 10:20])
    assert scene_transform(scene).c == LEFT + 100
    assert str(scene.time.values)[:10] == "2021-07-15"
    for words in ({"crs": "EPSG:4326"}, {"resolution": 20}, {"offset": 0}):
        with pytest.raises(SceneError, match="is an image, not a product"):
            open_product(path, **words)


def test_another_crs(product: Path, tmp_path: Path) -> None:
    settings = ComposeSettings(crs="EPSG:3413", box=BOX, box_crs=CRS, resolution=10)
    target = tmp_path / "scene.zarr"
    compose([product], target, settings=settings)
    found = open_scene(target)
    assert found.rio.crs.to_string() == "EPSG:3413"
    assert scene_transform(found).a == 10
    wanted = open_sentinel2(product, crs="EPSG:3413", box=BOX, box_crs=CRS, resolution=10)
    assert_equal(found, wanted)
    assert valid_pixels(found).values.any()


def test_polygons_crop_and_mask(product: Path, tmp_path: Path) -> None:
    shape = shapely.Polygon(
        [(LEFT + 101, TOP - 151), (LEFT + 349, TOP - 155), (LEFT + 250, TOP - 399)]
    )
    areas = geopandas.GeoDataFrame(geometry=[shape], crs=CRS)
    areas.to_crs(4326).to_file(tmp_path / "areas.gpkg")
    areas.to_file(tmp_path / "own.geojson")
    compose(
        [product], tmp_path / "a.zarr", settings=ComposeSettings(polygon=tmp_path / "own.geojson")
    )
    found = open_scene(tmp_path / "a.zarr")
    wanted = open_sentinel2(product, box=BOX)
    assert same_grid(found, wanted)
    inside = rasterio.features.rasterize(
        [shape], out_shape=wanted.shape[1:], transform=scene_transform(wanted)
    )
    seen = (inside == 1) & valid_pixels(wanted).values
    np.testing.assert_array_equal(valid_pixels(found).values, seen)
    np.testing.assert_array_equal(found.values[:, seen], wanted.values[:, seen])
    compose(
        [product], tmp_path / "b.tif", settings=ComposeSettings(polygon=tmp_path / "areas.gpkg")
    )
    moved = open_scene(tmp_path / "b.tif")  # corners in degrees may touch a pixel more
    assert abs(moved.sizes["x"] - 25) <= 1
    assert abs(int(valid_pixels(moved).sum()) - int(seen.sum())) <= 5


def dated(folder: Path, days: tuple[str, ...], **words: Any) -> list[Path]:
    """Products of one tile on several days."""
    return [
        write_safe(
            folder, some_surface(side=60, seed=number),
            started=f"{day}T14:37:49.024Z", sensed=f"{day}T14:37:52.024Z", **words,
        )
        for number, day in enumerate(days)
    ]  # fmt: skip


def test_a_stack_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "products"
    days = ("2021-08-20", "2021-06-01")
    paths = dated(folder, days)
    (folder / "notes.txt").write_text("no product")
    (folder / "overview.png").write_text("no product")
    result = {"stac_version": "1.1.0", "assets": {}, "properties": {"csc_xr:seed": 0}}
    (folder / "scene_item.json").write_text(json.dumps(result))
    assert list_products([folder]) == sorted(paths)
    target = tmp_path / "stack.zarr"
    composed = compose([folder], target, settings=ComposeSettings(box=BOX))
    found = open_stack(target)
    assert [str(time)[:19] for time in found.time.values] == [
        "2021-06-01T14:37:52", "2021-08-20T14:37:52"
    ]  # fmt: skip
    assert found.scene.values.tolist() == [path.stem for path in reversed(paths)]
    assert_equal(found, composed)
    for place, path in enumerate(reversed(paths)):
        assert_equal(stack_scene(found, place), open_sentinel2(path, box=BOX))


def test_other_grids_come_onto_that_of_the_first(tmp_path: Path) -> None:
    moved = (LEFT + 200, TOP)
    paths = dated(tmp_path / "a", ("2021-06-01",)) + dated(
        tmp_path / "b", ("2021-08-20",), corner=moved
    )
    with pytest.raises(SceneError, match="must lie on one grid"):
        compose(paths, tmp_path / "stack.zarr")
    assert not (tmp_path / "stack.zarr").exists()
    box = (LEFT + 100, TOP - 400, LEFT + 300, TOP - 150)
    compose(paths, tmp_path / "stack.zarr", settings=ComposeSettings(box=box))
    found = open_stack(tmp_path / "stack.zarr")
    assert found.shape == (2, 4, 25, 20)
    seen = valid_pixels(stack_scene(found, 1)).values
    assert seen[:, 10:].all()
    assert not seen[:, :10].any()


def test_bad_products_are_all_listed_before_writing(tmp_path: Path) -> None:
    paths = dated(tmp_path / "p", ("2021-06-01", "2021-07-01", "2021-08-20"))
    for path, band in zip(paths[1:], ("B03", "B08"), strict=True):
        (jp2,) = path.glob(f"GRANULE/*/IMG_DATA/R10m/*{band}_10m.jp2")
        jp2.unlink()
    target = tmp_path / "stack.zarr"
    with pytest.raises(SceneError, match="2 of 3 do not") as caught:
        compose([tmp_path / "p"], target)
    assert all(path.name in str(caught.value) for path in paths[1:])
    assert paths[0].name not in str(caught.value)
    assert list(tmp_path.iterdir()) == [tmp_path / "p"]
    with pytest.raises(SceneError, match=r"B03|green"):
        compose([paths[1]], target)


def test_what_cannot_be_composed(product: Path, tmp_path: Path) -> None:
    twins = [product, write_safe(tmp_path / "twin", SURFACE, baseline="03.01")]
    with pytest.raises(SceneError, match="must differ in time"):
        compose(twins, tmp_path / "stack.zarr")
    with pytest.raises(ParameterError, match=r"2 products are written as \.zarr, got a\.tif"):
        compose(twins, tmp_path / "a.tif")
    with pytest.raises(ParameterError, match=r"One product is written as \.tif or"):
        compose([product], tmp_path / "a.png")
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(OutputError, match="must not exist yet"):
        compose([product], tmp_path / "a.zarr")
    with pytest.raises(SceneError, match="no products"):
        compose([tmp_path / "a.zarr" / ".."], tmp_path / "b.zarr")
    with pytest.raises(SceneError, match="there is no such"):
        compose([tmp_path / "none"], tmp_path / "b.zarr")
    for name, text in (("a.gpkg", "no polygons"), ("b.geojson", '{"type": "FeatureCollection"}')):
        (tmp_path / name).write_text(text)
        with pytest.raises(LabelError, match="polygons"):
            compose(
                [product], tmp_path / "b.zarr", settings=ComposeSettings(polygon=tmp_path / name)
            )
    areas = geopandas.GeoDataFrame(geometry=[shapely.box(*BOX)], crs=CRS)
    for layer in ("one", "two"):
        areas.to_file(tmp_path / "two.gpkg", layer=layer)
    with pytest.raises(LabelError, match="must hold one layer of polygons, got one, two"):
        compose(
            [product], tmp_path / "b.zarr", settings=ComposeSettings(polygon=tmp_path / "two.gpkg")
        )
    far = ComposeSettings(box=(0, 0, 100, 100))
    with pytest.raises(SceneError, match="box"):
        compose([product], tmp_path / "b.zarr", settings=far)
    assert not (tmp_path / "b.zarr").exists()


def test_what_is_composed_is_classified(tmp_path: Path) -> None:
    """As GeoTIFF, as Zarr store and as stack, by the commands for each."""
    products = tmp_path / "products"
    for number, day in enumerate(("2021-06-01", "2021-08-20")):
        stripes = striped_scene((48, 96), seed=number).values / 10000
        surface = dict(zip(("B04", "B03", "B02"), stripes, strict=True))
        write_item(products, surface, name=day, sensed=f"{day}T14:30:00Z", shifted=True)
    first = products / "2021-06-01.json"
    words = ("--bands", "red,green,blue", "--scale", 255)
    for source, name in ((first, "a.tif"), (first, "b.zarr"), (products, "stack.zarr")):
        assert run_cli("compose", source, "--out", tmp_path / name, *words).code == 0
    network = write_network(tmp_path)
    images, out = [tmp_path / "a.tif", tmp_path / "b.zarr"], tmp_path / "out"
    ended = run_cli("classify", *images, "--model", network, "--out", out, *QUICKEST)
    assert ended.code == 0, ended.err
    ended = run_cli(
        "stack", tmp_path / "stack.zarr", "--model", network, "--out", tmp_path / "series",
        "--networks", "shared", "--patch-size", 1, "--steps", 60, "--samples-per-class", 100,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    one, other = (open_result(out / f"{name}_classified.zarr") for name in "ab")
    np.testing.assert_array_equal(one.tile_class, other.tile_class)
    series = open_result(tmp_path / "series" / "classified.zarr")
    assert [str(time)[:10] for time in series.time.values] == ["2021-06-01", "2021-08-20"]
    for classes in (one.pixel_class, *series.pixel_class):
        assert (classes.values == np.repeat((1, 2, 3), 32)).mean() > 0.9


def test_the_command(product: Path, tmp_path: Path) -> None:
    out = tmp_path / "scene.tif"
    words = [
        "compose", str(product), "--out", str(out), "--bands", "B08,red", "--no-mask",
        "--box", ",".join(f"{number:.0f}" for number in BOX), "--scale", "10000",
    ]  # fmt: skip
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert "bands        nir, red" in done.output
    assert "25 x 25 pixels" in done.output
    assert "2021-07-15T14:37:52" in done.output
    scene = open_scene(out)
    assert scene.attrs["scale"] == 10000
    assert valid_pixels(scene).values.all()
    for box in ("1,2,3", "a,b,c,d"):
        with pytest.raises(ParameterError, match="--box takes xmin,ymin,xmax,ymax"):
            CliRunner().invoke(
                app, ["compose", "x", "--out", "y.tif", "--box", box], catch_exceptions=False
            )


def test_what_cannot_be_joined_or_opened(product: Path, tmp_path: Path) -> None:
    scene = open_sentinel2(product)
    later = scene.assign_coords(time=np.datetime64("2021-08-20", "ns"))
    with pytest.raises(SceneError, match="must have a sensing time, but none is known of"):
        join_scenes([scene, scene.drop_vars("time")])
    with pytest.raises(SceneError, match="must have one set of bands"):
        join_scenes([scene, later[:2]])
    landsat = write_landsat(tmp_path / "landsat", some_numbers())
    with pytest.raises(SceneError, match="Landsat product, whose offset goes with a gain"):
        open_product(landsat, offset=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SceneError, match="holds no such thing"):
        open_product(tmp_path / "empty")
    pixels = some_pixels(4, 30, 40, dtype="uint16")
    placed = {"crs": CRS, "transform": rasterio.Affine(10, 0, LEFT + 5, 0, -10, TOP)}
    image = write_raster(tmp_path / "image.tif", pixels, **placed)
    with pytest.raises(SceneError, match="it is not resampled"):
        open_product(image, like=scene)
    bare = write_raster(tmp_path / "bare.tif", pixels)
    areas = geopandas.GeoDataFrame(geometry=[shapely.box(LEFT, TOP - 50, LEFT + 50, TOP)], crs=CRS)
    areas.to_file(tmp_path / "areas.gpkg")
    settings = ComposeSettings(polygon=tmp_path / "areas.gpkg")
    with pytest.raises(SceneError, match="must have a CRS to be cropped to polygons"):
        compose([bare], tmp_path / "a.zarr", settings=settings)
