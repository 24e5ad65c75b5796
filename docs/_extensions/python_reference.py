"""The reference of the package: a page for each group of names that ``reference/python.md`` lists.

A group is a heading, a sentence, and a block ``{api}`` with a name a line. Docstrings say the rest.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import csc_xr

PAGE = "reference/python"
FOLDER = "reference/api"
GROUP = re.compile(
    r"^## (?P<title>.+)\n\n(?P<text>.+)\n\n```\{api\}\n(?P<names>[\w.\n]+)\n```", re.MULTILINE
)


@dataclass(frozen=True)
class Group:
    """Names that belong together.

    Attributes
    ----------
    title : str
        Heading.
    text : str
        What they are for.
    names : tuple of str
        Names after ``csc_xr.``.
    """

    title: str
    text: str
    names: tuple[str, ...]

    @property
    def slug(self) -> str:
        """Name of the group's page."""
        return re.sub(r"\W+", "_", self.title.lower())


def read_groups(page: str) -> list[Group]:
    """Read the groups of the page."""
    return [
        Group(found["title"], found["text"], tuple(found["names"].split()))
        for found in GROUP.finditer(page)
    ]


def _found(name: str) -> Any:
    """Import what a name after ``csc_xr.`` means."""
    module, _, last = f"csc_xr.{name}".rpartition(".")
    return getattr(importlib.import_module(module), last)


def _summary(thing: Any) -> str:
    if isinstance(thing, csc_xr.ClassLegend):
        names = ", ".join(f"{entry.code} {entry.name}" for entry in thing.classes)
        return f"Legend *{thing.name}*: {names}."
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def _entry(name: str) -> str:
    thing = _found(name)
    if inspect.isclass(thing):
        return f".. autoclass:: csc_xr.{name}\n   :members:"
    if callable(thing):
        return f".. autofunction:: csc_xr.{name}"
    return f".. py:data:: csc_xr.{name}\n\n   {_summary(thing)}"


def write_pages(app: Sphinx) -> None:
    """Write the page of every group, before Sphinx looks which pages there are."""
    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(exist_ok=True)
    groups = read_groups((Path(app.srcdir) / f"{PAGE}.md").read_text(encoding="utf-8"))
    pages = {}
    for group in groups:
        head = f"{group.title}\n{'=' * len(group.title)}\n\n"
        entries = "\n\n".join(_entry(name) for name in group.names)
        pages[f"{group.slug}.rst"] = head + entries + "\n"
    for path in folder.iterdir():
        if path.name not in pages:
            path.unlink()
    for name, content in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")


def fill(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Put a table in the place of every block, and the pages into the tree."""
    if docname != PAGE:
        return

    def table(found: re.Match[str]) -> str:
        group = read_groups(found[0])[0]
        rows = [
            f"| {{py:obj}}`~csc_xr.{name}` | {_summary(_found(name)).replace('``', '`')} |"
            for name in group.names
        ]
        lines = ["| name | what it is |", "| --- | --- |", *rows]
        return f"## {group.title}\n\n{group.text}\n\n" + "\n".join(lines)

    pages = [f"api/{group.slug}" for group in read_groups(source[0])]
    tree = "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(pages) + "\n```\n"
    source[0] = GROUP.sub(table, source[0]) + tree


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.Node | None:
    """Lead from where a name is defined to where it is public; what is not public has no link."""
    target = str(node.get("reftarget", ""))
    if node.get("refdomain") != "py":
        return None
    where = env.domains.python_domain
    if f"csc_xr.errors.{target}" in where.objects:  # docstrings name errors without their module
        name = f"csc_xr.errors.{target}"
        return where.resolve_xref(env, str(node["refdoc"]), app.builder, "exc", name, node, text)
    if not target.startswith("csc_xr."):
        return None
    module, _, last = target.rpartition(".")
    public = getattr(csc_xr, last, None) if last in csc_xr.__all__ else None
    if public is not None and getattr(public, "__module__", "") == module:
        return where.resolve_xref(
            env, str(node["refdoc"]), app.builder, "obj", f"csc_xr.{last}", node, text
        )
    return text if _exists(target) else None


def _exists(target: str) -> bool:
    parts = target.split(".")
    for count in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        missing = object()
        found = reduce(lambda thing, part: getattr(thing, part, missing), parts[count:], module)
        return found is not missing
    return False


def setup(app: Sphinx) -> Mapping[str, bool]:
    """Write the pages first, then fill the page that lists them."""
    app.connect("builder-inited", write_pages)
    app.connect("source-read", fill)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
