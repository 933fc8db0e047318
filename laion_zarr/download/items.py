"""What a download fetches: objects of the bucket, and files behind the access service's links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from laion_zarr import _release as release
from laion_zarr.download import access_service, bucket, filters
from laion_zarr.download.filters import Filters
from laion_zarr.download.mirror import Item
from laion_zarr.errors import AccessServiceError, DataNotDownloadedError


def item(found: bucket.Object) -> Item:
    """What fetches an object of the bucket."""
    digest = None if found.md5 is None else ("md5", found.md5)
    return Item(found.key, found.size, found.etag, digest, partial(bucket.blocks, found))


def subject_ids(given: object) -> list[str] | None:
    """Ids of the subjects that the user named; None for all."""
    if given == "all":
        return None
    several = list(given) if isinstance(given, list | tuple) and given else [given]
    return list(dict.fromkeys(release.subject_id(one) for one in several))


def in_bucket(ids: list[str] | None) -> list[str]:
    """The ids, if the bucket holds all of them; those that it holds for None."""
    if ids is None:
        return bucket.subjects()
    for one in ids:
        if not _core(one):
            bucket.check_subject(one)  # which says what there is
    return ids


def _core(subject: str) -> list[bucket.Object]:
    """Betas, maps and ROIs of a subject: what filters narrow."""
    return [
        found
        for folder in (release.GLM, release.ROIS)
        for found in bucket.objects(folder / subject)
        if release.is_published(found.key)
    ]


def check_filters(subjects: Sequence[str], asked: Filters) -> None:
    """Refuse filters that no file passes."""
    keys = [found.key for subject in subjects for found in _core(subject)]
    filters.check(asked, keys)
    if not any(filters.matches(key, asked) for key in keys):
        pairs = ", ".join(f"{name}={sorted(values)}" for name, values in asked.items())
        raise ValueError(
            f"No file of {', '.join(subjects)} has all of {pairs}. Pass fewer filters."
        )


def dataset_objects() -> list[bucket.Object]:
    """The small files that describe the whole dataset."""
    return [found for found in bucket.folder().objects if release.is_dataset_file(found.key)]


def subject_objects(
    subject: str, asked: Filters, include_anatomical: bool, include_freesurfer: bool
) -> list[bucket.Object]:
    """What is wanted of one subject."""
    core, anatomy = _core(subject), bucket.objects(release.ANATOMY / subject)
    wanted = {found.key for found in core if filters.matches(found.key, asked)}
    if wanted:  # nothing can be done with betas that have no voxel axis
        wanted |= {
            found.key for found in (*core, *anatomy) if release.is_essential(subject, found.key)
        }
    if include_anatomical:
        wanted |= {found.key for found in _asked(anatomy, release.ANATOMY / subject)}
    chosen = [found for found in (*core, *anatomy) if found.key in wanted]
    if include_freesurfer:
        folder = release.FREESURFER / subject
        chosen += _asked(bucket.objects(folder), folder)
    return chosen


def _asked(found: Sequence[bucket.Object], folder: object) -> Sequence[bucket.Object]:
    if not found:
        raise DataNotDownloadedError(
            f"{release.BUCKET}/{folder} holds nothing. Leave its --include option out."
        )
    return found


def stimulus_objects(paths: Iterable[object]) -> list[bucket.Object]:
    """Public files of the stimuli, with the table that says what they belong to."""
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
    """The images by the access service's links, and their table from there or the bucket."""
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
