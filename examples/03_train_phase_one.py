"""Train a phase-one network on generated fjords, and classify one it has not seen.

python examples/03_train_phase_one.py [--fjords 6] [--size 600 800] [--epochs 10] [--out trained]

Kill it and run it again: the training goes on where it stopped. The same on the command line:

    csc-xr tiles trained/fjords --legend glacier --purity 0.7 --out trained/tiles.zarr
    csc-xr train trained/tiles.zarr --epochs 10 --brightness 0.15 --out trained/fjord.keras
"""

from __future__ import annotations

import argparse
from pathlib import Path

from csc_xr import (
    GLACIER,
    ClassifySettings,
    TrainSettings,
    classification_report,
    classify_scene,
    confusion_matrix,
    count_tiles,
    extract_tiles,
    find_labels,
    open_labels,
    open_network,
    open_scene,
    train_network,
    write_class_geotiff,
    write_scene,
    write_tiles,
)
from csc_xr.synthetic import fjord


def main() -> None:
    """Write labelled fjords, cut tiles, train, classify another fjord, score it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fjords", type=int, default=6)
    parser.add_argument(
        "--size", type=int, nargs=2, default=(600, 800), metavar=("ROWS", "COLUMNS")
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("trained"))
    arguments = parser.parse_args()

    # Labelled scenes as users have them: an image, and its classes beside it as SCLS_<name>.tif.
    images = []
    for number in range(arguments.fjords):
        image = arguments.out / "fjords" / f"fjord_{number}.zarr"
        if not image.exists():
            truth = fjord(tuple(arguments.size), seed=200 + number)
            write_scene(truth["scene"], image)
            labels = image.with_name(f"SCLS_{image.stem}.tif")
            write_class_geotiff(truth["labels"], labels, legend=GLACIER)
        images.append(image)

    store = arguments.out / "tiles.zarr"
    scenes = [open_scene(image) for image in images]
    labels = [
        open_labels(find_labels(image), like=scene, legend=GLACIER)
        for image, scene in zip(images, scenes, strict=True)
    ]
    tiles = extract_tiles(scenes, labels, legend=GLACIER, tile_size=50, stride=25, purity=0.7)
    print(count_tiles(write_tiles(tiles, store, overwrite=True)).to_string())

    # Whole fjords are held out to measure by: tiles of one fjord overlap.
    settings = TrainSettings(epochs=arguments.epochs, brightness=0.15)
    result = train_network([store], arguments.out / "fjord.keras", settings=settings)
    print(result.scores.round(3).to_string(index=False, na_rep=""))

    unseen = fjord(tuple(arguments.size), seed=7)
    network = open_network(result.outputs["network"])
    classes = classify_scene(unseen["scene"], network, settings=ClassifySettings(patch_size=5))
    confusion = confusion_matrix(unseen["labels"], classes["pixel_class"], legend=GLACIER)
    print("\na fjord it has not seen, every pixel")
    print(classification_report(confusion).round(3).to_string(index=False, na_rep=""))


if __name__ == "__main__":
    main()
