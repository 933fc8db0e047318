"""The stimuli of a store: metadata, pictures, embeddings, segmentation masks, captions."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from laion_zarr import _repr
from laion_zarr.stimuli import picture_files
from laion_zarr.stimuli.captions import ImageCaptions
from laion_zarr.stimuli.embeddings import Embeddings
from laion_zarr.stimuli.handle import StimuliHandle
from laion_zarr.stimuli.images import Images
from laion_zarr.stimuli.keys import ImageKeys
from laion_zarr.stimuli.segmentations import ImageSegmentations
from laion_zarr.store.objects import StoreLike, location
from laion_zarr.store.schema import (
    CAPTIONS_PART,
    FEATURE,
    IMAGE,
    IMAGE_ARRAYS,
    IMAGE_LICENSE,
    IMAGES_PART,
    METADATA_PART,
    SEGMENTATIONS_PART,
    stimulus_columns,
)


def load_stimuli(
    store: StoreLike | None = None, storage_options: dict[str, Any] | None = None
) -> Stimuli:
    """Open the stimuli of a store; reads metadata only.

    Parameters
    ----------
    store : str, Path or zarr.abc.store.Store, optional
        Local path, fsspec URL or Zarr store. If not provided, `laion_zarr.config.get_store`.
    storage_options : dict, optional
        For fsspec URLs.

    Returns
    -------
    Stimuli

    Raises
    ------
    StimuliNotDownloadedError
        If the store holds no stimuli.
    StoreError
        If the store is damaged or of another schema version.

    Examples
    --------
    >>> from laion_zarr import load_stimuli
    >>> stim = load_stimuli()
    >>> stim.dataset["embedding_CLIP"].dtype
    dtype('float16')
    """
    return Stimuli(store, storage_options)


class Stimuli(_repr.Shown):
    """The stimuli of a store, by image name or row of the metadata.

    Parameters
    ----------
    store : str, Path or zarr.abc.store.Store, optional
        If not provided, `laion_zarr.config.get_store`.
    storage_options : dict, optional
        For fsspec URLs.
    """

    def __init__(
        self, store: StoreLike | None = None, storage_options: dict[str, Any] | None = None
    ) -> None:
        self._handle = StimuliHandle(store, storage_options)

    def __getstate__(self) -> dict[str, StimuliHandle]:
        return {"_handle": self._handle}  # the receiving process reads the cached data again

    @cached_property
    def _keys(self) -> ImageKeys:
        return ImageKeys(self._handle)

    def __len__(self) -> int:
        return len(self._keys.names)

    @property
    def metadata(self) -> pd.DataFrame:
        """Table of the stimuli, one row per image, as in the release's CSV."""
        return self._handle.table(METADATA_PART).copy()

    @cached_property
    def images(self) -> Images:
        """Stimulus pictures, by image name or row."""
        return Images(self._handle, self._keys)

    @cached_property
    def embeddings(self) -> Embeddings:
        """Embeddings of the pictures by pretrained models."""
        return Embeddings(self._handle, self._keys)

    @cached_property
    def segmentations(self) -> ImageSegmentations:
        """Segmentation masks of the objects in the shared pictures."""
        return ImageSegmentations(self._handle, self._keys)

    @cached_property
    def captions(self) -> ImageCaptions:
        """Captions of the pictures."""
        return ImageCaptions(self._handle, self._keys)

    @property
    def dataset(self) -> xr.Dataset:
        """All data with one row per image, along ``image`` (index: image names), lazy.

        Coordinates: the columns of the metadata; ``height`` and ``width`` of the pictures (0 for an
        image without picture, or whose picture cannot be decoded); ``n_human_captions``,
        ``n_ai_captions``. Variables: ``embedding_CLIP`` …, (image, feature_CLIP) float16,
        Dask-backed. Coordinates and variables of parts that the store lacks are left out.

        Examples
        --------
        >>> from laion_zarr import load_stimuli
        >>> stim = load_stimuli()
        >>> one = stim.dataset.sel(image=stim.images.names()[0])
        >>> one["embedding_CLIP"].dims
        ('feature_CLIP',)
        """
        names = self._keys.names
        dataset = xr.Dataset(coords={IMAGE: names.to_numpy()})
        dataset = dataset.assign_coords(
            {name: (IMAGE, values) for name, values in self._labels(names).items()}
        )
        for model in self._handle.models():
            values = self.embeddings[model]
            dataset[f"embedding_{model}"] = values.rename({FEATURE: f"{FEATURE}_{model}"})
        attrs = {"store": location(self._handle.stored.store)}
        if IMAGES_PART in self._handle.stored.parts:
            attrs["license"] = IMAGE_LICENSE
        return dataset.assign_attrs(attrs)

    def _labels(self, names: pd.Index) -> dict[str, np.ndarray]:
        """Coordinates along ``image``: metadata, picture sizes, caption counts; in memory."""
        parts = self._handle.stored.parts
        found: dict[str, np.ndarray] = {}
        if METADATA_PART in parts:
            table = self._handle.table(METADATA_PART)
            arrays = stimulus_columns(table.columns)
            del arrays["image_name"]  # image names are the index
            found |= {array: table[name].to_numpy().copy() for name, array in arrays.items()}
        if IMAGES_PART in parts:
            rows = self._keys.rows(IMAGES_PART)
            for name, size in zip(
                ("height", "width"), picture_files.sizes(self._handle), strict=True
            ):
                dtype = IMAGE_ARRAYS[name].dtype
                found[name] = np.append(size, 0)[rows].astype(dtype)  # row -1 -> 0
        if CAPTIONS_PART in parts:
            image, sources = self._handle.arrays(CAPTIONS_PART, ["image_name", "source"]).values()
            about = names.get_indexer(pd.Index(image))
            for source in ("human", "ai"):
                own = about[(sources == source) & (about >= 0)]
                found[f"n_{source}_captions"] = np.bincount(own, minlength=len(names))
        return found

    def _facts(self) -> dict[str, Any]:
        parts = self._handle.stored.parts
        shape = self._handle.shape
        facts: dict[str, Any] = {
            "Store": location(self._handle.stored.store),
            "Images": f"{len(self):,}",
            "Pictures": "in the store, under the data use agreement"
            if IMAGES_PART in parts
            else "not in the store",
            "Embeddings": ", ".join(self._handle.models()) or "none",
        }
        masks = shape(SEGMENTATIONS_PART, "masks")[0] if SEGMENTATIONS_PART in parts else 0
        captions = shape(CAPTIONS_PART, "caption")[0] if CAPTIONS_PART in parts else 0
        more = ".images, .embeddings, .segmentations, .captions, .metadata, .dataset"
        return facts | {"Masks": f"{masks:,}", "Captions": f"{captions:,}", "Next": more}
