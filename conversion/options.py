"""Options of a conversion, checked, and the reports of its results and of a verification."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from laion_zarr import _repr
from laion_zarr._release import session_id, subject_id
from laion_zarr._words import as_size
from laion_zarr.arrays.select import as_list
from laion_zarr.errors import LaionZarrError, SourceError, nearest
from laion_zarr.store.schema import AVERAGES_PART, DEFAULT_PARTS, MASK_CHOICES, PARTS

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


@dataclass(repr=False)
class Report(_repr.Shown):
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

    _counted = "messages"

    converted: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)
    planned: list[str] = field(default_factory=list)
    disk_nbytes: int = 0

    def _facts(self) -> dict[str, Any]:
        """What was done, what was not, and the next call, as label -> value."""
        dry = self.planned and not (self.converted or self.failed)
        found = {
            "Converted": _repr.some(self.converted),
            "Unchanged": _repr.some(self.unchanged),
            "Missing": _repr.listed(self.missing),
            "Failed": {what: str(error) for what, error in self.failed.items()} or "none",
        }
        if dry:
            found["To do"] = _repr.listed(self.planned)
            found["Disk"] = f"up to {as_size(self.disk_nbytes)}"
        if self.failed:
            found["Next"] = "mend what failed; convert() takes up what is left"
        else:
            found["Next"] = "convert() does it" if dry else "laion_zarr.verify() checks the store"
        return found

    def _heading(self) -> str:
        return "conversion.Report"

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


@dataclass(repr=False)
class VerifyReport(_repr.Shown):
    """Result of `verify`: the problems that were found, and how much was checked.

    Attributes
    ----------
    problems : list of str
        One message per problem; empty if the store is intact.
    notes : list of str
        One message per source file that is missing and therefore could not be compared.
    n_files, n_bytes, n_values : int
        Numbers of objects and bytes checked, and of values compared with the source.
    deep : bool
        Whether every value was compared with the source.
    """

    _counted = "messages"

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    n_files: int = 0
    n_bytes: int = 0
    n_values: int = 0
    deep: bool = False

    def _facts(self) -> dict[str, Any]:
        """What was checked, what is wrong, and the next call, as label -> value."""
        found = {
            "Checked": f"{self.n_files:,} files, {as_size(self.n_bytes)}",
            "Compared": f"{self.n_values:,} values with the source" if self.deep else "no values",
            "Problems": _repr.listed(self.problems),
            "Notes": _repr.listed(self.notes),
        }
        if self.problems:
            found["Next"] = "each problem says what mends it; then verify() again"
        elif not self.deep:
            found["Next"] = "verify(deep=True) compares every value with the source"
        return found

    def _heading(self) -> str:
        return "conversion.VerifyReport"


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
    if unknown := sorted(set(asked or ()) - set(PARTS)):
        hint = nearest(unknown[0], PARTS)
        raise ValueError(f"Unknown parts {unknown}.{hint} Parts: {', '.join(PARTS)}.")
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
