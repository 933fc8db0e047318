"""Repeats of each image, brought together session by session while the betas are read once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from laion_zarr._lazy import LazyArray, LazyBetas, digest
from laion_zarr._store import Memory

# All trials of eight chunks of voxels: 128 MB of a subject, and one request for each session.
VOXELS_AT_ONCE = 1024
# So many voxels' trials fit the cache: what is worked out of them stays there.
_VOXELS_IN_CACHE = 16


def standardize(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Z-score rows (voxel, trial) within groups of trials, in place: NaN left out, ddof 0.

    What does not vary has no z-score: NaN. Trials of group -1 stay as they are.
    """
    for group in np.unique(groups[groups >= 0]):
        here = np.flatnonzero(groups == group)
        run = here[-1] + 1 - here[0] == len(here)  # as a rule: then nothing is copied
        part = rows[:, slice(here[0], here[-1] + 1) if run else here]
        total = part.sum(axis=1, dtype=np.float64)
        lost = ~np.isfinite(total)
        scored = _scored_with_nan(part[lost])
        # As exact as the betas: a mean is rounded as they are.
        part -= (total / len(here)).astype(part.dtype)[:, None]
        variance = np.einsum("vt,vt->v", part, part) / len(here)
        part *= _inverse(variance, total / len(here))[:, None]
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
    """One over the standard deviation, NaN where there is none beyond what rounding leaves."""
    rounding = 8 * np.finfo(variance.dtype).eps * np.abs(mean)
    return 1 / np.sqrt(np.where(variance <= rounding**2, np.nan, variance))


@dataclass(frozen=True)
class TrialGroups:
    """What becomes of each trial.

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

    @cached_property
    def repeats(self) -> Repeats:
        """Where the trials go."""
        return Repeats.of(self.images)

    def __getstate__(self) -> dict[str, Any]:
        return {"images": self.images, "scored": self.scored}

    def __dask_tokenize__(self) -> tuple[str, str | None]:
        return digest(self.images), None if self.scored is None else digest(self.scored)


@dataclass(frozen=True)
class Repeats:
    """Columns of the trials: the first ones of some images side by side, then the second ones, ….

    Attributes
    ----------
    columns : numpy.ndarray, (trial,) int
        Column of each trial, -1 for one that does not count.
    images : list of numpy.ndarray of int
        Images with equally many trials, ascending; a member for each such number.
    counts : list of int
        That number.
    """

    columns: np.ndarray
    images: list[np.ndarray]
    counts: list[int]

    @classmethod
    def of(cls, images: np.ndarray) -> Repeats:
        """Lay out trials by the image that each shows, -1 for none."""
        counted = np.flatnonzero(images >= 0)
        codes = images[counted]
        trials_of = np.bincount(codes)
        by_image = np.argsort(codes, kind="stable")
        turn = np.empty_like(codes)  # which repeat of its image a trial is
        turn[by_image] = np.arange(len(codes)) - (np.cumsum(trials_of) - trials_of)[codes[by_image]]
        columns = np.full(len(images), -1)
        found, counts, first = [], np.unique(trials_of[trials_of > 0]).tolist(), 0
        for count in counts:
            members = np.flatnonzero(trials_of == count)
            mine = np.flatnonzero(trials_of[codes] == count)
            place = np.searchsorted(members, codes[mine])
            columns[counted[mine]] = first + turn[mine] * len(members) + place
            found.append(members)
            first += count * len(members)
        return cls(columns, found, counts)

    @property
    def n_columns(self) -> int:
        """Trials that count."""
        return sum(n * len(images) for n, images in zip(self.counts, self.images, strict=True))

    def parts(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images with equally many trials, and their trials in rows: (voxel, repeat, image)."""
        first = 0
        for images, count in zip(self.images, self.counts, strict=True):
            last = first + count * len(images)
            yield images, rows[:, first:last].reshape(len(rows), count, len(images))
            first = last


def read_repeats(
    betas: LazyBetas, groups: TrialGroups, voxels: np.ndarray, buffer: Memory
) -> np.ndarray:
    """Read all trials of some voxels, each chunk once, and lay them out.

    Parameters
    ----------
    betas : LazyBetas
        All betas of a subject.
    groups : TrialGroups
        What becomes of each of its trials.
    voxels : numpy.ndarray, (voxel,) int
        Positions in the stored union, in any order.
    buffer : Memory
        Where to put them.

    Returns
    -------
    numpy.ndarray, (voxel, column) float32
        Columns as `TrialGroups.repeats` says.
    """
    found = buffer.array((len(voxels), groups.repeats.n_columns), betas.dtype)
    for trials, rows, where in betas.by_session(voxels, groups.images >= 0):
        _lay_out(rows, groups, trials, found, where)
    return found


def lay_out(rows: np.ndarray, groups: TrialGroups) -> np.ndarray:
    """The same of rows (voxel, trial) in memory, which are scored in place."""
    found = np.empty((len(rows), groups.repeats.n_columns), dtype=rows.dtype)
    _lay_out(rows, groups, slice(None), found, slice(None))
    return found


def _lay_out(
    rows: np.ndarray, groups: TrialGroups, trials: slice, found: np.ndarray, where: Any
) -> None:
    if groups.scored is not None:
        standardize(rows, groups.scored[trials])
    columns = groups.repeats.columns[trials]
    kept = columns >= 0
    if not kept.all():
        rows, columns = rows[:, kept], columns[kept]
    if isinstance(where, np.ndarray) and where[-1] + 1 - where[0] == len(where):
        where = slice(where[0], where[-1] + 1)  # a run, since `gather` gives them ascending
    if isinstance(where, slice):
        found[where, columns] = rows
    else:
        found[np.ix_(where, columns)] = rows


def in_cache(rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows, a few at a time."""
    for lo in range(0, len(rows), _VOXELS_IN_CACHE):
        here = slice(lo, lo + _VOXELS_IN_CACHE)
        yield here, rows[here]


def mean_of_known(part: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Mean over the repeats (voxel, repeat, image) that are not NaN; NaN if all are."""
    np.add.reduce(part, axis=1, out=out)
    out /= part.shape[1]
    lost = np.isnan(out.sum(axis=1))
    if lost.any():
        with np.errstate(invalid="ignore"):  # 0 / 0 where every repeat is NaN
            out[lost] = np.nansum(part[lost], axis=1) / (~np.isnan(part[lost])).sum(axis=1)
    return out


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
        means = np.empty((len(wanted), len(voxels)), dtype=self.dtype)
        kept, spare = Memory(), Memory()
        for where in self.betas.by_storage(voxels, VOXELS_AT_ONCE):
            rows = read_repeats(self.betas, groups, voxels[where], kept)
            for here, few in in_cache(rows):
                for members, part in groups.repeats.parts(few):
                    mean = spare.array((len(few), len(members)), rows.dtype)
                    means[np.ix_(members, where[here])] = mean_of_known(part, mean).T
        return means if np.array_equal(wanted, images) else means[place]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (*super().__dask_tokenize__(), *self.groups.__dask_tokenize__())
