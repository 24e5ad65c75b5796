"""Commands that score a class raster and show what the method does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from csc_xr.cli.terminal import app, print_result, print_scores, quiet_start

if TYPE_CHECKING:
    import pandas as pd


@app.command()
def evaluate(
    classes: Annotated[
        Path, typer.Argument(help="Class raster to score: GeoTIFF, PNG or a result's .zarr.")
    ],
    labels: Annotated[Path, typer.Argument(help="Label raster of the same place.")],
    legend: Annotated[str, typer.Option(help="'glacier', 'river', or a JSON or CSV file.")],
    out: Annotated[Path | None, typer.Option(help="CSV file for the scores.")] = None,
) -> None:
    """Score an existing class raster against labels."""
    from csc_xr.accuracy.confusion import confusion_matrix
    from csc_xr.accuracy.scores import classification_report
    from csc_xr.export import open_classes, write_table_csv
    from csc_xr.labels import open_labels
    from csc_xr.legend import open_legend

    known = open_legend(legend)
    rasters = open_classes(classes)
    reports = {}
    for name, raster in rasters.items():
        digitised = open_labels(labels, like=raster.expand_dims(band=["class"]), legend=known)
        reports[name] = classification_report(confusion_matrix(digitised, raster, legend=known))
    if out is not None:
        write_table_csv(_one_table(reports), out)
    print_scores(reports)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("csc_xr_demo"),
    seed: Annotated[int, typer.Option(help="Another seed makes another fjord.")] = 7,
) -> None:
    """Classify a generated fjord with the network that ships with the package."""
    with quiet_start():
        from csc_xr.demo import open_demo_network, run_demo
        from csc_xr.progress import stage_progress

        open_demo_network()  # TensorFlow looks for devices when the first network is made

    rows, columns = 1200, 1600
    with stage_progress(f"demo fjord {seed}", pixels=rows * columns) as (timer, fit_progress):
        result = run_demo(
            out, seed=seed, shape=(rows, columns), timer=timer, fit_progress=fit_progress
        )
    print_result(result)


def _one_table(reports: dict[str, pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    if len(reports) == 1:
        return next(iter(reports.values()))
    return pd.concat(reports, names=["Phase", None]).reset_index(level=0)
