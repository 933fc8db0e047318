"""Noise ceilings and reliability: how the betas of each voxel vary over repeats."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from laion_zarr._image_sums import Sums, TrialGroups, add_trials, image_sums
from laion_zarr._repeats import groups_of, images_of, of_subject, with_all_rows
from laion_zarr._schema import PERCENT, TRIAL, VOXEL
from laion_zarr._selected import SelectedBetas, source_of

_VOXELS_AT_ONCE = 1024  # eight chunks of each session: one request, and sums of some 100 MB


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
    _, _, codes = images_of(betas)
    scored = None if zscore is None else groups_of(betas, zscore)
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
    _, _, codes = images_of(betas)
    turn = pd.Series(codes).groupby(codes).cumcount().to_numpy()
    repeated = np.bincount(codes)[codes] > 1
    halves = np.where(repeated, 2 * codes + turn % 2, -1)
    scored = None if zscore is None else groups_of(betas, zscore)
    values = _by_voxel(betas, halves, scored, _correlated_halves)
    return _per_voxel(betas, values[0], {"description": "split-half reliability"}, "reliability")


def _per_voxel(betas: xr.DataArray, values: Any, attrs: dict[str, str], name: str) -> xr.DataArray:
    """Label values by voxel."""
    coords = {key: c for key, c in betas.coords.items() if TRIAL not in c.dims}
    return xr.DataArray(values, coords, (VOXEL,), name, attrs)


# -- blocks


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
        return _streamed(source, of_subject(source, codes, scored), finish)
    work = partial(_from_memory, groups=TrialGroups(codes, scored), finish=finish)
    if isinstance(ordered.data, da.Array):
        data = with_all_rows(ordered.data)
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
    token = tokenize(source.betas, groups, finish, source.voxels.tobytes())
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
