"""Calving fronts and valley margins: lines in metres, found in class rasters."""
