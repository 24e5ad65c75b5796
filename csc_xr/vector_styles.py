"""Styles that QGIS shows vector layers in: what colour, how wide, by which attribute."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from csc_xr.errors import ParameterError
from csc_xr.legend import LegendClass

FRONT_COLOUR = "#ff0000"
"""Of calving fronts that were found."""

DATE_COLOURS = "plasma"
"""Matplotlib's name for the colours that run with the date."""

LAST_DATE = 0.88
"""Where in them the last date is: beyond, they are too bright to be seen on snow."""

_MOST_ENTRIES = 30
_ENTRIES_OF_MANY = 12
# The oldest release that the styles are written for; later ones read them too.
_QGIS_VERSION = "3.22.0"
_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
_GEOMETRY_NUMBERS = {"point": "0", "line": "1", "polygon": "2"}
# A number that rises with the date and knows no time zone or summer time: 20170301.
_DAY_NUMBER = "to_int(format_date({field}, 'yyyyMMdd'))"

Kind = Literal["point", "line", "polygon"]
"""Of geometry."""

Options = dict[str, str]
"""Properties of a symbol by QGIS's names for them."""


@dataclass(frozen=True)
class LayerStyle:
    """How QGIS shows a layer.

    Attributes
    ----------
    name : str
        Shown in the list of a layer's styles.
    description : str
        One sentence.
    qml : str
        The style in QGIS's own format, for version 3.22 and later.
    """

    name: str
    description: str
    qml: str


def front_style() -> LayerStyle:
    """Show calving fronts as red lines, dashed where the outcome is not "found".

    Returns
    -------
    LayerStyle
        For a layer of lines with the attribute ``outcome``.

    Examples
    --------
    >>> front_style().name
    'Calving fronts'
    """
    entries = [
        ("found", "Calving front", _line(FRONT_COLOUR, 0.8)),
        ("", "Not accepted", _line(FRONT_COLOUR, 0.5, "dash")),
    ]
    return LayerStyle(
        "Calving fronts",
        "Red lines; dashed where the outcome is not 'found'.",
        _document(_categories("outcome", entries, kind="line"), kind="line"),
    )


def dated_style(
    dates: Iterable[np.datetime64 | datetime.date], *, field: str = "date"
) -> LayerStyle:
    """Show lines in colours that run with their date, from dark (first) to bright (last).

    Up to 30 different days each have a colour and an entry of the legend; more are grouped in
    12 spans of equal length.

    Parameters
    ----------
    dates : iterable of numpy.datetime64 or datetime.date
        Dates of the lines, in any order; missing ones (None, NaT) count for nothing.
    field : str
        Attribute that holds the date.

    Returns
    -------
    LayerStyle
        For a layer of lines.

    Raises
    ------
    ParameterError
        When there is no date.
    """
    given = pd.to_datetime(pd.Series(list(dates), dtype=object), utc=True).dropna()
    days = np.unique(given.dt.tz_localize(None).to_numpy().astype("datetime64[D]"))
    if not len(days):
        raise ParameterError(
            "A style by date needs a date at least, got none. Use front_style for lines without."
        )
    return LayerStyle(
        "Lines by date",
        f"Colours run from {days[0]} to {days[-1]}.",
        _document(_graduated(_DAY_NUMBER.format(field=_quoted(field)), days), kind="line"),
    )


def class_style(classes: Iterable[LegendClass]) -> LayerStyle:
    """Show polygons of classes in the colours and by the names of a legend.

    Parameters
    ----------
    classes : iterable of LegendClass
        The classes, such as ``legend.classes``.

    Returns
    -------
    LayerStyle
        For a layer of polygons with the attribute ``code``.
    """
    entries = [
        (str(entry.code), entry.name, _fill(entry.colour, outline=entry.colour, width_mm=0.1))
        for entry in classes
    ]
    return LayerStyle(
        "Classes",
        "Colours and names of the legend.",
        _document(_categories("code", entries, kind="polygon"), kind="polygon"),
    )


def line_style(
    name: str, *, colour: str = FRONT_COLOUR, width_mm: float = 0.6, dashed: bool = False
) -> LayerStyle:
    """Show all lines of a layer alike: margins, or a centreline.

    Parameters
    ----------
    name : str
        What the lines are, for the list of styles.
    colour : str
        ``#rrggbb``, or a name that Matplotlib knows.
    width_mm : float
        Width on the screen or page in millimetres.
    dashed : bool
        True for dashes, false for a line without gaps.

    Returns
    -------
    LayerStyle
        For a layer of lines.

    Raises
    ------
    ParameterError
        When there is no such colour.
    """
    options = _line(colour, width_mm, "dash" if dashed else "solid")
    return LayerStyle(name, "All lines alike.", _document(_single(options, "line"), kind="line"))


def box_style(name: str = "Box", *, colour: str = "#000000", width_mm: float = 0.4) -> LayerStyle:
    """Show polygons by their outline alone, so that what is below them stays visible.

    Parameters
    ----------
    name : str
        What the polygons are, for the list of styles.
    colour : str
        ``#rrggbb``, or a name that Matplotlib knows.
    width_mm : float
        Width of the outline in millimetres.

    Returns
    -------
    LayerStyle
        For a layer of polygons.

    Raises
    ------
    ParameterError
        When there is no such colour.
    """
    options = _fill(None, outline=colour, width_mm=width_mm)
    return LayerStyle(
        name, "Outlines alone.", _document(_single(options, "polygon"), kind="polygon")
    )


def point_style(name: str = "Points", *, colour: str = FRONT_COLOUR) -> LayerStyle:
    """Show points as rings, so that the pixel below stays visible.

    Parameters
    ----------
    name : str
        What the points are, for the list of styles.
    colour : str
        ``#rrggbb``, or a name that Matplotlib knows.

    Returns
    -------
    LayerStyle
        For a layer of points.

    Raises
    ------
    ParameterError
        When there is no such colour.
    """
    options = {
        "name": "circle",
        "color": "0,0,0,0",
        "outline_color": _rgba(colour),
        "outline_width": "0.5",
        "outline_width_unit": "MM",
        "size": "4",
        "size_unit": "MM",
    }
    return LayerStyle(name, "Rings.", _document(_single(options, "point"), kind="point"))


def _graduated(attribute: str, days: NDArray[np.datetime64]) -> ElementTree.Element:
    """Symbols by ranges of day numbers, which are whole: both ends belong to a range."""
    firsts, lasts = _spans(days)
    renderer = _renderer("graduatedSymbol", attribute)
    renderer.set("graduatedMethod", "GraduatedColor")
    ranges = ElementTree.SubElement(renderer, "ranges")
    symbols = ElementTree.SubElement(renderer, "symbols")
    since = (firsts - firsts[0]) / max(np.timedelta64(1, "D"), firsts[-1] - firsts[0])
    colours = matplotlib.colormaps[DATE_COLOURS](LAST_DATE * since)
    for index, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        ElementTree.SubElement(
            ranges,
            "range",
            lower=str(first).replace("-", ""),
            upper=str(last).replace("-", ""),
            label=str(first) if first == last else f"{first} to {last}",
            symbol=str(index),
            render="true",
        )
        colour = matplotlib.colors.to_hex(colours[index])
        symbols.append(_symbol(str(index), _line(colour, 0.6), kind="line"))
    return renderer


def _spans(
    days: NDArray[np.datetime64],
) -> tuple[NDArray[np.datetime64], NDArray[np.datetime64]]:
    """First and last day of each group of dates, in order."""
    if len(days) <= _MOST_ENTRIES:
        return days, days
    numbers = days.astype(np.int64)
    edges = np.linspace(numbers[0], numbers[-1] + 1, _ENTRIES_OF_MANY + 1).round()
    firsts = edges.astype(np.int64).astype("datetime64[D]")
    return firsts[:-1], firsts[1:] - 1


def _categories(
    attribute: str,
    entries: Sequence[tuple[str, str, Options]],
    *,
    kind: Kind,
) -> ElementTree.Element:
    """Symbols by the value of an attribute; the value "" stands for all others."""
    renderer = _renderer("categorizedSymbol", attribute)
    categories = ElementTree.SubElement(renderer, "categories")
    symbols = ElementTree.SubElement(renderer, "symbols")
    for index, (value, label, options) in enumerate(entries):
        ElementTree.SubElement(
            categories, "category", value=value, label=label, symbol=str(index), render="true"
        )
        symbols.append(_symbol(str(index), options, kind=kind))
    return renderer


def _single(options: Options, kind: Kind) -> ElementTree.Element:
    renderer = _renderer("singleSymbol")
    ElementTree.SubElement(renderer, "symbols").append(_symbol("0", options, kind=kind))
    return renderer


def _renderer(name: str, attribute: str | None = None) -> ElementTree.Element:
    by_what = {} if attribute is None else {"attr": attribute}
    fixed = {"forceraster": "0", "enableorderby": "0", "symbollevels": "0"}
    return ElementTree.Element("renderer-v2", {"type": name, **by_what, **fixed})


def _symbol(name: str, options: Options, *, kind: Kind) -> ElementTree.Element:
    kind_of_symbol, kind_of_layer = {
        "point": ("marker", "SimpleMarker"),
        "line": ("line", "SimpleLine"),
        "polygon": ("fill", "SimpleFill"),
    }[kind]
    symbol = ElementTree.Element(
        "symbol",
        {"type": kind_of_symbol, "name": name, "alpha": "1", "clip_to_extent": "1"},
    )
    layer = ElementTree.SubElement(
        symbol, "layer", {"class": kind_of_layer, "enabled": "1", "locked": "0", "pass": "0"}
    )
    table = ElementTree.SubElement(layer, "Option", type="Map")
    for key, value in options.items():
        ElementTree.SubElement(table, "Option", type="QString", name=key, value=value)
    return symbol


def _line(colour: str, width_mm: float, pattern: Literal["solid", "dash"] = "solid") -> Options:
    return {
        "line_color": _rgba(colour),
        "line_style": pattern,
        "line_width": str(width_mm),
        "line_width_unit": "MM",
        "capstyle": "flat" if pattern == "dash" else "round",
        "joinstyle": "round",
    }


def _fill(colour: str | None, *, outline: str, width_mm: float) -> Options:
    return {
        "color": _rgba(colour or outline),
        "style": "no" if colour is None else "solid",
        "outline_color": _rgba(outline),
        "outline_style": "solid",
        "outline_width": str(width_mm),
        "outline_width_unit": "MM",
        "joinstyle": "miter",
    }


def _rgba(colour: str) -> str:
    """QGIS's form of ``#rrggbb``."""
    if not matplotlib.colors.is_color_like(colour):
        raise ParameterError(f"A colour must be #rrggbb or the name of one, got {colour!r}.")
    red, green, blue = (round(255 * part) for part in matplotlib.colors.to_rgb(colour))
    return f"{red},{green},{blue},255"


def _quoted(field: str) -> str:
    """Name of an attribute inside an expression."""
    return '"' + field.replace('"', '""') + '"'


def _document(renderer: ElementTree.Element, *, kind: Kind) -> str:
    root = ElementTree.Element("qgis", version=_QGIS_VERSION, styleCategories="Symbology")
    root.append(renderer)
    ElementTree.SubElement(root, "layerGeometryType").text = _GEOMETRY_NUMBERS[kind]
    ElementTree.indent(root)
    return f"{_DOCTYPE}\n{ElementTree.tostring(root, encoding='unicode')}\n"
