"""What lies beside a raster for GDAL and QGIS: names, colours, counts, and styles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.etree import ElementTree

import matplotlib
import numpy as np

from csc_xr.errors import ParameterError
from csc_xr.legend import NODATA_CODE, ClassLegend

VALUE_COLOURS = "viridis"
"""Matplotlib's name for the colours of confidence and the like, from 0 (dark) up."""

FLAG_COLOURS = ("#d9d9d9", "#d7301f")
"""Of pixels where a raster of 0 and 1 has 0, and 1."""

# Column name, GDAL type (0 integer, 1 real, 2 text) and GDAL usage of a raster attribute table.
_TABLE_COLUMNS = (
    ("Value", 0, 5),
    ("Class", 2, 2),
    ("Red", 0, 6),
    ("Green", 0, 7),
    ("Blue", 0, 8),
    ("Alpha", 0, 9),
)
# The oldest release that the styles are written for; later ones read them too.
_QGIS_VERSION = "3.22.0"
_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
_STEPS = 11

Entry = tuple[int, str, str]
"""A value, its colour ``#rrggbb`` and its label."""


def class_raster_style(legend: ClassLegend) -> str:
    """Show a class raster in the colours and by the names of its legend.

    Parameters
    ----------
    legend : ClassLegend
        The classes; code 0 stays transparent.

    Returns
    -------
    str
        Content of the ``.qml`` file that QGIS, from version 3.22 on, takes for its default style
        when it lies beside the raster under the same name.

    Examples
    --------
    >>> from csc_xr.legend import RIVER
    >>> 'value="1" color="#add8e6" alpha="255" label="Water"' in class_raster_style(RIVER)
    True
    """
    return _paletted((entry.code, entry.colour, entry.name) for entry in legend.classes)


def flag_raster_style(labels: tuple[str, str]) -> str:
    """Show a raster of 0 and 1 in two colours.

    Parameters
    ----------
    labels : tuple of str
        What 0 and 1 mean.

    Returns
    -------
    str
        As :func:`class_raster_style` gives it.
    """
    values = zip(FLAG_COLOURS, labels, strict=True)
    return _paletted((value, colour, label) for value, (colour, label) in enumerate(values))


def flag_colour_table() -> dict[int, tuple[int, int, int, int]]:
    """Give the colours of 0 and 1.

    Returns
    -------
    dict of int to tuple of int
        Red, green, blue, alpha, in the form GDAL colour tables take.
    """
    found = {}
    for value, colour in enumerate(FLAG_COLOURS):
        red, green, blue = (round(255 * part) for part in matplotlib.colors.to_rgb(colour))
        found[value] = (red, green, blue, 255)
    return found


def value_raster_style(highest: float) -> str:
    """Show values in colours that run from 0 to the highest.

    Parameters
    ----------
    highest : float
        Value of the last colour, in the unit that the file states (QGIS applies the file's
        scale and offset by itself); larger ones get the same colour.

    Returns
    -------
    str
        As :func:`class_raster_style` gives it.

    Raises
    ------
    ParameterError
        When `highest` is not above 0.
    """
    if not 0 < highest < np.inf:
        raise ParameterError(f"highest must be a number above 0, got {highest!r}.")
    top = f"{highest:.6g}"
    renderer = _renderer("singlebandpseudocolor")
    renderer.set("classificationMin", "0")
    renderer.set("classificationMax", top)
    shader = ElementTree.SubElement(
        ElementTree.SubElement(renderer, "rastershader"),
        "colorrampshader",
        {
            "colorRampType": "INTERPOLATED",
            "classificationMode": "1",
            "clip": "0",
            "minimumValue": "0",
            "maximumValue": top,
            "labelPrecision": "2",
        },
    )
    for share in np.linspace(0, 1, _STEPS):
        value = f"{share * highest:.6g}"
        colour = matplotlib.colors.to_hex(matplotlib.colormaps[VALUE_COLOURS](share))
        ElementTree.SubElement(
            shader, "item", value=value, color=colour, alpha="255", label=f"{share * highest:.2f}"
        )
    return _document(renderer)


def category_xml(legend: ClassLegend, counts: Mapping[int, int] | None = None) -> bytes:
    """Class names and colours as the side file that GDAL and QGIS read beside a raster.

    Parameters
    ----------
    legend : ClassLegend
        The classes.
    counts : mapping of int to int, optional
        Pixels by code; a code that is absent has none.

    Returns
    -------
    bytes
        Content of ``<raster>.aux.xml``: category names and a raster attribute table, in
        GDAL's persistent auxiliary metadata format (``gdal_pam.xsd``).
    """
    root = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    codes = (NODATA_CODE, *(entry.code for entry in legend.classes))
    # Names are found by position, so a code that is not in use gets an empty one.
    names = ElementTree.SubElement(band, "CategoryNames")
    for code in range(max(codes) + 1):
        name = legend.class_name(code) if code in codes else ""
        ElementTree.SubElement(names, "Category").text = name
    table = ElementTree.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    columns = list(_TABLE_COLUMNS)
    if counts is not None:
        most = max(counts.values(), default=0)
        columns.insert(1, ("Count", 0 if most < 2**31 else 1, 1))  # GDAL's integers have 32 bits
    for index, (column, kind, usage) in enumerate(columns):
        definition = ElementTree.SubElement(table, "FieldDefn", index=str(index))
        for tag, value in (("Name", column), ("Type", kind), ("Usage", usage)):
            ElementTree.SubElement(definition, tag).text = str(value)
    colours = legend.colour_table()
    for index, code in enumerate(codes):
        row = ElementTree.SubElement(table, "Row", index=str(index))
        found = () if counts is None else (counts.get(code, 0),)
        for entry in (code, *found, legend.class_name(code), *colours[code]):
            ElementTree.SubElement(row, "F").text = str(entry)
    ElementTree.indent(root)
    # Without an XML declaration: GDAL takes it for the root and finds nothing.
    return ElementTree.tostring(root, encoding="unicode").encode("utf-8")


def _paletted(entries: Iterable[Entry]) -> str:
    renderer = _renderer("paletted")
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for value, colour, label in entries:
        ElementTree.SubElement(
            palette, "paletteEntry", value=str(value), color=colour, alpha="255", label=label
        )
    return _document(renderer)


def _renderer(kind: str) -> ElementTree.Element:
    renderer = ElementTree.Element(
        "rasterrenderer",
        {"type": kind, "band": "1", "alphaBand": "-1", "opacity": "1", "nodataColor": ""},
    )
    ElementTree.SubElement(renderer, "rasterTransparency")
    return renderer


def _document(renderer: ElementTree.Element) -> str:
    root = ElementTree.Element("qgis", version=_QGIS_VERSION, styleCategories="Symbology")
    pipe = ElementTree.SubElement(root, "pipe")
    pipe.append(renderer)
    # Without a resampler by name it is nearest neighbour: between two classes lies no third.
    ElementTree.SubElement(pipe, "rasterresampler", maxOversampling="2")
    ElementTree.SubElement(root, "blendMode").text = "0"
    ElementTree.indent(root)
    return f"{_DOCTYPE}\n{ElementTree.tostring(root, encoding='unicode')}\n"
