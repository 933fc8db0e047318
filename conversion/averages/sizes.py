"""Memory and disk that averages take, before they are made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from laion_zarr.analysis.streams.stream import READ_BYTES
from laion_zarr.conversion.budget import BASE_MEMORY, plan_threads
from laion_zarr.store.schema import MEAN, MEAN_BY_VOXEL, Chunking

assert MEAN.chunking is not None
assert MEAN_BY_VOXEL.chunking is not None
CHUNKING: Chunking = MEAN.chunking
SWAPPED: Chunking = MEAN_BY_VOXEL.chunking
_ITEM = np.dtype(MEAN.dtype).itemsize


@dataclass(frozen=True)
class AveragesSize:
    """Sizes of the averages of one subject.

    Attributes
    ----------
    n_images, n_voxels, n_trials : int
        Numbers of images, of stored voxels, and of trials of all sessions.
    """

    n_images: int
    n_voxels: int
    n_trials: int

    @property
    def shape(self) -> tuple[int, int]:
        """Images, voxels."""
        return self.n_images, self.n_voxels

    @property
    def nbytes(self) -> int:
        """Bytes of the averages, which are stored image by image and voxel by voxel."""
        return 2 * self.n_images * self.n_voxels * _ITEM

    @property
    def betas_nbytes(self) -> int:
        """Bytes of the betas."""
        return self.n_trials * self.n_voxels * _ITEM

    @property
    def block_width(self) -> int:
        """Number of voxels of a block."""
        return CHUNKING.row(self.shape)[0]

    @property
    def memory_nbytes(self) -> tuple[int, int]:
        """Bytes of memory that all threads need together, and each of them besides."""
        block = (self.n_images + 1) * self.block_width * _ITEM
        # A thread holds packed betas, their sums and means; or a shard, and the chunks of it.
        means = READ_BYTES * self.n_images // max(1, self.n_trials)
        shard = min(CHUNKING.per_shard, self.n_images) * self.block_width * _ITEM
        swapped = min(SWAPPED.rows * SWAPPED.per_shard, self.block_width) * self.n_images * _ITEM
        each = max(READ_BYTES + means + (16 << 20), 2 * shard, 2 * swapped)
        return BASE_MEMORY + block + swapped, each  # a shard waits for the next block

    def n_threads(self, n_workers: int | None, memory: str | int | None) -> int:
        """Number of threads that `memory` has room for; raises ValueError if it has for none."""
        return plan_threads(*self.memory_nbytes, n_workers, memory)
