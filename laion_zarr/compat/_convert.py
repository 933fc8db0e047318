"""Conversion of labelled, lazy arrays to numpy arrays, shared by all of `laion_zarr.compat`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import nibabel as nib
import numpy as np
import xarray as xr

from laion_zarr.store.objects import StoreLike
from laion_zarr.store.schema import DEFAULT_STORE, GRID_DIMS, HEMI


def as_numpy(value: Any) -> Any:
    """Labelled or lazy arrays, also in dicts, as writable numpy arrays; other values unchanged."""
    if isinstance(value, dict):
        return {key: as_numpy(item) for key, item in value.items()}
    if isinstance(value, xr.DataArray | np.ndarray):
        return np.require(np.asarray(value), requirements=["C", "W"])
    return value


def as_returned(carried: xr.DataArray) -> Any:
    """Template values: a volume as NIfTI image, trials last; a surface as array or dict by hemi."""
    if set(GRID_DIMS) <= set(carried.dims):
        values = carried.transpose(*GRID_DIMS, ...).values
        return nib.Nifti1Image(values, np.reshape(carried.attrs["affine"], (4, 4)))
    if HEMI in carried.dims:
        return {hemi: as_numpy(carried.sel({HEMI: hemi})) for hemi in carried[HEMI].values}
    return as_numpy(carried)


def store_in(data_dir: str | os.PathLike[str] | None, store: StoreLike | None) -> StoreLike | None:
    """Store to open for a loader's arguments: in `data_dir`, under its default name, or `store`."""
    if data_dir is None:
        return store
    if store is not None:
        raise ValueError("data_dir and store exclude each other: pass one of them.")
    return Path(data_dir).expanduser() / DEFAULT_STORE


class NumpyView:
    """Wraps an object of laion_zarr; attributes that are not defined here are that object's."""

    _labelled: Any

    @classmethod
    def around(cls, labelled: Any) -> Self:
        """Wrap an object that is open already."""
        view = cls.__new__(cls)
        view._labelled = labelled
        return view

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also during unpickling, when `_labelled` is not set yet
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._labelled, name)

    def __dir__(self) -> list[str]:
        own = {name for name in dir(self._labelled) if not name.startswith("_")}
        return sorted({*super().__dir__(), *own})

    def __repr__(self) -> str:
        return repr(self._labelled)


class FromStore(NumpyView):
    """Wraps what a loader of laion_zarr opens; for classes that users construct.

    Parameters
    ----------
    data_dir : str or os.PathLike, optional
        Folder that holds ``laion-fmri.zarr``. If not provided, the default store.
    store, storage_options
        Store to open instead of the store in `data_dir`, as in `laion_zarr.load_stimuli`.
    """

    _load: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        store: StoreLike | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        self._labelled = type(self)._load(store_in(data_dir, store), storage_options)


class KeyedView(NumpyView):
    """Wraps an object that is indexed by a key; the values are returned as numpy arrays."""

    def __len__(self) -> int:
        return len(self._labelled)

    def __contains__(self, key: object) -> bool:
        return key in self._labelled

    def __getitem__(self, key: Any) -> Any:
        return as_numpy(self._labelled[key])


class Closing:
    """Adds ``with`` and ``close``, for scripts that close their files; no file is held open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: a store need not be closed."""
