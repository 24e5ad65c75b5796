"""The report's map in a browser: drawn to the exact colour, read to the pixel, and quiet."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from maps_for_tests import (
    BLUE,
    BROWN,
    NOTHING,
    SAND,
    WHITE,
    Opener,
    Visitor,
    flat,
    halves,
    picture,
    simple,
)
from networks_for_tests import LEGEND
from pages_for_tests import ICE, ROCK, SIDE, WATER, layer, png, png_of_all_filters, scene, tiles_of
from playwright.sync_api import expect
from runs_for_tests import (
    QUICKEST,
    run_cli,
    striped_pixels,
    write_image,
    write_labels,
    write_network,
)

from csc_xr.report.page import write_report


def test_codes_reach_the_screen_to_the_bit(opened: Opener) -> None:
    """Every code and every filter a PNG may have; one to one, so that no pixel is passed over."""
    codes = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE - 3)).astype(np.uint8)
    classes = [
        {"code": code, "name": f"Class {code}", "colour": f"#{37 * code % 256:02x}{code:02x}7f"}
        for code in range(1, 256)
    ]
    shown = opened(
        [scene([layer("labels")], codes.shape, classes=classes)],
        {"s0/labels/0/0/0": png_of_all_filters(codes)},
    )
    shown.press("r")
    drawn = shown.pixels()
    height, width = drawn.shape[:2]
    top, left = (height - SIDE + 1) // 2, (width - SIDE + 4) // 2
    drawn = drawn[top : top + SIDE, left : left + SIDE - 3]
    wide = codes.astype(int)
    expected = np.stack([37 * wide % 256, wide, np.full_like(wide, 127), np.full_like(wide, 255)])
    np.testing.assert_array_equal(drawn, np.where(wide == 0, 0, expected).transpose(1, 2, 0))


def test_layers_blend(opened: Opener) -> None:
    shown = opened(*simple())
    opacity = shown.page.get_by_label("Opacity of Pixel class")
    assert shown.layer("Image").is_checked()
    assert opacity.input_value() == "60"  # what one wants to see first
    opacity.fill("100")
    assert shown.colour(0.4) == BLUE
    assert shown.colour(0.6) == WHITE
    opacity.fill("50")
    assert shown.colour(0.4) == pytest.approx((100, 50, 152.5), abs=1)
    assert shown.colour(0.6) == pytest.approx((227.5, 177.5, 152.5), abs=1)
    shown.layer("Pixel class").uncheck()
    assert shown.colour(0.4) == shown.colour(0.6) == SAND
    shown.layer("Image").uncheck()
    assert not shown.pixels()[..., 3].any()


def test_image_alone(opened: Opener) -> None:
    shown = opened(*simple())
    alone = shown.page.get_by_role("button", name="Image alone")
    alone.click()
    assert alone.get_attribute("aria-pressed") == "true"
    assert shown.colour(0.4) == SAND
    shown.press("i")
    assert alone.get_attribute("aria-pressed") == "false"
    assert shown.colour(0.4) == pytest.approx((80, 40, 173), abs=1)


def test_legend_takes_out_exactly_one_class(opened: Opener) -> None:
    layers = [layer("labels"), layer("pixel_class")]
    codes = np.repeat(np.array([[1, 2, 3]], np.uint8), 20, 1).repeat(48, 0)
    tiles = tiles_of("labels", codes) | tiles_of("pixel_class", codes)
    shown = opened([scene(layers, codes.shape)], tiles)
    places = (0.3, 0.5, 0.7)

    def colours() -> list[tuple[int, ...]]:
        return [shown.colour(place) for place in places]

    for title in ("Labels", "Pixel class"):  # the legend is that of all layers
        shown.show_only(title)
        assert colours() == [BLUE, WHITE, BROWN]
        shown.page.get_by_label("Ice").uncheck()
        assert colours() == [BLUE, NOTHING, BROWN]
        shown.page.get_by_label("Ice").check()
    shown.page.get_by_role("button", name="None").click()
    assert colours() == [NOTHING] * 3
    assert not shown.page.get_by_label("Rock").is_checked()
    shown.page.get_by_role("button", name="All", exact=True).click()
    assert colours() == [BLUE, WHITE, BROWN]


def test_readout_names_the_pixel(opened: Opener) -> None:
    layers = [
        layer("image", "picture"),
        layer("labels"),
        layer("pixel_class"),
        layer("confidence", "scalar"),
        layer("disagreement", "mask"),
    ]
    tiles = (
        tiles_of("image", picture(SAND))
        | tiles_of("labels", halves(1, 0))
        | tiles_of("pixel_class", halves(2, 9))
        | tiles_of("confidence", halves(128, 0))
        | tiles_of("disagreement", halves(0, 1))
    )
    place = {"crs": "EPSG:32624", "transform": [10, 0, 500_000, 0, -10, 7_300_000], "pixel_m": 10}
    shown = opened([scene(layers, (48, 60), **place)], tiles)
    shown.layer("Labels").uncheck()  # what is not shown is read all the same
    shown.point(0.4, 0.5)
    row, column = shown.pixel()
    assert shown.readout() == {
        "Row, column": f"{row}, {column}",
        "x, y (EPSG:32624)": f"{500_005 + 10 * column:.1f}, {7_299_995 - 10 * row:.1f}",
        "Labels": "Water",
        "Pixel class": "Ice",
        "Confidence": "0.50",
        "Disagreement": "no",
    }
    shown.point(0.6, 0.5)
    assert list(shown.readout().values())[2:] == ["nothing", "code 9", "nothing", "yes"]
    shown.point(0.01, 0.01)
    assert set(shown.readout().values()) == {"–"}
    shown.show_only("Confidence")
    assert shown.colour(0.4) == pytest.approx((33, 145, 140), abs=2)  # the ramp's middle
    assert shown.colour(0.6) == NOTHING
    shown.show_only("Disagreement")
    assert shown.colour(0.6) == (217, 27, 140)
    bar = shown.page.locator(".csc-scale")
    length = float(bar.inner_text().removesuffix(" m"))
    box = bar.bounding_box()
    assert box is not None
    assert box["width"] / shown.zoom() * 10 == pytest.approx(length, rel=0.01)


def test_an_absent_tile_is_empty(opened: Opener) -> None:
    """Whatever the coarser levels have there."""
    codes = flat(1, (3 * SIDE, 3 * SIDE))
    layers = [layer("image", "picture"), layer("labels")]
    tiles = tiles_of("labels", codes, levels=3)
    tiles |= tiles_of("image", picture(SAND, codes.shape), levels=3)
    del tiles["s0/labels/0/1/1"]
    shown = opened([scene(layers, codes.shape, levels=3)], tiles)
    shown.page.get_by_label("Opacity of Labels").fill("100")
    assert (shown.colour(), shown.colour(0.35), shown.colour(0.65)) == (SAND, BLUE, BLUE)
    shown.point()
    assert shown.readout()["Labels"] == "nothing"


def test_scenes_share_tiles_and_keep_the_view(opened: Opener) -> None:
    first = scene([layer("image", "picture"), layer("labels")], (48, 60), name="One", run="k7")
    second = scene(
        [layer("image", "picture", tiles="s0/image"), layer("pixel_class")],
        (48, 60),
        id="s1",
        name="Two",
        pixel_m=30.0,
        note="Finest levels left out.",
    )
    third = scene([layer("labels", tiles="s0/labels")], (40, 60), id="s2", name="Three")
    tiles = (
        tiles_of("image", picture(SAND))
        | tiles_of("labels", flat(1))
        | tiles_of("pixel_class", flat(2), scene_id="s1")
    )
    shown = opened([first, second, third], tiles)
    choice = shown.page.get_by_role("combobox", name="Scene")
    assert choice.locator("option").all_inner_texts() == ["One (k7)", "Two", "Three"]
    shown.press("+", "ArrowRight")
    pixel, zoom = shown.pixel(), shown.zoom()
    shown.press("1")
    choice.focus()
    choice.select_option("Two")
    expect(choice).to_be_focused()
    assert shown.page.get_by_text("Finest levels left out.").is_visible()
    assert not shown.layer("Image").is_checked()  # choices go from scene to scene
    shown.layer("Image").check()
    shown.layer("Pixel class").uncheck()
    assert shown.colour() == SAND
    assert shown.page.locator(".csc-scale").is_visible()
    shown.press("ArrowRight", "ArrowLeft")
    assert (shown.pixel(), shown.zoom()) == (pixel, zoom)
    shown.press("n")
    assert choice.input_value() == "Three"
    assert shown.pixel() == (20, 30)
    assert shown.page.get_by_role("button", name="Image alone").is_hidden()
    assert shown.page.get_by_role("application").get_attribute("aria-label") == "Map of Three"
    shown.press("n")
    assert choice.input_value() == "One (k7)"


def test_a_scene_without_place(opened: Opener) -> None:
    shown = opened(*simple())
    shown.point()
    assert list(shown.readout()) == ["Row, column", "Pixel class"]
    assert shown.page.get_by_role("combobox").count() == 0
    assert shown.page.locator(".csc-scale").is_hidden()


def test_names_are_text(opened: Opener) -> None:
    evil = "<img src=x onerror=alert(1)></script><script>alert(2)</script>&amp;"
    classes = [{**WATER, "name": evil}, ICE, ROCK]
    layers = [layer("labels", title=evil), layer("confidence", "scalar", unit=evil)]
    scenes = [
        scene(layers, (48, 60), name=evil, note=evil, classes=classes, crs=evil, transform=[1] * 6),
        scene(layers, (48, 60), name=evil, run=evil, id="s1"),
    ]
    tiles = tiles_of("labels", flat(1)) | tiles_of("confidence", flat(9))
    shown = opened(scenes, tiles)
    shown.point()
    assert shown.readout()[evil] == evil
    assert shown.page.get_by_label(evil).first.is_visible()
    assert shown.page.locator("#csc-viewer img, #csc-viewer script").count() == 0


def test_a_tile_that_cannot_be_read(opened: Opener) -> None:
    codes = flat(1, (2 * SIDE, 2 * SIDE))
    tiles = tiles_of("labels", codes, levels=2)
    whole = tiles["s0/labels/0/0/0"]
    tiles["s0/labels/0/0/0"] = whole[:60] + bytes([whole[60] ^ 255]) + whole[61:]
    tiles["s0/labels/0/1/1"] = png(np.zeros((4, 4, 3), np.uint8))
    shown = opened(
        [scene([layer("labels")], codes.shape, levels=2)], tiles, expect="cannot be read"
    )
    shown.press("r")
    trouble = shown.page.get_by_role("alert")
    assert re.search(r"cannot be read \(s0/labels/0/\d/\d and 1 more\)", trouble.inner_text())
    assert shown.colour() == BLUE  # from the coarser level
    shown.page.get_by_label("Opacity of Labels").fill("50")
    opacities = np.unique(shown.pixels()[..., 3])  # nothing, and half: no place is drawn twice
    assert opacities == pytest.approx([0, 127.5], abs=1)
    shown.point(0.501, 0.501)
    assert shown.readout()["Labels"] == "cannot be read"


def test_a_report_of_a_run(visit: Visitor, tmp_path: Path) -> None:
    """The page that ``csc-xr report`` writes: what the result holds is what one sees and reads."""
    shape = (40, 1100)
    image = write_image(tmp_path / "fjord.tif", striped_pixels(shape))
    stripes = np.repeat(np.array([1, 2, 3], "uint8"), -(-shape[1] // 3))[: shape[1]]
    write_labels(tmp_path / "SCLS_fjord.tif", np.tile(stripes, (shape[0], 1)))
    outputs = ("--output", "confidence", "--output", "disagreement")
    words = ("--model", write_network(tmp_path), "--out", tmp_path / "out", *QUICKEST)
    assert run_cli("classify", image, *words, *outputs).code == 0
    store = tmp_path / "out" / "fjord_classified.zarr"
    shown = visit(write_report(tmp_path / "out" / "fjord_run.json"))
    shown.page.get_by_label("Opacity of Pixel classes").fill("100")
    shown.ready()
    with xr.open_zarr(store, consolidated=False) as result:
        codes, confidence = result["pixel_class"].values, result["confidence"].values
        corner = float(result["x"][0]), float(result["y"][0])
    for entry in LEGEND.classes:
        place = (codes == entry.code).any(0).nonzero()[0].mean() / shape[1]
        shown.point(0.01 + 0.98 * place)
        row, column = shown.pixel()
        said = shown.readout()
        assert codes[row, column] == entry.code
        assert shown.colour(0.01 + 0.98 * place) == entry.rgb
        assert said["Labels"] == said["Pixel classes (phase two)"] == entry.name
        assert float(said["Confidence"]) == pytest.approx(confidence[row, column], abs=0.01)
        expected = f"{corner[0] + 10 * column:.1f}, {corner[1] - 10 * row:.1f}"
        assert said["x, y (EPSG:32633)"] == expected


def test_nothing_to_show(opened: Opener) -> None:
    bare = opened([scene([], (48, 60))], {})
    assert bare.page.get_by_text("This scene has no layers to show.").is_visible()
    assert bare.page.get_by_text("Classes", exact=True).count() == 0
    empty = opened([], {})
    assert empty.page.locator("#csc-viewer").inner_text() == "There is no scene to show on a map."
