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
    if isinstance(given, str) and given == "all":
        return None
    several = isinstance(given, Iterable) and not isinstance(given, str) and list(given)
    given = several or [given]
    return list(dict.fromkeys(release.subject_id(one) for one in given))


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


def check_filters(
    subjects: Sequence[str], asked: Filters, included: Sequence[bucket.Object], named: bool
) -> None:
    """Raise `ValueError` if no file of the subjects passes the filters, and none is included.

    If the subjects were `named`, each of them must have files, with every value of the filters.
    """
    for some in [[subject] for subject in subjects] if named else [subjects]:
        keys = [found.key for subject in some for found in _core(subject)]
        more = [found.key for found in included if release.subject_of(found.key) in some]
        if not keys and not more:
            raise ValueError(
                f"{release.BUCKET} holds no betas or ROIs of {', '.join(some)}. Name what it may "
                "hold of them: --include-localizers, --include-raw, --include-bold."
            )
        _check(some, asked, [*keys, *more])


def _check(subjects: Sequence[str], asked: Filters, keys: Sequence[str]) -> None:
    filters.check(asked, keys, ", ".join(subjects))
    if not any(filters.matches(key, asked) for key in keys):
        pairs = ", ".join(f"{name}={sorted(values)}" for name, values in asked.items())
        raise ValueError(
            f"No file of {', '.join(subjects)} has all of {pairs}. Pass fewer filters."
        )


def dataset_objects() -> list[bucket.Object]:
    """Objects of the small files that describe the whole dataset, such as the README."""
    return [found for found in bucket.folder().objects if release.is_dataset_file(found.key)]


def subject_objects(subject: str, asked: Filters) -> list[bucket.Object]:
    """Objects that a download of one subject needs: betas, maps, ROIs, and the voxel axis."""
    core, anatomy = _core(subject), bucket.objects(release.ANATOMY / subject)
    wanted = {found.key for found in core if filters.matches(found.key, asked)}
    if wanted:  # betas are of no use without the files that define the voxel axis
        wanted |= {
            found.key for found in (*core, *anatomy) if release.is_essential(subject, found.key)
        }
    return [found for found in (*core, *anatomy) if found.key in wanted]


def included(
    subjects: Sequence[str], folder: PurePosixPath, asked: Filters, named: bool
) -> list[bucket.Object]:
    """Objects of a folder for the subjects; raises if a subject that was named has none.

    Of time series, the folders of which are large, those of the sessions in `asked`.
    """
    by_session = {name: values for name, values in asked.items() if name == "ses"}
    if folder not in (release.TEDANA, release.raw_dir("")):
        by_session = {}
    chosen: list[bucket.Object] = []
    for subject in subjects:
        found = [
            found
            for found in bucket.objects(folder / subject)
            if release.is_published(found.key) and filters.matches(found.key, by_session)
        ]
        if named and not found:
            raise _nothing(folder / subject, by_session)
        chosen += found
    if not chosen:
        raise _nothing(folder / "sub-*", by_session)
    return chosen


def _nothing(folder: PurePosixPath, asked: Filters) -> DataNotDownloadedError:
    of = "".join(f" of {name} {', '.join(sorted(values))}" for name, values in asked.items())
    return DataNotDownloadedError(
        f"{release.BUCKET}/{folder} holds nothing{of}. Leave its --include option out."
    )


def raw_objects(ids: list[str] | None, asked: Filters) -> list[bucket.Object]:
    """Objects of raw data that pass the filters; of all subjects if `ids` is None."""
    subjects = bucket.subjects_in("") if ids is None else ids
    objects = []
    for subject in subjects:
        its = [o for o in bucket.objects(release.raw_dir(subject)) if release.is_published(o.key)]
        if not its and bucket.check_subject(subject):  # which lists the subjects that there are
            raise DataNotDownloadedError(f"{release.BUCKET} holds no raw data of {subject}.")
        if ids is not None:
            _check([subject], asked, [found.key for found in its])
        objects += its
    _check(subjects, asked, [found.key for found in objects])
    return [found for found in objects if filters.matches(found.key, asked)]


def embedding_files(revision: str | None) -> dict[str, str]:
    """Model -> embedding file in the bucket: of today, or of an archived revision."""
    if revision is None:
        return release.embedding_files([found.key for found in bucket.objects(release.STIMULI)])
    archived = release.embedding_files(
        [found.key for found in bucket.objects(release.EMBEDDING_ARCHIVE)]
    )
    revisions = sorted({str(release.embedding_revision(name)) for name in archived})
    if revision not in revisions:
        raise ValueError(
            f"There is no revision {revision!r} of the embeddings. Name one of: "
            f"{', '.join(revisions) or '(none)'}; leave revision out for today's."
        )
    return {
        name.partition("@")[0]: file
        for name, file in archived.items()
        if release.embedding_revision(name) == revision
    }


def stimulus_objects(paths: Iterable[object]) -> list[bucket.Object]:
    """Objects of public stimulus files, with the table of image metadata and the sidecars."""
    wanted = [str(path) for path in paths]
    folders = {str(release.STIMULI), *(str(PurePosixPath(path).parent) for path in wanted)}
    listed = {found.key: found for folder in folders for found in bucket.objects(folder)}
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
