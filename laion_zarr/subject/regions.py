"""Brain masks, ROIs and noise ceilings of a subject, on voxels and on surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import xarray as xr

from laion_zarr._release import ANATOMY, Id, Ids
from laion_zarr._words import Hemis, MaskSource, Res, RoiForm
from laion_zarr.arrays import roi_forms, select
from laion_zarr.arrays.lazy import as_run
from laion_zarr.errors import NotConvertedError, UnknownNameError
from laion_zarr.store.schema import ALL_SESSIONS_NC, ANATOMY_PART, DEFAULT_MASK, GRID, VOXEL
from laion_zarr.subject.base import SubjectBase


class Regions(SubjectBase):
    """Methods of `Subject` for brain masks, ROIs and noise ceilings."""

    def get_n_voxels(self, source: MaskSource = DEFAULT_MASK, res: Res | None = "1pt8") -> int:
        """Number of voxels of a brain mask.

        Parameters
        ----------
        source, res
            Brain mask and its resolution, as in `get_brain_mask`.

        Returns
        -------
        int
        """
        return int(self.get_brain_mask(source, res).sum())

    def get_available_rois(self, category: str | None = None) -> list[str]:
        """ROI names.

        Parameters
        ----------
        category : str, optional
            Only ROIs of this category. If not provided, all ROIs.

        Returns
        -------
        list of str
            Sorted.

        Raises
        ------
        ValueError
            If there is no such category.
        """
        table = roi_forms.catalogue(self._query.lazy)
        if category is not None and category not in table.values():
            raise UnknownNameError(
                f"Unknown category {category!r}. Categories: {self.get_available_categories()}."
            )
        return sorted(roi for roi, its in table.items() if category in (None, its))

    def get_available_categories(self) -> list[str]:
        """ROI categories, sorted."""
        return sorted(set(roi_forms.catalogue(self._query.lazy).values()))

    def get_brain_mask(
        self, source: MaskSource = DEFAULT_MASK, res: Res | None = "1pt8"
    ) -> xr.DataArray:
        """Brain mask over the whole grid, flat in C order.

        Parameters
        ----------
        source : {"anatomical", "rsquare"}
            The anatomical mask, or all voxels that have a mean R².
        res : {"1pt8", None}
            ``"1pt8"``: the functional grid; None: full resolution (anatomical mask only).

        Returns
        -------
        xarray.DataArray, (grid,) bool
            ``attrs``: ``shape`` of the grid, and ``affine``, its 4 × 4 matrix as 16 numbers.
        """
        select.mask_coordinate(source)
        if res not in ("1pt8", None):
            raise ValueError(f"res must be '1pt8' or None (full resolution), got {res!r}.")
        if source == DEFAULT_MASK and res is None:
            return self._full_brain_mask()
        shape, affine = self._grid
        inside = np.zeros(int(np.prod(shape)), dtype=bool)
        inside[self._query.lazy[VOXEL].values[select.in_mask(self._query.lazy, source)]] = True
        return xr.DataArray(
            inside, dims=GRID, attrs={"shape": shape, "affine": affine.ravel().tolist()}
        )

    def _full_brain_mask(self) -> xr.DataArray:
        stored = self._handle.stored
        found = stored.load(ANATOMY_PART, ["brain_mask_full"])
        if not found:
            raise NotConvertedError(
                f"The store holds no full-resolution brain mask of {self.subject_id}. Download "
                f"{ANATOMY} and run 'laion-zarr convert' again."
            )
        (attributes,) = stored.attributes(ANATOMY_PART, ["brain_mask_full"], ["affine"])
        mask = found["brain_mask_full"]
        attrs = {"shape": mask.shape, "affine": np.ravel(attributes["affine"]).tolist()}
        return xr.DataArray(mask.ravel(), dims=GRID, attrs=attrs)

    def get_roi_mask(self, query: Any, mask_source: MaskSource = DEFAULT_MASK) -> xr.DataArray:
        """Mask of the union of ROIs, on the voxel axis.

        Parameters
        ----------
        query : str or list of str
            ROI, category, ``"all"``, or a list of any of these.
        mask_source : {"anatomical", "rsquare"}
            Brain mask whose voxels are the voxel axis.

        Returns
        -------
        xarray.DataArray, (voxel,) bool
        """
        inside = self._query.voxels(None, None, mask_source, None, None)
        values = select.in_rois(self._query.lazy, query)[inside]
        return xr.DataArray(values, coords=self._query.axis(inside).coords, dims=VOXEL)

    def get_roi_masks(
        self, queries: Any, mask_source: MaskSource = DEFAULT_MASK
    ) -> dict[str, xr.DataArray]:
        """Masks of several ROIs or categories, one `get_roi_mask` for each query.

        Parameters
        ----------
        queries : list of str
            ROIs, categories or ``"all"``; one mask is returned for each entry.
        mask_source : {"anatomical", "rsquare"}
            Brain mask whose voxels are the voxel axis.

        Returns
        -------
        dict of str to xarray.DataArray, (voxel,) bool
            Masks by query.
        """
        return {query: self.get_roi_mask(query, mask_source) for query in select.as_list(queries)}

    def get_roi_data(
        self,
        query: Any,
        format: RoiForm = "all",
        hemi: Hemis = "all",
        mask_source: MaskSource = DEFAULT_MASK,
    ) -> dict[str, dict[str, Any]]:
        """ROIs in every form of the release: volume, surface mask, FreeSurfer label.

        Parameters
        ----------
        query : str or list of str
            ROI, category, ``"all"``, or a list of any of these.
        format : {"all", "volume", "nii.gz", "gii", "func.gii", "label"}
            Forms to return; ``"nii.gz"`` means ``"volume"``, ``"gii"`` both surface forms.
        hemi : {"all", "L", "R"}
            Hemispheres to return.
        mask_source : {"anatomical", "rsquare"}
            Brain mask whose voxels are the voxel axis of the volume form.

        Returns
        -------
        dict
            ``{roi: {"volume": bool (voxel), "gii": {"hemi-L": {"func.gii": bool per vertex,
            "label": vertex indices}, "hemi-R": …}}}``, without the forms that the release lacks.
        """
        forms, hemis = roi_forms.forms(format), roi_forms.hemispheres(hemi)
        names = roi_forms.resolve(self._query.lazy, self._handle.stored, query)
        data: dict[str, dict[str, Any]] = {name: {} for name in names}
        if "volume" in forms:
            in_volume = roi_forms.catalogue(self._query.lazy)
            for name in [name for name in names if name in in_volume]:
                data[name]["volume"] = self.get_roi_mask(name, mask_source)
        surface_forms = [form for form in forms if form != "volume"]
        # "all" returns the forms that the store has; a form requested by name must be there.
        if surface_forms and (format != "all" or roi_forms.has_surfaces(self._handle.stored)):
            surfaces = roi_forms.surfaces(self._handle.stored, names, surface_forms, hemis)
            for name in names:
                data[name]["gii"] = surfaces[name]
        return data

    @overload
    def get_noise_ceiling(  # type: ignore[overload-overlap]
        self,
        session: Id | None = None,
        desc: str | None = None,
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        mask_source: MaskSource = DEFAULT_MASK,
    ) -> xr.DataArray: ...
    @overload
    def get_noise_ceiling(
        self,
        session: Sequence[Id],
        desc: None = None,
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        mask_source: MaskSource = DEFAULT_MASK,
    ) -> dict[str, xr.DataArray]: ...
    @overload
    def get_noise_ceiling(
        self,
        session: None = None,
        *,
        desc: Sequence[str],
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        mask_source: MaskSource = DEFAULT_MASK,
    ) -> dict[str, xr.DataArray]: ...
    def get_noise_ceiling(
        self,
        session: Ids | None = None,
        desc: str | Sequence[str] | None = None,
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        mask_source: MaskSource = DEFAULT_MASK,
    ) -> xr.DataArray | dict[str, xr.DataArray]:
        """Noise ceiling per voxel, of one session or across sessions.

        Parameters
        ----------
        session : str, int or list of them, optional
            Session whose own map is returned; a list returns a dict by session id. Exactly one of
            `session` and `desc` must be given.
        desc : str or list of str, optional
            Name of a cross-session map, such as ``"Noiseceiling12rep"``; a list returns a dict by
            name.
        roi, mask, mask_source
            Selection of voxels, as in `get_betas`.

        Returns
        -------
        xarray.DataArray, (voxel,) float32, percent
            ``attrs``: ``session`` or ``desc`` says which map it is.

        Notes
        -----
        The maps are part of the release, computed as in Allen et al. (2022), Nat. Neurosci. 25,
        116-126.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> ceiling = load_subject("01").get_noise_ceiling(desc="NoiseceilingAllrep", roi="face")
        >>> ceiling.attrs["units"]
        'percent'
        """
        if (session is None) == (desc is None):
            raise ValueError(
                "Pass exactly one of session= and desc=: the ceiling of a session, or one over "
                f"sessions, such as desc={ALL_SESSIONS_NC!r}."
            )
        options = (roi, mask, mask_source)
        ids = None if session is None else self._query.session_ids(session)
        if ids is not None and not select.is_one(session):
            return {ses: self.get_noise_ceiling(ses, None, *options) for ses in ids}
        if not select.is_one(desc):
            return {one: self.get_noise_ceiling(None, one, *options) for one in list(desc or ())}
        voxels = self._query.voxels(roi, mask, mask_source, None, None)
        ceiling = self._query.ceiling(None if ids is None else ids[0], desc)
        return ceiling.isel({VOXEL: as_run(voxels)}).copy(deep=True)
