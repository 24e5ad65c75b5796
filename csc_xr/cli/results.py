"""The command ``results``: tables and figures over many runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csc_xr.cli.terminal import app, print_rows
from csc_xr.errors import ParameterError

_MOST_SHOWN = 20


@app.command()
def results(
    folder: Annotated[Path, typer.Argument(help="Folder of results, with all folders in it.")],
    out: Annotated[Path, typer.Option(help="Folder for tables and figures.")],
    sample: Annotated[
        int | None,
        typer.Option(help="Pool so many pixels of each run and phase, drawn at random."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of that draw.")] = 0,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Also draw F1 against this column of f1.csv; give the option again for each."
        ),
    ] = None,
    reference: Annotated[
        bool,
        typer.Option(
            "--reference", help="Read CNN_*.csv and CSC_*.csv that the reference scripts wrote."
        ),
    ] = False,
    experiment: Annotated[
        str | None,
        typer.Option(help="With --reference: short name that the names of files end in."),
    ] = None,
) -> None:
    """Make tables and figures of the results of many runs: F1, front errors, margin errors.

    Reads the run records; images that a jointly trained network learned from are left out.
    """
    from csc_xr.results.collect import collect_results
    from csc_xr.results.files import summarise_runs, write_f1, write_results
    from csc_xr.results.reference import collect_reference_results

    if reference and sample is not None:
        raise ParameterError(
            "--sample draws from counts of pixels, which results of the reference do not hold. "
            "Leave it out."
        )
    if experiment is not None and not reference:
        raise ParameterError("--experiment goes with --reference. Leave it out.")
    if reference:
        table = collect_reference_results(folder, experiment=experiment)
        outputs = write_f1(table, out, by=by or ())
        typer.echo(f"{table['Run'].nunique()} runs, {table['Scene'].nunique()} scenes")
    else:
        found = collect_results(folder, sample=sample, seed=seed)
        outputs = write_results(found, out, by=by or ())
        table = summarise_runs(found)
        shown = table.head(_MOST_SHOWN).to_string(
            index=False, na_rep="", float_format="{:.1f}".format
        )
        typer.echo(shown.replace("<NA>", " " * len("<NA>")))  # whole numbers know no na_rep
        if len(table) > _MOST_SHOWN:
            typer.echo(f"and {len(table) - _MOST_SHOWN} more runs")
    typer.echo("")
    print_rows(outputs, width=max(map(len, outputs)) + 1)
