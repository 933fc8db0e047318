"""Computed before a conversion: storage order of voxels, memory, number of workers. Pure numpy."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import numpy as np

from laion_zarr.store.schema import SLAB_VOXELS

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}

DEFAULT_MEMORY_PER_WORKER = 2 * 10**9
# Interpreter and libraries (170 MB, measured), and freed memory that the allocator keeps.
BASE_MEMORY = 320 * 10**6
VOLUMES_AHEAD = 3
# Volumes of a slab that are collected before one write to the scratch file (2 MB).
COLLECTED_VOLUMES = 32
# Below this number of bytes of betas, starting worker processes takes longer than it saves.
_SMALL_WORK = 10**9
_BYTES = 4  # float32
_SHARE = 0.8  # usable share of a machine's memory, or of a cluster's memory per thread


def parse_memory(text: str | int) -> int:
    """Convert a size, ``"4GiB"``, ``"500MB"``, ``"4G"`` or a number of bytes, to bytes."""
    if isinstance(text, int):
        return text
    match = re.fullmatch(r"([0-9.]+)\s*([kmgt]i?|)b?", text.strip().lower())
    try:
        assert match is not None
        return int(float(match[1]) * (_UNITS | _BINARY_UNITS)[match[2]])
    except (AssertionError, ValueError):
        raise ValueError(f"--memory takes a size such as 4GiB or 500MB, got {text!r}.") from None


def _hilbert_index(ijk: np.ndarray, bits: int) -> np.ndarray:
    """Position of grid points along a 3-D Hilbert curve.

    Parameters
    ----------
    ijk : numpy.ndarray, (point, 3) int
    bits : int
        Each coordinate is below ``2**bits``.

    Notes
    -----
    J. Skilling (2004), Programming the Hilbert curve, AIP Conf. Proc. 707, 381-387.
    """
    x = [ijk[:, axis].astype(np.int64) for axis in range(3)]
    level = 1 << (bits - 1)
    while level > 1:  # undo the rotations, from coarse to fine
        low = level - 1
        for axis in range(3):
            inverted = (x[axis] & level) != 0
            swapped = np.where(inverted, 0, (x[0] ^ x[axis]) & low)
            x[0] = np.where(inverted, x[0] ^ low, x[0] ^ swapped)
            x[axis] = x[axis] ^ swapped
        level >>= 1
    x[1] ^= x[0]
    x[2] ^= x[1]
    flip = np.zeros_like(x[0])
    level = 1 << (bits - 1)
    while level > 1:
        flip = np.where((x[2] & level) != 0, flip ^ (level - 1), flip)
        level >>= 1
    index = np.zeros_like(flip)
    for bit in reversed(range(bits)):
        for axis in range(3):
            index = (index << 1) | (((x[axis] ^ flip) >> bit) & 1)
    return index


def storage_order(
    voxels: np.ndarray, shape: tuple[int, int, int], masks: np.ndarray, rois: np.ndarray
) -> np.ndarray:
    """Order in which voxels are stored, so that voxels read together are adjacent in the store.

    Voxels that are in an ROI come first, sorted by ROI membership (small ROIs count most), so that
    each ROI is stored in a few contiguous ranges, wherever the ROI lies in the brain. All other
    voxels follow, in slabs of ascending flat C index. Within these groups, voxels are sorted by
    mask membership, then along a Hilbert curve.

    Parameters
    ----------
    voxels : numpy.ndarray, (voxel,) int
        Flat C indices into the grid, ascending.
    shape : tuple of int
        Shape of the grid.
    masks : numpy.ndarray, (2, voxel) bool
        Membership in the anatomical and in the rsquare brain mask.
    rois : numpy.ndarray, (roi, voxel) bool
        ROI membership, ROIs in alphabetical order.

    Returns
    -------
    numpy.ndarray, (voxel,) int32
        Flat C indices in storage order.
    """
    rest = ~rois.any(axis=0)
    slab = np.where(rest, np.arange(len(voxels)) // SLAB_VOXELS, 0)
    group = np.select([masks[0] & masks[1], masks[0]], [0, 1], default=2)
    # In lexsort the last key counts most. Of the ROIs, the smallest counts most, so that each
    # small ROI is nearly one contiguous range.
    by_size = np.argsort(rois.sum(axis=1), kind="stable")
    membership = [~rois[row] for row in reversed(by_size)]
    ijk = np.stack(np.unravel_index(voxels, shape), axis=1)
    curve = _hilbert_index(ijk, bits=max(1, int(max(shape) - 1).bit_length()))
    order = np.lexsort([curve, group, *membership, slab, rest])
    return voxels[order].astype(np.int32)


@dataclass(frozen=True)
class SessionSize:
    """Sizes that determine the memory and disk space for a session's betas, or its time series.

    Attributes
    ----------
    n_voxels : int
        Number of voxels that are stored.
    n_volumes : int
        Number of volumes: one per trial of the betas, one per time point of time series.
    volume_nbytes : int
        Bytes of one volume of the source file, decompressed.
    """

    n_voxels: int
    n_volumes: int
    volume_nbytes: int

    @property
    def matrix_nbytes(self) -> int:
        """Bytes of the stored series."""
        return self.n_voxels * self.n_volumes * _BYTES

    @property
    def n_slabs(self) -> int:
        """Number of slabs, each of which becomes one shard."""
        return -(-self.n_voxels // SLAB_VOXELS)

    @property
    def slab_nbytes(self) -> int:
        """Bytes of one full slab."""
        return min(self.n_voxels, SLAB_VOXELS) * self.n_volumes * _BYTES

    def memory_nbytes(self, n_kept: int) -> int:
        """Bytes of memory needed if `n_kept` slabs stay in memory, the others in a scratch file."""
        buffers = BASE_MEMORY + (VOLUMES_AHEAD + 2) * self.volume_nbytes
        scratch_voxels = max(0, self.n_voxels - n_kept * SLAB_VOXELS)
        collected = scratch_voxels * min(COLLECTED_VOLUMES, self.n_volumes) * _BYTES
        # Besides the kept slabs: a slab read from the file, its chunks, two shards being written.
        return buffers + collected + (n_kept + 5) * self.slab_nbytes


@dataclass(frozen=True)
class WorkPlan:
    """Number of workers, and the memory in bytes that each worker may take."""

    n_workers: int
    memory_per_worker: int

    def slabs_kept(self, size: SessionSize) -> int:
        """Number of slabs of a session that fit in memory; the others go to a scratch file."""
        counts = range(size.n_slabs, 0, -1)
        return next((n for n in counts if size.memory_nbytes(n) <= self.memory_per_worker), 0)


def _cores() -> int:
    """Number of cores that this process may use: on a cluster, fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _physical_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def plan_work(
    sizes: list[SessionSize], n_workers: int | None, memory: str | int | None
) -> WorkPlan:
    """Choose the number of workers from the sessions, the cores and the memory.

    Raises
    ------
    ValueError
        If `memory` is too small for one worker (the message names both sizes), or `n_workers` is
        below 1.
    """
    if n_workers is not None and n_workers < 1:
        raise ValueError(f"--n-workers must be at least 1, got {n_workers}.")
    small = sum(size.matrix_nbytes for size in sizes) < _SMALL_WORK
    wanted = n_workers or (1 if small else _cores())
    wanted = max(1, min(wanted, len(sizes)))
    least = max((size.memory_nbytes(0) for size in sizes), default=0)
    if memory is None:
        each = max(DEFAULT_MEMORY_PER_WORKER, least)
        if n_workers is None:
            wanted = max(1, min(wanted, int(_physical_memory() * _SHARE) // each))
        return WorkPlan(wanted, each)
    budget = parse_memory(memory)
    if sizes and budget < least:
        unit = " (without a unit it counts bytes)" if str(memory).isdecimal() else ""
        raise ValueError(
            f"--memory {budget / 1e9:.2f} GB{unit} is too little: one session needs "
            f"{least / 1e9:.2f} GB even with its betas in a scratch file."
        )
    fitting = min(wanted, budget // least) if least else wanted
    return WorkPlan(fitting, budget // fitting)


def plan_threads(common: int, each: int, n_workers: int | None, memory: str | int | None) -> int:
    """Choose the number of threads that work in this process.

    Parameters
    ----------
    common, each : int
        Bytes that all threads need together, and that each of them needs besides.
    n_workers : int or None
        Most threads; as many as there are cores if None.
    memory : str, int or None
        Memory for all of it; most of the machine's if None.

    Raises
    ------
    ValueError
        If the memory is too small for one thread (the message names both sizes).
    """
    wanted = n_workers or _cores()
    budget = int(_physical_memory() * _SHARE) if memory is None else parse_memory(memory)
    if budget < common + each:
        raise ValueError(
            f"{'--memory ' if memory is not None else ''}{budget / 1e9:.2f} GB is too little: "
            f"averages need {(common + each) / 1e9:.2f} GB."
        )
    return max(1, min(wanted, (budget - common) // each))


@dataclass(frozen=True)
class ClusterRoom:
    """Threads and memory of the workers of a Dask cluster.

    Attributes
    ----------
    n_threads : int
        Number of threads of all workers together.
    memory_per_thread : int or None
        Bytes of memory per thread, of the worker where this is smallest; None if unlimited.
    """

    n_threads: int
    memory_per_thread: int | None


def plan_cluster(sizes: list[SessionSize], room: ClusterRoom, memory: str | int | None) -> WorkPlan:
    """Plan sessions for the workers of a cluster; each thread converts one session at a time.

    Parameters
    ----------
    sizes : list of SessionSize
        Sessions to convert.
    room : ClusterRoom
        Threads and memory of the workers.
    memory : str, int or None
        Memory that a session may take, 2 GB if None; reduced where the workers have less.

    Raises
    ------
    ValueError
        If the memory is too small for one session; the message names both sizes.
    """
    each = DEFAULT_MEMORY_PER_WORKER if memory is None else parse_memory(memory)
    if room.memory_per_thread is not None:
        each = min(each, int(room.memory_per_thread * _SHARE))
    least = max((size.memory_nbytes(0) for size in sizes), default=0)
    if each < least:
        raise ValueError(
            f"{each / 1e9:.2f} GB for a session is too little: it needs {least / 1e9:.2f} GB even "
            f"with its betas in a scratch file. Name more --memory, and start workers with at "
            f"least {least / _SHARE / 1e9:.2f} GB for each of their threads."
        )
    return WorkPlan(max(1, room.n_threads), each)
