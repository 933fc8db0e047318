"""Localizer maps: their labels, lazy z maps along voxels, and single maps read on request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from xarray.core import indexing

from laion_zarr._release import FUNCTIONAL_RES, HEMIS, VOLUME_RESOLUTIONS
from laion_zarr.arrays.lazy import LazyArray, SubjectHandle
from laion_zarr.errors import NotConvertedError, nearest
from laion_zarr.store import schema
from laion_zarr.store.bounds.tables import check_positions
from laion_zarr.store.bounds.text import OutOfBounds
from laion_zarr.store.schema import LOCALIZER, LOCALIZERS_PART, MAP_FIELDS, VOXEL

_STATS = ("z", "effect")


def places(handle: SubjectHandle) -> list[str]:
    """Resolutions and hemispheres of which the store has localizer maps."""
    part = handle.stored.parts.get(LOCALIZERS_PART)
    arrays = set() if part is None else set(part.arrays())
    every = (*VOLUME_RESOLUTIONS, *HEMIS)
    return [place for place in every if schema.localizer_maps(place).name in arrays]


def attributes(handle: SubjectHandle, place: str) -> dict[str, Any]:
    """Attributes of the maps of one resolution or hemisphere: labels, sources, grid."""
    needed = [schema.MAP_LABELS, *(() if place in HEMIS else ("shape", "affine"))]
    name = schema.localizer_maps(place).name
    (found,) = handle.stored.attributes(LOCALIZERS_PART, [name], needed)
    kinds = {field: int if field == "run" else str for field in MAP_FIELDS}
    labels = found[schema.MAP_LABELS]
    if any(type(its) is not kinds[f] for f in MAP_FIELDS for its in labels.get(f, [None])):
        raise handle.stored.refused(LOCALIZERS_PART, name, "has labels that are not of maps")
    return found


def table(handle: SubjectHandle, place: str) -> pd.DataFrame:
    """Labels of the maps of one resolution or hemisphere, one row per map, in stored order."""
    labels = attributes(handle, place)[schema.MAP_LABELS]
    return pd.DataFrame({name: labels[name] for name in MAP_FIELDS})


def catalogue(handle: SubjectHandle) -> pd.DataFrame:
    """Labels of all maps, sorted by what they show, and where each is: space, res, hemi."""
    tables = []
    for place in places(handle):
        on_surface = place in HEMIS
        tables.append(
            table(handle, place).assign(
                space="fsnative" if on_surface else "T1w",
                res="" if on_surface else place,
                hemi=place if on_surface else "",
            )
        )
    if not tables:
        raise none_of(handle)
    return pd.concat(tables).sort_values([*MAP_FIELDS, "space", "res", "hemi"], ignore_index=True)


def none_of(handle: SubjectHandle, what: str = "localizer maps") -> NotConvertedError:
    """The error for maps that the store does not hold."""
    subject = handle.subject
    return NotConvertedError(
        f"The store holds no {what} of {subject}. Run 'laion-zarr download --subject {subject} "
        f"--include-localizers', then 'laion-zarr convert --subject {subject} --parts "
        f"{LOCALIZERS_PART}'; betas are not touched."
    )


def read(handle: SubjectHandle, place: str, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Maps in these rows, (row, voxel or vertex) float32, as stored: one request for each."""
    spec = schema.localizer_maps(place)
    size = handle.stored.shape(LOCALIZERS_PART, spec.name)[1:]
    rows = np.asarray(rows, dtype=int)
    if place == FUNCTIONAL_RES and size != (n_voxels := len(handle.storage_order()),):
        what = f"has {size[0]:,} voxels, expected {n_voxels:,}"
        raise handle.stored.refused(LOCALIZERS_PART, spec.name, what)
    found = np.empty((len(rows), *size), dtype=np.float32)
    for chunk, inside, where in handle.array(LOCALIZERS_PART, spec).gather(rows, size):
        found[where] = chunk[inside]
    return found


def volume(handle: SubjectHandle, place: str, row: int) -> np.ndarray:
    """One map on its own grid, (x, y, z), NaN in voxels that are not stored."""
    name = schema.fine_voxels(place).name
    voxels = handle.stored.load(LOCALIZERS_PART, [name], needed=True)[name]
    whole = np.full(attributes(handle, place)["shape"], np.nan, dtype=np.float32)
    values = read(handle, place, [row])[0]
    with handle.stored.bounded(LOCALIZERS_PART, name):
        check_positions(voxels, whole.size, "the grid")
        if len(values) != len(voxels):
            raise OutOfBounds(f"has {len(voxels):,} voxels, and the maps have {len(values):,}")
    whole.reshape(-1)[voxels] = values
    return whole


# -- which map


def find(
    handle: SubjectHandle, place: str, task: str, contrast: str, how: tuple[str, object]
) -> tuple[int, dict[str, Any]]:
    """Row of a map among those of one resolution or hemisphere, and its labels.

    Parameters
    ----------
    handle : SubjectHandle
        Open group of the subject.
    place : str
        Resolution or hemisphere.
    task, contrast : str
        As in the file names.
    how : tuple of stat and run
        ``"z"`` or ``"effect"``; number of the run, None for the map of all runs.

    Raises
    ------
    ValueError
        If there is no such map; the message lists what there is.
    NotConvertedError
        If the store has the map elsewhere alone, or no maps at all.
    """
    stat, run = how[0], _run(how[1])
    if stat not in _STATS:
        raise ValueError(f"stat must be one of {list(_STATS)}, got {stat!r}.")
    every = catalogue(handle)
    _among("task", task, every["task"])
    of_task = every[every["task"] == task]
    fitting = of_task[of_task["stat"] == stat]
    _among(f"contrast of {task}, stat={stat!r},", contrast, fitting["contrast"], of_task)
    runs = fitting.loc[fitting["contrast"] == contrast, "run"]
    if run not in set(runs):
        raise ValueError(
            f"{task} {contrast} with stat={stat!r} is not there for run={how[1]!r}. Pass run= "
            f"{' or '.join(map(str, (n or None for n in sorted(set(runs)))))}."
        )
    wanted = {"task": task, "contrast": contrast, "stat": stat, "run": run}
    if place in places(handle):
        here = table(handle, place)
        rows = np.flatnonzero((here[list(wanted)] == pd.Series(wanted)).all(axis=1))
        if rows.size:
            return int(rows[0]), here.loc[rows[0]].to_dict()
    raise none_of(handle, f"map {task} {contrast} ({stat}) at {schema.maps_node(place)}")


def _run(run: object) -> int:
    if run is None:
        return 0
    try:
        return int(run)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise ValueError(f"run={run!r}: expected the number of a run, or None.") from None


def _among(what: str, value: object, known: pd.Series, others: pd.DataFrame | None = None) -> None:
    """Raise ValueError, with what is there, if a name is not known."""
    names = sorted(set(known))
    if value in names:
        return
    hint = nearest(value, names)
    if others is not None and value in set(others["contrast"]):
        stat = others.loc[others["contrast"] == value, "stat"].iloc[0]
        hint = f" It is there with stat={stat!r}."
    raise ValueError(f"Unknown {what} {value!r}.{hint} There are: {', '.join(names) or 'none'}.")


# -- along the voxel axis


class LazyLocalizers(LazyArray):
    """Localizer maps on the functional grid, (localizer, voxel) float32, voxels in C order.

    Parameters
    ----------
    handle : SubjectHandle
        Open group of the subject.
    rows : numpy.ndarray of int
        Rows of the maps in the store.
    n_voxels : int
        Number of stored voxels (union of the brain masks).
    """

    handle: SubjectHandle

    def __init__(self, handle: SubjectHandle, rows: np.ndarray, n_voxels: int) -> None:
        super().__init__(handle, (len(rows), n_voxels))
        self.rows = rows

    def _read(self, *positions: np.ndarray) -> np.ndarray:
        rows, cols = positions
        stored = self.handle.storage_order()[cols]
        return read(self.handle, FUNCTIONAL_RES, self.rows[rows])[:, stored]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (*super().__dask_tokenize__(), self.rows.tobytes())


def label(task: str, contrast: str) -> str:
    """Label of a map: ``"floc:faceVsOthers"``."""
    return f"{task}:{contrast}"


def with_z_maps(dataset: xr.Dataset, handle: SubjectHandle) -> xr.Dataset:
    """Add the z maps over all runs as a lazy variable along ``localizer`` and ``voxel``."""
    if FUNCTIONAL_RES not in places(handle):
        return dataset
    labels = table(handle, FUNCTIONAL_RES)
    rows = np.flatnonzero((labels["stat"] == "z") & (labels["run"] == 0))
    if not rows.size:
        return dataset
    maps = labels.iloc[rows]
    names = [label(*pair) for pair in zip(maps["task"], maps["contrast"], strict=True)]
    coords = {
        coord: (LOCALIZER, maps[column].to_numpy(object))
        for coord, column in schema.LOCALIZER_COORDS.items()
        if coord not in dataset.variables  # of the trials, in a store of before there were maps
    }
    dataset = dataset.assign_coords({LOCALIZER: np.array(names, dtype=object), **coords})
    dataset[schema.LOCALIZER_Z] = xr.Variable(
        (LOCALIZER, VOXEL),
        indexing.LazilyIndexedArray(LazyLocalizers(handle, rows, dataset.sizes[VOXEL])),
        {"description": "localizer z map over all runs", schema.SUBJECT: handle.subject},
    )
    return dataset
