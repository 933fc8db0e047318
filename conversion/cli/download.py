"""Commands that send requests to the bucket or to the access service."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from cyclopts import Parameter

from laion_zarr.conversion.cli import completion
from laion_zarr.conversion.cli.options import SESSIONS, Json, Quiet, Subject, Subjects, Words
from laion_zarr.conversion.cli.output import print_document

Jobs = Annotated[int, Parameter(help="files at a time (default: 4)")]
_Sessions = Annotated[
    Words | None,
    SESSIONS,
    Parameter(help="sessions, such as 04, or 'averages' for the files of no session"),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Filters:
    """Files of a subject, by BIDS entity."""

    ses: _Sessions = None
    task: Annotated[Words | None, Parameter(help="such as images")] = None
    space: Annotated[Words | None, Parameter(help="such as T1w")] = None
    desc: Annotated[Words | None, Parameter(help="such as SingletrialBetas")] = None
    stat: Annotated[Words | None, Parameter(help="such as effect")] = None
    suffix: Annotated[Words | None, Parameter(help="such as statmap")] = None
    extension: Annotated[Words | None, Parameter(help="such as nii.gz")] = None


@Parameter(name="*")
@dataclass(frozen=True)
class RawFilters:
    """Raw files of a subject, by BIDS entity."""

    ses: _Sessions = None
    run: Annotated[Words | None, Parameter(help="such as 01")] = None
    task: Annotated[Words | None, Parameter(help="such as images")] = None
    echo: Annotated[Words | None, Parameter(help="such as 1")] = None
    part: Annotated[Words | None, Parameter(help="such as mag, or phase")] = None
    suffix: Annotated[Words | None, Parameter(help="such as events")] = None
    extension: Annotated[Words | None, Parameter(help="such as tsv")] = None


@Parameter(name="*")
@dataclass(frozen=True)
class Included:
    """What comes along with the betas, maps and ROIs of a subject."""

    include_stimuli: Annotated[bool, Parameter(help="the images, too")] = False
    include_anatomical: Annotated[bool, Parameter(help="all anatomical images, too")] = False
    include_freesurfer: Annotated[bool, Parameter(help="the FreeSurfer recon, too")] = False
    include_localizers: Annotated[bool, Parameter(help="localizer maps, too")] = False
    include_raw: Annotated[bool, Parameter(help="raw data, too")] = False
    include_bold: Annotated[bool, Parameter(help="preprocessed time series, too")] = False


@Parameter(name="*")
@dataclass(frozen=True)
class Fetching:
    """How files are fetched."""

    accept_license: Annotated[
        bool, Parameter(help="accept the dataset's licence (CC0) unasked")
    ] = False
    quiet: Quiet = False

    def start(self) -> bool:
        """Accept the licence if that was asked for; return whether to show progress."""
        from laion_zarr.download import license

        if self.accept_license and not license.is_accepted():
            license.keep()
        return not self.quiet


_ALL_FILES, _ALL_RAW = Filters(), RawFilters()
_NOTHING_ELSE, _FETCHING = Included(), Fetching()


def subjects(*, json: Json = False) -> int:
    """List the subjects in the bucket."""
    from laion_zarr.discovery import get_subjects

    found = get_subjects()
    if json:
        print_document("subjects", {"subjects": found})
    else:
        print("\n".join(found))
    return 0


def rois(
    *,
    subject: Subject = None,
    category: Annotated[
        str | None,
        Parameter(
            help="only those of this category, such as face", completer=completion.categories
        ),
    ] = None,
    json: Json = False,
) -> int:
    """List the ROIs of a subject in the bucket (of a store: info --subject)."""
    from laion_zarr._release import subject_id
    from laion_zarr.discovery import get_rois, get_subjects

    found = get_rois(subject, category)
    if json:
        asked = next(iter(get_subjects()), None) if subject is None else subject_id(subject)
        print_document("rois", {"subject": asked, "category": category, "rois": found})
    else:
        print("\n".join(found))
    return 0


def download(
    *,
    subject: Subjects,
    filters: Filters = _ALL_FILES,
    include: Included = _NOTHING_ELSE,
    n_jobs: Jobs = 4,
    fetching: Fetching = _FETCHING,
) -> int:
    """Download subjects, or parts of them."""
    from laion_zarr.download.dataset import run_download

    progress = fetching.start()
    report = run_download(
        _all_or(subject), asdict(filters), **asdict(include), n_jobs=n_jobs, progress=progress
    )
    print(report)
    return 0


def _all_or(subjects: list[str]) -> str | list[str]:
    return "all" if "all" in subjects else subjects


def download_raw(
    *,
    subject: Subjects,
    filters: RawFilters = _ALL_RAW,
    n_jobs: Jobs = 4,
    fetching: Fetching = _FETCHING,
) -> int:
    """Download raw data of subjects, or parts of them."""
    from laion_zarr.download.raw import run_raw

    progress = fetching.start()
    print(run_raw(_all_or(subject), asdict(filters), n_jobs, progress))
    return 0


def download_stimuli(*, fetching: Fetching = _FETCHING) -> int:
    """Download the stimulus images (needs access: request-access)."""
    from laion_zarr.download.dataset import run_stimuli

    print(run_stimuli(fetching.start()))
    return 0


def download_embeddings(
    *,
    models: Annotated[Words | None, Parameter(help="only these")] = None,
    revision: Annotated[
        str | None,
        Parameter(help="an earlier generation: v1, which was replaced in September 2026"),
    ] = None,
    fetching: Fetching = _FETCHING,
) -> int:
    """Download embeddings of the images."""
    from laion_zarr.download.dataset import run_embeddings

    print(run_embeddings(models, revision, fetching.start()))
    return 0


def download_segmentations(*, fetching: Fetching = _FETCHING) -> int:
    """Download the segmentation masks of the images."""
    from laion_zarr.download.dataset import run_segmentations

    print(run_segmentations(fetching.start()))
    return 0


def download_captions(*, fetching: Fetching = _FETCHING) -> int:
    """Download the captions of the images."""
    from laion_zarr.download.dataset import run_captions

    print(run_captions(fetching.start()))
    return 0


def request_access() -> int:
    """Request access to the stimulus images."""
    from laion_zarr.download import request_stimulus_access

    request_stimulus_access()
    return 0
