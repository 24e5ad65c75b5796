"""The command ``csc-xr``: parse, call, print."""

from csc_xr.cli import (  # noqa: F401  (each adds its commands)
    batch,
    classify,
    compose,
    fronts,
    labels,
    networks,
    report,
    results,
    scores,
    stack,
    tiles,
    training,
)
from csc_xr.cli.terminal import app, main

__all__ = ["app", "main"]
