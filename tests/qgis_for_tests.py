"""Run by the Python that QGIS belongs to, not by the tests': what QGIS makes of layers.

Prints a JSON object for each layer named on the command line.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from qgis.core import (
    QgsApplication,
    QgsMapRendererSequentialJob,
    QgsMapSettings,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize


def symbols(layer: Any) -> list[tuple[str, str, str | None]]:
    """Label, colour and pattern of each entry of the legend."""
    renderer = layer.renderer()
    entries = {"categorizedSymbol": "categories", "graduatedSymbol": "ranges"}[renderer.type()]
    found = []
    for entry in getattr(renderer, entries)():  # a symbol goes when its entry goes
        symbol = entry.symbol()
        pattern = symbol.symbolLayer(0).properties().get("line_style")
        found.append((entry.label(), symbol.color().name(), pattern))
    return found


def colours(layer: Any) -> dict[str, int]:
    """How often each colour is drawn."""
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setOutputSize(QSize(200, 200))
    settings.setExtent(layer.extent())
    settings.setFlag(QgsMapSettings.Antialiasing, False)
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage()
    counts: dict[str, int] = {}
    for row in range(image.height()):
        for column in range(image.width()):
            name = image.pixelColor(column, row).name()
            counts[name] = counts.get(name, 0) + 1
    return counts


def look(source: str) -> dict[str, Any]:
    """What QGIS makes of a vector layer."""
    found = QgsVectorLayer(source, "layer", "ogr")
    return {
        "valid": found.isValid(),
        "crs": found.crs().authid(),
        "rows": found.featureCount(),
        "fields": {field.name(): field.typeName() for field in found.fields()},
        "renderer": found.renderer().type(),
        "symbols": symbols(found),
        "drawn": colours(found),
    }


def look_at_raster(source: str) -> dict[str, Any]:
    """What QGIS makes of a raster in its default style."""
    found = QgsRasterLayer(source, "layer")
    entries = found.renderer().legendSymbologyItems()
    centre = found.extent().center()
    return {
        "valid": found.isValid(),
        "crs": found.crs().authid(),
        "renderer": found.renderer().type(),
        "symbols": [(label, colour.name()) for label, colour in entries],
        "drawn": colours(found),
        "middle": found.dataProvider().sample(centre, 1)[0],
    }


application = QgsApplication([], False)
application.initQgis()
for source in sys.argv[1:]:
    is_raster = source.endswith(".tif") or source.startswith("ZARR:")
    print(json.dumps(look_at_raster(source) if is_raster else look(source)))
sys.stdout.flush()
os._exit(0)  # taking QGIS down in order is a matter of luck
