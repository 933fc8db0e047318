"""Trials that are z-scored together, trials of an image, and what numpy computes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from laion_zarr.arrays.lazy import digest
from laion_zarr.store.objects import Memory

# Voxels processed at a time: all their trials, and the values computed from them, fit in the CPU
# cache.
_VOXELS_IN_CACHE = 16


def standardize(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Z-score rows (voxel, trial) within groups of trials, in place: NaN left out, ddof 0.

    A voxel that is constant within a group becomes NaN there. Trials of group -1 are not changed.
    """
    for group in np.unique(groups[groups >= 0]):
        here = np.flatnonzero(groups == group)
        run = here[-1] + 1 - here[0] == len(here)  # contiguous, the usual case: no copy
        part = rows[:, slice(here[0], here[-1] + 1) if run else here]
        total = part.sum(axis=1, dtype=np.float64)
        lost = ~np.isfinite(total)
        scored = _scored_with_nan(part[lost])
        mean = total / len(here)
        shift = mean.astype(part.dtype)
        part -= shift[:, None]
        # What rounding left of the mean: it counts where betas differ by little more than that.
        part -= (mean - shift).astype(part.dtype)[:, None]
        variance = np.einsum("vt,vt->v", part, part) / len(here)
        part *= _inverse(variance, mean)[:, None]
        part[lost] = scored
        if not run:
            rows[:, here] = part
    return rows


def _scored_with_nan(part: np.ndarray) -> np.ndarray:
    known = ~np.isnan(part)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    mean = np.where(known, part, 0).sum(1, np.float64, keepdims=True) / count
    scored = part - mean
    squares = np.square(np.where(known, scored, 0)).sum(1, np.float64, keepdims=True)
    return (scored * _inverse(squares / count, mean)).astype(part.dtype)


def _inverse(variance: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """1 ÷ standard deviation; NaN where the variance is no larger than the rounding error."""
    rounding = 8 * np.finfo(variance.dtype).eps * np.abs(mean)
    return 1 / np.sqrt(np.where(variance <= rounding**2, np.nan, variance))


def mean_of_known(part: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Mean over the repeats of (voxel, repeat, image) that are not NaN; NaN if all are NaN."""
    np.add.reduce(part, axis=1, out=out)
    out /= part.shape[1]
    lost = np.isnan(out.sum(axis=1))
    if lost.any():
        with np.errstate(invalid="ignore"):  # 0 / 0 where every repeat is NaN
            out[lost] = np.nansum(part[lost], axis=1) / (~np.isnan(part[lost])).sum(axis=1)
    return out


@dataclass(frozen=True)
class TrialGroups:
    """Image and z-scoring group of each trial.

    Attributes
    ----------
    images : numpy.ndarray, (trial,) int
        Index of the trial's image in the result; -1 for a trial that is left out.
    scored : numpy.ndarray, (trial,) int, optional
        Number of the group of trials that are z-scored together; a group lies within one session.
        -1 for a trial that is not z-scored. If not provided, betas are not z-scored.
    """

    images: np.ndarray
    scored: np.ndarray | None = None

    @cached_property
    def repeats(self) -> Repeats:
        """Trials by image."""
        return Repeats.of(self.images)

    def __getstate__(self) -> dict[str, Any]:
        return {"images": self.images, "scored": self.scored}

    def __dask_tokenize__(self) -> tuple[str, str | None]:
        return digest(self.images), None if self.scored is None else digest(self.scored)


@dataclass(frozen=True)
class Repeats:
    """Trials by image; images with the same number of trials share one array.

    Attributes
    ----------
    images : list of numpy.ndarray, (image,) int
        Images with the same number of trials, ascending; one array per number of trials.
    trials : list of numpy.ndarray, (repeat, image) int
        Trials of the images in the array of `images` at the same position, in trial order.
    """

    images: list[np.ndarray]
    trials: list[np.ndarray]

    @property
    def n_images(self) -> int:
        """Number of images of the result."""
        return sum(map(len, self.images))

    @classmethod
    def of(cls, images: np.ndarray) -> Repeats:
        """Group trials by image; `images` gives the image of each trial, -1 for none."""
        counted = np.flatnonzero(images >= 0)
        by_image = counted[np.argsort(images[counted], kind="stable")]
        trials_of = np.bincount(images[counted])
        first = np.cumsum(trials_of) - trials_of
        counts = np.unique(trials_of[trials_of > 0])
        members = [np.flatnonzero(trials_of == count) for count in counts]
        trials = [
            by_image[first[mine] + np.arange(count)[:, None]]
            for count, mine in zip(counts, members, strict=True)
        ]
        return cls(members, trials)

    def few_at_a_time(
        self, rows: np.ndarray
    ) -> Iterator[tuple[slice, list[tuple[np.ndarray, np.ndarray]]]]:
        """Rows (voxel, trial) regrouped by image, a few voxels at a time to fit the CPU cache.

        Yields the slice of the rows, and for each number of trials the images and their betas
        (voxel, repeat, image). The next iteration overwrites these betas.
        """
        # One buffer per array: in a slice of a 3-D array numpy would copy instead of working in
        # place.
        memory = [Memory() for _ in self.images]
        for lo in range(0, len(rows), _VOXELS_IN_CACHE):
            some = rows[lo : lo + _VOXELS_IN_CACHE]
            parts = []
            for images, trials, own in zip(self.images, self.trials, memory, strict=True):
                part = own.array((len(some), *trials.shape), rows.dtype)
                np.take(some, trials, axis=1, out=part, mode="clip")
                parts.append((images, part))
            yield slice(lo, lo + len(some)), parts
