"""Classify a generated fjord with the network that ships with csc_xr, step by step.

python examples/01_first_scene.py [--size 600 800]
"""

from __future__ import annotations

import argparse
from importlib.resources import files

from csc_xr import (
    GLACIER,
    ClassifySettings,
    FitSettings,
    classification_report,
    classify_scene,
    confusion_matrix,
    open_network,
)
from csc_xr.synthetic import fjord


def main() -> None:
    """Generate, classify, score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--size", type=int, nargs=2, default=(600, 800), metavar=("ROWS", "COLUMNS")
    )
    parser.add_argument("--steps", type=int, default=300, help="optimiser steps of the fit")
    arguments = parser.parse_args()

    generated = fjord(tuple(arguments.size), seed=7)
    network = open_network(str(files("csc_xr") / "data" / "fjord_tiles.keras"))
    print(f"{network.card.size} px tiles of {', '.join(network.card.bands)}")

    # Phase one and the fit of phase two happen here; the pixel classes stay lazy.
    settings = ClassifySettings(
        patch_size=5, outputs=("confidence",), fit=FitSettings(steps=arguments.steps)
    )
    result = classify_scene(generated["scene"], network, settings=settings).compute()
    print(result)

    for phase in ("tile_class", "pixel_class"):
        confusion = confusion_matrix(generated["labels"], result[phase], legend=GLACIER)
        print(f"\n{phase}\n{classification_report(confusion).round(3).to_string(index=False)}")


if __name__ == "__main__":
    main()
