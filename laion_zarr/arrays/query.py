"""Conditions on the trials and voxels of one subject -> positions -> a lazy selection."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
import xarray as xr

from laion_zarr._release import Ids, session_id
from laion_zarr.arrays import select
from laion_zarr.arrays.dask_blocks import SelectedBetas
from laion_zarr.arrays.dataset import build_dataset, lazy_betas, owned
from laion_zarr.arrays.lazy import SubjectHandle, as_run
from laion_zarr.errors import NotConvertedError
from laion_zarr.store.schema import ALL_SESSIONS_NC, NC, ROI, SESSION, TRIAL, VOXEL, maps_part


class Query:
    """Selection of trials and voxels of one subject, which reads no betas.

    Parameters
    ----------
    handle : SubjectHandle
        Open group of the subject.
    """

    def __init__(self, handle: SubjectHandle) -> None:
        self._handle = handle
        self.lazy = build_dataset(handle)
        self.betas = lazy_betas(handle, self.lazy)

    def __reduce__(self) -> tuple[type[Query], tuple[SubjectHandle]]:
        return Query, (self._handle,)  # the receiving process reads the labels again

    def session_ids(self, session: Ids) -> list[str]:
        """Full ids (``"ses-01"``) of sessions; raises NotConvertedError if one is not stored."""
        subject, there = self._handle.subject, self._handle.stored.sessions
        ids = [session_id(item) for item in select.as_list(session)]
        for ses in ids:
            if ses not in there:
                mend = (
                    f"Download it, then run 'laion-zarr convert --subject {subject} --ses {ses}'."
                )
                if (roi := ses.removeprefix("ses-")) in self.lazy[ROI].values:
                    mend = f"If the region is meant: roi={roi!r}."
                raise NotConvertedError(
                    f"{subject} has no {ses} in the store; there are {', '.join(there)}. {mend}"
                )
        return ids

    def trials(
        self,
        ids: list[str] | None,
        image_name: Any,
        stimuli: str | None,
        trial: Any,
        labels: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Positions, on the trial axis, of the trials that meet all conditions.

        `labels` are conditions on other coordinates along trials, by name.
        """
        if not self._handle.stored.sessions:
            raise NotConvertedError(
                f"{self._handle.subject} has no session in the store yet. Download one, then run "
                f"'laion-zarr convert --subject {self._handle.subject}'."
            )
        keep = []
        if ids is not None:
            keep.append(self.lazy["session"].to_series().isin(ids).to_numpy())
        if image_name is not None:
            keep.append(select.among(self.lazy, "image_name", image_name, "Image"))
        if stimuli is not None:
            keep.append(select.by_stimuli(self.lazy, stimuli))
        keep += [select.labelled_trials(self.lazy, *label) for label in (labels or {}).items()]
        found = select.restrict(keep, self.lazy.sizes[TRIAL])
        if trial is not None:
            wanted = select.positions(self.lazy, TRIAL, trial)
            found = wanted[np.isin(wanted, found)]
        return found

    def voxels(
        self,
        roi: Any,
        mask: Any,
        mask_source: str | None,
        nc_threshold: float | None,
        ids: list[str] | None,
    ) -> np.ndarray:
        """Positions, on the axis of all stored voxels, of the voxels that meet all conditions."""
        if roi is not None and mask is not None:
            raise ValueError("roi and mask exclude each other: pass one of them.")
        keep = []
        if mask_source is not None:
            keep.append(select.in_mask(self.lazy, mask_source))
        if roi is not None:
            keep.append(select.in_rois(self.lazy, roi))
        if nc_threshold is not None:
            ceiling = (
                self.ceiling(ids[0], None)
                if ids is not None and len(ids) == 1
                else self.ceiling(None, ALL_SESSIONS_NC)
            )
            keep.append(select.above_threshold(ceiling, nc_threshold))
        if mask is not None:
            own = keep[:1] if mask_source is not None else []
            inside = select.restrict(own, self.lazy.sizes[VOXEL])
            marked = inside[select.voxel_mask(mask, self.axis(inside))]
            keep.append(np.isin(np.arange(self.lazy.sizes[VOXEL]), marked))
        return select.restrict(keep, self.lazy.sizes[VOXEL])

    def axis(self, union: np.ndarray) -> xr.Dataset:
        """Dataset of the voxel labels at positions along the axis of all stored voxels."""
        return owned(self.lazy[[VOXEL]].isel({VOXEL: as_run(union)}))

    def trial_axis(self, trials: np.ndarray) -> xr.Dataset:
        """Dataset of the trial labels at positions along the trial axis."""
        return owned(self.lazy[[TRIAL]].isel({TRIAL: as_run(trials)}))

    def select(
        self,
        trials: np.ndarray,
        voxels: np.ndarray,
        voxel: Any = None,
        chunks: dict[str, Any] | None = None,
        sessions: list[str] | None = None,
    ) -> xr.Dataset:
        """Select trials and voxels by position, with Dask-backed betas.

        `voxel` selects labels among the voxels at these positions. `sessions` are the sessions
        whose maps are kept; None keeps the maps of all sessions.
        """
        if voxel is not None:
            wanted = select.positions(self.lazy, VOXEL, voxel)
            voxels = wanted[np.isin(wanted, voxels)]
        blocks = select.check_chunks(chunks, {TRIAL: len(trials), VOXEL: len(voxels)})
        rows = np.arange(self.lazy.sizes[SESSION])
        if sessions is not None:
            rows = np.flatnonzero(self.lazy[SESSION].to_series().isin(sessions))
        positions = {TRIAL: trials, VOXEL: voxels, SESSION: rows}
        picked = self.lazy.isel({dim: as_run(keep) for dim, keep in positions.items()})
        betas = SelectedBetas(self.betas, trials, voxels)
        return owned(picked, betas.chunked((blocks.get(TRIAL), blocks.get(VOXEL))))

    def ceiling(self, session: str | None, desc: object) -> xr.DataArray:
        """Noise ceiling of all stored voxels: of one session, or the cross-session map `desc`."""
        if session is not None:
            part = self._handle.stored.parts.get(maps_part(session))
            if part is None or "session_noise_ceiling" not in part.arrays():
                raise self._no_ceiling(f"of {session}")
            return _map(self.lazy["session_noise_ceiling"], SESSION, session, "session")
        there = self.lazy[NC].values.tolist() if NC in self.lazy.coords else []
        if desc not in there:
            near = get_close_matches(str(desc), there, 1, 0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise self._no_ceiling(f"{desc!r} (there are: {', '.join(there) or 'none'}{hint})")
        return _map(self.lazy["noise_ceiling"], NC, desc, "desc")

    def _no_ceiling(self, which: str) -> NotConvertedError:
        return NotConvertedError(
            f"The store holds no noise ceiling {which} for {self._handle.subject}. Download its "
            "map and run 'laion-zarr convert' again; betas are not touched."
        )


def _map(maps: xr.DataArray, dim: str, label: object, attribute: str) -> xr.DataArray:
    """One of several maps; which one is an attribute.

    As a coordinate, it would keep different maps from being merged, or renamed to its name.
    """
    return maps.sel({dim: label}, drop=True).assign_attrs({attribute: label})
