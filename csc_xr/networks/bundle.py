"""A network together with its card: checked, fingerprinted, shipped to workers, kept in files."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

from csc_xr.errors import NetworkError, OutputError, ParameterError
from csc_xr.files import replacing
from csc_xr.legend import ClassLegend, open_legend
from csc_xr.networks.card import Kind, NetworkCard, band_names, infer_card
from csc_xr.networks.convolution import ConvolutionalForm, convolutional_form
from csc_xr.networks.safety import architecture_of, build_model, check_hdf5

if TYPE_CHECKING:
    import keras

_CARD_MEMBER = "csc_xr_card.json"
_CONFIG_MEMBER = "config.json"
_WEIGHTS_MEMBER = "model.weights.h5"
# Keras stores members as they are; deflating weights gains little. Much more is a trap.
_MAX_EXPANSION = 100
_MAX_TEXT_BYTES = 1 << 26


@dataclass(frozen=True, eq=False)
class Network:
    """A network and its card. Equal content makes networks equal, whatever file they came from.

    Attributes
    ----------
    card : NetworkCard
        Bands, scale, size, legend and codes.
    model : keras.Model
        Input (n, row, column, band), output (n, output). Train it before it is wrapped, not
        after: the fingerprint is taken once.

    Raises
    ------
    NetworkError
        When the model does not fit the card.
    """

    card: NetworkCard
    model: keras.Model

    def __post_init__(self) -> None:
        found = _measure(self.model)
        if found.n_bands != len(self.card.bands):
            raise NetworkError(
                f"The network takes {found.n_bands} bands, its card names {len(self.card.bands)}: "
                f"{', '.join(self.card.bands)}. Pass bands= with a name for each."
            )
        if found.size not in (None, self.card.size):
            raise NetworkError(
                f"The network takes windows of {found.size} px, its card says "
                f"{self.card.size} px. Pass the size of the network or leave it out."
            )
        self.card.check_outputs(found.n_outputs)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of card, architecture and weights, in hexadecimal.

        Returns
        -------
        str
            64 characters.
        """
        digest = hashlib.sha256(_canonical(self.card.to_dict()).encode())
        digest.update(_architecture(self.model).encode())
        for values in self.model.get_weights():
            digest.update(f"{values.dtype.str}{values.shape}".encode())
            digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()

    def convolutional_form(self) -> ConvolutionalForm:
        """Turn a patch network into the convolution that slides over a scene.

        Returns
        -------
        ConvolutionalForm
            As :func:`csc_xr.networks.convolution.convolutional_form` makes it.

        Raises
        ------
        NetworkError
            When this is a tile network, or has layers that cannot slide.
        """
        if self.card.kind != "patch":
            raise NetworkError(
                f"Every pixel is classified by a patch network, got a {self.card.kind} network. "
                "Pass kind='patch' to open_network if its windows are patches."
            )
        return convolutional_form(self.model, patch_size=self.card.size)

    def kept_at(self, path: str | Path) -> Network:
        """Give a copy that travels to other processes as the name of its file.

        A process opens the file once, however many tasks need the network. Without this a
        network travels whole.

        Parameters
        ----------
        path : str or Path
            Where :func:`save_network` wrote it; all processes must see it.

        Returns
        -------
        Network
            The same network.
        """
        copy = Network(self.card, self.model)
        object.__setattr__(copy, "_file", Path(path).absolute())
        return copy

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __dask_tokenize__(self) -> str:
        return self.fingerprint

    def __reduce__(self) -> tuple[Any, ...]:
        if hasattr(self, "_file"):
            return _reopen, (self._file, self.fingerprint)
        # Plain values and arrays: workers rebuild the model through the same checks as a file.
        content = (self.card.to_dict(), _architecture(self.model), self.model.get_weights())
        return _rebuild, content


def save_network(network: Network, path: str | Path) -> None:
    """Write a network with its card to one file, whole or not at all.

    Parameters
    ----------
    network : Network
        What to write; the state of an optimizer is left out.
    path : str or Path
        Ends in ``.keras``; a file of that name is replaced, missing folders are created.
        ``keras.saving.load_model`` opens it too.

    Raises
    ------
    OutputError
        When the name has another ending or the file cannot be written.
    NetworkError
        When the network holds anything but plain layers: such a file would not open again.
    """
    target = Path(path)
    if target.suffix != ".keras":
        raise OutputError(f"A network is saved in a file that ends in .keras, got {target}.")
    # A copy through the checks of reading: without optimizer, and sure to open again.
    model = build_model(json.loads(_architecture(network.model)), source="The network")
    model.set_weights(network.model.get_weights())
    with replacing(target) as partial, tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "network.keras"  # Keras insists on the ending
        model.save(written)
        with zipfile.ZipFile(written, "a") as archive:
            archive.writestr(_CARD_MEMBER, json.dumps(network.card.to_dict(), indent=1))
        shutil.copyfile(written, partial)


def open_network(
    path: str | Path,
    *,
    card: NetworkCard | None = None,
    kind: Kind | None = None,
    bands: Iterable[str] | None = None,
    scale: float | None = None,
    size: int | None = None,
    legend: ClassLegend | str | Path | None = None,
    codes: Iterable[int] | None = None,
) -> Network:
    """Read a network and its card. Nothing in the file is ever run.

    A ``.keras`` file that :func:`save_network` wrote carries its card. For any other
    ``.keras`` file and for legacy ``.h5`` or ``.hdf5`` files the card is made from the settings
    given here and from what the network tells.

    Parameters
    ----------
    path : str or Path
        A ``.keras``, ``.h5`` or ``.hdf5`` file of a whole network.
    card : NetworkCard, optional
        Takes the place of the file's card and of all other settings.
    kind : {"tile", "patch"}, optional
        Phase one (when left out) or phase two.
    bands : iterable of str, optional
        Names of the bands, in order; left out, red, green, blue and, for 4 bands, nir.
    scale : float, optional
        Divisor of pixel values; left out, the scene's own (255 for 8 bits, 8192 for 16).
    size : int, optional
        Tile or patch size in pixels, for a network that takes any.
    legend : ClassLegend, str or Path, optional
        Classes, as :func:`csc_xr.legend.open_legend` takes them; left out, 8 outputs are the
        glacier legend, 4 or 6 the river legend.
    codes : iterable of int, optional
        Class code of each output; left out, output i stands for code i.

    Returns
    -------
    Network
        The network, in memory.

    Raises
    ------
    NetworkError
        When there is no such file, it cannot be read as a network, is not safe to read, or
        does not fit its card or the settings.
    LegendError
        When the legend cannot be read.
    ParameterError
        When a card and settings are given together.
    """
    chosen: dict[str, Any] = {
        "kind": kind,
        "bands": None if bands is None else band_names(bands),
        "scale": scale,
        "size": size,
        "legend": None if legend is None else open_legend(legend),
        "codes": None if codes is None else tuple(codes),
    }
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if card is not None and chosen:
        raise ParameterError(
            f"open_network takes either a card or single settings, got a card and "
            f"{', '.join(chosen)}. Put the settings into the card."
        )
    model, stored = _read_file(Path(path))
    if card is None and stored is not None:
        _check_agreement(stored, chosen, Path(path).name)
    return Network(card or stored or _inferred_card(model, chosen), model)


class _Measures(NamedTuple):
    size: int | None
    n_bands: int
    n_outputs: int


def _measure(model: keras.Model) -> _Measures:
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    shapes = [tuple(tensor.shape) for tensor in (*inputs, *outputs)]
    if len(inputs) == len(outputs) == 1:
        rows, columns, bands = shapes[0][1:] if len(shapes[0]) == 4 else (0, 1, None)
        n_outputs = shapes[1][1] if len(shapes[1]) == 2 else None
        if rows == columns and bands is not None and n_outputs is not None:
            return _Measures(rows, bands, n_outputs)
    raise NetworkError(
        "A network takes one input (n, rows, columns, bands) of square windows and gives one "
        f"output (n, classes), got inputs and outputs of the shapes {shapes or 'unknown'}."
    )


def _inferred_card(model: keras.Model, chosen: dict[str, Any]) -> NetworkCard:
    found = _measure(model)
    size = chosen.get("size", found.size)
    if size is None:
        raise NetworkError(
            "The network takes windows of any size. Pass size= with the tile or patch size in "
            "pixels that it was trained on."
        )
    return infer_card(
        kind=chosen.get("kind", "tile"),
        size=size,
        n_bands=found.n_bands,
        n_outputs=found.n_outputs,
        bands=chosen.get("bands"),
        scale=chosen.get("scale"),
        legend=chosen.get("legend"),
        codes=chosen.get("codes"),
    )


def _check_agreement(stored: NetworkCard, chosen: dict[str, Any], source: str) -> None:
    for name, value in chosen.items():
        if getattr(stored, name) != value:
            raise NetworkError(
                f"The card in {source} has {name} {getattr(stored, name)!r}, got {value!r}. "
                f"Leave {name} out, or pass card= to use the network in another way."
            )


def _read_file(path: Path) -> tuple[keras.Model, NetworkCard | None]:
    if not path.is_file():
        raise NetworkError(f"There is no network file {path}. Check the path.")
    if path.suffix.lower() in (".h5", ".hdf5"):
        from csc_xr.networks.legacy import read_legacy_model

        return read_legacy_model(path), None
    if path.suffix.lower() != ".keras":
        raise NetworkError(f"A network file ends in .keras, .h5 or .hdf5, got {path.name}.")
    try:
        return _read_archive(path)
    except NetworkError:
        raise
    except (
        AttributeError,
        IndexError,
        KeyError,
        OSError,
        RecursionError,
        RuntimeError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        raise NetworkError(
            f"{path.name} cannot be read as a .keras network; it may be incomplete or of another "
            f"Keras version: {type(error).__name__}: {error}"
        ) from error


def _read_archive(path: Path) -> tuple[keras.Model, NetworkCard | None]:
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        names = archive.namelist()
        card = None
        if _CARD_MEMBER in names:
            card = NetworkCard.from_dict(json.loads(_read_text(archive, _CARD_MEMBER, path.name)))
        architecture = json.loads(_read_text(archive, _CONFIG_MEMBER, path.name))
        model = build_model(architecture, source=path.name)
        weights = Path(folder) / _WEIGHTS_MEMBER
        with _open_member(archive, _WEIGHTS_MEMBER, path.name) as member, weights.open("wb") as out:
            shutil.copyfileobj(member, out)
        with h5py.File(weights, "r") as file:
            check_hdf5(file, source=path.name)
        model.load_weights(weights)
    return model, card


def _open_member(archive: zipfile.ZipFile, name: str, source: str) -> Any:
    entry = archive.getinfo(name)
    if entry.file_size > _MAX_TEXT_BYTES and entry.file_size > _MAX_EXPANSION * entry.compress_size:
        raise NetworkError(
            f"{source}: {name} would unpack to {entry.file_size} bytes from {entry.compress_size}, "
            "which no network does. The file is damaged or hostile."
        )
    return archive.open(entry)


def _read_text(archive: zipfile.ZipFile, name: str, source: str) -> str:
    with _open_member(archive, name, source) as member:
        return str(member.read().decode())


def _canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _architecture(model: keras.Model) -> str:
    return _canonical(architecture_of(model))


def _rebuild(card: dict[str, Any], architecture: str, weights: list[Any]) -> Network:
    model = build_model(json.loads(architecture), source="The network")
    model.set_weights(weights)
    return Network(NetworkCard.from_dict(card), model)


_reopening = threading.Lock()


def _reopen(path: Path, fingerprint: str) -> Network:
    with _reopening:
        return _open_once(path, fingerprint)


@lru_cache(maxsize=4)
def _open_once(path: Path, fingerprint: str) -> Network:
    network = open_network(path)
    if network.fingerprint != fingerprint:
        raise NetworkError(
            f"{path} must stay as it was written while work goes on, but it holds another network "
            "now. Start the work again."
        )
    return network.kept_at(path)
