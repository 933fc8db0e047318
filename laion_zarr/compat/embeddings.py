"""Embeddings, as in `laion_zarr.embeddings`, but returned as numpy arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from laion_zarr import embeddings
from laion_zarr.compat._convert import Closing, KeyedView, as_numpy, store_in
from laion_zarr.store.objects import StoreLike

__all__ = ["AVAILABLE_MODELS", "Embeddings", "load_embeddings"]

#: Models of the release; ``Embeddings.models`` lists the models that a store holds.
AVAILABLE_MODELS = ("CLIP", "DINOv2", "PEcore", "SigLIP2")


class Embeddings(KeyedView, Closing):
    """Embeddings of the stimuli by one or several models; as `laion_zarr.embeddings.Embeddings`.

    ``[model]`` is the whole (image, feature) float16 array. Its rows are in the order of
    `image_ids`, which is the order of the metadata; the row of an image without embedding is NaN.

    Parameters
    ----------
    models : str or list of str
        ``"all"``, the name of a model, or a list of names.
    data_dir : str or os.PathLike, optional
        Folder that holds ``laion-fmri.zarr``. If not provided, the default store.
    store, storage_options
        Store to open instead of the store in `data_dir`, as in `laion_zarr.load_stimuli`.
    """

    def __init__(
        self,
        models: str | Sequence[str],
        data_dir: str | os.PathLike[str] | None = None,
        store: StoreLike | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        found = store_in(data_dir, store)
        self._labelled = embeddings.load_embeddings(models, found, storage_options)

    @property
    def image_ids(self) -> np.ndarray:
        """Image names, (image,) str, in the order of the rows of ``[model]``."""
        return np.array(self._labelled._keys.names, dtype=str)

    def __len__(self) -> int:
        return len(self._labelled._keys.names)

    def __contains__(self, key: object) -> bool:
        """Whether a model, or an image of a model as ``(model, image_name)``, has embeddings."""
        if isinstance(key, tuple) and len(key) == 2:
            return key[0] in self._labelled and key[1] in self._labelled._keys.names
        return key in self._labelled

    def get(self, model: str, image_name: Any) -> np.ndarray:
        """Embeddings of one image, (feature,), or of several, (image, feature), float16.

        The arguments are those of `laion_zarr.embeddings.Embeddings.get`.
        """
        return as_numpy(self._labelled.get(model, image_name))


def load_embeddings(
    models: str | Sequence[str] = "all",
    data_dir: str | os.PathLike[str] | None = None,
    store: StoreLike | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Embeddings:
    """Open the embeddings of a store; the parameters are those of `Embeddings`."""
    return Embeddings(models, data_dir, store, storage_options)
