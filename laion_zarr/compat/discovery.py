"""Subjects and ROIs in the bucket: the functions of `laion_zarr.discovery`, unchanged."""

from __future__ import annotations

from laion_zarr.discovery import describe, get_rois, get_subjects, inspect_bucket

__all__ = ["describe", "get_rois", "get_subjects", "inspect_bucket"]
