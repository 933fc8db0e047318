"""Several subjects of one store, compared on the images that all of them saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from laion_zarr import _repr
from laion_zarr._release import Id, Ids, is_shared, subject_id
from laion_zarr._words import MaskSource
from laion_zarr.analysis import average_repeats
from laion_zarr.arrays.select import as_list, is_one
from laion_zarr.config import get_store
from laion_zarr.errors import NotConvertedError
from laion_zarr.stimuli import load_stimuli
from laion_zarr.store.manifest import subjects_in
from laion_zarr.store.objects import StoreLike, location, open_store
from laion_zarr.store.schema import DEFAULT_MASK, IMAGE
from laion_zarr.subject import Subject, load_subject


def load_subjects(
    subjects: Ids,
    store: StoreLike | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Group:
    """Open several subjects of the store; reads metadata and labels only.

    Parameters
    ----------
    subjects : str, int or list of them
        Subject ids (``"sub-01"``, ``"01"`` or 1), or ``"all"`` for all subjects of the store.
    store : str, Path or zarr.abc.store.Store, optional
        If not provided, `laion_zarr.config.get_store`.
    storage_options : dict, optional
        For fsspec URLs.

    Returns
    -------
    Group

    Raises
    ------
    SubjectNotFoundError
        If an entry of `subjects` is not a subject id.
    NotConvertedError
        If the store lacks one of the subjects, or holds no subject.
    ValueError
        If `subjects` is an empty list.

    Examples
    --------
    >>> from laion_zarr import load_subjects
    >>> group = load_subjects("all")
    >>> [subject for subject, _ in group][0]
    'sub-01'
    """
    place = get_store() if store is None else store
    if isinstance(subjects, str) and subjects == "all":
        ids = subjects_in(open_store(place, storage_options))
        if not ids:
            raise NotConvertedError(
                f"The store {location(open_store(place, storage_options))} holds no subject yet. "
                "Download one, then run 'laion-zarr convert'."
            )
    else:
        ids = sorted(set(map(subject_id, as_list(subjects))))
        if not ids:
            raise ValueError("No subject is named. Name one or several, or 'all'.")
    return Group([load_subject(one, place, storage_options) for one in ids])


class Group(_repr.Shown):
    """Several subjects of one store, sorted by id; made by `load_subjects`."""

    def __init__(self, subjects: Sequence[Subject]) -> None:
        self._subjects = {subject.subject_id: subject for subject in subjects}

    def __len__(self) -> int:
        return len(self._subjects)

    def __iter__(self) -> Iterator[tuple[str, Subject]]:
        return iter(self._subjects.items())

    def __getitem__(self, key: Id) -> Subject:
        """Return one subject: by id, or with an integer by position in the sorted group."""
        if isinstance(key, int | np.integer):
            return list(self._subjects.values())[key]
        try:
            return self._subjects[subject_id(key)]
        except KeyError:
            raise KeyError(f"{key!r} is not in the group of {', '.join(self._subjects)}.") from None

    def get_shared_betas(
        self,
        session: Id | None = None,
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        nc_threshold: float | None = None,
        average: bool = False,
        mask_source: MaskSource = DEFAULT_MASK,
    ) -> dict[str, xr.DataArray]:
        """Betas of the shared images, by subject; lazy.

        Parameters
        ----------
        session : str or int, optional
            Only trials of this session. If not provided, of all sessions.
        roi, nc_threshold, mask_source
            Selection of voxels, as in `Subject.get_betas`.
        mask : array-like of bool, xarray.DataArray, or dict of them by subject id, optional
            As in `Subject.get_betas`; usually a dict, because subjects have different voxels.
        average : bool
            Whether to average over repeats: one row per image, the same images in the same order
            for every subject, even if subjects saw an image at different times or with different
            numbers of repeats.

        Returns
        -------
        dict of str to xarray.DataArray
            By subject id: (trial, voxel), or with `average` (image, voxel) for the images that
            every subject of the group saw, sorted by name as plain strings; see
            `laion_zarr.analysis.average_repeats`. In percent signal change, not z-scored; for
            z-scored averages call `Subject.get_image_betas` of each subject.

        Raises
        ------
        NotConvertedError
            If the store lacks the session, the mask or the noise ceiling of a subject.
        ValueError
            If a subject lacks the ROI, or (with `average`) the subjects have no image in common.

        Examples
        --------
        >>> from laion_zarr import load_subjects
        >>> means = load_subjects("all").get_shared_betas(roi="face", average=True)
        >>> names = [betas["image"].values.tolist() for betas in means.values()]
        >>> all(other == names[0] for other in names)
        True
        """
        if not is_one(session):
            raise ValueError(f"session names one session, or None for all; got {session!r}.")
        if isinstance(mask, Mapping):
            mask = {subject_id(one): its for one, its in mask.items()}
            if missing := sorted(set(self._subjects) - set(mask)):
                raise ValueError(f"mask has none for {', '.join(missing)}.")
        found = {}
        for one, subject in self:
            own = mask[one] if isinstance(mask, Mapping) else mask
            try:
                found[one] = subject.get_betas(
                    session, roi, own, nc_threshold, "shared", mask_source=mask_source
                )
            except ValueError as error:
                raise ValueError(f"{one}: {error}") from error
        if not average:
            return found
        images = self._images(session)
        return {one: average_repeats(betas).sel({IMAGE: images}) for one, betas in found.items()}

    def get_shared_images(self) -> xr.DataArray:
        """Pictures of the images that every subject of the group saw.

        Returns
        -------
        xarray.DataArray, (image, y, x, channel) uint8, Dask-backed
            The same images in the same order as ``get_shared_betas(average=True)``.
        """
        return self._stimuli.images.array(self._images())

    def get_shared_stimulus_metadata(self) -> pd.DataFrame:
        """Stimulus metadata of the images that every subject of the group saw.

        Returns
        -------
        pandas.DataFrame
            The same images in the same order as ``get_shared_betas(average=True)``.
        """
        table = self[0].get_stimulus_metadata().set_index("image_name", drop=False)
        return table.loc[self._images()].reset_index(drop=True)

    @property
    def _stimuli(self) -> Any:
        return load_stimuli(*self[0]._handle.recipe)

    def _images(self, session: Id | None = None) -> list[str]:
        """Sorted names of the shared images that every subject of the group saw."""
        seen: list[set[str]] = []
        for _, subject in self:
            trials = subject.metadata
            if session is not None:
                trials = trials[trials["session"].isin(subject._query.session_ids(session))]
            seen.append({label for label in trials["label"] if is_shared(label)})
        common = sorted(set.intersection(*seen))
        if not common:
            where = "" if session is None else f" in {session}"
            raise ValueError(f"{', '.join(self._subjects)} have no image in common{where}.")
        return common

    def _facts(self) -> dict[str, Any]:
        counts = {
            one: f"{len(subject.get_sessions())} sessions, {len(subject.metadata):,} trials"
            for one, subject in self
        }
        return {"Subjects": counts, "Next": ".get_shared_betas(…), [subject]"}

    def _heading(self) -> str:
        return f"Group of {len(self)} subject{'s' * (len(self) != 1)}"
