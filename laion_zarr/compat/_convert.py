"""From labelled, lazy objects to numpy arrays: all that `laion_zarr.compat` does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

import nibabel as nib
import numpy as np
import xarray as xr

from laion_zarr.store.objects import StoreLike
from laion_zarr.store.schema import DEFAULT_STORE, GRID_DIMS, HEMI


def as_numpy(value: Any) -> Any:
    """Labelled or lazy arrays, also in dicts, as the caller's own arrays; all else as it is."""
    if isinstance(value, dict):
        return {key: as_numpy(item) for key, item in value.items()}
    if isinstance(value, xr.DataArray | np.ndarray):
        return np.require(np.asarray(value), requirements=["C", "W"])
    return value


def as_returned(carried: xr.DataArray) -> Any:
    """A volume as NIfTI image, trials last; hemispheres as dict; one of them as array."""
    if set(GRID_DIMS) <= set(carried.dims):
        values = carried.transpose(*GRID_DIMS, ...).values
        return nib.Nifti1Image(values, np.array(carried.attrs["affine"]))
    if HEMI in carried.dims:
        return {hemi: as_numpy(carried.sel({HEMI: hemi})) for hemi in carried[HEMI].values}
    return as_numpy(carried)


def store_in(data_dir: str | os.PathLike[str] | None, store: StoreLike | None) -> StoreLike | None:
    """The store that a loader means which may be told a data directory."""
    if data_dir is None:
        return store
    if store is not None:
        raise ValueError("data_dir and store exclude each other: pass one of them.")
    return Path(data_dir).expanduser() / DEFAULT_STORE


class NumpyView:
    """Stands before an object of ours; what is not defined here is that object's own."""

    _labelled: Any

    @classmethod
    def around(cls, labelled: Any) -> Self:
        """A view of an object that is open already."""
        view = cls.__new__(cls)
        view._labelled = labelled
        return view

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also while it is unpickled, when there is nothing to ask yet
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._labelled, name)

    def __dir__(self) -> list[str]:
        own = {name for name in dir(self._labelled) if not name.startswith("_")}
        return sorted({*super().__dir__(), *own})

    def __repr__(self) -> str:
        return repr(self._labelled)


class KeyedView(NumpyView):
    """The same for what is asked by key."""

    def __len__(self) -> int:
        return len(self._labelled)

    def __contains__(self, key: object) -> bool:
        return key in self._labelled

    def __getitem__(self, key: Any) -> Any:
        return as_numpy(self._labelled[key])


class Closing:
    """For scripts that close what they opened; nothing is held open here."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: a store needs no closing."""
