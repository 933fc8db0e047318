"""What is kept of trials in their place, and where each is added, for compiled loops."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import repeat
from types import ModuleType
from typing import NamedTuple

import numpy as np

from laion_zarr.arrays.lazy import PackedBetas
from laion_zarr.store.chunks import InFiles
from laion_zarr.store.objects import Memory
from laion_zarr.store.schema import CHUNK_VOXELS

# Sessions whose chunks are unpacked before they are added. Sums of a voxel then stay in the CPU
# cache for as many; more chunks than these would not.
SESSIONS_AT_ONCE = 4
# Voxels whose sums lie side by side: as many are added by one instruction, on all processors.
LANES = 4


class Plan(NamedTuple):
    """Where each trial is added, session by session, in the form that compiled loops take.

    Trials that are z-scored together are a group. The trials of the groups of a session follow one
    another, those of all sessions too: `order`, `bins` and `weights` have an entry for each.

    Attributes
    ----------
    order : numpy.ndarray of int64
        Position of the trial in its session.
    bins : numpy.ndarray of uint32
        Sum to which the trial is added; that after the last bin for a trial that is z-scored and
        not counted.
    weights : numpy.ndarray of float32
        1 ÷ (n − 1), where n is the number of trials of the bin; 0 if that is one, or none. Empty if
        no variances are kept.
    shares, bin_weights : numpy.ndarray, (bin + 1,) float32
        1 ÷ n and n ÷ (n − 1) likewise; the latter are empty if no variances are kept.
    starts : numpy.ndarray, (group + 1,) int64
        First trial of each group.
    consecutive : numpy.ndarray, (group,) bool
        Whether the trials of the group follow one another in the session, too.
    groups : numpy.ndarray, (session + 1,) int64
        First group of each session.
    widths : numpy.ndarray, (session,) int64
        Number of trials of each session.
    scored : bool
        Whether to z-score; if False, each session is one group.
    halves : bool
        Whether the second half of the bins are those of the odd trials, see `bins_of`; they are
        correlated.
    """

    order: np.ndarray
    bins: np.ndarray
    weights: np.ndarray
    shares: np.ndarray
    bin_weights: np.ndarray
    starts: np.ndarray
    consecutive: np.ndarray
    groups: np.ndarray
    widths: np.ndarray
    scored: bool
    halves: bool


# Columns of `Kept.state`.
SHIFT, VARIANCE, CORRELATION, KNOWN, LOST = range(5)


class Kept(NamedTuple):
    """What is kept of the trials of some voxels.

    Attributes
    ----------
    sums : numpy.ndarray, (voxel / `LANES`, bin + 1 × `LANES`) float32
        Sum of the betas (or of their z-scores) of each bin, less `shift` each, `LANES` voxels side
        by side; the last bin is of trials that are not counted.
    state : numpy.ndarray, (voxel, 5) float64
        What else is kept of a voxel. `SHIFT`: what is subtracted from each beta, the mean of the
        voxel's first session, so that sums of large betas lose nothing to rounding; 0 for z-scores.
        `KNOWN`: whether any beta (or z-score) is not NaN; all is NaN for the others. The rest are
        properties.
    means : numpy.ndarray, (bin + 1, voxels rounded up to `LANES`) float32
        Mean of each bin, once the last session is added; without rows if nobody uses it.
    rows, lanes, scores : numpy.ndarray of float32, float64, float32
        Memory for means, for shifts and scales, and for what is added, of `LANES` voxels.
    """

    sums: np.ndarray
    state: np.ndarray
    means: np.ndarray
    rows: np.ndarray
    lanes: np.ndarray
    scores: np.ndarray

    @property
    def variances(self) -> np.ndarray:
        """Sum over the bins of the variance (ddof 1) of the trials of a bin; 0 for one trial.

        Only if the plan says so.
        """
        return self.state[:, VARIANCE]

    @property
    def correlation(self) -> np.ndarray:
        """Pearson correlation between the means of the two halves, if there are halves."""
        return self.state[:, CORRELATION]

    @property
    def lost(self) -> np.ndarray:
        """Voxels that have some NaN, or a session or run without variance, (voxel,) bool.

        Their values are meaningless.
        """
        return self.state[:, LOST] > 0


def bins_of(images: np.ndarray, halves: bool) -> tuple[np.ndarray, np.ndarray]:
    """Bin of each trial, (trial,) int, -1 for none; and number of trials of each bin, (bin,).

    A bin is an image, in ascending order of `images` (-1 for none); of `halves`, the even trials of
    an image, and after all of these its odd ones.
    """
    counted = np.flatnonzero(images >= 0)
    present, codes = np.unique_inverse(images[counted])
    n_images = len(present)
    if halves:
        order = np.argsort(codes, kind="stable")
        first = np.repeat(np.cumsum(np.bincount(codes)) - np.bincount(codes), np.bincount(codes))
        codes[order] += n_images * ((np.arange(len(codes)) - first) % 2)
    bins = np.full(len(images), -1)
    bins[counted] = codes
    return bins, np.bincount(codes, minlength=n_images * (1 + halves))


def plan_sums(
    images: np.ndarray,
    scored: np.ndarray | None,
    sessions: Sequence[slice],
    halves: bool = False,
    varies: bool = False,
) -> tuple[Plan, np.ndarray]:
    """Plan of the sums of some sessions, and the number of trials of each bin, (bin,).

    Parameters
    ----------
    images : numpy.ndarray, (trial,) int
        Image of each trial of the subject; -1 for a trial that is not counted.
    scored : numpy.ndarray, (trial,) int, optional
        Group of each trial, -1 for none; None: not z-scored.
    sessions : sequence of slice
        Trials of each session.
    halves : bool
        Whether each image has two bins, see `bins_of`.
    varies : bool
        Whether variances are kept.
    """
    bins, n_binned = bins_of(images, halves)
    groups = np.where(images >= 0, 0, -1) if scored is None else scored
    none = np.empty(0, np.int64)
    orders, sizes = [none], [none]
    for own in sessions:
        here = groups[own]
        order = np.argsort(here, kind="stable")[np.count_nonzero(here < 0) :]
        orders.append(order)
        sizes.append(np.unique(here[order], return_counts=True)[1])
    order, starts = np.concatenate(orders), np.cumsum([0, *np.concatenate(sizes)], dtype=np.int64)
    first = np.repeat([own.start for own in sessions], list(map(len, orders[1:]))).astype(np.int64)
    trials = first + order
    binned = np.where(bins[trials] < 0, len(n_binned), bins[trials])
    n = np.append(n_binned, 0)
    weights = np.where(n > 1, 1 / np.maximum(n - 1, 1), 0)
    kept = slice(None if varies else 0)
    plan = Plan(
        order,
        binned.astype(np.uint32),
        weights[binned].astype(np.float32)[kept],
        (1 / np.maximum(n, 1)).astype(np.float32),
        (weights * n).astype(np.float32)[kept],
        starts,
        order[starts[1:] - 1] - order[starts[:-1]] == np.diff(starts) - 1,
        np.cumsum(list(map(len, sizes)), dtype=np.int64),
        np.array([own.stop - own.start for own in sessions], np.int64),
        scored is not None,
        halves,
    )
    return plan, n_binned


class Adder:
    """Adds up the trials of one chunk after the other, in memory that is used again.

    Parameters
    ----------
    plan : Plan
        Where trials are added.
    n_trials : numpy.ndarray, (bin,) int
        Number of trials of each bin.
    means : bool
        Whether to keep the means of all voxels.
    loops : module
        Compiled loops: `streams.compiled`.
    native : module, optional
        The same for chunks in files: `streams.native`.

    Attributes
    ----------
    memory : Memory
        Where chunks of voxels go that are not added up after all.
    """

    def __init__(
        self,
        plan: Plan,
        n_trials: np.ndarray,
        means: bool,
        loops: ModuleType,
        native: ModuleType | None,
    ) -> None:
        self.plan = plan
        self.n_trials = n_trials
        self.means = means
        self.loops, self.native = loops, native
        self.memory = Memory()
        self._decoded, self._sums, self._means = Memory(), Memory(), Memory()
        self._rows = np.empty((LANES, len(n_trials) + 1), np.float32)
        self._lanes = np.zeros(2 * LANES)
        self._scores = np.empty(LANES * int(plan.widths.max(initial=0)), np.float32)
        self._buffers = None if native is None else native.buffers_for(plan)

    def places(self, packed: PackedBetas) -> Generator[InFiles | None]:
        """Yield where each chunk lies in files, or None if it is not read from files."""
        if self.native is None or not packed.trials:
            yield from repeat(None, len(packed.rows))
        else:
            yield from packed.chunks.in_files()

    def __call__(
        self, packed: PackedBetas, chunk: int, rows: np.ndarray, place: InFiles | None
    ) -> Kept:
        """What is kept of some rows of a chunk; valid until the next ones are asked for."""
        kept = self._nothing(len(rows))
        if place is not None and self.native is not None:
            functions, buffers = self.native.FUNCTIONS, self._buffers
            if self.native.add_files(functions, place, buffers, rows, self.plan, kept):
                return kept
            kept = self._nothing(len(rows))
        self._add_packed(packed, chunk, rows, kept)  # which says what is wrong with a file
        return kept

    def _nothing(self, n: int) -> Kept:
        """What is kept before any trial is added."""
        n_bins, float32 = len(self.n_trials) + 1, np.dtype(np.float32)
        n_lanes = -(-n // LANES)
        sums = self._sums.array((n_lanes, LANES * n_bins), float32)
        means = self._means.array((n_bins * self.means, LANES * n_lanes), float32)
        state = np.zeros((n, 5))
        state[:, CORRELATION] = np.nan
        state[:, SHIFT] = 0 if self.plan.scored else np.nan
        return Kept(sums, state, means, self._rows, self._lanes, self._scores)

    def _add_packed(self, packed: PackedBetas, chunk: int, rows: np.ndarray, kept: Kept) -> None:
        plan, float32 = self.plan, np.dtype(np.float32)
        for first in range(0, len(plan.widths), SESSIONS_AT_ONCE):
            ends = np.cumsum(CHUNK_VOXELS * plan.widths[first : first + SESSIONS_AT_ONCE])
            begins = np.append(0, ends[:-1])
            decoded = self._decoded.array((int(ends[-1]),), float32)
            for session, (lo, hi) in enumerate(zip(begins, ends, strict=True), first):
                packed.unpack(session, chunk, decoded[lo:hi])
            self.loops.add_sessions(decoded, begins, first, rows, plan, kept)
