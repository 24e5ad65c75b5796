"""The command ``csc-xr``: parse, call, print."""

from csc_xr.cli import classify, networks, scores, stack, tiles, training  # noqa: F401  (each adds its commands)
from csc_xr.cli.terminal import app, main

__all__ = ["app", "main"]
