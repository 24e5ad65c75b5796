"""Dates in the names of images."""

from __future__ import annotations

import datetime
import re
from contextlib import suppress

_DATE = re.compile(r"(?<!\d)(?:19|20)\d\d(-?)\d\d\1\d\d(?:T\d\d([-:]?)\d\d\2\d\d)?(?!\d)")


def date_in_name(name: str) -> datetime.datetime | None:
    """Read the date in the name of an image.

    Parameters
    ----------
    name : str
        Such as ``S2A_MSIL1C_20170821T145921_helheim``.

    Returns
    -------
    datetime.datetime or None
        None where there is no date, or more than one.
    """
    found = set()
    for match in _DATE.finditer(name):
        digits = re.sub(r"\D", "", match.group())
        form = "%Y%m%d" if len(digits) == 8 else "%Y%m%d%H%M%S"
        with suppress(ValueError):  # of a number that only looks like a date
            found.add(datetime.datetime.strptime(digits, form))
    return found.pop() if len(found) == 1 else None
