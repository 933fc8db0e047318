"""Names of all splits, and derivation of splits from image names alone; pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from laion_zarr._release import OOD_TYPES, SUBJECTS, is_ood, is_shared, subject_id
from laion_zarr.errors import SubjectNotFoundError

SHARED = "shared"
POOLS = (SHARED, *SUBJECTS)
FAMILIES = ("random", "cluster_k5", "tau", "ood")
NAMES = (*(f"{family}_{k}" for family in FAMILIES[:2] for k in range(5)), *FAMILIES[2:])
_DERIVED = (*(name for name in NAMES if name.startswith("random_")), "ood")
# Numbers of images of the release: from fewer images, a random split would be a different split.
_N_SHARED, _N_OOD, _N_UNIQUE = 1121, 371, 4712
N_IMAGES = _N_SHARED + _N_OOD + _N_UNIQUE * len(SUBJECTS)
_TEST_PART = 0.2


@dataclass
class SplitVariant:
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

    def all_ids(self) -> list[str]:
        """Image names of the training set, then of the test set."""
        return self.train_ids + self.test_ids


@dataclass
class Split:
    """One named split of one pool.

    Attributes
    ----------
    name : str
        Name of the split, such as ``"tau"``.
    pool : str
        ``"shared"`` or a subject id.
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

    @property
    def split_family(self) -> str:
        """Family of the split: ``"random"``, ``"cluster_k5"``, ``"tau"`` or ``"ood"``."""
        return next(family for family in FAMILIES if self.name.startswith(family))


def check_name(name: object) -> str:
    """Return the name of a split; the error for an unknown name lists all splits."""
    if name not in NAMES:
        raise ValueError(f"Unknown split {name!r}. Splits: {', '.join(NAMES)}.")
    return str(name)


def check_pool(pool: object) -> str:
    """``"shared"``, ``"sub-01"`` or ``"01"`` -> id of the pool; the error lists all pools."""
    try:
        found = pool if pool == SHARED else subject_id(pool)
    except SubjectNotFoundError:
        found = None
    if found not in POOLS:
        raise ValueError(f"Unknown pool {pool!r}. Pools: {', '.join(POOLS)}.")
    return str(found)


def check_ood_types(ood_types: str | Iterable[str] | None, name: str) -> set[str] | None:
    """OOD types to keep; refuses unknown types, and types for a split other than ``"ood"``."""
    if ood_types is None:
        return None
    if name != "ood":
        raise ValueError(f"ood_types is for the split 'ood' alone, and this is {name!r}.")
    wanted = [ood_types] if isinstance(ood_types, str) else list(ood_types)
    if unknown := [kind for kind in wanted if kind not in OOD_TYPES]:
        raise ValueError(f"Unknown OOD type {unknown[0]!r}. Types: {', '.join(OOD_TYPES)}.")
    return set(wanted)


def can_derive(name: str) -> bool:
    """Whether a split can be derived from the names of the images alone."""
    return name in _DERIVED


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
    own = ~shared & (metadata["participant"] == pool).to_numpy()
    return sorted(names[shared & ~ood | own].tolist()), sorted(names[shared & ood].tolist())


def is_complete(metadata: pd.DataFrame) -> bool:
    """Whether the metadata list all images of the release, with their participants."""
    if len(metadata) != N_IMAGES or "participant" not in metadata:
        return False
    if not metadata["image_name"].is_unique:
        return False
    counts = {pool: tuple(map(len, pool_ids(metadata, pool))) for pool in POOLS}
    subject = (_N_SHARED + _N_UNIQUE, _N_OOD)
    return counts == {SHARED: (_N_SHARED, _N_OOD)} | dict.fromkeys(SUBJECTS, subject)


def random_ids(ids: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Train and test ids of ``random_<seed>``: a fifth is drawn without replacement as test set."""
    n_test = round(_TEST_PART * len(ids))
    drawn = np.random.default_rng(seed).choice(len(ids), n_test, replace=False)
    test = sorted(drawn.tolist())
    held_out = set(test)
    return [name for n, name in enumerate(ids) if n not in held_out], [ids[n] for n in test]


def derive(name: str, pool: str, ids: Sequence[str], ood: Sequence[str]) -> Split:
    """Derive a split from image names, exactly as published."""
    if name == "ood":
        train, test, splitter = list(ids), list(ood), "ood_holdout"
        params: dict[str, Any] = {"method": "ood_dataset_holdout", "ood_types": list(OOD_TYPES)}
    else:
        seed = int(name.rpartition("_")[2])
        train, test = random_ids(ids, seed)
        splitter, params = "min_nn_stochastic", {"method": "uniform_random", "seed": seed}
    return Split(
        name, pool, splitter, params, len(train), len(test), [SplitVariant(0, train, test)]
    )
