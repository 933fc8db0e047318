"""Options of a conversion, checked, and the report of its results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from laion_zarr._release import session_id, subject_id
from laion_zarr.arrays.select import as_list
from laion_zarr.conversion.budget import DEFAULT_PARTS, MASK_CHOICES, PARTS
from laion_zarr.errors import LaionZarrError, SourceError
from laion_zarr.store.schema import AVERAGES_PART

# Exceptions that fail one part only: the conversion continues with the other parts.
PROBLEMS = (LaionZarrError, OSError, MemoryError)


@dataclass(frozen=True)
class Options:
    """Checked options of one conversion; passed unchanged to all modules that need them.

    Attributes
    ----------
    subjects, sessions : list of str or None
        Ids, such as ``"sub-01"``; None for all that the mirror has.
    parts : tuple of str
        Kinds of parts to convert, from `PARTS`.
    asked_parts : bool
        Whether the user named the parts: then a part without source files is a failure.
    mask : str
        One of `MASK_CHOICES`.
    n_workers : int or None
        Number of worker processes; None to choose it.
    scheduler : str or None
        Address of a Dask scheduler whose workers replace the worker processes.
    memory : str, int or None
        Memory for all workers together; with `scheduler`, for each session.
    overwrite : bool
        Whether to convert again what the store already has.
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

    @property
    def needs_source(self) -> bool:
        """Whether some of the parts are made of source files."""
        return set(self.parts) != {AVERAGES_PART}


@dataclass
class Report:
    """Result of a conversion: which parts were converted, unchanged, missing or failed.

    Attributes
    ----------
    converted, unchanged : list of str
        Names of the parts that were written, and of those that the store already had.
    missing : list of str
        Messages about data that the mirror lacks, and about what looks like data in it and is not
        read. Missing data that the user asked for by name are in `failed` instead.
    failed : dict of str to Exception
        Names of the parts that could not be converted, and the exception of each.
    planned : list of str
        Parts to be written, one line for each; in a dry run, nothing is written.
    disk_nbytes : int
        Upper bound of the disk space needed, in bytes.
    """

    converted: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)
    planned: list[str] = field(default_factory=list)
    disk_nbytes: int = 0

    def raise_failures(self) -> None:
        """Raise the failures: a single error unchanged, several as one error that lists them."""
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
    """Check the options that the user gave, and complete ids such as ``"01"``."""

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
        tuple(asked or DEFAULT_PARTS),
        asked is not None,
        mask,
        n_workers,
        scheduler,
        memory,
        overwrite,
    )
