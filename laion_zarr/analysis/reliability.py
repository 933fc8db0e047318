"""Noise ceilings and reliability: how the betas of each voxel vary over repeats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize
from dask.delayed import delayed

from laion_zarr._words import ZscoreBy
from laion_zarr.analysis.repeats import (
    averaging,
    groups_of,
    images_of,
    means_of_rows,
    of_subject,
    with_all_rows,
    within_sessions,
)
from laion_zarr.analysis.streams.blocks import values_of
from laion_zarr.analysis.streams.stream import Finish, Stream
from laion_zarr.analysis.streams.sums import Kept
from laion_zarr.analysis.streams.trials import Repeats, TrialGroups, mean_of_known, standardize
from laion_zarr.arrays.dask_blocks import source_of
from laion_zarr.arrays.labels import ordered, whose
from laion_zarr.store.objects import Memory
from laion_zarr.store.schema import PERCENT, TRIAL, VOXEL


def noise_ceiling(
    betas: xr.DataArray, zscore: ZscoreBy | None = "session", trials: Any = None
) -> xr.DataArray:
    """Noise ceiling of each voxel, from how its betas vary over repeats.

    Parameters
    ----------
    betas : xarray.DataArray, (trial, voxel)
        With ``image_name`` (and ``session``, ``run``) along its trials.
    zscore : {"session", "run", None}
        Trials that are z-scored together first. None: `betas` are z-scores already.
    trials : array-like of bool, (trial,), optional
        Trials to use, selected after all trials were z-scored: ``sub.metadata["n_reps"] == "4rep"``
        gives the release's ``Noiseceiling4rep``. A Series or DataArray is joined by trial label. If
        not provided, all trials are used.

    Returns
    -------
    xarray.DataArray, (voxel,) float32, percent
        Share of the variance of the mean response to an image (mean over its repeats in `betas`)
        that the image explains; NaN if no image was repeated. Lazy if `betas` is lazy.

    Raises
    ------
    ValueError
        If `trials` is not one bool for each trial, or marks no trial.

    Notes
    -----
    Noise variance: variance over repeats (ddof 1), averaged over images with two trials or more.
    Signal variance: 1 − noise variance, at least 0. With ncsnr² = signal ÷ noise, the ceiling
    is 100 · ncsnr² ÷ (ncsnr² + mean(1/n)), where n is the number of repeats of an image: Allen et
    al. (2022), Nat. Neurosci. 25, 116-126. Betas that are NaN are left out of z-scores and
    variances, but are counted in n, as in the release's maps.

    Examples
    --------
    >>> from laion_zarr import load_subject
    >>> from laion_zarr.analysis import noise_ceiling
    >>> ceiling = noise_ceiling(load_subject("01").get_betas(roi="face"))
    >>> ceiling.attrs["units"]
    'percent'
    """
    betas = ordered(betas, "betas", TRIAL, VOXEL)
    keep = np.ones(betas.sizes[TRIAL], dtype=bool) if trials is None else _along(trials, betas)
    if keep.dtype != bool or keep.shape != (betas.sizes[TRIAL],):
        raise ValueError(
            f"trials must be boolean, one value for each of the {betas.sizes[TRIAL]:,} trials; got "
            f"{keep.dtype} of shape {keep.shape}."
        )
    if len(keep) and not keep.any():
        raise ValueError(f"trials marks none of the {len(keep):,} trials.")
    _, _, codes = images_of(betas)
    scored = None if zscore is None else groups_of(betas, zscore)
    values = _by_voxel(betas, np.where(keep, codes, -1), scored, _CEILING)
    attrs = {"units": PERCENT, "description": "noise ceiling"}
    return _per_voxel(betas, values, attrs, "noise_ceiling")


def means_and_noise(betas: xr.DataArray, by: ZscoreBy, codes: np.ndarray) -> Stream:
    """Computation of averages by image, and in one more column of the noise of each voxel.

    Noise is the square root of the noise variance, see `noise_ceiling`; `codes` is the index of
    each trial's image.
    """
    return averaging(betas, by, codes, _MEANS_AND_NOISE)


def _along(trials: Any, betas: xr.DataArray) -> np.ndarray:
    """Values of `trials` in the trial order of `betas`: by label if `trials` has labels."""
    if isinstance(trials, pd.Series):
        trials = xr.DataArray(trials.to_numpy(), {TRIAL: trials.index}, (TRIAL,))
    if isinstance(trials, xr.DataArray) and TRIAL in trials.coords and TRIAL in betas.coords:
        try:
            trials = trials.sel({TRIAL: betas[TRIAL].values})
        except (KeyError, pd.errors.InvalidIndexError) as error:
            raise ValueError(
                f"trials must say one thing of each trial of betas ({error}). A Series or "
                "DataArray is joined by its labels, the global trial index; pass an array to go by "
                "position."
            ) from None
    return np.asarray(trials)


def split_half_reliability(
    betas: xr.DataArray, zscore: ZscoreBy | None = "session"
) -> xr.DataArray:
    """Correlation over images between the averages of two halves of the repeats.

    Parameters
    ----------
    betas : xarray.DataArray, (trial, voxel)
        With ``image_name`` (and ``session``, ``run``) along its trials.
    zscore : {"session", "run", None}
        Trials that are z-scored together first. None: `betas` are z-scores already.

    Returns
    -------
    xarray.DataArray, (voxel,) float32
        Pearson correlation; NaN with fewer than three images, or where a half is constant over
        images. Lazy if `betas` is lazy.

    Notes
    -----
    The trials of an image are assigned to the two halves alternately, in trial order; images with
    one trial are left out. The correlation r is the reliability of *half* of the repeats; the
    reliability of all repeats is 2r ÷ (1 + r) (Spearman 1910, Brown 1910, both Br. J. Psychol. 3).

    Examples
    --------
    >>> from laion_zarr import load_subject
    >>> from laion_zarr.analysis import split_half_reliability
    >>> split_half_reliability(load_subject("01").get_betas(roi="face")).dims
    ('voxel',)
    """
    betas = ordered(betas, "betas", TRIAL, VOXEL)
    _, _, codes = images_of(betas)
    repeated = np.bincount(codes)[codes] > 1
    scored = None if zscore is None else groups_of(betas, zscore)
    values = _by_voxel(betas, np.where(repeated, codes, -1), scored, _HALVES)
    return _per_voxel(betas, values, {"description": "split-half reliability"}, "reliability")


def _per_voxel(betas: xr.DataArray, values: Any, attrs: dict[str, str], name: str) -> xr.DataArray:
    """Labelled array of one value per voxel."""
    coords = {key: c for key, c in betas.coords.items() if TRIAL not in c.dims}
    return xr.DataArray(values, coords, (VOXEL,), name, attrs | whose(betas))


# -- Dask blocks


def _by_voxel(
    betas: xr.DataArray, codes: np.ndarray, scored: np.ndarray | None, finish: Finish
) -> Any:
    """Values that `finish` computes from all trials of each voxel, (voxel,)."""
    source = source_of(betas.data)
    if source is not None and within_sessions(source, scored):
        stream = Stream(source.betas, of_subject(source, codes, scored), finish)
        return values_of(stream, source.voxels)
    work = _FromMemory(TrialGroups(codes, scored), finish)
    if not isinstance(betas.data, da.Array):
        return work(betas.values)
    data = with_all_rows(betas.data)
    # One separate task holds `work`, so that no block's task holds a copy of it.
    held = delayed(work, name=f"held-{tokenize(work)}", traverse=False)
    meta = np.empty(0, dtype=np.float32)
    return da.map_blocks(_call, data, drop_axis=0, work=held, dtype="f4", meta=meta)


@dataclass(frozen=True)
class _FromMemory:
    """Z-scores a block (trial, voxel) that is in memory and applies `finish` to it."""

    groups: TrialGroups
    finish: Finish

    def __call__(self, values: np.ndarray) -> np.ndarray:
        dtype = np.result_type(values, np.float32)
        rows = np.array(values.T, dtype, order="C")
        if self.groups.scored is not None:
            standardize(rows, self.groups.scored)
        return self.finish.of_rows(rows, self.groups.repeats)


def _call(values: np.ndarray, work: _FromMemory) -> np.ndarray:
    return work(values)


# -- computations on numpy arrays


def _ceiling_of_rows(rows: np.ndarray, repeats: Repeats) -> np.ndarray:
    """Noise ceiling, percent, (voxel,)."""
    sizes = [trials.shape for trials in repeats.trials]
    n_trials = np.concatenate([np.empty(0), *(np.full(many, n) for n, many in sizes)])
    return _percent(_noise_of_rows(rows, repeats), n_trials)


def _noise_of_rows(rows: np.ndarray, repeats: Repeats) -> np.ndarray:
    """Variance over repeats, averaged over images, (voxel,); NaN where none was repeated."""
    noise, n_images = np.zeros((2, len(rows)))
    memory = Memory()
    for here, parts in repeats.few_at_a_time(rows):
        for images, part in parts:
            n_trials = part.shape[1]
            if n_trials < 2:
                continue
            mean = memory.array((len(part), len(images)), rows.dtype)
            part -= mean_of_known(part, mean)[:, None]
            squares = np.square(part, out=part)
            total = squares.reshape(len(part), -1).sum(axis=1) / (n_trials - 1)
            known = np.full(len(part), len(images))
            if (lost := np.isnan(total)).any():
                total[lost], known[lost] = _variances_of_known(squares[lost])
            noise[here] += total
            n_images[here] += known
    with np.errstate(invalid="ignore"):  # 0 / 0
        return noise / n_images


def _ceiling_of_means(kept: Kept, n_trials: np.ndarray) -> np.ndarray:
    """Noise ceiling, percent, (voxel,)."""
    return _percent(_noise_of_means(kept, n_trials), n_trials)


def _noise_of_means(kept: Kept, n_trials: np.ndarray) -> np.ndarray:
    """As `_noise_of_rows`."""
    repeated = np.float64(np.count_nonzero(n_trials > 1))
    with np.errstate(invalid="ignore"):  # 0 / 0 where no image was repeated
        return np.maximum(kept.variances, 0) / repeated


def _means_and_noise_of_rows(rows: np.ndarray, repeats: Repeats) -> np.ndarray:
    """Averages by image, and the noise after the last, (image + 1, voxel)."""
    noise = np.sqrt(_noise_of_rows(rows, repeats)).astype(rows.dtype)
    return np.vstack([means_of_rows(rows, repeats), noise])


def _means_and_noise_of_means(kept: Kept, n_trials: np.ndarray) -> np.ndarray:
    """As `_means_and_noise_of_rows`, in the place of the trials that are not counted."""
    found = kept.means[:, : len(kept.state)]
    found[len(n_trials)] = np.sqrt(_noise_of_means(kept, n_trials))
    return found


_MEANS_AND_NOISE = Finish(
    _means_and_noise_of_rows, _means_and_noise_of_means, means=True, varies=True
)


def _percent(noise: np.ndarray, n_trials: np.ndarray) -> np.ndarray:
    """Noise ceiling, percent, from the noise variance and the number of trials of each image."""
    repeated = n_trials[n_trials > 1].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        per_repeat = (1 / repeated).sum() / np.float64(len(repeated))
        signal = np.maximum(0, 1 - noise)
        # ncsnr² / (ncsnr² + mean(1/n)), numerator and denominator times the noise, which may be 0.
        ceiling = 100 * signal / (signal + noise * per_repeat)
    return ceiling.astype(np.float32)


_CEILING = Finish(_ceiling_of_rows, _ceiling_of_means, varies=True)


def _variances_of_known(squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the variances of images with two or more trials that are not NaN; their number."""
    n = (~np.isnan(squares)).sum(axis=1)
    variances = np.nansum(squares, axis=1) / np.maximum(n - 1, 1)
    return np.where(n > 1, variances, 0).sum(axis=1), (n > 1).sum(axis=1)


def _halves_of_rows(rows: np.ndarray, repeats: Repeats) -> np.ndarray:
    """Correlation over images between the means of two halves of the repeats, (voxel,)."""
    found = np.empty(len(rows), dtype=np.float32)
    memory = [Memory(), Memory()]
    for here, parts in repeats.few_at_a_time(rows):
        n_voxels = here.stop - here.start
        halves = [own.array((n_voxels, repeats.n_images), rows.dtype) for own in memory]
        first = 0
        for images, part in parts:
            for turn, half in enumerate(halves):
                mean_of_known(part[:, turn::2], half[:, first : first + len(images)])
            first += len(images)
        found[here] = _correlation_of_rows(*halves)
    return found


def _halves_of_means(kept: Kept, n_trials: np.ndarray) -> np.ndarray:
    return kept.correlation.astype(np.float32)


_HALVES = Finish(_halves_of_rows, _halves_of_means, halves=True)


def _correlation_of_rows(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson correlation of corresponding rows; overwrites both arguments."""
    total = first.sum(axis=1) + second.sum(axis=1)
    if first.shape[1] < 3:
        return np.full(len(first), np.nan)
    whole = np.isfinite(total)
    known = ~np.isnan(first[~whole]) & ~np.isnan(second[~whole])
    found = np.empty(len(first))
    found[~whole] = correlation(first[~whole].T, second[~whole].T, known.T)
    for half in (first, second):
        # Mean in float64, so that a constant row becomes exactly 0.
        half -= half.mean(axis=1, dtype=np.float64, keepdims=True).astype(half.dtype)
    squares = [np.einsum("vi,vi->v", half, half) for half in (first, second)]
    with np.errstate(invalid="ignore", divide="ignore"):
        straight = np.einsum("vi,vi->v", first, second) / np.sqrt(squares[0] * squares[1])
    found[whole] = straight[whole]
    return found


def correlation(first: np.ndarray, second: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Pearson correlation along the first axis where `known`; NaN with fewer than three values."""
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (np.where(known, values, 0).astype(np.float64) for values in (first, second))
        a = np.where(known, a - a.sum(axis=0) / n, 0)
        b = np.where(known, b - b.sum(axis=0) / n, 0)
        found = (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.where(n > 2, found, np.nan)
