"""Fetching the dataset: `laion_zarr.download` itself.

Two things differ from the numpy package: files go to the data directory that is set (there is no
``data_dir=``), and what comes back is a `Report` of all files, not a dict of paths.
"""

from __future__ import annotations

from laion_zarr.download import (
    accept_license,
    accept_licenses,
    download,
    download_captions,
    download_embeddings,
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
    "download_segmentations",
    "download_stimuli",
    "request_stimulus_access",
]
