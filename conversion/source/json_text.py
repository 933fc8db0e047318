"""Parse JSON of the release so that the store's metadata, which repeat it, are standard JSON.

Python's parser takes more than the standard (RFC 8259) and than other languages do: a number that
it cannot hold becomes Infinity, whole numbers are of any size, text may hold unpaired surrogates.
"""

from __future__ import annotations

import json
import math
from typing import Any

from laion_zarr.conversion.source.problems import damaged

DEEPEST = 64  # levels: other languages' parsers stop at 128, and the store adds some
_EXACT = 2**53 - 1  # beyond, JavaScript and others round whole numbers


def parse_json(path: str, data: bytes) -> Any:
    """Parse a JSON file; `path` is its full path or URL, for errors.

    NaN and Infinity, which are not JSON but which some programs write, become None. A number that
    other languages would round or refuse becomes the text that stands for it in the file.

    Raises
    ------
    SourceError
        If the file is not JSON, is nested more than 64 levels deep, or holds text that is not
        Unicode; the message says where in the file.
    """
    try:
        parsed = json.loads(
            data, parse_constant=lambda _: None, parse_int=_whole, parse_float=_number
        )
    except ValueError as error:
        raise damaged(path, f"something else ({error})", "JSON") from error
    except RecursionError as error:
        raise damaged(path, "JSON that is nested too deep", f"{DEEPEST} levels at most") from error
    _check(path, parsed, "", 0)
    return parsed


def _whole(text: str) -> int | str:
    short = len(text) <= len(str(-_EXACT))
    return int(text) if short and abs(int(text)) <= _EXACT else text


def _number(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


def _check(path: str, value: Any, place: str, depth: int) -> None:
    """Raise unless what is at `place` of a file can be written to the store."""
    if isinstance(value, str) and not _is_unicode(value):
        raise damaged(
            path, f"an unpaired surrogate in {value!a} at {place or 'the top'}", "Unicode text"
        )
    if not isinstance(value, dict | list):
        return
    if depth == DEEPEST:
        where = place if len(place) < 60 else f"{place[:60]}…"
        raise damaged(path, f"a deeper one at {where}", f"JSON of {DEEPEST} levels at most")
    for key, one in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(key, str) and not _is_unicode(key):
            raise damaged(path, f"an unpaired surrogate in the name {key!a}", "Unicode text")
        _check(path, one, f"{place}/{key}", depth + 1)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
