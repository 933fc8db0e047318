"""Train/test splits: the functions of `laion_zarr.splits`, which return lists and numpy masks.

The numpy package contains the published splits; here the command ``laion-zarr splits add`` writes
them into the store.
"""

from __future__ import annotations

from laion_zarr.splits import (
    Split,
    SplitVariant,
    get_split_masks,
    get_train_test_ids,
    list_ood_types,
    list_pools,
    list_splits,
    load_all_splits,
    load_split,
)

__all__ = [
    "Split",
    "SplitVariant",
    "get_split_masks",
    "get_train_test_ids",
    "list_ood_types",
    "list_pools",
    "list_splits",
    "load_all_splits",
    "load_split",
]
