"""Accuracy of class rasters and of tiles: confusion matrices, scores, areas of classes."""
