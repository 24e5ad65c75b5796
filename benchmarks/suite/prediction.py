"""Phase two's prediction: cost against patch size, pixels a second against scene size."""

from __future__ import annotations

import tempfile
from pathlib import Path

from measure import glacier_network, write_fjord
from patch_memory import open_values, predict_chunks, predict_rows, predict_tensor
from throughput import measure_speed


class PatchSize:
    """One scene, one patch size, three ways to predict, TensorFlow on one thread in each."""

    params = ([300, 1500], [1, 7, 15], ["tensor", "rows", "chunks"])
    param_names = ("side", "patch_size", "way")
    tiny = (48, 3, "chunks"), (48, 3, "tensor"), (48, 3, "rows")
    timeout = 600
    number = repeat = 1
    warmup_time = 0

    def setup(self, side: int, patch_size: int, way: str) -> None:
        """Write the scene and build the network; leave out what takes too much memory or time."""
        if way != "chunks" and side**2 * patch_size**2 > 6e7:
            raise NotImplementedError
        self.folder = tempfile.TemporaryDirectory()
        self.store = write_fjord(Path(self.folder.name), side)
        self.network = glacier_network(patch_size)

    def teardown(self, side: int, patch_size: int, way: str) -> None:  # noqa: ARG002
        """Remove the scene."""
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def _predict(self, patch_size: int, way: str) -> None:
        if way == "tensor":
            predict_tensor(open_values(self.store), self.network.model, patch_size)
        elif way == "rows":
            predict_rows(open_values(self.store), self.network.model, patch_size)
        else:
            predict_chunks(self.store, self.network, Path(self.folder.name) / "classes.zarr")

    def time_prediction(self, side: int, patch_size: int, way: str) -> None:  # noqa: ARG002
        """Classify all pixels."""
        self._predict(patch_size, way)

    def peakmem_prediction(self, side: int, patch_size: int, way: str) -> None:  # noqa: ARG002
        """Classify all pixels."""
        self._predict(patch_size, way)


class Throughput:
    """Scenes of several sizes, from Zarr to Zarr."""

    params = ([1000, 2000, 4000], [7])
    param_names = ("side", "patch_size")
    tiny = ((64, 3),)
    timeout = 600

    def setup(self, side: int, patch_size: int) -> None:  # noqa: ARG002
        """Write the scene."""
        self.folder = tempfile.TemporaryDirectory()
        self.store = write_fjord(Path(self.folder.name), side)

    def teardown(self, side: int, patch_size: int) -> None:  # noqa: ARG002
        """Remove the scene."""
        self.folder.cleanup()

    def track_megapixels_a_second(self, side: int, patch_size: int) -> float:
        """Millions of pixels classified in a second."""
        return side**2 / measure_speed(self.store, side, patch_size, repeats=1).seconds / 1e6

    def track_share_of_matmul(self, side: int, patch_size: int) -> float:
        """Share of the machine's rate of matrix multiplication."""
        return measure_speed(self.store, side, patch_size, repeats=1).share

    track_megapixels_a_second.unit = "Mpx/s"  # type: ignore[attr-defined]
    track_share_of_matmul.unit = "1"  # type: ignore[attr-defined]
