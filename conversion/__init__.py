"""The converter: from the files of LAION-fMRI to one Zarr store."""

from laion_zarr.conversion.pipeline import Report, convert
from laion_zarr.conversion.splits import SplitsReport, add_splits
from laion_zarr.conversion.verification import verify

__all__ = ["Report", "SplitsReport", "add_splits", "convert", "verify"]
