"""What a run writes for other software: rasters, their styles, and the STAC item."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from csc_xr.export import (
    style_path,
    write_class_geotiff,
    write_class_png,
    write_flag_geotiff,
    write_float_geotiff,
)
from csc_xr.files import write_json
from csc_xr.grid import is_georeferenced
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.record import RunRecord, fingerprint
from csc_xr.runs.jobs import Job
from csc_xr.stac_item import ITEM_END, scene_item
from csc_xr.workflow import OUTPUTS

DISAGREEMENT_LABELS = ("Both phases agree", "The phases differ")
"""What 0 and 1 mean in the raster ``disagreement``."""


def write_rasters(
    result: xr.Dataset, folder: Path, job: Job, *, legend: ClassLegend
) -> dict[str, Path]:
    """Write the rasters other software reads. Computes.

    Parameters
    ----------
    result : xarray.Dataset
        Classes and other outputs of one scene.
    folder : Path
        Where they go.
    job : Job
        Gives the name, and whether the scene has a place on the map.
    legend : ClassLegend
        The classes.

    Returns
    -------
    dict of str to Path
        Files by role.
    """
    classes = result["pixel_class"]
    if not is_georeferenced(job.scene):
        outputs = {"classes": folder / f"{job.name}_classified.png"}
        write_class_png(classes, outputs["classes"], legend=legend)
        return outputs | {"classes style": style_path(outputs["classes"])}
    outputs = {"classes": folder / f"{job.name}_classified.tif"}
    write_class_geotiff(classes, outputs["classes"], legend=legend)
    for name in OUTPUTS:
        if name not in result:
            continue
        outputs[name] = folder / f"{job.name}_{name}.tif"
        if name == "disagreement":
            both = classes.where(result["tile_class"] != NODATA_CODE, np.uint8(NODATA_CODE))
            write_flag_geotiff(
                result[name], outputs[name], labels=DISAGREEMENT_LABELS, class_raster=both
            )
        else:
            values = result[name]
            if "class" in values.dims:  # each band is called after its class
                codes = values["class"].values.tolist()
                values = values.assign_coords({"class": [legend.class_name(c) for c in codes]})
            highest, unit = 1.0, "1"
            if name == "entropy":  # which is 0 everywhere if there is one class
                highest, unit = float(np.log(max(2, len(legend.codes)))), "nat"
            write_float_geotiff(
                values, outputs[name], class_raster=classes, unit=unit, highest=highest
            )
    return outputs | {f"{role} style": style_path(path) for role, path in outputs.items()}


def write_item(
    job: Job,
    outputs: Mapping[str, Path],
    record: RunRecord,
    *,
    legend: ClassLegend,
    facts: Mapping[str, Any],
) -> dict[str, Path]:
    """Write the STAC item of a scene, if it is known when the scene was taken.

    Parameters
    ----------
    job : Job
        The scene.
    outputs : mapping of str to Path
        Files written, by role, among them the ``record``, beside which the item goes.
    record : RunRecord
        The run so far.
    legend : ClassLegend
        The classes.
    facts : mapping
        What else the item says of the run.

    Returns
    -------
    dict of str to Path
        ``item``, or nothing: STAC knows no item without a date.
    """
    path = outputs["record"].with_name(f"{job.name}{ITEM_END}")
    said = {
        "patch_size": record.parameters["patch_size"],
        "network": record.parameters["network"]["name"],
        "fingerprint": fingerprint(record.identity),
        **facts,
    }
    item = scene_item(
        job.name, job.scene, outputs, folder=path.parent, legend=legend, record=record, facts=said
    )
    if item is None:
        path.unlink(missing_ok=True)  # of an earlier run, whose scene had a date
        return {}
    write_json(item, path)
    return {"item": path}
