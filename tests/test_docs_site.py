"""The site is built without a warning, its links lead somewhere, and its pages can be read."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from docs_blocks import FENCE
from playwright.sync_api import Browser, Page

import csc_xr

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_extensions"))
commands, reference = map(importlib.import_module, ("command_reference", "python_reference"))

PAGES = sorted(
    [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")]
    + [path for path in DOCS.rglob("*.md") if "_build" not in path.parts]
)
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
LINK = re.compile(r"\]\((<[^>]*>|[^()\s]*)(?:\s+\"[^\"]*\")?\)")
SEEN = (
    "index", "tutorials/first_scene", "reference/commands", "reference/api/scenes", "benchmarks",
    "training",
)  # fmt: skip
CONTRAST = """() => {
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) =>
        c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const behind = (element) => {
        for (; element; element = element.parentElement) {
            const colour = parts(getComputedStyle(element).backgroundColor);
            if (colour.length < 4 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const poor = [];
    for (const element of document.querySelectorAll('article p, article td, article a, article li,'
            + ' article h1, article h2, article code, article pre span')) {
        if (!element.textContent.trim() || !element.offsetParent) continue;
        const levels = [parts(getComputedStyle(element).color), behind(element)].map(light);
        const ratio = (Math.max(...levels) + 0.05) / (Math.min(...levels) + 0.05);
        if (ratio < 4.5) poor.push(element.textContent.slice(0, 30) + ' ' + ratio.toFixed(1));
    }
    return [...new Set(poor)];
}"""


def prose(path: Path) -> str:
    """Give a page without its blocks of code and without code in its lines."""
    lines, marks = [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        fence = FENCE.match(line)
        if marks:
            marks = "" if line.strip() == marks else marks
        elif fence:
            marks = fence["marks"]
        else:
            lines.append(line)
    return "\n".join(lines)


def anchors(path: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub and the site make them."""
    if path == DOCS / "reference" / "commands.md":
        return {name.replace(" ", "-") for name, _ in commands.commands()}
    found: Counter[str] = Counter()
    names = set()
    for heading in re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower().strip()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        names.add(f"{slug}-{found[slug]}" if found[slug] else slug)
        found[slug] += 1
    return names


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"(`+)[^`].*?\1", "", prose(page))
    links = LINK.findall(text) + re.findall(r"<(?:img|a)\s[^>]*?(?:src|href)=\"([^\"]+)\"", text)
    for link in (link.strip("<>") for link in links):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https", link
            assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), link
            continue
        target = (page.parent / parts.path) if parts.path else page
        assert target.exists(), f"{link} is not there"
        if parts.fragment:
            assert parts.fragment in anchors(target), f"{link} has no such heading"


def test_every_public_name_is_in_one_group() -> None:
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    names = Counter(name for group in reference.read_groups(page) for name in group.names)
    assert sorted(set(csc_xr.__all__) - set(names)) == [], "add to a group of reference/python.md"
    assert sorted(name for name in set(names) - set(csc_xr.__all__) if "." not in name) == []
    assert [name for name, count in names.items() if count > 1] == []


def test_every_page_is_in_the_tree() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^([\w/-]+)$", index, re.MULTILINE))
    paths = [path.relative_to(DOCS) for path in PAGES if DOCS in path.parents]
    paths += [path.relative_to(DOCS) for path in (DOCS / "notebooks").glob("*.ipynb")]
    pages = {path.with_suffix("").as_posix() for path in paths}
    assert pages - listed == {"index"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` builds it."""
    built = tmp_path_factory.mktemp("site")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    options = re.findall(r"^SPHINX := (.*)$", makefile, re.MULTILINE)[0].split()
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(DOCS), str(built / "html")],
        capture_output=True, text=True, check=False, timeout=300, cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )  # fmt: skip
    warnings = re.findall(r"^.*(?:WARNING|ERROR).*$", done.stderr, re.MULTILINE)
    assert done.returncode == 0, "\n".join(warnings) or done.stderr[-3000:]
    return built / "html"


def test_command_page_lists_every_command_and_option(site: Path) -> None:
    page = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    for name, command in commands.commands():
        slug = name.replace(" ", "-")
        assert f'id="{slug}"' in page
        for option in (option for parameter in command.params for option in parameter.opts):
            if option.startswith("--"):
                assert f'id="cmdoption-{slug}{option[1:]}"' in page, f"{name} {option}"


def test_api_pages_tell_the_docstrings(site: Path) -> None:
    page = (site / "reference" / "python.html").read_text(encoding="utf-8")
    for name in csc_xr.__all__:
        assert re.search(rf'href="api/\w+\.html#csc_xr\.{name}"', page), name
    scenes = (site / "reference" / "api" / "scenes.html").read_text(encoding="utf-8")
    assert 'id="csc_xr.open_scene"' in scenes
    assert "Parameters" in scenes
    assert "Raises" in scenes


def test_links_within_the_site_lead_somewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'<(script|link|img)\s[^>]*(src|href)="https?:', text), page
        for link in re.findall(r'<a [^>]*href="([^"]+)"', text):
            parts = urlsplit(link)
            if not parts.scheme and parts.path:
                assert (page.parent / parts.path).exists(), f"{page.name}: {link}"


@pytest.fixture(params=[(400, "dark"), (1400, "light")], ids=["narrow and dark", "wide and light"])
def opened(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """An empty page, which must not complain or ask for anything elsewhere."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("name", SEEN)
def test_page_can_be_read(name: str, site: Path, opened: Page) -> None:
    opened.goto((site / f"{name}.html").as_uri())
    wide = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert opened.evaluate(wide) <= 0, "wider than the screen"
    assert opened.evaluate(CONTRAST) == []
    broken = "() => [...document.images].filter((i) => i.complete && !i.naturalWidth).length"
    assert opened.evaluate(broken) == 0
