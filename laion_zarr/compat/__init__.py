"""The API of the numpy package ``laion_fmri``, on the Zarr store: functions return numpy arrays.

For existing scripts: rename ``laion_fmri`` to ``laion_zarr.compat`` in them and convert the data
once. Modules, functions and arguments have the names of the numpy package. Returned arrays are in
memory, without labels, and writable. New code should use `laion_zarr` itself;
``docs/coming-from-laion_fmri.md`` shows each idiom in both forms.

Loaders also take ``store=``, as the loaders of `laion_zarr` do. The argument ``data_dir=`` of a
loader is the folder that holds ``laion-fmri.zarr``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from laion_zarr._lazy_names import lazy_names

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

_HOMES = {
    "Captions": "laion_zarr.compat.captions",
    "DataDirNotSetError": "laion_zarr.compat._errors",
    "DataNotDownloadedError": "laion_zarr.compat._errors",
    "DataNotFoundError": "laion_zarr.compat._errors",
    "Embeddings": "laion_zarr.compat.embeddings",
    "Group": "laion_zarr.compat.group",
    "LicenseNotAcceptedError": "laion_zarr.compat._errors",
    "NoMatchingDataError": "laion_zarr.compat._errors",
    "Segmentations": "laion_zarr.compat.segmentations",
    "Stimuli": "laion_zarr.compat.stimuli",
    "StimuliNotDownloadedError": "laion_zarr.compat._errors",
    "Subject": "laion_zarr.compat.subject",
    "SubjectNotFoundError": "laion_zarr.compat._errors",
    "as_displayed_rgb": "laion_zarr.compat.stimuli",
    "dataset_initialize": "laion_zarr.compat.config",
    "describe": "laion_zarr.compat.discovery",
    "download_captions": "laion_zarr.compat.download",
    "download_embeddings": "laion_zarr.compat.download",
    "download_segmentations": "laion_zarr.compat.download",
    "download_stimuli": "laion_zarr.compat.download",
    "get_data_dir": "laion_zarr.compat.config",
    "get_rois": "laion_zarr.compat.discovery",
    "get_subjects": "laion_zarr.compat.discovery",
    "load_embeddings": "laion_zarr.compat.embeddings",
    "load_stimuli": "laion_zarr.compat.stimuli",
    "load_subject": "laion_zarr.compat.subject",
    "load_subjects": "laion_zarr.compat.group",
    "request_stimulus_access": "laion_zarr.compat.download",
    "resolve_subject_id": "laion_zarr.compat.subject",
    "set_data_dir": "laion_zarr.compat.config",
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

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
