"""Lists of subjects and ROIs in the bucket; no local data, credentials or download are needed.

Listings are cached in the process; the functions of `laion_zarr.download` list the bucket again.
"""

from __future__ import annotations

from laion_zarr import _release as release
from laion_zarr._release import Id
from laion_zarr.download import bucket
from laion_zarr.errors import nearest


def get_subjects() -> list[str]:
    """Subjects with data in the bucket, raw or derived.

    Returns
    -------
    list of str
        Subject ids, sorted.

    Examples
    --------
    >>> from laion_zarr.discovery import get_subjects
    >>> get_subjects()  # doctest: +SKIP
    ['sub-01', 'sub-03', 'sub-05', 'sub-06', 'sub-07']
    """
    return bucket.subjects()


def get_rois(subject: Id | None = None, category: str | None = None) -> list[str]:
    """Names of the ROIs of a subject in the bucket.

    Parameters
    ----------
    subject : str or int, optional
        ``"sub-01"``, ``"01"`` or 1. If not provided, the first subject.
    category : str, optional
        Category of ROIs, such as ``"face"``. If not provided, ROIs of every category.

    Returns
    -------
    list of str
        ROI names, sorted.

    Examples
    --------
    >>> from laion_zarr.discovery import get_rois
    >>> get_rois("sub-01", category="face")  # doctest: +SKIP
    ['FFA1', 'FFA2', 'OFA', 'pSTSfaces']
    """
    if subject is None:
        subjects = get_subjects()
        if not subjects:
            return []
        subject = subjects[0]
    subject = bucket.check_subject(subject)
    names = {found.key for found in bucket.objects(release.ROIS / subject)}
    rois = release.subject_files(subject, names).rois
    categories = sorted({files.category for files in rois.values()})
    if category is not None and category not in categories:
        raise ValueError(
            f"{subject} has no ROI category {category!r}.{nearest(category, categories)} Name one "
            f"of: {', '.join(categories)}."
        )
    return sorted(name for name, files in rois.items() if category in (None, files.category))


def describe() -> None:
    """Print the address of the bucket, its subjects, and the ROIs of the first subject.

    Examples
    --------
    >>> import laion_zarr
    >>> laion_zarr.describe()  # doctest: +SKIP
    LAION-fMRI Dataset
      Bucket:    s3://laion-fmri
      Subjects:  5 (sub-01, sub-03, sub-05, sub-06, sub-07)
      ROIs:      EBA, FBA, FFA1, …
    """
    subjects = get_subjects()
    rois = get_rois()
    print("LAION-fMRI Dataset")
    print(f"  Bucket:    {release.BUCKET}")
    print(f"  Subjects:  {len(subjects)} ({', '.join(subjects) or 'none'})")
    if rois:
        print(f"  ROIs:      {', '.join(rois)}")


def inspect_bucket() -> None:
    """Print the top-level folders of the bucket and counts of subject folders, to debug access.

    Examples
    --------
    >>> from laion_zarr.discovery import inspect_bucket
    >>> inspect_bucket()  # doctest: +SKIP
    Bucket: s3://laion-fmri
    Top-level prefixes (2):
      derivatives/
      stimuli/
    derivatives/glmsingle-tedana/: 5 entries, 5 sub-* entries
    derivatives/rois/: 5 entries, 5 sub-* entries
    """
    top = sorted(bucket.folder().folders)
    print(f"Bucket: {release.BUCKET}")
    print(f"Top-level prefixes ({len(top)}):")
    for name in top:
        print(f"  {name}/")
    for prefix in bucket.SUBJECT_FOLDERS:
        entries, subjects = bucket.folder(prefix).folders, bucket.subjects_in(prefix)
        print(f"{prefix}/: {len(entries)} entries, {len(subjects)} sub-* entries")
