"""LAION-fMRI as one chunked, labelled Zarr store, read back as lazy xarray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laion_zarr._lazy_names import lazy_names

if TYPE_CHECKING:
    from laion_zarr.captions import Captions
    from laion_zarr.config import dataset_initialize, get_data_dir
    from laion_zarr.conversion.run.pipeline import convert
    from laion_zarr.conversion.verification.store import verify
    from laion_zarr.discovery import describe
    from laion_zarr.download import (
        download_captions,
        download_embeddings,
        download_segmentations,
        download_stimuli,
    )
    from laion_zarr.embeddings import load_embeddings
    from laion_zarr.explorer import explore
    from laion_zarr.group import load_subjects
    from laion_zarr.segmentations import Segmentations
    from laion_zarr.stimuli import Stimuli, load_stimuli
    from laion_zarr.subject import load_subject

_HOMES = {
    "Captions": "laion_zarr.captions",
    "Segmentations": "laion_zarr.segmentations",
    "Stimuli": "laion_zarr.stimuli",
    "convert": "laion_zarr.conversion",
    "dataset_initialize": "laion_zarr.config",
    "describe": "laion_zarr.discovery",
    "download_captions": "laion_zarr.download",
    "download_embeddings": "laion_zarr.download",
    "download_segmentations": "laion_zarr.download",
    "download_stimuli": "laion_zarr.download",
    "explore": "laion_zarr.explorer",
    "get_data_dir": "laion_zarr.config",
    "load_embeddings": "laion_zarr.embeddings",
    "load_stimuli": "laion_zarr.stimuli",
    "load_subject": "laion_zarr.subject",
    "load_subjects": "laion_zarr.group",
    "verify": "laion_zarr.conversion",
}

__all__ = [
    "Captions",
    "Segmentations",
    "Stimuli",
    "convert",
    "dataset_initialize",
    "describe",
    "download_captions",
    "download_embeddings",
    "download_segmentations",
    "download_stimuli",
    "explore",
    "get_data_dir",
    "load_embeddings",
    "load_stimuli",
    "load_subject",
    "load_subjects",
    "verify",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
