"""Checkpoints: a training that was killed goes on where it stopped."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csc_xr.errors import OutputError, ResumeError
from csc_xr.files import clear_leftovers, plain_values, replacing

Arrays = list[NDArray[Any]]

_LEAST_SECONDS = 1.0
_SHARE = 0.05  # of the time may go into writing checkpoints


@dataclass
class TrainingState:
    """Where a training stands.

    Attributes
    ----------
    epoch, step : int
        The epoch under way, from 0, and the steps of it that are done.
    loss, right : float
        Sums over those steps of the loss and of the share of tiles classed right.
    seconds : float
        Time spent on the epoch so far.
    history : list of dict
        A row for each epoch that is over.
    variables : list of ndarray
        Weights, states of random layers, and the optimiser's variables.
    best : list of ndarray
        The weights after the best epoch, where patience asks for them.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    right: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    variables: Arrays = field(default_factory=list)
    best: Arrays = field(default_factory=list)

    def next_epoch(self, row: dict[str, Any]) -> None:
        """End the epoch under way.

        Parameters
        ----------
        row : dict
            What the history says of it.
        """
        self.history.append(row)
        self.epoch, self.step = self.epoch + 1, 0
        self.loss = self.right = self.seconds = 0.0


class Checkpoint:
    """A file that holds where a training stands.

    Parameters
    ----------
    path : str or Path
        The file; absent before the first save.
    identity : mapping
        All that decides the result; a file of another training is refused.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.identity: dict[str, Any] = plain_values(identity)
        self._due = time.monotonic() + _LEAST_SECONDS

    def stored_identity(self) -> dict[str, Any] | None:
        """Read which training the file belongs to.

        Returns
        -------
        dict or None
            None when there is no file.

        Raises
        ------
        OutputError
            When it cannot be read.
        """
        found = self._read(arrays=False)
        return None if found is None else found[0]

    def load(self) -> TrainingState | None:
        """Read where the training stands.

        Returns
        -------
        TrainingState or None
            None when there is no file.

        Raises
        ------
        ResumeError
            When the file belongs to another training.
        OutputError
            When it cannot be read.
        """
        found = self._read(arrays=True)
        if found is None:
            return None
        identity, state = found
        if identity != self.identity:
            raise ResumeError(
                f"{self.path} must hold this training, unfinished, but holds one with other tiles, "
                "settings or first weights. Finish that one, choose another name, or begin anew "
                "with overwrite=True (--overwrite)."
            )
        return state

    def _read(self, *, arrays: bool) -> tuple[dict[str, Any], TrainingState] | None:
        if not self.path.exists():
            return None
        try:
            # opened here: np.load leaves a file open that is no archive
            with self.path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                facts: dict[str, Any] = json.loads(str(file["facts"]))
                held: dict[str, Any] = {
                    name: [file[f"{name}_{n}"] for n in range(count * arrays)]
                    for name, count in facts["counts"].items()
                }
            return facts["identity"], TrainingState(**facts["state"], **held)
        except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
            raise OutputError(
                f"{self.path} must be the checkpoint of a training, but cannot be read: {error}. "
                "Remove it, or begin anew with overwrite=True (--overwrite)."
            ) from error

    def is_due(self) -> bool:
        """Tell whether it is time to save.

        Returns
        -------
        bool
            True now and then: at most once a second, and less often where saving takes long.
        """
        return time.monotonic() >= self._due

    def save(self, state: TrainingState) -> None:
        """Write where the training stands, whole or not at all.

        Parameters
        ----------
        state : TrainingState
            What to write.

        Raises
        ------
        OutputError
            When the file cannot be written.
        """
        began = time.monotonic()
        parts: dict[str, Sequence[NDArray[Any]]] = {
            "variables": state.variables,
            "best": state.best,
        }
        plain = {name: value for name, value in vars(state).items() if name not in parts}
        counts = {name: len(values) for name, values in parts.items()}
        facts = json.dumps({"identity": self.identity, "state": plain, "counts": counts})
        arrays = {f"{name}_{n}": v for name, values in parts.items() for n, v in enumerate(values)}
        with replacing(self.path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, facts=np.array(facts), **arrays)
        ended = time.monotonic()
        self._due = ended + max(_LEAST_SECONDS, (ended - began) / _SHARE)

    def remove(self) -> None:
        """Remove the file, if there is one, and what a process killed while writing it left."""
        self.path.unlink(missing_ok=True)
        clear_leftovers(self.path)
