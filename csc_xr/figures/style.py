"""What all figures share: resolution, sizes of type, and how they are titled and written."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from csc_xr.files import replacing

DPI = 150
EDGE_COLOUR = "#404040"

TITLE_SIZE = 15
CAPTION_SIZE = 13
LABEL_SIZE = 11
TICK_SIZE = 10
"""Sizes of type in points: of the figure's title, its panels' captions, axis labels, ticks."""


def literal(text: str) -> str:
    """Have a text drawn as it is: matplotlib takes what stands between dollar signs for a formula.

    Parameters
    ----------
    text : str
        Such as the name of a scene.

    Returns
    -------
    str
        For matplotlib.
    """
    return re.sub(r"(?<!\\)\$", r"\\$", text)


def add_title(figure: Figure, title: str) -> None:
    """Put the title over the figure, in lines of much the same length that fit its width.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure, at its final size.
    title : str
        One or more lines.
    """
    room = figure.get_figwidth() - 0.4
    lines = [part for line in title.splitlines() for part in _lines_within(room, line)]
    figure.suptitle(literal("\n".join(lines)), fontsize=TITLE_SIZE, fontweight="bold")


def text_inches(text: str, size: float, *, weight: str = "normal") -> float:
    """Width of one line of text.

    Parameters
    ----------
    text : str
        The line.
    size : float
        Size of type in points.
    weight : str
        ``"normal"`` or ``"bold"``.

    Returns
    -------
    float
        Inches.
    """
    if not text.strip():
        return 0.0
    outline = TextPath((0, 0), literal(text), size=size, prop=FontProperties(weight=weight))
    return float(outline.get_extents().width) / 72


def save_png(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, whole or not at all.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    path : str or Path
        Where to write it.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=DPI)


def _lines_within(room: float, title: str) -> list[str]:
    """Wrap a title into as few lines as fit, of much the same length."""
    lines = [title]
    for count in range(1, len(title) + 1):
        least = -(-len(title) // count)
        options = (textwrap.wrap(title, letters) for letters in range(least, len(title) + 1))
        lines = next(option for option in options if len(option) <= count)
        if all(text_inches(line, TITLE_SIZE, weight="bold") <= room for line in lines):
            break
    return lines
