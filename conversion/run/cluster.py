"""Convert sessions on the workers of a running Dask cluster.

Every attempt to convert a session writes to a group of its own in the staging group, and only the
part that the scheduler returns is listed in the manifest. A worker that was killed therefore leaves
no incomplete part that a reader could take for a complete one, and a worker that the scheduler has
given up, but that still runs, cannot overwrite the part of another attempt.
"""

from __future__ import annotations

import logging
import socket
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any, Self

from laion_zarr.conversion.budget import ClusterRoom
from laion_zarr.conversion.run.workers import Outcome, guarded
from laion_zarr.conversion.series.task import Progress, SeriesTask
from laion_zarr.errors import LaionZarrError, StoreError, needs
from laion_zarr.store.manifest import read_texts
from laion_zarr.store.objects import location, open_store
from laion_zarr.store.parts import Part
from laion_zarr.store.schema import STAGING

log = logging.getLogger("laion_zarr")

_MEND = "Run the same command again: what is whole is kept."


class Cluster:
    """Connection to a running Dask scheduler and its workers; use it in a ``with`` block.

    Parameters
    ----------
    address : str
        Address of the scheduler, such as ``"tcp://10.0.0.1:8786"``.

    Raises
    ------
    LaionZarrError
        If no scheduler answers at `address`, or, in `room`, if its workers have another version of
        laion_zarr.
    """

    def __init__(self, address: str) -> None:
        needs("cluster", "distributed")
        from distributed import Client

        self._address = address
        try:
            self._client = Client(address, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise LaionZarrError(
                f"No Dask scheduler answers at {address!r} ({error}). Expected the address that "
                "'dask scheduler' prints, or Client.scheduler.address, such as "
                "tcp://10.0.0.1:8786."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def room(self) -> ClusterRoom:
        """Number of threads of all workers, and the smallest memory per thread of a worker."""
        try:
            workers = self._client.run(_introduce)
        except Exception as error:  # a worker without the package may raise anything
            raise LaionZarrError(
                f"The workers of {self._address} cannot run laion_zarr "
                f"({error!r}). Install the same version there, with the same Python."
            ) from error
        ours = version("laion-zarr")
        if others := {theirs for theirs, _, _ in workers.values()} - {ours}:
            raise LaionZarrError(
                f"The workers of {self._address} have laion_zarr "
                f"{', '.join(sorted(others))}, and this is {ours}. Install the same version there."
            )
        if not workers:
            log.warning("No worker has joined %s yet.", self._address)
        limits = [limit // n for _, n, limit in workers.values() if limit]
        return ClusterRoom(sum(n for _, n, _ in workers.values()), min(limits, default=None))

    def run(
        self, tasks: Sequence[SeriesTask], progress: Progress
    ) -> Iterator[tuple[SeriesTask, Outcome]]:
        """Convert sessions; yield each session, when it ends, with its part or its error."""
        from distributed import as_completed

        # Every task carries its own copy of the voxel indices: if they were held by one worker
        # only, they would be lost when that worker died.
        futures = {
            self._client.submit(_convert, task, key=f"{task.subject}-{task.part}-{_token()}"): (
                task
            )
            for task in tasks
        }
        for future in as_completed(list(futures), loop=self._client.loop):
            task = futures.pop(future)
            outcome, nbytes = self._outcome(future)
            progress(nbytes)
            yield task, outcome

    def _outcome(self, future: Any) -> tuple[Outcome, int]:
        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            return LaionZarrError(
                f"The workers that converted it died, the last of them {error.last_worker.address}."
                f" If they ran out of memory, give them fewer threads or more memory. {_MEND}"
            ), 0
        except (CancelledError, OSError) as error:
            return LaionZarrError(f"The scheduler {self._address} was lost ({error!r}). {_MEND}"), 0


def _token() -> str:
    return uuid.uuid4().hex


def _introduce(dask_worker: Any) -> tuple[str, int, int | None]:
    """Run on a worker: its laion_zarr version, number of threads, and memory limit in bytes."""
    limit = dask_worker.memory_manager.memory_limit
    return version("laion-zarr"), dask_worker.state.nthreads, limit


def _convert(task: SeriesTask) -> tuple[Outcome, int]:
    """Run on a worker: try to convert a session; also returns the number of bytes inflated."""
    nbytes = 0

    def progress(count: int) -> None:
        nonlocal nbytes
        nbytes += count

    path = f"{STAGING}/{task.subject}/{_token()}/{task.part}"
    outcome = guarded(partial(_convert_here, replace(task, path=path), progress))
    return outcome, nbytes


def _convert_here(task: SeriesTask, progress: Progress) -> Part:
    store = open_store(task.store, task.storage_options)
    if read_texts(store, ["zarr.json"]) == [None]:
        raise StoreError(
            f"{location(store)} is not there on the worker {socket.gethostname()}. Source and "
            "store must lie where all workers reach them by the same path, or in a bucket."
        )
    return task.convert(progress)
