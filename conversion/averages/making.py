"""Average all betas of a subject by image, as they are read, block after block of voxels."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from zarr.abc.store import Store

from laion_zarr.analysis.reliability import means_and_noise
from laion_zarr.analysis.repeats import images_of
from laion_zarr.arrays.lazy import SubjectHandle
from laion_zarr.arrays.query import Query
from laion_zarr.conversion.averages.shards import BlockWriter, SwappedWriter
from laion_zarr.conversion.averages.sizes import AveragesSize
from laion_zarr.conversion.write.rows import RowWriter
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.errors import LaionZarrError
from laion_zarr.store.parts import Part
from laion_zarr.store.schema import (
    BETAS,
    COORDINATES,
    IMAGE_NAME,
    MEAN,
    MEAN_BY_VOXEL,
    N_TRIALS,
    NOISE,
    TRIAL,
    VOXEL,
    VOXEL_INDEX,
)


class AveragesMaker:
    """Makes the averages of one subject.

    Parameters
    ----------
    store : zarr.abc.store.Store
        Store with the betas, open for writing.
    subject : str
        Id of the subject, of whom the store must have a session.

    Raises
    ------
    LaionZarrError
        If trials have no image name.
    """

    def __init__(self, store: Store, subject: str) -> None:
        handle = SubjectHandle(store, None, subject)
        query = Query(handle)
        sizes = query.lazy.sizes
        betas = query.select(np.arange(sizes[TRIAL]), np.arange(sizes[VOXEL]))[BETAS.name]
        try:
            _, self._images, codes = images_of(betas)
        except ValueError as error:
            raise LaionZarrError(f"{subject}: {error}") from error
        self._store, self._stored = store, handle.stored
        self._n_trials = np.bincount(codes)
        self._stream = means_and_noise(betas, "session", codes)
        self._in_storage_order = np.argsort(handle.storage_order())
        self._labels = betas[VOXEL].values[self._in_storage_order]
        self.size = AveragesSize(len(self._images), sizes[VOXEL], sizes[TRIAL])

    def write(self, path: str, n_threads: int, progress: Callable[[int], object]) -> Part:
        """Write the part to a group; `progress` is called with the bytes of betas averaged."""
        size, voxels = self.size, self._in_storage_order
        writer = PartWriter(self._store, path)
        writer.group({COORDINATES: f"{IMAGE_NAME.name} {N_TRIALS.name}"})
        blocks, swapped = BlockWriter(writer, MEAN), SwappedWriter(writer, MEAN_BY_VOXEL)
        # Means, and below them the noise.
        block = np.empty((size.n_images + 1, size.block_width), MEAN.dtype)
        noise = RowWriter(writer, NOISE, (), {})
        with ThreadPoolExecutor(n_threads) as pool:
            for first in range(0, max(1, size.n_voxels), size.block_width):
                some = voxels[first : first + size.block_width]
                block[:, len(some) :] = np.nan
                self._fill(block, some, pool, progress)
                blocks.add(block[:-1], pool)
                swapped.add(block[:-1, : len(some)], pool)
                noise.add(block[-1, : len(some)])
        blocks.finish(size.shape)
        swapped.finish(size.shape[::-1])
        noise.finish()
        writer.array(VOXEL_INDEX, self._labels)
        writer.array(IMAGE_NAME, self._images)
        writer.array(N_TRIALS, self._n_trials)
        return writer.part(self._stored.averaged_from)

    def _fill(
        self,
        block: np.ndarray,
        voxels: np.ndarray,
        pool: ThreadPoolExecutor,
        progress: Callable[[int], object],
    ) -> None:
        """Average the betas of some voxels, given in storage order, into a block."""

        def average(where: np.ndarray) -> int:
            self._stream.write(voxels[where], where, block)
            return len(where)

        for count in pool.map(average, self._stream.groups_of(voxels)):
            progress(count * self.size.n_trials * block.itemsize)
