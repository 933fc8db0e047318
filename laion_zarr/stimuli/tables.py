"""A table with several rows per image: look-up by image name, rows in table order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from laion_zarr._repr import Shown
from laion_zarr.arrays.select import is_one
from laion_zarr.stimuli.handle import StimuliHandle
from laion_zarr.stimuli.keys import Keys
from laion_zarr.store.schema import TRIAL


class ImageTable(Shown):
    """Rows of a table, by image.

    Parameters
    ----------
    handle : StimuliHandle
        The open stimuli.
    keys : Keys
        Image names or rows, or a subject's trials, by which images are looked up.
    part : str
        Part that holds the table.
    """

    def __init__(self, handle: StimuliHandle, keys: Keys, part: str) -> None:
        handle.part(part)
        self._handle = handle
        self._keys = keys
        self._part = part

    def _shown(self, rows: str, next_call: str) -> dict[str, Any]:
        """Facts: how many rows, of how many of the images (or of a subject's trials)."""
        there = int(self._keys.names.isin(list(self._rows_by_image)).sum())
        every = len(self._keys.names)
        return {
            "Table": f"{len(self):,} {rows} of {len(self._rows_by_image):,} images",
            "Here": f"{there:,} of {every:,} {self._keys.dim}s have some",
            "Next": next_call.format(self._keys.dim),
        }

    @property
    def metadata(self) -> pd.DataFrame:
        """The whole table, as in the release's CSV; text is never parsed as a missing value."""
        return self._handle.table(self._part).copy()

    def __len__(self) -> int:
        return len(self._handle.table(self._part))

    def __contains__(self, key: object) -> bool:
        try:
            return self._keys.name(key) in self._rows_by_image
        except (KeyError, IndexError, TypeError):
            return False

    def images(self) -> list[str]:
        """Names of images with rows (for a subject: only images it saw), in table order."""
        return [name for name in self._rows_by_image if name in self._keys.names]

    @property
    def _rows_by_image(self) -> dict[str, np.ndarray]:
        return self._handle.rows_by_image(self._part)

    def _rows(self, key: Any, by: str | None = None) -> pd.DataFrame:
        """Table rows of one or several images, image by image, each sorted by a column.

        For a list of trials, the first column is ``trial``. Empty if no image has rows.
        """
        table, none = self._handle.table(self._part), np.empty(0, dtype=np.int64)
        positions = self._keys.positions(key)
        found = [self._rows_by_image.get(name, none) for name in self._keys.names[positions]]
        if by is not None:
            order = table[by].to_numpy()
            found = [rows[np.argsort(order[rows], kind="stable")] for rows in found]
        chosen = table.iloc[np.concatenate([none, *found])].reset_index(drop=True)
        if not is_one(key) and self._keys.dim == TRIAL:
            chosen.insert(0, TRIAL, np.repeat(positions, [len(rows) for rows in found]))
        return chosen
