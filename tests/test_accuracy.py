"""Confusion matrices and reports per class."""

from __future__ import annotations

import tracemalloc

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.crs import CRS
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from sklearn.metrics import confusion_matrix as counts_of_sklearn

from csc_xr.accuracy.confusion import confusion_matrix, count_codes
from csc_xr.accuracy.scores import classification_report
from csc_xr.errors import LabelError, ParameterError
from csc_xr.grid import place
from csc_xr.legend import GLACIER, RIVER, ClassLegend, LegendClass


def raster(values: np.ndarray, chunks: int | None = None) -> xr.DataArray:
    data = np.asarray(values)
    return xr.DataArray(da.from_array(data, chunks) if chunks else data, dims=("y", "x"))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    codes = st.integers(0, 5)
    labels = draw(hnp.arrays(np.uint8, shape, elements=codes))
    labels.flat[0] = draw(st.integers(1, 5))
    return labels, draw(hnp.arrays(np.uint8, shape, elements=codes))


@given(pair=pairs(), chunk=st.integers(1, 13))
@settings(max_examples=60, deadline=None)
def test_report_equals_scikit_learn(pair: tuple[np.ndarray, np.ndarray], chunk: int) -> None:
    labels, predicted = pair
    confusion = confusion_matrix(raster(labels, chunk), raster(predicted), legend=RIVER)
    report = classification_report(confusion).set_index("Class")
    truth, found = labels[labels > 0], predicted[labels > 0]
    present = sorted(set(truth.tolist()))
    settings_of_sklearn = {"labels": present, "zero_division": 0}
    columns = ["Precision", "Recall", "F1_score"]

    wanted = precision_recall_fscore_support(truth, found, **settings_of_sklearn)
    classes = report.loc[[RIVER.class_name(code) for code in present]]
    np.testing.assert_allclose(classes[columns].to_numpy().T, wanted[:3], rtol=1e-12)
    assert classes["Support"].tolist() == wanted[3].tolist()
    for row, average in (("Macro_avg", "macro"), ("Weighted_avg", "weighted")):
        wanted = precision_recall_fscore_support(
            truth, found, average=average, **settings_of_sklearn
        )
        np.testing.assert_allclose(report.loc[row, columns].astype(float), wanted[:3], rtol=1e-12)
    assert report.loc["Accuracy", "F1_score"] == pytest.approx(accuracy_score(truth, found))
    assert report.loc["Accuracy", ["Precision", "Recall"]].isna().all()
    assert report["Support"].tail(3).tolist() == [len(truth)] * 3


@given(pair=pairs(), chunks=st.tuples(st.integers(1, 13), st.integers(1, 13)))
@settings(max_examples=40, deadline=None)
def test_chunks_do_not_matter(pair: tuple[np.ndarray, np.ndarray], chunks: tuple[int, int]) -> None:
    labels, predicted = pair
    whole = confusion_matrix(raster(labels), raster(predicted), legend=RIVER)
    parts = confusion_matrix(raster(labels, chunks[0]), raster(predicted, chunks[1]), legend=RIVER)
    xr.testing.assert_identical(whole, parts)
    wanted = [[np.sum((labels == a) & (predicted == b)) for b in range(6)] for a in range(1, 6)]
    assert whole.values.tolist() == np.array(wanted).tolist()


def test_no_class_counts_against_recall_and_unlabelled_pixels_do_not_count() -> None:
    labels = raster(np.array([[1, 1, 0, 0]], np.uint8))
    predicted = raster(np.array([[1, 0, 0, 2]], np.uint8))
    confusion = confusion_matrix(labels, predicted, legend=RIVER)
    assert confusion.sel(label=1, predicted=0) == 1
    assert confusion.sum() == 2
    assert confusion["predicted_name"].values[:2].tolist() == ["Unclassified", "Water"]
    water = classification_report(confusion).set_index("Class").loc["Water"]
    assert (water["Precision"], water["Recall"]) == (1.0, 0.5)


def test_matrices_of_images_add_up() -> None:
    one, two = np.array([[1, 2]], np.uint8), np.array([[2, 2]], np.uint8)
    single = confusion_matrix(raster(one), raster(two), legend=RIVER)
    double = confusion_matrix(
        raster(np.hstack([one, one])), raster(np.hstack([two, two])), legend=RIVER
    )
    xr.testing.assert_equal(single + single, double)
    report = classification_report(single + single)
    assert report["Support"].iloc[-1] == 4


def test_codes_with_gaps_and_display_only_codes() -> None:
    legend = ClassLegend("gaps", [LegendClass(3, "a", "red"), LegendClass(200, "b", "blue")])
    labels = raster(np.array([[3, 200]], np.int32))
    assert confusion_matrix(labels, labels, legend=legend).sel(label=200, predicted=200) == 1
    front = raster(np.array([[8, 4]], np.uint8))
    ice = raster(np.array([[4, 4]], np.uint8))
    assert confusion_matrix(ice, front, legend=GLACIER).sel(label=4, predicted=8) == 1


def test_memory_does_not_grow_with_the_raster() -> None:
    codes = xr.DataArray(da.ones((6144, 6144), chunks=512, dtype=np.uint8), dims=("y", "x"))
    tracemalloc.start()
    with dask.config.set(scheduler="synchronous"):
        confusion = confusion_matrix(codes, codes, legend=RIVER)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert confusion.sel(label=1, predicted=1) == codes.size
    assert peak < codes.size / 2


def test_shapes_must_agree() -> None:
    with pytest.raises(LabelError, match=r"shape of the class raster, 2 rows and 3 columns, got"):
        confusion_matrix(raster(np.ones((2, 2), int)), raster(np.ones((2, 3), int)), legend=RIVER)


def test_grids_must_agree() -> None:
    transform = Affine(10, 0, 5e5, 0, -10, 7e6)
    plain = raster(np.ones((4, 4), np.uint8))
    predicted = place(plain, transform, CRS.from_epsg(32633))
    same = place(plain, Affine(10, 0, 5e5 + 1e-6, 0, -10, 7e6), CRS.from_epsg(32633))
    assert confusion_matrix(same, predicted, legend=RIVER).sum() == 16
    assert confusion_matrix(plain, predicted, legend=RIVER).sum() == 16
    for other in (
        place(plain, Affine(10, 0, 5e5 + 10, 0, -10, 7e6), CRS.from_epsg(32633)),
        place(plain, transform, CRS.from_epsg(32634)),
    ):
        with pytest.raises(LabelError, match="must lie on the grid of the class raster"):
            confusion_matrix(other, predicted, legend=RIVER)


@pytest.mark.parametrize("chunk", [None, 1])
def test_foreign_codes_are_named(chunk: int | None) -> None:
    good, bad = raster(np.array([[1, 2]]), chunk), raster(np.array([[-1, 300]]), chunk)
    with pytest.raises(LabelError, match=r"Labels must hold 0 or codes of the legend 'river'.*got"):
        confusion_matrix(bad, good, legend=RIVER)
    with pytest.raises(ParameterError, match=r"Predicted classes must hold 0 or codes"):
        confusion_matrix(good, bad, legend=RIVER)


def test_dims_and_dtypes_are_checked() -> None:
    good = raster(np.ones((2, 2), np.uint8))
    with pytest.raises(ParameterError, match="class raster must have the dims y and x"):
        confusion_matrix(good, good.expand_dims("band"), legend=RIVER)
    with pytest.raises(LabelError, match="Labels must have the dims y and x"):
        confusion_matrix(good.expand_dims("band"), good, legend=RIVER)
    with pytest.raises(ParameterError, match="Class codes must be integers, got float64"):
        confusion_matrix(good, good.astype(float), legend=RIVER)
    with pytest.raises(LabelError, match="Labels must be integers, got float64"):
        confusion_matrix(good.astype(float), good, legend=RIVER)


def test_report_needs_labelled_pixels() -> None:
    empty = raster(np.zeros((2, 2), np.uint8))
    with pytest.raises(LabelError, match="Scores need labelled pixels, got labels that are 0"):
        classification_report(confusion_matrix(empty, empty, legend=RIVER))


@given(
    codes=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=60),
    dtypes=st.tuples(*[st.sampled_from([np.uint8, np.int16, np.int64])] * 2),
)
@settings(max_examples=60, deadline=None)
def test_tiles_are_counted_as_scikit_learn_counts(
    codes: list[tuple[int, int]], dtypes: tuple[type, type]
) -> None:
    pairs_of_codes = np.array([*codes, (1, 1)])
    labels, predicted = (pairs_of_codes[:, i].astype(dtypes[i]) for i in range(2))
    counted = count_codes(labels, predicted, legend=RIVER)
    wanted = counts_of_sklearn(labels, predicted, labels=[0, *RIVER.codes])[1:]
    assert counted.values.tolist() == wanted.tolist()
    pixels = confusion_matrix(raster(labels[:, None]), raster(predicted[:, None]), legend=RIVER)
    xr.testing.assert_identical(counted, pixels.assign_attrs(units="tiles"))


def test_report_of_tiles_equals_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    labels, predicted = rng.choice([1, 2, 4, 7], (2, 500)).astype(np.uint8)
    report = classification_report(count_codes(labels, predicted, legend=GLACIER))
    scores = report.set_index("Class")[["Precision", "Recall", "F1_score"]].astype(float)
    wanted = precision_recall_fscore_support(labels, predicted)
    np.testing.assert_allclose(scores.iloc[:4].to_numpy().T, wanted[:3], rtol=1e-12)
    assert report["Support"].tolist() == [*wanted[3].tolist(), 500, 500, 500]
    assert scores.loc["Accuracy", "F1_score"] == pytest.approx(accuracy_score(labels, predicted))


def test_codes_of_tiles_are_checked() -> None:
    good = np.array([1, 2, 2])
    with pytest.raises(ParameterError, match="must have one dimension, got 2"):
        count_codes(good[:, None], good[:, None], legend=RIVER)
    for labels in (good[:2], good[:, None]):
        with pytest.raises(LabelError, match="one code for each of the 3 predicted tiles, got"):
            count_codes(labels, good, legend=RIVER)
    with pytest.raises(ParameterError, match="Class codes must be integers, got float64"):
        count_codes(good, good.astype(float), legend=RIVER)
    with pytest.raises(LabelError, match="Labels must be integers, got float64"):
        count_codes(good.astype(float), good, legend=RIVER)
    with pytest.raises(LabelError, match=r"Labels must hold 0 or codes of the legend 'river'.*9"):
        count_codes(good + 7, good, legend=RIVER)
    with pytest.raises(ParameterError, match=r"Predicted classes must hold 0 or codes.*9"):
        count_codes(good, good + 7, legend=RIVER)


def test_report_needs_labelled_tiles() -> None:
    for size in (0, 3):
        codes = np.zeros(size, np.uint8)
        with pytest.raises(LabelError, match="Scores need labelled tiles, got labels that are 0"):
            classification_report(count_codes(codes, codes, legend=RIVER))
