"""Downloads: the functions of `laion_zarr.download`, unchanged.

Two things differ from the numpy package: files are written to the data directory that is set (there
is no ``data_dir=``), and a download returns a `Report` of all files, not a dict of paths.
"""

from __future__ import annotations

from laion_zarr.download import (
    accept_license,
    accept_licenses,
    download,
    download_captions,
    download_embeddings,
    download_raw,
    download_segmentations,
    download_stimuli,
    request_stimulus_access,
)

__all__ = [
    "accept_license",
    "accept_licenses",
    "download",
    "download_captions",
    "download_embeddings",
    "download_raw",
    "download_segmentations",
    "download_stimuli",
    "request_stimulus_access",
]
