"""Downloads of raw data: what the scanner gave, and the tables of events."""

from __future__ import annotations

from laion_zarr._release import Ids
from laion_zarr.download import filters, items
from laion_zarr.download.dataset import check_jobs, data_dir
from laion_zarr.download.fetch import Report, fetch
from laion_zarr.download.filters import Given


def run_raw(
    subject: Ids, given: dict[str, Given], n_jobs: int = 1, progress: bool = True
) -> Report:
    """Do what `download_raw` does, with its filters in `given`; optionally with a progress bar."""
    ids, asked = items.subject_ids(subject), filters.parse(given)
    check_jobs(n_jobs)
    root = data_dir()
    objects = [*items.dataset_objects(), *items.raw_objects(ids, asked)]
    return fetch(root, [items.item(found) for found in objects], n_jobs, progress)


def download_raw(
    subject: Ids,
    ses: Given = None,
    run: Given = None,
    task: Given = None,
    echo: Given = None,
    part: Given = None,
    suffix: Given = None,
    extension: Given = None,
    n_jobs: int = 1,
) -> Report:
    """Download raw data of subjects: scans, field maps, tables of events; no derivatives.

    Parameters
    ----------
    subject : str, int or list of them
        ``"sub-01"``, ``"01"`` or 1, a list of ids, or ``"all"``.
    ses : str, int or list of them, optional
        Sessions, such as ``"04"`` or ``"ses-04"``; ``"averages"`` for the files that belong to no
        session. If not provided, all public sessions.
    run, echo : str, int or list of them, optional
        Runs and echoes, such as ``"01"`` or 1; a file without a run, or echo, is included.
    task, part, suffix, extension : str or list of str, optional
        Other BIDS entities, such as ``part="mag"``; a file that lacks the entity is included.
        ``suffix="events"`` selects the tables of events alone.
    n_jobs : int, optional
        Number of files that are downloaded at a time.

    Returns
    -------
    Report
        Files that were downloaded, and files that were present already.

    Raises
    ------
    DataNotDownloadedError
        If the bucket has no raw data of a subject.
    ValueError
        If there is no such subject, or no file passes the filters.
    DownloadError
        If some files could not be downloaded, see `download`.

    Examples
    --------
    >>> from laion_zarr.download import download_raw
    >>> download_raw("sub-01", ses="01", suffix="events")  # doctest: +SKIP
    15 files downloaded (0.1 MB), 0 already in /data/laion-fmri
    """
    given = {
        "ses": ses,
        "run": run,
        "task": task,
        "echo": echo,
        "part": part,
        "suffix": suffix,
        "extension": extension,
    }
    return run_raw(subject, given, n_jobs)
