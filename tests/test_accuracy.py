"""Confusion matrices and reports per class."""

from __future__ import annotations

import json
import tracemalloc

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.crs import CRS
from scipy.stats import multivariate_hypergeom
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from sklearn.metrics import confusion_matrix as counts_of_sklearn

from csc_xr.accuracy.confusion import (
    confusion_from_dict,
    confusion_matrix,
    confusion_to_dict,
    count_classes,
    count_codes,
    subsample,
)
from csc_xr.accuracy.scores import METRICS, classification_report, tidy_scores
from csc_xr.errors import LabelError, LegendError, ParameterError
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


def test_pooled_and_thinned_scores_equal_scikit_learn() -> None:
    """The pixels behind a subsample are any with its counts: scores know no more of them."""
    rng = np.random.default_rng(5)
    scenes = [
        (rng.integers(0, 6, (40, 30)), rng.integers(0, 6, (40, 30)), rng.integers(1, 40))
        for _ in range(3)
    ]
    pooled = sum(
        confusion_matrix(raster(labels, int(chunk)), raster(found), legend=RIVER)
        for labels, found, chunk in scenes
    )
    thinned = subsample(pooled, n=700, seed=2)
    labels, found = (np.concatenate([scene[i].ravel() for scene in scenes]) for i in (0, 1))
    truths = [(labels[labels > 0], found[labels > 0])]
    cells = [(a, b) for a in RIVER.codes for b in (0, *RIVER.codes)]
    truths.append(tuple(np.repeat(cells, thinned.values.ravel(), axis=0).T))
    for confusion, (truth, predicted) in zip((pooled, thinned), truths, strict=True):
        columns = ["Precision", "Recall", "F1_score", "Support"]
        report = classification_report(confusion).set_index("Class")[columns].astype(float)
        wanted = precision_recall_fscore_support(truth, predicted, labels=RIVER.codes)
        np.testing.assert_allclose(report.loc[list(RIVER.names)].to_numpy().T, wanted, rtol=1e-12)
        right = accuracy_score(truth, predicted)
        assert report.loc["Accuracy", "F1_score"] == pytest.approx(right, rel=1e-12)


@given(
    counts=hnp.arrays(np.int64, (5, 6), elements=st.integers(0, 10**12)),
    n=st.integers(1, 10**6),
    seed=st.integers(0, 2**64),
)
@settings(max_examples=60, deadline=None)
def test_subsample_is_part_of_the_whole(counts: np.ndarray, n: int, seed: int) -> None:
    whole = count_codes(np.array([1]), np.array([1]), legend=RIVER).copy(data=counts)
    part = subsample(whole, n=n, seed=seed)
    assert part.sum() == min(n, counts.sum())
    assert ((part >= 0) & (part <= whole)).all()
    xr.testing.assert_identical(part, subsample(whole, n=n, seed=seed))
    assert part.attrs["units"] == "tiles"


def test_subsample_equals_in_law_a_draw_without_replacement() -> None:
    counts = [40, 25, 10, 5]
    whole = count_codes(np.repeat([1, 2], [65, 15]), np.repeat([1, 2, 1, 2], counts), legend=RIVER)
    drawn = np.array(
        [subsample(whole, n=30, seed=seed).values[:2, 1:3].ravel() for seed in range(1500)]
    )
    law = multivariate_hypergeom(counts, 30)
    wide = 4 * np.sqrt(np.diag(law.cov()) / len(drawn))
    assert (np.abs(drawn.mean(axis=0) - law.mean()) < wide).all()
    np.testing.assert_allclose(np.cov(drawn.T), law.cov(), atol=0.35)
    assert len(np.unique(drawn, axis=0)) > 200


def test_subsample_checks_what_it_gets() -> None:
    counts = count_codes(np.array([1, 2]), np.array([1, 2]), legend=RIVER)
    xr.testing.assert_identical(subsample(counts, n=5, seed=0), counts)
    for n in (0, 1.5, True):
        with pytest.raises(ParameterError, match="n must be a whole number of 1 or more, got"):
            subsample(counts, n=n, seed=0)
    with pytest.raises(ParameterError, match="seed must be a whole number"):
        subsample(counts, n=1, seed=-1)


def test_confusion_survives_json() -> None:
    rng = np.random.default_rng(1)
    counts = count_codes(rng.integers(0, 9, 200), rng.integers(0, 9, 200), legend=GLACIER)
    content = json.loads(json.dumps(confusion_to_dict(counts)))
    assert set(content) == {"units", "label", "predicted", "counts"}
    xr.testing.assert_identical(confusion_from_dict(content, legend=GLACIER), counts)
    part = {"units": "points", "label": [2], "predicted": [0, 2], "counts": [[3, 4]]}
    found = confusion_from_dict(part, legend=RIVER)
    assert found.sel(label=2, predicted=0) == 3
    assert found.sum() == 7
    assert found.attrs == {"units": "points", "legend": "river"}


@pytest.mark.parametrize(
    "changed",
    [{"counts": [[1]]}, {"counts": [[0.5, 1]]}, {"counts": [[-1, 1]]}, {"counts": [["a", "b"]]}],
)
def test_no_confusion_in_wrong_counts(changed: dict[str, object]) -> None:
    content = {"units": "pixels", "label": [1], "predicted": [0, 1], "counts": [[0, 1]]} | changed
    with pytest.raises(ParameterError, match="Counts must be whole numbers of 0 or more, 1 labels"):
        confusion_from_dict(content, legend=RIVER)


def test_no_confusion_of_other_content() -> None:
    content = {"units": "pixels", "label": [1], "predicted": [9], "counts": [[0]]}
    with pytest.raises(LegendError, match=r"'river' must have every code .* lacks \[9\]"):
        confusion_from_dict(content, legend=RIVER)
    for key in content:
        with pytest.raises(ParameterError, match="needs units, label, predicted and counts, got"):
            confusion_from_dict({k: v for k, v in content.items() if k != key}, legend=RIVER)


@pytest.mark.parametrize("chunk", [None, 3])
def test_classes_are_counted(chunk: int | None) -> None:
    codes = np.random.default_rng(0).choice(np.array([0, 1, 4, 8], np.int16), (7, 8))
    found = count_classes(raster(codes, chunk), legend=GLACIER)
    assert dict(zip(found["code"].values.tolist(), found.values.tolist(), strict=True)) == {
        code: int((codes == code).sum()) for code in range(9)
    }
    assert found["class_name"].sel(code=4) == "Glacier Ice"
    with pytest.raises(ParameterError, match=r"A class raster must hold 0 or codes .* got \[8\]"):
        count_classes(raster(codes, chunk), legend=RIVER)
    with pytest.raises(ParameterError, match="must have the dims y and x"):
        count_classes(raster(codes, chunk).expand_dims("band"), legend=GLACIER)


def test_tidy_scores_are_those_of_the_reports() -> None:
    rng = np.random.default_rng(8)
    labels = rng.choice([0, 1, 2, 4, 7], 500)
    counts = {
        phase: count_codes(labels, rng.choice([0, 1, 2, 3, 4], 500), legend=GLACIER)
        for phase in ("tile_class", "pixel_class")
    }
    tidy = tidy_scores(counts)
    assert list(tidy) == [
        "phase", "kind", "code", "class", *METRICS, "accuracy", "support", "predicted"
    ]  # fmt: skip
    for phase, confusion in counts.items():
        report = classification_report(confusion)
        rows = tidy[tidy["phase"] == phase].reset_index(drop=True)
        assert rows["kind"].tolist() == ["class"] * 4 + ["overall", "macro", "weighted"]
        assert rows["code"].tolist() == [1, 2, 4, 7, pd.NA, pd.NA, pd.NA]
        assert rows["class"].tolist()[:4] == report["Class"].tolist()[:4]
        scores = rows[list(METRICS)].to_numpy()
        wanted = report[["Precision", "Recall", "F1_score"]].to_numpy(np.float64)
        np.testing.assert_array_equal(scores[[0, 1, 2, 3, 5, 6]], wanted[[0, 1, 2, 3, 5, 6]])
        assert np.isnan(scores[4]).all()
        assert rows["accuracy"].dropna().tolist() == [report["F1_score"].iloc[4]]
        assert rows["support"].tolist() == report["Support"].tolist()
        claimed = confusion.sum("label").sel(predicted=[1, 2, 4, 7]).values.tolist()
        classified = int(confusion.sum() - confusion.sel(predicted=0).sum())
        assert rows["predicted"].tolist() == [*claimed, classified, classified, classified]


def test_tidy_scores_need_a_matrix_with_labels() -> None:
    with pytest.raises(ParameterError, match="Scores need one confusion matrix at least"):
        tidy_scores({})
    nothing = count_codes(np.array([0]), np.array([1]), legend=RIVER)
    with pytest.raises(LabelError, match="Scores need labelled tiles"):
        tidy_scores({"pixel_class": nothing})
