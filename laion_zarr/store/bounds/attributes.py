"""Attributes of arrays and groups that readers compute with, or follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from laion_zarr.store.bounds.manifests import check_source_names
from laion_zarr.store.bounds.text import OutOfBounds, check_keys, kind, whole

# Voxels of a grid, whether stored or not: a volume of it takes 4 bytes for each.
MOST_GRID = 1 << 25
_MOST_NUMBER = (1 << 63) - 1


def check_attributes(attributes: Mapping[str, Any]) -> None:
    """Raise OutOfBounds if an attribute that the schema knows has a value of another kind."""
    for name, check in _CHECKS.items():
        if name in attributes:
            try:
                check(attributes[name])
            except OutOfBounds as error:
                raise OutOfBounds(f"has an attribute {name!r} that {error}") from error


def _text(value: Any) -> None:
    _must(isinstance(value, str), value, "text")


def _texts(value: Any) -> None:
    _must(isinstance(value, list) and all(isinstance(v, str) for v in value), value, "texts")


def _text_by_name(value: Any) -> None:
    _must(
        isinstance(value, dict) and all(isinstance(v, str) for v in value.values()),
        value,
        "a text for each name",
    )


def _columns(value: Any) -> None:
    """Names of the arrays of a table's columns."""
    _text_by_name(value)
    check_keys(value.values())
    _must(not any("/" in name for name in value.values()), value, "names of arrays")
    _must(len(set(value.values())) == len(value), value, "an array of its own for each column")


def _shape(value: Any) -> None:
    sizes = isinstance(value, list) and len(value) == 3 and all(whole(n, MOST_GRID) for n in value)
    _must(
        sizes and 0 < math.prod(value) <= MOST_GRID,
        value,
        f"the sides of a grid of at most {MOST_GRID:,} voxels",
    )


def _affine(value: Any) -> None:
    rows = isinstance(value, list) and len(value) == 4
    rows = rows and all(isinstance(row, list) and len(row) == 4 for row in value)
    _must(rows and all(_is_number(n) for row in value for n in row), value, "4 × 4 numbers")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300


def _step(value: Any) -> None:
    _must(_is_number(value) and value > 0, value, "a positive number")


def _number(value: Any) -> None:
    _must(whole(value, _MOST_NUMBER), value, "a whole number")


def _source(value: Any) -> None:
    """A file of the dataset, with its identity."""
    _must(isinstance(value, dict) and "file" in value, value, "a source file")
    check_source_names([value["file"]])


def _sources(value: Any) -> None:
    """Source files of rows, or by what was made of them."""
    entries = value.values() if isinstance(value, dict) else value
    _must(isinstance(value, dict | list), value, "source files")
    for entry in entries:
        _must(isinstance(entry, dict) and "source" in entry, entry, "a source file")
        _source(entry["source"])


def _runs(value: Any) -> None:
    """Numbers of runs by session, or runs with their number of volumes."""
    if isinstance(value, dict):
        for numbers in value.values():
            fits = isinstance(numbers, list) and all(whole(n, _MOST_NUMBER) for n in numbers)
            _must(fits, numbers, "numbers of runs")
        return
    _must(isinstance(value, list), value, "runs")
    for run in value:
        _must(isinstance(run, dict), run, "a run")
        _must(whole(run.get("run"), _MOST_NUMBER), run.get("run"), "the number of a run")
        _must(whole(run.get("n_volumes"), 1 << 24), run.get("n_volumes"), "a number of volumes")
        _source(run.get("source"))


def _labels(value: Any) -> None:
    """Columns of a table of maps: texts, and numbers of runs."""
    columns: list[Any] = list(value.values()) if isinstance(value, dict) else [None]
    _must(all(isinstance(column, list) for column in columns), value, "columns of labels")
    _must(len(set(map(len, columns))) == 1, value, "columns of one length")
    entries = (entry for column in columns for entry in column)
    _must(
        all(isinstance(entry, str) or whole(entry, _MOST_NUMBER) for entry in entries),
        value,
        "texts and whole numbers",
    )


def _must(fits: bool, value: Any, expected: str) -> None:
    if not fits:
        raise OutOfBounds(f"is {kind(value)}, expected {expected}")


_CHECKS: dict[str, Callable[[Any], None]] = {
    "shape": _shape,
    "affine": _affine,
    "to_scanner": _affine,
    "tsv_columns": _columns,
    "csv_columns": _columns,
    "rois": _text_by_name,
    "masks": _texts,
    "sessions": _texts,
    "columns": _texts,
    "category": _text,
    "coordinates": _text,
    "license": _text,
    "session": _text,
    "mesh": _number,
    "repetition_time": _step,
    "runs": _runs,
    "labels": _labels,
    "source": _source,
    "sources": _sources,
}
