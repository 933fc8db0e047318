"""Train and test: which image is on which side of a split, and masks along trials and images.

Knows which splits there are and how those are made that follow from the images' names (`rules`,
pure), the splits that one store holds (`stored`), and what users call (`splits`).

Promises that a split is exactly the published one or is refused, and that trials are joined by
image name.

Begin with `splits.get_split_masks`; `rules.derive` makes what needs no file.
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
