"""Errors under the names of the numpy package.

Two names have no class of their own in laion_zarr, and are the built-in base classes of its errors:
`DataNotFoundError` is `FileNotFoundError`, and `NoMatchingDataError` (no file in the bucket passes
the filters of a download) is `ValueError`.
"""

from __future__ import annotations

from laion_zarr.errors import (
    DataDirNotSetError,
    DataNotDownloadedError,
    LicenseNotAcceptedError,
    StimuliNotDownloadedError,
    SubjectNotFoundError,
)

__all__ = [
    "DataDirNotSetError",
    "DataNotDownloadedError",
    "DataNotFoundError",
    "LicenseNotAcceptedError",
    "NoMatchingDataError",
    "StimuliNotDownloadedError",
    "SubjectNotFoundError",
]

DataNotFoundError = FileNotFoundError
NoMatchingDataError = ValueError
