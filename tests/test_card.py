"""Cards: checked when made, inferred where they can be, the same after JSON."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csc_xr.errors import NetworkError
from csc_xr.legend import GLACIER, RIVER, ClassLegend, LegendClass
from csc_xr.networks.card import NetworkCard, infer_card

GAPPY = ClassLegend("gappy", [LegendClass(1, "Ice", "white"), LegendClass(4, "Rock", "grey")])


def card(**changes: Any) -> NetworkCard:
    settings: dict[str, Any] = {
        "kind": "patch",
        "bands": ("red", "green", "blue"),
        "size": 3,
        "legend": RIVER,
        **changes,
    }
    return NetworkCard(**settings)


@given(
    bands=st.lists(st.sampled_from(["red", "green", "nir", "swir"]), min_size=1, unique=True),
    scale=st.none() | st.floats(1e-3, 1e6) | st.integers(1, 10000),
    half=st.integers(0, 7),
    codes=st.lists(st.integers(0, 5), min_size=1, unique=True).filter(lambda codes: codes != [0]),
    score=st.floats(0, 1),
)
def test_card_survives_json(
    bands: list[str], scale: float | None, half: int, codes: list[int], score: float
) -> None:
    one = card(
        bands=tuple(bands),
        scale=scale,
        size=2 * half + 1,
        codes=tuple(codes),
        provenance={"score": score, "scenes": ["a", "b"]},
    )
    two = NetworkCard.from_dict(json.loads(json.dumps(one.to_dict())))
    assert two == one
    assert hash(two) == hash(one)
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301


def test_card_does_not_share_its_provenance() -> None:
    provenance = {"scenes": ["a"]}
    one = card(provenance=provenance)
    provenance["scenes"].append("b")
    one.to_dict()["provenance"]["scenes"].append("c")
    assert one.provenance == {"scenes": ["a"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "pixel"}, "kind of a network is 'tile' or 'patch', got 'pixel'"),
        ({"bands": ()}, r"one or more different names, got \(\)"),
        ({"bands": "red"}, "one or more different names, got 'red'"),
        ({"bands": ("red", "red")}, "one or more different names"),
        ({"bands": ("red", " ")}, "one or more different names"),
        ({"scale": 0}, "scale of a network is a positive number, .* got 0"),
        ({"scale": float("inf")}, "scale of a network is a positive number, .* got inf"),
        ({"scale": "255"}, "scale of a network is a positive number, .* got '255'"),
        ({"size": 0}, "size of a network is a number of pixels, 1 or more, got 0"),
        ({"size": 3.0}, "size of a network is a number of pixels, 1 or more, got 3.0"),
        ({"size": 4}, "patch size is odd, .* got 4"),
        ({"legend": "river"}, "needs a ClassLegend as legend, got 'river'. open_legend"),
        ({"codes": (0, 9)}, r"another code of legend 'river' .* got codes \(0, 9\)"),
        ({"codes": (1, 1)}, r"got codes \(1, 1\)"),
        ({"codes": (0,)}, r"got codes \(0,\)"),
        ({"codes": (1, 2.0)}, r"codes of a network's outputs are integers, got \(1, 2.0\)"),
        ({"legend": GAPPY, "codes": (0, 1, 2)}, r"legend 'gappy' \(1, 4\) .* codes \(0, 1, 2\)"),
        ({"provenance": {"when": object()}}, "provenance of a network is a mapping of JSON"),
        ({"provenance": {"loss": float("nan")}}, "provenance of a network is a mapping of JSON"),
    ],
)
def test_card_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        card(**changes)


def test_card_counts_outputs() -> None:
    card().check_outputs(6)
    with pytest.raises(
        NetworkError, match=r"codes for 6 outputs .* the network has 5. Pass codes="
    ):
        card().check_outputs(5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kind": "tile"}, "needs kind, bands, scale, size, legend and codes, got .*KeyError"),
        ([], "needs kind, bands, .*TypeError"),
        ({**card().to_dict(), "legend": {"classes": []}}, "legend of a network card cannot be"),
        ({**card().to_dict(), "codes": None}, "needs kind, bands, .*TypeError"),
    ],
)
def test_content_of_a_card_is_checked(content: Any, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        NetworkCard.from_dict(content)


@pytest.mark.parametrize(
    ("n_outputs", "legend", "codes"),
    [(8, GLACIER, range(8)), (6, RIVER, range(6)), (4, RIVER, range(4))],
)
def test_legend_follows_from_outputs(n_outputs: int, legend: ClassLegend, codes: range) -> None:
    found = infer_card(kind="tile", size=50, n_bands=4, n_outputs=n_outputs)
    assert (found.legend, found.codes) == (legend, tuple(codes))
    assert (found.bands, found.scale) == (("red", "green", "blue", "nir"), None)


def test_outputs_between_the_codes_are_never_predicted() -> None:
    assert card(legend=GAPPY).codes == (0, 1, 0, 0, 4)
    found = infer_card(kind="tile", size=50, n_bands=3, n_outputs=5, legend=GAPPY)
    assert found.codes == (0, 1, 0, 0, 4)


def test_codes_make_any_legend_fit() -> None:
    settings = {"kind": "patch", "size": 5, "n_bands": 4, "n_outputs": 3}
    found = infer_card(**settings, legend=RIVER, codes=[1, 3, 2])
    assert found.codes == (1, 3, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_bands": 5}, "networks of 3 or 4 bands, this one takes 5. Pass bands="),
        ({"n_outputs": 3}, r"networks of \[4, 6, 8\] outputs, this one has 3. Pass legend="),
        ({"legend": RIVER}, "legend 'river' has 6 outputs, this one has 4. Pass the legend"),
        ({"legend": RIVER, "codes": (1, 2)}, "codes for 2 outputs .* the network has 4"),
    ],
)
def test_what_cannot_be_inferred_is_asked_for(changes: dict[str, Any], message: str) -> None:
    settings = {"kind": "tile", "size": 50, "n_bands": 3, "n_outputs": 4, **changes}
    with pytest.raises(NetworkError, match=message):
        infer_card(**settings)
