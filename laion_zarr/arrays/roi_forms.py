"""ROIs in every form that the release has: volume, surface mask, FreeSurfer label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from laion_zarr._release import HEMIS, ROIS, SURFACE_FORMATS
from laion_zarr.arrays import select
from laion_zarr.errors import NotConvertedError
from laion_zarr.store.parts import StoredParts
from laion_zarr.store.schema import ROI, SURFACES_PART, surface_label, surface_mask

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


def resolve(dataset: xr.Dataset, stored: StoredParts, query: object) -> list[str]:
    """ROI names that a query selects, including ROIs that exist only on the surface."""
    table = catalogue(dataset)
    if has_surfaces(stored):
        (attributes,) = stored.attributes(SURFACES_PART)
        table = attributes["rois"] | table
    if not table:
        select.in_rois(dataset, query)  # raises the error that says how to add ROIs
    names = np.array(list(table), dtype=object)
    categories = np.array(list(table.values()), dtype=object)
    coords = {ROI: names, "category": (ROI, categories)}
    return select.resolve_rois(xr.DataArray(names, dims=ROI, coords=coords), query)


def forms(format: str) -> tuple[str, ...]:
    """``format=`` of `Regions.get_roi_data` -> names of the forms to return."""
    if format not in _FORMS:
        raise ValueError(f"format must be one of {list(_FORMS)}, got {format!r}.")
    return _FORMS[format]


def hemispheres(hemi: str) -> tuple[str, ...]:
    """``hemi=`` of `Regions.get_roi_data` -> hemispheres to return."""
    if hemi == "all":
        return HEMIS
    if hemi not in HEMIS:
        raise ValueError(f"hemi must be 'all', 'L' or 'R', got {hemi!r}.")
    return (hemi,)


def has_surfaces(stored: StoredParts) -> bool:
    """Whether the store holds ROIs on surfaces."""
    return SURFACES_PART in stored.parts


def surfaces(
    stored: StoredParts, names: Sequence[str], wanted: Sequence[str], hemis: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Surface forms of ROIs: roi -> ``hemi-L``/``hemi-R`` -> form -> array."""
    if not has_surfaces(stored):
        raise NotConvertedError(
            f"The store holds no ROIs on surfaces of {stored.group}. Download {ROIS} and run "
            "'laion-zarr convert' again."
        )
    form_of = {"func.gii": surface_mask, "label": surface_label}
    arrays = {
        (name, f"hemi-{hemi}", form): f"hemi-{hemi}/{form_of[form](name).name}"
        for name in names
        for hemi in hemis
        for form in wanted
    }
    loaded = stored.load(SURFACES_PART, arrays.values())
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in names}
    for (name, hemi, form), array in arrays.items():
        if array in loaded:
            found[name].setdefault(hemi, {})[form] = loaded[array]
    return found
