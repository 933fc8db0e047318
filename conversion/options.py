"""What the user asked for, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from laion_zarr._release import session_id, subject_id
from laion_zarr.arrays.select import as_list
from laion_zarr.conversion.budget import MASK_CHOICES, PARTS
from laion_zarr.errors import LaionZarrError, SourceError

# What fails one part, and not the rest.
PROBLEMS = (LaionZarrError, OSError, MemoryError)


@dataclass(frozen=True)
class Options:
    """What the user asked for, checked; goes down unchanged.

    Attributes
    ----------
    subjects, sessions : list of str or None
        Ids; None for all that the mirror has.
    parts : tuple of str
        Some of `PARTS`.
    asked_parts : bool
        Whether the user named the parts: then a missing one is a failure.
    mask : str
        One of `MASK_CHOICES`.
    n_workers : int or None
        Worker processes.
    scheduler : str or None
        Address of a cluster that takes their place.
    memory : str, int or None
        For all workers together; of a cluster, for each session.
    overwrite : bool
        Convert anew what is there.
    """

    subjects: list[str] | None
    sessions: list[str] | None
    parts: tuple[str, ...]
    asked_parts: bool
    mask: str
    n_workers: int | None
    scheduler: str | None
    memory: str | int | None
    overwrite: bool


@dataclass
class Report:
    """What a conversion did.

    Attributes
    ----------
    converted, unchanged : list of str
        Parts written, and parts that were there already.
    missing : list of str
        What the mirror lacks; no failure unless it was asked for.
    failed : dict of str to Exception
        What could not be converted, and why.
    planned : list of str
        What would be done, one line each (of a dry run).
    disk_nbytes : int
        Disk needed, upper bound.
    """

    converted: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)
    planned: list[str] = field(default_factory=list)
    disk_nbytes: int = 0

    def raise_failures(self) -> None:
        """Raise what failed: one error as it is, several as one that lists them."""
        errors = list(self.failed.values())
        if len(errors) == 1:
            raise errors[0]
        if errors:
            lines = "\n".join(f"- {what}: {error}" for what, error in self.failed.items())
            kind = (
                SourceError if all(isinstance(e, SourceError) for e in errors) else LaionZarrError
            )
            raise kind(f"{len(errors)} parts could not be converted; the rest is done.\n{lines}")


def check_options(
    subjects: Any,
    sessions: Any,
    parts: Any,
    mask: str,
    n_workers: Any,
    memory: Any,
    overwrite: bool,
    scheduler: str | None = None,
) -> Options:
    """Check what the user asked for."""

    def listed(value: Any) -> list[str] | None:
        return None if value is None else as_list(value)

    asked = listed(parts)
    if unknown := set(asked or ()) - set(PARTS):
        raise ValueError(f"Unknown parts {sorted(unknown)}. Parts: {', '.join(PARTS)}.")
    if mask not in MASK_CHOICES:
        raise ValueError(f"mask must be one of {list(MASK_CHOICES)}, got {mask!r}.")
    if scheduler is not None and n_workers is not None:
        raise ValueError("--n-workers and --scheduler exclude each other: pass one of them.")
    wanted = listed(subjects)
    if wanted == ["all"]:
        wanted = None
    return Options(
        None if wanted is None else [subject_id(s) for s in wanted],
        None if sessions is None else [session_id(s) for s in listed(sessions) or ()],
        tuple(asked or PARTS),
        asked is not None,
        mask,
        n_workers,
        scheduler,
        memory,
        overwrite,
    )
