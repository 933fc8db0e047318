"""Files of a download: objects of the bucket, and files with links from the access service."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import PurePosixPath

from laion_zarr import _release as release
from laion_zarr.download import access_service, bucket, filters
from laion_zarr.download.filters import Filters
from laion_zarr.download.mirror import Item
from laion_zarr.errors import AccessServiceError, DataNotDownloadedError


def item(found: bucket.Object) -> Item:
    """Item that fetches an object of the bucket."""
    digest = None if found.md5 is None else ("md5", found.md5)
    return Item(found.key, found.size, found.etag, digest, partial(bucket.blocks, found))


def subject_ids(given: object) -> list[str] | None:
    """Ids of the subjects that the user named, without duplicates; None for ``"all"``."""
    if given == "all":
        return None
    several = list(given) if isinstance(given, list | tuple) and given else [given]
    return list(dict.fromkeys(release.subject_id(one) for one in several))


def in_bucket(ids: list[str] | None) -> list[str]:
    """Check that the bucket holds the subjects, and return their ids; all its subjects for None."""
    if ids is None:
        return bucket.subjects()
    for one in ids:
        if not _core(one):
            bucket.check_subject(one)  # raises, with a list of the existing subjects
    return ids


def _core(subject: str) -> list[bucket.Object]:
    """Betas, maps and ROIs of a subject: the objects that filters apply to."""
    return [
        found
        for folder in (release.GLM, release.ROIS)
        for found in bucket.objects(folder / subject)
        if release.is_published(found.key)
    ]


def check_filters(subjects: Sequence[str], asked: Filters) -> None:
    """Raise `ValueError` if no file of the subjects passes the filters."""
    keys = [found.key for subject in subjects for found in _core(subject)]
    filters.check(asked, keys)
    if not any(filters.matches(key, asked) for key in keys):
        pairs = ", ".join(f"{name}={sorted(values)}" for name, values in asked.items())
        raise ValueError(
            f"No file of {', '.join(subjects)} has all of {pairs}. Pass fewer filters."
        )


def dataset_objects() -> list[bucket.Object]:
    """Objects of the small files that describe the whole dataset, such as the README."""
    return [found for found in bucket.folder().objects if release.is_dataset_file(found.key)]


def subject_objects(
    subject: str, asked: Filters, include_anatomical: bool, whole: Sequence[PurePosixPath]
) -> list[bucket.Object]:
    """Objects that a download of one subject needs; of the folders in `whole`, all objects."""
    core, anatomy = _core(subject), bucket.objects(release.ANATOMY / subject)
    wanted = {found.key for found in core if filters.matches(found.key, asked)}
    if wanted:  # betas are of no use without the files that define the voxel axis
        wanted |= {
            found.key for found in (*core, *anatomy) if release.is_essential(subject, found.key)
        }
    if include_anatomical:
        wanted |= {found.key for found in _asked(anatomy, release.ANATOMY / subject)}
    chosen = [found for found in (*core, *anatomy) if found.key in wanted]
    for folder in whole:
        chosen += _asked(bucket.objects(folder / subject), folder / subject)
    return chosen


def _asked(found: Sequence[bucket.Object], folder: object) -> Sequence[bucket.Object]:
    if not found:
        raise DataNotDownloadedError(
            f"{release.BUCKET}/{folder} holds nothing. Leave its --include option out."
        )
    return found


def stimulus_objects(paths: Iterable[object]) -> list[bucket.Object]:
    """Objects of public stimulus files, with the table of image metadata and the sidecars."""
    listed = {found.key: found for found in bucket.objects(release.STIMULI)}
    wanted = [str(path) for path in paths]
    if missing := [path for path in wanted if path not in listed]:
        raise DataNotDownloadedError(
            f"{release.BUCKET}/{missing[0]} is not in the bucket. There is: {', '.join(listed)}."
        )
    wanted.append(str(release.STIMULUS_METADATA))
    wanted += [release.sidecar(path) for path in wanted]
    return [listed[path] for path in dict.fromkeys(wanted) if path in listed]


def image_items() -> list[Item]:
    """Items of the images (access service) and of their metadata (access service or bucket)."""
    links = access_service.Links()
    if (images := release.STIMULUS_IMAGES.name) not in links:
        raise AccessServiceError(f"The access service gives no {images}. Run the same again later.")
    paths = [release.STIMULUS_IMAGES, release.STIMULUS_METADATA]
    items = []
    for path in paths:
        if path.name in links:
            link = links[path.name]
            blocks = partial(links.blocks, link.name)
            items.append(Item(str(path), link.size, link.sha256, ("sha256", link.sha256), blocks))
        else:
            items += [item(found) for found in stimulus_objects([path])]
    return items
