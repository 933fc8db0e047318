"""Checks of split files by rule: every image of the pool, each on one side, folds that cover it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd

from laion_zarr.conversion.source.problems import damaged
from laion_zarr.errors import SourceError
from laion_zarr.splits import rules
from laion_zarr.splits.rules import Split

_Ids = tuple[list[str], list[str]]  # in-distribution and out-of-distribution images of a pool


def check_splits(
    added: Mapping[str, Split], kept: Mapping[str, Split], metadata: pd.DataFrame | None
) -> None:
    """Refuse split files that cannot be splits of their pools.

    Parameters
    ----------
    added : mapping of str to Split
        Splits that are added together, by path of their file.
    kept : mapping of str to Split
        Stored splits that stay beside them, by name in the store.
    metadata : pandas.DataFrame or None
        Stimulus metadata of the store. Without them the images of a pool are those that most of its
        splits divide.

    Raises
    ------
    SourceError
        If a file has an unknown image, lacks one, has other sizes or parameters than its rule
        gives, is a ``random_*`` of no published revision, or if test sets of two folds overlap.
    """
    for pool in rules.POOLS:
        new = {path: split for path, split in added.items() if split.pool == pool}
        beside = {name: split for name, split in kept.items() if split.pool == pool}
        if new:
            ids = _images(new | beside, metadata)
            for path, split in new.items():
                if split.split_family == "random":
                    _check_revision(path, split)
                _check_images(path, split, ids)
                _check_sides(path, split, ids[0])
            _check_folds(new, beside, ids[0])


def _images(own: Mapping[str, Split], metadata: pd.DataFrame | None) -> _Ids:
    """Images of a pool, as the metadata list them, else as its splits do."""
    (pool,) = {split.pool for split in own.values()}
    if metadata is not None:
        return rules.pool_ids(metadata, pool)
    divided = [tuple(sorted(ids)) for split in own.values() for ids in _divided(split)]
    most = max(divided, key=divided.count, default=())
    ood = next((split.variants[0].test_ids for split in own.values() if split.name == "ood"), [])
    return list(most), list(ood)


def _divided(split: Split) -> list[list[str]]:
    """In-distribution images that each variant of a split divides."""
    return [one.train_ids if split.name == "ood" else one.all_ids() for one in split.variants]


def _check_images(path: str, split: Split, ids: _Ids) -> None:
    """Compare the images of a split with those of its pool."""
    for divided in _divided(split):
        _compare(path, divided, ids[0], f"the {len(ids[0]):,} images of the pool {split.pool!r}")
    if split.name == "ood":
        what = f"the {len(ids[1]):,} images out of distribution"
        for variant in split.variants:
            _compare(path, variant.test_ids, ids[1], what)


def _compare(path: str, found: Sequence[str], expected: Sequence[str], what: str) -> None:
    unknown, lacking = set(found) - set(expected), set(expected) - set(found)
    if unknown or lacking:
        words = f"{min(unknown)!r}" if unknown else f"no {min(lacking)!r}"
        more = len(unknown or lacking) - 1
        raise SourceError(
            f"{path}: expected {what}, found {words}{f' (and {more:,} more)' if more else ''}. "
            "Either the file is damaged or of another dataset, or the stimulus metadata of the "
            "store are: compare them, then add the files that go with the store."
        )


def _check_revision(path: str, split: Split) -> None:
    """Refuse a ``random_*`` of no published revision, or with other parameters than published."""
    revision = rules.revision_of(split)
    if revision is None:
        raise SourceError(
            f"{path}: expected a random_* of a published revision "
            f"({', '.join(map(str, rules.revisions(split.pool)))}), found splitter "
            f"{split.splitter!r} with {split.params}. 'laion-zarr splits add' without a folder "
            "brings the published one; a division of your own has no place under its name."
        )
    expected = rules.random_params(rules.fold_of(split.name), revision)
    if {key: split.params.get(key) for key in expected} != expected:
        raise damaged(path, f"params {split.params}", f"{expected} in revision {revision}")
    if [variant.variant_id for variant in split.variants] != [0]:
        raise damaged(path, "other variants", "the variant 0 alone")


def _check_sides(path: str, split: Split, ids: list[str]) -> None:
    """Compare the test images of a published split with its rule, as far as there is one."""
    for variant in split.variants:
        test = set(variant.test_ids)
        if split.split_family == "random":
            revision = rules.revision_of(split)
            expected = _ruled(split.name, revision, ids)
            _check_size(path, len(test), len(expected), ids)
            most, moved = rules.MOVED if revision == 2 else 0, len(test - expected)
            if moved > most:
                found = f"{moved:,} test images that the rule does not give"
                raise damaged(path, found, f"at most {most} in revision {revision}")
        elif split.name == "tau" and rules.generation_of(split):
            _check_size(path, len(test), round(rules.TEST_PART * len(ids)), ids)
        elif split.split_family == "cluster_k5" and rules.generation_of(split) and not test:
            raise damaged(path, "no test image", "one of five clusters of the pool's images")


def _check_size(path: str, found: int, expected: int, ids: list[str]) -> None:
    if found != expected:
        what = f"{expected:,} by the rule for {len(ids):,} images"
        raise damaged(path, f"{found:,} test images", what)


def _ruled(name: str, revision: int | None, ids: list[str]) -> set[str]:
    """Test images of a ``random_*`` by the rule of its revision; of revision 2, by revision 1's."""
    positions = rules.random_test(len(ids), rules.fold_of(name), min(revision or 0, 1))
    return {ids[n] for n in positions}


def _check_folds(new: Mapping[str, Split], beside: Mapping[str, Split], ids: list[str]) -> None:
    """Refuse folds of a family that overlap, or that together leave an image out."""
    families: dict[tuple[str, int | None], dict[str, set[str]]] = {}
    for path, split in {**new, **beside}.items():
        revision = rules.revision_of(split)
        if split.split_family == "cluster_k5" or revision in (1, 2):
            folds = families.setdefault((split.split_family, revision), {})
            folds[path] = {label for one in split.variants for label in one.test_ids}
    for folds in families.values():
        for (path, test), (other, its) in combinations(folds.items(), 2):
            if path in new and (both := test & its):
                found = f"{min(both)!r} among the test images of {other}, too"
                raise damaged(path, found, "folds without a common image")
        changed = next((path for path in folds if path in new), None)
        out = set(ids).difference(*folds.values())
        if changed and out and len(folds) == rules.N_FOLDS:
            raise damaged(changed, f"{min(out)!r} in no fold", "each image in one fold")
