"""What a worker needs to convert one part that holds a 4-D series."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from zarr.abc.store import Store

from laion_zarr.conversion.series.slabs import Slabs, open_slabs
from laion_zarr.conversion.source.files import Identity, Source
from laion_zarr.conversion.source.nifti import Grid
from laion_zarr.store.objects import StoreLike
from laion_zarr.store.parts import Part

Progress = Callable[[int], None]


@dataclass(frozen=True)
class SeriesTask(ABC):
    """Everything that a worker needs to convert one part, independently of all other parts.

    Attributes
    ----------
    source, store, storage_options
        Source to read from; store to write to, and its fsspec options.
    subject, part : str
        Id of the subject, and name of the part in its manifest.
    identities : mapping of str to dict
        Size and CRC-32 of each source file and sidecar when the work was planned.
    grid : Grid
        The functional grid of the subject.
    voxels : numpy.ndarray, (voxel,) int32
        Flat C indices of the stored voxels, in storage order.
    path : str
        Group of the store to write to.
    slabs_kept : int
        Number of slabs of the series that fit in memory; the others go through a scratch file.
    """

    source: Source
    store: StoreLike
    storage_options: dict[str, Any] | None
    subject: str
    part: str
    identities: Mapping[str, Identity]
    grid: Grid
    voxels: np.ndarray
    path: str
    slabs_kept: int

    @abstractmethod
    def convert(self, progress: Progress) -> Part:
        """Write the part; `progress` is called with the bytes of each volume inflated."""

    @abstractmethod
    def summary(self) -> str:
        """Volumes of the series, as the plan of a run words them: ``"1,044 trials"``."""

    def provenance(self, path: str) -> dict[str, Any]:
        """Attributes that name a source file, with the content of its sidecar if it has one."""
        sidecar = self.source.sidecar(path, frozenset(self.identities))
        return {"source": {"file": path, **self.identities[path]}} | (
            {"sidecar": self.source.json(sidecar)} if sidecar else {}
        )

    @contextmanager
    def slabs(self, n_volumes: int, store: Store) -> Iterator[Slabs]:
        """Slabs for the voxels of the series."""
        shape = self.grid.shape
        # In NIfTI files x varies fastest: flat C indices become flat Fortran indices.
        index = np.ravel_multi_index(np.unravel_index(self.voxels, shape), shape, order="F")
        with open_slabs(store, self.path, index, n_volumes, self.slabs_kept) as slabs:
            yield slabs
