"""Train/test splits: image names of the training and test sets, masks along trials and images.

`rules` has the names of all splits and derives the splits that follow from image names alone (pure
functions); `stored` reads the splits of one store; `splits` has the functions that users call.

A split is either exactly the published split or an error is raised. Trials are joined by image
name.

Begin with `splits.get_split_masks`; `rules.derive` makes the splits that need no split file.
"""

from laion_zarr.splits.rules import Split, SplitVariant
from laion_zarr.splits.splits import (
    assign_split,
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
    "assign_split",
    "get_split_masks",
    "get_train_test_ids",
    "list_ood_types",
    "list_pools",
    "list_splits",
    "load_all_splits",
    "load_split",
]
