"""Names of the arrays that hold the columns of tables."""

from __future__ import annotations

import re
from collections.abc import Iterable

from laion_zarr.store.schema.events import BEHAVIOUR, EVENT, TABLE_ARRAYS
from laion_zarr.store.schema.localizers import LOCALIZER, LOCALIZER_COORDS, LOCALIZER_Z
from laion_zarr.store.schema.specs import GRID, IMAGE, SESSION, chunk_table
from laion_zarr.store.schema.stimuli import MASKS_2D
from laion_zarr.store.schema.subjects import MAP_ARRAYS, SESSION_ARRAYS, TRIAL_ARRAYS, VOXEL_ARRAYS

# Array names that are valid as folder names on every file system.
_ARRAY_NAME = re.compile(r"[A-Za-z][\w .-]*")

# Names of existing arrays, which additional columns of a table must not take: for tables of trials,
# of events, and of stimuli.
_TAKEN = {*VOXEL_ARRAYS, *SESSION_ARRAYS, *MAP_ARRAYS, *TRIAL_ARRAYS, SESSION, GRID, IMAGE, "label"}
_TAKEN |= {LOCALIZER, LOCALIZER_Z, *LOCALIZER_COORDS}
_TAKEN.add(BEHAVIOUR.name)
_TAKEN_BY_EVENTS = {"session", "run", EVENT, *TABLE_ARRAYS}
_TAKEN_BY_STIMULI = {
    *(IMAGE, "row", "mask", "y", "x", MASKS_2D.name, chunk_table(MASKS_2D.name).name, "height"),
    *("width", "n_human_captions", "n_ai_captions"),
}
_TRIAL_COLUMNS = {
    "session": "session",
    "run": "run",
    "beta_index": "beta_index",
    "label": "image_name",
}


def trial_columns(columns: Iterable[str]) -> dict[str, str]:
    """Map columns of a trial table to array names; ``label`` is stored as ``image_name``."""
    return _array_names(columns, _TRIAL_COLUMNS, _TAKEN, "tsv_")


def event_columns(columns: Iterable[str]) -> dict[str, str]:
    """Map columns of events tables to array names; ``session`` and ``run`` are the file's own."""
    return _array_names(columns, {}, _TAKEN_BY_EVENTS, "tsv_")


def stimulus_columns(columns: Iterable[str]) -> dict[str, str]:
    """Map columns of a table of stimuli to array names."""
    return _array_names(columns, {}, _TAKEN_BY_STIMULI, "csv_")


def joined_columns(columns: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """Map columns of the stimulus metadata to names of arrays along trials.

    Without ``image_name``, by which the tables are joined, and ``unique_or_shared``, which the
    label of a trial already tells. `taken` are names of other arrays along trials.
    """
    further = [name for name in columns if name not in ("image_name", "unique_or_shared")]
    return _array_names(further, {}, {*_TAKEN, *taken}, "stim_")


def _array_names(
    columns: Iterable[str], own: dict[str, str], taken: set[str], prefix: str
) -> dict[str, str]:
    """Map columns to array names; a name that is in `taken`, or not valid, gets the prefix."""
    found: dict[str, str] = {}
    for column in columns:
        name = own.get(column, column)
        if column not in own and (column in taken or not _ARRAY_NAME.fullmatch(column)):
            name = prefix + re.sub(r"\W", "_", column)
        while name in found.values():
            name += "_"
        found[column] = name
    return found
