"""What the stimuli are asked by: an image's name or row, or a subject's trial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from laion_zarr._query import Query
from laion_zarr._schema import IMAGE, TRIAL
from laion_zarr._stimulus_handle import StimuliHandle


class Keys(ABC):
    """Labels along a dim, and the image that each of them means.

    Parameters
    ----------
    handle : StimuliHandle
        The open stimuli.
    """

    dim: str

    def __init__(self, handle: StimuliHandle) -> None:
        self._handle = handle
        self._rows: dict[int, tuple[pd.Index, np.ndarray]] = {}

    @property
    @abstractmethod
    def names(self) -> pd.Index:
        """Name of the image of each label, in order."""

    @abstractmethod
    def position(self, key: Any) -> int:
        """Where a key lies along the dim."""

    @abstractmethod
    def _labels(self, positions: np.ndarray) -> xr.Dataset:
        """Labels of some positions."""

    def labelled(self, name: str, values: xr.Variable, positions: np.ndarray) -> xr.DataArray:
        """Values whose first axis is at some positions, with the labels of these."""
        return self._labels(positions).assign({name: values})[name]

    def name(self, key: Any) -> str:
        """Name of the image that a key means."""
        return self.names[self.position(key)]

    def positions(self, keys: Iterable[Any]) -> np.ndarray:
        """Where several keys lie along the dim, (key,) int."""
        return np.array([self.position(key) for key in keys], dtype=np.int64)

    def everywhere(self) -> np.ndarray:
        """All positions along the dim."""
        return np.arange(len(self.names))

    def rows(self, part: str) -> np.ndarray:
        """Row of each label's image in a part, -1 where it has none; looked up once."""
        own = self._handle.names(part)  # kept by the handle, and the same for most parts
        if id(own) not in self._rows:
            same = own is self.names
            found = np.arange(len(own)) if same else own.get_indexer(self.names)
            self._rows[id(own)] = own, found
        return self._rows[id(own)][1]

    def _checked(self, key: Any, what: str) -> int:
        """An integer key within bounds."""
        if isinstance(key, bool) or not isinstance(key, Integral):
            raise TypeError(f"Expected {what}, got {key!r}.")
        if not 0 <= (position := int(key)) < len(self.names):
            raise IndexError(f"{key} is out of range: {len(self.names):,} of them, from 0.")
        return position


class ImageKeys(Keys):
    """Images of the dataset, by name or by row of the metadata."""

    dim = IMAGE

    @property
    def names(self) -> pd.Index:
        """Names of all images."""
        return self._handle.axis

    def position(self, key: Any) -> int:
        """Row of an image."""
        if not isinstance(key, str):
            return self._checked(key, "an image name or row")
        return int(self.positions([key])[0])

    def positions(self, keys: Iterable[Any]) -> np.ndarray:
        """Rows of several images, (image,) int."""
        wanted = list(keys)
        if not all(isinstance(key, str) for key in wanted):
            return super().positions(wanted)
        found = self.names.get_indexer(pd.Index(wanted, dtype=object))
        for missing in np.flatnonzero(found < 0)[:1]:
            raise KeyError(
                f"{wanted[missing]!r} is not among the {len(self.names):,} images, such as "
                f"{', '.join(map(repr, self.names[:2]))}."
            )
        return found

    def _labels(self, positions: np.ndarray) -> xr.Dataset:
        return xr.Dataset(coords={IMAGE: self.names[positions].to_numpy()})


class TrialKeys(Keys):
    """Trials of a subject, by global trial index.

    Parameters
    ----------
    handle : StimuliHandle
        The open stimuli.
    query : Query
        Knows the trials.
    """

    dim = TRIAL

    def __init__(self, handle: StimuliHandle, query: Query) -> None:
        super().__init__(handle)
        self._query = query
        self._names = pd.Index(query.lazy["image_name"].values, dtype=object)

    @property
    def names(self) -> pd.Index:
        """Name of the image of each trial."""
        return self._names

    def position(self, key: Any) -> int:
        """The trial itself."""
        return self._checked(key, "a global trial index")

    def _labels(self, positions: np.ndarray) -> xr.Dataset:
        return self._query.trial_axis(positions)

    def of_session(self, session: str | None) -> np.ndarray:
        """Trials of one session, None for all, (trial,) int."""
        if session is None:
            return self.everywhere()
        ids = self._query.session_ids(session)
        return self._query.trials(ids, None, None, None)
