"""Embeddings of the stimuli by pretrained models, aligned to images or trials by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from dask.base import tokenize
from xarray.core import indexing

from laion_zarr._keys import ImageKeys, Keys, TrialKeys, is_one
from laion_zarr._lazy import LazyArray, digest
from laion_zarr._query import Query
from laion_zarr._schema import EMBEDDING, embeddings_part
from laion_zarr._select import as_list
from laion_zarr._stimulus_handle import StimuliHandle
from laion_zarr._store import StoreLike
from laion_zarr.errors import StimuliNotDownloadedError

FEATURE = "feature"
# Eight chunks: a single image then reads a megabyte at most.
_IMAGES_PER_BLOCK = 512
# All trials of a subject (~70 MB) are one block, so that each chunk is read once for all of them.
_TRIALS_PER_BLOCK = 1 << 15


class LazyEmbeddings(LazyArray):
    """Embeddings by one model, (image, feature); NaN where there is none.

    Parameters
    ----------
    handle : StimuliHandle
        The open stimuli.
    model : str
        Name of the model.
    rows : numpy.ndarray, (image,) int
        Row of each image in the model's part, -1 where it has none.
    """

    handle: StimuliHandle

    def __init__(self, handle: StimuliHandle, model: str, rows: np.ndarray) -> None:
        part = embeddings_part(model)
        self._n_stored, n_features = handle.shape(part, EMBEDDING.name)
        super().__init__(handle, (len(rows), n_features))
        self.dtype = np.dtype(EMBEDDING.dtype)
        self.model = model
        self.rows = rows.astype(np.int32)

    def _read(self, *positions: np.ndarray) -> np.ndarray:
        images, features = positions
        n_features = self.shape[1]
        stored = self.handle.chunked(embeddings_part(self.model), EMBEDDING)
        # Each row once, and a last one of NaN for what has none (-1); then the repeats.
        rows = self.rows[images]
        asked = np.zeros(self._n_stored + 1, dtype=bool)
        asked[rows] = True
        there = np.flatnonzero(asked[:-1])
        place = np.full(len(asked), len(there))
        place[there] = np.arange(len(there))
        found = np.empty((len(there) + 1, n_features), dtype=self.dtype)
        found[-1] = np.nan
        for chunk, inside, where in stored.gather(there, (n_features,)):
            found[where] = chunk[inside]
        if not np.array_equal(features, np.arange(n_features)):
            found = found[:, features]
        return found[place[rows]]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (*super().__dask_tokenize__(), self.model, digest(self.rows))


class Embeddings:
    """Embeddings of the stimuli, by model, then by image name or row.

    Reached as ``Stimuli.embeddings`` or made by `load_embeddings`.
    """

    _keys: Keys

    def __init__(
        self, handle: StimuliHandle, keys: Keys, models: str | Sequence[str] | None = None
    ) -> None:
        there = handle.models()
        if not there:
            handle.part(embeddings_part("any model"))
        self.models: list[str] = there if models is None else as_list(models)
        for model in set(self.models) - set(there):
            raise StimuliNotDownloadedError(
                f"The store holds no embeddings of {model!r}, but of {', '.join(there)}. Get them "
                "with 'laion-zarr download-embeddings', then run 'laion-zarr convert --parts "
                "embeddings'."
            )
        self._handle = handle
        self._keys = keys

    def __contains__(self, model: object) -> bool:
        return model in self.models

    def __getitem__(self, model: str) -> xr.DataArray:
        """All embeddings by one model.

        Returns
        -------
        xarray.DataArray, (image, feature) float16, Dask-backed
            NaN where the model gave none.
        """
        return self._lazy(model, self._keys.everywhere(), _IMAGES_PER_BLOCK)

    def get(self, model: str, key: Any) -> xr.DataArray:
        """Embeddings of one image or of several; reads the chunks that hold them.

        Parameters
        ----------
        model : str
            One of `models`.
        key : str or int, or a list of them
            Image names, or rows of the metadata.

        Returns
        -------
        xarray.DataArray, (feature,) or (image, feature) float16
            In the order asked for; NaN where the model gave none.

        Raises
        ------
        KeyError
            If there is no such model or image.

        Examples
        --------
        >>> from laion_zarr import load_stimuli
        >>> stim = load_stimuli()
        >>> stim.embeddings.get("CLIP", stim.images.names()[:3]).dims
        ('image', 'feature')
        """
        positions = self._keys.positions(key)
        values = self._variable(self._stored(model, positions)).load()
        found = self._keys.labelled(model, values, positions)
        return found.isel({self._keys.dim: 0}) if is_one(key) else found

    def _stored(self, model: str, positions: np.ndarray) -> LazyEmbeddings:
        """Embeddings at positions along the dim."""
        if model not in self.models:
            raise KeyError(f"{model!r} is not among the models: {', '.join(self.models)}.")
        rows = self._keys.rows(embeddings_part(model))[positions]
        return LazyEmbeddings(self._handle, model, rows)

    def _variable(self, lazy: LazyEmbeddings) -> xr.Variable:
        """The same with xarray's lazy indexing."""
        attrs = {"description": f"embeddings of the pictures by {lazy.model}"}
        return xr.Variable((self._keys.dim, FEATURE), indexing.LazilyIndexedArray(lazy), attrs)

    def _lazy(self, model: str, positions: np.ndarray, n_rows: int) -> xr.DataArray:
        """The same in Dask blocks of so many rows, with labels."""
        lazy = self._stored(model, positions)
        name = f"embedding-{tokenize(lazy, n_rows)}"
        blocks = self._variable(lazy).chunk({self._keys.dim: n_rows}, name=name)
        return self._keys.labelled(model, blocks, positions)


class SubjectEmbeddings(Embeddings):
    """Embeddings of what a subject saw, by global trial index: ``Subject.embeddings``."""

    _keys: TrialKeys

    def __init__(self, handle: StimuliHandle, query: Query) -> None:
        super().__init__(handle, TrialKeys(handle, query))

    def __getitem__(self, model: str) -> xr.DataArray:
        """The same as `all` of this model."""
        return self.all(model)

    def all(self, model: str, session: str | None = None) -> xr.DataArray:
        """Embeddings in trial order, row by row those of `Subject.get_betas`.

        Parameters
        ----------
        model : str
            One of `models`.
        session : str, optional
            Only of this session.

        Returns
        -------
        xarray.DataArray, (trial, feature) float16, Dask-backed
            With the labels of the trials; NaN where the model gave none.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> sub = load_subject("01")
        >>> features = sub.embeddings.all("CLIP", session="ses-01")
        >>> features.dims
        ('trial', 'feature')
        """
        return self._lazy(model, self._keys.of_session(session), _TRIALS_PER_BLOCK)


def load_embeddings(
    models: str | Sequence[str] = "all",
    store: StoreLike | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Embeddings:
    """Open the embeddings of a store; nothing is read in bulk.

    Parameters
    ----------
    models : str or list of str
        ``"all"``, a model, or several.
    store : str, Path or zarr.abc.store.Store, optional
        If not provided, `laion_zarr.config.get_store`.
    storage_options : dict, optional
        For fsspec URLs.

    Returns
    -------
    Embeddings

    Raises
    ------
    StimuliNotDownloadedError
        If the store lacks them.

    Examples
    --------
    >>> from laion_zarr import load_embeddings
    >>> load_embeddings("CLIP").models
    ['CLIP']
    """
    handle = StimuliHandle(store, storage_options)
    return Embeddings(handle, ImageKeys(handle), None if models == "all" else models)
