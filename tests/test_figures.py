"""The four-part figure."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from figures_for_tests import legend_names
from matplotlib.figure import Figure
from PIL import Image
from rasterio.crs import CRS

from csc_xr.errors import OutputError, ParameterError, SceneError
from csc_xr.figures.maps import four_part_figure
from csc_xr.figures.panels import MAX_PANEL_PIXELS
from csc_xr.grid import place
from csc_xr.legend import GLACIER, RIVER

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 7_600_000)
UTM = CRS.from_epsg(32622)


def make_scene(
    shape: tuple[int, int] = (40, 60),
    bands: tuple[str, ...] = ("red", "green", "blue", "nir"),
    transform: Affine | None = None,
    crs: CRS | None = None,
) -> xr.DataArray:
    ramp = np.linspace(100, 9000, shape[0] * shape[1]).reshape(shape)
    pixels = np.stack([ramp ** (1 + number / 4) for number in range(len(bands))]).astype(np.float32)
    scene = xr.DataArray(
        da.from_array(pixels, (-1, 16, 16)),
        dims=("band", "y", "x"),
        coords={"band": list(bands)},
        attrs={"scale": 8192.0},
    )
    return place(scene, transform or Affine.identity(), crs)


def make_classes(scene: xr.DataArray, codes: tuple[int, ...] = (1, 3)) -> xr.DataArray:
    shape = (scene.sizes["y"], scene.sizes["x"])
    values = np.resize(np.repeat(np.array(codes, np.uint8), shape[1] // 2), shape)
    return xr.DataArray(da.from_array(values, 16), dims=("y", "x"))


def draw(scene: xr.DataArray, codes: tuple[int, ...] = (1, 3), labels: bool = True) -> Figure:
    classes = make_classes(scene, codes)
    return four_part_figure(
        scene, classes if labels else None, classes, classes, legend=RIVER, title="Scene 1"
    )


def test_four_panels_with_scores_and_only_the_classes_that_occur(tmp_path: Path) -> None:
    scene = make_scene()
    classes = make_classes(scene)
    figure = four_part_figure(
        scene,
        classes,
        classes,
        classes,
        legend=RIVER,
        title="Scene 1",
        scores={"tile_class": 0.912, "pixel_class": 0.9555},
        path=tmp_path / "figure.png",
    )
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        "Image",
        "Labels",
        "Phase one: tiles (F1 91.2 %)",
        "Phase two: pixels (F1 95.5 %)",
    ]
    assert legend_names(figure) == ["Water", "Green Vegetation"]
    with Image.open(tmp_path / "figure.png") as image:
        assert image.format == "PNG"
        assert 1000 < image.size[0] < 2500
    assert [entry.name for entry in tmp_path.iterdir()] == ["figure.png"]


def test_three_panels_without_labels() -> None:
    figure = draw(make_scene(), labels=False)
    assert len(figure.axes) == 3
    assert [axis.get_title() for axis in figure.axes][1] == "Phase one: tiles"


def test_classes_have_the_colours_of_the_legend_and_nodata_is_named() -> None:
    figure = draw(make_scene(), codes=(0, 2))
    shown = figure.axes[1].images[0].get_array()
    assert {tuple(pixel) for pixel in shown.reshape(-1, 4).tolist()} == {
        (0, 0, 0, 255),
        (255, 165, 0, 255),
    }
    assert legend_names(figure) == ["Dry Sediment", "Unclassified"]


@pytest.mark.parametrize(
    ("bands", "caption", "grey"),
    [
        (("nir", "blue", "green", "red"), "Image", False),
        (("B02", "B8A", "B08", "B11"), "Image (B02, B8A, B08)", False),
        (("B2",), "Image (B2)", True),
        (("red", "nir"), "Image (red)", True),
    ],
)
def test_any_bands_make_a_picture(bands: tuple[str, ...], caption: str, grey: bool) -> None:
    figure = draw(make_scene(bands=bands))
    assert figure.axes[0].get_title() == caption
    picture = np.asarray(figure.axes[0].images[0].get_array())
    assert picture.shape[-1] == 4
    assert grey == bool((picture[..., 0] == picture[..., 1]).all())


def test_true_colour_takes_bands_by_name() -> None:
    scene = make_scene(bands=("blue", "green", "red"))
    scene = scene.copy(data=np.stack([np.full((40, 60), 5.0), *scene.values[1:]]))
    picture = np.asarray(draw(scene).axes[0].images[0].get_array())
    assert np.ptp(picture[..., 0]) == 1
    assert np.ptp(picture[..., 2]) == 0


def test_pixels_without_data_are_blank() -> None:
    scene = make_scene()
    values = scene.values
    values[:, :10] = -1
    values[0, 20, 30] = np.nan
    scene = scene.copy(data=da.from_array(values, (-1, 16, 16))).assign_attrs(_FillValue=-1.0)
    opacity = np.asarray(draw(scene).axes[0].images[0].get_array())[..., 3]
    blank = np.zeros((40, 60), bool)
    blank[:10] = blank[20, 30] = True
    np.testing.assert_array_equal(opacity == 0, blank)


def test_scene_without_any_valid_pixel_is_blank() -> None:
    scene = make_scene()
    scene = scene.copy(data=da.full_like(scene.data, np.nan))
    picture = np.asarray(draw(scene, codes=(0, 0)).axes[0].images[0].get_array())
    assert (picture[..., 3] == 0).all()


@pytest.mark.parametrize("south_up", [False, True])
def test_axes_in_kilometres_with_north_up(south_up: bool) -> None:
    transform = Affine(10, 0, 500_000, 0, 10, 7_599_600) if south_up else NORTH_UP
    figure = draw(make_scene(transform=transform, crs=UTM))
    axis = figure.axes[0]
    assert axis.get_xlim() == pytest.approx((500, 500.6))
    assert axis.get_ylim() == pytest.approx((7599.6, 7600))
    assert figure.axes[2].get_xlabel() == "Easting (km)"
    assert axis.get_ylabel() == "Northing (km)"
    assert axis.get_aspect() == 1
    top_row_lies_at = axis.images[0].get_extent()[3]
    assert top_row_lies_at == pytest.approx(7599.6 if south_up else 7600)


def test_axes_in_degrees_are_stretched() -> None:
    transform = Affine(0.001, 0, -50, 0, -0.001, 60.02)
    axis = draw(make_scene(transform=transform, crs=CRS.from_epsg(4326))).axes[0]
    assert axis.get_ylabel() == "Latitude (°)"
    assert axis.get_aspect() == pytest.approx(2, rel=1e-2)


@pytest.mark.parametrize("crs", [None, UTM])
def test_axes_in_pixels_without_georeference_or_when_rotated(crs: CRS | None) -> None:
    transform = Affine(8, 6, 500_000, 6, -8, 7_600_000) if crs else Affine.identity()
    axis = draw(make_scene(transform=transform, crs=crs)).axes[0]
    assert axis.get_ylabel() == "Row (px)"
    assert axis.get_ylim() == (40, 0)


def test_large_scenes_are_thinned_and_never_whole_in_memory() -> None:
    size = 2 * MAX_PANEL_PIXELS + 7
    pixels = da.ones((1, size, size), chunks=(1, 512, 512), dtype=np.uint8)
    scene = place(xr.DataArray(pixels, dims=("band", "y", "x")), NORTH_UP, UTM)
    scene = scene.assign_coords(band=["grey"]).assign_attrs(scale=255.0)
    rows = da.arange(size, chunks=512)[:, None] // 1500 + 1
    classes = xr.DataArray(
        da.broadcast_to(rows, (size, size)).astype(np.uint8).rechunk(512), dims=("y", "x")
    )
    figure = four_part_figure(scene, None, classes, classes, legend=RIVER, title="large")
    for axis in figure.axes:
        assert max(axis.images[0].get_array().shape[:2]) == size // 3
        left, right, _, top = axis.images[0].get_extent()
        assert right - left == pytest.approx(size // 3 * 3 / 100)
        assert top == pytest.approx(7600)
    shown = np.asarray(figure.axes[1].images[0].get_array())
    water = (shown[:, 0] == (173, 216, 230, 255)).all(axis=-1)
    assert water.sum() == 500


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (400, 2)])
def test_odd_shapes(shape: tuple[int, int], tmp_path: Path) -> None:
    scene = make_scene(shape)
    classes = xr.DataArray(np.ones(shape, np.uint8), dims=("y", "x"))
    four_part_figure(
        scene, None, classes, classes, legend=GLACIER, title="t", path=tmp_path / "a.png"
    )
    with Image.open(tmp_path / "a.png") as image:
        assert 300 < min(image.size) < max(image.size) < 4000


def test_no_global_figure_is_touched() -> None:
    before = dict(mpl.rcParams)
    draw(make_scene())
    assert dict(mpl.rcParams) == before


def test_shapes_must_agree() -> None:
    scene = make_scene()
    classes = make_classes(scene)
    with pytest.raises(
        ParameterError, match=r"tile_class must have the dims y and x and the shape"
    ):
        four_part_figure(scene, None, classes.isel(y=slice(3)), classes, legend=RIVER, title="t")


def test_unwritable_target_is_an_output_error(tmp_path: Path) -> None:
    scene = make_scene((8, 8))
    classes = make_classes(scene)
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OutputError, match="must be a file, but is a folder already"):
        four_part_figure(
            scene, None, classes, classes, legend=RIVER, title="t", path=tmp_path / "taken.png"
        )


def test_scenes_in_memory_are_thinned_too() -> None:
    scene = make_scene((4, 2 * MAX_PANEL_PIXELS)).compute()
    classes = xr.DataArray(np.ones(scene.shape[1:], np.uint8), dims=("y", "x"))
    figure = four_part_figure(scene, None, classes, classes, legend=RIVER, title="t")
    shapes = {axis.images[0].get_array().shape[:2] for axis in figure.axes}
    assert shapes == {(2, MAX_PANEL_PIXELS)}


def test_scenes_are_checked() -> None:
    classes = make_classes(make_scene())
    with pytest.raises(SceneError, match="band"):
        four_part_figure(make_scene().isel(band=0), None, classes, classes, legend=RIVER, title="t")
