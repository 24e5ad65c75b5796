"""Figures of a report, as text that a page can hold."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from csc_xr.figures.style import DPI

_LARGE = 200_000
_PAGE_DPI = 96
_JPEG_QUALITY = 88


@dataclass(frozen=True)
class Picture:
    """A figure in the page.

    Attributes
    ----------
    caption : str
        What it shows.
    alt : str
        The same for those who do not see it, with what is to be learned from it.
    source : str
        The picture as a data URI.
    width, height : int
        In the pixels of a page, which are larger than those of the picture.
    """

    caption: str
    alt: str
    source: str
    width: int
    height: int


def picture_of_figure(figure: Figure, caption: str, alt: str) -> Picture:
    """Draw a figure into a page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    caption, alt : str
        As :class:`Picture` has them.

    Returns
    -------
    Picture
        The figure as PNG.
    """
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return _picture(file.getvalue(), caption, alt)


def picture_of_file(path: Path, caption: str, alt: str) -> Picture:
    """Take a PNG file into a page; a large one, as photographs are, becomes a JPEG.

    Parameters
    ----------
    path : Path
        The file.
    caption, alt : str
        As :class:`Picture` has them.

    Returns
    -------
    Picture
        The picture.
    """
    return _picture(path.read_bytes(), caption, alt)


def _picture(content: bytes, caption: str, alt: str) -> Picture:
    mime = "image/png"
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
        if len(content) > _LARGE:
            smaller = io.BytesIO()
            image.convert("RGB").save(smaller, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
            if smaller.tell() < len(content):
                content, mime = smaller.getvalue(), "image/jpeg"
    width, height = (round(side * _PAGE_DPI / DPI) for side in (width, height))
    data = base64.b64encode(content).decode("ascii")
    return Picture(caption, alt, f"data:{mime};base64,{data}", width, height)
