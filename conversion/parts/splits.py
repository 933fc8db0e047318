"""Add split files of the published schema to the store; all splits are stored in one part."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from zarr.abc.store import Store

from laion_zarr import config
from laion_zarr.conversion.parts.split_checks import check_splits
from laion_zarr.conversion.source import splits as published
from laion_zarr.conversion.source.problems import damaged
from laion_zarr.conversion.write.catalogue import Catalogue
from laion_zarr.conversion.write.root import finish_root, groups_in, locked, lost_manifests
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.errors import StoreError
from laion_zarr.splits.rules import (
    NAMES,
    POOLS,
    Split,
    SplitVariant,
    generation_of,
    revision_of,
    revisions,
)
from laion_zarr.splits.stored import Key, StoredSplits
from laion_zarr.store import codec
from laion_zarr.store.manifest import parse_root, read_texts
from laion_zarr.store.objects import StoreLike, open_store
from laion_zarr.store.parts import Part, StoredParts
from laion_zarr.store.schema import MEMBERSHIP_PART, SPLIT_ARRAYS, SPLITS_GROUP

_MAY_CHECKSUMS = "may_splits.sha256"  # of later files no checksums are known
_SIDES = {"train_ids": 1, "test_ids": 2}


@dataclass
class SplitsReport:
    """Result of `add_splits`.

    Attributes
    ----------
    added : list of str
        Names of the split files that were added, such as ``"shared/tau.json"``.
    generations : dict of str to list of str
        Names of the added files by published generation, such as ``"random_* revision 1"``.
    own : list of str
        Names of the added files that are of no published generation.
    stored : list of str
        Names of all split files that the store now holds.
    """

    added: list[str] = field(default_factory=list)
    generations: dict[str, list[str]] = field(default_factory=dict)
    own: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)


@cache
def may_checksums() -> dict[str, str]:
    """SHA-256 of each split file that was published in May 2026, by name of the file."""
    text = files("laion_zarr.conversion.parts").joinpath(_MAY_CHECKSUMS).read_text()
    return {name: checksum for checksum, name in map(str.split, text.splitlines())}


def add_splits(
    source: str | Path | None = None,
    store: StoreLike | None = None,
    *,
    storage_options: dict[str, Any] | None = None,
) -> SplitsReport:
    """Add split files to the store; stored splits of other pools and names are kept.

    Parameters
    ----------
    source : str or Path, optional
        Folder, URL or zip file with ``<pool>/<name>.json``. If not provided, what is published
        today is fetched. Each file is checked by rule; revisions of a ``random_*`` are kept side by
        side, any other file replaces the one of its pool and name.
    store : str, Path or zarr.abc.store.Store, optional
        Store to add the splits to. If not provided, `laion_zarr.config.get_store`.
    storage_options : dict, optional
        Options of fsspec for a store at a URL.

    Returns
    -------
    SplitsReport

    Raises
    ------
    SourceError
        If a file does not follow the schema, does not divide the images of its pool, is a
        ``random_*`` of no published revision or against its rule, or if folds overlap; no file is
        then added.
    DataNotDownloadedError
        If there are no split files, or they cannot be fetched.
    NotConvertedError, StoreError
        If there is no store, or its root is damaged.

    Examples
    --------
    >>> from laion_zarr.conversion import add_splits
    >>> add_splits("splits")  # doctest: +SKIP
    """
    place = config.get_store() if store is None else store
    there = open_store(place, storage_options)  # read-only: a missing store is not created
    parse_root(there, read_texts(there, ["zarr.json"])[0])
    found = published.read_published() if source is None else published.read_splits(str(source))
    paths = {name: f"{source or published.PUBLISHED}/{name}" for name in found}
    splits = {name: published.parse_split(path, name, found[name]) for name, path in paths.items()}
    if source is None:
        _check_today(paths, splits)
    report = SplitsReport(sorted(found))
    for name in report.added:
        generation = _generation(name, splits[name], found[name])
        if source is None:  # whatever its text says
            generation = generation or "published today, of no known method"
        (report.generations.setdefault(generation, []) if generation else report.own).append(name)
    opened = open_store(place, storage_options, read_only=False)
    with locked(opened):
        _check(opened, paths, splits)  # beside what another command may just have added
        report.stored = _store(opened, splits, {n: codec.crc32(d) for n, d in found.items()})
    return report


def _check(store: Store, paths: Mapping[str, str], splits: Mapping[str, Split]) -> None:
    """Check added splits by rule, beside those that stay in the store."""
    there = StoredSplits(store)
    new = {_stored_as(split) for split in splits.values()}
    try:
        kept = {_stored_as(split): split for split in there.stored().values()}
    except StoreError:  # damaged, and replaced
        kept = {}
    listed = "participant" in there.metadata and there.metadata["participant"].notna().any()
    check_splits(
        {paths[name]: split for name, split in splits.items()},
        {f"the store's {name}": split for name, split in kept.items() if name not in new},
        there.metadata if listed else None,
    )


def _generation(name: str, split: Split, data: bytes) -> str | None:
    """Published generation of a file; None if of none, or if it only says that it is May's."""
    found = generation_of(split)
    if found and "May" in found and may_checksums().get(name) != hashlib.sha256(data).hexdigest():
        return None
    return found


def _check_today(paths: Mapping[str, str], splits: Mapping[str, Split]) -> None:
    """Refuse fetched ``random_*`` of another revision than the one that is published today."""
    for name, split in splits.items():
        if split.split_family == "random":
            newest, found = revisions(split.pool)[-1], revision_of(split)
            if found != newest:
                raise damaged(paths[name], f"revision {found} of random_*", f"revision {newest}")


# -- the store


def _store(store: Store, splits: Mapping[str, Split], checksums: Mapping[str, int]) -> list[str]:
    """Write the stored and the new splits as one part; returns the names of all split files."""
    catalogue, stored = _stored(store)
    before = catalogue.parts.get(MEMBERSHIP_PART)
    merged = {_stored_as(split): split for split in stored.values()}
    known = {} if before is None else before.sources
    sources = {name: dict(known.get(name) or known.get(_plain(name), {})) for name in merged}
    for name, split in splits.items():
        merged[_stored_as(split)] = split
        sources[_stored_as(split)] = {"crc32": checksums[name]}
    if before is None or dict(before.sources) != sources:
        path = catalogue.place(MEMBERSHIP_PART)
        part = write_membership(store, path, list(merged.values()), sources)
        catalogue.commit({MEMBERSHIP_PART: part})
        catalogue.tidy()
        finish_root(store, sorted({*groups_in(store), *lost_manifests(store)}))
    return sorted(sources)


def _stored_as(split: Split) -> str:
    """Name of a split in the store: that of its file, with the revision of a ``random_*``."""
    revision = revision_of(split)
    return f"{split.pool}/{split.name}{'' if revision is None else f'@{revision}'}.json"


def _plain(name: str) -> str:
    """Name without the revision, as stores of schema version 1 had it at first."""
    return re.sub(r"@\d", "", name)


def _stored(store: Store) -> tuple[Catalogue, dict[Key, Split]]:
    """Catalogue of the splits, and the stored splits; both are empty if the stored are damaged."""
    try:
        catalogue = Catalogue(store, SPLITS_GROUP)
        catalogue.recover()
        if MEMBERSHIP_PART not in catalogue.parts:
            return catalogue, {}
        stored, part = StoredParts(store, SPLITS_GROUP), catalogue.parts[MEMBERSHIP_PART]
        stored.read(part, part.files)  # compares every object with its checksum
        return catalogue, StoredSplits(store).stored()
    except StoreError:
        return Catalogue(store, SPLITS_GROUP, ignore_manifest=True), {}


def write_membership(
    store: Store, path: str, splits: Iterable[Split], sources: Mapping[str, Mapping[str, int]]
) -> Part:
    """Write splits: a table of variants, and each image's side (train, test) in each variant."""
    rows = [(split, variant) for split in sorted(splits, key=_place) for variant in split.variants]
    names, sides = _sides([variant for _, variant in rows])
    columns = {
        "pool": [split.pool for split, _ in rows],
        "name": [split.name for split, _ in rows],
        "variant_id": [variant.variant_id for _, variant in rows],
        "splitter": [split.splitter for split, _ in rows],
        "params": [json.dumps(split.params, ensure_ascii=False) for split, _ in rows],
        "image_name": names,
        "side": sides,
    }
    writer = PartWriter(store, path)
    for name, values in columns.items():
        spec = SPLIT_ARRAYS[name]
        writer.array(spec, np.asarray(values, object if spec.dtype == "string" else spec.dtype))
    writer.group({"description": "train and test images of every split; see laion_zarr.splits"})
    return writer.part(sources)


def _place(split: Split) -> tuple[int, int, int]:
    """Place of a split in the table: by pool, name and revision."""
    return POOLS.index(split.pool), NAMES.index(split.name), revision_of(split) or 0


def _sides(variants: list[SplitVariant]) -> tuple[list[str], np.ndarray]:
    """Names of all images, and the side of each image in each variant, (split, image) int8."""
    held: dict[str, list[int]] = {}
    for row, variant in enumerate(variants):
        for label in variant.all_ids():
            held.setdefault(label, []).append(row)
    # Images that are in the same variants are adjacent: a fifth of the bytes of a plain order.
    names = sorted(held, key=lambda label: (held[label], label))
    place = {label: n for n, label in enumerate(names)}
    sides = np.zeros((len(variants), len(names)), dtype=np.int8)
    for row, variant in enumerate(variants):
        for key, side in _SIDES.items():
            sides[row, [place[label] for label in getattr(variant, key)]] = side
    return names, sides
