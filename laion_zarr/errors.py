"""The errors that laion_zarr raises; every message says what is wrong and what mends it."""

from __future__ import annotations


class LaionZarrError(Exception):
    """Base of every error that laion_zarr raises on purpose."""


class DataDirNotSetError(LaionZarrError, RuntimeError):
    """Neither a store nor a data directory is known."""


class DataNotDownloadedError(LaionZarrError, FileNotFoundError):
    """A file of the dataset is not in the local mirror."""


class NotConvertedError(DataNotDownloadedError):
    """A well-formed subject, session or part that the store does not hold."""


class StimuliNotDownloadedError(LaionZarrError, FileNotFoundError):
    """The stimuli are neither in the store nor in the mirror."""


class SubjectNotFoundError(LaionZarrError, ValueError):
    """Not a subject id at all: empty, ``"sub-"``, or not a string."""


class LicenseNotAcceptedError(LaionZarrError, RuntimeError):
    """The terms of use were not accepted."""


class AccessServiceError(LaionZarrError, RuntimeError):
    """The access service for the stimulus images refused or failed."""


class TermsOutdatedError(AccessServiceError):
    """The accepted terms were superseded by newer ones."""


class SourceError(LaionZarrError, ValueError):
    """A source file is damaged or contradicts another."""


class StoreError(LaionZarrError):
    """A store is unreadable, damaged, or of another schema version."""


class StoreVersionError(StoreError):
    """A store of another schema version."""
