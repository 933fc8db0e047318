"""The names of the numpy package ``laion_fmri``, over the Zarr store: numpy arrays out.

For scripts that exist: rename ``laion_fmri`` to ``laion_zarr.compat`` in them and convert the data
once. Modules, functions and arguments are those of the numpy package; what comes back is computed,
without labels, and the caller's own to write into. New code is better off with `laion_zarr` itself;
``docs/coming-from-laion_fmri.md`` shows each idiom in both forms.

Loaders also take ``store=``, as those of `laion_zarr` do; where they took ``data_dir=``, that is
still the folder that holds ``laion-fmri.zarr``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laion_zarr.compat._errors import (
        DataDirNotSetError,
        DataNotDownloadedError,
        DataNotFoundError,
        LicenseNotAcceptedError,
        NoMatchingDataError,
        StimuliNotDownloadedError,
        SubjectNotFoundError,
    )
    from laion_zarr.compat.captions import Captions
    from laion_zarr.compat.config import dataset_initialize, get_data_dir, set_data_dir
    from laion_zarr.compat.discovery import describe, get_rois, get_subjects
    from laion_zarr.compat.download import (
        download_captions,
        download_embeddings,
        download_segmentations,
        download_stimuli,
        request_stimulus_access,
    )
    from laion_zarr.compat.embeddings import Embeddings, load_embeddings
    from laion_zarr.compat.group import Group, load_subjects
    from laion_zarr.compat.segmentations import Segmentations
    from laion_zarr.compat.stimuli import Stimuli, as_displayed_rgb, load_stimuli
    from laion_zarr.compat.subject import Subject, load_subject, resolve_subject_id

# Looked up on first use, as in `laion_zarr`.
_HOMES = {
    "Captions": "captions",
    "DataDirNotSetError": "_errors",
    "DataNotDownloadedError": "_errors",
    "DataNotFoundError": "_errors",
    "Embeddings": "embeddings",
    "Group": "group",
    "LicenseNotAcceptedError": "_errors",
    "NoMatchingDataError": "_errors",
    "Segmentations": "segmentations",
    "Stimuli": "stimuli",
    "StimuliNotDownloadedError": "_errors",
    "Subject": "subject",
    "SubjectNotFoundError": "_errors",
    "as_displayed_rgb": "stimuli",
    "dataset_initialize": "config",
    "describe": "discovery",
    "download_captions": "download",
    "download_embeddings": "download",
    "download_segmentations": "download",
    "download_stimuli": "download",
    "get_data_dir": "config",
    "get_rois": "discovery",
    "get_subjects": "discovery",
    "load_embeddings": "embeddings",
    "load_stimuli": "stimuli",
    "load_subject": "subject",
    "load_subjects": "group",
    "request_stimulus_access": "download",
    "resolve_subject_id": "subject",
    "set_data_dir": "config",
}

__all__ = [
    "Captions",
    "DataDirNotSetError",
    "DataNotDownloadedError",
    "DataNotFoundError",
    "Embeddings",
    "Group",
    "LicenseNotAcceptedError",
    "NoMatchingDataError",
    "Segmentations",
    "Stimuli",
    "StimuliNotDownloadedError",
    "Subject",
    "SubjectNotFoundError",
    "as_displayed_rgb",
    "dataset_initialize",
    "describe",
    "download_captions",
    "download_embeddings",
    "download_segmentations",
    "download_stimuli",
    "get_data_dir",
    "get_rois",
    "get_subjects",
    "load_embeddings",
    "load_stimuli",
    "load_subject",
    "load_subjects",
    "request_stimulus_access",
    "resolve_subject_id",
    "set_data_dir",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("laion_zarr").__version__
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
