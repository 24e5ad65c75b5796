"""Figures: the classes of a scene, the course of a training, a confusion matrix."""
