"""Differences between a source and a store, and the report that lists them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from laion_zarr import _repr
from laion_zarr._words import as_size

NEW, CHANGED, STALE, GONE, UNKNOWN = STATES = ("new", "changed", "stale", "gone", "unknown kind")
_COLUMNS = ("subject", "part", "state", "what", "files", "size")


@dataclass(frozen=True)
class Difference:
    """One part whose source files differ from those that were converted, or files of no known kind.

    Attributes
    ----------
    subject : str
        ``"sub-01"``, or ``"stimuli"``; empty for files of an unknown kind that belong to neither.
    part : str
        Kind of the part, as ``--parts`` names it; ``"betas"`` stands for all that comes with betas.
        Empty for files of an unknown kind.
    name : str
        Part of the store, such as ``"ses-01"``; of an unknown kind, the pattern of its files.
    state : str
        ``"new"``: the store lacks the part, or the part was made without these files.
        ``"changed"``: the files are not those that were converted. ``"stale"``: the part was made
        from parts of the store that have changed since. ``"gone"``: the source lacks files that
        were converted; what they became stays in the store. ``"unknown kind"``.
    files : tuple of str
        Paths of the files, with their sidecars, relative to the source.
    nbytes : int
        Size of the files in bytes; of files that are gone, the size that they had.
    reason : str
        How changed files differ, or what a stale part is made of; else empty.
    """

    subject: str
    part: str
    name: str
    state: str
    files: tuple[str, ...]
    nbytes: int
    reason: str = ""


@dataclass(frozen=True)
class OutdatedReport(_repr.Shown):
    """Result of `outdated`; true if something is new, changed or stale, which `convert` mends.

    Attributes
    ----------
    source, store : str
        What was compared.
    differences : tuple of Difference
        What is new, changed, stale, gone, or of an unknown kind, by subject.
    not_compared : tuple of str
        Files of the size of those that were converted, whose content could not be compared.
    problems : tuple of str
        Messages about subjects of the store that could not be compared, since it is damaged.
    """

    source: str
    store: str
    differences: tuple[Difference, ...]
    not_compared: tuple[str, ...]
    problems: tuple[str, ...]

    def __bool__(self) -> bool:
        return any(found.state in (NEW, CHANGED, STALE) for found in self.differences)

    def to_dataframe(self) -> pd.DataFrame:
        """Table of the differences.

        Returns
        -------
        pandas.DataFrame
            One row per difference; columns ``subject``, ``part``, ``name``, ``state``, ``n_files``,
            ``nbytes``, ``reason``, and ``files``, a tuple of paths.
        """
        rows = [asdict(found) | {"n_files": len(found.files)} for found in self.differences]
        columns = ["subject", "part", "name", "state", "n_files", "nbytes", "reason", "files"]
        return pd.DataFrame(rows, columns=columns)

    def to_json(self) -> dict[str, Any]:
        """The report in types that JSON knows, with ``outdated``: whether it is true."""
        return {"outdated": bool(self), **asdict(self)}

    def __str__(self) -> str:
        """Table for a terminal: a line for each state of each kind of parts of a subject."""
        rows = [_COLUMNS, *_rows(self.differences)]
        widths = [max(len(row[n]) for row in rows) for n in range(len(_COLUMNS))]
        table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        lines = [f"source: {self.source}", f"store:  {self.store}", ""]
        lines += [*table, ""] if self.differences else []
        return "\n".join([*lines, *self._remarks()])

    def _remarks(self) -> list[str]:
        found, states = [], {one.state for one in self.differences}
        if {NEW, CHANGED} & states:
            found.append("'laion-zarr convert' takes what is new or changed.")
        elif not self.problems:
            found.append("Nothing is new or changed.")
        if STALE in states:
            parts = " ".join(sorted({one.part for one in self.differences if one.state == STALE}))
            found.append(f"'laion-zarr convert --parts {parts}' makes anew what is stale.")
        if GONE in states:
            found.append("What is gone from the source stays in the store.")
        if UNKNOWN in states:
            found.append(
                "Files of an unknown kind are left alone; a newer laion_zarr may read them."
            )
        if self.not_compared:
            found.append(f"{len(self.not_compared):,} files: same size; content not compared.")
        return found

    def _facts(self) -> dict[str, Any]:
        differences = {
            " ".join(filter(None, (subject, part, state))): f"{what}; {files} files, {size}"
            for subject, part, state, what, files, size in _rows(self.differences)
        }
        return {
            "Source": self.source,
            "Store": self.store,
            **(differences or {"Differences": "none"}),
            "Summary": " ".join([*self._remarks(), *self.problems]),
        }


def _rows(differences: Iterable[Difference]) -> list[tuple[str, ...]]:
    """Rows of the table; those of unknown kinds, of several subjects each, are at the end."""
    unknown = [one for one in differences if one.state == UNKNOWN]
    known = [one for one in differences if one.state != UNKNOWN]
    rows = []
    for some, key in ((known, _line), (unknown, _kind)):
        for _, group in groupby(sorted(some, key=key), key):
            rows.append(_row(list(group)))
    return rows


def _line(one: Difference) -> tuple[Any, ...]:
    return one.subject, one.part, STATES.index(one.state)


def _kind(one: Difference) -> tuple[Any, ...]:
    return (one.name,)


def _row(group: list[Difference]) -> tuple[str, ...]:
    first, reasons = group[0], ", ".join(dict.fromkeys(one.reason for one in group if one.reason))
    what = _spans([one.name for one in group])
    return (
        _spans(sorted({one.subject for one in group})),
        first.part,
        first.state,
        f"{what} ({reasons})" if reasons else what,
        f"{sum(len(one.files) for one in group):,}",
        as_size(sum(one.nbytes for one in group)),
    )


def _spans(names: list[str]) -> str:
    """Names in a list; of three or more that differ in their number, the first and the last."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        found.setdefault(re.sub(r"\d+", "", name), []).append(name)
    return ", ".join(
        f"{some[0]} … {some[-1]} ({len(some)})" if len(some) > 2 else ", ".join(some)
        for some in found.values()
    )
