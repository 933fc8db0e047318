"""Download of the dataset into the data directory: only the requested files, each only once.

`bucket` lists and reads the release's bucket; `filters` and `items` select the files that a user
requests; `license` and `access_service` handle the dataset's licence and the access to the stimulus
images; `fetch` and `mirror` transfer files. No module reads the content of a file: that is done by
the converter.

A file that is present already is not downloaded again, and an interrupted file is continued. A file
gets its final name only when it is complete and its checksum, where one is known, is right.

Begin with `dataset` (and `raw`), the functions that users call; all of them call `fetch.fetch`.
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
from laion_zarr.download.raw import download_raw
from laion_zarr.errors import DownloadError

__all__ = [
    "DownloadError",
    "Report",
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
