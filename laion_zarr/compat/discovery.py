"""What the bucket holds: `laion_zarr.discovery` itself, nothing to convert."""

from __future__ import annotations

from laion_zarr.discovery import describe, get_rois, get_subjects, inspect_bucket

__all__ = ["describe", "get_rois", "get_subjects", "inspect_bucket"]
