"""The terminal: the application, how it ends, and what it prints."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from csc_xr.cli.wording import as_options
from csc_xr.errors import CscError, CscWarning

if TYPE_CHECKING:
    import pandas as pd

    from csc_xr.runs.scene import RunResult

app = typer.Typer(
    help="CNN-Supervised Classification of imagery of any size.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
model_app = typer.Typer(help="Look at networks and convert them.", no_args_is_help=True)
app.add_typer(model_app, name="model")

BAD_INPUT = 2
"""Exit code for input that cannot be used."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

PHASES = {"tile_class": "phase one, tiles", "pixel_class": "phase two, pixels"}


def main() -> None:
    """Run the command line; errors csc_xr raises on purpose are one message and exit code 2."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", CscWarning)
        warnings.showwarning = _print_warning  # type: ignore[assignment]  # called by position
        try:
            app(prog_name="csc-xr")
        except CscError as error:
            print_error(error)
            sys.exit(BAD_INPUT)
        except SystemExit as end:
            if end.code == INTERRUPTED:
                typer.secho("csc-xr: interrupted; what was finished is kept.", fg="red", err=True)
                _leave(INTERRUPTED)
            raise


def _leave(code: int) -> None:
    """End at once: threads that still compute would write into folders already removed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def print_error(error: CscError) -> None:
    """Print what went wrong."""
    typer.secho(f"csc-xr: {_worded(str(error))}", fg="red", err=True)


def _worded(message: str) -> str:
    return as_options(message, typer.main.get_command(app), sys.argv[1:])


def print_outcomes(
    sizes: Mapping[str, int], client: Any, start: Callable[[Any], Iterator[Any]]
) -> list[str]:
    """Run scenes, show how far they are, print what comes of each; give the names that failed.

    ``sizes`` are pixels by name; ``start`` takes what watches a scene that is done here.
    """
    from csc_xr.progress import scenes_progress, stage_progress
    from csc_xr.runs.cluster import watching_cluster
    from csc_xr.runs.spread import Failure

    numbers = {name: number for number, name in enumerate(sizes, 1)}

    def watch(name: str, pixels: int) -> Any:
        return stage_progress(f"{name} ({numbers[name]} of {len(sizes)})", pixels=pixels)

    failed = []
    with ExitStack() as shown:
        tell: Any = None
        chosen: Any = watch
        if client is not None:
            tell = shown.enter_context(scenes_progress(len(sizes), 2 * sum(sizes.values())))
            shown.enter_context(watching_cluster(client, tell.pixels_done))
            chosen = None
        for outcome in start(chosen):
            if tell is not None:
                tell.scene_done()
            if isinstance(outcome, Failure):
                _print_failure(outcome.name, outcome.message)
                failed.append(outcome.name)
            else:
                print_result(outcome)
    return failed


def _print_failure(name: str, message: str) -> None:
    where = "" if name in message else f"{name}: "
    typer.secho(f"csc-xr: {where}{_worded(quoted(message))}", fg="red", err=True)


def quoted(message: str) -> str:
    """Give the last line of a traceback, and any other message as it is."""
    return message.strip().splitlines()[-1] if message.startswith("Traceback") else message


def _print_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, CscWarning):
        typer.secho(f"csc-xr: note: {_worded(str(message))}", fg="yellow", err=True)


def print_result(result: RunResult) -> None:
    """Print the scores of a scene, its files, and what it cost."""
    if result.kept:
        typer.echo(f"{result.name} is done already: {near(result.outputs['record'])}\n")
        return
    typer.secho(result.name, bold=True)
    print_scores(result.scores)
    seconds = sum(result.record.stage_seconds.values())
    peak = result.record.peak_memory_bytes / 1e9
    took = f"{seconds:.1f} s, at most {peak:.2f} GB of memory"
    print_rows({**finding_rows(result.record.findings), **result.outputs, "took": took}, width=15)
    typer.echo("")


def finding_rows(findings: Mapping[str, Any]) -> dict[str, str]:
    """Say what became of the front, and how far it lies from what was digitised."""
    rows = {}
    if "front" in findings:
        rows["front"] = f"{findings['front']['outcome']}. {findings['front']['reason']}"
    for role in ("front_error", "margin_error"):
        if role in findings:
            rows[role.replace("_", " ")] = _deviation_sentence(findings[role])
    return rows


def _deviation_sentence(figures: Mapping[str, Any]) -> str:
    if not figures["count"]:
        return "nothing was found to measure"
    return (
        f"median {figures['median_m']:.1f} m, mean {figures['mean_m']:.1f} m, "
        f"{100 * figures['share_under_100_m']:.0f} % under 100 m"
    )


def print_scores(scores: dict[str, pd.DataFrame]) -> None:
    """Print a table for each phase."""
    for phase, report in scores.items():
        typer.echo(f"\n{PHASES.get(phase, phase)}")
        typer.echo(report.round(3).to_string(index=False, na_rep=""))
    if scores:
        typer.echo("")


def print_rows(rows: Mapping[str, Any], *, width: int = 12) -> None:
    """Print names and values, a row each."""
    for name, value in rows.items():
        shown = near(value) if isinstance(value, Path) else value
        typer.echo(f"{name:{width}} {shown}")


def near(path: Path) -> Path:
    """Name a file below the current folder from there, as it was most likely given."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
