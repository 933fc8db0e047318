"""Public functions for splits: names, train and test ids, masks along trials and images.

The store holds published splits, imported with ``laion-zarr splits add``. The splits ``random_*``
and ``ood`` follow from the images' names and need only the metadata of all images.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import xarray as xr

from laion_zarr._release import OOD_TYPES, Id, ood_type
from laion_zarr.splits import rules
from laion_zarr.splits.rules import Split
from laion_zarr.splits.stored import StoredSplits
from laion_zarr.store.objects import StoreLike
from laion_zarr.store.schema import (
    IMAGE,
    IMAGE_NAME,
)

_LABELS = (IMAGE_NAME.name, IMAGE, "label")  # columns or coordinates that hold image names
Labelled = TypeVar("Labelled", xr.DataArray, xr.Dataset)


def list_pools(
    store: StoreLike | None = None, storage_options: dict[str, Any] | None = None
) -> list[str]:
    """Pools, the sets of images that splits divide.

    Parameters
    ----------
    store, storage_options
        As in `load_split`: only pools of which this store has splits. If not provided, all pools.

    Returns
    -------
    list of str
        ``"shared"`` (images that every subject saw), the subjects (shared and unique images), and
        ``"pooled"`` (all regular images together), each without out-of-distribution images.
    """
    if store is None:
        return list(rules.POOLS)
    stored = StoredSplits(store, storage_options)
    return [pool for pool in rules.POOLS if stored.available(pool)]


def list_splits(
    pool: Id | None = None,
    store: StoreLike | None = None,
    storage_options: dict[str, Any] | None = None,
) -> list[str]:
    """Names of the splits of a pool.

    Parameters
    ----------
    pool : str or int, optional
        One of `list_pools`. If not provided, the splits of all pools.
    store, storage_options
        As in `load_split`: only splits that this store has of the pool.

    Returns
    -------
    list of str
        ``random_0`` … ``random_4`` (the test set is one of five random folds), ``cluster_k5_0`` …
        ``cluster_k5_4`` (the test set is one of five clusters), ``tau`` (within distribution, by
        distance to the nearest training image), ``ood`` (the test set is the out-of-distribution
        images). ``"pooled"`` has ``tau`` and ``cluster_k5_*`` only.
    """
    found = None if pool is None else rules.check_pool(pool)
    if store is None:
        return list(rules.NAMES if found is None else rules.names_of(found))
    stored = StoredSplits(store, storage_options)
    pools = rules.POOLS if found is None else (found,)
    there = {name for one in pools for name in stored.available(one)}
    return [name for name in rules.NAMES if name in there]


def list_ood_types() -> list[str]:
    """Types of out-of-distribution (OOD) images.

    Returns
    -------
    list of str
    """
    return list(OOD_TYPES)


def load_split(
    name: str,
    pool: Id,
    store: StoreLike | None = None,
    storage_options: dict[str, Any] | None = None,
    revision: int | None = None,
) -> Split:
    """Load one split of one pool.

    Parameters
    ----------
    name : str
        One of `list_splits`.
    pool : str or int
        One of `list_pools`: ``"shared"``, a subject id (``"sub-01"``, ``"01"`` or 1), or
        ``"pooled"``.
    store : str, Path or zarr.abc.store.Store, optional
        If not provided, `laion_zarr.config.get_store`.
    storage_options : dict, optional
        For fsspec URLs.
    revision : {0, 1, 2}, optional
        Revision of a ``random_*``; the other splits have none, and the argument changes nothing.
        If not provided, the newest that the store holds or that follows from the images' names;
        a warning says once if a newer one is published.

    Returns
    -------
    Split

    Raises
    ------
    ValueError
        If there is no such split, pool or revision; the message lists those that there are.
    NotConvertedError
        If the store does not hold the split and it cannot be derived from the stored metadata.

    Examples
    --------
    >>> from laion_zarr.splits import load_split
    >>> load_split("random_0", "shared").split_family
    'random'
    """
    pool = rules.check_pool(pool)
    name = rules.check_name(name, pool)
    revision = rules.check_revision(revision, name, pool)
    return StoredSplits(store, storage_options).load(name, pool, revision)


def load_all_splits(
    pool: Id,
    store: StoreLike | None = None,
    storage_options: dict[str, Any] | None = None,
    revision: int | None = None,
) -> dict[str, Split]:
    """Load all splits of one pool.

    Parameters
    ----------
    pool : str or int
        One of `list_pools`.
    store, storage_options, revision
        As in `load_split`.

    Returns
    -------
    dict of str to Split
        Splits by name, in the order of `list_splits`.

    Raises
    ------
    NotConvertedError
        If a split is neither in the store nor can be derived from the stored metadata.
    """
    pool, stored = rules.check_pool(pool), StoredSplits(store, storage_options)
    checked = {name: rules.check_revision(revision, name, pool) for name in rules.names_of(pool)}
    return {name: stored.load(name, pool, one) for name, one in checked.items()}


def get_train_test_ids(
    name: str,
    pool: Id,
    variant_id: int = 0,
    ood_types: str | Iterable[str] | None = None,
    store: StoreLike | None = None,
    storage_options: dict[str, Any] | None = None,
    revision: int | None = None,
) -> tuple[list[str], list[str]]:
    """Image names of the training and test sets of a split.

    Parameters
    ----------
    name, pool : str
        As in `load_split`.
    variant_id : int
        Number of the division within the split; usually 0.
    ood_types : str or list of str, optional
        Only for the split ``"ood"``: keep only test images of these types (`list_ood_types`).
    store, storage_options, revision
        As in `load_split`.

    Returns
    -------
    train_ids, test_ids : list of str
        Sorted as plain strings.

    Raises
    ------
    ValueError
        If the split has no such variant, or `ood_types` does not apply; and as in `load_split`.
    NotConvertedError
        As in `load_split`.

    Examples
    --------
    >>> from laion_zarr.splits import get_train_test_ids
    >>> train, test = get_train_test_ids("ood", "shared", ood_types="shape")
    >>> all("_OOD_shape_" in name for name in test)
    True
    """
    wanted = rules.check_ood_types(ood_types, rules.check_name(name))
    split = load_split(name, pool, store, storage_options, revision)
    variants = {variant.variant_id: variant for variant in split.variants}
    if variant_id not in variants:
        raise ValueError(
            f"Split {name!r} of {split.pool!r} has no variant {variant_id!r}; it has "
            f"{', '.join(map(str, variants))}."
        )
    train, test = variants[variant_id].train_ids, variants[variant_id].test_ids
    if wanted is not None:
        test = [label for label in test if ood_type(label) in wanted]
    return train, test


def get_split_masks(
    trials: Any,
    name: str,
    pool: Id,
    variant_id: int = 0,
    ood_types: str | Iterable[str] | None = None,
    store: StoreLike | None = None,
    storage_options: dict[str, Any] | None = None,
    revision: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Boolean masks of the trials (or images) in the training and test sets of a split.

    Parameters
    ----------
    trials : pandas.DataFrame, pandas.Series, array-like of str, xarray.DataArray or xarray.Dataset
        Image of each trial: a table with a column ``label`` or ``image_name``, the image names
        themselves, or an xarray object with image names as a coordinate, such as betas or
        embeddings.
    name, pool, variant_id, ood_types, store, storage_options, revision
        As in `get_train_test_ids`.

    Returns
    -------
    train, test : numpy.ndarray, (trial,) bool
        Both are False for an image that is not in the split.

    Raises
    ------
    ValueError
        If `trials` holds no image names.

    Examples
    --------
    >>> from laion_zarr import load_subject
    >>> from laion_zarr.splits import get_split_masks
    >>> betas = load_subject("01").get_betas(roi="FFA1")
    >>> train, test = get_split_masks(betas, "random_0", pool="sub-01")
    >>> betas[train].sizes["trial"] > betas[test].sizes["trial"]
    True
    """
    labels = pd.Index(_labels(trials), dtype=object)
    ids = get_train_test_ids(name, pool, variant_id, ood_types, store, storage_options, revision)
    return labels.isin(ids[0]), labels.isin(ids[1])


def assign_split(
    obj: Labelled,
    name: str,
    pool: Id,
    variant_id: int = 0,
    ood_types: str | Iterable[str] | None = None,
    store: StoreLike | None = None,
    storage_options: dict[str, Any] | None = None,
    revision: int | None = None,
) -> Labelled:
    """Add a coordinate ``split``: whether each trial (or image) is in the training or test set.

    Parameters
    ----------
    obj : xarray.DataArray or xarray.Dataset
        Object with image names as a coordinate; lazy data are not computed.
    name, pool, variant_id, ood_types, store, storage_options, revision
        As in `get_train_test_ids`.

    Returns
    -------
    xarray.DataArray or xarray.Dataset
        `obj` with the coordinate ``split``, str: ``"train"``, ``"test"``, or ``""`` for an image
        that is not in the split.

    Examples
    --------
    >>> from laion_zarr import load_subject
    >>> from laion_zarr.splits import assign_split
    >>> betas = assign_split(load_subject("01").get_betas(roi="FFA1"), "ood", pool="sub-01")
    >>> by_side = betas.groupby("split")
    """
    if not isinstance(obj, xr.DataArray | xr.Dataset):
        raise ValueError(
            f"assign_split takes xarray objects, got {type(obj).__name__}; for tables and arrays "
            "use get_split_masks."
        )
    (dim,) = obj[_coordinate(obj)].dims
    train, test = get_split_masks(
        obj, name, pool, variant_id, ood_types, store, storage_options, revision
    )
    sides = np.select([train, test], ["train", "test"], "").astype(object)
    return obj.assign_coords(split=(dim, sides))


def _labels(trials: Any) -> np.ndarray:
    """Image name of each trial, (trial,) object."""
    if isinstance(trials, pd.DataFrame):
        column = next((name for name in _LABELS if name in trials.columns), None)
        if column is None:
            raise _nameless(f"a table with the columns {', '.join(map(str, trials.columns))}")
        trials = trials[column]
    elif isinstance(trials, xr.Dataset) or (isinstance(trials, xr.DataArray) and trials.coords):
        trials = trials[_coordinate(trials)]
    labels = np.asarray(trials, dtype=object)
    known = labels[~pd.isna(labels)]
    if labels.ndim != 1 or not all(isinstance(label, str) for label in known):
        kind = type(known.flat[0]).__name__ if known.size else "nothing"
        raise _nameless(f"shape {labels.shape} of {kind}")
    return labels


def _coordinate(obj: xr.DataArray | xr.Dataset) -> str:
    """Name of the coordinate that holds image names."""
    for name in _LABELS:
        if name in obj.coords and obj[name].ndim == 1 and obj[name].dtype.kind in "OUT":
            return name
    raise _nameless(f"coordinates {', '.join(map(str, obj.coords)) or 'none'}")


def _nameless(found: str) -> ValueError:
    return ValueError(
        f"Splits go by image name: expected {IMAGE_NAME.name!r} or 'label' as a coordinate or "
        f"column, or the names themselves; found {found}."
    )
