"""The command ``report``: one page of HTML about runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csc_xr.cli.terminal import app


@app.command()
def report(
    path: Annotated[
        Path, typer.Argument(help="Folder of results, of many runs, or one <name>_run.json.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Page to write (default: report.html in the folder).")
    ] = None,
    max_side: Annotated[
        int | None,
        typer.Option(help="Longest side in pixels of the finest pictures (default: full size)."),
    ] = None,
    max_scenes: Annotated[
        int, typer.Option(help="So many scenes to look at; the others are tables only.")
    ] = 50,
) -> None:
    """Write one self-contained HTML page: scores, figures, run records, and the scenes as a map."""
    from csc_xr.progress import stage_progress
    from csc_xr.report.content import bytes_words
    from csc_xr.report.page import write_report

    with stage_progress(f"report on {path}") as (timer, progress):
        page = write_report(
            path, out, max_side=max_side, max_scenes=max_scenes, timer=timer, progress=progress
        )
    size = page.stat().st_size
    typer.echo(f"wrote {page} ({bytes_words(size)})")
    if size > _LARGE:
        typer.echo("Browsers open such a page slowly: --max-side 4000 makes it smaller.", err=True)


_LARGE = 300e6
