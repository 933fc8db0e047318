"""What the stimuli are asked by: an image's name or row, or a subject's trial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from laion_zarr._schema import IMAGE, TRIAL
from laion_zarr._stimulus_handle import StimuliHandle


class Keys(ABC):
    """Labels along a dim, and the image that each of them means."""

    dim: str

    @property
    @abstractmethod
    def names(self) -> pd.Index | np.ndarray:
        """Name of the image of each label, in order."""

    @abstractmethod
    def position(self, key: Any) -> int:
        """Where a key lies along the dim."""

    @abstractmethod
    def coords(self, positions: np.ndarray | slice) -> Any:
        """Labels of some positions, as coordinates."""

    def name(self, key: Any) -> str:
        """Name of the image that a key means."""
        return self.names[self.position(key)]

    def positions(self, keys: Iterable[Any]) -> np.ndarray:
        """Where several keys lie along the dim, (key,) int."""
        return np.array([self.position(key) for key in keys], dtype=np.int64)

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

    def __init__(self, handle: StimuliHandle) -> None:
        self._handle = handle

    @property
    def names(self) -> pd.Index:
        """Names of all images."""
        return self._handle.axis

    def position(self, key: Any) -> int:
        """Row of an image."""
        if not isinstance(key, str):
            return self._checked(key, "an image name or row")
        (position,) = self._handle.axis.get_indexer(pd.Index([key], dtype=object))
        if position < 0:
            raise KeyError(
                f"{key!r} is not among the {len(self.names):,} images, such as "
                f"{', '.join(map(repr, self.names[:2]))}."
            )
        return int(position)

    def positions(self, keys: Iterable[Any]) -> np.ndarray:
        """Rows of several images, (image,) int."""
        wanted = list(keys)
        if not all(isinstance(key, str) for key in wanted):
            return super().positions(wanted)
        found = self._handle.axis.get_indexer(pd.Index(wanted, dtype=object))
        for missing in np.flatnonzero(found < 0)[:1]:
            self.position(wanted[missing])  # says so
        return found

    def coords(self, positions: np.ndarray | slice) -> dict[str, Any]:
        """Names of the images."""
        return {IMAGE: self.names[positions].to_numpy()}


class TrialKeys(Keys):
    """Trials of a subject, by global trial index.

    Parameters
    ----------
    trials : xarray.Dataset
        Labels along ``trial``, in memory.
    """

    dim = TRIAL

    def __init__(self, trials: xr.Dataset) -> None:
        self._trials = trials

    @property
    def names(self) -> np.ndarray:
        """Name of the image of each trial."""
        return self._trials["image_name"].values

    def position(self, key: Any) -> int:
        """The trial itself."""
        return self._checked(key, "a global trial index")

    def coords(self, positions: np.ndarray | slice) -> Any:
        """All labels of the trials."""
        return self._trials.isel({TRIAL: positions}).copy(deep=True).coords

    def of_sessions(self, sessions: list[str] | None) -> np.ndarray:
        """Trials of some sessions, None for all, (trial,) int."""
        if sessions is None:
            return np.arange(len(self.names))
        return np.flatnonzero(self._trials["session"].to_series().isin(sessions))
