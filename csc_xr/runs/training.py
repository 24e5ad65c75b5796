"""A training of phase one as a run: checked, kept while it lasts, whole files at the end."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from csc_xr.errors import OutputError, ParameterError
from csc_xr.export import write_table_csv
from csc_xr.figures.confusion import confusion_figure
from csc_xr.figures.training import history_figure
from csc_xr.files import check_output_folder, read_json, write_json
from csc_xr.networks.builders import TileArchitecture
from csc_xr.networks.bundle import Network, open_network, save_network
from csc_xr.record import (
    RECORD_END,
    InputFile,
    RunRecord,
    StageTimer,
    describe_input,
    start_record,
)
from csc_xr.runs.identity import check_same_work, deciding_versions
from csc_xr.tiles.layout import band_names, tile_legend
from csc_xr.tiles.sets import join_tiles, thin_tiles
from csc_xr.tiles.split import SplitRule, split_tiles
from csc_xr.tiles.store import open_tiles
from csc_xr.training.phase_one.checkpoints import Checkpoint
from csc_xr.training.phase_one.fit import EpochDone, Progress, TileTraining
from csc_xr.training.phase_one.report import TrainingReport
from csc_xr.training.phase_one.settings import TrainSettings

CHECKPOINT_END = ".checkpoint"
"""What the name of the file ends in that holds an unfinished training."""

Task = Literal["train", "tune", "finetune"]


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """What is held out of a training; see :func:`csc_xr.tiles.split.split_tiles`.

    Attributes
    ----------
    by : {"auto", "scene", "block", "none"}
        What is held out whole.
    share : float
        Share of the tiles to hold out.
    scenes : sequence of str, optional
        Names of scenes to hold out.
    block_size : int, optional
        Side of the blocks in pixels.
    """

    by: SplitRule = "auto"
    share: float = 0.2
    scenes: Sequence[str] | None = None
    block_size: int | None = None


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a training left.

    Attributes
    ----------
    outputs : dict of str to Path
        Files by role.
    history : pandas.DataFrame or None
        A row for each epoch, as :class:`TrainingReport` has it; None where the file of a kept
        training is gone.
    scores : pandas.DataFrame or None
        Scores of the validation tiles by class.
    record : RunRecord
        The run.
    kept : bool
        Whether all was there already, and nothing was done.
    """

    outputs: dict[str, Path]
    history: pd.DataFrame | None
    scores: pd.DataFrame | None
    record: RunRecord
    kept: bool = False


def train_network(
    stores: Sequence[str | Path],
    out: str | Path,
    *,
    task: Task = "train",
    network: str | Path | Network = "compact",
    weights: str | Path | None = None,
    settings: TrainSettings | None = None,
    split: SplitSettings | None = None,
    per_class: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    timer: StageTimer | None = None,
    progress: Progress | None = None,
    epoch_done: EpochDone | None = None,
) -> TrainingResult:
    """Train a tile network from stores of labelled tiles, into files.

    Beside the network go its history (CSV and figure), the scores of the validation tiles (CSV),
    their confusion matrix (figure) and a run record, which comes last. A training that was
    killed goes on from its checkpoint; one that is finished is kept.

    Parameters
    ----------
    stores : sequence of str or Path
        Zarr stores of labelled tiles that fit together; of several, their tiles are joined.
    out : str or Path
        The ``.keras`` file to write; when tuning, the name that the other files begin with.
    task : {"train", "tune", "finetune"}
        Tuning keeps no network. Training and fine-tuning differ in name only.
    network : str, Path or Network
        An architecture, the file of a model of the user's own, or a trained network to go on
        from.
    weights : str or Path, optional
        First weights for an architecture.
    settings : TrainSettings, optional
        How to fit.
    split : SplitSettings, optional
        What is held out.
    per_class : int, optional
        Most tiles of a class, of all stores together.
    seed : int
        Of all that is random.
    overwrite : bool
        True begins anew and replaces what is there.
    timer : StageTimer, optional
        Takes the time of each stage.
    progress : callable, optional
        Called with steps done and steps at most.
    epoch_done : callable, optional
        Called with the row of the history after each epoch.

    Returns
    -------
    TrainingResult
        Files, history and scores.

    Raises
    ------
    ParameterError
        When a setting cannot be used.
    TileError
        When the tiles cannot be read, do not fit together, or cannot be split.
    NetworkError
        When a network or weights cannot be read or do not fit the tiles.
    ResumeError
        When another training, finished or not, lies under this name.
    OutputError
        When files cannot be written, or a network of unknown origin has the name.
    """
    settings, split = settings or TrainSettings(), split or SplitSettings()
    timer = timer or StageTimer()
    files = _output_files(Path(out).absolute(), task)
    check_output_folder(files["record"].parent)
    with timer.stage("tiles"):
        tiles = join_tiles([open_tiles(store) for store in stores])
        if per_class is not None:
            tiles = thin_tiles(tiles, per_class=per_class, seed=seed)
        parts = split_tiles(tiles, **asdict(split), seed=seed)
        begun = _open_network(network, tiles, task)
        training = TileTraining(
            tiles, parts, network=_fittable(begun, task), weights=weights, settings=settings,
            seed=seed,
        )  # fmt: skip
        inputs = [describe_input(path) for path in (*stores, *([weights] if weights else []))]
    identity = _identity(task, begun, training, inputs, len(stores))
    checkpoint = Checkpoint(files["checkpoint"], identity)
    kept = None if overwrite else _kept_result(files, checkpoint)
    if kept is not None:
        return kept
    if overwrite:  # all that could be checked was
        files["record"].unlink(missing_ok=True)
        checkpoint.remove()
    record = start_record(
        parameters=identity,
        seed=seed,
        inputs=inputs,
        networks={"first": begun.fingerprint} if isinstance(begun, Network) else {},
        identity=checkpoint.identity,
    )
    with timer.stage("training"):
        fitted, report = training.run(checkpoint, progress=progress, epoch_done=epoch_done)
    with timer.stage("reports"):
        outputs = _write(fitted, report, files, task, settings)
    networks = {**record.networks, "fitted": fitted.fingerprint}
    finished = dataclasses.replace(record, networks=networks).finish(
        stage_seconds=timer.seconds, outputs=outputs
    )
    write_json(finished.to_dict(), files["record"])
    checkpoint.remove()
    return TrainingResult(
        {**outputs, "record": files["record"]}, report.history, report.scores, finished
    )


def _identity(
    task: Task,
    begun: TileArchitecture | Network,
    training: TileTraining,
    inputs: Sequence[InputFile],
    n_stores: int,
) -> dict[str, Any]:
    """Describe a training by all that decides its result."""
    settings = asdict(training.settings)
    tile_bytes = training.tiles["pixels"][0].nbytes
    if training.tiles.sizes["tile"] * tile_bytes * 4 <= settings["memory_limit"]:
        settings["memory_limit"] = None  # all tiles are held: it decides nothing
    versions = deciding_versions()
    checksums = [entry.sha256 for entry in inputs]
    return {
        "task": task,
        "network": begun.fingerprint if isinstance(begun, Network) else str(begun),
        "stores": checksums[:n_stores],  # in order, which decides the order of the tiles
        "weights": checksums[n_stores:],
        "settings": settings,
        "split": training.split.description,
        "cut": training.tiles.attrs.get("origin", {}),
        "seed": training.seed,
        "threads": os.environ.get("TF_NUM_INTRAOP_THREADS"),
        "software": {name: versions[name] for name in ("csc_xr", "tensorflow", "keras", "numpy")},
    }


def _output_files(out: Path, task: Task) -> dict[str, Path]:
    if task != "tune" and out.suffix != ".keras":
        raise OutputError(f"A network is saved in a file that ends in .keras, got {out}.")
    base = out.with_suffix("") if out.suffix == ".keras" else out
    if task == "tune":  # beside those of the training that follows
        base = base.with_name(f"{base.name}_tune")
    ends = {
        "history": "_history.csv",
        "history_figure": "_history.png",
        "scores": "_report.csv",
        "confusion_figure": "_confusion.png",
        "record": RECORD_END,
        "checkpoint": CHECKPOINT_END,
    }
    files = {role: base.with_name(f"{base.name}{end}") for role, end in ends.items()}
    return files if task == "tune" else {"network": out, **files}


def _open_network(
    network: str | Path | Network, tiles: Any, task: Task
) -> TileArchitecture | Network:
    """Give an architecture as it is, and open the file of a network."""
    if isinstance(network, Network) or network in get_args(TileArchitecture):
        return network  # type: ignore[return-value]
    path = Path(network)
    if path.suffix not in (".keras", ".h5", ".hdf5"):
        raise ParameterError(
            f"network must be {', '.join(get_args(TileArchitecture))}, or the file of a network "
            f"(.keras, .h5), got {str(network)!r}."
        )
    if task == "finetune":
        return open_network(path)
    return open_network(
        path,
        kind="tile",
        bands=band_names(tiles),
        scale=tiles.attrs["scale"],
        size=tiles.sizes["y"],
        legend=tile_legend(tiles),
    )


def _fittable(begun: TileArchitecture | Network, task: Task) -> Any:
    # A file given to train is a model of the user's own: its rate is that of a new network.
    return begun.model if isinstance(begun, Network) and task != "finetune" else begun


def _kept_result(files: dict[str, Path], checkpoint: Checkpoint) -> TrainingResult | None:
    """Give what is there of this very training, and refuse what is there of another."""
    folder, name = files["record"].parent, files["record"].name.removesuffix(RECORD_END)
    before = checkpoint.stored_identity()
    if before is not None:
        check_same_work(name, folder, before, checkpoint.identity)
    content = read_json(files["record"])
    if not content:
        network = files.get("network")
        if before is None and network is not None and network.exists():
            raise OutputError(
                f"{network} must not exist yet, or be of this training, but has no run record "
                "beside it. Choose another name, or replace it with overwrite=True (--overwrite)."
            )
        return None
    check_same_work(name, folder, content["identity"], checkpoint.identity)
    record = RunRecord.from_dict(content)
    # where they are now, whatever the folder was called when they were written
    outputs = {role: files[role] for role in record.outputs if files[role].exists()}
    if files.get("network", files["history"]) not in outputs.values():
        return None
    history, scores = (
        pd.read_csv(outputs[role]) if role in outputs else None for role in ("history", "scores")
    )
    outputs["record"] = files["record"]
    return TrainingResult(outputs, history, scores, record, kept=True)


def _write(
    network: Network,
    report: TrainingReport,
    files: dict[str, Path],
    task: Task,
    settings: TrainSettings,
) -> dict[str, Path]:
    name = files["record"].name.removesuffix(RECORD_END)
    written = {"history": files["history"], "history_figure": files["history_figure"]}
    write_table_csv(report.history, files["history"])
    history_figure(
        report.history,
        title=name,
        target_accuracy=settings.target_accuracy,
        kept_epoch=report.kept_epoch,
        path=files["history_figure"],
    )
    if report.confusion is not None and report.scores is not None:
        write_table_csv(report.scores, files["scores"])
        confusion_figure(
            report.confusion, legend=network.card.legend, title=name, path=files["confusion_figure"]
        )
        written |= {role: files[role] for role in ("scores", "confusion_figure")}
    if task != "tune":
        save_network(network, files["network"])
        written = {"network": files["network"], **written}
    return written
