"""Names and revisions of all splits, and splits that follow from image names; pure functions.

The published ``random_*`` have changed twice. Revision 0 (May 2026) draws a fifth of a pool for
each split. Revision 1 cuts one permutation of the pool into five folds. Revision 2, of the
subjects' pools alone, moves 66 images of revision 1, so that duplicate pictures share a fold; which
images is known from the published files only.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
import pandas as pd

from laion_zarr._release import OOD_TYPES, SUBJECTS, is_ood, is_shared, subject_id
from laion_zarr._repr import Shown
from laion_zarr.errors import SubjectNotFoundError, UnknownNameError, nearest

SHARED = "shared"
POOLED = "pooled"  # all regular images together, for work across subjects
POOLS = (SHARED, *SUBJECTS, POOLED)
N_FOLDS = 5  # of random_* since revision 1, and of cluster_k5_*
FAMILIES = ("random", "cluster_k5", "tau", "ood")
NAMES = (*(f"{family}_{k}" for family in FAMILIES[:2] for k in range(N_FOLDS)), *FAMILIES[2:])
_OF_POOLED = tuple(name for name in NAMES if name == "tau" or name.startswith("cluster_k5"))
# Numbers of images of the release: from fewer images, a random split would be a different split.
_N_SHARED, _N_OOD, _N_UNIQUE = 1121, 371, 4712
N_IMAGES = _N_SHARED + _N_OOD + _N_UNIQUE * len(SUBJECTS)
TEST_PART, _SEED = 0.2, 42
# Splitter and method of each revision of ``random_*``, as split files name them.
_DRAWN, FOLDED = ("min_nn_stochastic", "uniform_random"), ("random_kfold", "shuffled_5fold_cv")
MOVED = 66  # images that revision 2 moved, over five subjects


@dataclass(repr=False)
class SplitVariant(Shown):
    """One division of a pool's images.

    Attributes
    ----------
    variant_id : int
        Number of the division within its split; usually 0.
    train_ids, test_ids : list of str
        Image names, sorted as plain strings.
    """

    variant_id: int
    train_ids: list[str]
    test_ids: list[str]

    def _heading(self) -> str:
        return f"SplitVariant {self.variant_id}"

    def _facts(self) -> dict[str, Any]:
        return {
            "Train": f"{len(self.train_ids):,} images",
            "Test": f"{len(self.test_ids):,} images",
            "Next": ".train_ids, .test_ids, .all_ids()",
        }

    def all_ids(self) -> list[str]:
        """Image names of the training set, then of the test set."""
        return self.train_ids + self.test_ids


@dataclass(repr=False)
class Split(Shown):
    """One named split of one pool.

    Attributes
    ----------
    name : str
        Name of the split, such as ``"tau"``.
    pool : str
        ``"shared"``, a subject id, or ``"pooled"``.
    splitter : str
        Method that made the split, as named in the published split file.
    params : dict
        Parameters of that method, from the split file.
    n_train, n_test : int
        Number of images in the training and test sets.
    variants : list of SplitVariant
        Divisions of the pool's images; usually one.
    """

    name: str
    pool: str
    splitter: str
    params: dict[str, Any]
    n_train: int
    n_test: int
    variants: list[SplitVariant]

    def _heading(self) -> str:
        return f"Split {self.name} of {self.pool}"

    def _facts(self) -> dict[str, Any]:
        return {
            "Train": f"{self.n_train:,} images",
            "Test": f"{self.n_test:,} images",
            "Made by": f"{self.splitter} {self.params or ''}".strip(),
            "Next": f"get_split_masks(betas, {self.name!r}, pool={self.pool!r})",
        }

    @property
    def split_family(self) -> str:
        """Family of the split: ``"random"``, ``"cluster_k5"``, ``"tau"`` or ``"ood"``."""
        return next(family for family in FAMILIES if self.name.startswith(family))


def names_of(pool: str) -> tuple[str, ...]:
    """Names of the splits of a pool, in the order of `NAMES`."""
    return _OF_POOLED if pool == POOLED else NAMES


def check_name(name: object, pool: str | None = None) -> str:
    """Return the name of a split; the error for an unknown name lists the splits of the pool."""
    names = NAMES if pool is None else names_of(pool)
    if name not in names:
        where = "" if pool is None else f" of the pool {pool!r}"
        hint = nearest(name, names)
        raise UnknownNameError(f"Unknown split {name!r}{where}.{hint} Splits: {', '.join(names)}.")
    return str(name)


def revisions(pool: str) -> tuple[int, ...]:
    """Revisions of ``random_*`` of a pool, oldest first; the last one is what is published."""
    return {SHARED: (0, 1), POOLED: ()}.get(pool, (0, 1, 2))


def check_revision(revision: SupportsIndex | None, name: str, pool: str) -> int | None:
    """Return a revision; None for None, and for a split that has no revisions.

    The error for an unknown revision lists those of the split.
    """
    there = revisions(pool) if name.startswith("random_") else (0, 1, 2)
    if revision is None:
        return None
    if not isinstance(revision, bool) and isinstance(revision, SupportsIndex):
        revision = operator.index(revision)
    if type(revision) is not int or revision not in there:
        raise ValueError(
            f"Unknown revision {revision!r} of {name} of the pool {pool!r}. Revisions: "
            f"{', '.join(map(str, there))}."
        )
    return revision if name.startswith("random_") else None


def revision_of(split: Split) -> int | None:
    """Revision of a ``random_*``, by the method that its file names; None for any other split."""
    method = (split.splitter, split.params.get("method"))
    if split.split_family != "random" or method not in (_DRAWN, FOLDED):
        return None
    found = 0 if method == _DRAWN else split.params.get("revision", 1)
    return found if type(found) is int and found in revisions(split.pool) else None


def generation_of(split: Split) -> str | None:
    """Published generation of a split, by the method that its file names; None if of none."""
    if split.split_family == "random":
        revision = revision_of(split)
        return None if revision is None else f"random_* revision {revision}"
    method = split.params.get("method")
    match (split.split_family, split.splitter, method):
        case ("ood", "ood_holdout", "ood_dataset_holdout"):
            return "ood of every generation"
        case ("cluster_k5", "min_nn_stochastic", "kmeans_clip_k5_holdout"):
            return "cluster_k5 of May 2026"
        case ("cluster_k5", "kmeans_cluster_holdout", _):
            return "cluster_k5 of September 2026"
        case ("tau", "min_nn_stochastic", "min_nn_filter + stochastic_mmd_swap"):
            month = "September" if "duplicate_images_in_training" in split.params else "May"
            return f"tau of {month} 2026"
    return None


def check_pool(pool: object) -> str:
    """``"shared"``, ``"01"``, … -> id of the pool; the error for an unknown pool lists all."""
    try:
        found = pool if pool in (SHARED, POOLED) else subject_id(pool)
    except SubjectNotFoundError:
        found = None
    if found not in POOLS:
        raise UnknownNameError(f"Unknown pool {pool!r}. Pools: {', '.join(POOLS)}.")
    return str(found)


def check_ood_types(ood_types: str | Iterable[str] | None, name: str) -> set[str] | None:
    """OOD types to keep; refuses unknown types, and types for a split other than ``"ood"``."""
    if ood_types is None:
        return None
    if name != "ood":
        raise ValueError(f"ood_types is for the split 'ood' alone, and this is {name!r}.")
    wanted = [ood_types] if isinstance(ood_types, str) else list(ood_types)
    if unknown := [kind for kind in wanted if kind not in OOD_TYPES]:
        raise UnknownNameError(f"Unknown OOD type {unknown[0]!r}. Types: {', '.join(OOD_TYPES)}.")
    return set(wanted)


def can_derive(name: str, revision: int | None) -> bool:
    """Whether a split follows from image names alone: ``ood``, and revisions 0 and 1."""
    return name == "ood" or revision in (0, 1)


def pool_ids(metadata: pd.DataFrame, pool: str) -> tuple[list[str], list[str]]:
    """In-distribution images of a pool, and all OOD images, each sorted as plain strings.

    Parameters
    ----------
    metadata : pandas.DataFrame
        Stimulus metadata, with ``image_name`` and ``participant``.
    pool : str
        One of `POOLS`.

    Returns
    -------
    ids, ood : list of str
    """
    names = metadata["image_name"].to_numpy()
    shared = np.array([is_shared(name) for name in names], dtype=bool)
    ood = np.array([is_ood(name) for name in names], dtype=bool)
    own = ~shared
    if pool != POOLED:
        own &= (metadata["participant"] == pool).to_numpy()
    return sorted(names[shared & ~ood | own].tolist()), sorted(names[shared & ood].tolist())


def is_complete(metadata: pd.DataFrame) -> bool:
    """Whether the metadata list all images of the release, with their participants."""
    if len(metadata) != N_IMAGES or "participant" not in metadata:
        return False
    if not metadata["image_name"].is_unique:
        return False
    pools = (SHARED, *SUBJECTS)
    counts = {pool: tuple(map(len, pool_ids(metadata, pool))) for pool in pools}
    subject = (_N_SHARED + _N_UNIQUE, _N_OOD)
    return counts == {SHARED: (_N_SHARED, _N_OOD)} | dict.fromkeys(SUBJECTS, subject)


def fold_of(name: str) -> int:
    """Number of a ``random_*``: ``"random_3"`` -> 3."""
    return int(name.rpartition("_")[2])


def random_params(k: int, revision: int) -> dict[str, Any]:
    """Parameters of ``random_<k>`` of a revision, as published."""
    if revision == 0:
        return {"method": _DRAWN[1], "seed": k}
    own = {} if revision == 1 else {"revision": revision}
    return {"method": FOLDED[1], "k": N_FOLDS, "seed": _SEED, "fold": k} | own


def random_test(n_images: int, k: int, revision: int) -> np.ndarray:
    """Positions of the test images of ``random_<k>`` in a sorted pool, ascending, (image,) int.

    Parameters
    ----------
    n_images : int
        Images of the pool.
    k : int
        Number of the split, 0 to 4.
    revision : {0, 1}
        0: a fifth, drawn without replacement, seed `k`. 1: fold `k` of one permutation, seed 42.
    """
    if revision == 0:
        n_test = round(TEST_PART * n_images)
        return np.sort(np.random.default_rng(k).choice(n_images, n_test, replace=False))
    permuted = np.random.default_rng(_SEED).permutation(n_images)
    return np.sort(np.array_split(permuted, N_FOLDS)[k])


def divided(ids: Sequence[str], test: np.ndarray) -> tuple[list[str], list[str]]:
    """Names of the training and of the test images, from positions of the test images."""
    held_out = set(test.tolist())
    return [name for n, name in enumerate(ids) if n not in held_out], [ids[n] for n in test]


def derive(
    name: str, pool: str, ids: Sequence[str], ood: Sequence[str], revision: int | None = None
) -> Split:
    """Derive a split from image names: ``ood``, or revision 0 or 1 of a ``random_*``.

    What is published of `pool` comes exactly as published; a subject's revision 1, which is no
    longer, says so in ``params["revision"]``.
    """
    params: dict[str, Any]
    if name == "ood":
        train, test, splitter = list(ids), list(ood), "ood_holdout"
        params = {"method": "ood_dataset_holdout", "ood_types": list(OOD_TYPES)}
    else:
        k = fold_of(name)
        train, test = divided(ids, random_test(len(ids), k, revision or 0))
        splitter, params = (FOLDED if revision else _DRAWN)[0], random_params(k, revision or 0)
        if revision and revision != revisions(pool)[-1]:
            params["revision"] = revision
    return Split(
        name, pool, splitter, params, len(train), len(test), [SplitVariant(0, train, test)]
    )
