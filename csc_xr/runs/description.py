"""What a run record says of a run: enough to place it in a table among many others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from csc_xr.files import plain_values
from csc_xr.networks.bundle import Network
from csc_xr.runs.jobs import Job
from csc_xr.workflow import ClassifySettings


def describe_run(
    job: Job,
    network: Network,
    settings: ClassifySettings,
    *,
    classifier: Any = None,
    experiment: str | None = None,
    network_path: str | Path | None = None,
) -> dict[str, Any]:
    """Describe a run by its settings, its scene, and where its tile network comes from.

    Parameters
    ----------
    job : Job
        The scene.
    network : Network
        The tile network.
    settings : ClassifySettings
        How it is classified.
    classifier : sklearn classifier, optional
        Takes the place of the patch network.
    experiment : str, optional
        Short name of the run.
    network_path : str or Path, optional
        File of the tile network.

    Returns
    -------
    dict
        Plain values, the parameters of a run record.
    """
    found: dict[str, Any] = plain_values(
        {
            **asdict(settings),
            "scene": job.scene_options,
            "classifier": None if classifier is None else str(classifier),
            "name": job.name,
            "experiment": experiment,
            "network": _describe_network(network, network_path),
            "tags": job.tags,
        }
    )
    return found


def descriptive(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Take what decides no result out of the parameters of a record.

    Parameters
    ----------
    parameters : mapping
        From :func:`describe_run`.

    Returns
    -------
    dict
        Name, network and tags; those that are there.
    """
    return {name: parameters[name] for name in ("name", "network", "tags") if name in parameters}


def _describe_network(network: Network, path: str | Path | None) -> dict[str, Any]:
    card = network.card
    before = card.provenance.get("first_learned_scenes", [])
    return {
        "name": None if path is None else Path(path).stem,
        "bands": card.bands,
        "size": card.size,
        "architecture": card.provenance.get("architecture"),
        "learned_scenes": card.provenance.get("learned_scenes", []),
        "first_learned_scenes": before,
        "joint": bool(before),
    }
