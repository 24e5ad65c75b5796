"""What a network needs besides its weights: bands, scale, size, and what its outputs mean."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Literal, get_args

from csc_xr.errors import LegendError, NetworkError
from csc_xr.legend import GLACIER, NODATA_CODE, RIVER, ClassLegend

Kind = Literal["tile", "patch"]

_BANDS_BY_COUNT = {3: ("red", "green", "blue"), 4: ("red", "green", "blue", "nir")}
# 4 outputs: the river classes water, dry sediment and green vegetation alone.
_LEGEND_BY_OUTPUTS = {4: RIVER, RIVER.n_outputs: RIVER, GLACIER.n_outputs: GLACIER}


@dataclass(frozen=True, kw_only=True)
class NetworkCard:
    """What using a network needs besides its weights.

    Attributes
    ----------
    kind : {"tile", "patch"}
        Phase one (a class for each tile) or phase two (a class for the centre of a patch).
    bands : tuple of str
        Names of the bands the network sees, in order.
    scale : float or None
        Divisor between pixel values and what the network sees; None takes the scene's own
        scale, which follows from its data type.
    size : int
        Tile or patch size in pixels; a patch size is odd.
    legend : ClassLegend
        Classes of the results.
    codes : tuple of int
        Class code that each output stands for: different codes of the legend, or 0 for outputs
        that are never predicted. Left out, output i stands for code i, if the legend has it.
    provenance : mapping
        Where the network comes from (data, settings, scores): JSON values.

    Raises
    ------
    NetworkError
        When a value cannot be used, or the values contradict each other.

    Examples
    --------
    >>> card = NetworkCard(kind="tile", bands=("red", "green"), size=50, legend=GLACIER)
    >>> card.codes
    (0, 1, 2, 3, 4, 5, 6, 7)
    >>> NetworkCard.from_dict(card.to_dict()) == card
    True
    """

    kind: Kind
    bands: tuple[str, ...]
    size: int
    legend: ClassLegend
    scale: float | None = None
    codes: tuple[int, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise NetworkError(f"The kind of a network is 'tile' or 'patch', got {self.kind!r}.")
        if not isinstance(self.legend, ClassLegend):
            raise NetworkError(
                f"A network card needs a ClassLegend as legend, got {self.legend!r}. "
                "open_legend reads one by name or from a file."
            )
        values = {
            "bands": band_names(self.bands),
            "scale": None if self.scale is None else _checked_scale(self.scale),
            "size": _checked_size(self.size, self.kind),
            "codes": _checked_codes(tuple(self.codes) or _default_codes(self.legend), self.legend),
            "provenance": _checked_provenance(self.provenance),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def check_outputs(self, n_outputs: int) -> None:
        """Check that a network has an output for every code of this card, and no more.

        Parameters
        ----------
        n_outputs : int
            Outputs of the network.

        Raises
        ------
        NetworkError
            When the numbers differ.
        """
        if n_outputs != len(self.codes):
            raise NetworkError(
                f"The card gives codes for {len(self.codes)} outputs {self.codes}, the network "
                f"has {n_outputs}. Pass codes= with the class code of each output."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; :meth:`from_dict` reads them back.

        Returns
        -------
        dict
            One key for each attribute.
        """
        return {
            "kind": self.kind,
            "bands": list(self.bands),
            "scale": self.scale,
            "size": self.size,
            "legend": self.legend.to_dict(),
            "codes": list(self.codes),
            "provenance": json.loads(json.dumps(self.provenance)),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> NetworkCard:
        """Build a card from plain values.

        Parameters
        ----------
        content : mapping
            As :meth:`to_dict` gives it.

        Returns
        -------
        NetworkCard
            The card.

        Raises
        ------
        NetworkError
            When keys are missing or values cannot be used.
        """
        try:
            return cls(
                kind=content["kind"],
                bands=content["bands"],
                scale=content["scale"],
                size=content["size"],
                legend=ClassLegend.from_dict(content["legend"]),
                codes=content["codes"],
                provenance=content.get("provenance", {}),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise NetworkError(
                "A network card needs kind, bands, scale, size, legend and codes, "
                f"got {content!r:.80}: {type(error).__name__} {error}."
            ) from error
        except LegendError as error:
            raise NetworkError(f"The legend of a network card cannot be used: {error}") from error


def band_names(bands: Iterable[str]) -> tuple[str, ...]:
    """Check the names of a network's bands.

    Parameters
    ----------
    bands : iterable of str
        One or more different names, in order.

    Returns
    -------
    tuple of str
        The names.

    Raises
    ------
    NetworkError
        When there is none, one is given twice, or something is no name.

    Examples
    --------
    >>> band_names(["red", "nir"])
    ('red', 'nir')
    """
    names = () if isinstance(bands, str) else tuple(bands)
    usable = all(isinstance(name, str) and name.strip() for name in names)
    if not names or not usable or len(set(names)) != len(names):
        raise NetworkError(
            f"The bands of a network are one or more different names, got {bands!r}."
        )
    return names


def infer_card(
    *,
    kind: Kind,
    size: int,
    n_bands: int,
    n_outputs: int,
    bands: Iterable[str] | None = None,
    scale: float | None = None,
    legend: ClassLegend | None = None,
    codes: Iterable[int] | None = None,
) -> NetworkCard:
    """Make the card of a network that came without one.

    Parameters
    ----------
    kind : {"tile", "patch"}
        Phase one or phase two.
    size : int
        Tile or patch size in pixels.
    n_bands : int
        Bands the network takes.
    n_outputs : int
        Outputs it has.
    bands : iterable of str, optional
        Their names; left out, 3 bands are red, green, blue and a fourth is nir.
    scale : float, optional
        Divisor of pixel values; left out, the scene's own.
    legend : ClassLegend, optional
        Classes; left out, 8 outputs are the glacier legend, 6 the river legend, and 4 the
        first three classes of the river legend.
    codes : iterable of int, optional
        Class code of each output; left out, output i stands for code i.

    Returns
    -------
    NetworkCard
        The card; its provenance is empty.

    Raises
    ------
    NetworkError
        When something left out cannot be told, or what was given does not fit the network.

    Examples
    --------
    >>> card = infer_card(kind="tile", size=50, n_bands=3, n_outputs=4)
    >>> card.legend.name, card.codes, card.bands
    ('river', (0, 1, 2, 3), ('red', 'green', 'blue'))
    """
    if bands is None and n_bands not in _BANDS_BY_COUNT:
        raise NetworkError(
            f"Band names are known for networks of 3 or 4 bands, this one takes {n_bands}. "
            "Pass bands= with their names, in order."
        )
    if legend is None and n_outputs not in _LEGEND_BY_OUTPUTS:
        raise NetworkError(
            f"The legend is known for networks of {sorted(_LEGEND_BY_OUTPUTS)} outputs, this one "
            f"has {n_outputs}. Pass legend=, and codes= unless output i stands for code i."
        )
    if legend is not None and codes is None and legend.n_outputs != n_outputs:
        raise NetworkError(
            f"A network for legend {legend.name!r} has {legend.n_outputs} outputs, this one has "
            f"{n_outputs}. Pass the legend it was trained for, or codes= with the class code of "
            "each output."
        )
    chosen = _LEGEND_BY_OUTPUTS[n_outputs] if legend is None else legend
    card = NetworkCard(
        kind=kind,
        bands=band_names(_BANDS_BY_COUNT[n_bands] if bands is None else bands),
        scale=scale,
        size=size,
        legend=chosen,
        codes=_default_codes(chosen)[:n_outputs] if codes is None else tuple(codes),
    )
    card.check_outputs(n_outputs)
    return card


def _default_codes(legend: ClassLegend) -> tuple[int, ...]:
    return tuple(code if code in legend.codes else 0 for code in range(legend.n_outputs))


def _checked_scale(scale: float) -> float:
    number = isinstance(scale, Real) and not isinstance(scale, bool)
    if not number or not math.isfinite(scale) or scale <= 0:
        raise NetworkError(
            f"The scale of a network is a positive number, or None for the scene's own, "
            f"got {scale!r}."
        )
    return float(scale)


def _checked_size(size: int, kind: Kind) -> int:
    if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
        raise NetworkError(f"The size of a network is a number of pixels, 1 or more, got {size!r}.")
    if kind == "patch" and size % 2 == 0:
        raise NetworkError(
            f"A patch size is odd, so that a patch has a pixel at its centre, got {size}."
        )
    return int(size)


def _checked_codes(codes: Iterable[int], legend: ClassLegend) -> tuple[int, ...]:
    given = tuple(codes)
    if any(not isinstance(code, Integral) or isinstance(code, bool) for code in given):
        raise NetworkError(f"The codes of a network's outputs are integers, got {given}.")
    known = {NODATA_CODE, *legend.codes}
    classes = [code for code in given if code != NODATA_CODE]
    if len(set(classes)) != len(classes) or not known.issuperset(given) or not classes:
        raise NetworkError(
            f"Each output stands for another code of legend {legend.name!r} {legend.codes} "
            f"or for 0 (never predicted), got codes {given}. Pass codes= or the right legend."
        )
    return tuple(int(code) for code in given)


def _checked_provenance(provenance: Mapping[str, Any]) -> dict[str, Any]:
    try:
        content = json.loads(json.dumps(dict(provenance), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise NetworkError(
            f"The provenance of a network is a mapping of JSON values, got {provenance!r:.80}: "
            f"{error}."
        ) from error
    return dict(content)
