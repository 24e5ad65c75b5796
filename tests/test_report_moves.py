"""The report's map in a browser: zoomed, dragged, moved by keys, on screens of every kind."""

from __future__ import annotations

import re

import numpy as np
import pytest
from maps_for_tests import (
    BLUE,
    BROWN,
    NOTHING,
    WHITE,
    Opener,
    flat,
    halves,
    simple,
)
from pages_for_tests import SIDE, layer, scene, tiles_of
from playwright.sync_api import expect


def test_the_wheel_keeps_the_point_under_the_pointer(opened: Opener) -> None:
    shown = opened(*simple())
    shown.point(0.7, 0.3)
    before, zoom = shown.pixel(), shown.zoom()
    shown.page.mouse.wheel(0, -240)
    assert shown.zoom() == pytest.approx(2 * zoom, rel=0.01)
    assert shown.pixel() == before
    shown.page.mouse.wheel(0, 120)
    assert shown.zoom() == pytest.approx(2**0.5 * zoom, rel=0.01)
    assert shown.pixel() == before
    shown.page.mouse.dblclick(*shown.point(0.7, 0.3))
    assert shown.pixel() == before
    for _ in range(5):
        shown.page.mouse.wheel(0, -240)
    assert shown.zoom() == 64
    for _ in range(8):
        shown.page.mouse.wheel(0, 240)
    assert shown.zoom() == 0.5


def test_dragging_takes_the_scene_along(opened: Opener) -> None:
    shown = opened(*simple())
    shown.press("+", "+")
    x, y = shown.point()
    before = shown.pixel()
    shown.page.mouse.down()
    shown.page.mouse.move(x + 90, y - 70, steps=3)
    assert shown.pixel() == before
    shown.page.mouse.up()
    shown.point()
    assert shown.pixel() == pytest.approx(
        (before[0] + 70 / shown.zoom(), before[1] - 90 / shown.zoom()), abs=1
    )


def test_two_fingers_zoom(opened: Opener) -> None:
    shown = opened(*simple(), has_touch=True)
    x, y, width, height = shown.box()
    middle = (x + width / 2, y + height / 2)
    session = shown.page.context.new_cdp_session(shown.page)

    def touch(kind: str, *apart: float) -> None:
        points = [
            {"x": middle[0] + side * half, "y": middle[1], "id": i}
            for half in apart
            for i, side in enumerate((-1, 1))
        ]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    zoom = shown.zoom()
    touch("touchStart", 40)
    touch("touchMove", 60)
    touch("touchMove", 80)
    touch("touchEnd")
    assert shown.zoom() == pytest.approx(2 * zoom, rel=0.05)
    shown.page.touchscreen.tap(*middle)  # a finger that is lifted leaves its values
    assert shown.pixel() == pytest.approx((24, 30), abs=1)


def test_buttons(opened: Opener) -> None:
    shown = opened(*simple())
    zoom = shown.zoom()
    for name, expected in (
        ("Zoom in", 2 * zoom),
        ("Zoom out", zoom),
        ("One to one", 1),
        ("Fit the whole scene", zoom),
    ):
        shown.page.get_by_role("button", name=name).click()
        assert shown.zoom() == pytest.approx(expected, rel=0.01), name
    shown.page.get_by_role("button", name="Full screen").click()
    expect(shown.page.locator("#csc-viewer:fullscreen")).to_have_count(1)
    shown.page.get_by_role("button", name="Full screen").click()
    expect(shown.page.locator("#csc-viewer:fullscreen")).to_have_count(0)


def test_keyboard_alone(opened: Opener) -> None:
    shown = opened(*simple())
    page = shown.page
    page.keyboard.press("Tab")
    shown.ready()
    assert page.evaluate("document.activeElement.className") == "csc-map csc-centred"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    assert shown.pixel() == (24, 30)
    zoom = shown.zoom()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert shown.pixel() == (24 - int(80 / zoom) - 1, 30 + int(80 / zoom))
    page.keyboard.press("Shift+ArrowLeft")
    assert shown.pixel()[1] == 30 + int(80 / zoom) - 1
    page.keyboard.press("+")
    assert shown.zoom() == pytest.approx(2 * zoom, rel=0.01)
    page.keyboard.press("-")
    page.keyboard.press("0")
    assert shown.pixel() == (24, 30)
    page.keyboard.press("2")
    assert not shown.layer("Pixel class").is_checked()
    spoken = page.locator("[role=status]")
    expect(spoken).to_have_text("Pixel class off")
    page.keyboard.press("Shift+ArrowLeft")
    expect(spoken).to_have_text("Row, column: 24, 29. Pixel class: Water")
    page.keyboard.press("?")
    assert page.get_by_text("zoom in and out", exact=True).is_visible()
    reached = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.labels?.[0]?.textContent.trim()"
                " || document.activeElement.ariaLabel || document.activeElement.textContent"
            )
        )
    assert reached >= {
        *("Zoom in (+)", "Zoom out (−)", "Fit the whole scene (0)", "One to one (R)"),
        *("Full screen (F)", "Image1", "Opacity of Image", "Pixel class2", "Water", "All", "None"),
    }


def test_each_zoom_has_its_level(opened: Opener) -> None:
    """Level 0 is water, level 1 ice, level 2 rock."""
    shape = (8 * SIDE, 6 * SIDE - 5)
    tiles = {}
    for level, code in enumerate((1, 2, 3, 2)):
        rows, columns = (-(-length // 2**level) for length in shape)
        levelled = tiles_of("labels", flat(code, (rows, columns)))
        tiles |= {name.replace("/0/", f"/{level}/", 1): tile for name, tile in levelled.items()}
    viewport = {"width": 500, "height": 400}
    shown = opened([scene([layer("labels")], shape, levels=4)], tiles, viewport=viewport)
    shown.press("r")
    assert shown.colour() == BLUE
    shown.press("-")
    assert shown.colour() == WHITE
    drawn = shown.pixels()[..., 3].astype(bool)
    assert drawn.sum() == drawn.any(0).sum() * drawn.any(1).sum()  # no seam between tiles
    assert drawn.any(0).sum() == pytest.approx(shape[1] / 2, abs=1)
    shown.press("-")
    assert shown.colour() == BROWN
    shown.press("+", "+", "+", "+")
    assert shown.colour() == BLUE


def test_finest_levels_may_be_left_out(opened: Opener) -> None:
    """Rows, columns and one to one are those of the whole scene."""
    shape = (96, 119)
    place = {"transform": [10, 0, 0, 0, -10, 0], "scale": 2}
    shown = opened([scene([layer("labels")], shape, **place)], tiles_of("labels", halves(1, 2)))
    shown.press("0")
    assert shown.readout() == {"Row, column": "48, 59", "x, y": "595.0, -485.0", "Labels": "Water"}
    shown.press("Shift+ArrowRight", "r")
    assert shown.readout()["Labels"] == "Ice"
    drawn = shown.pixels()[..., 3].astype(bool)
    assert (drawn.any(1).sum(), drawn.any(0).sum()) == shape


def test_memory_is_bounded(opened: Opener) -> None:
    """Tiles that went out of sight make room; those in sight stay whatever the bound."""
    codes = flat(1, (20 * SIDE, 20 * SIDE))
    shown = opened(
        [scene([layer("labels")], codes.shape, levels=6)],
        tiles_of("labels", codes, levels=6),
        memory_mb=2,
        viewport={"width": 700, "height": 500},
    )
    count = """() => {
        const made = OffscreenCanvas.prototype.transferToImageBitmap;
        const closed = ImageBitmap.prototype.close;
        window.kept = 0; window.drawn = 0;
        OffscreenCanvas.prototype.transferToImageBitmap = function () {
            window.kept += 1; window.drawn += 1; return made.call(this);
        };
        ImageBitmap.prototype.close = function () { window.kept -= 1; return closed.call(this); };
    }"""
    shown.page.evaluate(count)
    shown.press("r")
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        shown.press(*[key] * 3)
    kept, drawn = shown.page.evaluate("[window.kept, window.drawn]")
    assert drawn > 120
    assert kept * 5 * SIDE**2 <= 2 * 2**20 + 3 * 5 * SIDE**2
    assert (shown.pixels()[..., :3] == BLUE).all()


def test_screens_of_high_density_are_sharp(opened: Opener) -> None:
    codes = np.indices((48, 60)).sum(0).astype(np.uint8) % 2 + 1
    shown = opened(
        [scene([layer("labels")], codes.shape)], tiles_of("labels", codes), device_scale_factor=2
    )
    shown.press("r")
    drawn = shown.pixels()
    _, _, width, height = shown.box()
    assert drawn.shape[:2] == (round(2 * height), round(2 * width))
    rows, columns = np.nonzero(drawn[..., 3])
    part = drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1, 0]
    np.testing.assert_array_equal(part, np.where(codes == 2, 255, 0))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_wide_and_narrow_light_and_dark(opened: Opener, scheme: str) -> None:
    shown = opened(*simple(), color_scheme=scheme)
    _, top, _, height = shown.box()
    panel = shown.page.locator(".csc-panel")
    beside, ground = panel.bounding_box(), "getComputedStyle(document.body.firstChild.firstChild)"
    assert beside is not None
    assert beside["y"] < top + height
    channels = re.findall(r"[\d.]+", shown.page.evaluate(f"{ground}.backgroundColor"))
    assert (float(channels[0]) < 128) == (scheme == "dark")
    shown.page.set_viewport_size({"width": 360, "height": 640})
    shown.ready()
    _, top, width, height = shown.box()
    beneath = panel.bounding_box()
    assert beneath is not None
    assert beneath["y"] > top + height
    assert width > 300
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert shown.colour() != NOTHING  # and the scene still fits
