"""Sums over the repeats of each image, session by session, while the betas are read once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from laion_zarr._lazy import LazyArray, LazyBetas, digest


def standardize(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Z-score rows (…, trial) within groups of trials, in place: NaN left out, ddof 0.

    What does not vary has no z-score: NaN. Trials of group -1 stay as they are.
    """
    for group in np.unique(groups[groups >= 0]):
        here = groups == group
        trials = slice(None) if here.all() else here
        part = rows[..., trials]
        known = ~np.isnan(part)
        every = bool(known.all())
        count = np.maximum(known.sum(axis=-1, keepdims=True), 1)
        total = (part if every else np.where(known, part, 0)).sum(-1, np.float64, keepdims=True)
        part -= total / count
        squares = np.square(part if every else np.where(known, part, 0))
        deviation = np.sqrt(squares.sum(-1, np.float64, keepdims=True) / count)
        deviation[deviation == 0] = np.nan
        part /= deviation
        rows[..., trials] = part
    return rows


@dataclass(frozen=True)
class TrialGroups:
    """What becomes of each trial of a subject.

    Attributes
    ----------
    images : numpy.ndarray, (trial,) int
        Which image it shows, in the order of the result; -1 for a trial that does not count.
    scored : numpy.ndarray, (trial,) int, optional
        Trials that are z-scored together, never of two sessions; -1 for one that is in no score.
        If not provided, betas stay as they are.
    """

    images: np.ndarray
    scored: np.ndarray | None = None

    @property
    def n_images(self) -> int:
        """Images of the result."""
        return int(self.images.max(initial=-1)) + 1

    def of(self, trials: slice) -> TrialGroups:
        """The same of some trials."""
        scored = None if self.scored is None else self.scored[trials]
        return TrialGroups(self.images[trials], scored)

    def __dask_tokenize__(self) -> tuple[str, str | None]:
        return digest(self.images), None if self.scored is None else digest(self.scored)


@dataclass
class Sums:
    """Sums over the repeats of each image, (image, voxel).

    Attributes
    ----------
    total : numpy.ndarray
        Of the betas that are not NaN.
    squares : numpy.ndarray, optional
        Of their squares.
    repeats : numpy.ndarray, (image,) int
        Trials of each image.
    missing : numpy.ndarray, optional
        How many of them are NaN; None as long as none is.
    """

    total: np.ndarray
    squares: np.ndarray | None
    repeats: np.ndarray
    missing: np.ndarray | None = field(default=None)

    def add(self, where: Any, part: np.ndarray, starts: np.ndarray) -> None:
        """Add rows (voxel, trial) whose trials are in order of their images."""
        absent = np.isnan(part)
        if absent.any():
            if self.missing is None:
                self.missing = np.zeros(self.total.shape, dtype=np.uint16)
            self.missing[where] += np.add.reduceat(absent, starts, axis=1, dtype=np.uint16).T
            part[absent] = 0
        self.total[where] += np.add.reduceat(part, starts, axis=1).T
        if self.squares is not None:
            self.squares[where] += np.add.reduceat(np.square(part), starts, axis=1).T

    @property
    def counts(self) -> np.ndarray:
        """Trials that are not NaN, (image, voxel), or (image, 1) where none is."""
        repeats = self.repeats[:, None]
        return repeats if self.missing is None else repeats - self.missing


def image_sums(
    betas: LazyBetas, groups: TrialGroups, voxels: np.ndarray, squares: bool = False
) -> Sums:
    """Read all trials of some voxels once, and sum them up by image.

    Parameters
    ----------
    betas : LazyBetas
        All betas of a subject.
    groups : TrialGroups
        What becomes of each of its trials.
    voxels : numpy.ndarray, (voxel,) int
        Positions in the stored union, in any order.
    squares : bool
        Whether to sum up squares, too; then all in float64.

    Returns
    -------
    Sums
        Beside it no more than a few chunks are in memory.
    """
    shape = (groups.n_images, len(voxels))
    dtype = np.float64 if squares else np.float32
    counted = groups.images[groups.images >= 0]
    repeats = np.bincount(counted, minlength=shape[0])
    sums = Sums(np.zeros(shape, dtype), np.zeros(shape, dtype) if squares else None, repeats)
    for trials, parts in betas.by_session(voxels):
        own = groups.of(trials)
        if (own.images >= 0).any():
            for rows, where in parts:
                add_trials(sums, rows, own, where)
    return sums


def add_trials(sums: Sums, rows: np.ndarray, groups: TrialGroups, where: np.ndarray) -> None:
    """Score rows (voxel, trial) in place, and add them to the sums of their voxels."""
    if groups.scored is not None:
        rows = standardize(rows, groups.scored)
    order = np.argsort(groups.images, kind="stable")[np.count_nonzero(groups.images < 0) :]
    images, starts = np.unique(groups.images[order], return_index=True)
    part = rows[:, order].astype(sums.total.dtype, copy=False)
    sums.add(np.ix_(images, where), part, starts)


class LazyImageBetas(LazyArray):
    """Betas averaged over the repeats of each image, (image, voxel) float32.

    Parameters
    ----------
    betas : LazyBetas
        All betas of the subject.
    groups : TrialGroups
        What becomes of each of its trials.
    """

    def __init__(self, betas: LazyBetas, groups: TrialGroups) -> None:
        super().__init__(betas.handle, (groups.n_images, betas.shape[1]))
        self.betas = betas
        self.groups = groups

    def _read(self, *positions: np.ndarray) -> np.ndarray:
        images, voxels = positions
        code = np.full(self.shape[0] + 1, -1)  # of trials that count for nothing, too
        wanted, place = np.unique(images, return_inverse=True)
        code[wanted] = np.arange(len(wanted))
        groups = TrialGroups(code[self.groups.images], self.groups.scored)
        sums = image_sums(self.betas, groups, voxels)
        with np.errstate(invalid="ignore"):  # 0 / 0 where every repeat is NaN
            sums.total /= sums.counts
        return sums.total if np.array_equal(wanted, images) else sums.total[place]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (*super().__dask_tokenize__(), *self.groups.__dask_tokenize__())
