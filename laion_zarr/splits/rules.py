"""Which splits there are, and how those are made that follow from the images' names. Pure."""

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
# What the release has: from fewer images, a split by chance would be another one.
_N_SHARED, _N_OOD, _N_UNIQUE = 1121, 371, 4712
N_IMAGES = _N_SHARED + _N_OOD + _N_UNIQUE * len(SUBJECTS)
_TEST_PART = 0.2


@dataclass
class SplitVariant:
    """One division of a pool's images.

    Attributes
    ----------
    variant_id : int
        Which of the split's divisions; 0 as a rule.
    train_ids, test_ids : list of str
        Image names, sorted as plain strings.
    """

    variant_id: int
    train_ids: list[str]
    test_ids: list[str]

    def all_ids(self) -> list[str]:
        """Train, then test."""
        return self.train_ids + self.test_ids


@dataclass
class Split:
    """One named split of one pool.

    Attributes
    ----------
    name : str
        Such as ``"tau"``.
    pool : str
        ``"shared"`` or a subject id.
    splitter : str
        How it was made, as its file says.
    params : dict
        The same, in numbers.
    n_train, n_test : int
        Images on either side.
    variants : list of SplitVariant
        Its divisions; one, as a rule.
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
        """``"random"``, ``"cluster_k5"``, ``"tau"`` or ``"ood"``."""
        return next(family for family in FAMILIES if self.name.startswith(family))


def check_name(name: object) -> str:
    """A split's name, or the error that lists them."""
    if name not in NAMES:
        raise ValueError(f"Unknown split {name!r}. Splits: {', '.join(NAMES)}.")
    return str(name)


def check_pool(pool: object) -> str:
    """``"shared"``, ``"sub-01"`` or ``"01"`` -> the pool's id, or the error that lists them."""
    try:
        found = pool if pool == SHARED else subject_id(pool)
    except SubjectNotFoundError:
        found = None
    if found not in POOLS:
        raise ValueError(f"Unknown pool {pool!r}. Pools: {', '.join(POOLS)}.")
    return str(found)


def check_ood_types(ood_types: str | Iterable[str] | None, name: str) -> set[str] | None:
    """Types to keep, or the error that lists them; only for the split ``"ood"``."""
    if ood_types is None:
        return None
    if name != "ood":
        raise ValueError(f"ood_types is for the split 'ood' alone, and this is {name!r}.")
    wanted = [ood_types] if isinstance(ood_types, str) else list(ood_types)
    if unknown := [kind for kind in wanted if kind not in OOD_TYPES]:
        raise ValueError(f"Unknown OOD type {unknown[0]!r}. Types: {', '.join(OOD_TYPES)}.")
    return set(wanted)


def can_derive(name: str) -> bool:
    """Whether a split follows from the names of the images alone."""
    return name in _DERIVED


def pool_ids(metadata: pd.DataFrame, pool: str) -> tuple[list[str], list[str]]:
    """Images of a pool, and those out of distribution, each sorted as plain strings.

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
    """Whether these are all images of the release, and the participants known."""
    if len(metadata) != N_IMAGES or "participant" not in metadata:
        return False
    if not metadata["image_name"].is_unique:
        return False
    counts = {pool: tuple(map(len, pool_ids(metadata, pool))) for pool in POOLS}
    subject = (_N_SHARED + _N_UNIQUE, _N_OOD)
    return counts == {SHARED: (_N_SHARED, _N_OOD)} | dict.fromkeys(SUBJECTS, subject)


def random_ids(ids: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Train and test ids of ``random_<seed>``: a fifth of the sorted pool, drawn without return."""
    n_test = round(_TEST_PART * len(ids))
    drawn = np.random.default_rng(seed).choice(len(ids), n_test, replace=False)
    test = sorted(drawn.tolist())
    held_out = set(test)
    return [name for n, name in enumerate(ids) if n not in held_out], [ids[n] for n in test]


def derive(name: str, pool: str, ids: Sequence[str], ood: Sequence[str]) -> Split:
    """A split that follows from the names, exactly as published."""
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
