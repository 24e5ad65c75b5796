"""Commands that train a phase-one network: ``train``, ``tune`` and ``finetune``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csc_xr.cli import options
from csc_xr.cli.options import words
from csc_xr.cli.terminal import app, near, print_rows
from csc_xr.errors import ParameterError

if TYPE_CHECKING:
    from csc_xr.runs.training import Task, TrainingResult

_THREADS = "TF_NUM_INTRAOP_THREADS"
_SIDE_BY_SIDE = "TF_NUM_INTEROP_THREADS"

Stores = Annotated[list[Path], typer.Argument(help="Stores that csc-xr tiles wrote.")]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="First weights: a .keras file of the same architecture, or the .h5 file of a Keras "
        "application without its top."
    ),
]
BatchSize = Annotated[int, typer.Option(help="Tiles in a step.")]
LearningRate = Annotated[
    float | None, typer.Option(help="Of the first step (default: what suits the network).")
]
Decay = Annotated[str, typer.Option(help="Learning rate over all epochs: cosine or constant.")]
Patience = Annotated[
    int, typer.Option(help="Stop after so many epochs without a better validation; 0: never.")
]
ClassPower = Annotated[
    float,
    typer.Option(
        help="Tiles of a class are drawn in proportion to their number to this power: 0 draws "
        "classes equally often, 1 every tile once an epoch."
    ),
]
ClassWeights = Annotated[
    str, typer.Option(help="none, or balanced: weigh tiles against how often their class comes.")
]
Tilt = Annotated[
    float, typer.Option(help="Random tilt of the spectrum while training, as by haze.")
]
Brightness = Annotated[
    float, typer.Option(help="Random factors from 1 - this to 1 + this while training.")
]
Noise = Annotated[
    float, typer.Option(help="Random noise up to this, in the images' numbers, while training.")
]
Turns = Annotated[bool, typer.Option(help="Turn tiles by quarters at random while training.")]
Flips = Annotated[bool, typer.Option(help="Mirror tiles at random while training.")]
TileMemory = Annotated[str, typer.Option(help="Memory for tiles; of more, parts are read in turn.")]
PrecisionOption = Annotated[
    str, typer.Option(help="float32, auto, float16 (GPU) or bfloat16; weights stay float32.")
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Threads of TensorFlow (default: 1 for compact, which gains little by more, else all "
        "cores). The same number gives the same network."
    ),
]
NewWork = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Begin anew. By default an unfinished training goes on, a finished one is kept, and "
        "what was made in another way is refused.",
    ),
]


@app.command()
def train(
    stores: Stores,
    out: Annotated[Path, typer.Option(help="Network to write, such as tiles.keras.")],
    network: Annotated[
        str,
        typer.Option(help="compact, vgg16, densenet121, resnet50, or a .keras file of your own."),
    ] = "compact",
    weights: Weights = None,
    epochs: Annotated[int, typer.Option(help="Most passes over the tiles.")] = 10,
    target_accuracy: Annotated[
        float | None, typer.Option(help="Stop once the validation tiles are classed so well.")
    ] = None,
    patience: Patience = 0,
    batch_size: BatchSize = 64,
    learning_rate: LearningRate = None,
    decay: Decay = "cosine",
    class_power: ClassPower = 0.5,
    class_weights: ClassWeights = "none",
    brightness: Brightness = 0.05,
    tilt: Tilt = 0.1,
    noise: Noise = 0.0,
    turns: Turns = True,
    flips: Flips = True,
    memory_limit: TileMemory = "2GiB",
    precision: PrecisionOption = "float32",
    per_class: options.PerClass = None,
    validation: options.Validation = "auto",
    validation_share: options.ValidationShare = 0.2,
    validation_scenes: options.ValidationScenes = None,
    validation_block: options.ValidationBlock = None,
    seed: options.Seed = 0,
    threads: Threads = None,
    overwrite: NewWork = False,
) -> None:
    """Train a phase-one network on tiles: network, history, scores, figures, run record.

    Killed and started again, it goes on where it stopped.
    """
    _run(
        "train", stores, out, network, threads,
        settings={
            "epochs": epochs, "target_accuracy": target_accuracy, "patience": patience,
            "batch_size": batch_size, "learning_rate": learning_rate, "decay": decay,
            "class_power": class_power, "class_weights": class_weights,
            "brightness": brightness, "tilt": tilt, "noise": noise, "turns": turns, "flips": flips,
            "memory_limit": memory_limit, "precision": precision,
        },
        split={
            "by": validation, "share": validation_share, "scenes": words(validation_scenes),
            "block_size": validation_block,
        },
        weights=weights, per_class=per_class, seed=seed, overwrite=overwrite,
    )  # fmt: skip


@app.command()
def tune(
    stores: Stores,
    out: Annotated[Path, typer.Option(help="What the names of the files begin with.")],
    network: Annotated[
        str,
        typer.Option(help="compact, vgg16, densenet121, resnet50, or a .keras file of your own."),
    ] = "compact",
    weights: Weights = None,
    epochs: Annotated[int, typer.Option(help="Passes over the tiles.")] = 50,
    batch_size: BatchSize = 64,
    learning_rate: LearningRate = None,
    decay: Decay = "constant",
    class_power: ClassPower = 0.5,
    class_weights: ClassWeights = "none",
    brightness: Brightness = 0.05,
    tilt: Tilt = 0.1,
    noise: Noise = 0.0,
    turns: Turns = True,
    flips: Flips = True,
    memory_limit: TileMemory = "2GiB",
    precision: PrecisionOption = "float32",
    per_class: options.PerClass = None,
    validation: options.Validation = "auto",
    validation_share: options.ValidationShare = 0.2,
    validation_scenes: options.ValidationScenes = None,
    validation_block: options.ValidationBlock = None,
    seed: options.Seed = 0,
    threads: Threads = None,
    overwrite: NewWork = False,
) -> None:
    """Train for a fixed number of epochs and draw the curves; no network is kept.

    From loss and accuracy of training and validation you see how many epochs to take, and
    which target accuracy can be reached.
    """
    _run(
        "tune", stores, out, network, threads,
        settings={
            "epochs": epochs,
            "batch_size": batch_size, "learning_rate": learning_rate, "decay": decay,
            "class_power": class_power, "class_weights": class_weights,
            "brightness": brightness, "tilt": tilt, "noise": noise, "turns": turns, "flips": flips,
            "memory_limit": memory_limit, "precision": precision,
        },
        split={
            "by": validation, "share": validation_share, "scenes": words(validation_scenes),
            "block_size": validation_block,
        },
        weights=weights, per_class=per_class, seed=seed, overwrite=overwrite,
    )  # fmt: skip


@app.command()
def finetune(
    model: Annotated[Path, typer.Argument(help="Trained tile network: .keras or legacy .h5.")],
    stores: Stores,
    out: Annotated[Path, typer.Option(help="Network to write, such as joint.keras.")],
    epochs: Annotated[int, typer.Option(help="Most passes over the tiles.")] = 120,
    target_accuracy: Annotated[
        float | None, typer.Option(help="Stop once the validation tiles are classed so well.")
    ] = 0.995,
    patience: Patience = 0,
    batch_size: BatchSize = 25,
    learning_rate: LearningRate = 1e-5,
    decay: Decay = "constant",
    class_power: ClassPower = 0.5,
    class_weights: ClassWeights = "none",
    brightness: Brightness = 0.05,
    tilt: Tilt = 0.1,
    noise: Noise = 0.0,
    turns: Turns = True,
    flips: Flips = True,
    memory_limit: TileMemory = "2GiB",
    precision: PrecisionOption = "float32",
    per_class: Annotated[
        int, typer.Option(help="Most tiles of a class, drawn at random; 0 for all.")
    ] = 5000,
    validation: options.Validation = "auto",
    validation_share: options.ValidationShare = 0.2,
    validation_scenes: options.ValidationScenes = None,
    validation_block: options.ValidationBlock = None,
    seed: options.Seed = 0,
    threads: Threads = None,
    overwrite: NewWork = False,
) -> None:
    """Train on from a network, on tiles of several glaciers or rivers together.

    Learning rate, batch, most tiles of a class and the end at 99.5 % of the validation tiles (where
    there are any) are those of published joint fine-tuning; tiles are turned, mirrored and tinted
    besides, unless told not to.
    """
    if validation == "none":
        target_accuracy = None
    _run(
        "finetune", stores, out, str(model), threads,
        settings={
            "epochs": epochs, "target_accuracy": target_accuracy, "patience": patience,
            "batch_size": batch_size, "learning_rate": learning_rate, "decay": decay,
            "class_power": class_power, "class_weights": class_weights,
            "brightness": brightness, "tilt": tilt, "noise": noise, "turns": turns, "flips": flips,
            "memory_limit": memory_limit, "precision": precision,
        },
        split={
            "by": validation, "share": validation_share, "scenes": words(validation_scenes),
            "block_size": validation_block,
        },
        weights=None, per_class=per_class or None, seed=seed, overwrite=overwrite,
    )  # fmt: skip


def _run(
    task: Task,
    stores: list[Path],
    out: Path,
    network: str,
    threads: int | None,
    *,
    settings: dict[str, Any],
    split: dict[str, Any],
    weights: Path | None,
    per_class: int | None,
    seed: int,
    overwrite: bool,
) -> None:
    if threads is not None and threads < 1:
        raise ParameterError(f"--threads must be 1 or more, got {threads}.")
    # Read when TensorFlow starts, so they are set before anything imports it. Operations side by
    # side would add up gradients in the order in which they end.
    os.environ[_SIDE_BY_SIDE] = "1"
    cores = 1 if network == "compact" else os.cpu_count() or 1
    if threads is not None:
        os.environ[_THREADS] = str(threads)
    os.environ.setdefault(_THREADS, str(cores))
    from csc_xr.progress import stage_progress
    from csc_xr.runs.memory import parse_bytes
    from csc_xr.runs.training import SplitSettings, train_network
    from csc_xr.training.phase_one.settings import TrainSettings

    limit = parse_bytes(settings.pop("memory_limit"))
    how, held_out = TrainSettings(**settings, memory_limit=limit), SplitSettings(**split)
    with stage_progress(f"{task} {network}") as (timer, progress):
        result = train_network(
            stores, out,
            task=task, network=network, weights=weights, settings=how, split=held_out,
            per_class=per_class, seed=seed, overwrite=overwrite,
            timer=timer, progress=progress, epoch_done=_print_epoch,
        )  # fmt: skip
    _print_training(result)


def _print_epoch(row: dict[str, Any]) -> None:
    text = f"epoch {row['epoch']:3}  loss {row['loss']:.4f}  right {row['accuracy']:.4f}"
    if row["validation_accuracy"] is not None:
        text += f"  validation: loss {row['validation_loss']:.4f}"
        text += f"  right {row['validation_accuracy']:.4f}"
    typer.echo(f"{text}  {row['seconds']:.0f} s")


def _print_training(result: TrainingResult) -> None:
    if result.kept:
        typer.echo(f"done already: {near(result.outputs['record'])}")
        return
    if result.scores is not None:
        typer.echo("\nvalidation tiles")
        typer.echo(result.scores.round(3).to_string(index=False, na_rep=""))
        typer.echo("")
    seconds = sum(result.record.stage_seconds.values())
    peak = result.record.peak_memory_bytes / 1e9
    files = {role.replace("_", " "): path for role, path in result.outputs.items()}
    took = f"{seconds:.1f} s, at most {peak:.2f} GB of memory"
    print_rows({**files, "took": took}, width=16)
