"""Captions, as in `laion_zarr.captions`, whose methods return lists and tables, not arrays."""

from __future__ import annotations

from laion_zarr import captions
from laion_zarr.compat._convert import FromStore, KeyedView

__all__ = ["Captions"]


class Captions(FromStore, KeyedView):
    """Captions of the stimuli, by image name; as `laion_zarr.captions.Captions`.

    Constructed with `data_dir`, the folder that holds ``laion-fmri.zarr``, or with `store` and
    `storage_options`, as in `laion_zarr.load_stimuli`; without any, opens the default store.
    """

    _load = staticmethod(captions.Captions)
