"""Paths of localizer maps: the functions of `laion_zarr.derivatives`, unchanged."""

from __future__ import annotations

from laion_zarr.derivatives import (
    LOCALIZER_TASKS,
    VOLUME_RESOLUTIONS,
    localizer_effect_path,
    localizer_statmap_path,
)

__all__ = [
    "LOCALIZER_TASKS",
    "VOLUME_RESOLUTIONS",
    "localizer_effect_path",
    "localizer_statmap_path",
]
