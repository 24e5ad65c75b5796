"""JPEG 2000 files that were cut short, found without decoding them."""

from __future__ import annotations

import struct
from typing import IO

_CODESTREAM, _START_OF_TILE, _END = 0xFF4F, 0xFF90, 0xFFD9


def jp2_shortfall(file: IO[bytes], length: int, *, walk: bool = True) -> str:
    """Tell what a JPEG 2000 file lacks.

    GDAL gives the tiles that are missing from one as zeros, and does not always raise an error.

    Parameters
    ----------
    file : binary file
        Open at its start, can be sought.
    length : int
        Its length in bytes.
    walk : bool
        True goes from tile to tile (their headers hold their lengths), which also finds a file of
        full length whose end is empty; False compares the length in the header only, where there
        is one.

    Returns
    -------
    str
        What is wrong, to go on after "it is"; empty when nothing is.

    Examples
    --------
    >>> import io
    >>> jp2_shortfall(io.BytesIO(bytes.fromhex("ff4fff90")), 4)
    'cut off after 4 bytes'
    """
    start, end = _codestream(file, length)
    if start is None:
        return "without an image inside"
    if end > length:
        return f"{length} bytes long and needs {end}"
    return _walk(file, start, end) if walk else ""


def _codestream(file: IO[bytes], length: int) -> tuple[int | None, int]:
    """Where the image starts and ends in the boxes of a JP2; a bare one fills the file."""
    place = 0
    file.seek(0)
    if file.read(2) == _CODESTREAM.to_bytes(2, "big"):
        return 0, length
    while place + 8 <= length:
        file.seek(place)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        inside = place + 8
        if size == 1:
            size, inside = int.from_bytes(head[8:16], "big"), place + 16
        end = place + size if size else length
        if kind == b"jp2c":
            return inside, end
        if size < 8:
            break
        place = end
    return None, length


def _walk(file: IO[bytes], start: int, end: int) -> str:
    """Go from marker to marker, over the parts of tiles, to the end of the image."""
    place = start + 2
    while place < end:
        file.seek(place)
        head = file.read(10)
        if len(head) >= 2 and head[:2] == _END.to_bytes(2, "big"):
            return ""
        if len(head) < 10:
            return f"cut off after {end} bytes"
        marker, size = struct.unpack(">HH", head[:4])
        if marker >> 8 != 0xFF:
            return f"damaged at byte {place}"
        if marker == _START_OF_TILE:
            part = int.from_bytes(head[6:10], "big")
            if part == 0:  # the last one, up to the end
                file.seek(end - 2)
                whole = file.read(2) == _END.to_bytes(2, "big")
                return "" if whole else f"cut off after {end} bytes"
            place += max(part, 12)
        else:
            place += 2 + size
    return "" if place == end else f"cut off after {end} bytes"
