"""Train/test splits: `laion_zarr.splits` itself, whose answers are lists and numpy masks.

The numpy package brings the published splits along; here they are data of the store: ``laion-zarr
splits add``.
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
