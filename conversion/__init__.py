"""The converter: from the files of LAION-fMRI to one Zarr store."""

from laion_zarr.conversion.pipeline import Report, convert
from laion_zarr.conversion.verification import verify

__all__ = ["Report", "convert", "verify"]
