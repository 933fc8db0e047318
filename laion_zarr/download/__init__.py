"""Fetching the dataset into the data directory: just what is asked for, and only once.

Knows what lies in the release's bucket (`bucket`), which of it a user wants (`filters`, `items`),
the licence and the access service behind the stimulus images (`license`, `access_service`), and how
a file comes whole (`fetch`, `mirror`). Reads no content: what a file means is the converter's.

Promises that a file which is there already is left alone, that a cut-off one is continued, and that
no file has its final name before it is whole and its checksum is proven.

Begin with `dataset`, the functions that users call; `fetch.fetch` is the engine below all of them.
"""

from laion_zarr.download.dataset import (
    accept_license,
    accept_licenses,
    download,
    download_captions,
    download_embeddings,
    download_segmentations,
    download_stimuli,
    request_stimulus_access,
)
from laion_zarr.download.fetch import Report
from laion_zarr.errors import DownloadError

__all__ = [
    "DownloadError",
    "Report",
    "accept_license",
    "accept_licenses",
    "download",
    "download_captions",
    "download_embeddings",
    "download_segmentations",
    "download_stimuli",
    "request_stimulus_access",
]
