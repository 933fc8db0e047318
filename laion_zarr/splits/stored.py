"""The splits of one store: imported from split files, or derived from the images' metadata."""

from __future__ import annotations

import inspect
import json
import warnings
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from laion_zarr.config import get_store
from laion_zarr.errors import NotConvertedError
from laion_zarr.splits import rules
from laion_zarr.splits.rules import Split, SplitVariant
from laion_zarr.store.bounds.text import parse
from laion_zarr.store.manifest import parse_root, read_texts
from laion_zarr.store.objects import StoreLike, location, open_store
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
_warned: set[int] = set()  # revisions that a user was told of
Key = tuple[str, str, int | None]  # pool, name, revision of a random_*


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
        parse_root(self._store, read_texts(self._store, ["zarr.json"])[0])

    @cached_property
    def _table(self) -> dict[str, np.ndarray]:
        try:
            stored = StoredParts(self._store, SPLITS_GROUP)
            found = stored.load(MEMBERSHIP_PART, SPLIT_ARRAYS, needed=True)
        except NotConvertedError:
            return {name: np.empty(0) for name in SPLIT_ARRAYS}
        with stored.bounded(MEMBERSHIP_PART, "params"):
            for params in found["params"]:
                parse(params.encode())
        if unknown := {*found["name"]} - {*rules.NAMES}:
            what = f"names the split {min(unknown)[:40]!r}, of no family"
            raise stored.refused(MEMBERSHIP_PART, "name", what)
        return found

    @cached_property
    def metadata(self) -> pd.DataFrame:
        """Image names and participants; empty if the store has no metadata."""
        try:
            stored = StoredParts(self._store, STIMULI_GROUP)
            found = stored.load(METADATA_PART, [IMAGE_NAME.name, "participant"])
        except NotConvertedError:
            found = {IMAGE_NAME.name: np.empty(0, dtype=object)}
        return pd.DataFrame(found)

    @cached_property
    def _rows(self) -> dict[Key, list[int]]:
        """Rows of the table of each imported split."""
        rows: dict[Key, list[int]] = {}
        columns = [self._table[column] for column in ("pool", "name", "splitter", "params")]
        for row, (pool, name, splitter, params) in enumerate(zip(*columns, strict=True)):
            split = Split(name, pool, splitter, json.loads(params), 0, 0, [])
            rows.setdefault((pool, name, rules.revision_of(split)), []).append(row)
        return rows

    def stored(self) -> dict[Key, Split]:
        """Imported splits, by pool, name, and revision (None but for a ``random_*``)."""
        return {key: self._imported(key) for key in self._rows}

    def _imported(self, key: Key) -> Split:
        table, rows = self._table, self._rows[key]
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
        return Split(key[1], key[0], splitter, params, *sizes, variants)

    def available(self, pool: str) -> list[str]:
        """Names of the splits of a pool that are imported or can be derived."""
        return [name for name in rules.names_of(pool) if self._newest(name, pool, None) is not None]

    def load(self, name: str, pool: str, revision: int | None = None) -> Split:
        """Return a split, imported or derived; the error for a missing split says how to add it.

        Warns once if a newer revision than the newest that is there has been published.
        """
        key = self._newest(name, pool, revision)
        if key is None:
            raise self._missing(name, pool, revision)
        if revision is None and key[2] is not None:
            _warn_if_old(name, pool, key[2])
        if key in self._rows:
            return self._imported(key)
        return rules.derive(name, pool, *rules.pool_ids(self.metadata, pool), key[2])

    def _newest(self, name: str, pool: str, revision: int | None) -> Key | None:
        """Newest revision of a split that is imported or can be derived, or the one asked for."""
        wanted: list[int | None] = [revision]
        if revision is None and name.startswith("random_"):
            # None at the end: of no published revision, added by an earlier laion_zarr.
            wanted = [*reversed(rules.revisions(pool)), None]
        for one in wanted:
            if (pool, name, one) in self._rows:
                return pool, name, one
            if rules.can_derive(name, one) and self._is_complete:  # reads the metadata
                return pool, name, one
        return None

    @cached_property
    def _is_complete(self) -> bool:
        return rules.is_complete(self.metadata)

    def _missing(self, name: str, pool: str, revision: int | None) -> NotConvertedError:
        which = f"{name!r} of the pool {pool!r}"
        which += "" if revision is None else f", revision {revision}"
        store = location(self._store)
        mend = f"Add the published splits with 'laion-zarr splits add --store {store}'."
        if name == "ood" or (name.startswith("random_") and revision in (None, 0, 1)):
            mend = (
                f"It can be derived from the metadata of all {rules.N_IMAGES:,} images with their "
                f"participants; this store has {len(self.metadata):,} images. "
            ) + (
                mend
                if revision is None or revision == rules.revisions(pool)[-1]
                else "Convert all metadata, or add files of that revision: laion-zarr splits add "
                "DIR (or a zip file)."
            )
        return NotConvertedError(f"The store {store} holds no split {which}. {mend}")


def _warn_if_old(name: str, pool: str, revision: int) -> None:
    """Warn, once in a process, that a newer revision of ``random_*`` is published."""
    newest = rules.revisions(pool)[-1]
    if revision == newest or newest in _warned:
        return
    moved = f": {rules.MOVED} images moved since, over five subjects" if revision == 1 else ""
    warnings.warn(
        f"{name} of {pool!r} is revision {revision}, and revision {newest} is published{moved}. "
        f"'laion-zarr splits add' brings it; revision={revision} says that this one is meant, "
        "without this warning.",
        stacklevel=_levels_to_caller(),
    )
    _warned.add(newest)


def _levels_to_caller() -> int:
    """Frames from the function that calls this one to the first that is not of laion_zarr."""
    frame, levels = inspect.currentframe(), 0
    while frame and frame.f_globals.get("__name__", "").startswith("laion_zarr."):
        frame, levels = frame.f_back, levels + 1
    return levels
