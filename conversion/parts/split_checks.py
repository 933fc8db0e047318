"""Checks of split files by rule: every image of the pool, each on one side, folds that cover it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import pandas as pd

from laion_zarr.conversion.source.problems import damaged
from laion_zarr.errors import SourceError
from laion_zarr.splits import rules
from laion_zarr.splits.rules import Split

_Ids = tuple[list[str], list[str]]  # in-distribution and out-of-distribution images of a pool


def check_splits(splits: Mapping[str, Split], metadata: pd.DataFrame | None) -> None:
    """Refuse split files that cannot be splits of their pools.

    Parameters
    ----------
    splits : mapping of str to Split
        Splits that are added together, by path of their file.
    metadata : pandas.DataFrame or None
        Stimulus metadata of the store. Without them the images of a pool are those that most of its
        files divide.

    Raises
    ------
    SourceError
        If a file has an unknown image, lacks one, has other sizes than its rule gives, is a
        ``random_*`` of no published revision, or if the test sets of two folds overlap.
    """
    for pool in rules.POOLS:
        own = {path: split for path, split in splits.items() if split.pool == pool}
        if own:
            ids = _images(own, metadata)
            for path, split in own.items():
                _check_images(path, split, ids)
                if split.split_family == "random":
                    _check_random(path, split, ids[0])
            _check_folds(own, ids[0])


def _images(own: Mapping[str, Split], metadata: pd.DataFrame | None) -> _Ids:
    """Images of a pool, as the metadata list them, else as its files do."""
    (pool,) = {split.pool for split in own.values()}
    if metadata is not None:
        return rules.pool_ids(metadata, pool)
    divided = [tuple(sorted(ids)) for _, _, ids in _sets(own) if ids]
    most = max(divided, key=divided.count, default=())
    ood = next((split.variants[0].test_ids for split in own.values() if split.name == "ood"), [])
    return list(most), list(ood)


def _sets(own: Mapping[str, Split]) -> Iterator[tuple[str, Split, list[str]]]:
    """Path, split, and the in-distribution images that each variant divides."""
    for path, split in own.items():
        for variant in split.variants:
            ids = variant.train_ids if split.name == "ood" else variant.all_ids()
            yield path, split, ids


def _check_images(path: str, split: Split, ids: _Ids) -> None:
    """Compare the images of a split with those of its pool."""
    pool = f"the {len(ids[0]):,} images of the pool {split.pool!r}"
    for _, _, divided in _sets({path: split}):
        _compare(path, divided, ids[0], pool)
    if split.name == "ood":
        for variant in split.variants:
            _compare(path, variant.test_ids, ids[1], f"the {len(ids[1]):,} images out of it")


def _compare(path: str, found: Sequence[str], expected: Sequence[str], what: str) -> None:
    unknown, lacking = set(found) - set(expected), set(expected) - set(found)
    if unknown:
        raise damaged(path, f"{min(unknown)!r} and {len(unknown) - 1:,} others beside them", what)
    if lacking:
        raise damaged(path, f"no {min(lacking)!r}, nor {len(lacking) - 1:,} others", what)


def _check_random(path: str, split: Split, ids: list[str]) -> None:
    """Compare a ``random_*`` with the rule of its revision; of revision 2, the sizes alone."""
    revision = rules.revision_of(split)
    if revision is None:
        raise SourceError(
            f"{path}: expected a random_* of a published revision "
            f"({', '.join(map(str, rules.revisions(split.pool)))}), found splitter "
            f"{split.splitter!r} with {split.params}. 'laion-zarr splits add' without a folder "
            "brings the published one; a division of your own has no place under its name."
        )
    k = int(split.name.rpartition("_")[2])
    test = rules.random_test(len(ids), k, min(revision, 1))
    expected = rules.divided(ids, test)[1]
    for variant in split.variants:
        if len(variant.test_ids) != len(expected):
            found = f"{len(variant.test_ids):,} test images"
            raise damaged(path, found, f"{len(expected):,} by the rule of revision {revision}")
        if revision < 2 and variant.test_ids != expected:
            found = f"test images such as {min(set(variant.test_ids) - set(expected))!r}"
            raise damaged(path, found, f"those that the rule of revision {revision} gives")


def _check_folds(own: Mapping[str, Split], ids: list[str]) -> None:
    """Refuse folds of a family that overlap, or that together leave an image out."""
    families: dict[tuple[str, int | None], dict[str, set[str]]] = {}
    for path, split in own.items():
        revision = rules.revision_of(split)
        if split.split_family == "cluster_k5" or revision in (1, 2):
            folds = families.setdefault((split.split_family, revision), {})
            folds[path] = set(split.variants[0].test_ids)
    for folds in families.values():
        for (path, test), (other, its) in combinations(folds.items(), 2):
            if both := test & its:
                found = f"{min(both)!r} among the test images of {other}, too"
                raise damaged(path, found, "folds without a common image")
        if len(folds) == rules.N_FOLDS and (out := set(ids).difference(*folds.values())):
            raise damaged(next(iter(folds)), f"{min(out)!r} in no fold", "each image in one fold")
