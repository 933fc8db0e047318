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
from laion_zarr._whole import WholeMemory, Written
from laion_zarr.analysis.streams.sums import Adder, Kept, Plan, plan_sums
from laion_zarr.analysis.streams.trials import Repeats, TrialGroups, standardize
from laion_zarr.arrays.lazy import LazyBetas, PackedBetas, as_run
from laion_zarr.store.objects import Memory
from laion_zarr.store.schema import CHUNK_VOXELS

# Bytes of betas that are read together: all trials of a group of voxels, one request per session.
# For 30 sessions a group is four chunks. Twice as many bytes are no faster and take more memory;
# half as many need twice as many requests.
READ_BYTES = 64 << 20
# Most voxels of a group. Without this limit a subject with few sessions would give too few groups,
# each of which is a Dask task, to keep several threads busy.
_MOST_VOXELS = 32 * CHUNK_VOXELS


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
    varies : bool
        Whether `of_means` uses variances.
    """

    of_rows: Callable[[np.ndarray, Repeats], np.ndarray]
    of_means: Callable[[Kept, np.ndarray], np.ndarray]
    means: bool = False
    halves: bool = False
    varies: bool = False


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
            yield from self._added(voxels, packed, adder)
        self._spare.append((memory, adder))

    def _added(
        self, voxels: np.ndarray, packed: PackedBetas, adder: Adder
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Compute the result while trials are added up; from the trials, for lost voxels."""
        with closing(adder.places(packed)) as places:
            for chunk, ((rows, where), place) in enumerate(zip(packed.rows, places, strict=True)):
                kept = adder(packed, chunk, rows, place)
                values = self.finish.of_means(kept, adder.n_trials)
                if (lost := np.flatnonzero(kept.lost)).size:
                    # What is in files was not fetched: of lost voxels, their chunk alone is.
                    known = place is None
                    again = packed if known else self._packed(voxels[where[lost]], adder.memory)
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
        images, scored = self.groups.images, self.groups.scored
        return plan_sums(images, scored, sessions, self.finish.halves, self.finish.varies)

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
    if memory is None or columns is None or not memory.is_of_all():
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
