"""Dates in the names of images."""

from __future__ import annotations

import datetime

import pytest

from csc_xr.dates import date_in_name


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("helheim_20170821", (2017, 8, 21)),
        ("S2_2017-08-21_helheim", (2017, 8, 21)),
        ("20170821T145921", (2017, 8, 21, 14, 59, 21)),
        ("a_2017-08-21T14:59:21Z", (2017, 8, 21, 14, 59, 21)),
        ("a_20170821T1459", (2017, 8, 21)),
        ("20170821_a_20170821", (2017, 8, 21)),
        ("20170821_a_20180821", None),
        ("S2A_20170821T145921_T24WWU_20170821T190331", None),
        ("a_20171321", None),
        ("a_20170230_20170821", (2017, 8, 21)),
        ("a_17560821", None),
        ("a_120170821", None),
        ("a_2017-0821", None),
        ("helheim", None),
    ],
)
def test_dates_in_names(name: str, date: tuple[int, ...] | None) -> None:
    assert date_in_name(name) == (None if date is None else datetime.datetime(*date))
