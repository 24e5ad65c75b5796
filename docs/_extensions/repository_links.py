"""Links from pages to files of the repository outside ``docs/``.

On the repository's own pages such a link works as it is. On the site it leads to ``repository_url``
of ``conf.py``; while that is empty, the link's text is shown without a link.
"""

from __future__ import annotations

import os
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

HOME = "README.md"
"""What the site's first page stands in for."""


class RepositoryLinks(SphinxTransform):
    """Turn links that leave ``docs/`` into links to the repository."""

    default_priority = 200  # before anything asks which document a link means

    def apply(self, **_: object) -> None:
        """Look at every link of a page."""
        for link in list(self.document.findall(_is_link)):
            self._replace(link)

    def _replace(self, link: nodes.Element) -> None:
        docs = Path(self.env.srcdir)
        target, _, anchor = str(link["reftarget"]).partition("#")
        if not target or "://" in target:
            return
        page = docs / str(self.env.docname)
        place = os.path.normpath(page.parent / target)
        inside = os.path.relpath(place, docs)
        if not inside.startswith("..") or not Path(place).exists():
            return
        name = os.path.relpath(place, docs.parent).replace(os.sep, "/")
        text = list(link.children)
        url = str(self.config.repository_url)
        if name == HOME:
            there = os.path.relpath(docs / "index", page.parent).replace(os.sep, "/")
            link["reftarget"] = f"{there}.md"
        elif url:
            where = url.rstrip("/") + "/" + name + (f"#{anchor}" if anchor else "")
            link.replace_self(nodes.reference("", "", *text, refuri=where, internal=False))
        else:
            link.replace_self(nodes.inline("", "", *text, classes=["repository-file"]))


def _is_link(node: nodes.Node) -> bool:
    links = addnodes.pending_xref | addnodes.download_reference
    return isinstance(node, links) and node.get("reftype") == "myst"


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the setting and the transform."""
    app.add_config_value("repository_url", "", "env", str)
    app.add_transform(RepositoryLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
