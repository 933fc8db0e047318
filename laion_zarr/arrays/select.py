"""Selection by label: labels -> positions or masks. Reads nothing from the store."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from dask.array.slicing import normalize_index

from laion_zarr import _release as release
from laion_zarr.arrays.labels import of_one_subject
from laion_zarr.arrays.lazy import as_run
from laion_zarr.errors import NotConvertedError, UnknownNameError, nearest
from laion_zarr.store.schema import (
    CHUNK_VOXELS,
    DEFAULT_MASK,
    MASKS,
    ROI,
    SLAB_VOXELS,
    TRIAL,
    VOXEL,
)

Chunks = tuple[Any, Any]  # block sizes along trials and voxels, None where a user gives none

# If trials alternate between sessions more often than this, blocks by session would be too small.
_MAX_RUNS_PER_SESSION = 4
_TRIALS_PER_BLOCK = 1024
_VOXELS_IN_ONE_BLOCK = 4 * SLAB_VOXELS  # 289 MB per session


def as_list(value: object) -> list:
    """A label or labels in any form (list, array, Series, DataArray) -> a list."""
    if isinstance(value, xr.DataArray | pd.Series | pd.Index | np.ndarray):
        value = np.asarray(value).tolist()
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return [value]
    return list(value)


def is_one(key: object) -> bool:
    """Whether a key is a single label rather than a list of labels."""
    if isinstance(key, str | bytes) or not isinstance(key, Iterable):
        return True
    return getattr(key, "ndim", 1) == 0  # a 0-d array is a single label


def mask_coordinate(mask_source: str) -> str:
    """Name of the coordinate of a brain mask: ``"anatomical"`` -> ``"in_anatomical"``."""
    if mask_source not in MASKS:
        raise UnknownNameError(f"mask_source must be one of {list(MASKS)}, got {mask_source!r}.")
    return f"in_{mask_source}"


def in_mask(dataset: xr.Dataset, mask_source: str) -> np.ndarray:
    """Brain mask over all stored voxels, (voxel,) bool."""
    name = mask_coordinate(mask_source)
    if name not in dataset.coords:
        other = next(mask for mask in MASKS if mask != mask_source)
        instead = f" Or pass mask_source={other!r}." if f"in_{other}" in dataset.coords else ""
        file = {
            DEFAULT_MASK: f"the functional-grid brain mask ({release.ANATOMY})",
            "rsquare": f"the R2mean map ({release.GLM})",
        }[mask_source]
        raise NotConvertedError(
            f"The store does not hold the {mask_source} brain mask of "
            f"{dataset.attrs.get('subject')}. Download {file} and run 'laion-zarr convert --mask "
            f"both --overwrite --subject {dataset.attrs.get('subject')}'.{instead}"
        )
    return dataset[name].values


def resolve_rois(roi_table: xr.DataArray, query: object) -> list[str]:
    """Names of the ROIs that a query selects: an ROI, a category, ``"all"``, or a list of these.

    Parameters
    ----------
    roi_table : xarray.DataArray, (roi,)
        Any array along ``roi`` with a ``category`` coordinate.
    query : str or list of str
        Query of the user.

    Raises
    ------
    ValueError
        If an entry is neither an ROI nor a category; the message lists the stored ones.
    """
    names = roi_table[ROI].values.tolist()
    categories = roi_table["category"].values.tolist()
    by_category: dict[str, list[str]] = {}
    for name, category in zip(names, categories, strict=True):
        by_category.setdefault(category, []).append(name)
    found: list[str] = []
    for item in as_list(query):
        if item == "all":
            found += names
        elif item in by_category:
            found += by_category[item]
        elif item in names:
            found.append(item)
        else:
            hint = nearest(item, [*names, *by_category])
            raise UnknownNameError(
                f"Unknown ROI or category {item!r}.{hint} Categories: {sorted(by_category)}. "
                f"ROIs: {sorted(names)}. 'all' means every ROI."
            )
    return list(dict.fromkeys(found))


def in_rois(dataset: xr.Dataset, query: object) -> np.ndarray:
    """Mask of the union of the ROIs that a query selects, (voxel,) bool."""
    if "roi_mask" not in dataset:
        raise NotConvertedError(
            f"The store holds no ROIs of {dataset.attrs.get('subject')}. Download them "
            f"({release.ROIS}) and run 'laion-zarr convert' again; betas are not touched."
        )
    names = resolve_rois(dataset["roi_mask"], query)
    rows = np.isin(dataset[ROI].values, names)
    return np.asarray(dataset["roi_mask"].values[rows].any(axis=0))


def above_threshold(ceiling: xr.DataArray, nc_threshold: float) -> np.ndarray:
    """Mask of voxels whose noise ceiling is at least the threshold (percent); False at NaN."""
    if not isinstance(nc_threshold, Real):
        raise ValueError(f"nc_threshold must be a number, in percent, got {nc_threshold!r}.")
    if 0 < nc_threshold < 1:
        warnings.warn(
            f"nc_threshold is in percent, 0-100: {nc_threshold} keeps nearly every voxel. "
            f"For {nc_threshold:.0%} pass {100 * nc_threshold:g}.",
            stacklevel=4,
        )
    return ceiling.values >= nc_threshold


def by_stimuli(dataset: xr.Dataset, stimuli: str) -> np.ndarray:
    """Mask of trials with shared images, or with unique images, (trial,) bool."""
    if stimuli not in ("shared", "unique"):
        raise UnknownNameError(f"stimuli must be 'shared', 'unique' or None, got {stimuli!r}.")
    return dataset["unique_or_shared"].values == stimuli


def among(dataset: xr.Dataset, name: str, wanted: object, what: str) -> np.ndarray:
    """Mask of trials with one of the wanted labels, (trial,) bool; every label must occur."""
    labels = as_list(wanted)
    values = dataset[name].values
    there = set(values.tolist())
    missing = [label for label in labels if label not in there]
    if missing:
        some = sorted(there)[:5]
        raise ValueError(
            f"{what} {missing[0]!r} is not among the {len(there):,} of "
            f"{dataset.attrs.get('subject')}, such as {', '.join(map(repr, some))}."
        )
    return dataset[name].to_series().isin(labels).to_numpy()


def labelled_trials(dataset: xr.Dataset, name: str, wanted: object) -> np.ndarray:
    """Mask of trials with one of the wanted values in a coordinate along trials, (trial,) bool."""
    there = [str(key) for key, one in dataset.coords.items() if one.dims == (TRIAL,)]
    if name not in there:
        hint = nearest(name, there)
        raise TypeError(f"There is no {name!r} along trials.{hint} There are: {', '.join(there)}.")
    return dataset[name].to_series().isin(as_list(wanted)).to_numpy()


def positions(dataset: xr.Dataset, dim: str, labels: object) -> np.ndarray:
    """Positions of index labels along a dim; slices are label slices, as in `xarray`."""
    index = dataset.indexes[dim]
    if isinstance(labels, slice):
        return np.arange(len(index))[index.slice_indexer(labels.start, labels.stop, labels.step)]
    wanted = np.asarray(as_list(labels))
    if wanted.dtype == bool:
        raise ValueError(f"{dim}= takes labels, not booleans; for positions use .isel.")
    found = index.get_indexer(pd.Index(wanted))
    if (found < 0).any():
        raise ValueError(
            f"{dim} {wanted[found < 0][0]!r} is not in the {dim} axis of "
            f"{dataset.attrs.get('subject')} ({len(index):,} labels, {index.min()} to "
            f"{index.max()})."
        )
    return found


def _run_lengths(values: np.ndarray) -> tuple[int, ...]:
    cuts = np.flatnonzero(values[1:] != values[:-1]) + 1
    return tuple(np.diff(np.concatenate([[0], cuts, [len(values)]])).tolist())


def trial_blocks(sessions: np.ndarray) -> tuple[int, ...]:
    """Dask block sizes along trials: one per session, or of fixed size if sessions alternate."""
    if not len(sessions):
        return (0,)
    runs = _run_lengths(sessions)
    if len(runs) <= _MAX_RUNS_PER_SESSION * len(set(sessions.tolist())):
        return runs
    return of_size(_TRIALS_PER_BLOCK, len(sessions))


def uniform_blocks(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Block sizes along an axis, all equal but the last, that keep most of `sizes` as they are.

    The size is one of `sizes`, and no less than half of the largest.
    """
    total = sum(sizes)
    if not total:
        return sizes
    ends = np.cumsum(sizes)
    starts = ends - sizes

    def kept(size: int) -> tuple[int, int]:
        whole = (starts % size == 0) & (ends == np.minimum(starts + size, total))
        return int(np.count_nonzero(whole)), size

    return of_size(max({size for size in sizes if 2 * size >= max(sizes)}, key=kept), total)


def of_size(size: int, length: int) -> tuple[int, ...]:
    """Blocks of one size along an axis, the last one smaller."""
    if not length:
        return (0,)
    whole, rest = divmod(length, size)
    return (size,) * whole + ((rest,) if rest else ())


class Cut(NamedTuple):
    """What one block gives to another: number of the block, and positions in both."""

    block: int
    rows: tuple[Any, Any]


def cuts(read: tuple[int, ...], blocks: tuple[int, ...], rows: np.ndarray) -> list[list[Cut]]:
    """For each block: what of which block read it holds, along an axis of which `rows` are kept."""
    starts, ends = np.cumsum([0, *read[:-1]]), np.cumsum(read)
    found, first = [], 0
    for size in blocks:
        wanted = rows[first : first + size]
        of = np.searchsorted(ends, wanted, side="right")
        order = np.argsort(of, kind="stable")
        numbers, lows = np.unique(of[order], return_index=True)
        parts = np.split(order, lows[1:]) if size else []
        found.append(
            [
                Cut(n, (as_run(wanted[part] - starts[n]), as_run(part)))
                for n, part in zip(numbers.tolist(), parts, strict=True)
            ]
        )
        first += size
    return found


def or_default(given: Chunks, default: Chunks) -> Chunks:
    """Sizes of blocks along both axes: those that are given, or others."""
    trials, voxels = (b if a is None else a for a, b in zip(given, default, strict=True))
    return trials, voxels


def where_given(given: Chunks, sizes: Chunks) -> Chunks:
    """Sizes of blocks along the axes on which any are given."""
    trials, voxels = (None if a is None else b for a, b in zip(given, sizes, strict=True))
    return trials, voxels


def forward(index: Any, shape: tuple[int, ...]) -> Any:
    """Index whose slices begin on the axis: with a negative step, Dask mistakes others."""
    keys = index if isinstance(index, tuple) else (index,)
    if len(keys) > len(shape) or any(key is None or key is Ellipsis for key in keys):
        return index
    return tuple(map(_forward, keys, shape))


def _forward(key: Any, length: int) -> Any:
    if not isinstance(key, slice) or (key.step or 1) > 0:
        return key
    start, stop, step = key.indices(length)
    return slice(start, None if stop < 0 else stop, step) if start > stop else slice(0, 0)


def key_of(index: Any, shape: tuple[int, ...]) -> tuple[Any, Any] | None:
    """Positions along trials and voxels; None if they are lazy, or if there is a new axis."""
    key = normalize_index(index, shape)
    known = (slice, Integral, np.ndarray)
    if len(key) != 2 or not all(isinstance(one, known) and np.ndim(one) < 2 for one in key):  # type: ignore[arg-type]
        return None
    return key[0], key[1]


def voxel_blocks(positions_in_union: np.ndarray) -> tuple[int, ...]:
    """Dask block sizes along voxels: one block per slab, or one block for a small selection.

    The voxels of an ROI are contiguous in the store but scattered along the voxel axis: in blocks
    by slab, each block would read most chunks of the ROI.
    """
    scattered = isinstance(as_run(positions_in_union), np.ndarray)
    if len(positions_in_union) <= (_VOXELS_IN_ONE_BLOCK if scattered else SLAB_VOXELS):
        return (len(positions_in_union),)
    slabs = positions_in_union // SLAB_VOXELS
    if (np.diff(slabs) >= 0).all():
        return _run_lengths(slabs)
    return of_size(SLAB_VOXELS, len(slabs))


def check_chunks(chunks: object, sizes: Mapping[Hashable, int]) -> dict[str, object]:
    """Check Dask block sizes by dim, as passed by the user; empty if there are none."""
    if chunks is None:
        return {}
    fits = isinstance(chunks, dict) and set(chunks) <= set(sizes)
    if not fits or not all(_is_block(size, sizes[dim]) for dim, size in chunks.items()):  # type: ignore[attr-defined]
        raise ValueError(
            "chunks must be a dict of block sizes by dim, such as "
            f"{{'{next(iter(sizes))}': -1, '{VOXEL}': {8 * CHUNK_VOXELS}}}, for "
            f"{dict(sizes)}; got {chunks!r}."
        )
    return dict(chunks)  # type: ignore[call-overload]


def _is_block(size: object, length: int) -> bool:
    """Whether Dask accepts a block size: an int, -1 for one block, or sizes with sum `length`."""
    if isinstance(size, tuple):
        return all(isinstance(n, int) and n > 0 for n in size) and sum(size) == length
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        return False
    return int(size) == -1 or int(size) > 0


def labelled(values: Any) -> Any:
    """Convert a pandas Series indexed by voxel to a DataArray; return other values as is."""
    if isinstance(values, pd.Series) and values.index.name == VOXEL:
        return xr.DataArray(values.to_numpy(), {VOXEL: values.index.to_numpy()}, (VOXEL,))
    return values


def voxel_mask(mask: object, axis: xr.Dataset) -> np.ndarray:
    """A user's boolean mask -> (voxel,) bool over the axis.

    A numpy mask is positional; a DataArray or Series is aligned by its ``voxel`` labels, and voxels
    of the axis without a label in the mask are False.
    """
    voxels, mask = axis[VOXEL].values, labelled(mask)
    values = np.asarray(mask)
    if values.dtype != bool:
        raise ValueError(f"mask must be boolean, got {values.dtype}. For labels use sel(voxel=…).")
    if isinstance(mask, xr.DataArray) and VOXEL in mask.coords:
        of_one_subject(mask.attrs, axis.attrs)
        if mask.dims != (VOXEL,):
            raise ValueError(f"mask must be along {VOXEL!r} alone, got dims {mask.dims}.")
        labels = mask[VOXEL].values[values]
        unknown = np.setdiff1d(labels, voxels)
        if unknown.size:
            raise ValueError(
                f"mask marks {unknown.size:,} voxels that are not on this voxel axis (the first: "
                f"{unknown[0]}). Was it made with another mask_source?"
            )
        return np.isin(voxels, labels)
    if values.shape != voxels.shape:
        raise ValueError(
            f"mask has shape {values.shape}, expected {voxels.shape}: one value per voxel of the "
            "axis. A grid volume becomes one by np.ravel(volume)[get_brain_mask().values]."
        )
    return values


def restrict(keep: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Positions where all boolean masks are True; all positions if there are no masks."""
    if not keep:
        return np.arange(size)
    return np.flatnonzero(np.logical_and.reduce(keep))
