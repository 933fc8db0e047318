"""Segmentation masks of the objects in the shared stimuli."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, overload

import numpy as np
import pandas as pd
import xarray as xr
from xarray.core import indexing

from laion_zarr.arrays.lazy import LazyArray
from laion_zarr.arrays.select import as_list, is_one
from laion_zarr.stimuli.handle import StimuliHandle
from laion_zarr.stimuli.keys import ImageKeys, Key, Keys
from laion_zarr.stimuli.tables import ImageTable
from laion_zarr.store.bounds.tables import check_positions
from laion_zarr.store.objects import StoreLike
from laion_zarr.store.schema import MASKS_2D, SEGMENTATIONS_PART

_MASKS_PER_BLOCK = 32


class LazyMasks(LazyArray):
    """Lazy array of all masks of the store, (mask, y, x) uint8."""

    dtype = np.dtype(MASKS_2D.dtype)
    handle: StimuliHandle

    def __init__(self, handle: StimuliHandle) -> None:
        super().__init__(handle, handle.shape(SEGMENTATIONS_PART, MASKS_2D.name))

    def _read(self, *positions: np.ndarray) -> np.ndarray:
        masks, ys, xs = positions
        out = np.empty([len(index) for index in positions], dtype=self.dtype)
        stored = self.handle.chunked(SEGMENTATIONS_PART, MASKS_2D)
        for chunk, _, where in stored.gather(masks, self.shape[1:]):
            out[where] = chunk[0][np.ix_(ys, xs)]  # a chunk is one mask
        return out


class ImageSegmentations(ImageTable):
    """Segmentation masks of objects, by image (or by a subject's trial); shared images only."""

    def __init__(self, handle: StimuliHandle, keys: Keys) -> None:
        super().__init__(handle, keys, SEGMENTATIONS_PART)

    def _facts(self) -> dict[str, Any]:
        return self._shown("masks", ".nouns({0}), .get({0}, noun), .metadata")

    @overload
    def nouns(  # type: ignore[overload-overlap]
        self, key: Key, localized_only: bool = True
    ) -> list[str]: ...
    @overload
    def nouns(self, key: Iterable[Key], localized_only: bool = True) -> list[list[str]]: ...
    def nouns(
        self, key: Key | Iterable[Key], localized_only: bool = True
    ) -> list[str] | list[list[str]]:
        """Nouns of the objects found in a picture.

        Parameters
        ----------
        key : str or int, or a list of them
            Image name or row; for a subject, the global trial index.
        localized_only : bool
            Whether to leave out nouns of objects that were seen but not located (``localized`` is
            0).

        Returns
        -------
        list of str
            Each noun once, in table order; empty if the image has no masks. For a list of keys, a
            list of such lists.
        """
        if not is_one(key):
            return [self.nouns(one, localized_only) for one in as_list(key)]
        rows = self._rows(key)
        if localized_only:
            rows = rows[rows["localized"] == 1]
        return list(dict.fromkeys(rows["noun"].tolist()))

    def get(self, key: Any, noun: str, instance: int = 0) -> xr.DataArray:
        """Mask of one object, in one or several pictures; reads no other mask.

        Parameters
        ----------
        key : str or int, or a list of them
            Image name or row; for a subject, the global trial index.
        noun : str
            One of `nouns`.
        instance : int
            Number of the detection, if the noun was found several times; 0 is the best.

        Returns
        -------
        xarray.DataArray, (y, x) uint8, 0 or 1
            In memory, with the columns of the mask's table row as coordinates. For a list of keys,
            (image, y, x) or, for a subject, (trial, y, x).

        Raises
        ------
        KeyError
            If there is no such mask; the message lists the masks of the image.

        Examples
        --------
        >>> from laion_zarr import load_stimuli
        >>> seg = load_stimuli().segmentations
        >>> image = seg.images()[0]
        >>> mask = seg.get(image, seg.nouns(image, localized_only=False)[0])
        >>> mask.dims
        ('y', 'x')
        """
        if is_one(key):
            row = self._row(key, noun, instance)
            return self[row["mask_row"]].assign_coords(row.to_dict())
        table = self._handle.table(SEGMENTATIONS_PART)
        rows = pd.DataFrame(
            [self._row(one, noun, instance) for one in as_list(key)], columns=table.columns
        ).astype(table.dtypes)
        dim = self._keys.dim
        values = xr.Variable((dim, "y", "x"), self._read(rows["mask_row"].to_numpy()))
        found = self._keys.labelled("mask", values, self._keys.positions(key))
        return found.assign_coords({name: (dim, its.to_numpy()) for name, its in rows.items()})

    def _row(self, key: Any, noun: str, instance: int) -> pd.Series:
        """Row of the table that lists the mask of an object."""
        rows = self._rows(key)
        found = rows[(rows["noun"] == noun) & (rows["instance_id"] == instance)]
        if found.empty:
            pairs = zip(rows["noun"], rows["instance_id"], strict=True)
            there = ", ".join(f"{name!r} {number}" for name, number in pairs)
            raise KeyError(
                f"There is no mask of {noun!r} (instance {instance}) for "
                f"{self._keys.name(key)!r}. Masks of it: "
                f"{there or 'none (only shared images have masks)'}."
            )
        row = found.iloc[0]
        n_masks = self._handle.shape(SEGMENTATIONS_PART, MASKS_2D.name)[0]
        with self._handle.stored.bounded(SEGMENTATIONS_PART, "mask_row"):
            check_positions(np.array([row["mask_row"]]), n_masks, MASKS_2D.name)
        return row

    def __getitem__(self, mask_row: Any) -> xr.DataArray:
        """Mask by its row (``mask_row``), (y, x) uint8, in memory; (mask, y, x) for a list."""
        rows = as_list(mask_row)
        masks = self._read(np.array(rows, dtype=np.int64))
        if is_one(mask_row):
            return xr.DataArray(masks[0], dims=("y", "x"), name="mask")
        return xr.DataArray(masks, {"mask": rows}, MASKS_2D.dims, name="mask")

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """Masks by row, (mask, y, x)."""
        lazy = LazyMasks(self._handle)
        n_masks = lazy.shape[0]
        for row in rows[(rows < 0) | (rows >= n_masks)][:1]:
            raise IndexError(f"mask_row {row} is out of range: {n_masks:,} masks, from 0.")
        return lazy.outer((rows, slice(None), slice(None)))

    @property
    def masks(self) -> xr.DataArray:
        """All masks, (mask, y, x) uint8, Dask-backed; ``mask`` is the table's ``mask_row``."""
        lazy = LazyMasks(self._handle)
        variable = xr.Variable(MASKS_2D.dims, indexing.LazilyIndexedArray(lazy))
        return xr.DataArray(
            variable.chunk({"mask": _MASKS_PER_BLOCK}),
            coords={"mask": np.arange(lazy.shape[0])},
            name="masks",
            attrs={"description": MASKS_2D.description},
        )

    def for_image(self, key: Any) -> pd.DataFrame:
        """Rows of the segmentation table for one image.

        Parameters
        ----------
        key : str or int, or a list of them
            Image name or row; for a subject, the global trial index.

        Returns
        -------
        pandas.DataFrame
            Rows in table order; empty if the image has no masks. For a list, the rows of one image
            after those of another; if of trials, with a first column ``trial``.
        """
        return self._rows(key)

    @overload
    def has_image(self, key: Key) -> bool: ...  # type: ignore[overload-overlap]
    @overload
    def has_image(self, key: Iterable[Key]) -> list[bool]: ...
    def has_image(self, key: Key | Iterable[Key]) -> bool | list[bool]:
        """Whether any object was located in a picture.

        Parameters
        ----------
        key : str or int, or a list of them
            Image name or row; for a subject, the global trial index.

        Returns
        -------
        bool
            For a list of keys, a list.
        """
        if not is_one(key):
            return [bool(self.nouns(one)) for one in as_list(key)]
        return bool(self.nouns(key))


class Segmentations(ImageSegmentations):
    """Segmentation masks of objects in the shared stimuli, by image name or row.

    Parameters
    ----------
    store : str, Path or zarr.abc.store.Store, optional
        If not provided, `laion_zarr.config.get_store`.
    storage_options : dict, optional
        For fsspec URLs.

    Raises
    ------
    StimuliNotDownloadedError
        If the store holds no segmentation masks.
    """

    def __init__(
        self, store: StoreLike | None = None, storage_options: dict[str, Any] | None = None
    ) -> None:
        handle = StimuliHandle(store, storage_options)
        super().__init__(handle, ImageKeys(handle))
