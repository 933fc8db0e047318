"""Captions of the stimuli, by people and by a model."""

from __future__ import annotations

import builtins
from typing import Any

import pandas as pd

from laion_zarr.stimuli.handle import StimuliHandle
from laion_zarr.stimuli.keys import ImageKeys, Keys
from laion_zarr.stimuli.tables import ImageTable
from laion_zarr.store.objects import StoreLike
from laion_zarr.store.schema import CAPTIONS_PART

_SOURCES = ("human", "ai")


class ImageCaptions(ImageTable):
    """Captions, by image (or by a subject's trial); their text is literal: ``NA`` is a caption."""

    def __init__(self, handle: StimuliHandle, keys: Keys) -> None:
        super().__init__(handle, keys, CAPTIONS_PART)

    def get(self, key: Any) -> pd.DataFrame:
        """All captions of an image, one row each, by ``caption_idx``: the AI's (0) first.

        Parameters
        ----------
        key : str or int
            Image name or row; for a subject, the global trial index.

        Returns
        -------
        pandas.DataFrame
            With the columns of the release's CSV; empty where there are none.
        """
        rows = self._rows(key)
        return rows.sort_values("caption_idx", kind="stable", ignore_index=True)

    def list(self, key: Any, source: str | None = None) -> builtins.list[str]:
        """Texts of the captions of an image, by ``caption_idx``.

        Parameters
        ----------
        key : str or int
            Image name or row; for a subject, the global trial index.
        source : {"human", "ai"}, optional
            Only these.

        Returns
        -------
        list of str
            Empty where there are none.
        """
        if source not in (None, *_SOURCES):
            raise ValueError(f"source must be 'human', 'ai' or None, got {source!r}.")
        rows = self.get(key)
        if source is not None:
            rows = rows[rows["source"] == source]
        return rows["caption"].tolist()

    def human(self, key: Any, limit: int | None = None) -> builtins.list[str]:
        """Captions by people, best first.

        Parameters
        ----------
        key : str or int
            Image name or row; for a subject, the global trial index.
        limit : int, optional
            At most so many.

        Returns
        -------
        list of str
            Empty where there are none.

        Examples
        --------
        >>> from laion_zarr import load_stimuli
        >>> stim = load_stimuli()
        >>> len(stim.captions.human(0, limit=2))
        2
        """
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be at least 0, got {limit}.")
        return self.list(key, "human")[:limit]

    def ai(self, key: Any) -> str | None:
        """Caption by a model.

        Parameters
        ----------
        key : str or int
            Image name or row; for a subject, the global trial index.

        Returns
        -------
        str or None
            None where there is none.
        """
        return next(iter(self.list(key, "ai")), None)


class Captions(ImageCaptions):
    """Captions of the stimuli, by image name or row.

    Parameters
    ----------
    store : str, Path or zarr.abc.store.Store, optional
        If not provided, `laion_zarr.config.get_store`.
    storage_options : dict, optional
        For fsspec URLs.

    Raises
    ------
    StimuliNotDownloadedError
        If the store lacks them.
    """

    def __init__(
        self, store: StoreLike | None = None, storage_options: dict[str, Any] | None = None
    ) -> None:
        handle = StimuliHandle(store, storage_options)
        super().__init__(handle, ImageKeys(handle))
