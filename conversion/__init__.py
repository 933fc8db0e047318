"""The converter: reads the files of LAION-fMRI and writes them into one Zarr store."""

from typing import TYPE_CHECKING

from laion_zarr._lazy_names import lazy_names

if TYPE_CHECKING:
    from laion_zarr.conversion.options import Report
    from laion_zarr.conversion.parts.splits import SplitsReport, add_splits
    from laion_zarr.conversion.run.pipeline import convert
    from laion_zarr.conversion.verification.store import verify

__all__ = ["Report", "SplitsReport", "add_splits", "convert", "verify"]

# Imported on first use: a worker process must not wait for modules that it does not need.
_HOMES = {
    "Report": "laion_zarr.conversion.options",
    "SplitsReport": "laion_zarr.conversion.parts.splits",
    "add_splits": "laion_zarr.conversion.parts.splits",
    "convert": "laion_zarr.conversion.run.pipeline",
    "verify": "laion_zarr.conversion.verification.store",
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
