"""Collect the repeats of each image from all sessions while each chunk of betas is read once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache, cached_property
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from dask.base import normalize_token

from laion_zarr._progress import Bar
from laion_zarr._whole import WholeMemory, Written, on_a_worker
from laion_zarr.analysis.streams.sums import Adder, Kept, Plan, plan_sums
from laion_zarr.arrays.lazy import LazyBetas, PackedBetas, as_run, digest
from laion_zarr.store.objects import Memory
from laion_zarr.store.schema import CHUNK_VOXELS

# Bytes of betas that are read together: all trials of a group of voxels, one request per session.
# For 30 sessions a group is four chunks. Twice as many bytes are no faster and take more memory;
# half as many need twice as many requests.
READ_BYTES = 64 << 20
# Most voxels of a group. Without this limit a subject with few sessions would give too few groups,
# each of which is a Dask task, to keep several threads busy.
_MOST_VOXELS = 32 * CHUNK_VOXELS
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


@dataclass(frozen=True)
class Finish:
    """A statistic of all trials of a voxel, computed in two ways that give the same values.

    Attributes
    ----------
    of_rows : callable
        Computes it from the betas (voxel, trial) and their trials by image (`Repeats`), whatever
        these betas are. Returns an array with voxels along the last axis.
    of_means : callable
        Computes it from means of the betas by image and what else is kept of them (`Kept`), and the
        number of trials of each image.
    means : bool
        Whether `of_means` uses the means of an image, not only what was computed from them.
    halves : bool
        Whether there are two means of each image, of its even trials and of its odd ones.
    """

    of_rows: Callable[[np.ndarray, Repeats], np.ndarray]
    of_means: Callable[[Kept, np.ndarray], np.ndarray]
    means: bool = False
    halves: bool = False


@cache
def compiled_loops() -> ModuleType | None:
    """Compiled loops (`streams.compiled`); None where numba is missing or does not fit numpy."""
    try:
        from laion_zarr.analysis.streams import compiled
    except ImportError:
        return None
    return compiled


@cache
def native_loops() -> ModuleType | None:
    """The same for chunks in files (`streams.native`); None where a function of C is missing."""
    try:
        from laion_zarr.analysis.streams import native
    except ImportError:
        return None
    return native


@dataclass(frozen=True)
class ByVoxel(ABC):
    """Computation of one or more values per voxel, for groups of voxels that are read together.

    Attributes
    ----------
    betas : LazyBetas
        All betas of a subject.
    """

    label: ClassVar[str] = "by-column"  # names the results in graphs of Dask

    betas: LazyBetas

    @abstractmethod
    def of_chunks(self, voxels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Compute the result for voxels, given as positions in the stored union of voxels.

        Yields
        ------
        where : numpy.ndarray of int
            Positions in `voxels` of those of one chunk.
        values : numpy.ndarray of float32
            The result for them, with voxels along the last axis; the next one may overwrite it.
        """

    @property
    @abstractmethod
    def n_read(self) -> int:
        """Number of values that are read of each voxel."""

    def __call__(self, voxels: np.ndarray) -> np.ndarray:
        """Compute the result for one voxel or more."""
        found = None
        for where, values in self.of_chunks(voxels):
            if found is None:
                found = np.empty((*values.shape[:-1], len(voxels)), np.float32)
            found[..., as_run(where)] = values
        assert found is not None
        return found

    def write(self, voxels: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
        """Write the result, several values per voxel, as columns of an array."""
        for where, values in self.of_chunks(voxels):
            place_columns(values, columns[where], out)

    def groups_of(self, voxels: np.ndarray) -> Iterator[np.ndarray]:
        """Positions in `voxels` of those that are read together, in storage order."""
        fit = READ_BYTES // max(1, 4 * self.n_read)
        return self.betas.by_storage(voxels, min(max(CHUNK_VOXELS, fit), _MOST_VOXELS))

    def tasks(
        self, voxels: np.ndarray, name: str, memory: str | None = None
    ) -> tuple[dict[Any, Any], list[np.ndarray]]:
        """Tasks ``(f"part-{name}", n)``, one per group of voxels, and their positions in `voxels`.

        The voxels of a group are in storage order. If `memory`, the key of a `WholeMemory` of the
        results, is given, they are written into it, unless they are made elsewhere.
        """
        places = list(self.groups_of(voxels))
        bar = Bar("voxels, all trials", len(places))
        tasks: dict[Any, Any] = {f"held-{name}": self}  # sent to a worker once, not with each task
        for n, where in enumerate(places):
            own = () if memory is None else (memory, where.astype(np.int32))
            tasks[f"part-{name}", n] = (_call, f"held-{name}", voxels[where], bar, *own)
        return tasks, places


@dataclass(frozen=True)
class Stream(ByVoxel):
    """Computation over all trials of a group of voxels; each chunk of betas is read once.

    Attributes
    ----------
    groups : TrialGroups
        Image and z-scoring group of each trial of the subject.
    finish : Finish
        The statistic.
    """

    groups: TrialGroups
    finish: Finish

    def of_chunks(self, voxels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Compute the result for voxels, chunk after chunk."""
        try:
            memory, adder = self._spare.pop()
        except IndexError:
            memory, adder = Memory(), self._adder()
        packed = self._packed(voxels, memory)
        if adder is None:
            for chunk, (rows, where) in enumerate(packed.rows):
                yield where, self._of_rows(packed, chunk, rows)
        else:
            yield from self._added(voxels, packed, memory, adder)
        self._spare.append((memory, adder))

    def _added(
        self, voxels: np.ndarray, packed: PackedBetas, memory: Memory, adder: Adder
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Compute the result while trials are added up; from the trials, for lost voxels."""
        with closing(adder.places(packed)) as places:
            for chunk, ((rows, where), place) in enumerate(zip(packed.rows, places, strict=True)):
                kept = adder(packed, chunk, rows, place)
                values = self.finish.of_means(kept, adder.n_trials)
                if (lost := np.flatnonzero(kept.lost)).size:
                    # What is in files was not fetched: of lost voxels, their chunk alone is.
                    known = place is None
                    again = packed if known else self._packed(voxels[where[lost]], memory)
                    values[..., lost] = self._of_rows(again, chunk if known else 0, rows[lost])
                yield where, values

    def _packed(self, voxels: np.ndarray, memory: Memory) -> PackedBetas:
        return self.betas.packed(voxels, self.groups.images >= 0, memory)

    @cached_property
    def _spare(self) -> list[tuple[Memory, Adder | None]]:
        """Memory of finished tasks, for the next ones: new memory costs a tenth of the time."""
        return []

    def _adder(self) -> Adder | None:
        loops = compiled_loops()
        if loops is None:
            return None
        return Adder(*self._plan, self.finish.means, loops, native_loops())

    @cached_property
    def _plan(self) -> tuple[Plan, np.ndarray]:
        sessions = [trials for _, trials in self.betas.sessions_with(self.groups.images >= 0)]
        return plan_sums(self.groups.images, self.groups.scored, sessions, self.finish.halves)

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("betas", "groups", "finish")}

    def _of_rows(self, packed: PackedBetas, chunk: int, rows: np.ndarray) -> np.ndarray:
        """Compute the result from all trials of some rows of a chunk."""
        betas = np.empty((len(rows), self.betas.shape[0]), self.betas.dtype)
        memory = Memory()
        for session, trials in enumerate(packed.trials):
            buffer = memory.array((CHUNK_VOXELS * (trials.stop - trials.start),), betas.dtype)
            read = packed.unpack(session, chunk, buffer)[as_run(rows)]
            if self.groups.scored is not None:
                standardize(read, self.groups.scored[trials])
            betas[:, trials] = read
        # Sessions whose trials are all left out were not read: their columns are uninitialized, and
        # `repeats` does not use them.
        return self.finish.of_rows(betas, self.groups.repeats)

    @property
    def n_read(self) -> int:
        """Number of trials."""
        return self.betas.shape[0]

    def __dask_tokenize__(self) -> Any:
        return normalize_token((self.betas, self.groups, self.finish))


def _call(
    stream: ByVoxel,
    voxels: np.ndarray,
    bar: Bar,
    memory: WholeMemory | None = None,
    columns: np.ndarray | None = None,
) -> np.ndarray | Written:
    """Result for the voxels of a group: in the memory of all, if this process makes all of it."""
    if memory is None or columns is None or on_a_worker():
        found: np.ndarray | Written = stream(voxels)
    else:
        stream.write(voxels, columns, memory.values())
        found = Written(memory, columns)
    bar.step()
    return found


def place_columns(values: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """Write values (n, voxel), whose rows or columns are contiguous, as columns of an array."""
    loops = compiled_loops()
    if values.strides[-1] == values.itemsize or loops is None:
        copy_columns(values, np.arange(len(columns), dtype=np.int32), columns, out)
    else:
        loops.place_columns(values.T, columns.astype(np.int64), out)


def copy_columns(
    values: np.ndarray, inside: np.ndarray, columns: np.ndarray, out: np.ndarray
) -> None:
    """Write the columns `inside` of values as the columns `columns` of an array."""
    loops = compiled_loops()
    if loops is None:
        out[:, as_run(columns)] = values[:, as_run(inside)]
    else:
        loops.copy_columns(values, inside, columns.astype(np.int32), out)


def mean_of_known(part: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Mean over the repeats of (voxel, repeat, image) that are not NaN; NaN if all are NaN."""
    np.add.reduce(part, axis=1, out=out)
    out /= part.shape[1]
    lost = np.isnan(out.sum(axis=1))
    if lost.any():
        with np.errstate(invalid="ignore"):  # 0 / 0 where every repeat is NaN
            out[lost] = np.nansum(part[lost], axis=1) / (~np.isnan(part[lost])).sum(axis=1)
    return out
