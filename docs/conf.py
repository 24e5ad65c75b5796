"""Settings of the site, which `make docs` builds with Sphinx from the pages beside this file."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS / "_extensions"))
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

# Where people find the repository, as "https://example.org/csc_xr/blob/main/". Links to files
# outside docs/ lead there. While it is empty they are shown as plain names of files.
repository_url = ""

project = "csc_xr"
author = "The csc_xr authors"
version = release = importlib.metadata.version("csc_xr")
language = "en_GB"
smartquotes = False  # what stands in quotes is typed as it stands

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "command_reference",
    "python_reference",
    "repository_links",
]
exclude_patterns = ["_*", "**/.ipynb_checkpoints"]
nitpicky = True
# Types of other packages, and words of prose in the type of a parameter, lead nowhere: no
# inventory is fetched, so that the site builds without a network.
nitpick_ignore_regex = [(r"py:.*", r"(?!csc_xr\.).*")]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # notebooks are kept executed
copybutton_exclude = ".linenos, .gp, .go"

autodoc_typehints = "none"  # the docstring says them
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
napoleon_google_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "csc_xr"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "xcode"
pygments_dark_style = "github-dark"

linkcheck_timeout = 20
linkcheck_anchors = False


def setup(app: Sphinx) -> None:
    """Show tables as they are, and have TensorFlow started before pages are read."""
    app.add_lexer("csv", TextLexer)
    importlib.import_module("csc_xr.networks.runtime")  # in silence
