"""What the key (path) of a file tells: its BIDS entities, whether it is public or essential."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from laion_zarr._release.ids import FUNCTIONAL_RES, is_held_out
from laion_zarr._release.names import LOCALIZERS, ROIS, anatomy, r2mean, sidecar

# Small files in the root folder of the dataset that describe the whole dataset.
_DATASET_FILE = re.compile(
    r"(README|CHANGES|LICENSE)(\.(md|rst|txt))?|dataset_description\.json|participants\.(tsv|json)"
)
_NUMBERED_SESSION = re.compile(r"(?:^|[/_])(ses-\d+)(?=[/_.]|$)")


@dataclass(frozen=True)
class KeyName:
    """Information about a file of the release that its key (path) contains.

    Attributes
    ----------
    entities : mapping of str to str
        BIDS entities of the folders and the file name, such as ``{"sub": "01", "desc": "R2"}``.
    suffix : str
        Last word of the file name, such as ``"statmap"``.
    extension : str
        Text after the first dot of the file name, such as ``"nii.gz"``.
    """

    entities: Mapping[str, str]
    suffix: str
    extension: str


def parse_key(key: str) -> KeyName:
    """Parse a key such as ``…/ses-01/func/…_desc-R2_statmap.nii.gz``."""
    *folders, name = key.split("/")
    stem, _, extension = name.partition(".")
    words = stem.split("_")
    ids = [folder for folder in folders if folder.startswith(("sub-", "ses-"))]
    pairs = [word.partition("-") for word in (*ids, *words)]
    entities = {entity: value for entity, dash, value in pairs if dash and "-" not in value}
    return KeyName(entities, "" if "-" in words[-1] else words[-1], extension)


def is_published(key: str) -> bool:
    """Whether a file is public; files of held-out sessions answer 403 and are never requested."""
    sessions = _NUMBERED_SESSION.findall(key)  # localizer maps are public in all sessions
    return key.startswith(f"{LOCALIZERS}/") or not any(map(is_held_out, sessions))


def is_dataset_file(key: str) -> bool:
    """Whether a key names one of the small files that describe the whole dataset."""
    return _DATASET_FILE.fullmatch(key) is not None


def is_essential(subject: str, key: str) -> bool:
    """Whether the voxel axis depends on a file: mean R², brain mask, ROIs, and their sidecars."""
    maps = {str(r2mean(subject)), str(anatomy(subject, "brain_mask", FUNCTIONAL_RES))}
    if key in maps | {sidecar(path) for path in maps}:
        return True
    res = parse_key(key).entities.get("res", FUNCTIONAL_RES)
    return key.startswith(f"{ROIS}/{subject}/") and res == FUNCTIONAL_RES
