"""Preprocessed time series of a session as a lazy, labelled array."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import xarray as xr

from laion_zarr.arrays.dask_blocks import SelectedBetas
from laion_zarr.arrays.lazy import LazyBetas, SubjectHandle
from laion_zarr.arrays.query import Query
from laion_zarr.arrays.select import check_chunks
from laion_zarr.store import schema
from laion_zarr.store.schema import BOLD, SUBJECT, TIME, VOXEL, ArraySpec


class LazyBold(LazyBetas):
    """Time series of a part, (time, voxel) float32: read as betas are, time points as trials."""

    spec: ClassVar[ArraySpec] = BOLD


def select_bold(
    handle: SubjectHandle,
    query: Query,
    session: str,
    times: np.ndarray,
    voxels: np.ndarray,
    chunks: dict[str, Any] | None,
) -> xr.DataArray:
    """Select time points and voxels of a stored session by position, Dask-backed.

    Parameters
    ----------
    handle, query
        Open group of the subject, and its voxel labels.
    session : str
        Id of the session.
    times, voxels : numpy.ndarray of int
        Positions along the time axis of the session, and along the axis of all stored voxels.
    chunks : dict or None
        Dask block sizes by dim. A chunk of the store has all time points of the session, so by
        default there is one block along time.
    """
    part = schema.bold_part(session)
    labels = handle.stored.load(part, [TIME, "run"], needed=True)
    (attributes,) = handle.stored.attributes(part, [BOLD.name], ["repetition_time"])
    lazy = LazyBold(handle, {part: len(labels["run"])}, query.lazy.sizes[VOXEL])
    sizes = check_chunks(chunks, {TIME: len(times), VOXEL: len(voxels)})
    data = SelectedBetas(lazy, times, voxels).chunked((sizes.get(TIME), sizes.get(VOXEL)))
    coords = {
        name: (TIME, values[times], schema.BOLD_ARRAYS[name].attributes)
        for name, values in labels.items()
    }
    return xr.DataArray(
        data,
        {**query.axis(voxels).coords, **coords, "session": np.array(session, dtype=object)},
        (TIME, VOXEL),
        BOLD.name,
        {
            **BOLD.attributes,
            "repetition_time": attributes["repetition_time"],
            SUBJECT: handle.subject,
        },
    )
