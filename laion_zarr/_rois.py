"""ROIs in every form that the release has: volume, surface mask, FreeSurfer label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from laion_zarr import _select
from laion_zarr._layout import HEMIS, SURFACE_FORMATS
from laion_zarr._schema import ROI, SURFACES_PART
from laion_zarr._store import StoredParts
from laion_zarr.errors import NotConvertedError

_FORMS = {
    "all": ("volume", *SURFACE_FORMATS),
    "volume": ("volume",),
    "nii.gz": ("volume",),
    "gii": SURFACE_FORMATS,
    "func.gii": ("func.gii",),
    "label": ("label",),
}


def catalogue(dataset: xr.Dataset) -> dict[str, str]:
    """ROI name -> category."""
    if "roi_mask" not in dataset:
        return {}
    return dict(zip(dataset[ROI].values, dataset["category"].values, strict=True))


def resolve(dataset: xr.Dataset, query: object) -> list[str]:
    """ROI names that a query means."""
    if "roi_mask" not in dataset:
        _select.in_rois(dataset, query)  # raises, and says how to get them
    return _select.resolve_rois(dataset["roi_mask"], query)


def forms(format: str) -> tuple[str, ...]:
    """``format=`` of `get_roi_data` -> the forms it keeps."""
    if format not in _FORMS:
        raise ValueError(f"format must be one of {list(_FORMS)}, got {format!r}.")
    return _FORMS[format]


def hemispheres(hemi: str) -> tuple[str, ...]:
    """``hemi=`` of `get_roi_data` -> the hemispheres it keeps."""
    if hemi == "all":
        return HEMIS
    if hemi not in HEMIS:
        raise ValueError(f"hemi must be 'all', 'L' or 'R', got {hemi!r}.")
    return (hemi,)


def surfaces(
    stored: StoredParts, names: Sequence[str], wanted: Sequence[str], hemis: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Surface forms of ROIs: roi -> ``hemi-L``/``hemi-R`` -> form -> array."""
    part = stored.part(SURFACES_PART)
    present = [hemi for hemi in hemis if f"hemi-{hemi}/{ROI}" in part.arrays()]
    if not present:
        raise NotConvertedError(
            f"The store holds no surface ROIs of {stored.group}. Download derivatives/rois and run "
            "'laion-zarr convert' again."
        )
    arrays = stored.load(SURFACES_PART)
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in names}
    for hemi in present:
        group = {
            name.rpartition("/")[2]: values
            for name, values in arrays.items()
            if name.startswith(f"hemi-{hemi}/")
        }
        rows = {roi: row for row, roi in enumerate(group[ROI])}
        for name in names:
            if name in rows:
                found[name][f"hemi-{hemi}"] = _forms_of(group, rows[name], wanted)
    return found


def _forms_of(group: dict[str, Any], row: int, wanted: Sequence[str]) -> dict[str, Any]:
    found = {}
    if "func.gii" in wanted and group["has_func_gii"][row]:
        found["func.gii"] = group["func_gii"][row]
    if "label" in wanted and group["has_label"][row]:
        # Both arrays are left out of the store where every label is empty.
        vertices = group.get("label_vertex", np.empty(0, np.int32))
        found["label"] = vertices[group.get("label_roi", vertices) == row]
    return found
