"""The stimuli, as in `laion_zarr.stimuli`, but with numpy arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from laion_zarr import stimuli
from laion_zarr.compat._convert import Closing, FromStore, KeyedView, as_numpy
from laion_zarr.compat.captions import Captions
from laion_zarr.compat.embeddings import Embeddings
from laion_zarr.compat.segmentations import Segmentations
from laion_zarr.stimuli.picture_files import displayed as as_displayed_rgb
from laion_zarr.store.objects import StoreLike
from laion_zarr.store.schema import METADATA_PART

__all__ = ["Stimuli", "as_displayed_rgb", "load_stimuli"]


class Images(KeyedView):
    """Stimulus pictures, by image name or row; as `laion_zarr.images.Images`."""

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return iter(self._labelled)

    @property
    def metadata(self) -> pd.DataFrame:
        """Table with one row per image; as `Stimuli.metadata`."""
        return self._labelled._handle.table(METADATA_PART).copy()

    def index_of(self, name: str) -> int:
        """Row of an image in the metadata."""
        return self._labelled._keys.position(name)

    def array(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """Pictures as displayed, (image, y, x, channel) uint8.

        The arguments are those of `laion_zarr.images.Images.array`.
        """
        return as_numpy(self._labelled.array(*args, **kwargs))


class Stimuli(FromStore, Closing):
    """Pictures, embeddings, segmentations and captions; as `laion_zarr.stimuli.Stimuli`.

    Constructed with `data_dir`, the folder that holds ``laion-fmri.zarr``, or with `store` and
    `storage_options`, as in `laion_zarr.load_stimuli`; without any, opens the default store.
    """

    _load = staticmethod(stimuli.load_stimuli)

    def __len__(self) -> int:
        return len(self._labelled)

    @property
    def images(self) -> Images:
        """Pictures, by image name or row."""
        return Images.around(self._labelled.images)

    @property
    def embeddings(self) -> Embeddings:
        """Embeddings of the pictures, by all models in the store."""
        return Embeddings.around(self._labelled.embeddings)

    @property
    def segmentations(self) -> Segmentations:
        """Masks of the objects in the shared pictures."""
        return Segmentations.around(self._labelled.segmentations)

    @property
    def captions(self) -> Captions:
        """Captions of the pictures."""
        return Captions.around(self._labelled.captions)


def load_stimuli(
    data_dir: str | os.PathLike[str] | None = None,
    store: StoreLike | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Stimuli:
    """Open the stimuli; the parameters are those of `Stimuli`.

    Returns
    -------
    Stimuli

    Raises
    ------
    StimuliNotDownloadedError
        If the store holds no stimuli.

    Examples
    --------
    >>> from laion_zarr.compat import load_stimuli
    >>> load_stimuli().embeddings["CLIP"].dtype
    dtype('float16')
    """
    return Stimuli(data_dir, store, storage_options)
