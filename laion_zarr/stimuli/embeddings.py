"""Embeddings of the stimuli by pretrained models, aligned to images or trials by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from xarray.core import indexing

from laion_zarr._release import Ids
from laion_zarr._repr import Shown
from laion_zarr.arrays.lazy import LazyArray, digest
from laion_zarr.arrays.query import Query
from laion_zarr.arrays.select import as_list, is_one
from laion_zarr.errors import StimuliNotDownloadedError, nearest
from laion_zarr.stimuli.handle import StimuliHandle, download_command
from laion_zarr.stimuli.keys import ImageKeys, Keys, TrialKeys
from laion_zarr.store.objects import StoreLike
from laion_zarr.store.schema import EMBEDDING, FEATURE, embeddings_part

# Images of a Dask block: eight chunks. Computing a single image then reads at most a megabyte.
_IMAGES_PER_BLOCK = 512
# Trials of a Dask block: a subject has two blocks, of 33 MB each for CLIP. More blocks take longer.
_TRIALS_PER_BLOCK = 1 << 14


class LazyEmbeddings(LazyArray):
    """Embeddings by one model, (image, feature); NaN for an image without embedding.

    Parameters
    ----------
    handle : StimuliHandle
        The open stimuli.
    model : str
        Name of the model.
    rows : numpy.ndarray, (image,) int
        Row of each image in the model's part, -1 for an image without a row.
    """

    handle: StimuliHandle

    def __init__(self, handle: StimuliHandle, model: str, rows: np.ndarray) -> None:
        part = embeddings_part(model)
        n_features = handle.shape(part, EMBEDDING.name)[1]
        super().__init__(handle, (len(rows), n_features))
        self.dtype = np.dtype(EMBEDDING.dtype)
        self.model = model
        self.rows = rows.astype(np.int32)

    def _read(self, *positions: np.ndarray) -> np.ndarray:
        images, features = positions
        n_features = self.shape[1]
        stored = self.handle.chunked(embeddings_part(self.model), EMBEDDING)
        rows = self.rows[images]
        found = np.empty((len(rows), n_features), dtype=self.dtype)
        found[rows < 0] = np.nan
        there = np.flatnonzero(rows >= 0)
        for chunk, inside, where in stored.gather(rows[there], (n_features,)):
            at = there[where]
            if np.array_equal(at, np.arange(at[0], at[0] + len(at))):  # usual case: saves a copy
                np.take(chunk, inside, axis=0, out=found[at[0] : at[-1] + 1], mode="clip")
            else:
                found[at] = chunk[inside]
        if not np.array_equal(features, np.arange(n_features)):
            found = found[:, features]
        return found

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (*super().__dask_tokenize__(), self.model, digest(self.rows))


class Embeddings(Shown):
    """Embeddings of the stimuli, by model, then by image name or row.

    Available as ``Stimuli.embeddings``, or opened by `load_embeddings`.
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
            near = [one for one in there if one.lower() == str(model).lower()]
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise StimuliNotDownloadedError(
                f"The store holds no embeddings of {model!r}, but of {', '.join(there)}.{hint} "
                f"Get them with 'laion-zarr {download_command(embeddings_part(model))}', then run "
                "'laion-zarr convert --parts embeddings'."
            )
        self._handle = handle
        self._keys = keys

    def __contains__(self, model: object) -> bool:
        return model in self.models

    def _facts(self) -> dict[str, Any]:
        said = {}
        for model in self.models:
            n_features = self._handle.shape(embeddings_part(model), EMBEDDING.name)[1]
            said[model] = f"{self._keys.said(embeddings_part(model))}, {n_features:,} features"
        return {"Models": said, "Next": f"[model], .get(model, {self._keys.dim})"}

    @overload
    def __getitem__(self, model: str) -> xr.DataArray: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, model: Sequence[str]) -> dict[str, xr.DataArray]: ...
    def __getitem__(self, model: Any) -> xr.DataArray | dict[str, xr.DataArray]:
        """Embeddings of all images by one model.

        Returns
        -------
        xarray.DataArray, (image, feature) float16, Dask-backed
            NaN for an image without embedding. For a list of models, a dict by model.
        """
        if not is_one(model):
            return {one: self[one] for one in as_list(model)}
        positions = self._keys.everywhere()
        values = self._blocks(self._stored(model, positions), _IMAGES_PER_BLOCK)
        return self._keys.labelled(model, values, positions)

    @overload
    def get(self, model: str, key: Any) -> xr.DataArray: ...
    @overload
    def get(self, model: Sequence[str], key: Any) -> dict[str, xr.DataArray]: ...
    def get(self, model: Any, key: Any) -> xr.DataArray | dict[str, xr.DataArray]:
        """Embeddings of one or several images; reads only the chunks that hold these images.

        Parameters
        ----------
        model : str or list of str
            One of `models`, or a list, for which a dict by model is returned.
        key : str or int, or a list of them
            Image names, or rows of the metadata.

        Returns
        -------
        xarray.DataArray, (feature,) or (image, feature) float16
            In the order of `key`; NaN for an image without embedding.

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
        if not is_one(model):
            return {one: self.get(one, key) for one in as_list(model)}
        positions = self._keys.positions(key)
        values = self._variable(self._stored(model, positions)).load()
        found = self._keys.labelled(model, values, positions)
        return found.isel({self._keys.dim: 0}) if is_one(key) else found

    def _stored(self, model: Any, positions: np.ndarray) -> LazyEmbeddings:
        """Embeddings at positions along the dim of the keys."""
        if model not in self.models:
            hint = nearest(model, self.models)
            raise KeyError(f"{model!r} is not among the models: {', '.join(self.models)}.{hint}")
        rows = self._keys.rows(embeddings_part(model))[positions]
        return LazyEmbeddings(self._handle, model, rows)

    def _variable(self, lazy: LazyEmbeddings) -> xr.Variable:
        """Embeddings as a variable with xarray's lazy indexing."""
        attrs = {"description": f"embeddings of the pictures by {lazy.model}"}
        return xr.Variable((self._keys.dim, FEATURE), indexing.LazilyIndexedArray(lazy), attrs)

    def _blocks(self, lazy: LazyEmbeddings, n_rows: int) -> xr.Variable:
        """Embeddings as a variable in Dask blocks of `n_rows` rows."""
        name = f"embedding-{tokenize(lazy, n_rows)}"
        return self._variable(lazy).chunk({self._keys.dim: n_rows}, name=name)


class SubjectEmbeddings(Embeddings):
    """Embeddings of a subject's images, by global trial index: ``Subject.embeddings``."""

    _keys: TrialKeys

    def __init__(self, handle: StimuliHandle, query: Query) -> None:
        super().__init__(handle, TrialKeys(handle, query))

    @overload
    def __getitem__(self, model: str) -> xr.DataArray: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, model: Sequence[str]) -> dict[str, xr.DataArray]: ...
    def __getitem__(self, model: Any) -> xr.DataArray | dict[str, xr.DataArray]:
        """Embeddings by one model in trial order, as `all` returns them."""
        return self.all(model)

    @overload
    def all(  # type: ignore[overload-overlap]
        self, model: str, session: Ids | None = None
    ) -> xr.DataArray: ...
    @overload
    def all(self, model: Sequence[str], session: Ids | None = None) -> dict[str, xr.DataArray]: ...
    def all(self, model: Any, session: Ids | None = None) -> xr.DataArray | dict[str, xr.DataArray]:
        """Embeddings in trial order, the order of the rows of `Subject.get_betas`.

        Parameters
        ----------
        model : str or list of str
            One of `models`, or a list, for which a dict by model is returned.
        session : str, int or list of them, optional
            Only trials of these sessions. If not provided, of all sessions.

        Returns
        -------
        xarray.DataArray, (trial, feature) float16, Dask-backed
            With the labels of the trials; NaN for an image without embedding.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> sub = load_subject("01")
        >>> features = sub.embeddings.all("CLIP", session="ses-01")
        >>> features.dims
        ('trial', 'feature')
        """
        if not is_one(model):
            return {one: self.all(one, session) for one in as_list(model)}
        positions = self._keys.of_session(session)
        rows, repeats = np.unique(self._stored(model, positions).rows, return_inverse=True)
        # One block of the distinct images: each chunk is read once for all trials of its images.
        seen = self._blocks(LazyEmbeddings(self._handle, model, rows), len(rows))
        values = xr.Variable(seen.dims, _repeated(seen.data, repeats), seen.attrs)
        return self._keys.labelled(model, values, positions)


def _repeated(seen: da.Array, rows: np.ndarray) -> da.Array:
    """Rows of `seen`, an array of one Dask block, as an array in blocks of trials."""
    # Dask's own `take` gives the same result, but needs 20 times as long to build the graph: a
    # quarter of the total time.
    starts = range(0, len(rows), _TRIALS_PER_BLOCK)
    parts = [rows[start : start + _TRIALS_PER_BLOCK] for start in starts]
    name = f"trials-{seen.name}-{digest(rows)}"
    source = (seen.name, 0, 0)
    tasks: dict[Any, Any] = {
        (name, n, 0): (np.take, source, part, 0) for n, part in enumerate(parts)
    }
    beneath: Any = [seen]  # Dask's type hints do not list Array as a collection
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=beneath)
    chunks = (tuple(map(len, parts)), (seen.shape[1],))
    return da.Array(graph, name, chunks, dtype=seen.dtype)


def load_embeddings(
    models: str | Sequence[str] = "all",
    store: StoreLike | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Embeddings:
    """Open the embeddings of a store; reads metadata, no embeddings.

    Parameters
    ----------
    models : str or list of str
        One or several models, or ``"all"``.
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
        If the store holds no embeddings, or none of a model in `models`.

    Examples
    --------
    >>> from laion_zarr import load_embeddings
    >>> load_embeddings("CLIP").models
    ['CLIP']
    """
    handle = StimuliHandle(store, storage_options)
    return Embeddings(handle, ImageKeys(handle), None if models == "all" else models)
