"""Draw results as QGIS shows them: the list of layers on the left, the map on the right.

Run by the Python that QGIS belongs to, with the picture and then the layers from top to bottom.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")  # no screen is needed

from qgis.core import (
    QgsApplication,
    QgsLayerTreeModel,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.gui import QgsLayerTreeMapCanvasBridge, QgsLayerTreeView, QgsMapCanvas
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QSplitter


def open_layer(path: str) -> Any:
    """Open a file as QGIS does when it is dropped onto the map: in its default style."""
    name = Path(path).stem
    if path.endswith(".gpkg"):
        return QgsVectorLayer(f"{path}|layername=fronts", name, "ogr")
    return QgsRasterLayer(path, name)


def main(picture: str, paths: list[str]) -> None:
    """Draw the layers."""
    application = QgsApplication([], True)
    application.initQgis()
    project = QgsProject.instance()
    layers = [open_layer(path) for path in paths]
    for path, layer in zip(paths, layers, strict=True):
        if not layer.isValid():
            raise SystemExit(f"QGIS cannot open {path}.")
        project.addMapLayer(layer, False)
        project.layerTreeRoot().addLayer(layer)
    project.setCrs(layers[-1].crs())

    model = QgsLayerTreeModel(project.layerTreeRoot())
    tree = QgsLayerTreeView()
    tree.setModel(model)
    tree.expandAll()
    canvas = QgsMapCanvas()
    canvas.setCanvasColor(Qt.white)
    bridge = QgsLayerTreeMapCanvasBridge(project.layerTreeRoot(), canvas)
    window = QSplitter()
    window.addWidget(tree)
    window.addWidget(canvas)
    window.resize(960, 520)
    window.setSizes([320, 640])
    window.show()
    bridge.setCanvasLayers()
    application.processEvents()
    canvas.setExtent(layers[-1].extent())
    canvas.refresh()
    canvas.waitWhileRendering()
    application.processEvents()
    window.grab().save(picture)
    sys.stdout.flush()
    os._exit(0)  # taking QGIS down in order is a matter of luck


main(sys.argv[1], sys.argv[2:])
