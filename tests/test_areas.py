"""Areas with confidence intervals: the published example, coverage, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyproj import Geod
from rasterio.crs import CRS

from csc_xr.accuracy.areas import estimate_areas, pixel_area_m2
from csc_xr.accuracy.confusion import confusion_from_dict, count_codes
from csc_xr.errors import LabelError, LineError, ParameterError
from csc_xr.grid import place
from csc_xr.legend import ClassLegend, LegendClass
from csc_xr.metres import with_pixel_size

NAMES = ["Deforestation", "Forest gain", "Stable forest", "Stable non-forest"]
COLOURS = ["red", "blue", "green", "grey"]
FOREST = ClassLegend(
    "forest",
    [LegendClass(i, *entry) for i, entry in enumerate(zip(NAMES, COLOURS, strict=True), 1)],
)
# Olofsson et al. (2014), Table 8: rows are classes of the map.
TABLE_8 = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
MAPPED = [200_000, 150_000, 3_200_000, 6_450_000]


def confusion_of(by_map_class: np.ndarray, without: int = 0) -> xr.DataArray:
    """Counts with classes of the map in rows, and some of the first class that are unmapped."""
    counts = np.column_stack([np.zeros(4, int), by_map_class.T])
    counts[0, 0] = without
    codes = list(FOREST.codes)
    content = {"units": "points", "label": codes, "predicted": [0, *codes]}
    return confusion_from_dict(content | {"counts": counts.tolist()}, legend=FOREST)


def pixels_of(counts: list[int] | np.ndarray, without: int = 0) -> xr.DataArray:
    return xr.DataArray([without, *counts], {"code": [0, *FOREST.codes]})


def two_places(estimates: np.ndarray, half_widths: np.ndarray) -> list[str]:
    return [f"{e:.2f} +- {h:.2f}" for e, h in zip(estimates, half_widths, strict=True)]


def test_published_example_is_reproduced() -> None:
    found = estimate_areas(confusion_of(TABLE_8), pixels_of(MAPPED))
    table = found.classes
    assert table["class"].tolist() == NAMES
    overall = two_places([found.overall_accuracy], [found.overall_half_width])
    assert overall == ["0.95 +- 0.02"]
    assert two_places(table["users_accuracy"], table["users_half_width"]) == [
        "0.88 +- 0.07", "0.73 +- 0.10", "0.93 +- 0.04", "0.96 +- 0.02"
    ]  # fmt: skip
    assert two_places(table["producers_accuracy"], table["producers_half_width"]) == [
        "0.75 +- 0.21", "0.85 +- 0.25", "0.93 +- 0.03", "0.96 +- 0.02"
    ]  # fmt: skip
    assert f"{table['estimated_area'][0]:.0f} +- {table['half_width'][0]:.0f}" == "235086 +- 68418"
    assert table["estimated_area"].sum() == pytest.approx(sum(MAPPED))
    assert table["samples"].tolist() == [75, 75, 165, 325]
    assert table["labelled"].tolist() == [69, 56, 175, 340]
    np.testing.assert_allclose(found.proportions.sum("label"), np.array(MAPPED) / 1e7)
    assert float(found.proportions.sel(label=3, predicted=1)) == pytest.approx(0.02 * 5 / 75)


def test_published_example_on_the_page_runs() -> None:
    page = Path(__file__).parents[1] / "docs" / "accuracy_of_maps.md"
    text = page.read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0]
    known: dict[str, object] = {}
    exec(compile(code, page.name, "exec"), known)  # noqa: S102  (our own page)
    for row in known["estimates"].classes.itertuples():
        area = f"{row.estimated_area:,.0f} ± {row.half_width:,.0f}".replace(",", " ")
        users = f"{row.users_accuracy:.2f} ± {row.users_half_width:.2f}"
        producers = f"{row.producers_accuracy:.2f} ± {row.producers_half_width:.2f}"
        assert f"| {row[2]} | {area} | {users} | {producers} |" in text


def test_areas_come_in_the_unit_of_the_pixel() -> None:
    pixels = estimate_areas(confusion_of(TABLE_8), pixels_of(MAPPED)).classes
    metres = estimate_areas(confusion_of(TABLE_8), pixels_of(MAPPED), pixel_area=900.0, unit="m2")
    areas = ["mapped_area", "estimated_area", "standard_error", "half_width", "lower", "upper"]
    np.testing.assert_allclose(metres.classes[areas], 900 * pixels[areas])
    accuracies = ["users_accuracy", "producers_half_width"]
    np.testing.assert_array_equal(metres.classes[accuracies], pixels[accuracies])
    assert metres.total_area == 9e9
    table = metres.to_table()
    assert set(table["unit"]) == {"m2"}
    assert set(table["overall_accuracy"]) == {metres.overall_accuracy}


def test_level_sets_the_width() -> None:
    wide = estimate_areas(confusion_of(TABLE_8), pixels_of(MAPPED), level=0.99).classes
    np.testing.assert_allclose(wide["half_width"] / wide["standard_error"], 2.5758, atol=1e-4)
    usual = estimate_areas(confusion_of(TABLE_8), pixels_of(MAPPED)).classes
    np.testing.assert_allclose(usual["half_width"], 1.96 * usual["standard_error"])
    assert (wide["lower"] >= 0).all()
    assert (wide["upper"] <= 1e7).all()


def test_pixels_without_a_class_are_left_out_and_told() -> None:
    found = estimate_areas(confusion_of(TABLE_8, without=7), pixels_of(MAPPED, 1000), pixel_area=2)
    plain = estimate_areas(confusion_of(TABLE_8), pixels_of(MAPPED), pixel_area=2)
    assert found.classes.equals(plain.classes)
    assert (found.unmapped_area, found.unmapped_samples) == (2000, 7)
    assert (plain.unmapped_area, plain.unmapped_samples) == (0, 0)


def test_class_that_the_map_lacks_has_an_area() -> None:
    counts, mapped = TABLE_8.copy(), MAPPED.copy()
    counts[3], mapped[3] = 0, 0
    found = estimate_areas(confusion_of(counts), pixels_of(mapped)).classes
    lacking = found.iloc[3]
    share = 4 / 75 * 200_000 + 12 / 75 * 150_000 + 11 / 165 * 3_200_000
    assert lacking["estimated_area"] == pytest.approx(share)
    assert lacking["standard_error"] > 0
    assert np.isnan(lacking["users_accuracy"])
    assert (lacking["producers_accuracy"], lacking["producers_half_width"]) == (0, 0)


def test_class_that_is_nowhere_labelled_or_nowhere() -> None:
    counts, mapped = TABLE_8.copy(), MAPPED.copy()
    counts[:, 1] = 0
    found = estimate_areas(confusion_of(counts), pixels_of(mapped)).classes
    assert found.loc[1, ["estimated_area", "standard_error", "users_accuracy"]].tolist() == [0] * 3
    assert np.isnan(
        found.loc[1, ["producers_accuracy", "producers_half_width"]].astype(float)
    ).all()
    counts[1], mapped[1] = 0, 0
    found = estimate_areas(confusion_of(counts), pixels_of(mapped)).classes
    assert found["code"].tolist() == [1, 3, 4]


@given(
    counts=hnp.arrays(np.int64, (4, 4), elements=st.integers(0, 40)),
    free=hnp.arrays(np.int64, 4, elements=st.integers(0, 10**9)),
)
@settings(max_examples=60, deadline=None)
def test_equations_written_out(counts: np.ndarray, free: np.ndarray) -> None:
    """As the paper has them: sums over i, number by number."""
    counts[np.arange(4), np.arange(4)] += 2
    samples = counts.sum(axis=1)
    mapped = samples + free
    found = estimate_areas(confusion_of(counts), pixels_of(mapped))
    table, whole = found.classes.set_index("code"), mapped.sum()
    weight = mapped / whole
    for j in range(4):
        row = table.loc[j + 1]
        rate = counts[:, j] / samples
        share = (weight * rate).sum()
        variance = (weight**2 * rate * (1 - rate) / (samples - 1)).sum()
        assert row["estimated_area"] == pytest.approx(whole * share)
        assert row["standard_error"] == pytest.approx(whole * np.sqrt(variance), abs=1e-6)
        users = counts[j, j] / samples[j]
        assert row["users_accuracy"] == pytest.approx(users)
        users_variance = users * (1 - users) / (samples[j] - 1)
        assert row["users_half_width"] == pytest.approx(1.96 * np.sqrt(users_variance))
        producers = weight[j] * users / share
        total = (mapped / samples * counts[:, j]).sum()
        own = mapped[j] ** 2 * (1 - producers) ** 2 * users_variance
        others = sum(
            mapped[i] ** 2 * rate[i] * (1 - rate[i]) / (samples[i] - 1) for i in range(4) if i != j
        )
        half = 1.96 * np.sqrt((own + producers**2 * others) / total**2)
        assert row["producers_accuracy"] == pytest.approx(producers)
        assert row["producers_half_width"] == pytest.approx(half, abs=1e-9)
    assert found.classes["estimated_area"].sum() == pytest.approx(whole)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Stratified draws, 300 a class, from a map whose truth is known."""
    rng = np.random.default_rng(11)
    mapped = np.array([20_000, 60_000, 120_000, 300_000])
    errors = [[0.8, 0.1, 0.1, 0], [0.1, 0.75, 0.1, 0.05], [0, 0.1, 0.8, 0.1], [0.06, 0, 0.08, 0.86]]
    truth = np.round(mapped[:, None] * np.array(errors)).astype(int)
    areas, overall = truth.sum(axis=0), np.trace(truth) / truth.sum()
    producers = np.diag(truth) / areas
    users = np.diag(truth) / mapped
    held, mean, draws = np.zeros((4, 4)), np.zeros(4), 300
    for _ in range(draws):
        sample = np.array([rng.multivariate_hypergeometric(row, 300) for row in truth])
        found = estimate_areas(confusion_of(sample), pixels_of(mapped))
        table = found.classes
        mean += table["estimated_area"].to_numpy() / draws
        held[0] += (table["lower"] <= areas) & (areas <= table["upper"])
        held[1] += np.abs(table["producers_accuracy"] - producers) <= table["producers_half_width"]
        held[2] += np.abs(table["users_accuracy"] - users) <= table["users_half_width"]
        held[3] += abs(found.overall_accuracy - overall) <= found.overall_half_width
    # 95 % of 300 is 285, with a standard deviation of 3.8
    assert (held >= 270).all()
    assert (held <= 298).all()
    assert held.mean() == pytest.approx(285, abs=5)
    np.testing.assert_allclose(mean, areas, rtol=0.03)


def test_each_class_needs_two_samples() -> None:
    counts = TABLE_8.copy()
    counts[1], counts[2] = [0, 1, 0, 0], 0
    with pytest.raises(
        LabelError, match=r"two labelled points .* got Forest gain \(1\), Stable fo"
    ):
        estimate_areas(confusion_of(counts), pixels_of(MAPPED))


def test_map_must_be_the_one_that_was_sampled() -> None:
    with pytest.raises(ParameterError, match="has 30 pixels of Forest gain, of which 75 points"):
        estimate_areas(confusion_of(TABLE_8), pixels_of([200_000, 30, 3_200_000, 6_450_000]))
    with pytest.raises(LabelError, match="Areas need a map with classes, got one without"):
        estimate_areas(confusion_of(TABLE_8), pixels_of([0, 0, 0, 0], 50))
    other = xr.DataArray([5, 5], {"code": [1, 9]})
    with pytest.raises(ParameterError, match=r"counted with one legend, .* the codes \[9\]"):
        estimate_areas(confusion_of(TABLE_8), other)
    with pytest.raises(ParameterError, match=r"must have the dims \('code',\) .* count_classes"):
        estimate_areas(confusion_of(TABLE_8), other.rename(code="class"))


def test_settings_are_checked() -> None:
    for area in (0, -1, np.nan, np.inf):
        with pytest.raises(ParameterError, match="pixel_area must be a positive number, got"):
            estimate_areas(confusion_of(TABLE_8), pixels_of(MAPPED), pixel_area=area)
    for level in (0, 1, 95, np.nan):
        with pytest.raises(ParameterError, match="level must lie between 0 and 1, such as"):
            estimate_areas(confusion_of(TABLE_8), pixels_of(MAPPED), level=level)


def test_samples_may_be_counted_from_codes() -> None:
    by_map = np.repeat([1, 1, 3, 3], [50, 10, 5, 60])
    labels = np.repeat([1, 3, 1, 3], [50, 10, 5, 60])
    counts = count_codes(labels, by_map, legend=FOREST, units="points")
    found = estimate_areas(counts, pixels_of([500, 0, 700, 0])).classes
    assert found["estimated_area"].tolist() == pytest.approx(
        [500 * 50 / 60 + 700 * 5 / 65, 500 * 10 / 60 + 700 * 60 / 65]
    )


def blank(transform: Affine, crs: str | None, side: int = 100) -> xr.DataArray:
    raster = xr.DataArray(np.ones((side, side), np.uint8), dims=("y", "x"))
    return place(raster, transform, None if crs is None else CRS.from_string(crs))


@pytest.mark.parametrize("transform", [(10, 0, 0, -10), (8, 6, 6, -8), (10, 4, 0, -10)])
def test_pixel_area_in_a_projection(transform: tuple[float, float, float, float]) -> None:
    """North-up, turned and sheared; UTM is 0.04 % too small in the middle of its zone."""
    a, b, d, e = transform
    raster = blank(Affine(a, b, 499_500, d, e, 7_000_000), "EPSG:32633")
    assert pixel_area_m2(raster) == pytest.approx(100 / 0.9996**2, rel=2e-5)


def test_pixel_area_in_longitude_and_latitude() -> None:
    raster = blank(Affine(1e-4, 0, -40, 0, -1e-4, 65.005), "EPSG:4326")
    west, north = -40 + 50e-4, 65.0
    lon, lat = [west, west + 1e-4, west + 1e-4, west], [north, north, north - 1e-4, north - 1e-4]
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)
    assert pixel_area_m2(raster) == pytest.approx(abs(area), rel=1e-4)


def test_pixel_area_needs_metres() -> None:
    with pytest.raises(LineError, match="CRS"):
        pixel_area_m2(blank(Affine.identity(), None))
    local = with_pixel_size(blank(Affine.identity(), None), 3.0)
    assert pixel_area_m2(local) == pytest.approx(9.0)
