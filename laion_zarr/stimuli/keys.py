"""Keys of stimulus data: an image's name or row, or a subject's trial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from numbers import Integral
from typing import Any, SupportsIndex

import numpy as np
import pandas as pd
import xarray as xr

from laion_zarr._release import Ids
from laion_zarr.arrays.query import Query
from laion_zarr.arrays.select import as_list
from laion_zarr.stimuli.handle import StimuliHandle
from laion_zarr.store.schema import IMAGE, TRIAL

# Name, row or trial of one image; whole numbers of numpy, too, which are no int to type checkers.
Key = str | SupportsIndex

_SENT = ("_handle", "_query")


class Keys(ABC):
    """Labels along a dim, and the image of each label.

    Parameters
    ----------
    handle : StimuliHandle
        The open stimuli.
    """

    dim: str

    def __init__(self, handle: StimuliHandle) -> None:
        self._handle = handle
        self._rows: dict[str, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Cached look-ups are not pickled: the receiving process repeats them.
        return {name: its for name, its in self.__dict__.items() if name in _SENT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _rows={})

    @property
    @abstractmethod
    def names(self) -> pd.Index:
        """Image name of each label, in the order of the labels."""

    @abstractmethod
    def position(self, key: Any) -> int:
        """Position of a key along the dim."""

    @abstractmethod
    def _labels(self, positions: np.ndarray) -> xr.Dataset:
        """Labels at positions along the dim, as coordinates."""

    def labelled(self, name: str, values: xr.Variable, positions: np.ndarray) -> xr.DataArray:
        """Add the labels at `positions`, which belong to the first axis of `values`."""
        return self._labels(positions).assign({name: values})[name]

    def said(self, part: str) -> str:
        """How many labels there are, and how many of them have no image in a part."""
        missing = int((self.rows(part) < 0).sum())
        return f"{len(self.names):,} {self.dim}s" + (f", {missing:,} without" if missing else "")

    def name(self, key: Any) -> str:
        """Image name of a key."""
        return self.names[self.position(key)]

    def positions(self, keys: Any) -> np.ndarray:
        """Positions of one or several keys along the dim, (key,) int."""
        return np.array([self.position(key) for key in as_list(keys)], dtype=np.int64)

    def everywhere(self) -> np.ndarray:
        """All positions along the dim."""
        return np.arange(len(self.names))

    def rows(self, part: str) -> np.ndarray:
        """Row in a part of each label's image, -1 for an image without a row; cached."""
        if part not in self._rows:
            own = self._handle.each_once(part)
            same = own is self.names
            self._rows[part] = np.arange(len(own)) if same else own.get_indexer(self.names)
        return self._rows[part]

    def _checked(self, key: Any, what: str) -> int:
        """Return an integer key; raises TypeError for another type, IndexError out of bounds."""
        if isinstance(key, bool) or not isinstance(key, Integral):
            raise TypeError(f"Expected {what}, got {key!r}.{self._by_name(key)}")
        if not 0 <= (position := int(key)) < len(self.names):
            last = f"0 to {len(self.names) - 1:,}" if len(self.names) else "none"
            raise IndexError(f"{self.dim} {key} is out of range: there are {last}.")
        return position

    def _by_name(self, key: object) -> str:
        """What to do about an image name where a number is expected, for an error."""
        return ""


class ImageKeys(Keys):
    """Images of the dataset, by name or by row of the metadata."""

    dim = IMAGE

    @property
    def names(self) -> pd.Index:
        """Names of all images."""
        return self._handle.axis

    def position(self, key: Any) -> int:
        """Row of an image, by name or row."""
        if not isinstance(key, str):
            return self._checked(key, "an image name or row")
        return int(self.positions([key])[0])

    def positions(self, keys: Any) -> np.ndarray:
        """Rows of one or several images, (image,) int."""
        wanted = as_list(keys)
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
        Selections of the subject, with the labels of its trials.
    """

    dim = TRIAL

    def __init__(self, handle: StimuliHandle, query: Query) -> None:
        super().__init__(handle)
        self._query = query

    @cached_property
    def names(self) -> pd.Index:
        """Image name of each trial."""
        return pd.Index(self._query.lazy["image_name"].values, dtype=object)

    def position(self, key: Any) -> int:
        """Position of a trial: the global trial index itself, checked."""
        return self._checked(key, "a global trial index")

    def _by_name(self, key: object) -> str:
        trials = np.flatnonzero(self.names == key)[:3].tolist() if isinstance(key, str) else []
        if trials:
            return (
                f" It was shown in trial {', '.join(map(str, trials))}{', …' * (len(trials) > 2)}."
            )
        return " load_stimuli() takes image names." if isinstance(key, str) else ""

    def _labels(self, positions: np.ndarray) -> xr.Dataset:
        return self._query.trial_axis(positions)

    def of_session(self, session: Ids | None) -> np.ndarray:
        """Global trial indices of some sessions, or of all if None, (trial,) int."""
        if session is None:
            return self.everywhere()
        ids = self._query.session_ids(session)
        return self._query.trials(ids, None, None, None)
