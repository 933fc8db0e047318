"""Z-scores, and averages over the repeats of each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.delayed import delayed

from laion_zarr._words import ZscoreBy
from laion_zarr.analysis.streams.blocks import columns_of
from laion_zarr.analysis.streams.stream import Finish, Stream
from laion_zarr.analysis.streams.sums import Kept
from laion_zarr.analysis.streams.trials import Repeats, TrialGroups, mean_of_known, standardize
from laion_zarr.arrays.dask_blocks import SelectedBetas, joined, source_of
from laion_zarr.arrays.labels import with_labels
from laion_zarr.arrays.lazy import digest, transposed
from laion_zarr.store.objects import Memory
from laion_zarr.store.schema import DEVIATIONS, IMAGE, IMAGE_NAME, N_TRIALS, SLAB_VOXELS, TRIAL

_NAME = IMAGE_NAME.name
# Gives averages (image, voxel), by sorted names of images and by positions of voxels.
Averages = Callable[[np.ndarray, np.ndarray], da.Array]
# Bytes of a block of all trials and a range of voxels; a task also holds a sorted copy of it.
_BLOCK_BYTES = 96 << 20
_BY = ("session", "run")
NO_LABEL = ("", "n/a")


def zscore(betas: xr.DataArray, by: ZscoreBy = "session") -> xr.DataArray:
    """Z-score each voxel within each session, or each run.

    Parameters
    ----------
    betas : xarray.DataArray, (trial, voxel)
        With ``session`` (and ``run``) along its trials.
    by : {"session", "run"}
        Trials that are z-scored together.

    Returns
    -------
    xarray.DataArray, (trial, voxel)
        Z-scores in the dtype of `betas` (float64 for integers), in standard deviations (ddof 0).
        NaN is left out of mean and standard deviation; a voxel that is constant within a session or
        run is NaN there. Lazy if `betas` is lazy, in its Dask blocks where these hold whole
        sessions (or runs).

    Raises
    ------
    ValueError
        If `by` is another value, or `betas` lacks the coordinate that `by` names.

    Examples
    --------
    >>> from laion_zarr import load_subject
    >>> from laion_zarr.analysis import zscore
    >>> z = zscore(load_subject("01").get_betas(roi="FFA1"))
    >>> z.attrs["units"]
    'standard deviations'
    """
    groups = groups_of(betas, by)
    if betas.ndim != 2 or TRIAL not in betas.dims:
        raise ValueError(f"betas must be (trial, voxel), got {tuple(map(str, betas.dims))}.")
    ordered = betas.transpose(TRIAL, ...)
    if betas.dtype.kind != "f":
        ordered = ordered.astype(np.float64)
    if isinstance(ordered.data, da.Array):
        data = _in_whole_groups(ordered.data, groups)
        labels = da.from_array(groups[:, None], chunks=(data.chunks[0], 1))
        values = da.map_blocks(_scored, data, labels, dtype=data.dtype, meta=data._meta)
        if data.numblocks[0] > 1:
            values = joined(values, ordered.data.chunks)
    else:
        values = _scored(ordered.values, groups[:, None])
    scored = ordered.copy(data=values).transpose(*betas.dims)
    return _described(scored.assign_attrs(units=DEVIATIONS), f"z-scored by {by}")


def average_repeats(betas: xr.DataArray) -> xr.DataArray:
    """Average over the repeats of each image.

    Parameters
    ----------
    betas : xarray.DataArray, (trial, …)
        With ``image_name`` along its trials: betas, embeddings, any other values by trial.

    Returns
    -------
    xarray.DataArray, (image, …)
        Mean over the trials of each image that are not NaN, or NaN if all are NaN; in the dtype of
        `betas` (float64 for integers). Images are sorted by name as plain strings, so that averages
        of several subjects have one order. ``n_trials`` counts the trials of each image; a label
        along trials is kept if it is the same for all trials of each image. Lazy if `betas` is
        lazy.

    Raises
    ------
    ValueError
        If `betas` has no ``image_name`` along its trials, or trials have no image name.

    See Also
    --------
    laion_zarr.subject.Subject.get_image_betas : averages of z-scored betas, read once.

    Examples
    --------
    >>> from laion_zarr import load_subject
    >>> from laion_zarr.analysis import average_repeats
    >>> mean = average_repeats(load_subject("01").get_betas(roi="FFA1"))
    >>> mean.dims
    ('image', 'voxel')
    """
    dim, images, codes = images_of(betas)
    ordered = betas.transpose(dim, ...)
    if betas.dtype.kind != "f":
        ordered = ordered.astype(np.float64)
    if dim == TRIAL and source_of(ordered.data) is not None:
        return image_betas(ordered, None, np.ones(len(codes), dtype=bool))
    if isinstance(ordered.data, da.Array):
        data = with_all_rows(ordered.data)
        shape = ((len(images),), *data.chunks[1:])
        held = delayed(codes, name=f"codes-{digest(codes)}", traverse=False)
        options = {"dtype": data.dtype, "chunks": shape, "meta": data._meta}
        values = da.map_blocks(_mean_by_code, data, codes=held, **options)
    else:
        values = _mean_by_code(ordered.values, codes)
    return _by_image(ordered, images, codes, values)


def image_betas(
    betas: xr.DataArray, by: ZscoreBy | None, keep: np.ndarray, stored: Averages | None = None
) -> xr.DataArray:
    """Z-score and average selected betas while they are read.

    Parameters
    ----------
    betas : xarray.DataArray, (trial, voxel)
        Betas as returned by `Subject.get_betas`.
    by : {"session", "run", None}
        As in `zscore`; None: betas are not z-scored.
    keep : numpy.ndarray, (trial,) bool
        Trials to average. All trials are z-scored, including trials that are not averaged.
    stored : callable, optional
        Has the averages already; betas are then not read.

    Returns
    -------
    xarray.DataArray, (image, voxel) float32, Dask-backed
    """
    source = source_of(betas.data)
    assert source is not None
    kept = betas.isel({TRIAL: keep})
    if by is not None:
        kept = _described(kept, f"z-scored by {by}")
    _, images, codes = images_of(kept)
    if stored is not None:
        values = stored(images, source.voxels)
    else:
        of_trials = np.full(len(betas), -1)
        of_trials[keep] = codes
        stream = averaging(betas, by, of_trials)
        values = columns_of(stream, source.voxels, len(images), block_width(len(images)))
    averaged = _by_image(kept, images, codes, values)
    return averaged if by is None else averaged.assign_attrs(units=DEVIATIONS)


def averaging(
    betas: xr.DataArray, by: str | None, codes: np.ndarray, finish: Finish | None = None
) -> Stream:
    """Computation of averages, or of what `finish` says; `codes` as in `TrialGroups.images`."""
    source = source_of(betas.data)
    assert source is not None
    scored = None if by is None else groups_of(betas, by)
    return Stream(source.betas, of_subject(source, codes, scored), finish or _MEANS)


# -- labels


def images_of(betas: xr.DataArray) -> tuple[str, np.ndarray, np.ndarray]:
    """Dim of the trials, sorted image names, and for each trial the index of its image name."""
    with_labels(betas, "betas")
    if _NAME not in betas.coords or betas[_NAME].ndim != 1:
        raise ValueError(
            f"{_NAME!r} must be a coordinate along trials; there are "
            f"{', '.join(map(str, betas.coords)) or 'none'}."
        )
    (dim,) = betas[_NAME].dims
    labels = betas[_NAME].values
    if unlabelled := int((pd.isna(labels) | np.isin(labels.astype(str), NO_LABEL)).sum()):
        raise ValueError(
            f"{unlabelled:,} trials have no label: there is no telling what was seen. Leave them "
            f"out first: betas[~betas[{_NAME!r}].isin({list(NO_LABEL)})]."
        )
    images, codes = np.unique(labels.astype(str), return_inverse=True)
    return str(dim), images, codes


def groups_of(betas: xr.DataArray, by: str) -> np.ndarray:
    """Number of the session (or of the run within its session) of each trial, (trial,) int."""
    with_labels(betas, "betas")
    if by not in _BY:
        raise ValueError(f"Z-scores are by one of {', '.join(_BY)}, got {by!r}.")
    names = _BY[: _BY.index(by) + 1]
    if missing := [name for name in names if name not in betas.coords]:
        raise ValueError(
            f"{missing[0]!r} must be a coordinate along trials; there are "
            f"{', '.join(map(str, betas.coords)) or 'none'}."
        )
    table = pd.DataFrame({name: betas[name].values for name in names})
    if table.isna().any(axis=None):
        raise ValueError(f"Some trials have no {' or no '.join(names)}; leave them out first.")
    return table.groupby(list(names), sort=False).ngroup().to_numpy()


def _by_image(
    betas: xr.DataArray, images: np.ndarray, codes: np.ndarray, values: Any
) -> xr.DataArray:
    """Labelled array of values by image."""
    dim = betas.dims[0]
    coords = {
        **{key: c for key, c in betas.coords.items() if dim not in c.dims},
        **_per_image(betas, dim, codes, len(images)),
        IMAGE: images.astype(object),
        N_TRIALS.name: (IMAGE, np.bincount(codes, minlength=len(images))),
    }
    averaged = xr.DataArray(values, coords, (IMAGE, *betas.dims[1:]), betas.name, betas.attrs)
    return _described(averaged, "averaged over the repeats of each image")


def _described(values: xr.DataArray, how: str) -> xr.DataArray:
    """Append `how` to the description of `values`, if `values` has one."""
    if "description" not in values.attrs:
        return values
    return values.assign_attrs(description=f"{values.attrs['description']}, {how}")


def _per_image(
    betas: xr.DataArray, dim: object, codes: np.ndarray, n_images: int
) -> dict[object, tuple[str, np.ndarray]]:
    """Labels along trials that are the same for all trials of each image, as labels by image."""
    first = np.zeros(n_images, dtype=np.intp)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    found = {}
    for name, coord in betas.coords.items():
        if coord.dims != (dim,) or name in (dim, _NAME):
            continue
        own = coord.values[first]
        if pd.Series(coord.values).equals(pd.Series(own[codes])):
            found[name] = (IMAGE, own)
    return found


# -- Dask blocks


def _holds_whole(groups: np.ndarray, blocks: Sequence[int]) -> bool:
    """Whether each group of trials lies within one Dask block."""
    block = np.repeat(np.arange(len(blocks)), blocks)
    return len(set(zip(groups.tolist(), block.tolist(), strict=True))) == len(np.unique(groups))


def _in_whole_groups(data: da.Array, groups: np.ndarray) -> da.Array:
    """Array in blocks that hold each group of trials whole: in its own, as read, or of all rows."""
    if _holds_whole(groups, data.chunks[0]):
        return data
    if (source := source_of(data)) is not None:
        read = source.as_read()
        if _holds_whole(groups, read.chunks[0]):
            return read
    return with_all_rows(data)


def block_width(n_images: int) -> int:
    """Number of voxels of a block of all images, a divisor of the voxels of a slab."""
    return _even_width(_BLOCK_BYTES // max(1, 4 * n_images))


def _even_width(most: int) -> int:
    """Number of voxels of a block: at most `most`, and a divisor of the voxels of a slab."""
    widths = (SLAB_VOXELS // n for n in range(1, SLAB_VOXELS + 1) if SLAB_VOXELS % n == 0)
    return next(width for width in widths if width <= max(1, most))


def with_all_rows(data: da.Array) -> da.Array:
    """Rechunk to blocks of all rows and as many columns as `_BLOCK_BYTES` allows."""
    columns = max(1, _BLOCK_BYTES // max(1, data.shape[0] * data.dtype.itemsize))
    sizes = {axis: min(columns, data.shape[axis]) for axis in range(1, data.ndim)}
    return data.rechunk({0: -1} | sizes)


def within_sessions(source: SelectedBetas, scored: np.ndarray | None) -> bool:
    """Whether each group to z-score lies in one stored session: users may relabel sessions."""
    sizes = list(source.betas.n_trials.values())
    stored = np.repeat(np.arange(len(sizes)), sizes)[source.trials]
    return scored is None or len(np.unique([scored, stored], axis=1).T) == len(np.unique(scored))


def of_subject(source: SelectedBetas, codes: np.ndarray, scored: np.ndarray | None) -> TrialGroups:
    """Expand the groups of the selected trials to all trials of the subject; -1 elsewhere."""
    images, scores = np.full((2, source.betas.shape[0]), -1)
    images[source.trials] = codes
    if scored is None:
        return TrialGroups(images)
    scores[source.trials] = scored
    return TrialGroups(images, scores)


# -- computations on numpy arrays


def _scored(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Z-score a block (trial, voxel)."""
    dtype = np.result_type(values, np.float32)
    rows = standardize(np.array(values.T, dtype, order="C"), groups[:, 0])
    return transposed(rows).astype(values.dtype, copy=False)


def means_of_rows(rows: np.ndarray, repeats: Repeats) -> np.ndarray:
    """Average over the repeats of each image, (image, voxel)."""
    found = np.empty((len(rows), repeats.n_images), dtype=rows.dtype)
    spare = Memory()
    for here, parts in repeats.few_at_a_time(rows):
        for images, part in parts:
            mean = spare.array((len(part), len(images)), rows.dtype)
            found[here, images] = mean_of_known(part, mean)
    return transposed(found)


def _means_kept(kept: Kept, n_trials: np.ndarray) -> np.ndarray:
    return kept.means[: len(n_trials), : len(kept.state)]


_MEANS = Finish(means_of_rows, _means_kept, means=True)


def _mean_by_code(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Mean over the rows of each code, NaN left out; every code must occur."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    rows = values[order]
    known = ~np.isnan(rows)
    counts = np.add.reduceat(known, starts, axis=0, dtype=np.int32)
    rows[~known] = 0
    sums = np.add.reduceat(rows, starts, axis=0, dtype=np.float64)
    means = np.full(sums.shape, np.nan, dtype=values.dtype)
    np.divide(sums, counts, out=means, where=counts > 0, casting="same_kind")
    return means
