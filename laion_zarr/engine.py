"""The xarray engine: ``xr.open_dataset(store, engine="laion_zarr", group="sub-01")``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint


class LaionZarrBackend(BackendEntrypoint):
    """Open one subject of a laion_zarr store, with labels, voxels in C order of the grid."""

    description = "Open a subject of a laion_zarr store (LAION-fMRI betas)"
    url = "https://laion-fmri.hebartlab.com"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "group", "storage_options")

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> xr.Dataset:
        """Open one subject as a dataset.

        Parameters
        ----------
        filename_or_obj : str, Path or zarr.abc.store.Store
            Path, URL or Zarr store.
        drop_variables : str or iterable of str, optional
            Variables to leave out.
        group : str
            Subject id, such as ``"sub-01"``.
        storage_options : dict, optional
            Options of fsspec for a URL.

        Returns
        -------
        xarray.Dataset
            As `laion_zarr.subject.Subject.dataset`, with xarray's own lazy indexing.
        """
        # xarray imports all installed engines, so this module defers slow imports to the first use.
        import numpy as np

        from laion_zarr._release import subject_id
        from laion_zarr.arrays.dataset import build_dataset
        from laion_zarr.arrays.lazy import SubjectHandle
        from laion_zarr.arrays.select import trial_blocks, voxel_blocks
        from laion_zarr.store.schema import TRIAL, VOXEL

        if group is None:
            raise ValueError("group= names the subject, such as group='sub-01'.")
        handle = SubjectHandle(filename_or_obj, storage_options, subject_id(group))
        dataset = build_dataset(handle)
        dataset["betas"].encoding["preferred_chunks"] = {
            TRIAL: trial_blocks(dataset["session"].values),
            VOXEL: voxel_blocks(np.arange(dataset.sizes[VOXEL])),
        }
        dropped = [drop_variables] if isinstance(drop_variables, str) else drop_variables or []
        return dataset.drop_vars(dropped)
