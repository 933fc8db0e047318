"""Read TSV and CSV files with pandas: columns are text unless all values are numbers or bools."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
import pandas as pd

from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.source.problems import damaged

MISSING = {"n/a", "NA", "NaN", "nan", ""}  # texts that stand for a missing number
# Columns that stay text, even if all their values look like numbers.
_TEXT_COLUMNS = (
    *("label", "session", "image_name", "dataset", "participant", "unique_or_shared", "n_reps"),
    *("noun", "mask_file", "source", "caption", "origin_collection", "participant_id", "ai_model"),
)
TRIAL_COLUMNS = ("session", "run", "beta_index", "label")


def read_trials(source: Source, path: str, session: str) -> pd.DataFrame:
    """Read a session's trial table, rows sorted into volume order."""
    table = _table(source, path, "\t")
    _check_columns(source, path, table, TRIAL_COLUMNS)
    return _in_volume_order(table, source.full(path), session)


def read_metadata(source: Source, path: str) -> pd.DataFrame:
    """Read the stimulus metadata, rows in file order."""
    table = read_table(source, path, ("image_name",))
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


def _table(source: Source, path: str, separator: str) -> pd.DataFrame:
    raw = source.read(path)
    try:
        # pandas would pad short rows, and take columns beyond the header for an index.
        rows = csv.reader(io.StringIO(raw.decode("utf-8"), newline=""), delimiter=separator)
        lengths = [len(row) for row in rows if row]
        # All columns are read as text: 'NA' is a missing value only in a column of numbers.
        table = pd.read_csv(
            io.BytesIO(raw), sep=separator, dtype=str, keep_default_na=False, encoding="utf-8"
        )
    except (ValueError, csv.Error) as error:
        raise damaged(source.full(path), f"something else ({error})", "a table") from error
    for row, length in enumerate(lengths):
        if length != lengths[0]:
            found = f"{length} values in row {row}"
            raise damaged(source.full(path), found, f"one for each of the {lengths[0]} columns")
    return pd.DataFrame(
        {
            name: column if name in _TEXT_COLUMNS else _typed_column(column)
            for name, column in table.items()
        }
    )


def _typed_column(column: pd.Series) -> pd.Series:
    """Convert a text column to bools or numbers if all values are such; missing numbers are NaN."""
    values = column.to_numpy(dtype=object)
    present = ~np.isin(values, list(MISSING))
    if not present.any():
        return pd.Series(values, dtype=object)
    if set(values.tolist()) <= {"True", "False"}:
        return pd.Series(values == "True")
    numbers = pd.to_numeric(pd.Series(values[present]), errors="coerce")
    if numbers.isna().any():
        return pd.Series(values, dtype=object)
    if present.all():
        return pd.Series(numbers.to_numpy())
    filled = np.full(len(values), np.nan)
    filled[present] = numbers.to_numpy()
    return pd.Series(filled)


def _in_volume_order(table: pd.DataFrame, path: str, session: str) -> pd.DataFrame:
    for column in ("run", "beta_index"):
        if not pd.api.types.is_integer_dtype(table[column]):
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
