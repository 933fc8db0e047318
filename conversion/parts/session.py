"""Convert one session: its betas, gathered in storage order, and its trial table.

Runs in a worker process; independent of other sessions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from laion_zarr.conversion.series.shards import write_series
from laion_zarr.conversion.series.task import Progress, SeriesTask
from laion_zarr.conversion.series.volumes import read_volumes
from laion_zarr.conversion.source.nifti import Grid, Volume, open_volume
from laion_zarr.conversion.source.problems import damaged
from laion_zarr.conversion.source.tables import read_trials
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.store.objects import open_store
from laion_zarr.store.parts import Part
from laion_zarr.store.schema import (
    BETAS,
    COORDINATES,
    SESSION_ARRAYS,
    TRIAL,
    TRIAL_LABELS,
    VOXEL_INDEX,
    ArraySpec,
    trial_columns,
)


@dataclass(frozen=True)
class SessionTask(SeriesTask):
    """Everything that a worker needs to convert the betas of one session.

    Attributes
    ----------
    betas, trials : str
        Paths of the beta series and the trial table, relative to the source.
    n_trials : int
        Number of trials.
    """

    betas: str
    trials: str
    n_trials: int

    def convert(self, progress: Progress) -> Part:
        """Write the session's group."""
        return convert_session(self, progress)

    def summary(self) -> str:
        """Number of trials."""
        return f"{self.n_trials:,} trials"


def convert_session(task: SessionTask, progress: Progress) -> Part:
    """Write one session's group; `progress` is called with the bytes of each volume inflated."""
    source = task.source
    table = read_trials(source, task.trials, task.part)
    store = open_store(task.store, task.storage_options, read_only=False)
    writer = PartWriter(store, task.path)
    of_betas, of_trials = map(task.provenance, (task.betas, task.trials))
    writer.group(
        {
            COORDINATES: " ".join(TRIAL_LABELS),
            "session": task.part,
            "tsv_columns": trial_columns(table.columns),
        }
    )
    with open_volume(source, task.betas) as volume:
        check_betas(volume, task.grid, task.trials, len(table))
        with task.slabs(len(table), store) as slabs:
            read_volumes(volume, slabs, progress)
            write_series(writer, BETAS, slabs, (len(task.voxels), len(table)), of_betas)
    _write_labels(writer, task.voxels, table, of_trials)
    source.check_unchanged(task.identities)
    return writer.part(task.identities)


def check_betas(volume: Volume, grid: Grid, trials: str, n_rows: int) -> None:
    """Raise unless the beta series has one volume per trial, on the subject's grid."""
    if len(volume.shape) != 4:
        raise damaged(volume.path, f"a {len(volume.shape)}-D image", "4-D, one volume per trial")
    volume.grid.check_same(grid)
    if volume.shape[3] != n_rows:
        rows = f"{n_rows}, a row of {trials} for each (or is that the damaged one?)"
        raise damaged(volume.path, f"{volume.shape[3]} volumes", rows)


def _write_labels(
    writer: PartWriter, voxels: np.ndarray, table: pd.DataFrame, provenance: Mapping[str, Any]
) -> None:
    writer.array(VOXEL_INDEX, voxels)
    writer.array(SESSION_ARRAYS[TRIAL], np.arange(len(table), dtype=np.int32))
    for name, stored in trial_columns(table.columns).items():
        spec = SESSION_ARRAYS.get(stored) or column_spec(stored, table[name], (TRIAL,))
        extra = provenance.get("sidecar", {}).get(name)
        attributes = {"source": provenance["source"]} | ({"sidecar": extra} if extra else {})
        writer.array(spec, table[name].to_numpy(), attributes)


def column_spec(name: str, column: pd.Series, dims: tuple[str, ...]) -> ArraySpec:
    """Specification of the array for a table column that the schema does not define."""
    kinds = {"i": "int64", "u": "uint64", "f": "float64", "b": "bool"}
    dtype = kinds.get(column.to_numpy().dtype.kind, "string")
    return ArraySpec(name, dims, dtype, f"column {name} of the release's table")
