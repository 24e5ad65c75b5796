"""A map of the report in a browser, as a person sees and moves it."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pages_for_tests import Scenes, Tiles, chromium, layer, scene, tiles_of, write_page
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, sync_playwright

BLUE, WHITE, BROWN, SAND = (0, 0, 255), (255, 255, 255), (119, 91, 90), (200, 100, 50)
"""Colours of water, ice and rock in the legend, and of a picture."""

NOTHING = (0, 0, 0)
Visitor = Callable[..., "Map"]
Opener = Callable[..., "Map"]


class Map:
    """A map in a page, with what a person sees and does there."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.element = page.locator(".csc-map")

    def ready(self) -> None:
        """Wait until what was done is drawn."""
        self.page.evaluate("""() => new Promise((done) => {
            const map = document.querySelector('.csc-map');
            const look = () => (map.ariaBusy === 'false' ? done() : requestAnimationFrame(look));
            requestAnimationFrame(look);
        })""")

    def pixels(self, *part: int) -> NDArray[np.uint8]:
        """What is drawn in a part (left, top, width, height): row, column, red green blue alpha."""
        self.ready()
        script = """(part) => {
            const canvas = document.querySelector('.csc-map canvas');
            const all = [0, 0, canvas.width, canvas.height];
            const [left, top, width, height] = part.length ? part : all;
            const copy = new OffscreenCanvas(width, height).getContext('2d');
            copy.drawImage(canvas, -left, -top);
            const {data} = copy.getImageData(0, 0, width, height);
            let text = '';
            for (let at = 0; at < data.length; at += 4096) {
                text += String.fromCharCode(...data.subarray(at, at + 4096));
            }
            return [height, width, btoa(text)];
        }"""
        height, width, content = self.page.evaluate(script, part)
        return np.frombuffer(base64.b64decode(content), np.uint8).reshape(height, width, 4)

    def colour(self, left: float = 0.5, top: float = 0.5) -> tuple[int, ...]:
        """Colour at a part of the map's width and height."""
        _, _, width, height = self.box()
        drawn = self.pixels(int(left * width), int(top * height), 1, 1)
        return tuple(map(int, drawn[0, 0, :3]))

    def box(self) -> tuple[float, float, float, float]:
        box = self.page.locator(".csc-map canvas").bounding_box()
        assert box is not None
        return box["x"], box["y"], box["width"], box["height"]

    def point(self, left: float = 0.5, top: float = 0.5) -> tuple[float, float]:
        """Move the pointer to a part of the map's width and height."""
        x, y, width, height = self.box()
        place = (round(x + left * width), round(y + top * height))
        self.page.mouse.move(*place)
        self.ready()
        return place

    def readout(self) -> dict[str, str]:
        self.ready()
        cells = self.page.locator(".csc-readout > div").all()
        return {
            cell.locator("dt").inner_text(): cell.locator("dd").inner_text().strip()
            for cell in cells
        }

    def pixel(self) -> tuple[int, int]:
        """Row and column the readout names."""
        row, column = self.readout()["Row, column"].split(", ")
        return int(row), int(column)

    def zoom(self) -> float:
        """Screen pixels for one of the scene."""
        self.ready()
        return float(self.page.locator(".csc-zoom").inner_text().removesuffix(" %")) / 100

    def press(self, *keys: str) -> None:
        for key in keys:
            self.element.press(key)
        self.ready()

    def layer(self, title: str) -> Locator:
        return self.page.get_by_role("checkbox", name=title)

    def show_only(self, *titles: str) -> None:
        for box in self.page.locator(".csc-layers input[type=checkbox]").all():
            box.uncheck()
        for title in titles:
            self.layer(title).check()
        self.ready()


@contextmanager
def launched() -> Iterator[Browser]:
    """Start Chromium; where there is none tests skip, but fail under CI."""
    path = chromium()
    if path is None:
        message = "Chromium is absent: install it (Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    switches = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=switches)
        yield browser
        browser.close()


@contextmanager
def quiet_visits(browser: Browser) -> Iterator[Visitor]:
    """Open pages; in the end none has complained, and none has asked for anything but itself."""
    contexts = []
    complaints: list[str] = []
    requests: list[str] = []
    pages: list[str] = ["data:", "blob:"]

    def visit_page(path: Path, *, expect: str = "no word", **settings: Any) -> Map:
        def hear(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"} and expect not in message.text:
                complaints.append(message.text)

        settings = {"viewport": {"width": 1000, "height": 700}, **settings}
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        pages.append(path.as_uri())
        page.goto(path.as_uri())
        return Map(page)

    yield visit_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(tuple(pages))] == []


def opener(visit: Visitor, path: Path) -> Opener:
    """Give what writes a small page to a path and opens it."""

    def open_page(scenes: Scenes, tiles: Tiles, *, memory_mb: float = 192, **settings: Any) -> Map:
        shown = visit(write_page(path, scenes, tiles, memory_mb=memory_mb), **settings)
        if scenes:
            shown.ready()
        return shown

    return open_page


def flat(code: int, shape: tuple[int, int] = (48, 60)) -> NDArray[np.uint8]:
    return np.full(shape, code, np.uint8)


def picture(colour: tuple[int, int, int], shape: tuple[int, int] = (48, 60)) -> NDArray[np.uint8]:
    return np.full((*shape, 3), colour, np.uint8)


def halves(left: int, right: int, shape: tuple[int, int] = (48, 60)) -> NDArray[np.uint8]:
    codes = flat(left, shape)
    codes[:, shape[1] // 2 :] = right
    return codes


def simple(**more: Any) -> tuple[Scenes, Tiles]:
    """A sandy picture, with water on the left and ice on the right over it."""
    layers = [layer("image", "picture"), layer("pixel_class")]
    tiles = tiles_of("image", picture(SAND)) | tiles_of("pixel_class", halves(1, 2))
    return [scene(layers, (48, 60), **more)], tiles
