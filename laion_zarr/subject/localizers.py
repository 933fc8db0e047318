"""Localizer maps of a subject: along the voxel axis, on the surface, on their own grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
import pandas as pd
import xarray as xr

from laion_zarr._release import FINE_RES, FUNCTIONAL_RES, VOLUME_RESOLUTIONS
from laion_zarr._words import Hemi, Hemis, MaskSource, Res, Stat
from laion_zarr.arrays import localizers, roi_forms, select
from laion_zarr.store.schema import (
    DEFAULT_MASK,
    GRID_DIMS,
    HEMI,
    LOCALIZER,
    LOCALIZER_COORDS,
    SIGNAL_CHANGE,
    SUBJECT,
    VERTEX,
    VOXEL,
)
from laion_zarr.subject.base import SubjectBase
from laion_zarr.templates import on_grid


class Localizers(SubjectBase):
    """Methods of `Subject` for localizer maps, and for ROIs on the localizers' own grid."""

    def get_available_localizers(self) -> pd.DataFrame:
        """Table of the localizer maps in the store.

        Returns
        -------
        pandas.DataFrame
            One row per map: ``task``, ``session``, ``contrast`` (condition, for effects), ``stat``
            (``z`` or ``effect``), ``run`` (0: all runs), ``space`` (``T1w`` or ``fsnative``),
            ``res`` of a volume, ``hemi`` of a surface map.

        Raises
        ------
        NotConvertedError
            If the store holds no localizer maps of the subject.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> maps = load_subject("01").get_available_localizers()
        >>> sorted(maps["stat"].unique())
        ['effect', 'z']
        """
        return localizers.catalogue(self._handle)

    def get_localizer(
        self,
        task: str,
        contrast: str | Sequence[str],
        stat: Stat = "z",
        run: int | None = None,
        roi: Any = None,
        mask: Any = None,
        mask_source: MaskSource = DEFAULT_MASK,
    ) -> xr.DataArray:
        """Localizer map on the voxel axis of the betas.

        Parameters
        ----------
        task : str
            Task of the localizer, such as ``"floc"``; `get_available_localizers` lists all.
        contrast : str or list of str
            Contrast, such as ``"faceVsOthers"``; for ``stat="effect"`` a condition, such as
            ``"face"``. A list gives one row for each.
        stat : {"z", "effect"}
            z of the contrast over all runs, by fixed effects and without a threshold; or the effect
            of the condition in one run, in percent signal change.
        run : int, optional
            Number of the run, which an effect needs.
        roi, mask, mask_source
            Selection of voxels, as in `get_betas`.

        Returns
        -------
        xarray.DataArray, (voxel,) or (localizer, voxel) float32, in memory
            The map of the release on the functional grid (``res-1pt8``), NaN where it estimates
            nothing. ``localizer`` is ``task:contrast``.

        Raises
        ------
        NotConvertedError
            If the store holds no such map of the subject.
        ValueError
            If there is no such task, contrast or run; the message lists what there is.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> sub = load_subject("01")
        >>> faces = sub.get_localizer("floc", "faceVsOthers") > 3
        >>> sub.get_betas(mask=faces).dims
        ('trial', 'voxel')
        """
        names = select.as_list(contrast)
        found = [self._found(FUNCTIONAL_RES, task, name, (stat, run)) for name in names]
        inside = self._query.voxels(roi, mask, mask_source, None, None)
        axis = self._query.axis(inside)
        stored = self._handle.storage_order()[inside]
        values = localizers.read(self._handle, FUNCTIONAL_RES, [row for row, _ in found])
        maps = xr.DataArray(
            values[:, stored],
            coords={
                **axis.coords,
                LOCALIZER: np.array([localizers.label(task, name) for name in names], object),
                **{
                    coord: (LOCALIZER, np.array([its[column] for _, its in found], dtype=object))
                    for coord, column in LOCALIZER_COORDS.items()
                },
            },
            dims=(LOCALIZER, VOXEL),
            attrs=self._attributes(stat),
        )
        if isinstance(contrast, str):
            return maps.isel({LOCALIZER: 0}).rename(localizers.label(task, contrast))
        return maps.rename(f"{task} {stat}")

    @overload
    def get_localizer_surface(
        self,
        task: str,
        contrast: str,
        hemi: Literal["all"] = "all",
        stat: Stat = "z",
        run: int | None = None,
    ) -> dict[str, xr.DataArray]: ...
    @overload
    def get_localizer_surface(
        self, task: str, contrast: str, hemi: Hemi, stat: Stat = "z", run: int | None = None
    ) -> xr.DataArray: ...
    def get_localizer_surface(
        self,
        task: str,
        contrast: str,
        hemi: Hemis = "all",
        stat: Stat = "z",
        run: int | None = None,
    ) -> xr.DataArray | dict[str, xr.DataArray]:
        """Localizer map on the subject's cortical surface.

        Parameters
        ----------
        task, contrast, stat, run
            As in `get_localizer`; one contrast.
        hemi : {"all", "L", "R"}
            Hemisphere.

        Returns
        -------
        xarray.DataArray, (vertex,) float32, in memory
            Vertices of the subject's FreeSurfer surfaces, with the coordinate ``hemi``. ``attrs``:
            ``space`` (``"fsnative"``), ``subject``. For ``"all"``, a dict of such arrays by
            hemisphere.

        Raises
        ------
        NotConvertedError
            If the store holds no such map of the subject.
        ValueError
            If there is no such task, contrast, run or hemisphere; the message lists what there is.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> maps = load_subject("01").get_localizer_surface("floc", "faceVsOthers")
        >>> maps["L"].dims
        ('vertex',)
        """
        hemis = roi_forms.hemispheres(hemi)
        maps = {one: self._surface(one, task, contrast, (stat, run)) for one in hemis}
        return maps if hemi == "all" else maps[hemi]

    def get_localizer_volume(
        self,
        task: str,
        contrast: str,
        res: Res = FINE_RES,
        stat: Stat = "z",
        run: int | None = None,
    ) -> xr.DataArray:
        """Localizer map as a volume.

        Parameters
        ----------
        task, contrast, stat, run
            As in `get_localizer`; one contrast.
        res : {"1pt5", "1pt8"}
            ``"1pt5"``: the grid of the localizers' own GLM. ``"1pt8"``: the functional grid, of
            which the store has the voxels in a brain mask.

        Returns
        -------
        xarray.DataArray, (x, y, z) float32, in memory
            NaN where the map estimates nothing, or the store has no voxel. ``i``, ``j``, ``k`` are
            the grid indices; ``x``, ``y``, ``z`` are mm in the T1w space, if the grid is not
            oblique. ``attrs``: ``affine``, ``space``, ``subject``. `Subject.to_nifti` writes it.

        Raises
        ------
        NotConvertedError
            If the store holds no such map of the subject.
        ValueError
            If there is no such task, contrast, run or resolution; the message lists what there is.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> volume = load_subject("01").get_localizer_volume("floc", "faceVsOthers")
        >>> volume.dims
        ('x', 'y', 'z')
        """
        _check_res(res)
        row, labels = self._found(res, task, contrast, (stat, run))
        values = localizers.volume(self._handle, res, row)
        affine = np.array(localizers.attributes(self._handle, res)["affine"])
        return self._volume(values, affine, _scalars(labels), self._attributes(stat)).rename(
            localizers.label(task, contrast)
        )

    def get_roi_volume(self, roi: Any, res: Res = FUNCTIONAL_RES) -> xr.DataArray:
        """Mask of the union of ROIs, as a volume.

        Parameters
        ----------
        roi : str or list of str
            ROI, category, ``"all"``, or a list of any of these.
        res : {"1pt8", "1pt5"}
            ``"1pt8"``: the functional grid, of which the store has the voxels in a brain mask.
            ``"1pt5"``: the grid of the localizers' own GLM.

        Returns
        -------
        xarray.DataArray, (x, y, z) bool, in memory
            False in voxels that are not in the ROIs. Coordinates and ``attrs`` are those of
            `get_localizer_volume`.

        Raises
        ------
        NotConvertedError
            If the store holds no masks at this resolution.
        ValueError
            If an ROI is unknown.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> faces = load_subject("01").get_roi_volume("face", res="1pt5")
        >>> faces.dtype
        dtype('bool')
        """
        _check_res(res)
        if res == FINE_RES:
            inside, affine = roi_forms.fine_mask(self._query.lazy, self._handle.stored, roi)
        else:
            shape, affine = self._grid
            inside = np.zeros(shape, dtype=bool)
            axis = self._query.lazy
            inside.reshape(-1)[axis[VOXEL].values[select.in_rois(axis, roi)]] = True
        return self._volume(inside, affine, {}, {SUBJECT: self.subject_id})

    # -- shared by the methods above

    def _found(
        self, place: str, task: str, contrast: str, how: tuple[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        return localizers.find(self._handle, place, task, contrast, how)

    def _attributes(self, stat: str) -> dict[str, str]:
        units = {} if stat == "z" else {"units": SIGNAL_CHANGE}
        return {SUBJECT: self.subject_id, **units}

    def _surface(self, hemi: str, task: str, contrast: str, how: tuple[str, Any]) -> xr.DataArray:
        row, labels = self._found(hemi, task, contrast, how)
        (values,) = localizers.read(self._handle, hemi, [row])
        return xr.DataArray(
            values,
            coords={VERTEX: np.arange(len(values)), HEMI: hemi, **_scalars(labels)},
            dims=VERTEX,
            name=localizers.label(task, contrast),
            attrs={**self._attributes(how[0]), "space": "fsnative"},
        )

    def _volume(
        self,
        values: np.ndarray,
        affine: np.ndarray,
        coords: dict[str, Any],
        attrs: dict[str, Any],
    ) -> xr.DataArray:
        volume = xr.DataArray(values, dims=GRID_DIMS, coords=coords, attrs=attrs)
        return on_grid(volume, affine, "T1w")


def _scalars(labels: dict[str, Any]) -> dict[str, Any]:
    return {coord: labels[column] for coord, column in LOCALIZER_COORDS.items()}


def _check_res(res: str) -> None:
    if res not in VOLUME_RESOLUTIONS:
        raise ValueError(f"res must be one of {list(VOLUME_RESOLUTIONS)}, got {res!r}.")
