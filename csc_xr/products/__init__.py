"""Satellite products, as they are delivered, as scenes of reflectance."""
