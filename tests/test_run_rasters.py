"""What a run writes for other software, beside its store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasters_for_tests import NORTH_UP

from csc_xr.grid import place
from csc_xr.legend import GLACIER, ClassLegend
from csc_xr.record import start_record
from csc_xr.runs.jobs import Job
from csc_xr.runs.rasters import write_item, write_rasters

ONE_CLASS = ClassLegend("one", GLACIER.predicted[:1])


def job_with(outputs: dict[str, np.ndarray]) -> tuple[Job, xr.Dataset]:
    """Give a scene of 6 x 8 pixels, and a result with class 1 and these outputs."""
    ones = np.ones((6, 8), np.uint8)
    held = {
        name: (("class", "y", "x")[-values.ndim :], values)
        for name, values in {"tile_class": ones, "pixel_class": ones, **outputs}.items()
    }
    result = place(xr.Dataset(held), NORTH_UP, "EPSG:32633")
    scene = xr.DataArray(np.ones((3, 6, 8), np.uint8), dims=("band", "y", "x"))
    return Job("fjord_20210715", place(scene, NORTH_UP, "EPSG:32633")), result


def test_bands_of_probability_are_called_after_the_classes_a_scene_has(tmp_path: Path) -> None:
    shares = np.stack([np.full((6, 8), 0.75, np.float32), np.full((6, 8), 0.25, np.float32)])
    job, result = job_with({"probability": shares})
    result = result.assign_coords({"class": [1, 4]})
    outputs = write_rasters(result, tmp_path, job, legend=GLACIER)
    with rasterio.open(outputs["probability"]) as file:
        assert file.descriptions == ("Open Water", "Glacier Ice")
        assert file.read()[:, 0, 0].tolist() == [7500, 2500]


@pytest.mark.parametrize(("legend", "highest"), [(GLACIER, np.log(7)), (ONE_CLASS, np.log(2))])
def test_colours_of_entropy_reach_what_the_classes_allow(
    legend: ClassLegend, highest: float, tmp_path: Path
) -> None:
    """Of one class it is 0, which is no range for colours."""
    job, result = job_with({"entropy": np.zeros((6, 8), np.float32)})
    outputs = write_rasters(result, tmp_path, job, legend=legend)
    style = outputs["entropy style"].read_text(encoding="utf-8")
    assert f'maximumValue="{highest:.6g}"' in style


def test_the_item_of_an_earlier_run_goes_with_its_date(tmp_path: Path) -> None:
    job, result = job_with({})
    job = replace(job, name="fjord", scene=job.scene.assign_coords(time=np.datetime64(0, "ns")))
    outputs = write_rasters(result, tmp_path, job, legend=GLACIER)
    outputs["record"] = tmp_path / "fjord_run.json"
    record = start_record(
        parameters={"patch_size": 7, "network": {"name": None}}, seed=3, networks={}, identity={}
    )
    for when, found in ((job.scene, ["item"]), (job.scene.drop_vars("time"), [])):
        dated = replace(job, scene=when)
        made = write_item(dated, outputs, record, legend=GLACIER, facts={})
        assert list(made) == found
        assert len(list(tmp_path.glob("*_item.json"))) == len(found)
