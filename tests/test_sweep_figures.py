"""Figures of results over many runs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from figures_for_tests import assert_texts_are_whole_and_apart, legend_names
from matplotlib.figure import Figure
from PIL import Image

from csc_xr.accuracy.confusion import confusion_matrix
from csc_xr.errors import OutputError, ParameterError
from csc_xr.figures.confusion import confusion_figure
from csc_xr.figures.run_names import name_runs, telling_columns
from csc_xr.figures.sweeps import class_figure, f1_sweep_figure, scene_figure
from csc_xr.legend import ClassLegend, LegendClass
from csc_xr.results.tables import F1_COLUMNS, make_table

CLASSES = {"Open Water": 1, "Mélange": 3, "Snow on Rock": 6}


def table(
    settings: Mapping[str, Sequence[Any]],
    *,
    n_scenes: int = 3,
    pooled: bool = True,
    classes: Mapping[str, int] = CLASSES,
) -> pd.DataFrame:
    """Scores of a run for each combination of settings: 80 % and more, higher in phase two."""
    rows = []
    for number, values in enumerate(itertools.product(*settings.values())):
        run = {"Run": f"run{number}", **dict(zip(settings, values, strict=True))}
        scenes = [f"s{scene}" for scene in range(n_scenes)]
        for phase, scene in itertools.product((1, 2), [*scenes, *(["pooled"] if pooled else [])]):
            base = 0.8 + 0.1 * (phase == 2) + 0.001 * number
            base += 0.01 * int(scene[1:]) if scene != "pooled" else 0.05
            for name, code in {"All": None, "Macro": None, "Accuracy": None, **classes}.items():
                score = base - 0.01 * (code or 0)
                rows.append(
                    {
                        **run,
                        "CSC_Phase": phase,
                        "Scene": scene,
                        "F1": score,
                        "F1_Class": name,
                        "Class_Code": code,
                        "Scenes": 1 if scene != "pooled" else n_scenes,
                    }
                )
    return make_table(rows, F1_COLUMNS)


def note(figure: Figure) -> str:
    return figure.legends[0].get_title().get_text().replace("\n", " ")


def means(figure: Figure, panel: int, line: int) -> tuple[list[float], list[float]]:
    """Places and heights of a line of means."""
    drawn = [entry for entry in figure.axes[panel].lines if entry.get_markersize() == 7]
    x, y = drawn[line].get_data()
    return np.asarray(x, float).tolist(), np.asarray(y, float).tolist()


def dots_in(figure: Figure, panel: int) -> int:
    lines = figure.axes[panel].lines
    return sum(len(line.get_xdata()) for line in lines if line.get_markersize() == 3.6)


def test_means_over_scenes_against_a_setting(tmp_path: Path) -> None:
    f1 = table({"Tile_Size": [50, 75], "Patch_Size": [3, 7, 15]})
    figure = f1_sweep_figure(f1, title="F1 against patch size", path=tmp_path / "a.png")
    assert [axis.get_title() for axis in figure.axes] == ["Phase one: tiles", "Phase two: pixels"]
    assert legend_names(figure) == ["tile size 50 px", "tile size 75 px", "A scene"]
    assert note(figure) == "Means over 3 scenes"
    assert figure.axes[1].get_xlabel() == "Patch size (px)"
    assert figure.axes[0].get_ylabel() == "F1, weighted over classes (%)"
    places, heights = means(figure, 1, 1)
    np.testing.assert_allclose(places, [3, 7, 15], atol=1)  # lines stand beside each other
    np.testing.assert_allclose(heights, [91.3, 91.4, 91.5])
    np.testing.assert_allclose(means(figure, 0, 0)[1], [81.0, 81.1, 81.2])
    assert dots_in(figure, 0) == 2 * 3 * 3
    low, high = figure.axes[0].get_ylim()
    assert low < 80
    assert 92.5 < high <= 100
    assert_texts_are_whole_and_apart(figure)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_text_and_crowded_values_stand_evenly() -> None:
    f1 = table({"Bands": ["RGB", "NIR_RGB"]})
    figure = f1_sweep_figure(f1, by="Bands", title="t")
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert ticks == ["NIR_RGB", "RGB"]
    assert means(figure, 0, 0)[0] == [0, 1]
    f1 = table({"Fit_Steps": [100, 101, 9000]})
    assert means(f1_sweep_figure(f1, by="Fit_Steps", title="t"), 0, 0)[0] == [0, 1, 2]
    long = table({"Network_Name": [f"a_network_of_a_long_name_{n}" for n in range(4)]})
    figure = f1_sweep_figure(long, by="Network_Name", title="t")
    assert {text.get_rotation() for text in figure.axes[0].get_xticklabels()} == {30}
    assert_texts_are_whole_and_apart(figure)


def test_one_value_of_one_scene() -> None:
    figure = f1_sweep_figure(table({"Patch_Size": [7]}, n_scenes=1), title="t")
    assert legend_names(figure) == ["F1"]
    assert note(figure) == "1 scene"
    assert dots_in(figure, 0) == 0
    assert_texts_are_whole_and_apart(figure)


def test_many_scenes_are_shown_by_their_quartiles() -> None:
    f1 = table({"Patch_Size": [3, 7]}, n_scenes=40)
    f1["F1"] = f1["F1"].clip(upper=1.0)
    figure = f1_sweep_figure(f1, title="t")
    assert legend_names(figure) == ["Mean", "Middle half of the scenes"]
    bars = [line for line in figure.axes[0].lines if line.get_linewidth() == 4]
    np.testing.assert_allclose(
        bars[0].get_ydata(),
        np.percentile(100 * (0.8 + 0.01 * np.arange(21).repeat([1] * 20 + [20])), [25, 75]),
    )
    assert dots_in(figure, 0) == 0
    assert figure.axes[0].get_ylim()[1] < 101


def test_settings_beyond_ten_lines_are_averaged_over() -> None:
    f1 = table(
        {
            "Patch_Size": [3, 7],
            "Tile_Size": [50, 75],
            "Glacier": ["H", "S"],
            "Fit_Steps": [*range(4)],
        }
    )
    figure = f1_sweep_figure(f1, title="t")
    names = [f"tile size {size} px, glacier {place}" for size in (50, 75) for place in "HS"]
    assert legend_names(figure) == [*names, "A score"]
    assert note(figure) == "Means over 3 scenes and all values of fit steps"
    own = f1[(f1["Tile_Size"] == 75) & (f1["Glacier"] == "S") & (f1["Patch_Size"] == 7)]
    own = own[(own["F1_Class"] == "Macro") & (own["Scene"] != "pooled") & (own["CSC_Phase"] == 2)]
    assert means(figure, 1, 3)[1][1] == pytest.approx(100 * own["F1"].mean())
    assert_texts_are_whole_and_apart(figure)


def test_runs_of_several_seeds_are_one_line() -> None:
    f1 = table({"Patch_Size": [3, 7], "Tile_Size": [50, 75], "Seed": [0, 1]})
    figure = f1_sweep_figure(f1, title="t")
    assert legend_names(figure) == ["tile size 50 px", "tile size 75 px", "A score"]
    assert note(figure) == "Means over 3 scenes and all values of seed"
    assert dots_in(figure, 0) == 2 * 2 * 2 * 3
    figure = f1_sweep_figure(f1, by="Seed", title="t")
    assert len(legend_names(figure)) == 4 + 1
    twins = pd.concat([f1, f1.assign(Run="software")])
    figure = f1_sweep_figure(twins[twins["Seed"] == 0], title="t")
    assert note(figure) == "Means over 3 scenes and several runs"


def test_what_follows_from_the_seed_still_makes_lines() -> None:
    old = table({"Patch_Size": [3, 7], "Seed": [None], "CNN_Training": [None]})
    both = pd.concat([table({"Patch_Size": [3, 7], "Seed": [0], "CNN_Training": ["Joint"]}), old])
    figure = f1_sweep_figure(both, title="t")
    assert legend_names(figure)[:2] == ["CNN training Joint", "CNN training unknown"]


def test_what_is_unknown_or_uneven_is_said() -> None:
    f1 = table({"Tile_Size": [50, 75], "Patch_Size": [3, 7]})
    f1.loc[f1["Patch_Size"] == 3, "Patch_Size"] = pd.NA
    f1.loc[f1["Tile_Size"] == 75, "Tile_Size"] = pd.NA
    figure = f1_sweep_figure(f1, title="t")
    assert legend_names(figure)[:2] == ["tile size 50 px", "tile size unknown"]
    assert note(figure) == "Means over 3 scenes; 2 runs of unknown patch size not shown"
    f1 = table({"Patch_Size": [3, 7]})
    some = f1[(f1["Patch_Size"] == 3) | (f1["Scene"] != "s2")]
    figure = f1_sweep_figure(some, f1_class="Mélange", title="t")
    assert note(figure) == "Means over 2 to 3 scenes (not the same everywhere)"
    assert figure.axes[0].get_ylabel() == "F1 of Mélange (%)"


def test_phases_that_are_there() -> None:
    f1 = table({"Patch_Size": [3, 7]})
    f1 = f1[f1["CSC_Phase"] == 2]
    for figure in (f1_sweep_figure(f1, title="t"), scene_figure(f1, title="t")):
        assert len(figure.axes) == 1
    assert legend_names(class_figure(f1, title="t")) == ["Phase two: pixels", "A scene"]


def test_bars_by_class(tmp_path: Path) -> None:
    f1 = table({"Patch_Size": [3, 7]})
    f1 = f1[(f1["F1_Class"] != "Mélange") | (f1["Run"] != "run1")]
    figure = class_figure(f1, title="F1 by class", path=tmp_path / "a.png")
    assert [axis.get_title() for axis in figure.axes] == ["patch size 3 px", "patch size 7 px"]
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["All, weighted", "Open Water", "Mélange", "Snow on Rock"]
    widths = [[bar.get_width() for bar in axis.patches] for axis in figure.axes]
    assert sorted(widths[0]) == pytest.approx([79, 82, 84, 85, 89, 92, 94, 95])
    assert len(widths[1]) == 6
    figures = {text.get_text() for text in figure.axes[0].texts}
    assert figures == {"79.0", "82.0", "84.0", "85.0", "89.0", "92.0", "94.0", "95.0"}
    assert legend_names(figure) == ["Phase one: tiles", "Phase two: pixels", "A scene"]
    assert note(figure) == "Bars: pixels of 3 scenes together"
    assert figure.axes[0].get_xlim() == (0, 100)
    assert_texts_are_whole_and_apart(figure)
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_dollar_signs_are_no_formulas() -> None:
    places, rock = ["$\\fjord_1$", "b$"], {"Rock $\\x$ and $ice$": 1}
    f1 = table({"Patch_Size": [3, 7], "Glacier": places}, classes=rock)
    title = "F1 of $\\x_{$"
    for figure in (
        f1_sweep_figure(f1, title=title), f1_sweep_figure(f1, by="Glacier", title=title),
        class_figure(f1, title=title), scene_figure(f1, title=title),
    ):  # fmt: skip
        assert_texts_are_whole_and_apart(figure)  # draws it, and formulas cannot be read
    codes = xr.DataArray([[1, 1, 2]], dims=("y", "x"))
    legend = ClassLegend("two", [LegendClass(1, "$\\x$", "red"), LegendClass(2, "$_$", "blue")])
    confusion = confusion_matrix(codes, codes, legend=legend)
    assert_texts_are_whole_and_apart(confusion_figure(confusion, legend=legend, title=title))


def test_bars_of_scores_that_are_not_pooled_are_means() -> None:
    long = {"Wet sand and gravel beside the channel": 1, "A": 2}
    f1 = table({"Patch_Size": [3]}, pooled=False, classes=long)
    figure = class_figure(f1, title="t")
    assert note(figure) == "Bars: means over 3 scenes"
    assert max(bar.get_width() for bar in figure.axes[0].patches) == pytest.approx(91)
    assert figure.axes[0].get_title() == ""
    assert_texts_are_whole_and_apart(figure)
    mixed = pd.concat([f1, table({"Patch_Size": [7]}, classes=long).assign(Run="other")])
    words = "Bars: pixels of 3 scenes together, or else means over 3 scenes"
    assert note(class_figure(mixed, title="t")) == words
    one = class_figure(table({"Patch_Size": [3]}, n_scenes=1), title="t")
    assert legend_names(one) == ["Phase one: tiles", "Phase two: pixels"]


def test_scenes_of_each_run(tmp_path: Path) -> None:
    f1 = table({"Tile_Size": [50, 75], "Bands": ["RGB", "NIR_RGB"]}, n_scenes=8)
    figure = scene_figure(f1, title="F1 over scenes", path=tmp_path / "a.png")
    axis = figure.axes[0]
    labels = [text.get_text() for text in axis.get_yticklabels()]
    assert labels == [
        f"tile size {size} px, bands {bands}" for size in (50, 75) for bands in ("RGB", "NIR_RGB")
    ]
    assert note(figure) == "8 scenes each"
    assert legend_names(figure) == ["Phase one: tiles", "Phase two: pixels", "A scene", "Mean"]
    assert len(axis.patches) == 8  # boxes
    marks = [line for line in axis.lines if line.get_marker() == "D"]
    assert marks[0].get_xdata() == pytest.approx([83.5])
    shown = [line for line in axis.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(shown[1].get_xdata(), 90 + np.arange(8))
    assert np.ptp(shown[1].get_ydata()) < 0.3
    assert_texts_are_whole_and_apart(figure)


def test_few_scenes_have_no_box() -> None:
    figure = scene_figure(table({"Patch_Size": [3]}, n_scenes=5), title="t")
    assert len(figure.axes[0].patches) == 0
    assert note(figure) == "5 scenes"
    figure = scene_figure(table({"Patch_Size": [3]}, n_scenes=1), title="t")
    assert note(figure) == "1 scene"
    assert "Mean" not in legend_names(figure)
    assert_texts_are_whole_and_apart(figure)


def test_runs_are_named_by_what_tells_them_apart() -> None:
    f1 = table({"Patch_Size": [3, 7]})
    f1["Experiment"] = "exp " + f1["Run"]  # follows from the patch size
    f1["Validation"] = f1["Scene"].map({"s0": "Seen"})  # differs within the runs
    assert name_runs(f1) == {"run0": "patch size 3 px", "run1": "patch size 7 px"}
    twins = table({"Patch_Size": [7], "Mode_Radius": [4]})
    twins = pd.concat([twins, twins.assign(Run="software")])
    assert name_runs(twins) == {"run0": "(run0)", "software": "(software)"}
    f1 = table({"Seed": [0, 1], "Fit_Learning_Rate": [0.001, None]}, n_scenes=1)
    assert telling_columns(f1) == (["Fit_Learning_Rate", "Seed"], [])
    assert list(name_runs(f1).values())[1] == "fit learning rate unknown, seed 0"


def test_what_cannot_be_drawn_is_told(tmp_path: Path) -> None:
    f1 = table({"Patch_Size": [*range(1, 26)]}, n_scenes=1, classes={"A": 1})
    for draw, most in ((class_figure, 6), (scene_figure, 24)):
        with pytest.raises(ParameterError, match=f"shows 1 to {most} runs, got 25. Pass the rows"):
            draw(f1, title="t")
        with pytest.raises(ParameterError, match=r"needs the columns .* got a table without Run"):
            draw(f1.drop(columns="Run"), title="t")
    with pytest.raises(ParameterError, match="shows 1 to 6 runs, got 0"):
        class_figure(f1.assign(F1=np.nan), title="t")
    with pytest.raises(ParameterError, match="got a table without Nonsense"):
        f1_sweep_figure(f1, by="Nonsense", title="t")
    with pytest.raises(ParameterError, match=r"needs runs that tell their Glacier, got none"):
        f1_sweep_figure(f1, by="Glacier", title="t")
    with pytest.raises(ParameterError, match=r"scores of 'Lava' for single scenes, .*: All, Macro"):
        f1_sweep_figure(f1, f1_class="Lava", title="t")
    (tmp_path / "taken.png").mkdir()
    few = f1[f1["Patch_Size"] < 3]
    for figure in (class_figure, scene_figure, f1_sweep_figure):
        with pytest.raises(OutputError, match="must be a file, but is a folder already"):
            figure(few, title="t", path=tmp_path / "taken.png")


def test_no_global_figure_is_touched() -> None:
    before = dict(mpl.rcParams)
    f1 = table({"Patch_Size": [3, 7]}, n_scenes=6)
    for draw in (class_figure, scene_figure, f1_sweep_figure):
        draw(f1, title="t")
    assert dict(mpl.rcParams) == before
