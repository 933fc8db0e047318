"""A table with rows for each image: looked up by name, in the table's own order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from laion_zarr.stimuli.handle import StimuliHandle
from laion_zarr.stimuli.keys import Keys


class ImageTable:
    """Rows of a table, by image.

    Parameters
    ----------
    handle : StimuliHandle
        The open stimuli.
    keys : Keys
        What the images are asked by.
    part : str
        Part that holds the table.
    """

    def __init__(self, handle: StimuliHandle, keys: Keys, part: str) -> None:
        handle.part(part)
        self._handle = handle
        self._keys = keys
        self._part = part

    @property
    def metadata(self) -> pd.DataFrame:
        """The whole table, as in the release's CSV; text is taken literally."""
        return self._handle.table(self._part).copy()

    def __len__(self) -> int:
        return len(self._handle.table(self._part))

    def __contains__(self, key: object) -> bool:
        try:
            return not self._rows(key).empty
        except (KeyError, IndexError, TypeError):
            return False

    def images(self) -> list[str]:
        """Names of the images (for a subject: of those seen) with rows, as they first occur."""
        return [name for name in self._rows_by_image if name in self._keys.names]

    @property
    def _rows_by_image(self) -> dict[str, np.ndarray]:
        return self._handle.rows_by_image(self._part)

    def _rows(self, key: Any) -> pd.DataFrame:
        """Rows of one image; none where the table has none."""
        none = np.empty(0, dtype=np.int64)
        rows = self._rows_by_image.get(self._keys.name(key), none)
        return self._handle.table(self._part).iloc[rows].reset_index(drop=True)
