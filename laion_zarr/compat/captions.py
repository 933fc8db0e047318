"""Captions, as in `laion_zarr.captions`, whose methods return lists and tables, not arrays."""

from __future__ import annotations

import os
from typing import Any

from laion_zarr import captions
from laion_zarr.compat._convert import KeyedView, store_in
from laion_zarr.store.objects import StoreLike

__all__ = ["Captions"]


class Captions(KeyedView):
    """Captions of the stimuli, by image name; as `laion_zarr.captions.Captions`.

    Parameters
    ----------
    data_dir : str or os.PathLike, optional
        Folder that holds ``laion-fmri.zarr``. If not provided, the default store.
    store, storage_options
        Store to open instead of the store in `data_dir`, as in `laion_zarr.load_stimuli`.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        store: StoreLike | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        self._labelled = captions.Captions(store_in(data_dir, store), storage_options)
