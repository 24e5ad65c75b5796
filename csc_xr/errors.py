"""Everything csc_xr raises or warns on purpose.

Each error is also the built-in error a caller would expect (``ValueError``, ``OSError``),
so code that knows nothing of csc_xr still catches it. Messages name what was required,
what came, and what to do.
"""

from __future__ import annotations


class CscError(Exception):
    """Base of every error csc_xr raises on purpose."""


class ParameterError(CscError, ValueError):
    """A setting has a value the method cannot use."""


class SceneError(CscError, ValueError):
    """An image cannot be read as a scene, or does not fit the work asked of it."""


class LabelError(CscError, ValueError):
    """A label raster does not fit its scene or its legend."""


class TileError(CscError, ValueError):
    """Labelled tiles cannot be made or read, or do not fit the training asked of them."""


class LineError(CscError, ValueError):
    """Lines cannot be read or measured, or do not fit the raster they belong to."""


class LegendError(CscError, ValueError):
    """A legend contradicts itself or cannot be read."""


class NetworkError(CscError, ValueError):
    """A network cannot be read, is not safe to read, or does not fit the scene."""


class TrainingError(CscError, ArithmeticError):
    """A training went astray and cannot go on."""


class OutputError(CscError, OSError):
    """Results cannot be written where they were asked for."""


class ResumeError(OutputError):
    """Earlier work is there that was made in another way."""


class ClusterError(CscError, RuntimeError):
    """A Dask cluster cannot be reached, or its workers cannot do the work."""


class CscWarning(UserWarning):
    """Something works, but the user should know how."""
