"""Read TSV and CSV files with pandas: columns are text unless all values are numbers or bools.

A value is taken exactly, or the error says where it is.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.source.problems import damaged
from laion_zarr.store.schema import BEHAVIOUR_ARRAYS, BLANK

MISSING = {"n/a", "NA", "NaN", "nan", ""}  # texts that stand for a missing number
# Columns that stay text, even if all their values look like numbers.
_TEXT_COLUMNS = (
    *("label", "session", "image_name", "dataset", "participant", "unique_or_shared", "n_reps"),
    *("noun", "mask_file", "source", "caption", "origin_collection", "participant_id", "ai_model"),
)
_EXACT = 2**53  # up to here, a float holds every whole number
_LONGEST = 400  # digits: a float holds fewer, and int() takes no more than some thousand
_WHOLE, _DIGIT = re.compile(r"[+-]?[0-9]+"), re.compile(r"[0-9]")
TRIAL_COLUMNS = ("session", "run", "beta_index", "label")
EVENT_COLUMNS = ("trial_type", "stim_name")


def read_trials(source: Source, path: str, session: str) -> pd.DataFrame:
    """Read a session's trial table, rows sorted into volume order."""
    table = _table(source, path, "\t")
    _check_columns(source, path, table, TRIAL_COLUMNS)
    return _in_volume_order(table, source.full(path), session)


def read_events(source: Source, path: str) -> pd.DataFrame:
    """Read the events of one run, rows in file order."""
    table = _table(source, path, "\t", EVENT_COLUMNS)
    _check_columns(source, path, table, EVENT_COLUMNS)
    full = source.full(path)
    if not len(table):
        raise damaged(full, "no rows", "a row for each trial")
    blank = table[list(EVENT_COLUMNS)] == BLANK
    if len(rows := np.flatnonzero(blank.nunique(axis=1) > 1)):
        found = " and ".join(f"{name} {table[name].iloc[rows[0]]!r}" for name in EVENT_COLUMNS)
        raise damaged(full, f"{found} in row {rows[0] + 1}", f"both {BLANK!r}, or neither")
    for name in BEHAVIOUR_ARRAYS:
        if name in table and table[name].dtype.kind not in "iuf":
            texts = table[name].astype(str)
            wrong = pd.to_numeric(texts, errors="coerce").isna() & ~texts.isin(MISSING)
            if wrong.any():
                row = int(wrong.to_numpy().argmax())
                found = f"{name} {texts.iloc[row]!r} in row {row + 1}"
                raise damaged(full, found, "a number or n/a")
    return table


def read_metadata(source: Source, path: str) -> pd.DataFrame:
    """Read the stimulus metadata, rows in file order."""
    table = read_table(source, path, ("image_name",))
    if table.empty:
        raise damaged(source.full(path), "no row", "a row for each image")
    repeated = table["image_name"][table["image_name"].duplicated()]
    if len(repeated):
        raise damaged(source.full(path), f"{repeated.iloc[0]!r} twice", "each image once")
    return table


def read_table(source: Source, path: str, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file that must have at least these columns, rows in file order."""
    table = _table(source, path, ",")
    _check_columns(source, path, table, columns)
    return table


def _check_columns(source: Source, path: str, table: pd.DataFrame, columns: Sequence[str]) -> None:
    if missing := [column for column in columns if column not in table.columns]:
        raise damaged(
            source.full(path),
            f"columns {list(table.columns)}",
            f"the columns {', '.join(columns)} (lacks {', '.join(missing)})",
        )


def _table(source: Source, path: str, separator: str, texts: Sequence[str] = ()) -> pd.DataFrame:
    full, raw = source.full(path), source.read(path)
    text = _decoded(full, raw)
    _check_rows(full, text, separator)
    try:
        # All columns are read as text: 'NA' is a missing value only in a column of numbers.
        table = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise damaged(full, f"something else ({error})", "a table") from error
    return pd.DataFrame(
        {
            name: column if name in (*_TEXT_COLUMNS, *texts) else _typed_column(column)
            for name, column in table.items()
        }
    )


def _decoded(path: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{raw[error.start]:02x} in line {line} ({error.reason})"
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            found = "UTF-16"
        raise damaged(path, found, "a table in UTF-8") from error


def _check_rows(path: str, text: str, separator: str) -> None:
    """Raise unless each row has a value for each column, and each column a name of its own.

    pandas would pad short rows, take columns beyond the header for an index, rename the second of
    two columns, and end a value at a null character.
    """
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise damaged(path, f"a null character in line {line}", "a table of text")
    limit = csv.field_size_limit(max(len(text), 1))  # of the whole process: put back below
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        names: list[str] = []
        for number, row in enumerate(filter(None, rows)):
            names = names or row
            if len(row) != len(names):
                found = f"{len(row)} values in row {number}"
                raise damaged(path, found, f"one for each of the {len(names)} columns")
    except csv.Error as error:
        raise damaged(path, f"something else ({error})", "a table") from error
    finally:
        csv.field_size_limit(limit)
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise damaged(path, f"the column {twice[0]!r} twice", "each column once")


def _typed_column(column: pd.Series) -> pd.Series:
    """Convert a text column to bools or numbers if all values are such; missing numbers are NaN.

    A column stays text if a number in it could not be told from another one: whole numbers of more
    than 64 bits, or beyond 2**53 beside missing values or fractions, or beyond what a float holds.
    """
    values = column.to_numpy(dtype=object)
    present = ~np.isin(values, list(MISSING))
    if not present.any():
        return pd.Series(values, dtype=object)
    if set(values.tolist()) <= {"True", "False"}:
        return pd.Series(values == "True")
    numbers = _numbers(values[present], whole=bool(present.all()))
    if numbers is None:
        return pd.Series(values, dtype=object)
    if present.all():
        return pd.Series(numbers)
    filled = np.full(len(values), np.nan)
    filled[present] = numbers
    return pd.Series(filled)


def _numbers(texts: np.ndarray, whole: bool) -> np.ndarray | None:
    """Convert texts to numbers of one type, exactly; None if one is no number, or would change.

    `whole` says whether integers may be kept as such; else they must be exact as floats.
    """
    numbers = pd.to_numeric(pd.Series(texts), errors="coerce")
    if numbers.isna().any():
        return None
    found = numbers.to_numpy()
    if found.dtype.kind in "iu" and whole:
        return found
    floats = found.astype(np.float64)
    for text, value in zip(texts, floats.tolist(), strict=True):
        if abs(value) >= _EXACT and not _is_exact(text.strip(), value):
            return None
    return floats if found.dtype.kind == "f" or not whole else found


def _is_exact(text: str, value: float) -> bool:
    """Whether a float of 2**53 or more is the number that a text states."""
    if _WHOLE.fullmatch(text):
        return len(text) < _LONGEST and int(text) == value
    return np.isfinite(value) or not _DIGIT.search(text)  # 1e999 is not infinite


def _in_volume_order(table: pd.DataFrame, path: str, session: str) -> pd.DataFrame:
    for column in ("run", "beta_index"):
        if table[column].dtype.kind != "i":  # "u": beyond 64 bits with a sign
            raise damaged(path, f"{column} {table[column].iloc[:3].tolist()} …", "whole numbers")
        table[column] = table[column].astype(np.int64)
    index = table["beta_index"].to_numpy()
    if not np.array_equal(np.sort(index), np.arange(len(table))):
        values, counts = np.unique(index, return_counts=True)
        repeated = values[counts > 1][:3].tolist()
        found = (
            f"{repeated} repeated" if repeated else f"values from {index.min()} to {index.max()}"
        )
        raise damaged(path, found, f"a beta_index that is 0 … {len(table) - 1} in some order")
    others = set(table["session"].tolist()) - {session}
    if others:
        raise damaged(path, f"session {sorted(map(str, others))}", f"rows of {session} only")
    return table.sort_values("beta_index", kind="stable").reset_index(drop=True)
