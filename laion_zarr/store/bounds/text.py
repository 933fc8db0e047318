"""JSON of a store: its size, depth and number of values, before and after it is parsed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

# A manifest of 30 sessions has 0.3 MB, the consolidated metadata of five subjects 6 MB.
MOST_TEXT = 32 << 20
MOST_NODE = 8 << 20  # of one group or array
_MOST_VALUES = 1_000_000  # a value takes up to 0.25 kB of memory, however short its text
_MOST_DEPTH = 48
# Half of a surrogate pair, which no file and no terminal can take (or a backslash before `u`).
_HALF = re.compile(r"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]")
# Not in names of files: what other systems, fsspec and URLs give a meaning.
_SPECIAL = "\\:%?#"


class OutOfBounds(ValueError):
    """A file of the store says what no store says; the message is a clause."""


def parse(data: bytes, most: int = MOST_TEXT) -> dict[str, Any]:
    """Parse a JSON object of at most `most` bytes; raises OutOfBounds for anything else."""
    if len(data) > most:
        raise OutOfBounds(f"has {len(data):,} bytes of JSON, expected at most {most:,}")
    opened = data.count(b"[") + data.count(b"{")
    if data.count(b",") + opened > _MOST_VALUES:
        raise OutOfBounds(f"has more than {_MOST_VALUES:,} values")
    try:
        text = data.decode()
        found = json.loads(text)
        if ("\\ud" in text or "\\uD" in text) and _HALF.search(text):
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise OutOfBounds(f"is no JSON ({str(error) or 'nested too deeply'})") from error
    if not isinstance(found, dict):
        raise OutOfBounds(f"is {kind(found)}, expected an object")
    if opened > _MOST_DEPTH and any(depth > _MOST_DEPTH for depth in _depths(found)):
        raise OutOfBounds(f"is nested more than {_MOST_DEPTH} deep")
    return found


def _depths(value: Any) -> Iterator[int]:
    """Depth of each object and array in a parsed value."""
    level, depth = [value], 0
    while level:
        depth += 1
        yield depth
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]


def kind(value: object) -> str:
    """What a parsed value is, in the words of JSON, for messages."""
    words = {dict: "an object", list: "an array", str: "text", bool: "true or false"}
    return words.get(type(value), "null" if value is None else f"the number {str(value)[:24]}")


def printable(text: str) -> str:
    """Text with what is no character to print, but line ends and tabs, as an escape."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode()
        for one in text
    )


def whole(value: object, most: int) -> bool:
    """Whether a parsed value is a whole number from 0 to `most`."""
    return type(value) is int and 0 <= value <= most


def check_keys(keys: Iterable[Any]) -> None:
    """Raise OutOfBounds unless all keys are relative paths that lead downwards, in clean text."""
    keys = list(keys)
    if not all(isinstance(key, str) for key in keys):
        raise OutOfBounds("lists a path that is no text")
    if not _leads_down("/".join(keys)) and keys:  # all at once: a manifest lists thousands
        wrong = next(key for key in keys if not _leads_down(key))
        raise OutOfBounds(
            f"lists the path {wrong[:200]!r}, expected one below its group, without '..'"
        )


def _leads_down(path: str) -> bool:
    walled = f"/{path}/"
    return (
        path.isprintable()
        and "//" not in walled
        and "/./" not in walled
        and "/../" not in walled
        and not any(character in path for character in _SPECIAL)
    )
