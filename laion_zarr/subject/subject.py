"""One subject: betas, masks, ROIs, noise ceilings and trials as labelled, lazy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import pandas as pd
import xarray as xr

from laion_zarr import _repr
from laion_zarr._release import Id, Ids, subject_id
from laion_zarr._words import MaskSource, StimulusSet, ZscoreBy
from laion_zarr.analysis.averages import averages_of_images
from laion_zarr.arrays import select
from laion_zarr.arrays.lazy import SubjectHandle
from laion_zarr.config import get_store
from laion_zarr.store.objects import StoreLike, location
from laion_zarr.store.schema import DEFAULT_MASK, TRIAL, VOXEL
from laion_zarr.subject.bold import TimeSeries
from laion_zarr.subject.brain_space import BrainSpace
from laion_zarr.subject.events import Events
from laion_zarr.subject.localizers import Localizers
from laion_zarr.subject.regions import Regions
from laion_zarr.subject.stimuli import SubjectStimuli


def load_subject(
    subject: Id,
    store: StoreLike | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Subject:
    """Open a subject of the store; reads metadata and labels only.

    Parameters
    ----------
    subject : str or int
        Subject id: ``"sub-01"``, ``"01"`` or 1.
    store : str, Path or zarr.abc.store.Store, optional
        Local path, fsspec URL or Zarr store. If not provided, `laion_zarr.config.get_store`.
    storage_options : dict, optional
        For fsspec URLs.

    Returns
    -------
    Subject

    Raises
    ------
    SubjectNotFoundError
        If `subject` is not a subject id.
    NotConvertedError
        If there is no such store, or it does not hold the subject.
    StoreError
        If the store is damaged or of another schema version.

    Examples
    --------
    >>> from laion_zarr import load_subject
    >>> sub = load_subject("01")
    >>> ffa = sub.get_betas(roi="FFA1")
    >>> ffa.dims
    ('trial', 'voxel')
    """
    found = subject_id(subject)
    return Subject(SubjectHandle(get_store() if store is None else store, storage_options, found))


class Subject(Regions, Localizers, BrainSpace, Events, TimeSeries, SubjectStimuli, _repr.Shown):
    """One subject of the store; made by `load_subject`.

    Arrays are returned as lazy, labelled `xarray` objects. In every array, voxels are in ascending
    C order of the functional grid, so that ``volume[mask] = values`` puts each value in its voxel.
    """

    def get_sessions(self) -> list[str]:
        """Sessions in the store, sorted."""
        return self._handle.stored.sessions

    # -- the whole subject

    @property
    def dataset(self) -> xr.Dataset:
        """All data of the subject, (trial, voxel) over the stored union of voxels, lazy.

        Labels, masks and ROI table are in memory; per-session maps are read on first use and then
        kept, localizer maps (``localizer_z``) at each use; ``betas`` is Dask-backed in blocks of
        one session and one slab of voxels. ``isel`` or ``sel`` of the returned dataset is cheap for
        sessions or neighbouring voxels and expensive for scattered voxels, because whole slabs are
        read. `Subject.sel` is cheap in both cases, since it selects before it makes blocks.
        ``attrs``: subject, ``shape`` of the functional grid, ``affine`` (the 4 × 4 matrix as 16
        numbers, row by row), and versions.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> load_subject("01").dataset["betas"].dtype
        dtype('float32')
        """
        sizes = self._query.lazy.sizes
        return self._query.select(np.arange(sizes[TRIAL]), np.arange(sizes[VOXEL]))

    @property
    def metadata(self) -> pd.DataFrame:
        """Table of all trials, one row each, in session order; RangeIndex = global trial index."""
        columns = {
            name: coord.values
            for name, coord in self._query.lazy.coords.items()
            if coord.dims == (TRIAL,) and name != TRIAL
        }
        return pd.DataFrame(columns | {"label": columns["image_name"]})

    def sel(
        self,
        roi: str | Sequence[str] | None = None,
        session: Ids | None = None,
        image_name: str | Sequence[str] | None = None,
        stimuli: StimulusSet | None = None,
        trial: Any = None,
        voxel: Any = None,
        mask_source: MaskSource | None = None,
        nc_threshold: float | None = None,
        chunks: dict[str, Any] | None = None,
        **labels: Any,
    ) -> xr.Dataset:
        """Select trials and voxels by label, before any betas are read.

        Parameters
        ----------
        roi : str or list of str, optional
            ROI, category, ``"all"``, or a list of any of these, which selects their union.
        session, image_name, trial, voxel : label or list of labels, optional
            Labels along trials and voxels; all conditions must hold.
        stimuli : {"shared", "unique"}, optional
            ``"shared"``: images that every subject saw; ``"unique"``: images that only this subject
            saw. If not provided, all.
        mask_source : {"anatomical", "rsquare"}, optional
            Brain mask whose voxels are the voxel axis. If not provided, the union of both masks.
        nc_threshold : float, optional
            Keep voxels whose noise ceiling (percent) is at least this, in the session's own map if
            exactly one session is given, otherwise in ``NoiseceilingAllrep``.
        chunks : dict, optional
            Dask block sizes by dim; blocks of these sizes are read from the store, without
            rechunking. If not provided, blocks of all trials and up to 64 MB, or, of more than 1.25
            GiB, of one session × one slab of voxels; in any case of one size, so that ``to_zarr``
            can write them.
        **labels : value or list of values
            Values of any other coordinate along trials: ``response_correct=True``,
            ``trial_type="old"``, ``run=[1, 2]``. NaN, a trial without an answer, is neither.

        Returns
        -------
        xarray.Dataset
            The selection of `dataset`; ``betas`` is (trial, voxel) float32, Dask-backed.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> faces = load_subject("01").sel(roi="face", stimuli="shared")
        >>> faces["betas"].mean("trial").dims
        ('voxel',)
        >>> known = load_subject("01").sel(roi="face", trial_type="old", response_correct=True)
        >>> bool((known["response"] == 2).all())
        True
        """
        ids = None if session is None else self._query.session_ids(session)
        keep_voxels = self._query.voxels(roi, None, mask_source, nc_threshold, ids)
        keep_trials = self._query.trials(ids, image_name, stimuli, trial, labels)
        return self._query.select(keep_trials, keep_voxels, voxel, chunks, ids)

    # -- betas

    @overload
    def get_betas(  # type: ignore[overload-overlap]
        self,
        session: Id | None = None,
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        nc_threshold: float | None = None,
        stimuli: StimulusSet | None = None,
        streaming: bool | None = None,
        mask_source: MaskSource = DEFAULT_MASK,
        chunks: dict[str, Any] | None = None,
    ) -> xr.DataArray: ...
    @overload
    def get_betas(
        self,
        session: Sequence[Id],
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        nc_threshold: float | None = None,
        stimuli: StimulusSet | None = None,
        streaming: bool | None = None,
        mask_source: MaskSource = DEFAULT_MASK,
        chunks: dict[str, Any] | None = None,
    ) -> dict[str, xr.DataArray]: ...
    def get_betas(
        self,
        session: Ids | None = None,
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        nc_threshold: float | None = None,
        stimuli: StimulusSet | None = None,
        streaming: bool | None = None,
        mask_source: MaskSource = DEFAULT_MASK,
        chunks: dict[str, Any] | None = None,
    ) -> Any:
        """Single-trial betas, lazy.

        Parameters
        ----------
        session : str, int or list of them, optional
            One session (``"ses-01"``, ``"01"`` or 1), or a list of sessions, for which a dict by
            session id is returned. If not provided, all sessions in one array.
        roi : str or list of str, optional
            ROI, category, ``"all"``, or a list of any of these, which selects their union. Cannot
            be combined with `mask`.
        mask : array-like of bool or xarray.DataArray, optional
            Mask over the voxel axis; a DataArray is aligned by its ``voxel`` labels.
        nc_threshold : float, optional
            Keep voxels whose noise ceiling (percent) is at least this, in the session's own map,
            or in ``NoiseceilingAllrep`` if no session is given.
        stimuli : {"shared", "unique"}, optional
            ``"shared"``: images that every subject saw; ``"unique"``: images that only this subject
            saw. If not provided, all.
        streaming : bool, optional
            Has no effect: betas are always read lazily.
        mask_source : {"anatomical", "rsquare"}
            Brain mask whose voxels are the voxel axis.
        chunks : dict, optional
            Dask block sizes by dim, such as ``{"trial": -1, "voxel": 2048}``; see `sel`.

        Returns
        -------
        xarray.DataArray, (trial, voxel) float32, percent signal change, Dask-backed
            With the labels of trials and voxels. If `session` is a list, a dict of such arrays by
            session id.

        Raises
        ------
        NotConvertedError
            If the store lacks the session, the mask or the noise ceiling.
        ValueError
            If an ROI is unknown, or `roi` and `mask` are both given.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> sub = load_subject("01")
        >>> strong = sub.get_betas(session="ses-01", roi="face", nc_threshold=10)
        >>> mean = strong.groupby("image_name").mean()
        """
        if session is not None and not select.is_one(session):
            options = (roi, mask, nc_threshold, stimuli, streaming, mask_source, chunks)
            return {ses: self.get_betas(ses, *options) for ses in self._query.session_ids(session)}
        ids = None if session is None else self._query.session_ids(session)
        keep_voxels = self._query.voxels(roi, mask, mask_source, nc_threshold, ids)
        keep_trials = self._query.trials(ids, None, stimuli, None)
        return self._query.select(keep_trials, keep_voxels, chunks=chunks)["betas"]

    def get_image_betas(
        self,
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        nc_threshold: float | None = None,
        stimuli: StimulusSet | None = None,
        zscore: ZscoreBy | None = "session",
        mask_source: MaskSource = DEFAULT_MASK,
        images: str | Sequence[str] | None = None,
    ) -> xr.DataArray:
        """Betas of all sessions, z-scored and averaged over the repeats of each image, lazy.

        If the whole result is computed, each chunk of the store is read once, 64 MB of betas at a
        time, and the betas of single trials are freed after averaging. Computing one Dask block of
        the result reads all chunks that hold voxels of the block: to get few voxels, select them
        with `roi` or `mask` instead of indexing the result.

        The averages that the store has (``laion-zarr convert --parts averages``) are read, image by
        image or voxel by voxel, where that is less than reading the betas. If they are older than
        its betas, a warning says so, and they are not used.

        Parameters
        ----------
        roi, mask, nc_threshold, mask_source
            Selection of voxels, as in `get_betas`.
        stimuli : {"shared", "unique"}, optional
            ``"shared"``: images that every subject saw; ``"unique"``: images that only this subject
            saw. If not provided, all.
        zscore : {"session", "run", None}
            Trials that are z-scored together before averaging, including trials that `stimuli`
            leaves out. None: betas are not z-scored.
        images : str or list of str, optional
            Names of images, in the order of the result. If not provided, all.

        Returns
        -------
        xarray.DataArray, (image, voxel) float32, Dask-backed
            In standard deviations (percent signal change if `zscore` is None), images sorted by
            name, or as `images` says, with ``n_trials`` and the labels that are the same for all
            trials of each image; see `laion_zarr.analysis.average_repeats` and
            `laion_zarr.analysis.zscore`.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> betas = load_subject("01").get_image_betas(roi="face", stimuli="shared")
        >>> betas.dims
        ('image', 'voxel')
        >>> one = load_subject("01").get_image_betas(images=betas["image"].item(0))
        >>> one.sizes["image"]
        1
        """
        betas = self.get_betas(None, roi, mask, nc_threshold, mask_source=mask_source)
        trials = self._query.trials(None, images, stimuli, None)
        keep = np.isin(np.arange(len(betas)), trials)
        wanted = None if images is None else select.as_list(images)
        return averages_of_images(betas, zscore, keep, wanted)

    def _facts(self) -> dict[str, Any]:
        where = location(self._handle.stored.store)
        return _repr.facts(where, self._query.lazy)

    def _heading(self) -> str:
        return f"Subject {self.subject_id}"
