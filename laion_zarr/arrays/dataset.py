"""One subject of the store as an `xarray.Dataset`: labels in memory, betas lazy."""

from __future__ import annotations

import math
from importlib.metadata import version

import dask.array as da
import numpy as np
import xarray as xr
from xarray.core import indexing

from laion_zarr.arrays.lazy import LazyBetas, LazyMap, SubjectHandle
from laion_zarr.arrays.localizers import with_z_maps
from laion_zarr.store import schema
from laion_zarr.store.bounds.tables import check_ascending
from laion_zarr.store.schema import (
    BEHAVIOUR,
    NC,
    ROI,
    SESSION,
    TRIAL,
    TRIAL_TYPE,
    TRIALS_PART,
    VOXEL,
    VOXELS_PART,
)


def voxel_positions(voxels: np.ndarray, shape: tuple[int, ...], affine: np.ndarray) -> xr.Dataset:
    """Grid indices and positions in mm of flat C-order indices, as coordinates along ``voxel``."""
    ijk = np.stack(np.unravel_index(voxels, shape), axis=1)
    xyz = ijk @ affine[:3, :3].T + affine[:3, 3]
    specs = schema.VOXEL_ARRAYS
    values = {"i": ijk[:, 0], "j": ijk[:, 1], "k": ijk[:, 2]}
    values |= {"x": xyz[:, 0], "y": xyz[:, 1], "z": xyz[:, 2]}
    coords = {
        name: (VOXEL, column.astype(specs[name].dtype), specs[name].attributes)
        for name, column in values.items()
    }
    return xr.Dataset(coords=coords)


def _voxel_side(handle: SubjectHandle) -> xr.Dataset:
    """Dataset of the stored arrays along ``voxel``, in ascending order of voxels."""
    names = [VOXEL, "in_anatomical", "in_rsquare", ROI, "category", "roi_mask", NC, "noise_ceiling"]
    found = handle.stored.load(VOXELS_PART, names)
    _check_together(handle, found, ((VOXEL,), (ROI, "category", "roi_mask"), (NC, "noise_ceiling")))
    (attributes,) = handle.stored.attributes(VOXELS_PART, needed=("shape", "affine"))
    handle.set_storage_order(found[VOXEL])
    order = handle.storage_order()
    specs = schema.VOXEL_ARRAYS
    shape, affine = tuple(attributes["shape"]), np.array(attributes["affine"])
    voxels = found[VOXEL][order].astype(np.int64)
    with handle.stored.bounded(VOXELS_PART, VOXEL):
        check_ascending(voxels, math.prod(shape), "the grid")
    side = voxel_positions(voxels, shape, affine).assign_coords({VOXEL: voxels})
    for name in ("in_anatomical", "in_rsquare"):
        if name in found:
            side = side.assign_coords({name: (VOXEL, found[name][order], specs[name].attributes)})
    if ROI in found:
        side = side.assign_coords({ROI: found[ROI], "category": (ROI, found["category"])})
    if NC in found:
        side = side.assign_coords({NC: found[NC]})
    own = {schema.SUBJECT: handle.subject}
    for name, spec in specs.items():
        if name in found and len(spec.dims) == 2:
            side[name] = (spec.dims, found[name][:, order], spec.attributes | own)
    return side.assign_attrs(own, shape=list(shape), affine=affine.ravel().tolist())


def _check_together(
    handle: SubjectHandle, found: dict[str, np.ndarray], groups: tuple[tuple[str, ...], ...]
) -> None:
    """Raise StoreError if the voxels, or some of the arrays that go together, are missing."""
    for names in groups:
        lacking = [name for name in names if name not in found]
        if lacking and (names == (VOXEL,) or len(lacking) < len(names)):
            raise handle.stored.refused(VOXELS_PART, lacking[0], "is listed by no manifest")
        if names[0] != VOXEL and not lacking and len(set(found[names[0]])) < len(found[names[0]]):
            raise handle.stored.refused(VOXELS_PART, names[0], "has a name twice")


def _trial_side(handle: SubjectHandle) -> xr.Dataset:
    """Dataset of the stored arrays along ``trial``, of length 0 if no session is stored."""
    specs = schema.TRIAL_ARRAYS
    if handle.stored.sessions:
        names = handle.stored.part(TRIALS_PART).arrays()
        wanted = {*names, *schema.TRIAL_LABELS} - {TRIAL}
        found = handle.stored.load(TRIALS_PART, sorted(wanted), needed=True)
    else:
        found = {name: np.empty(0, object) for name in schema.TRIAL_LABELS}
    behaviour = _behaviour(handle, found)
    coords = {
        name: (TRIAL, values, specs[name].attributes if name in specs else {})
        for name, values in found.items()
    }
    return xr.Dataset(coords={TRIAL: np.arange(len(found["session"])), **coords, **behaviour})


def _behaviour(
    handle: SubjectHandle, found: dict[str, np.ndarray]
) -> dict[str, tuple[str, np.ndarray, dict[str, str]]]:
    """Take what trials have from the events out of their arrays: coordinates, NaN if missing."""
    if BEHAVIOUR.name not in found:
        return {}
    numbers, names = found.pop(BEHAVIOUR.name), schema.behaviour_names(found)
    name = names[TRIAL_TYPE.name] if names[TRIAL_TYPE.name] in found else TRIAL_TYPE.name
    types = found.pop(name, np.empty(0))
    if types.dtype != object or len(numbers) != len(schema.BEHAVIOUR_ARRAYS):
        what = f"is not what the events give trials, with {name} beside it"
        raise handle.stored.refused(TRIALS_PART, BEHAVIOUR.name, what)
    types[types == schema.NOT_AVAILABLE] = np.nan
    coords = {name: (TRIAL, types, TRIAL_TYPE.attributes)}
    for row, (column, spec) in zip(numbers, schema.BEHAVIOUR_ARRAYS.items(), strict=True):
        coords[names[column]] = (TRIAL, row, spec.attributes)
    return coords


def build_dataset(handle: SubjectHandle) -> xr.Dataset:
    """Assemble the dataset of a subject; reads labels, ROI masks and noise ceilings, no betas.

    Returns
    -------
    xarray.Dataset
        Betas and maps of sessions have xarray's own lazy indexing and are not Dask-backed.
    """
    sessions, own = handle.stored.sessions, {schema.SUBJECT: handle.subject}
    dataset = _trial_side(handle).merge(_voxel_side(handle), combine_attrs="no_conflicts")
    dataset["betas"] = xr.Variable(
        (TRIAL, VOXEL),
        indexing.LazilyIndexedArray(lazy_betas(handle, dataset)),
        schema.BETAS.attributes | own,
    )
    dataset = dataset.assign_coords({SESSION: np.array(sessions, dtype=object)})
    maps = [handle.stored.parts.get(schema.maps_part(session)) for session in sessions]
    present = {name for part in maps if part is not None for name in part.arrays()}
    for name, spec in schema.MAP_ARRAYS.items():
        if name in present:
            lazy = LazyMap(handle, name, sessions, dataset.sizes[VOXEL])
            dataset[name] = xr.Variable(
                (SESSION, VOXEL),
                indexing.LazilyIndexedArray(lazy),
                spec.attributes | own,
            )
    dataset = with_z_maps(dataset, handle)
    dataset.attrs |= {
        "schema_version": schema.SCHEMA_VERSION,
        "laion_zarr_version": version("laion-zarr"),
    }
    return dataset


def lazy_betas(handle: SubjectHandle, labels: xr.Dataset) -> LazyBetas:
    """All betas of a subject, lazy; `labels` gives the trials per session and the voxels."""
    counts = labels["session"].to_series().value_counts()
    n_trials = {session: int(counts.get(session, 0)) for session in handle.stored.sessions}
    in_order = np.repeat(np.array([*n_trials], dtype=object), [*n_trials.values()])
    if not np.array_equal(in_order, labels["session"].values):
        what = f"has trials of other sessions than {', '.join(n_trials)}, in this order"
        raise handle.stored.refused(TRIALS_PART, "session", what)
    return LazyBetas(handle, n_trials, labels.sizes[VOXEL])


def owned(dataset: xr.Dataset, betas: da.Array | None = None) -> xr.Dataset:
    """Copy the labels and masks of a selection, so that the caller may modify them.

    `betas`, if given, take the place of those of `dataset`.
    """
    # Strings are copied as references: `str` is immutable, and a deep copy of 30,000 strings takes
    # longer than all other steps of a selection.
    lazy = {schema.BETAS.name, *schema.MAP_ARRAYS, schema.LOCALIZER_Z}
    ours = set(dataset.variables) - lazy - set(dataset.indexes)
    copies = {}
    for name in ours:
        was = dataset.variables[name]
        # fastpath: the values are arrays, and xarray need not inspect the objects in them.
        copies[name] = xr.Variable(was.dims, was.values.copy(), dict(was.attrs), fastpath=True)
    if betas is not None:
        attributes = dataset.variables[schema.BETAS.name].attrs
        copies[schema.BETAS.name] = xr.Variable((TRIAL, VOXEL), betas, attributes)
    return dataset.assign(copies)
