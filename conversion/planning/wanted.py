"""Which parts the files of a mirror become, and which folders hold the files of a kind of parts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from zarr.abc.store import Store

from laion_zarr import _release as release
from laion_zarr._release import SubjectFiles
from laion_zarr.conversion.options import Options
from laion_zarr.conversion.parts import subject as recipe
from laion_zarr.conversion.planning.small_parts import KINDS, MAPS, Kind
from laion_zarr.conversion.source.files import Listing, Source
from laion_zarr.conversion.write.root import groups_in
from laion_zarr.errors import DataNotDownloadedError, StoreError
from laion_zarr.store import schema
from laion_zarr.store.parts import StoredParts
from laion_zarr.store.schema import (
    AVERAGES_PART,
    BOLD_PART,
    CAPTIONS_PART,
    EMBEDDINGS_PART,
    IMAGES_PART,
    METADATA_PART,
    SEGMENTATIONS_PART,
    STIMULI_GROUP,
    STIMULUS_PARTS,
)

BETAS = "betas"  # what --parts calls the sessions, and all that comes with them
STIMULUS_FILES = {
    METADATA_PART: [str(release.STIMULUS_METADATA)],
    IMAGES_PART: [str(release.STIMULUS_IMAGES)],
    SEGMENTATIONS_PART: [str(release.SEGMENTATIONS), str(release.SEGMENTATION_TABLE)],
    CAPTIONS_PART: [str(release.CAPTIONS)],
}
# The voxel axis is made of these, whichever parts are asked for.
_AXIS_FOLDERS = (release.GLM, release.ROIS, release.ANATOMY)


@dataclass(frozen=True)
class Wanted:
    """A part that can be made of the files of a mirror.

    Attributes
    ----------
    name : str
        Name of the part in the manifest.
    option : str
        Its kind, as ``--parts`` names it.
    files : tuple of str
        Source files, without sidecars.
    """

    name: str
    option: str
    files: tuple[str, ...]


def files_of(kind: str, names: Collection[str]) -> dict[str, list[str]]:
    """Source files of each part of one kind; parts whose files a mirror lacks are left out."""
    if kind == EMBEDDINGS_PART:
        models = release.embedding_files(names)
        return {schema.embeddings_part(model): [path] for model, path in models.items()}
    files = STIMULUS_FILES.get(kind, [])
    return {kind: files} if files and all(file in names for file in files) else {}


def stimulus_parts(names: Collection[str]) -> list[Wanted]:
    """Parts of the stimuli that can be made of the files of a mirror."""
    found = {kind: files_of(kind, names) for kind in STIMULUS_PARTS}
    return [
        Wanted(name, kind, tuple(files))
        for kind, its in found.items()
        for name, files in its.items()
    ]


def subject_parts(files: SubjectFiles, mask: str) -> list[Wanted]:
    """Parts of a subject that can be made of its files; `mask` is the choice of brain masks."""
    voxels = Wanted(schema.VOXELS_PART, BETAS, tuple(recipe.voxel_files(files, mask).values()))
    sessions = [
        Wanted(session, BETAS, (its.betas, its.trials))
        for session, its in files.sessions.items()
        if its.betas is not None and its.trials is not None
    ]
    small = [
        Wanted(part.name, option, tuple(part.files.values()))
        for option, kind in {BETAS: MAPS, **KINDS}.items()
        for part in kind.find(files)
    ]
    runs: dict[str, list[str]] = {}
    for (session, _), path in files.bold.items():
        runs.setdefault(session, []).append(path)
    bold = [Wanted(schema.bold_part(ses), BOLD_PART, tuple(its)) for ses, its in runs.items()]
    return [*([voxels] if voxels.files else []), *sessions, *bold, *small]


def option_of(group: str, part: str) -> str:
    """Kind of a stored part, as ``--parts`` names it."""
    if group == STIMULI_GROUP:
        return part.partition("/")[0]
    if schema.is_session_part(part) or part == schema.VOXELS_PART:
        return BETAS
    kinds = {BETAS: MAPS, **KINDS}
    options = (option for option, kind in kinds.items() if part.startswith(kind.stored_as))
    return next(options, part.partition("/")[0])


def _folder(kind: Kind) -> PurePosixPath:
    """Folder that holds a kind's files of all subjects."""
    subject = release.SUBJECTS[0]
    parts = kind.folder(subject).parts
    return PurePosixPath(*parts[: parts.index(subject)])


def folders_of(options: Collection[str]) -> list[PurePosixPath]:
    """Folders that hold the source files of some kinds of parts, as ``--parts`` names these."""
    found: list[PurePosixPath] = []
    for option in options:
        if option in STIMULUS_PARTS:
            found.append(release.STIMULI)
            if option == EMBEDDINGS_PART:
                found.append(release.EMBEDDING_ARCHIVE)
            continue
        if option == AVERAGES_PART:  # made from the store alone
            continue
        found += _AXIS_FOLDERS
        if option in KINDS:
            found.append(_folder(KINDS[option]))
        elif option == BOLD_PART:
            found.append(release.TEDANA)
    return list(dict.fromkeys(found))


def subjects_in(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Subjects with GLMsingle results among the files of a mirror, and other subjects; sorted."""
    folders = "|".join(map(str, release.DERIVATIVES))
    pattern = re.compile(rf"(?:({folders})/)?(sub-[A-Za-z0-9]+)/")
    found = {match.groups() for match in map(pattern.match, names) if match}
    subjects = {subject for folder, subject in found if folder == str(release.GLM)}
    return sorted(subjects), sorted({subject for _, subject in found} - subjects)


@dataclass(frozen=True)
class Mirror:
    """What a mirror has of that which a conversion needs.

    Attributes
    ----------
    listing : Listing
        The files, and what stands beside them.
    subjects : list of str
        Subjects to convert: they have GLMsingle results in the mirror, or are in the store.
    others : list of str
        Other subjects that the mirror has files of.
    """

    listing: Listing
    subjects: list[str]
    others: list[str]


def list_files(source: Source, options: Options, store: Store) -> Mirror:
    """List the files of a mirror that a conversion needs, and the subjects that it converts.

    At a URL, only folders of parts and subjects that are wanted are listed. If not all subjects
    that were named are there, the subjects are all that the mirror has.

    Raises
    ------
    DataNotDownloadedError
        If the mirror holds nothing of the release.
    SourceError
        If it holds nothing that can be listed.
    """
    # Subjects that were named must be there, also if only parts of the stimuli are wanted.
    named = [] if options.subjects is None else [release.GLM]
    # Without --parts, what the store has is kept up to date, time series among it.
    kept = []
    if not options.asked_parts and (options.overwrite or _has_bold(store)):
        kept = [BOLD_PART]
    folders = [*named, *folders_of([*options.parts, *kept])]
    listing = source.listing(options.subjects, folders)
    there, others = subjects_in(listing.names)
    if others:
        stored = set(others) & set(groups_in(store))
        there, others = sorted({*there, *stored}), sorted(set(others) - stored)
    of_stimuli = tuple(f"{folder}/" for folder in release.STIMULUS_FOLDERS)
    stimuli = any(name.startswith(of_stimuli) for name in listing.names)
    if not (there or stimuli) or not set(options.subjects or ()) <= set(there):
        there, _ = subjects_in(source.listing(folders=[release.GLM]).names)
    if not there and not stimuli:
        for error in listing.unread.values():
            raise error
        raise DataNotDownloadedError(
            f"{source.root} holds nothing of LAION-fMRI (expected {release.GLM}/sub-XX)."
            f"{_near(source)} Name the data directory with --source, or download with "
            "'laion-zarr download'."
        )
    return Mirror(listing, there, others)


def _near(source: Source) -> str:
    """Question for an error: the folder above or below that holds the GLM's, if one does."""
    if "://" in source.root:
        return ""
    root = Path(source.root).absolute()
    near = next(
        (one for one in (*root.parents, *sorted(root.iterdir())) if (one / release.GLM).is_dir()),
        None,
    )
    return f" Did you mean {near}?" if near else ""


def _has_bold(store: Store) -> bool:
    """Whether a subject's manifest, if it can be read, lists time series."""
    for group in groups_in(store):
        with suppress(StoreError):
            if any(map(schema.is_bold_part, StoredParts(store, group).parts)):
                return True
    return False
