"""Where the release keeps its files: folder by folder, and what the folders are called."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

from laion_zarr._release.ids import is_held_out
from laion_zarr._release.names import (
    ANATOMY,
    EMBEDDING_ARCHIVE,
    FREESURFER,
    GLM,
    LOCALIZERS,
    ROIS,
    STIMULI,
)
from laion_zarr._release.raw import RAW, TEDANA

# A level of folders: pattern of their names, and what an error calls it.
_Level = tuple[str, str]
_SUBJECT: _Level = ("sub-[A-Za-z0-9]+", "sub-XX")
_PUBLIC: _Level = ("ses-(0[1-9]|[12][0-9]|30)", "ses-01 … ses-30")
_NAMED: _Level = ("ses-[A-Za-z0-9]+", "ses-YY")
_EITHER: _Level = (rf"{_PUBLIC[0]}|ses-(?!\d+$)[A-Za-z0-9]+", _PUBLIC[1])
_FUNC: _Level = ("func", "func")
CATEGORY = "[A-Za-z0-9]+"  # of ROIs
_LEVELS: dict[PurePosixPath, tuple[_Level, ...]] = {
    GLM: (_SUBJECT, _PUBLIC, _FUNC),
    ROIS: (_SUBJECT, (CATEGORY, "a category (letters and digits)")),
    ANATOMY: (_SUBJECT, ("ses-PrismaAnat", "ses-PrismaAnat"), ("anat", "anat")),
    LOCALIZERS: (_SUBJECT, _NAMED, _FUNC),
    FREESURFER: (_SUBJECT, ("surf|mri", "surf or mri"), ("transforms", "transforms")),
    TEDANA: (_SUBJECT, _PUBLIC, _FUNC),
    STIMULI: (),
    EMBEDDING_ARCHIVE: ((r"v\d+", "v1"),),
    RAW: (_SUBJECT, _EITHER, _FUNC),  # the last: all others begin with it, too
}
_OF_ALL_SESSIONS = {GLM: 1}  # folders above the deepest that have files of their own
_LIKE_AN_ID = re.compile(r"(sub|ses)([-_ ]?\d|[-_ ]|[a-z]*[-_]\d)", re.IGNORECASE)
_KEPT_ASIDE = re.compile(
    r"[-_. (]?(old|bak|backup|copy|orig|prev|previous)\d*[)~]*$|[~)]$", re.IGNORECASE
)
_OF_FILES = {".gz", ".nii", ".tsv", ".csv", ".h5", ".gii", ".label"}
_SHORTEST = 3  # letters that make a name like another one


def _base(parts: tuple[str, ...]) -> tuple[PurePosixPath, tuple[str, ...]]:
    """Folder of the release that a path is in, and the rest of the path."""
    for base in _LEVELS:
        if parts[: len(base.parts)] == base.parts:
            return base, parts[len(base.parts) :]
    raise AssertionError(parts)  # every path is below the root


def _fits(level: _Level, name: str) -> bool:
    return re.fullmatch(level[0], name) is not None


def is_read_folder(folder: str) -> bool:
    """Whether files that the converter reads may lie in a folder, or below it."""
    parts = PurePosixPath(folder).parts
    if any(base.parts[: len(parts)] == parts for base in _LEVELS):
        return True
    base, rest = _base(parts)
    levels = _LEVELS[base]
    return len(rest) <= len(levels) and all(map(_fits, levels, rest))


def is_like_folder(folder: str) -> bool:
    """Whether a folder is called as one that is read, or similarly, such as ``ses-2``."""
    path = PurePosixPath(folder)
    like = bool(_LIKE_AN_ID.match(path.name) or _KEPT_ASIDE.search(path.name))
    like |= path.suffix in _OF_FILES
    like &= not is_held_out(path.name)
    return is_read_folder(folder) or (like and is_read_folder(str(path.parent)))


def is_only_folder(path: str) -> bool:
    """Whether a path can be nothing but a folder, such as that of a session."""
    name = PurePosixPath(path).name
    levels = (_SUBJECT, _NAMED, _FUNC)
    return is_read_folder(path) and any(_fits(level, name) for level in levels)


def misplaced(file: str) -> tuple[str, str] | None:
    """Where the path of a file departs from the release's folders: a folder, and what to expect.

    None if it does not. The folder is the first of another name; or the one that holds the file,
    if the file lies too high.
    """
    path = PurePosixPath(file)
    base, rest = _base(path.parts)
    levels, folders = _LEVELS[base], rest[:-1]
    for number, name in enumerate(folders):
        there = str(PurePosixPath(base, *folders[: number + 1]))
        if number == len(levels):
            return there, "no folder"
        other_data = base == RAW and levels[number] == _FUNC and name.islower()
        if not _fits(levels[number], name) and not other_data:
            return there, levels[number][1]
    if len(folders) in (len(levels), _OF_ALL_SESSIONS.get(base)):
        return None
    return str(path.parent), f"a folder {levels[len(folders)][1]} in it"


def looks_alike(name: str, other: str) -> bool:
    """Whether one name begins as the other does, in whatever case: ``ROIs``, ``rois_old``."""
    one, two = sorted((name.casefold(), other.casefold()), key=len)
    return name != other and len(one) >= _SHORTEST and two.startswith(one)


def namesakes(
    folders: Collection[PurePosixPath], parent: PurePosixPath, names: Iterable[str]
) -> list[str]:
    """Folders in `parent`, called `names`, that resemble one of `folders`, or a backup of one.

    Folders of subjects in the root whose names begin as they should are left out.
    """
    depth = len(parent.parts)
    ours = {folder.parts[depth] for folder in folders if parent in folder.parents}
    taken = {base.parts[depth] for base in _LEVELS if parent in base.parents}

    def resembles(name: str) -> bool:
        if parent == RAW and RAW in folders and name[:3].casefold() == "sub":
            return _LIKE_AN_ID.match(name) is not None and not name.startswith("sub-")
        aside = parent != RAW and _KEPT_ASIDE.search(name) is not None
        return aside or any(looks_alike(name, one) for one in ours)

    return [str(parent / name) for name in names if name not in taken and resembles(name)]
