"""Labelled tiles: cut from scenes, kept in a store, joined, thinned and split."""
