"""The splits of one store: imported from split files, or derived from the images' metadata."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from laion_zarr.config import get_store
from laion_zarr.errors import NotConvertedError
from laion_zarr.splits import rules
from laion_zarr.splits.rules import Split, SplitVariant
from laion_zarr.store.manifest import parse_root
from laion_zarr.store.objects import StoreLike, fetch, location, open_store
from laion_zarr.store.parts import StoredParts
from laion_zarr.store.schema import (
    IMAGE_NAME,
    MEMBERSHIP_PART,
    METADATA_PART,
    SPLIT_ARRAYS,
    SPLITS_GROUP,
    STIMULI_GROUP,
)

_TRAIN, _TEST = 1, 2


class StoredSplits:
    """The splits of one store: imported, or derived from its stimulus metadata.

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
        self._store = open_store(get_store() if store is None else store, storage_options)
        parse_root(self._store, fetch(self._store, ["zarr.json"])[0])

    @cached_property
    def _table(self) -> dict[str, np.ndarray]:
        try:
            return StoredParts(self._store, SPLITS_GROUP).load(MEMBERSHIP_PART, SPLIT_ARRAYS)
        except NotConvertedError:
            return {name: np.empty(0) for name in SPLIT_ARRAYS}

    @cached_property
    def _metadata(self) -> pd.DataFrame:
        """Image names and participants; empty if the store has no metadata."""
        try:
            stored = StoredParts(self._store, STIMULI_GROUP)
            found = stored.load(METADATA_PART, [IMAGE_NAME.name, "participant"])
        except NotConvertedError:
            found = {IMAGE_NAME.name: np.empty(0, dtype=object)}
        return pd.DataFrame(found)

    def stored(self) -> dict[tuple[str, str], Split]:
        """Imported splits, by pool and name."""
        pairs = zip(self._table["pool"], self._table["name"], strict=True)
        return {pair: self._imported(*pair) for pair in dict.fromkeys(pairs)}

    def _imported(self, pool: str, name: str) -> Split:
        table = self._table
        rows = np.flatnonzero((table["pool"] == pool) & (table["name"] == name))
        names, sides = table["image_name"], table["side"]
        variants = [
            SplitVariant(
                int(table["variant_id"][row]),
                sorted(names[sides[row] == _TRAIN].tolist()),
                sorted(names[sides[row] == _TEST].tolist()),
            )
            for row in rows
        ]
        splitter, params = table["splitter"][rows[0]], json.loads(table["params"][rows[0]])
        sizes = len(variants[0].train_ids), len(variants[0].test_ids)
        return Split(name, pool, splitter, params, *sizes, variants)

    def load(self, name: str, pool: str) -> Split:
        """Return a split, imported or derived; the error for a missing split says how to add it."""
        if ((self._table["pool"] == pool) & (self._table["name"] == name)).any():
            return self._imported(pool, name)
        reason = "it does not follow from the images' names"
        if rules.can_derive(name):
            if rules.is_complete(self._metadata):
                return rules.derive(name, pool, *rules.pool_ids(self._metadata, pool))
            reason = (
                f"it follows from the metadata of all {rules.N_IMAGES:,} images alone (there are "
                f"{len(self._metadata):,})"
            )
        raise NotConvertedError(
            f"The store {location(self._store)} holds no split {name!r} of the pool {pool!r}, and "
            f"{reason}. Add the published splits with 'laion-zarr splits add'."
        )
