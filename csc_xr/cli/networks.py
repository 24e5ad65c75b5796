"""Commands about networks: convert one, look at one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from csc_xr.cli.options import BandNames, LegendName, integers, words
from csc_xr.cli.terminal import model_app, print_rows

ModelScale = Annotated[float | None, typer.Option(help="Divisor of pixel values.")]
WindowSize = Annotated[int | None, typer.Option(help="Tile or patch size in pixels.")]
Codes = Annotated[str | None, typer.Option(help="Class code of each output: 0,1,2.")]
Kind = Annotated[str | None, typer.Option(help="tile or patch (default: the file's, or tile).")]


@model_app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Legacy .h5 or card-less .keras file.")],
    target: Annotated[Path, typer.Argument(help=".keras file to write.")],
    kind: Kind = None,
    bands: BandNames = None,
    scale: ModelScale = None,
    size: WindowSize = None,
    legend: LegendName = None,
    codes: Codes = None,
) -> None:
    """Write a network as .keras with its card: bands, scale, size and legend."""
    from csc_xr.networks.bundle import save_network

    network = _open_any(source, kind, bands, scale, size, legend, codes)
    save_network(network, target)
    typer.echo(f"wrote {target}")


@model_app.command()
def info(
    source: Annotated[Path, typer.Argument(help=".keras or .h5 file.")],
    kind: Kind = None,
    bands: BandNames = None,
    scale: ModelScale = None,
    size: WindowSize = None,
    legend: LegendName = None,
    codes: Codes = None,
) -> None:
    """Print what a network is and needs."""
    network = _open_any(source, kind, bands, scale, size, legend, codes)
    card = network.card
    rows = {
        "kind": card.kind,
        "bands": ", ".join(card.bands),
        "scale": "the scene's own" if card.scale is None else card.scale,
        "size": f"{card.size} px",
        "legend": card.legend.name,
        "classes": ", ".join(f"{c} {card.legend.class_name(c)}" for c in card.codes if c),
        "parameters": f"{network.model.count_params():,}",
        "fingerprint": network.fingerprint,
        **card.provenance,
    }
    print_rows(rows)


def _open_any(
    source: Path,
    kind: str | None,
    bands: str | None,
    scale: float | None,
    size: int | None,
    legend: str | None,
    codes: str | None,
) -> Any:
    from csc_xr.networks.bundle import open_network

    return open_network(
        source,
        kind=kind,  # type: ignore[arg-type]  # checked by the card
        bands=words(bands),
        scale=scale,
        size=size,
        legend=legend,
        codes=None if codes is None else integers(codes, "--codes"),
    )
