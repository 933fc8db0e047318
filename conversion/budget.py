"""What will be done, before anything is: voxel order, memory, workers. Pure numpy."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import numpy as np

from laion_zarr.store.schema import MASKS, SLAB_VOXELS, STIMULUS_PARTS

PARTS = ("betas", "anatomy", "surfaces", *STIMULUS_PARTS)
MASK_CHOICES = (*MASKS, "both")

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}

DEFAULT_MEMORY_PER_WORKER = 2 * 10**9
# Interpreter and libraries, measured at 170 MB; and what the allocator keeps.
_BASE_MEMORY = 320 * 10**6
VOLUMES_AHEAD = 3
# Trials that are collected before they go to the scratch file: 2 MB a slab, in one write.
COLLECTED_TRIALS = 32
# Below this, starting processes costs more than it saves.
_SMALL_WORK = 10**9
_BYTES = 4  # float32
_SHARE = 0.8  # of the machine's memory, where the user names none


def parse_memory(text: str | int) -> int:
    """``"4GiB"``, ``"500MB"``, ``"4G"`` or a number of bytes -> bytes."""
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
    """Order in which voxels are stored, so that what is read together lies together.

    First all voxels of ROIs, by ROI membership (small ROIs decide first): a region is then a few
    runs, wherever it lies. Then the rest, in contiguous slabs of the canonical axis. In both, by
    mask membership, then along a Hilbert curve.

    Parameters
    ----------
    voxels : numpy.ndarray, (voxel,) int
        Flat C indices, ascending.
    shape : tuple of int
        Shape of the grid.
    masks : numpy.ndarray, (2, voxel) bool
        In the anatomical, in the rsquare mask.
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
    # The last key counts most: rarest ROI first, so that each small ROI is nearly one run.
    by_size = np.argsort(rois.sum(axis=1), kind="stable")
    membership = [~rois[row] for row in reversed(by_size)]
    ijk = np.stack(np.unravel_index(voxels, shape), axis=1)
    curve = _hilbert_index(ijk, bits=max(1, int(max(shape) - 1).bit_length()))
    order = np.lexsort([curve, group, *membership, slab, rest])
    return voxels[order].astype(np.int32)


@dataclass(frozen=True)
class SessionSize:
    """What a session's conversion needs memory for.

    Attributes
    ----------
    n_voxels : int
        Voxels stored.
    n_trials : int
        Volumes.
    volume_nbytes : int
        One volume as it lies in the source, unpacked.
    """

    n_voxels: int
    n_trials: int
    volume_nbytes: int

    @property
    def matrix_nbytes(self) -> int:
        """All betas of the session."""
        return self.n_voxels * self.n_trials * _BYTES

    @property
    def n_slabs(self) -> int:
        """Slabs, each of which becomes a shard."""
        return -(-self.n_voxels // SLAB_VOXELS)

    @property
    def slab_nbytes(self) -> int:
        """The betas of one slab."""
        return min(self.n_voxels, SLAB_VOXELS) * self.n_trials * _BYTES

    def memory_nbytes(self, n_kept: int) -> int:
        """Memory with so many slabs kept in it, and the others in a scratch file."""
        buffers = _BASE_MEMORY + (VOLUMES_AHEAD + 2) * self.volume_nbytes
        scratch_voxels = max(0, self.n_voxels - n_kept * SLAB_VOXELS)
        collected = scratch_voxels * min(COLLECTED_TRIALS, self.n_trials) * _BYTES
        # Beside those kept: a slab from the file, its chunks, and two shards being written.
        return buffers + collected + (n_kept + 5) * self.slab_nbytes


@dataclass(frozen=True)
class WorkPlan:
    """How many processes, and how much memory each may take."""

    n_workers: int
    memory_per_worker: int

    def slabs_kept(self, size: SessionSize) -> int:
        """Slabs of a session that stay in memory; the others wait in a scratch file."""
        counts = range(size.n_slabs, 0, -1)
        return next((n for n in counts if size.memory_nbytes(n) <= self.memory_per_worker), 0)


def _cores() -> int:
    """Cores that this process may use: on a cluster fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _physical_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def plan_work(
    sizes: list[SessionSize], n_workers: int | None, memory: str | int | None
) -> WorkPlan:
    """Fit the workers to the sessions, the cores and the memory.

    Raises
    ------
    ValueError
        If not even one worker fits; names both sizes.
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
        raise ValueError(
            f"--memory {budget / 1e9:.2f} GB is too little: one session needs {least / 1e9:.2f} GB "
            "even with its betas in a scratch file."
        )
    fitting = min(wanted, budget // least) if least else wanted
    return WorkPlan(fitting, budget // fitting)


@dataclass(frozen=True)
class ClusterRoom:
    """What the workers of a cluster have.

    Attributes
    ----------
    n_threads : int
        Threads of all workers.
    memory_per_thread : int or None
        Bytes that the tightest worker has for each of its threads; None if unlimited.
    """

    n_threads: int
    memory_per_thread: int | None


def plan_cluster(sizes: list[SessionSize], room: ClusterRoom, memory: str | int | None) -> WorkPlan:
    """Fit sessions to the workers of a cluster, whose every thread converts one.

    Parameters
    ----------
    sizes : list of SessionSize
        What is to be converted.
    room : ClusterRoom
        What the workers have.
    memory : str, int or None
        What a session may take, where the workers have that much.

    Raises
    ------
    ValueError
        If not even one session fits; names both sizes.
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
