"""One subject: betas, masks, ROIs, noise ceilings and trials as labelled, lazy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from laion_zarr import _repr
from laion_zarr._release import subject_id
from laion_zarr.analysis.repeats import image_betas
from laion_zarr.arrays import select
from laion_zarr.arrays.lazy import SubjectHandle
from laion_zarr.config import get_store
from laion_zarr.store.objects import StoreLike, location
from laion_zarr.store.schema import DEFAULT_MASK, TRIAL, VOXEL
from laion_zarr.subject.brain_space import BrainSpace
from laion_zarr.subject.regions import Regions
from laion_zarr.subject.stimuli import SubjectStimuli


def load_subject(
    subject: str,
    store: StoreLike | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Subject:
    """Open a subject of the store; reads metadata and labels only.

    Parameters
    ----------
    subject : str
        Subject id, ``"sub-01"`` or ``"01"``.
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
        If `subject` is no subject id.
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


class Subject(Regions, BrainSpace, SubjectStimuli):
    """One subject of the store; made by `load_subject`.

    Arrays come back as lazy, labelled `xarray` objects. Voxels are in ascending C order of the
    functional grid in every one of them, so that ``volume[mask] = values`` is right.
    """

    def get_sessions(self) -> list[str]:
        """Sessions in the store, sorted."""
        return self._handle.stored.sessions

    # -- everything at once

    @property
    def dataset(self) -> xr.Dataset:
        """The whole subject, (trial, voxel) over the stored union of voxels, lazy.

        Labels, masks and ROI table are in memory, per-session maps from when they are first looked
        at; ``betas`` is Dask-backed in blocks of one session and one slab of voxels. Cheap:
        ``isel``/``sel`` of sessions or of neighbouring voxels. Dear: a few voxels here and there,
        which read whole slabs. `sel` is cheap for both, since it selects before it makes blocks.

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
        """One row per trial of all sessions, sessions in order; RangeIndex = global trial index."""
        columns = {
            name: coord.values
            for name, coord in self._query.lazy.coords.items()
            if coord.dims == (TRIAL,) and name != TRIAL
        }
        return pd.DataFrame(columns | {"label": columns["image_name"]})

    def sel(
        self,
        roi: str | Sequence[str] | None = None,
        session: str | Sequence[str] | None = None,
        image_name: str | Sequence[str] | None = None,
        stimuli: str | None = None,
        trial: Any = None,
        voxel: Any = None,
        mask_source: str | None = None,
        nc_threshold: float | None = None,
        chunks: dict[str, Any] | None = None,
    ) -> xr.Dataset:
        """Select by label, before anything is read.

        Parameters
        ----------
        roi : str or list of str, optional
            ROI, category, ``"all"``, or a list mixing them: their union.
        session, image_name, trial, voxel : label or list of labels, optional
            Labels along trials and voxels; all conditions hold together.
        stimuli : {"shared", "unique"}, optional
            Images that every subject saw, or only this one.
        mask_source : {"anatomical", "rsquare"}, optional
            Brain mask that is the voxel axis. If not provided, the stored union of both.
        nc_threshold : float, optional
            Keep voxels with a noise ceiling (percent) of at least this: the session's own map if
            one session is named, else `NoiseceilingAllrep`.
        chunks : dict, optional
            Dask block sizes by dim, read directly. If not provided, one session × one slab, or
            × the selection.

        Returns
        -------
        xarray.Dataset
            As `dataset`, with ``betas`` (trial, voxel) float32 Dask-backed.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> faces = load_subject("01").sel(roi="face", stimuli="shared")
        >>> faces["betas"].mean("trial").dims
        ('voxel',)
        """
        ids = None if session is None else self._query.session_ids(session)
        keep_voxels = self._query.voxels(roi, None, mask_source, nc_threshold, ids)
        keep_trials = self._query.trials(ids, image_name, stimuli, trial)
        return self._query.select(keep_trials, keep_voxels, voxel, chunks, ids)

    # -- betas

    def get_betas(
        self,
        session: str | Sequence[str] | None = None,
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        nc_threshold: float | None = None,
        stimuli: str | None = None,
        streaming: bool | None = None,
        mask_source: str = DEFAULT_MASK,
        chunks: dict[str, Any] | None = None,
    ) -> Any:
        """Single-trial betas, lazy.

        Parameters
        ----------
        session : str or list of str, optional
            One session, or a list, which gives a dict by id. If not provided, all sessions in one
            array.
        roi : str or list of str, optional
            ROI, category, ``"all"``, or a list mixing them: their union. Excludes `mask`.
        mask : array-like of bool or xarray.DataArray, optional
            Over the voxel axis; a DataArray is aligned by its ``voxel`` labels.
        nc_threshold : float, optional
            Keep voxels with a noise ceiling (percent) of at least this: the session's own map, or
            for all sessions `NoiseceilingAllrep`.
        stimuli : {"shared", "unique"}, optional
            Images that every subject saw, or only this one.
        streaming : bool, optional
            Without effect: every read streams.
        mask_source : {"anatomical", "rsquare"}
            Brain mask that is the voxel axis.
        chunks : dict, optional
            Dask block sizes by dim, such as ``{"trial": -1, "voxel": 2048}``.

        Returns
        -------
        xarray.DataArray, (trial, voxel) float32, percent signal change, Dask-backed
            With the trial and voxel labels; a dict of them by session id for a list.

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
        if session is not None and not isinstance(session, str):
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
        stimuli: str | None = None,
        zscore: str | None = "session",
        mask_source: str = DEFAULT_MASK,
    ) -> xr.DataArray:
        """Betas of all sessions, z-scored and averaged over the repeats of each image, lazy.

        Computed whole, each chunk of the store is read once, 64 MB of betas at a time, and trials
        are let go when they are averaged. One block of it reads all chunks that hold its voxels:
        for some voxels say `roi` or `mask` here, rather than take a part of the result.

        Parameters
        ----------
        roi, mask, nc_threshold, mask_source
            Voxels, as in `get_betas`.
        stimuli : {"shared", "unique"}, optional
            Images that every subject saw, or only this one.
        zscore : {"session", "run", None}
            Trials that are z-scored together before, whatever `stimuli` keeps of them. None: betas
            are averaged as they are.

        Returns
        -------
        xarray.DataArray, (image, voxel) float32, Dask-backed
            In standard deviations (percent signal change without `zscore`), images sorted by name,
            with ``n_trials`` and the labels that go with an image; see
            `laion_zarr.analysis.average_repeats` and `laion_zarr.analysis.zscore`.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> betas = load_subject("01").get_image_betas(roi="face", stimuli="shared")
        >>> betas.dims
        ('image', 'voxel')
        """
        betas = self.get_betas(None, roi, mask, nc_threshold, mask_source=mask_source)
        keep = self._query.trials(None, None, stimuli, None)
        return image_betas(betas, zscore, np.isin(np.arange(len(betas)), keep))

    # -- noise ceilings

    def get_noise_ceiling(
        self,
        session: str | Sequence[str] | None = None,
        desc: str | Sequence[str] | None = None,
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        mask_source: str = DEFAULT_MASK,
    ) -> Any:
        """Noise ceiling per voxel, of one session or across sessions.

        Parameters
        ----------
        session : str or list of str, optional
            Session whose own map is meant. Exactly one of `session` and `desc` is given; a list
            gives a dict.
        desc : str or list of str, optional
            Cross-session map, such as ``"Noiseceiling12rep"``.
        roi, mask, mask_source
            Voxels, as in `get_betas`.

        Returns
        -------
        xarray.DataArray, (voxel,) float32, percent

        Notes
        -----
        Made by the release after Allen et al. (2022), Nat. Neurosci. 25, 116-126.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> ceiling = load_subject("01").get_noise_ceiling(desc="NoiseceilingAllrep", roi="face")
        >>> ceiling.attrs["units"]
        'percent'
        """
        if (session is None) == (desc is None):
            raise ValueError("Pass exactly one of session= and desc=.")
        given = session if desc is None else desc
        if isinstance(given, Iterable) and not isinstance(given, str):
            keys = self._query.session_ids(given) if desc is None else list(given)
            name = "session" if desc is None else "desc"
            options = {"roi": roi, "mask": mask, "mask_source": mask_source}
            return {key: self.get_noise_ceiling(**{name: key}, **options) for key in keys}
        ids = None if session is None else self._query.session_ids(session)
        voxels = self._query.voxels(roi, mask, mask_source, None, None)
        ceiling = self._query.ceiling(None if ids is None else ids[0], desc)
        return ceiling.isel({VOXEL: select.compact(voxels)}).copy(deep=True)

    # -- trials

    def get_trial_info(self, session: str | Sequence[str]) -> Any:
        """Trial table of a session, as in the release's TSV.

        Parameters
        ----------
        session : str or list of str
            A list gives a dict by id.

        Returns
        -------
        pandas.DataFrame
            One row per trial in volume order (by ``beta_index``), with the TSV's columns.
        """
        if not isinstance(session, str):
            return {ses: self.get_trial_info(ses) for ses in self._query.session_ids(session)}
        (ses,) = self._query.session_ids(session)
        stored = self._handle.stored
        (attributes,) = stored.attributes(ses)
        arrays = attributes["tsv_columns"]
        found = stored.load(ses, arrays.values())
        return pd.DataFrame({column: found[array] for column, array in arrays.items()})

    def _facts(self) -> dict[str, Any]:
        where = location(self._handle.stored.store)
        return _repr.facts(self.subject_id, where, self._query.lazy)

    def __repr__(self) -> str:
        facts = self._facts()
        return _repr.as_text(f"Subject {facts.pop('Subject')}", facts)

    def _repr_html_(self) -> str:
        return _repr.as_html(self._facts())
