"""The benchmarks of scale run, at sizes that say nothing of speed, and their arithmetic holds."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csc_xr.inference import classify_pixels
from csc_xr.scene import open_scene

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

measure, patch_memory, scaling, scheduling, throughput = map(
    importlib.import_module, ("measure", "patch_memory", "scaling", "scheduling", "throughput")
)
SUITE = [importlib.import_module(f"suite.{name}") for name in ("prediction", "schedulers")]
PREFIXES = ("time_", "peakmem_", "track_")
STAGES = {"tiles": 10.0, "samples": 2.0, "fit": 5.0, "pixels": 20.0, "export": 1.0}


def suite_cases() -> Iterator[Any]:
    for module in SUITE:
        for name, found in inspect.getmembers(module, inspect.isclass):
            if found.__module__ == module.__name__:
                for params in found.tiny:
                    yield pytest.param(found, params, id="-".join(map(str, (name, *params))))


@pytest.mark.parametrize(("benchmark", "params"), list(suite_cases()))
def test_suite_runs(benchmark: type, params: tuple[Any, ...]) -> None:
    methods = [name for name in dir(benchmark) if name.startswith(PREFIXES)]
    assert methods
    assert len(params) == len(benchmark.params) == len(benchmark.param_names)
    running = benchmark()
    getattr(running, "setup", lambda *_: None)(*params)
    try:
        for name in methods:
            found = getattr(running, name)(*params)
            assert found > 0 if name.startswith("track_") else found is None
    finally:
        getattr(running, "teardown", lambda *_: None)(*params)


def test_asv_finds_the_suite() -> None:
    content = json.loads((ROOT / "benchmarks" / "asv.conf.json").read_text(encoding="utf-8"))
    folder = ROOT / "benchmarks" / content["benchmark_dir"]
    assert {path.stem for path in folder.glob("*.py")} == {"__init__", "prediction", "schedulers"}


def test_three_ways_give_the_same_classes(tmp_path: Path) -> None:
    store = measure.write_fjord(tmp_path, 48)
    network = measure.glacier_network(5)
    values = patch_memory.open_values(store)
    tensor = patch_memory.predict_tensor(values, network.model, 5)
    rows, done = patch_memory.predict_rows(values, network.model, 5)
    assert done == 44
    np.testing.assert_array_equal(tensor, rows)
    classified = classify_pixels(open_scene(store), network)["pixel_class"].values[2:-2, 2:-2]
    known = tensor > 0  # csc_xr never gives output 0
    np.testing.assert_array_equal(tensor[known], classified[known])


def test_rows_stop_when_their_time_is_up(tmp_path: Path) -> None:
    values = patch_memory.open_values(measure.write_fjord(tmp_path, 48))
    _, done = patch_memory.predict_rows(values, measure.glacier_network(1).model, 1, 0.0)
    assert done == 1


def test_patch_memory_in_its_own_process(tmp_path: Path) -> None:
    costs = patch_memory.measure_all([64], [3], 30.0, tmp_path, ways=("chunks",))
    (cost,) = costs
    assert (cost.way, cost.side, cost.patch_size) == ("chunks", 64, 3)
    assert cost.peak_bytes >= cost.start_bytes > 1e8
    assert not cost.memory_predicted
    assert not cost.seconds_predicted


def costs_at(side: int, **changes: Any) -> list[Any]:
    cost = patch_memory.Cost("tensor", side, 7, 2.0, int(1.5e9), int(0.5e9))
    return [
        dataclasses.replace(cost, way=way, patch_size=patch_size, **changes)
        for patch_size in (7, 15)
        for way in patch_memory.WAYS
    ]


def test_prediction_grows_with_the_pixels() -> None:
    ahead = patch_memory.predicted(costs_at(100)[0], 300)
    assert (ahead.side, ahead.seconds) == (300, 18.0)
    assert ahead.peak_bytes == int(0.5e9 + 9e9)
    assert ahead.memory_predicted
    assert ahead.seconds_predicted


def test_predicted_numbers_are_marked(tmp_path: Path) -> None:
    costs = costs_at(100) + costs_at(300, memory_predicted=True)
    table = patch_memory.memory_table(costs)
    assert "| 100 x 100 | 7 | 1.50 | 1.50 | 1.50 | 2.0 | 2.0 | 2.0 |" in table
    assert table.count("*1.50* (predicted)") == 6
    patch_memory.draw(costs, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_speeds_are_shares_of_the_rate() -> None:
    table = throughput.speed_table([throughput.Speed(1000, 7, 2.0, 0.5, 0.75)])
    assert "| 1000 x 1000 | 7 | 2.0 | 0.50 | 2.000 | 50% | 75% |" in table


def test_profile_adds_up() -> None:
    profile = scheduling.graph_profile(1024, patch_size=3)
    assert sum(share for _, share, _ in profile) == pytest.approx(1)
    assert any(module.startswith("dask.") for module, _, _ in profile)
    assert "others" in scheduling.profile_table(profile)


def test_graph_is_reported_per_10000_chunks() -> None:
    cost = scheduling.GraphCost(5000, 1.0, 2.0, 50_000, 10**6, 10**7)
    table = scheduling.graph_table(cost)
    for text in ("| 2.0 s |", "| 4.0 s |", "| 2.0 MB |", "| 20.0 MB |", "| 10.0 |"):
        assert text in table


def test_scene_tasks_counts_both_phases() -> None:
    whole = scheduling.scene_tasks(1024, patch_size=3)
    scene, network = scheduling.blank_scene(1024), measure.glacier_network(3)
    assert whole > len(scheduling.task_graph(scheduling.lazy_result(scene, network)))


def test_against_workers() -> None:
    seen = []
    found = scheduling.against_workers(
        lambda client: seen.append(len(client.scheduler_info()["workers"])), (1,)
    )
    assert seen == [1]
    assert found[0][0] == 1
    assert found[0][1] > 0


@pytest.fixture
def inputs() -> tuple[Any, Any, Any]:
    stages = scaling.StageCosts(10**6, 2, STAGES, "a test")
    scheduler = scheduling.SchedulerCosts(1e-3, 2e-3, 1000, 1.0)
    season = scaling.Season(scenes=100, scene_pixels=10**7, scene_bytes=1e6, start_seconds=0.0)
    return stages, scheduler, season


def test_core_seconds(inputs: tuple[Any, Any, Any]) -> None:
    found = inputs[0].core_seconds(10**7)
    assert found == {"tiles": 200, "samples": 40, "fit": 5, "pixels": 400, "export": 10}


def test_bill_of_scenes_is_decided_by_the_last_scene(inputs: tuple[Any, Any, Any]) -> None:
    walls = {n: scaling.bill("scenes", n, *inputs).wall_seconds for n in (1, 60, 99, 100, 5000)}
    assert walls == {1: 65_500, 60: 1310, 99: 1310, 100: 655, 5000: 655}
    assert scaling.useful_workers("scenes", *inputs) == 100


def test_bill_of_chunks_is_decided_by_the_scheduler(inputs: tuple[Any, Any, Any]) -> None:
    one, many = (scaling.bill("chunks", n, *inputs) for n in (1, 1000))
    assert one.wall_seconds == 100 * (655 + 2)
    assert (many.limit, many.wall_seconds) == ("the scheduler", 100 * 2)
    assert scaling.useful_workers("chunks", *inputs) == pytest.approx(657 / 2, rel=0.02)


def test_reading_decides_on_a_slow_file_system(inputs: tuple[Any, Any, Any]) -> None:
    slow = dataclasses.replace(inputs[2], read_rate=1e4)
    assert scaling.bill("scenes", 100, *inputs[:2], slow).limit == "reading"
    assert scaling.bill("scenes", 100, *inputs[:2], slow).wall_seconds == 100 * 100
    assert scaling.bill("chunks", 100, *inputs[:2], slow).wall_seconds == 4 * 100 * 100


def test_record_becomes_an_input(tmp_path: Path) -> None:
    record, costs = tmp_path / "run.json", tmp_path / "costs.json"
    content = {"parameters": {"patch_size": 7}, "stage_seconds": {**STAGES, "figure": 1.0}}
    record.write_text(json.dumps(content), encoding="utf-8")
    costs.write_text("{}", encoding="utf-8")
    scaling.keep_record(record, 10**6, 2, costs)
    (found,) = scaling.read_stages(costs).values()
    assert (found.scene_pixels, found.cores, found.seconds) == (10**6, 2, STAGES)


def test_model_reads_its_inputs_and_draws(tmp_path: Path) -> None:
    stages, scheduler = scaling.read_stages(), scheduling.read_costs()
    season = scaling.Season()
    assert set(stages) == {7, 15}
    rows = scaling.season_table(stages, scheduler, season).splitlines()
    assert len(rows) == 2 + 2 * len(scaling.WORKERS)
    assert scaling.limit_table(stages, scheduler, season).count("|") > 10
    scaling.draw(stages, scheduler, season, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("benchmarks.md", ("patch_memory", "throughput", "scheduler", "graph")),
        ("scaling.md", ("stage_costs", "season", "limits")),
    ],
)
def test_pages_have_the_sections_that_are_written(page: str, names: tuple[str, ...]) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for name in names:
        assert text.index(f"<!-- {name} -->\n") < text.index(f"<!-- /{name} -->")
