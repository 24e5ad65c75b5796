"""What a training begins with: a new network, a user's own, or one trained before."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple, get_args

import xarray as xr

from csc_xr.errors import CscWarning, NetworkError, ParameterError, TileError
from csc_xr.networks.applications import Application
from csc_xr.networks.builders import LEARNING_RATES, TileArchitecture, build_tile_network
from csc_xr.networks.bundle import Network, open_network
from csc_xr.networks.initial import copy_weights, load_application_weights
from csc_xr.networks.outputs import continued
from csc_xr.networks.runtime import keras
from csc_xr.tiles.layout import band_names, tile_legend, tile_size

GOING_ON_RATE = 1e-5
"""Learning rate of a training that goes on from a network."""

_OWN_RATE = 1e-3


class Beginning(NamedTuple):
    """A network before its first step.

    Attributes
    ----------
    model : keras.Model
        One output for each code of the tiles' legend up to the highest.
    learning_rate : float
        What suits it.
    facts : dict
        Architecture and where the weights come from: values that JSON can hold.
    """

    model: keras.Model
    learning_rate: float
    facts: dict[str, Any]


def begin_network(
    tiles: xr.Dataset,
    network: TileArchitecture | keras.Model | Network,
    *,
    weights: str | Path | None,
    seed: int,
) -> Beginning:
    """Make, or take over, the network that is to learn some tiles.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles; their size, bands and legend decide inputs and outputs.
    network : str, keras.Model or Network
        An architecture, a model of the user's own, or a trained tile network to go on from.
    weights : str or Path, optional
        First weights for an architecture: a ``.keras`` file of a tile network of the same one
        (of other classes, all but its output layer), or for a Keras application the ``.h5``
        file of its weights without top.
    seed : int
        Of the first weights.

    Returns
    -------
    Beginning
        The model; a trained network is copied, a model of the user's own is not.

    Raises
    ------
    ParameterError
        When the architecture is unknown, or weights are given for what takes none or others.
    TileError
        When a trained network was made for tiles of another size, bands or scale.
    NetworkError
        When a model takes other tiles, or its outputs are not those of the legend.
    """
    if not isinstance(network, (Network, keras.Model)):
        return _new(tiles, network, weights, seed)
    if weights is not None:
        raise ParameterError(
            f"First weights are for an architecture, {', '.join(LEARNING_RATES)}, but the "
            f"network given has weights already, got {weights}. Leave one of them out."
        )
    return _go_on(tiles, network, seed) if isinstance(network, Network) else _own(tiles, network)


def _new(
    tiles: xr.Dataset, architecture: TileArchitecture, weights: str | Path | None, seed: int
) -> Beginning:
    model = build_tile_network(
        architecture,
        tile_size=tile_size(tiles),
        n_bands=len(band_names(tiles)),
        n_outputs=tile_legend(tiles).n_outputs,
        seed=seed,
    )
    facts: dict[str, Any] = {"architecture": architecture, "first_weights": "random"}
    if weights is not None:
        facts |= _give_weights(model, Path(weights), architecture, tiles)
    return Beginning(model, LEARNING_RATES[architecture], facts)


def _give_weights(
    model: keras.Model, path: Path, architecture: TileArchitecture, tiles: xr.Dataset
) -> dict[str, Any]:
    """Give first weights from a file; say what it was."""
    if path.suffix == ".keras":
        source = open_network(path)
        _check_scale(source, tiles)
        copy_weights(source, model, bands=band_names(tiles), legend=tile_legend(tiles))
        return {
            "first_weights": source.fingerprint,
            "first_learned_scenes": _learned_scenes(source),
        }
    if architecture not in get_args(Application):
        raise ParameterError(
            f"Weights of a Keras application are for one of {', '.join(get_args(Application))}, "
            f"got {path.name} for {architecture!r}. Pass a .keras file, or another network."
        )
    load_application_weights(model, path, architecture=architecture, bands=band_names(tiles))
    return {"first_weights": path.name}


def _own(tiles: xr.Dataset, model: keras.Model) -> Beginning:
    size, bands = tile_size(tiles), band_names(tiles)
    wanted = (size, size, len(bands)), (tile_legend(tiles).n_outputs,)
    came = tuple(model.input_shape[1:]), tuple(model.output_shape[1:])
    if came not in (wanted, ((None, None, len(bands)), wanted[1])):
        raise NetworkError(
            f"A model for these tiles must take (n, {size}, {size}, {len(bands)}) and give "
            f"(n, {wanted[1][0]}), an output for each code of the legend from 0 on, got a model "
            f"that takes {model.input_shape} and gives {model.output_shape}."
        )
    return Beginning(model, _OWN_RATE, {"architecture": model.name, "first_weights": "the model's"})


def _go_on(tiles: xr.Dataset, network: Network, seed: int) -> Beginning:
    card = network.card
    facts = {
        "kind": (card.kind, "tile"),
        "tile size": (card.size, tile_size(tiles)),
        "band names": (", ".join(card.bands), ", ".join(band_names(tiles))),
    }
    for what, (trained, given) in facts.items():
        if trained != given:
            raise TileError(
                f"Training goes on with tiles like those the network was made for: its {what}: "
                f"{trained}, that of the tiles: {given}. Cut tiles that fit, or begin a new one."
            )
    _check_scale(network, tiles)
    noted = tiles.attrs.get("class_key")
    model, kept = continued(
        network,
        legend=tile_legend(tiles),
        local_classes=None if noted is None else noted["codes"],
        seed=seed,
    )
    if not kept:
        warnings.warn(
            f"The network was trained on other classes ({card.legend.name}) than those of the "
            f"tiles ({tile_legend(tiles).name}): its output layer is replaced by a new one.",
            CscWarning,
            stacklevel=3,
        )
    return Beginning(
        model,
        GOING_ON_RATE,
        {
            "architecture": card.provenance.get("architecture", network.model.name),
            "first_weights": network.fingerprint,
            "output_layer": "kept" if kept else "new",
            "first_learned_scenes": _learned_scenes(network),
        },
    )


def _check_scale(network: Network, tiles: xr.Dataset) -> None:
    # a network without a scale of its own takes that of the scenes
    if network.card.scale not in (None, tiles.attrs["scale"]):
        raise TileError(
            f"Training goes on with tiles like those the network was made for: its scale: "
            f"{network.card.scale:g}, that of the tiles: {tiles.attrs['scale']:g}. "
            "Cut tiles that fit, or begin a new one."
        )


def _learned_scenes(network: Network) -> list[str]:
    """Names of all scenes a network has learned from, also before it was trained on."""
    facts = network.card.provenance
    return sorted({*facts.get("learned_scenes", []), *facts.get("first_learned_scenes", [])})
