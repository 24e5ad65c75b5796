"""Class legends: the codes, names and colours a class raster speaks in."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csc_xr.errors import LegendError

NODATA_CODE = 0
"""Code of pixels without a class: unlabelled in labels, nodata in results."""

_NO_LETTERS = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories that styles and tables have no place for."""

_NAMED_COLOURS = {
    "black": "#000000",
    "blue": "#0000ff",
    "green": "#008000",
    "grey": "#808080",
    "lightblue": "#add8e6",
    "mintcream": "#f5fffa",
    "orange": "#ffa500",
    "red": "#ff0000",
    "white": "#ffffff",
    "yellow": "#ffff00",
}


@dataclass(frozen=True)
class LegendClass:
    """One class: its code in rasters, its name and its display colour.

    Attributes
    ----------
    code : int
        1 to 255; the class code is the index of the network output.
    name : str
        Shown in legends, tables and GeoTIFF category names.
    colour : str
        ``#rrggbb``, or one of a few CSS colour names.
    display_only : bool
        True for codes that results may show but networks never predict
        (a calving front drawn over the classes).
    """

    code: int
    name: str
    colour: str
    display_only: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.code, int) or isinstance(self.code, bool):
            raise LegendError(f"A class code must be an integer, got {self.code!r}.")
        if not 1 <= self.code <= 255:
            raise LegendError(
                f"A class code must lie in 1 to 255 (0 means no class), got {self.code}."
            )
        if not self.name.strip():
            raise LegendError(f"The class of code {self.code} has no name. Give it one.")
        if any(unicodedata.category(letter) in _NO_LETTERS for letter in self.name):
            raise LegendError(
                f"The name of a class must be text in one line, got {self.name!r}. "
                "Leave line breaks and control characters out."
            )
        object.__setattr__(self, "colour", _hex_colour(self.colour))

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Colour as red, green, blue, each 0 to 255."""
        return (int(self.colour[1:3], 16), int(self.colour[3:5], 16), int(self.colour[5:7], 16))


@dataclass(frozen=True)
class ClassLegend:
    """The classes of a classification, in order of their codes.

    Parameters
    ----------
    name : str
        What the legend is for, as shown in messages.
    classes : iterable of LegendClass
        At least one class; no code and no name twice.

    Raises
    ------
    LegendError
        When codes or names repeat, or there is no class.

    Examples
    --------
    >>> RIVER.codes
    (1, 2, 3, 4, 5)
    >>> RIVER.names[:2]
    ('Water', 'Dry Sediment')
    >>> GLACIER.n_outputs
    8
    """

    name: str
    classes: tuple[LegendClass, ...]

    def __init__(self, name: str, classes: Iterable[LegendClass]) -> None:
        ordered = tuple(sorted(classes, key=lambda entry: entry.code))
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "classes", ordered)
        if not self.predicted:
            raise LegendError(f"Legend {name!r} needs at least one class, got none.")
        for what in ("code", "name"):
            values = [getattr(entry, what) for entry in ordered]
            doubles = sorted({value for value in values if values.count(value) > 1})
            if doubles:
                raise LegendError(
                    f"Legend {name!r} must give each {what} to one class only, "
                    f"got {doubles} more than once. Remove or rename the copies."
                )

    @property
    def predicted(self) -> tuple[LegendClass, ...]:
        """Classes a network may predict: all but the display-only ones."""
        return tuple(entry for entry in self.classes if not entry.display_only)

    @property
    def codes(self) -> tuple[int, ...]:
        """Codes of the predicted classes, ascending."""
        return tuple(entry.code for entry in self.predicted)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the predicted classes, in order of their codes."""
        return tuple(entry.name for entry in self.predicted)

    @property
    def n_outputs(self) -> int:
        """Outputs of a network for this legend: the highest predicted code plus one."""
        return self.codes[-1] + 1

    def class_name(self, code: int) -> str:
        """Return the name of a code, ``"Unclassified"`` for 0.

        Parameters
        ----------
        code : int
            A code of this legend, or 0.

        Returns
        -------
        str
            Its name.

        Raises
        ------
        LegendError
            When the legend has no such code.
        """
        if code == NODATA_CODE:
            return "Unclassified"
        for entry in self.classes:
            if entry.code == code:
                return entry.name
        raise LegendError(f"Legend {self.name!r} has codes {self.codes}, got {code}.")

    def colour_table(self) -> dict[int, tuple[int, int, int, int]]:
        """Red, green, blue, alpha by code; code 0 is transparent black.

        Returns
        -------
        dict of int to tuple of int
            In the form GDAL colour tables take.
        """
        table = {NODATA_CODE: (0, 0, 0, 0)}
        table.update({entry.code: (*entry.rgb, 255) for entry in self.classes})
        return table

    def flag_attributes(self) -> dict[str, Any]:
        """CF attributes of a class raster: flag values, meanings and colours.

        Returns
        -------
        dict
            ``flag_values`` (list of int), ``flag_meanings`` and ``flag_colors``
            (blank-separated, blanks inside names become underscores).
            CF conventions 1.11, section 3.5.
        """
        return {
            "flag_values": [entry.code for entry in self.classes],
            "flag_meanings": " ".join(entry.name.replace(" ", "_") for entry in self.classes),
            "flag_colors": " ".join(entry.colour for entry in self.classes),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; :meth:`from_dict` reads them back.

        Returns
        -------
        dict
            Keys ``name`` and ``classes``.
        """
        rows: list[dict[str, Any]] = []
        for entry in self.classes:
            row: dict[str, Any] = {"code": entry.code, "name": entry.name, "colour": entry.colour}
            if entry.display_only:
                row["display_only"] = True
            rows.append(row)
        return {"name": self.name, "classes": rows}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ClassLegend:
        """Build a legend from plain values.

        Parameters
        ----------
        content : mapping
            As :meth:`to_dict` gives it.

        Returns
        -------
        ClassLegend
            The legend.

        Raises
        ------
        LegendError
            When keys are missing or values are not usable.
        """
        try:
            rows = [
                LegendClass(
                    code=_integer_code(row["code"]),
                    name=str(row["name"]),
                    colour=str(row["colour"]),
                    display_only=bool(row.get("display_only", False)),
                )
                for row in content["classes"]
            ]
            name = str(content.get("name", "user legend"))
        except (KeyError, TypeError, AttributeError) as error:
            raise LegendError(
                "A legend needs a list 'classes' whose entries have 'code', 'name' and "
                f"'colour', got {_shortened(content)}."
            ) from error
        return cls(name, rows)


def open_legend(source: str | Path | ClassLegend) -> ClassLegend:
    """Read a legend by name or from a file.

    Parameters
    ----------
    source : str, Path or ClassLegend
        ``"glacier"``, ``"river"``, or the path of a JSON file (``name`` and ``classes``,
        each with ``code``, ``name``, ``colour``) or a CSV file with the columns
        ``code,name,colour``. A legend is returned as it is.

    Returns
    -------
    ClassLegend
        The legend.

    Raises
    ------
    LegendError
        When there is no such name or file, or its content is not a legend.
    """
    if isinstance(source, ClassLegend):
        return source
    known = {"glacier": GLACIER, "river": RIVER}
    if str(source).lower() in known:
        return known[str(source).lower()]
    path = Path(source)
    if not path.is_file():
        raise LegendError(
            f"A legend is 'glacier', 'river' or a JSON or CSV file, got {str(source)!r}, "
            "which is none of these. Check the path."
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            rows = list(csv.DictReader(text.splitlines(), skipinitialspace=True))
            return ClassLegend.from_dict({"name": path.stem, "classes": rows})
        return ClassLegend.from_dict({"name": path.stem, **json.loads(text)})
    except (UnicodeDecodeError, json.JSONDecodeError, TypeError) as error:
        raise LegendError(
            f"{path} must be a JSON or CSV legend, but cannot be read as one: {error}."
        ) from error


def _integer_code(value: object) -> int:
    try:
        code = int(str(value))
    except ValueError as error:
        raise LegendError(f"A class code must be an integer, got {value!r}.") from error
    return code


def _hex_colour(colour: str) -> str:
    text = _NAMED_COLOURS.get(colour.strip().lower(), colour.strip().lower())
    digits = text.removeprefix("#")
    if text.startswith("#") and len(digits) == 6 and all(c in "0123456789abcdef" for c in digits):
        return text
    raise LegendError(
        f"A class colour must be #rrggbb or one of {', '.join(_NAMED_COLOURS)}, got {colour!r}."
    )


def _shortened(content: object, length: int = 80) -> str:
    text = repr(content)
    return text if len(text) <= length else text[: length - 3] + "..."


GLACIER = ClassLegend(
    "glacier",
    [
        LegendClass(1, "Open Water", "#03719c"),
        LegendClass(2, "Iceberg Water", "#06b1c4"),
        LegendClass(3, "Mélange", "#6fe1e5"),
        LegendClass(4, "Glacier Ice", "#b9ebee"),
        LegendClass(5, "Snow on Ice", "mintcream"),
        LegendClass(6, "Snow on Rock", "#c9c9c9"),
        LegendClass(7, "Bedrock", "#775b5a"),
        LegendClass(8, "Calving Front", "red", display_only=True),
    ],
)
"""Marine-terminating glaciers (Marochov et al. 2021, The Cryosphere 15:5041-5059)."""

RIVER = ClassLegend(
    "river",
    [
        LegendClass(1, "Water", "lightblue"),
        LegendClass(2, "Dry Sediment", "orange"),
        LegendClass(3, "Green Vegetation", "green"),
        LegendClass(4, "Senescent Vegetation", "yellow"),
        LegendClass(5, "Paved Road", "red"),
    ],
)
"""Rivers (Carbonneau et al. 2020, Remote Sensing of Environment 251:112107)."""
