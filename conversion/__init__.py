"""The converter: reads the files of LAION-fMRI and writes them into one Zarr store."""

from typing import TYPE_CHECKING

from laion_zarr._lazy_names import lazy_names

if TYPE_CHECKING:
    from laion_zarr.conversion.options import Report
    from laion_zarr.conversion.parts.splits import SplitsReport, add_splits
    from laion_zarr.conversion.planning.differences import Difference, OutdatedReport
    from laion_zarr.conversion.planning.outdated import outdated
    from laion_zarr.conversion.run.pipeline import convert
    from laion_zarr.conversion.verification.store import verify

__all__ = [
    "Difference",
    "OutdatedReport",
    "Report",
    "SplitsReport",
    "add_splits",
    "convert",
    "outdated",
    "verify",
]

# Imported on first use: a worker process must not wait for modules that it does not need.
_HOMES = {
    "Difference": "laion_zarr.conversion.planning.differences",
    "OutdatedReport": "laion_zarr.conversion.planning.differences",
    "Report": "laion_zarr.conversion.options",
    "SplitsReport": "laion_zarr.conversion.parts.splits",
    "add_splits": "laion_zarr.conversion.parts.splits",
    "convert": "laion_zarr.conversion.run.pipeline",
    "outdated": "laion_zarr.conversion.planning.outdated",
    "verify": "laion_zarr.conversion.verification.store",
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
