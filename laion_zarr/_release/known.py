"""Files of a mirror that are of no known kind: what came with a release later than this module."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePosixPath

from laion_zarr._release.inventory import subject_files
from laion_zarr._release.keys import is_dataset_file, is_published
from laion_zarr._release.names import (
    CAPTIONS,
    FREESURFER,
    GLM,
    SEGMENTATION_TABLE,
    SEGMENTATIONS,
    STIMULUS_IMAGES,
    STIMULUS_METADATA,
    embedding_files,
    sidecar,
)
from laion_zarr._release.raw import DERIVATIVES

_STIMULUS_FILES = (STIMULUS_METADATA, STIMULUS_IMAGES, SEGMENTATIONS, SEGMENTATION_TABLE, CAPTIONS)
_SUBJECT = re.compile(r"(?:^|/)(sub-[A-Za-z0-9]+)/")
# Kinds of files that are known, and that no part of the store is made of.
_NOT_READ = re.compile(
    rf"{FREESURFER}/(sub-[A-Za-z0-9]+/|(?![Ss][Uu][Bb])).*"
    rf"|{GLM}/sub-\w+/((.*/)?figures/.*|.*GLMsingle_model\.h5|.*summary[^/]*|.*\.html)"
    # Raw data as scanned: echoes, references and field maps; events of the localizers' runs.
    r"|(?P<sub>sub-[A-Za-z0-9]+)/((?P=sub)_sessions\.tsv"
    r"|(?P<ses>ses-[A-Za-z0-9]+)/((?P=sub)_(?P=ses)_scans\.tsv|anat/.*"
    r"|func/[^/]*_(bold|sbref)\.(nii(\.gz)?|tsv)|func/[^/]*_task-(?!images_)[^/]*_events\.tsv"
    r"|fmap/[^/]*_(magnitude[12]?|phasediff|phase[12]|fieldmap|epi)\.nii(\.gz)?))"
)
# Entities whose values tell no kinds of files apart.
_VALUES = re.compile(r"(?<![A-Za-z0-9])(sub|ses|run|echo|hemi|label|contrast)-[A-Za-z0-9]+")
_MOST_KINDS = 4  # of one folder; where there are more, the folder stands for them


def _paths(value: object) -> Iterator[str]:
    """All texts in a `SubjectFiles`, which are its paths and a few ids."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _paths(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _paths(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _paths(getattr(value, field.name))


def _is_ignored(name: str) -> bool:
    """Whether a file is hidden, of a held-out session, or a download under way."""
    hidden = any(part.startswith(".") for part in name.split("/"))
    return hidden or name.endswith(".part") or not is_published(name)


def _is_description(name: str) -> bool:
    """Whether a file describes the dataset, or a whole derivative."""
    folder, _, file = name.rpartition("/")
    return is_dataset_file(file) and (not folder or PurePosixPath(folder) in DERIVATIVES)


def unknown_files(names: Collection[str]) -> list[str]:
    """Files below subjects, derivatives and stimuli that are of no known kind, sorted.

    Parameters
    ----------
    names : collection of str
        Paths of the files of a mirror, relative to its root.

    Notes
    -----
    Known are the files that the converter reads, their sidecars, what describes the dataset, and
    kinds of files that are of no use for the store, such as raw data. Files of held-out sessions,
    hidden files and unfinished downloads are left out.
    """
    data = {name for name in names if not _is_ignored(name)}
    by_subject: dict[str, set[str]] = defaultdict(set)
    for name in data:
        by_subject[subject_of(name) or ""].add(name)
    known = {
        path for sub, its in by_subject.items() if sub for path in _paths(subject_files(sub, its))
    }
    known |= {*map(str, _STIMULUS_FILES), *embedding_files(data).values()}
    known |= {name for name in data if _NOT_READ.fullmatch(name) or _is_description(name)}
    known |= {sidecar(name) for name in known}
    return sorted(data - known)


def subject_of(file: str) -> str | None:
    """Subject that a file belongs to, by its path; None if it belongs to none."""
    match = _SUBJECT.search(file)
    return match[1] if match else None


def _kind(name: str) -> str:
    """Pattern of the names of files like this one: ids, runs and numbers are stars."""
    parts = PurePosixPath(name).parts
    if parts[0] == GLM.parts[0] and PurePosixPath(*parts[:2]) not in DERIVATIVES:
        return "/".join((*parts[:2], ""))  # a whole derivative that is new
    return re.sub(r"(?<=/)[^/-]*\d[^/-]*$", _numbers, _VALUES.sub(r"\1-*", name))


def _numbers(match: re.Match[str]) -> str:
    stem, dot, extension = match[0].partition(".")
    return re.sub(r"\d+", "*", stem) + dot + extension


def kinds_of(files: Iterable[str]) -> dict[str, list[str]]:
    """Files by pattern, such as ``"sub-*/ses-*/dwi/sub-*_ses-*_dwi.nii.gz"``, sorted.

    A new derivative is one kind, named by its folder; so are the files of a folder where there are
    many kinds.
    """
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in sorted(files):
        kinds[_kind(name)].append(name)
    folders = defaultdict(list)
    for kind in kinds:
        folders[kind.rpartition("/")[0]].append(kind)
    found = {}
    for folder, its in folders.items():
        merged = {f"{folder}/*": its} if len(its) > _MOST_KINDS else {kind: [kind] for kind in its}
        for pattern, some in merged.items():
            found[pattern] = sorted(name for kind in some for name in kinds[kind])
    return dict(sorted(found.items()))
