"""What looks like data of the dataset and is not read: files of other names or in other folders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from laion_zarr._release.keys import parse_key
from laion_zarr._release.known import kinds_of, unknown_files
from laion_zarr._release.layout import misplaced
from laion_zarr._release.names import FREESURFER

# Endings of data files, whatever was appended to them.
_DATA = re.compile(
    r"\.(nii|gii|h5|hdf5|tsv|csv|label|mgz|lta)(?![a-z0-9])(?!.*\.(png|svg|jpe?g|pdf|html|json|md)$)",
    re.IGNORECASE,
)
_UNDER_WAY = re.compile(
    r"\.(part|partial|filepart|tmp|temp|crdownload|download|aria2)$", re.IGNORECASE
)
# What the release has, or will have, and no part of the store is made of.
_OF_NO_USE = re.compile(r"sub-[A-Za-z0-9]+/(ses-[A-Za-z0-9]+/)?dwi/")

_NAME = "no file of the release that laion_zarr reads is called so"
TWIN = "the packed file beside it is read instead"
_OTHER = "it is called as a file of another subject or session than its folder"


def _is_data(name: str) -> bool:
    if _UNDER_WAY.search(name) or _OF_NO_USE.match(name):
        return False
    file = name.rpartition("/")[2]
    return _DATA.search(file) is not None or name.startswith(f"{FREESURFER}/")


def _reason(name: str, names: Collection[str]) -> str:
    """Why a file is not read that lies in a folder of the release."""
    if name.endswith(".nii") and f"{name}.gz" in names:
        return TWIN
    entities = parse_key(name.rpartition("/")[2]).entities
    folders = PurePosixPath(name).parts[:-1]
    ids = (f"{entity}-{entities[entity]}" for entity in ("sub", "ses") if entity in entities)
    there = [one for one in folders if one.startswith(("sub-", "ses-"))]
    strange = [one for one in ids if one not in there]
    return _OTHER if strange and there else _NAME


def stray_files(names: Collection[str]) -> dict[str, dict[str, int]]:
    """What stands for files that look like data and are not read: reason -> path -> files.

    Parameters
    ----------
    names : collection of str
        Paths of the files of a mirror, relative to its root.

    Returns
    -------
    dict of str to dict of str to int
        By reason, why they are not read: a folder (with a slash at its end), or the first of some
        files, and how many files each stands for. Each file is counted once.
    """
    folders: dict[tuple[str, str], int] = defaultdict(int)
    high: dict[str, list[str]] = defaultdict(list)
    others: dict[str, list[str]] = defaultdict(list)
    for name in filter(_is_data, unknown_files(names)):
        found = misplaced(name)
        if found is None:
            others[_reason(name, names)].append(name)
        elif found[0] == name.rpartition("/")[0] and found[1].startswith("a folder"):
            high[f"expected {found[1]}, found files"].append(name)
        else:
            folders[f"expected {found[1]} in its place", f"{found[0]}/"] += 1
    reasons: dict[str, dict[str, int]] = defaultdict(dict)
    for (reason, folder), count in sorted(folders.items()):
        reasons[reason][folder] = count
    for reason, files in sorted(high.items()):
        for some in _by_folder(files):
            reasons[reason][some[0]] = len(some)
    for reason, files in sorted(others.items()):
        for some in kinds_of(files).values():
            reasons[reason][some[0]] = len(some)
    return dict(reasons)


def _by_folder(files: Iterable[str]) -> Iterator[list[str]]:
    found: Mapping[str, list[str]] = defaultdict(list)
    for file in files:
        found[file.rpartition("/")[0]].append(file)
    yield from found.values()


def is_of(path: str, subjects: Collection[str] | None) -> bool:
    """Whether a path may belong to one of some subjects, also if it is spelled otherwise.

    True for what belongs to no subject; None stands for all subjects.
    """
    if subjects is None:
        return True
    named = [part for part in PurePosixPath(path).parts if part[:3].casefold() == "sub"]
    return not named or any(_resembles(named[0], subject) for subject in subjects)


def _resembles(name: str, subject: str) -> bool:
    number = re.search(r"\d+", name)
    bare = subject.removeprefix("sub-")
    same = number is not None and bare.isdecimal() and int(number[0]) == int(bare)
    return same or name.casefold().startswith(subject.casefold())
