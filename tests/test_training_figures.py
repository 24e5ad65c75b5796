"""The figures of a training: its course, and the confusion of classes it ends with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from figures_for_tests import assert_texts_are_whole_and_apart, legend_names
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from csc_xr.accuracy.confusion import confusion_matrix, count_codes
from csc_xr.errors import LabelError, LegendError, OutputError, ParameterError
from csc_xr.figures.confusion import confusion_figure
from csc_xr.figures.style import add_title, text_inches
from csc_xr.figures.training import history_figure
from csc_xr.legend import GLACIER, RIVER, ClassLegend, LegendClass


def make_history(epochs: int = 6, *, validation: bool = True) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    accuracy = 1 - 0.6 / epoch
    missing = np.full(epochs, np.nan)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "loss": 1.5 / epoch,
            "accuracy": accuracy,
            "validation_loss": 1.6 / epoch if validation else missing,
            "validation_accuracy": accuracy - 0.05 if validation else missing,
            "learning_rate": 1e-3,
            "seconds": 2.5,
        }
    )


def make_confusion(labels: list[int], predicted: list[int]) -> xr.DataArray:
    return count_codes(np.array(labels), np.array(predicted), legend=RIVER)


def curves(axis: Axes) -> dict[str, tuple[list[float], list[float]]]:
    return {
        str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axis.lines
        if not str(line.get_label()).startswith("_")
    }


def cell_texts(figure: Figure) -> list[str]:
    return [text.get_text().replace("\u202f", " ") for text in figure.axes[0].texts]


def row_names(axis: Axes) -> list[str]:
    return [label.get_text() for label in axis.get_yticklabels()]


def column_names(axis: Axes) -> list[str]:
    return [label.get_text() for label in axis.get_xticklabels()]


def test_history_has_two_panels_with_target_and_kept_epoch(tmp_path: Path) -> None:
    history = make_history()
    figure = history_figure(
        history, title="Glacier", target_accuracy=0.925, kept_epoch=5, path=tmp_path / "a.png"
    )
    loss, accuracy = figure.axes
    assert [axis.get_title() for axis in figure.axes] == [
        "Loss (validation 0.32 at epoch 5)",
        "Accuracy (validation 83.0 % at epoch 5)",
    ]
    for axis, quantity, factor in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        shown = curves(axis)
        for name, column in (("Training", quantity), ("Validation", f"validation_{quantity}")):
            assert shown[name][0] == [1, 2, 3, 4, 5, 6]
            np.testing.assert_allclose(shown[name][1], factor * history[column])
        assert [5, 5] in [list(line.get_xdata()) for line in axis.lines]
    assert curves(accuracy)["Target 92.5 %"][1] == [92.5, 92.5]
    assert "Target 92.5 %" not in curves(loss)
    assert legend_names(figure) == ["Training", "Validation", "Target 92.5 %", "Kept: epoch 5"]
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert 1000 < image.size[0] < 2500
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_history_without_validation_target_or_kept_epoch() -> None:
    figure = history_figure(make_history(validation=False), title="t")
    assert legend_names(figure) == ["Training"]
    assert [axis.get_title() for axis in figure.axes] == ["Loss", "Accuracy"]
    kept = history_figure(make_history(validation=False), title="t", kept_epoch=2)
    assert kept.axes[0].get_title() == "Loss (training 0.75 at epoch 2)"


def test_history_of_one_epoch_has_a_point_and_one_tick() -> None:
    figure = history_figure(make_history(1), title="t", kept_epoch=1)
    axis = figure.axes[0]
    low, high = axis.get_xlim()
    assert [tick for tick in axis.get_xticks() if low <= tick <= high] == [1]
    assert axis.lines[0].get_marker() == "o"


def test_epochs_without_validation_are_passed_over() -> None:
    history = make_history()
    history.loc[[0, 2], ["validation_loss", "validation_accuracy"]] = np.nan
    for axis in history_figure(history, title="t").axes:
        assert curves(axis)["Validation"][0] == [2, 4, 5, 6]


def test_a_training_that_diverged_is_drawn(tmp_path: Path) -> None:
    history = make_history(3, validation=False).assign(loss=[np.nan, np.inf, np.nan])
    figure = history_figure(history, title="t", kept_epoch=3, path=tmp_path / "a.png")
    assert legend_names(figure) == ["Training", "Kept: epoch 3"]
    assert figure.axes[0].get_title() == "Loss"


@pytest.mark.parametrize(("worst", "scale"), [(2, "linear"), (900, "log")])
def test_losses_of_many_sizes_are_drawn_logarithmically(worst: float, scale: str) -> None:
    history = make_history(50)
    history.loc[3, "validation_loss"] = worst
    axis = history_figure(history, title="t").axes[0]
    assert axis.get_yscale() == scale
    assert scale == "log" or axis.get_ylim()[0] == 0


def test_accuracy_has_no_tick_beyond_all() -> None:
    history = make_history().assign(accuracy=1.0, validation_accuracy=1.0)
    low, high = history_figure(history, title="t", target_accuracy=0.9).axes[1].get_ylim()
    assert low < 90
    assert 100 < high < 101


def test_histories_are_checked(tmp_path: Path) -> None:
    history = make_history()
    with pytest.raises(ParameterError, match=r"without accuracy, validation_loss\. Fill"):
        history_figure(history.drop(columns=["accuracy", "validation_loss"]), title="t")
    with pytest.raises(ParameterError, match="must have a row for each epoch, got none"):
        history_figure(history.iloc[:0], title="t")
    for target in (0, 95, np.nan):
        with pytest.raises(ParameterError, match="target_accuracy must lie above 0 and at most"):
            history_figure(history, title="t", target_accuracy=target)
    with pytest.raises(ParameterError, match=r"epoch of the history, 1 to 6, got 7\. Pass"):
        history_figure(history, title="t", kept_epoch=7)
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OutputError, match="must be a file, but is a folder already"):
        history_figure(history, title="t", path=tmp_path / "taken.png")


def test_confusion_shows_shares_counts_and_support(tmp_path: Path) -> None:
    confusion = make_confusion([1] * 3000 + [3] * 4, [1] * 2000 + [3] * 1000 + [3] * 4)
    figure = confusion_figure(confusion, legend=RIVER, title="River", path=tmp_path / "a.png")
    axis = figure.axes[0]
    assert row_names(axis) == ["Water", "Green Vegetation"]
    assert [name.replace("\n", " ") for name in column_names(axis)] == row_names(axis)
    assert cell_texts(figure) == ["66.7", "2 000", "33.3", "1 000", "100", "4"]
    np.testing.assert_allclose(axis.images[0].get_array(), [[2 / 3, 1 / 3], [0, 1]])
    right = axis.child_axes[0]
    assert [name.replace("\u202f", " ") for name in row_names(right)] == ["3 000", "4"]
    assert right.get_ylabel() == "Support (tiles)"
    assert axis.get_title() == "Accuracy 66.7 %, mean F1 40.4 %"
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert 800 < image.size[0] < 1200
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_columns_of_classes_only_predicted_and_of_no_class() -> None:
    axis = confusion_figure(
        make_confusion([2, 2, 2, 2, 0], [2, 0, 5, 2, 4]), legend=RIVER, title="t"
    ).axes[0]
    assert row_names(axis) == ["Dry Sediment"]
    names = [name.replace("\n", " ") for name in column_names(axis)]
    assert names == ["Dry Sediment", "Paved Road", "Unclassified"]
    rows, columns = (swatches.get_facecolors().tolist() for swatches in axis.collections)
    orange, red, black = (mpl.colors.to_rgba(name) for name in ("orange", "red", "black"))
    assert rows == [list(orange)]
    assert columns == [list(orange), list(red), list(black)]


def test_text_stands_out_from_its_cell() -> None:
    """A contrast of 4.5 is what WCAG 2.2 asks of text (success criterion 1.4.3)."""
    labels, predicted = [], []
    for hits in range(0, 101, 5):
        labels += [1] * 100 + [2] * 100
        predicted += [1] * hits + [2] * (100 - hits) + [2] * 100
        axis = confusion_figure(
            make_confusion(labels[-200:], predicted[-200:]), legend=RIVER, title="t"
        ).axes[0]
        shown = axis.images[0]
        for text in axis.texts:
            column, row = (round(place) for place in text.get_position())
            cell = luminance(shown.cmap(shown.norm(shown.get_array()[row, column])))
            ink = luminance(mpl.colors.to_rgba(text.get_color()))
            assert (max(cell, ink) + 0.05) / (min(cell, ink) + 0.05) > 4.4


def luminance(colour: tuple[float, ...]) -> float:
    rgb = np.array(colour[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def make_legend(count: int) -> ClassLegend:
    names = [
        "Open Water",
        "Sediment-laden Meltwater Plume",
        "Unconsolidated Moraine",
        "Mélange",
        "Senescent Vegetation",
        "Supraglacial Lake",
    ]
    return ClassLegend(
        "long",
        [LegendClass(n + 1, f"{names[n % 6]}{' I' * (n // 6)}", "orange") for n in range(count)],
    )


@pytest.mark.parametrize("count", [1, 2, 5, 9, 12])
@pytest.mark.parametrize("factor", [1, 123_456_789])
def test_nothing_overlaps(count: int, factor: int) -> None:
    legend = make_legend(count)
    codes = np.repeat(np.arange(1, count + 1), count)
    found = np.tile(np.arange(count), count)
    confusion = count_codes(codes, found, legend=legend) * factor
    figure = confusion_figure(confusion, legend=legend, title="A title that is rather long " * 3)
    assert_texts_are_whole_and_apart(figure)
    assert max(figure.get_size_inches()) < 24


def test_pixels_and_sums_of_matrices() -> None:
    codes = xr.DataArray(np.array([[1, 2], [7, 8]]), dims=("y", "x"))
    one = confusion_matrix(codes, codes, legend=GLACIER)
    figure = confusion_figure(one, legend=GLACIER, title="t")
    assert figure.axes[0].child_axes[0].get_ylabel() == "Support (pixels)"
    total = (one + one).transpose().drop_attrs()
    assert cell_texts(confusion_figure(total, legend=GLACIER, title="t")) == ["100", "2"] * 4
    bare = confusion_figure(total, legend=GLACIER, title="t")
    assert bare.axes[0].child_axes[0].get_ylabel() == "Support"


def test_matrices_are_checked(tmp_path: Path) -> None:
    confusion = make_confusion([1, 5], [1, 1])
    for wrong in (confusion.rename(label="truth"), confusion.drop_vars("label_name")):
        with pytest.raises(ParameterError, match="must have the dims label and predicted with"):
            confusion_figure(wrong, legend=RIVER, title="t")
    with pytest.raises(LabelError, match="Scores need labelled tiles, got labels that are 0"):
        confusion_figure(make_confusion([0], [1]), legend=RIVER, title="t")
    short = ClassLegend("short", RIVER.classes[:2])
    with pytest.raises(LegendError, match=r"'short' has codes \(1, 2\), got 5"):
        confusion_figure(confusion, legend=short, title="t")
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OutputError, match="must be a file, but is a folder already"):
        confusion_figure(confusion, legend=RIVER, title="t", path=tmp_path / "taken.png")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: history_figure(make_history(), title="t"),
        lambda: confusion_figure(make_confusion([1], [1]), legend=RIVER, title="t"),
    ],
)
def test_no_global_figure_is_touched(draw: Callable[[], Figure]) -> None:
    before = dict(mpl.rcParams)
    draw()
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("title", "lines"),
    [
        ("Short", 1),
        ("Two\nlines", 2),
        ("", 0),
        ("word " * 63, 9),
        ("a title with more words than find room in one line", 2),
        ("S2A_MSIL1C_20230615T103031_N0509_R108_T32UQD_20230615T140000", 2),
    ],
)
def test_titles_fit_their_figure(title: str, lines: int) -> None:
    figure = Figure(figsize=(5, 4))
    add_title(figure, title)
    written = figure.get_suptitle().splitlines()
    assert len(written) == lines
    assert "".join(written).replace(" ", "") == "".join(title.split())
    widths = [text_inches(line, 15, weight="bold") for line in written]
    assert max(widths, default=0) < 5
    assert min(widths, default=0) >= 0.6 * max(widths, default=0)
