"""ROIs in every form that the release has: volume, surface mask, FreeSurfer label."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from laion_zarr._release import FINE_RES, HEMIS, ROIS, SURFACE_FORMATS
from laion_zarr.arrays import select
from laion_zarr.errors import NotConvertedError
from laion_zarr.store.bounds.tables import check_positions
from laion_zarr.store.parts import StoredParts
from laion_zarr.store.schema import FINE_ROIS_PART, ROI, SURFACES_PART, surface_label, surface_mask

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
        (attributes,) = stored.attributes(SURFACES_PART, needed=["rois"])
        table = attributes["rois"] | table
    if not table:
        select.in_rois(dataset, query)  # raises the error that says how to add ROIs
    return _among(table, query)


def _among(table: dict[str, str], query: object) -> list[str]:
    """Names of the ROIs of a table, name -> category, that a query selects."""
    names = np.array(list(table), dtype=object)
    categories = np.array(list(table.values()), dtype=object)
    coords = {ROI: names, "category": (ROI, categories)}
    return select.resolve_rois(xr.DataArray(names, dims=ROI, coords=coords), query)


def fine_mask(
    dataset: xr.Dataset, stored: StoredParts, query: object
) -> tuple[np.ndarray, np.ndarray]:
    """Union of ROIs on the localizers' own grid: mask, (x, y, z) bool, and affine."""
    here = {}
    if FINE_ROIS_PART in stored.parts:
        here = stored.attributes(FINE_ROIS_PART, needed=["rois"])[0]["rois"]
    elsewhere = [name for name in select.as_list(query) if name in catalogue(dataset)]
    lacking = [name for name in elsewhere if name not in here]
    if lacking or not here:
        raise NotConvertedError(
            f"The store holds no {FINE_RES} mask of {', '.join(lacking) or 'any ROI'} of "
            f"{stored.group}. Run 'laion-zarr download --subject {stored.group}', then 'laion-zarr "
            f"convert --subject {stored.group} --parts {FINE_ROIS_PART}'; betas are not touched."
        )
    names = _among(here, query)
    coarse = [name for name in _among(here | catalogue(dataset), query) if name not in here]
    if coarse:
        warnings.warn(
            f"{', '.join(coarse)}: the store holds no {FINE_RES} mask, so the union is of "
            f"{', '.join(names)} alone.",
            stacklevel=3,
        )
    grids = stored.attributes(FINE_ROIS_PART, names or list(here)[:1], ["shape", "affine"])
    shape, affine = grids[0]["shape"], np.array(grids[0]["affine"])
    for name, grid in zip(names, grids, strict=False):
        if grid["shape"] != shape or not np.allclose(grid["affine"], affine, atol=1e-3):
            raise ValueError(
                f"{name} and {names[0]} are on different grids: ask for one at a time."
            )
    mask = np.zeros(shape, dtype=bool)
    for name, voxels in stored.load(FINE_ROIS_PART, names, needed=True).items():
        with stored.bounded(FINE_ROIS_PART, name):
            check_positions(voxels, mask.size, "the grid")
        mask.reshape(-1)[voxels] = True
    return mask, affine


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
