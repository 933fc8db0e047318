"""Read the volumes of a 4-D file into slabs, while a thread inflates the next ones."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import numpy as np

from laion_zarr.conversion.budget import VOLUMES_AHEAD
from laion_zarr.conversion.series.slabs import Slabs
from laion_zarr.conversion.source.nifti import Volume


def read_volumes(
    volume: Volume, slabs: Slabs, progress: Callable[[int], None], first: int = 0
) -> None:
    """Store all volumes of a file, the first of which is number `first` of the series.

    `progress` is called with the bytes of each volume.
    """
    for number, buffer in enumerate(_read_ahead(volume), first):
        values = volume.typed(buffer)

        def gather(index: np.ndarray, row: np.ndarray, values: np.ndarray = values) -> None:
            if values.dtype == row.dtype and not volume.is_scaled:
                np.take(values, index, out=row, mode="clip")
            else:
                row[:] = volume.convert(values[index])

        slabs.fill(number, gather)
        progress(len(buffer))


def _read_ahead(volume: Volume) -> Iterator[bytearray]:
    """Yield the volumes in order; a separate thread inflates them, which takes most of the time."""
    free: queue.Queue[bytearray] = queue.Queue()
    full: queue.Queue[bytearray | BaseException | None] = queue.Queue()
    for _ in range(VOLUMES_AHEAD):
        free.put(volume.buffer())
    stop = threading.Event()

    def inflate() -> None:
        try:
            for _ in range(volume.shape[3]):
                buffer = free.get()
                if stop.is_set():
                    return
                volume.read_into(buffer)
                full.put(buffer)
            volume.finish()
            full.put(None)
        except BaseException as error:
            full.put(error)

    thread = threading.Thread(target=inflate, name="inflate", daemon=True)
    thread.start()
    try:
        while (item := full.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
            free.put(item)
    finally:
        stop.set()
        free.put(bytearray())
        thread.join()
