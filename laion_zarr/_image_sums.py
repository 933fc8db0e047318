"""Repeats of each image, brought together session by session while the betas are read once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from operator import getitem
from typing import Any

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph

from laion_zarr._lazy import LazyArray, LazyBetas, as_run, digest
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
        """Their order by image."""
        return Repeats.of(self.images)

    def __getstate__(self) -> dict[str, Any]:
        return {"images": self.images, "scored": self.scored}

    def __dask_tokenize__(self) -> tuple[str, str | None]:
        return digest(self.images), None if self.scored is None else digest(self.scored)


@dataclass(frozen=True)
class Repeats:
    """Trials in order: the first ones of some images side by side, then the second ones, ….

    Attributes
    ----------
    order : numpy.ndarray of int
        The trials that count.
    images : list of numpy.ndarray of int
        Images with equally many trials, ascending; a member for each such number.
    counts : list of int
        That number.
    """

    order: np.ndarray
    images: list[np.ndarray]
    counts: list[int]

    @classmethod
    def of(cls, images: np.ndarray) -> Repeats:
        """Order trials by the image that each shows, -1 for none."""
        counted = np.flatnonzero(images >= 0)
        by_image = counted[np.argsort(images[counted], kind="stable")]
        trials_of = np.bincount(images[counted])
        first = np.cumsum(trials_of) - trials_of
        counts = np.unique(trials_of[trials_of > 0]).tolist()
        members = [np.flatnonzero(trials_of == count) for count in counts]
        order = [
            by_image[first[mine] + turn]
            for count, mine in zip(counts, members, strict=True)
            for turn in range(count)
        ]
        return cls(np.concatenate([np.empty(0, np.intp), *order]), members, counts)

    def few_at_a_time(self, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Rows (voxel, trial) in this order, as many as fit the cache; good until the next ones."""
        memory = Memory()
        for lo in range(0, len(rows), _VOXELS_IN_CACHE):
            some = rows[lo : lo + _VOXELS_IN_CACHE]
            few = memory.array((len(some), len(self.order)), rows.dtype)
            np.take(some, self.order, axis=1, out=few, mode="clip")
            yield slice(lo, lo + len(some)), few

    def parts(self, few: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images with equally many trials, and their trials: (voxel, repeat, image)."""
        first = 0
        for images, count in zip(self.images, self.counts, strict=True):
            last = first + count * len(images)
            yield images, few[:, first:last].reshape(len(few), count, len(images))
            first = last


def read_trials(
    betas: LazyBetas, groups: TrialGroups, voxels: np.ndarray, buffer: Memory
) -> np.ndarray:
    """Read all trials of some voxels, each chunk once, and score them.

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
    numpy.ndarray, (voxel, trial) float32
        Whatever was there for sessions of which no trial counts.
    """
    found = buffer.array((len(voxels), betas.shape[0]), betas.dtype)
    for trials, rows, where in betas.by_session(voxels, groups.images >= 0):
        if groups.scored is not None:
            standardize(rows, groups.scored[trials])
        found[as_run(where), trials] = rows
    return found


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
        wanted, place = np.unique(images, return_inverse=True)
        (means,) = self.parts(wanted, voxels, [0, len(voxels)])
        return means if np.array_equal(wanted, images) else means[place]

    def parts(
        self, images: np.ndarray, voxels: np.ndarray, cuts: Sequence[int]
    ) -> list[np.ndarray]:
        """Averages of some images, ascending, each chunk read once: an array from cut to cut."""
        code = np.full(self.shape[0] + 1, -1)  # of trials that count for nothing, too
        code[images] = np.arange(len(images))
        groups = TrialGroups(code[self.groups.images], self.groups.scored)
        spans = list(pairwise(cuts))
        found = [np.empty((len(images), hi - lo), dtype=self.dtype) for lo, hi in spans]
        kept, of_rows, spare = Memory(), Memory(), Memory()
        for where in self.betas.by_storage(voxels, VOXELS_AT_ONCE):
            rows = read_trials(self.betas, groups, voxels[where], kept)
            means = of_rows.array((len(rows), len(images)), self.dtype)
            for here, few in groups.repeats.few_at_a_time(rows):
                for members, trials in groups.repeats.parts(few):
                    mean = spare.array((len(few), len(members)), rows.dtype)
                    means[here, members] = mean_of_known(trials, mean)
            for part, (lo, hi) in zip(found, spans, strict=True):
                inside = np.flatnonzero((where >= lo) & (where < hi))
                part[:, where[inside] - lo] = means[inside].T
        return found

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (*super().__dask_tokenize__(), *self.groups.__dask_tokenize__())


def even_blocks(
    lazy: LazyImageBetas, voxels: np.ndarray, reads: Sequence[int], width: int, name: str
) -> da.Array:
    """All images and some voxels in Dask blocks of an even width, as Zarr wants its chunks.

    Parameters
    ----------
    lazy : LazyImageBetas
        All averages of the subject.
    voxels : numpy.ndarray, (voxel,) int
        Positions in the stored union.
    reads : sequence of int
        Numbers of voxels that are read together, so that few chunks are read more than once. What
        is read comes in pieces: each is let go when its block has been used.
    width : int
        Voxels of a block.
    name : str
        Of the array.
    """
    ends = np.cumsum([0, *reads]).tolist()
    starts = list(range(0, len(voxels), width))
    tasks: dict[Any, Any] = {f"held-{name}": lazy, f"voxels-{name}": voxels.astype(np.int32)}
    pieces: list[list[Any]] = [[] for _ in starts]
    for lo, hi in pairwise(ends):
        cuts = sorted({lo, hi, *(start for start in starts if lo < start < hi)})
        tasks[f"read-{name}", lo] = (_read_parts, f"held-{name}", f"voxels-{name}", cuts)
        for number, cut in enumerate(cuts[:-1]):
            tasks[f"piece-{name}", cut] = (getitem, (f"read-{name}", lo), number)
            pieces[cut // width].append((f"piece-{name}", cut))
    for number, keys in enumerate(pieces):
        tasks[name, 0, number] = (_side_by_side, keys)
    widths = tuple(np.diff([*starts, len(voxels)]).tolist())
    graph = HighLevelGraph.from_collections(name, tasks)
    return da.Array(graph, name, ((lazy.shape[0],), widths), dtype=lazy.dtype)


def _read_parts(lazy: LazyImageBetas, voxels: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    inside = [cut - cuts[0] for cut in cuts]
    return lazy.parts(np.arange(lazy.shape[0]), voxels[cuts[0] : cuts[-1]], inside)


def _side_by_side(pieces: list[np.ndarray]) -> np.ndarray:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)
