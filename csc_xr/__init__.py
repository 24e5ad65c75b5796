"""CNN-Supervised Classification of imagery of any size, on xarray and Dask.

Importing this package is quick: every name below loads its module, and TensorFlow where that
needs it, on first use.
"""

import importlib.metadata

import lazy_loader

__version__ = importlib.metadata.version("csc_xr")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
