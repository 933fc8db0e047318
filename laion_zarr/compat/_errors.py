"""The errors, under the names of the numpy package.

Two of its names have no class of their own here, and are those that ours are kinds of:
`DataNotFoundError` is `FileNotFoundError`, `NoMatchingDataError` (nothing in the bucket passes the
filters of a download) is `ValueError`.
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
