"""Styles of rasters, as text and as QGIS reads them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from rasterio.crs import CRS
from styles_for_tests import seen_by_qgis

from csc_xr.errors import LegendError, ParameterError
from csc_xr.export import (
    write_class_geotiff,
    write_flag_geotiff,
    write_float_geotiff,
    write_result_zarr,
)
from csc_xr.grid import place
from csc_xr.legend import GLACIER, ClassLegend, LegendClass
from csc_xr.raster_styles import class_raster_style, flag_raster_style, value_raster_style

NAMES = [[entry.name, entry.colour] for entry in GLACIER.classes]


def entries(qml: str, tag: str) -> list[dict[str, str]]:
    return [entry.attrib for entry in ElementTree.fromstring(qml).iter(tag)]  # noqa: S314


def test_classes_have_their_names_and_colours() -> None:
    found = entries(class_raster_style(GLACIER), "paletteEntry")
    assert [[entry["label"], entry["color"]] for entry in found] == NAMES
    assert [int(entry["value"]) for entry in found] == [entry.code for entry in GLACIER.classes]
    odd = ClassLegend("odd", [LegendClass(2, 'Ice & "snow" <old> ❄', "red")])
    (entry,) = entries(class_raster_style(odd), "paletteEntry")
    assert (entry["value"], entry["label"]) == ("2", 'Ice & "snow" <old> ❄')


@pytest.mark.parametrize("name", ["Ice\x01", "Snow\non ice", "\ud800"])
def test_names_that_no_style_can_hold_are_refused(name: str) -> None:
    with pytest.raises(LegendError, match="The name of a class must be text in one line, got"):
        LegendClass(1, name, "red")
    with pytest.raises(LegendError, match="The class of code 1 has no name"):
        LegendClass(1, " ", "red")


def test_values_run_from_0_to_the_highest() -> None:
    steps = entries(value_raster_style(2.0), "item")
    assert [float(steps[index]["value"]) for index in (0, -1)] == [0.0, 2.0]
    assert len({entry["color"] for entry in steps}) == len(steps)
    with pytest.raises(ParameterError, match="highest must be a number above 0, got 0"):
        value_raster_style(0)


def test_flags_have_two_entries() -> None:
    found = entries(flag_raster_style(("agree", "differ")), "paletteEntry")
    assert [(entry["value"], entry["label"]) for entry in found] == [
        ("0", "agree"),
        ("1", "differ"),
    ]


def test_qgis_opens_rasters_in_their_styles(tmp_path: Path) -> None:
    codes = np.repeat(np.repeat(np.arange(9, dtype=np.uint8), 4)[:, None], 36, axis=1)
    transform = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 7_400_000.0)
    classes = xr.DataArray(codes, dims=("y", "x"), name="pixel_class")
    classes = place(classes, transform, CRS.from_epsg(32624))
    write_class_geotiff(classes, tmp_path / "classes.tif", legend=GLACIER)
    write_float_geotiff((classes / 8).astype(np.float32), tmp_path / "values.tif")
    write_flag_geotiff(classes > 4, tmp_path / "flags.tif", labels=("agree", "differ"))
    write_result_zarr(classes.to_dataset(), tmp_path / "result.zarr")
    named, values, flags, stored = seen_by_qgis(
        *(str(tmp_path / f"{name}.tif") for name in ("classes", "values", "flags")),
        f'ZARR:"{tmp_path / "result.zarr"}":/pixel_class',
    )
    assert all(layer["valid"] and layer["crs"] == "EPSG:32624" for layer in (named, values, stored))
    assert (named["renderer"], named["symbols"]) == ("paletted", NAMES)
    assert all(named["drawn"][colour] > 1000 for _, colour in NAMES)
    drawn = [named["drawn"][colour] for _, colour in NAMES]
    assert sum(drawn) < 0.95 * 200 * 200  # nothing is drawn where there is no class
    assert values["renderer"] == "singlebandpseudocolor"
    assert values["middle"] == pytest.approx(0.5, abs=1e-4)  # scaled, not 5000
    assert len(values["drawn"]) >= 9
    assert flags["symbols"] == [["agree", "#d9d9d9"], ["differ", "#d7301f"]]
    assert stored["middle"] == named["middle"] == 4
