"""Statistics over trials and images: labels in, labels out, lazy where the input is.

Betas as `Subject.get_betas` returns them are read in the order in which they are stored, all
trials of some voxels at a time, each chunk once: memory is bounded by that, not by the subject.
Anything else (a product, a sorted axis, an array in memory) is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from laion_zarr._image_sums import (
    LazyImageBetas,
    Sums,
    TrialGroups,
    add_trials,
    image_sums,
    standardize,
)
from laion_zarr._lazy import LazyBetas, digest
from laion_zarr._schema import IMAGE, IMAGE_NAME, PERCENT, TRIAL, VOXEL
from laion_zarr._selected import SelectedBetas, source_of

COUNT = "n_trials"
_UNITS = "standard deviations"
_NAME = IMAGE_NAME.name
# Of all trials and some voxels: what a task holds, beside a sorted copy of it.
_BLOCK_BYTES = 128 << 20
_VOXELS_AT_ONCE = 1024  # eight chunks of each session: one request, and sums of some 100 MB
_BY = ("session", "run")


def zscore(betas: xr.DataArray, by: str = "session") -> xr.DataArray:
    """Z-score each voxel within each session, or each run.

    Parameters
    ----------
    betas : xarray.DataArray, (trial, voxel)
        With ``session`` (and ``run``) along its trials.
    by : {"session", "run"}
        Trials that are scored together.

    Returns
    -------
    xarray.DataArray, (trial, voxel)
        Of the same dtype, in standard deviations (ddof 0): NaN left out of both, and NaN where a
        voxel does not vary. Lazy if `betas` is, block by block where its blocks hold whole
        sessions.

    Raises
    ------
    ValueError
        If `by` is neither, or the label is not there.

    Examples
    --------
    >>> from laion_zarr import load_subject
    >>> from laion_zarr.analysis import zscore
    >>> z = zscore(load_subject("01").get_betas(roi="FFA1"))
    >>> z.attrs["units"]
    'standard deviations'
    """
    groups = _groups(betas, by)
    ordered = betas.transpose(TRIAL, ...)
    if isinstance(ordered.data, da.Array):
        data = ordered.data
        if not _holds_whole(groups, data.chunks[0]):
            data = _with_all_rows(data)
        labels = da.from_array(groups[:, None], chunks=(data.chunks[0], 1))
        values = da.map_blocks(_scored, data, labels, dtype=data.dtype, meta=data._meta)
    else:
        values = _scored(ordered.values, groups[:, None])
    scored = ordered.copy(data=values).transpose(*betas.dims)
    return scored.assign_attrs(units=_UNITS)


def average_repeats(betas: xr.DataArray) -> xr.DataArray:
    """Average over the repeats of each image.

    Parameters
    ----------
    betas : xarray.DataArray, (trial, …)
        With ``image_name`` along its trials: betas, embeddings, any other values by trial.

    Returns
    -------
    xarray.DataArray, (image, …)
        Mean over the trials of each image that are not NaN, NaN if all are; of the same dtype.
        Images are sorted by name as plain strings, so that averages of several subjects line up.
        ``n_trials`` counts the trials of each image; labels along trials that are the same for all
        trials of an image stay. Lazy if `betas` is.

    Raises
    ------
    ValueError
        If nothing says what was seen.

    See Also
    --------
    laion_zarr.subject.Subject.get_image_betas : the same of z-scored betas, read once.

    Examples
    --------
    >>> from laion_zarr import load_subject
    >>> from laion_zarr.analysis import average_repeats
    >>> mean = average_repeats(load_subject("01").get_betas(roi="FFA1"))
    >>> mean.dims
    ('image', 'voxel')
    """
    dim, images, codes = _images_of(betas)
    ordered = betas.transpose(dim, ...)
    if source_of(ordered.data) is not None:
        return image_betas(ordered, None, np.ones(len(codes), dtype=bool))
    mean = partial(_mean_by_code, codes=codes)
    if isinstance(ordered.data, da.Array):
        data = _with_all_rows(ordered.data)
        shape = ((len(images),), *data.chunks[1:])
        values = da.map_blocks(mean, data, dtype=betas.dtype, chunks=shape, meta=data._meta)
    else:
        values = mean(ordered.values)
    return _by_image(ordered, images, codes, values)


def image_betas(betas: xr.DataArray, by: str | None, keep: np.ndarray) -> xr.DataArray:
    """Z-score and average selected betas while they are read.

    Parameters
    ----------
    betas : xarray.DataArray, (trial, voxel)
        As `Subject.get_betas` returns them.
    by : {"session", "run", None}
        As in `zscore`; None for no scores.
    keep : numpy.ndarray, (trial,) bool
        Trials to average, after all were scored.

    Returns
    -------
    xarray.DataArray, (image, voxel) float32, Dask-backed
    """
    source = source_of(betas.data)
    assert source is not None
    scored = None if by is None else _groups(betas, by)
    kept = betas.isel({TRIAL: keep})
    _, images, codes = _images_of(kept)
    of_trials = np.full(len(betas), -1)
    of_trials[keep] = codes
    assert isinstance(source.betas, LazyBetas)
    lazy = LazyImageBetas(source.betas, _of_subject(source, of_trials, scored))
    name = f"images-{tokenize(lazy, digest(source.voxels))}"
    columns = _columns(4 * len(images), betas.chunks[1] if betas.chunks else ())
    values = SelectedBetas(lazy, np.arange(len(images)), source.voxels).chunked((-1, columns), name)
    averaged = _by_image(kept, images, codes, values)
    return averaged if by is None else averaged.assign_attrs(units=_UNITS)


def noise_ceiling(
    betas: xr.DataArray, zscore: str | None = "session", trials: Any = None
) -> xr.DataArray:
    """Noise ceiling of each voxel, from how its betas vary over repeats.

    Parameters
    ----------
    betas : xarray.DataArray, (trial, voxel)
        With ``image_name`` (and ``session``, ``run``) along its trials.
    zscore : {"session", "run", None}
        Trials that are z-scored together before. None: they are z-scores already.
    trials : array-like of bool, (trial,), optional
        Trials to count, after all were z-scored: ``sub.metadata["n_reps"] == "4rep"`` gives the
        release's ``Noiseceiling4rep``. If not provided, all.

    Returns
    -------
    xarray.DataArray, (voxel,) float32, percent
        Variance of the mean response to an image that the image explains, for as many repeats as
        there are; NaN where nothing was repeated. Lazy if `betas` is.

    Notes
    -----
    Noise variance: mean over images, with two trials or more, of the variance over repeats (ddof
    1). Signal variance: 1 − noise variance, at least 0. With ncsnr² = signal ÷ noise, the ceiling
    is 100 · ncsnr² ÷ (ncsnr² + mean(1/n)), n the repeats of an image: Allen et al. (2022), Nat.
    Neurosci. 25, 116-126. Betas that are NaN are left out of scores and variances; n counts them,
    as in the release's maps.

    Examples
    --------
    >>> from laion_zarr import load_subject
    >>> from laion_zarr.analysis import noise_ceiling
    >>> ceiling = noise_ceiling(load_subject("01").get_betas(roi="face"))
    >>> ceiling.attrs["units"]
    'percent'
    """
    keep = np.ones(betas.sizes[TRIAL], dtype=bool) if trials is None else np.asarray(trials)
    if keep.dtype != bool or keep.shape != (betas.sizes[TRIAL],):
        raise ValueError(
            f"trials must be boolean, one value for each of the {betas.sizes[TRIAL]:,} trials; got "
            f"{keep.dtype} of shape {keep.shape}."
        )
    _, _, codes = _images_of(betas)
    scored = None if zscore is None else _groups(betas, zscore)
    values = _by_voxel(betas, np.where(keep, codes, -1), scored, _ceiling)
    attrs = {"units": PERCENT, "description": "noise ceiling"}
    return _per_voxel(betas, values[0], attrs, "noise_ceiling")


def split_half_reliability(betas: xr.DataArray, zscore: str | None = "session") -> xr.DataArray:
    """Correlation over images between the averages of two halves of the repeats.

    Parameters
    ----------
    betas : xarray.DataArray, (trial, voxel)
        With ``image_name`` (and ``session``, ``run``) along its trials.
    zscore : {"session", "run", None}
        Trials that are z-scored together before. None: they are z-scores already.

    Returns
    -------
    xarray.DataArray, (voxel,) float32
        Pearson correlation; NaN with fewer than three images, or where nothing varies. Lazy if
        `betas` is.

    Notes
    -----
    An image's trials go to both halves in turn, in their order; images with one trial are left
    out. It is the reliability of *half* of the repeats: that of all is 2r ÷ (1 + r) (Spearman 1910,
    Brown 1910, both Br. J. Psychol. 3).

    Examples
    --------
    >>> from laion_zarr import load_subject
    >>> from laion_zarr.analysis import split_half_reliability
    >>> split_half_reliability(load_subject("01").get_betas(roi="face")).dims
    ('voxel',)
    """
    _, _, codes = _images_of(betas)
    turn = pd.Series(codes).groupby(codes).cumcount().to_numpy()
    repeated = np.bincount(codes)[codes] > 1
    halves = np.where(repeated, 2 * codes + turn % 2, -1)
    scored = None if zscore is None else _groups(betas, zscore)
    values = _by_voxel(betas, halves, scored, _correlated_halves)
    return _per_voxel(betas, values[0], {"description": "split-half reliability"}, "reliability")


# -- labels


def _images_of(betas: xr.DataArray) -> tuple[str, np.ndarray, np.ndarray]:
    """The dim along which images were seen, their names sorted, and the number of each trial's."""
    if _NAME not in betas.coords or betas[_NAME].ndim != 1:
        raise ValueError(
            f"{_NAME!r} must be a coordinate along trials; there are "
            f"{', '.join(map(str, betas.coords)) or 'none'}."
        )
    (dim,) = betas[_NAME].dims
    images, codes = np.unique(betas[_NAME].values.astype(str), return_inverse=True)
    return str(dim), images, codes


def _groups(betas: xr.DataArray, by: str) -> np.ndarray:
    """Number of the session, or run of a session, of each trial."""
    if by not in _BY:
        raise ValueError(f"Z-scores are by one of {', '.join(_BY)}, got {by!r}.")
    names = _BY[: _BY.index(by) + 1]
    if missing := [name for name in names if name not in betas.coords]:
        raise ValueError(
            f"{missing[0]!r} must be a coordinate along trials; there are "
            f"{', '.join(map(str, betas.coords)) or 'none'}."
        )
    table = pd.DataFrame({name: betas[name].values for name in names})
    return table.groupby(list(names), sort=False).ngroup().to_numpy()


def _by_image(
    betas: xr.DataArray, images: np.ndarray, codes: np.ndarray, values: Any
) -> xr.DataArray:
    """Label values by image."""
    dim = betas.dims[0]
    coords = {
        **{key: c for key, c in betas.coords.items() if dim not in c.dims},
        **_per_image(betas, dim, codes, len(images)),
        IMAGE: images.astype(object),
        COUNT: (IMAGE, np.bincount(codes, minlength=len(images))),
    }
    return xr.DataArray(values, coords, (IMAGE, *betas.dims[1:]), betas.name, betas.attrs)


def _per_image(
    betas: xr.DataArray, dim: object, codes: np.ndarray, n_images: int
) -> dict[object, tuple[str, np.ndarray]]:
    """Labels of trials that say something of the image."""
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


def _per_voxel(betas: xr.DataArray, values: Any, attrs: dict[str, str], name: str) -> xr.DataArray:
    """Label values by voxel."""
    coords = {key: c for key, c in betas.coords.items() if TRIAL not in c.dims}
    return xr.DataArray(values, coords, (VOXEL,), name, attrs)


# -- blocks


def _holds_whole(groups: np.ndarray, blocks: Sequence[int]) -> bool:
    """Whether no group of trials is in two blocks."""
    block = np.repeat(np.arange(len(blocks)), blocks)
    return len(set(zip(groups.tolist(), block.tolist(), strict=True))) == len(np.unique(groups))


def _columns(row_nbytes: int, there: Sequence[int]) -> int | tuple[int, ...]:
    """Block sizes along columns: as they are, or fewer at a time if a block would be too large."""
    columns = max(1, _BLOCK_BYTES * 4 // max(1, row_nbytes))
    return tuple(there) if max(there, default=0) <= columns else columns


def _with_all_rows(data: da.Array) -> da.Array:
    """The same in blocks of all rows and as many columns as a task can hold."""
    columns = max(1, _BLOCK_BYTES // max(1, data.shape[0] * data.dtype.itemsize))
    sizes = {axis: min(columns, data.shape[axis]) for axis in range(1, data.ndim)}
    return data.rechunk({0: -1} | sizes)


def _of_subject(source: SelectedBetas, codes: np.ndarray, scored: np.ndarray | None) -> TrialGroups:
    """What becomes of each trial of the subject, from what becomes of those selected."""
    images, scores = np.full((2, source.betas.shape[0]), -1)
    images[source.trials] = codes
    if scored is None:
        return TrialGroups(images)
    scores[source.trials] = scored
    return TrialGroups(images, scores)


def _by_voxel(
    betas: xr.DataArray,
    codes: np.ndarray,
    scored: np.ndarray | None,
    finish: Callable[[Sums], np.ndarray],
) -> Any:
    """Sums by image of each voxel, and what `finish` makes of them: (value, voxel) float32."""
    ordered = betas.transpose(TRIAL, VOXEL)
    source = source_of(ordered.data)
    if source is not None:
        return _streamed(source, _of_subject(source, codes, scored), finish)
    work = partial(_from_memory, groups=TrialGroups(codes, scored), finish=finish)
    if isinstance(ordered.data, da.Array):
        data = _with_all_rows(ordered.data)
        meta = np.empty((0, 0), dtype=np.float32)
        return da.map_blocks(work, data, chunks=((1,), data.chunks[1]), dtype="f4", meta=meta)
    return work(ordered.values)


def _from_memory(
    values: np.ndarray, groups: TrialGroups, finish: Callable[[Sums], np.ndarray]
) -> np.ndarray:
    shape = (groups.n_images, values.shape[1])
    repeats = np.bincount(groups.images[groups.images >= 0], minlength=shape[0])
    sums = Sums(np.zeros(shape), np.zeros(shape), repeats)
    rows = np.array(values.T, dtype=np.float64)
    add_trials(sums, rows, groups, np.arange(shape[1]))
    return finish(sums)


def _streamed(
    source: SelectedBetas, groups: TrialGroups, finish: Callable[[Sums], np.ndarray]
) -> da.Array:
    """The same from the store, in blocks of voxels that lie together there."""
    token = tokenize(source.betas, groups, finish, digest(source.voxels))
    places = list(source.by_storage(_VOXELS_AT_ONCE))
    held = f"sums-of-{token}"
    tasks: dict[Any, Any] = {held: _Streaming(source.betas, groups, finish)}
    for n, where in enumerate(places):
        tasks[f"sums-{token}", n] = (_call, held, source.voxels[where])
    parts = [(f"sums-{token}", n) for n in range(len(places))]
    name = f"by-voxel-{token}"
    tasks[name, 0, 0] = (_in_order, parts, np.concatenate(places) if places else np.empty(0, int))
    graph = HighLevelGraph.from_collections(name, tasks)
    return da.Array(graph, name, ((1,), (len(source.voxels),)), dtype=np.float32)


class _Streaming:
    """Reads voxels and finishes their sums: sent once, called for each block."""

    def __init__(
        self, betas: Any, groups: TrialGroups, finish: Callable[[Sums], np.ndarray]
    ) -> None:
        self.betas, self.groups, self.finish = betas, groups, finish

    def __call__(self, voxels: np.ndarray) -> np.ndarray:
        return self.finish(image_sums(self.betas, self.groups, voxels, squares=True))


def _call(work: Callable[[np.ndarray], np.ndarray], voxels: np.ndarray) -> np.ndarray:
    return work(voxels)


def _in_order(parts: list[np.ndarray], places: np.ndarray) -> np.ndarray:
    """Parts side by side, each column in its place."""
    found = np.concatenate(parts, axis=1) if parts else np.empty((1, 0), dtype=np.float32)
    ordered = np.empty_like(found)
    ordered[:, places] = found
    return ordered


# -- numbers


def _scored(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Z-score a block (trial, voxel)."""
    scored = np.array(values, order="C")
    standardize(np.moveaxis(scored, 0, -1), groups[:, 0])
    return scored


def _mean_by_code(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Mean of the rows of each code, without NaN; every code occurs."""
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


def _ceiling(sums: Sums) -> np.ndarray:
    """Noise ceiling, percent, (1, voxel)."""
    assert sums.squares is not None
    counts = np.broadcast_to(sums.counts, sums.total.shape)
    repeated = counts > 1
    n = np.where(repeated, counts, 2)  # of the others nothing counts
    variances = (sums.squares - sums.total**2 / n) / (n - 1)
    n_images = repeated.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = np.where(repeated, variances, 0).sum(axis=0) / n_images
        per_repeat = (1 / sums.repeats[sums.repeats > 1]).mean() if n_images.any() else np.nan
        signal = np.maximum(0, 1 - noise)
        # ncsnr² / (ncsnr² + mean(1/n)), both sides times the noise, which may be 0.
        ceiling = 100 * signal / (signal + noise * per_repeat)
    return ceiling[None].astype(np.float32)


def _correlated_halves(sums: Sums) -> np.ndarray:
    """Correlation over images of the means of two halves, (1, voxel)."""
    counts = np.broadcast_to(sums.counts, sums.total.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums.total / counts
        # Rows of both halves of an image are side by side; of images left out, neither counts.
        first, second = means[0::2], means[1::2]
        first, second = np.broadcast_arrays(first[: len(second)], second)
        known = ~np.isnan(first) & ~np.isnan(second)
        found = correlation(first, second, known)
    return found[None].astype(np.float32)


def correlation(first: np.ndarray, second: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Pearson correlation along the first axis, of what is known; NaN of fewer than three."""
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (np.where(known, values, 0).astype(np.float64) for values in (first, second))
        a = np.where(known, a - a.sum(axis=0) / n, 0)
        b = np.where(known, b - b.sum(axis=0) / n, 0)
        found = (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.where(n > 2, found, np.nan)
