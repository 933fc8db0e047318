"""Downloads that users call, and variants with the option `progress` for the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from laion_zarr import _release as release
from laion_zarr import config
from laion_zarr._release import Ids
from laion_zarr.download import access_service, bucket, filters, items, license
from laion_zarr.download.fetch import Report, fetch
from laion_zarr.download.filters import Given
from laion_zarr.errors import DataNotDownloadedError, nearest

_FEW_JOBS = 4  # threads for a few large files


# -- before the first request


def data_dir() -> Path:
    """The data directory, once the licence is accepted; asks for acceptance if necessary."""
    root = config.get_data_dir()
    if not root.is_dir():
        raise DataNotDownloadedError(
            f"The data directory {root} is not a folder. Create it (mkdir), or name another with "
            "'laion-zarr config --data-dir DIR'."
        )
    license.ask_once()
    bucket.clear()  # list the bucket as it is now, not as it was earlier in the process
    return root


def check_jobs(n_jobs: object) -> None:
    """Raise `ValueError` unless `n_jobs` is a positive number."""
    if not isinstance(n_jobs, int) or isinstance(n_jobs, bool) or n_jobs < 1:
        raise ValueError(f"n_jobs={n_jobs!r}: expected a whole number of 1 or more.")


# -- variants of the public functions, with the option `progress`


def run_download(
    subject: Ids,
    given: dict[str, Given],
    include_stimuli: bool = False,
    include_anatomical: bool = False,
    include_freesurfer: bool = False,
    include_localizers: bool = False,
    include_raw: bool = False,
    include_bold: bool = False,
    n_jobs: int = 1,
    progress: bool = True,
) -> Report:
    """Do what `download` does, with its filters in `given`; optionally with a progress bar."""
    ids, asked = items.subject_ids(subject), filters.parse(given)
    check_jobs(n_jobs)
    root = data_dir()
    if include_stimuli:
        access_service.ensure_access()  # asked before the download, which may take hours
    subjects = items.in_bucket(ids)
    folders = {
        release.ANATOMY: include_anatomical,
        release.FREESURFER: include_freesurfer,
        release.LOCALIZERS: include_localizers,
        release.raw_dir(""): include_raw,
        release.TEDANA: include_bold,
    }
    more = [
        found
        for folder, include in folders.items()
        if include
        for found in items.included(subjects, folder, asked, named=ids is not None)
    ]
    items.check_filters(subjects, asked, more, named=ids is not None)
    objects = items.dataset_objects()
    for one in subjects:
        objects += items.subject_objects(one, asked)
    each = {found.key: found for found in (*objects, *more)}
    wanted = [items.item(found) for found in each.values()]
    if include_stimuli:
        wanted += items.image_items()
    return fetch(root, wanted, n_jobs, progress)


def run_stimuli(progress: bool = True) -> Report:
    """Do what `download_stimuli` does, optionally with a progress bar."""
    root = data_dir()
    access_service.ensure_access()
    return fetch(root, items.image_items(), _FEW_JOBS, progress)


def run_embeddings(
    models: str | Sequence[str] | None = None, revision: str | None = None, progress: bool = True
) -> Report:
    """Do what `download_embeddings` does, optionally with a progress bar."""
    wanted = None if models in (None, "all") else filters.one_or_many(models, "models")
    root = data_dir()
    there = items.embedding_files(revision)
    if unknown := [model for model in wanted or () if model not in there]:
        raise ValueError(
            f"There are no embeddings of {unknown[0]!r}.{nearest(unknown[0], there)} Name one or "
            f"more of: {', '.join(there)}."
        )
    paths = [path for model, path in there.items() if wanted is None or model in wanted]
    return _run_public(root, paths, progress)


def run_segmentations(progress: bool = True) -> Report:
    """Do what `download_segmentations` does, optionally with a progress bar."""
    return _run_public(data_dir(), [release.SEGMENTATIONS, release.SEGMENTATION_TABLE], progress)


def run_captions(progress: bool = True) -> Report:
    """Do what `download_captions` does, optionally with a progress bar."""
    return _run_public(data_dir(), [release.CAPTIONS], progress)


def _run_public(root: Path, paths: Iterable[object], progress: bool) -> Report:
    wanted = [items.item(found) for found in items.stimulus_objects(paths)]
    return fetch(root, wanted, _FEW_JOBS, progress)


# -- public functions


def download(
    subject: Ids,
    ses: Given = None,
    task: Given = None,
    space: Given = None,
    desc: Given = None,
    stat: Given = None,
    suffix: Given = None,
    extension: Given = None,
    include_stimuli: bool = False,
    include_anatomical: bool = False,
    include_freesurfer: bool = False,
    include_localizers: bool = False,
    include_raw: bool = False,
    include_bold: bool = False,
    n_jobs: int = 1,
) -> Report:
    """Download subjects, or a selection of their files, into the data directory.

    A file that is present already is not downloaded again; an interrupted file is continued. Files
    that define the voxel axis (mean R² map, brain mask on the functional grid, ROIs) are included
    whatever the filters select.

    Parameters
    ----------
    subject : str, int or list of them
        ``"sub-01"``, ``"01"`` or 1, a list of ids, or ``"all"``.
    ses : str, int or list of them, optional
        Sessions, such as ``"ses-04"``, ``"04"`` or 4; ``"averages"`` for the files that belong to
        no session. If not provided, all public sessions.
    task, space, desc, stat, suffix, extension : str or list of str, optional
        Select betas, maps and ROIs by BIDS entity; a file that lacks the entity is included.
    include_stimuli : bool, optional
        Whether to download the stimulus images, too; see `download_stimuli`.
    include_anatomical : bool, optional
        Whether to download all anatomical images; the filters do not apply to them.
    include_freesurfer : bool, optional
        Whether to download the FreeSurfer recon; the filters do not apply to it.
    include_localizers : bool, optional
        Whether to download the localizer maps; the filters do not apply to them.
    include_raw, include_bold : bool, optional
        Whether to download the raw data (see `download_raw` for a selection of them) and the
        preprocessed time series; of the filters, `ses` alone applies to them.
    n_jobs : int, optional
        Number of files that are downloaded at a time.

    Returns
    -------
    Report
        Files that were downloaded, and files that were present already.

    Raises
    ------
    DataDirNotSetError
        If no data directory is set.
    LicenseNotAcceptedError
        If the licence of the dataset was not accepted.
    DownloadError
        If some files could not be downloaded; the message names them and how many were not tried.
        All files that were downloaded are kept.

    Examples
    --------
    >>> from laion_zarr.download import download
    >>> download("sub-03", ses=["01", "02"], n_jobs=4)  # doctest: +SKIP
    397 files downloaded (4.21 GB), 0 already in /data/laion-fmri
    """
    given = {
        "ses": ses,
        "task": task,
        "space": space,
        "desc": desc,
        "stat": stat,
        "suffix": suffix,
        "extension": extension,
    }
    return run_download(
        subject,
        given,
        include_stimuli,
        include_anatomical,
        include_freesurfer,
        include_localizers,
        include_raw,
        include_bold,
        n_jobs,
    )


def download_stimuli() -> Report:
    """Download the stimulus images, for which a Data Use Agreement must be accepted.

    Returns
    -------
    Report
        Files that were downloaded, and files that were present already.

    Raises
    ------
    AccessServiceError
        If the access service refuses the request or cannot be reached.
    TermsOutdatedError
        If the terms of the access service have changed since they were accepted.

    Examples
    --------
    >>> import laion_zarr
    >>> laion_zarr.download_stimuli()  # doctest: +SKIP
    2 files downloaded (6.40 GB), 0 already in /data/laion-fmri
    """
    return run_stimuli()


def download_embeddings(
    models: str | Sequence[str] | None = None, revision: str | None = None
) -> Report:
    """Download embeddings of the images.

    Parameters
    ----------
    models : str or list of str, optional
        Models, such as ``"CLIP"``. If not provided, all models.
    revision : str, optional
        An earlier generation: ``"v1"`` for the embeddings that were replaced in September 2026. The
        files lie beside today's, and become models of their own, such as ``"CLIP@v1"``. If not
        provided, today's embeddings.

    Returns
    -------
    Report
        Files that were downloaded, and files that were present already.

    Raises
    ------
    ValueError
        If there is no such model or revision; the message lists those that there are.

    Examples
    --------
    >>> import laion_zarr
    >>> laion_zarr.download_embeddings("CLIP")  # doctest: +SKIP
    2 files downloaded (54.3 MB), 0 already in /data/laion-fmri
    >>> laion_zarr.download_embeddings("CLIP", revision="v1")  # doctest: +SKIP
    1 files downloaded (51.4 MB), 1 already in /data/laion-fmri
    """
    return run_embeddings(models, revision)


def download_segmentations() -> Report:
    """Download the segmentation masks of the shared images, and their table.

    Returns
    -------
    Report
        Files that were downloaded, and files that were present already.

    Examples
    --------
    >>> import laion_zarr
    >>> laion_zarr.download_segmentations()  # doctest: +SKIP
    3 files downloaded (75.9 MB), 0 already in /data/laion-fmri
    """
    return run_segmentations()


def download_captions() -> Report:
    """Download the captions of the images.

    Returns
    -------
    Report
        Files that were downloaded, and files that were present already.

    Examples
    --------
    >>> import laion_zarr
    >>> laion_zarr.download_captions()  # doctest: +SKIP
    2 files downloaded (21.7 MB), 0 already in /data/laion-fmri
    """
    return run_captions()


def accept_license() -> None:
    """Accept the dataset's licence (CC0) ahead of the first download.

    At a terminal the licence is shown and must be confirmed; in a script the call itself is the
    acceptance.

    Raises
    ------
    LicenseNotAcceptedError
        If the user declines the licence at the terminal.

    Examples
    --------
    >>> from laion_zarr.download import accept_license
    >>> accept_license()  # doctest: +SKIP
    """
    license.accept()


def accept_licenses(include_stimuli: bool = False) -> None:
    """Accept the dataset's licence and, if wanted, request access to the stimulus images.

    Parameters
    ----------
    include_stimuli : bool, optional
        Whether to request access to the stimulus images, too, unless it was granted before.

    Examples
    --------
    >>> from laion_zarr.download import accept_licenses
    >>> accept_licenses(include_stimuli=True)  # doctest: +SKIP
    """
    license.accept()
    if include_stimuli:
        access_service.ensure_access()


def request_stimulus_access() -> None:
    """Fill in the access service's form for the stimulus images, at the terminal.

    The request id that the service returns is kept in the user's config directory, readable only by
    its owner. The environment variable ``LAION_FMRI_REQUEST_ID`` takes precedence over it.

    Examples
    --------
    >>> from laion_zarr.download import request_stimulus_access
    >>> request_stimulus_access()  # doctest: +SKIP
    """
    access_service.request_access()
