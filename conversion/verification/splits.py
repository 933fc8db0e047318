"""Checks of the train/test splits: lengths, unique image names, valid sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from laion_zarr.conversion.verification.checks import Check
from laion_zarr.store.objects import location
from laion_zarr.store.schema import MEMBERSHIP_PART, SPLIT_ARRAYS, SPLITS_GROUP

_PATH = f"{SPLITS_GROUP}/{MEMBERSHIP_PART}"


@dataclass
class SplitChecks:
    """Checks of the splits.

    Attributes
    ----------
    check : Check
        Verification that these checks belong to.
    """

    check: Check

    def contents(self) -> None:
        """Check lengths, unique image names, valid sides, and a side for every image."""
        arrays = {name: self.check.array(f"{_PATH}/{name}") for name in SPLIT_ARRAYS}
        side, names = arrays.pop("side"), arrays.pop("image_name")
        rows = {len(values) for values in arrays.values()}
        if side.shape != (rows.pop(), len(names)) or rows:
            self._problem("rows differ")
        elif len(set(names.tolist())) < len(names):
            self._problem("an image occurs twice")
        elif not np.isin(side, (0, 1, 2)).all() or not side.any(axis=0).all():
            self._problem("a side is neither train nor test, or an image is on none")

    def values(self) -> None:
        """Compare nothing: split files are not in the mirror, and were checked when added."""

    def _problem(self, what: str) -> None:
        where = location(self.check.store, _PATH)
        self.check.problem(f"{where}: {what}. Add the splits again with 'laion-zarr splits add'.")
