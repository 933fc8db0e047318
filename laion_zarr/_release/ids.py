"""Ids of the release: subjects, sessions and runs, and the values that its file names share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from numbers import Integral
from typing import Final

from laion_zarr.errors import SubjectNotFoundError

# What a user may pass as the id of a subject or session: any Integral too, but mypy knows no numpy.
Id = str | int
Ids = Id | Sequence[Id]

BUCKET = "s3://laion-fmri"
SUBJECTS = ("sub-01", "sub-03", "sub-05", "sub-06", "sub-07")

FUNCTIONAL_RES: Final = "1pt8"
FINE_RES: Final = "1pt5"  # of the localizers' own GLM: another grid, never part of the voxel axis
VOLUME_RESOLUTIONS = (FINE_RES, FUNCTIONAL_RES)  # of localizer maps and ROI masks
HEMIS = ("L", "R")

# ses-31 and above are held out and not public: the pattern excludes them on purpose.
_PUBLIC_SESSION = re.compile(r"ses-(0[1-9]|[12]\d|30)")
_LAST_PUBLIC = 30
_ENTITY_VALUE = re.compile(r"[A-Za-z0-9]+")


def is_bucket(url: str) -> bool:
    """Whether a URL lies in the release's bucket, which is public: accessed without credentials."""
    return url == BUCKET or url.startswith(f"{BUCKET}/")


def padded(value: object) -> object:
    """Number of an id as file names have it: 1 or ``"1"`` -> ``"01"``; other values as they are."""
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0:
        value = str(int(value))
    return value.zfill(2) if isinstance(value, str) and value.isdecimal() else value


def _entity(value: object, entity: str) -> str | None:
    """Full id: 1, ``"1"``, ``"01"``, ``"sub01"``, ``"sub-01"`` -> ``"sub-01"``; None if none."""
    value = padded(value)
    if not isinstance(value, str):
        return None
    bare = value.removeprefix(f"{entity}-")
    if (number := bare.removeprefix(entity)).isdecimal():
        bare = str(padded(number)) if bare != number else bare
    return f"{entity}-{bare}" if _ENTITY_VALUE.fullmatch(bare) else None


def subject_id(value: object) -> str:
    """Full id of a subject: 1, ``"1"``, ``"01"`` or ``"sub-01"`` -> ``"sub-01"``."""
    found = _entity(value, "sub")
    if found is None:
        raise SubjectNotFoundError(
            f"{value!r} is no subject id. Expected one such as 'sub-01', '01' or 1; the release "
            f"has {', '.join(SUBJECTS)}."
        )
    return found


def session_id(value: object) -> str:
    """Full id of a session: 1, ``"1"``, ``"01"`` or ``"ses-01"`` -> ``"ses-01"``."""
    found = _entity(value, "ses")
    if found is None:
        raise ValueError(
            f"{value!r} is no session id. Expected one such as 'ses-01', '01' or 1, or a list."
        )
    return found


def run_number(value: object) -> int:
    """Number of a run: 1, ``"1"``, ``"01"`` or ``"run-01"`` -> 1."""
    number = (_entity(value, "run") or "").removeprefix("run-")
    if not number.isdecimal() or int(number) < 1:
        raise ValueError(f"run={value!r}: expected the number of a run, from 1.")
    return int(number)


def is_public(session: str) -> bool:
    """Whether a session is public (``ses-01`` … ``ses-30``)."""
    return _PUBLIC_SESSION.fullmatch(session) is not None


def is_held_out(session: str) -> bool:
    """Whether a session is held out from the public (``ses-31`` and above)."""
    number = session.removeprefix("ses-")
    return session != number and number.isdecimal() and int(number) > _LAST_PUBLIC
