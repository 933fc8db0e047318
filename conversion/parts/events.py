"""The part ``events``: events tables of all runs of a subject, and the join of trials with them.

One array holds a column of all tables, in order of session, run and row. A damaged table fails only
its run; a run whose table is now gone or damaged is copied from the store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from zarr.abc.store import Store

from laion_zarr import _release as release
from laion_zarr._release import Runs
from laion_zarr.conversion.options import PROBLEMS
from laion_zarr.conversion.parts.pieces import Pieces
from laion_zarr.conversion.parts.session import column_spec
from laion_zarr.conversion.parts.subject import Sources, sources_of
from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.source.tables import EVENT_COLUMNS, MISSING, read_events
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.store import schema
from laion_zarr.store.parts import Part, StoredParts
from laion_zarr.store.schema import BLANK, EVENT, EVENTS_PART, NOT_AVAILABLE, TABLE_ARRAYS

# Types of a column in one table, as the store notes them: numpy's kinds i, f, b and O, and these.
_ALL_MISSING, _ABSENT = "-", "."

Run = tuple[str, int]  # session, number


@dataclass(frozen=True)
class Table:
    """Events of one run.

    Attributes
    ----------
    n_rows : int
        Number of rows.
    columns : mapping of str to (numpy.ndarray or None)
        Columns as int64, float64 (NaN where missing), bool or object (text); None if all values
        are missing.
    sidecar : str
        Content of the sidecar, as JSON; empty if there is none.
    """

    n_rows: int
    columns: Mapping[str, np.ndarray | None]
    sidecar: str

    def kind(self, name: str) -> str:
        """Type of a column, one letter."""
        values = self.columns.get(name)
        if values is None:
            return _ALL_MISSING if name in self.columns else _ABSENT
        return values.dtype.kind


# -- reading and writing


@dataclass
class EventTables(Pieces):
    """Events tables that could be read, and the errors of those that could not."""

    tables: dict[Run, Table] = field(default_factory=dict)

    def write(self, store: Store, path: str, stored: StoredParts | None) -> Part:
        """Write the part: the tables that were read, and those of runs that only the store has."""
        tables, sources = dict(self.tables), dict(self.sources)
        if stored is not None:
            old = stored.part(EVENTS_PART).sources
            files = release.subject_files(stored.group, old).events
            kept = {run: file for run, file in files.items() if run not in tables}
            if kept:  # else nothing is read of what may be damaged
                tables |= {run: its for run, its in _stored_tables(stored).items() if run in kept}
            names = [n for file in kept.values() for n in (file, release.sidecar(file))]
            sources |= {name: dict(old[name]) for name in names if name in old}
        return _write(PartWriter(store, path), dict(sorted(tables.items())), sources)


def read_tables(source: Source, files: Runs, identities: Sources) -> EventTables:
    """Read the events tables of a subject."""
    found = EventTables()
    for (session, run), path in files.items():
        if path not in identities:
            continue  # its identity could not be read, which has been reported
        try:
            sources = sources_of(source, path, identities)
            table = _read_table(source, path, sources)
            source.check_unchanged(sources)
        except PROBLEMS as error:
            found.errors[table_name(session, run)] = error
            continue
        found.tables[session, run] = table
        found.sources |= sources
    return found


def table_name(session: str, run: int) -> str:
    """What a run is called in messages."""
    return f"{session} run-{run:02d}"


def _read_table(source: Source, path: str, sources: Sources) -> Table:
    frame = read_events(source, path)
    sidecar = source.sidecar(path, frozenset(sources))
    columns: dict[str, np.ndarray | None] = {}
    for name in map(str, frame.columns):
        values = frame[name].to_numpy()
        if values.dtype.kind == "u":  # beyond int64
            values = values.astype(np.float64)
        missing = values.dtype.kind not in "ifb" and set(values.tolist()) <= MISSING
        columns[name] = None if missing and name not in EVENT_COLUMNS else values
    text = "" if sidecar is None else json.dumps(source.json(sidecar), sort_keys=True)
    return Table(len(frame), columns, text)


def _write(writer: PartWriter, tables: Mapping[Run, Table], sources: Sources) -> Part:
    present = {name for table in tables.values() for name in table.columns}
    others = sorted(present - set(schema.EVENT_ARRAYS))
    names = [name for name in schema.EVENT_ARRAYS if name in present] + others
    arrays = schema.event_columns(names)
    runs: dict[str, list[int]] = {}
    for session, run in tables:
        runs.setdefault(session, []).append(run)
    writer.group({"runs": runs, "tsv_columns": arrays})
    rows = [table.n_rows for table in tables.values()]
    values = {
        "session": np.repeat(np.array([session for session, _ in tables], dtype=object), rows),
        "run": np.repeat(np.array([run for _, run in tables], dtype=np.int64), rows),
    }
    values |= {array: _joined(tables.values(), name) for name, array in arrays.items()}
    for name, column in values.items():
        spec = column_spec(name, pd.Series(column), (EVENT,))
        if name in schema.EVENT_ARRAYS:
            spec = replace(schema.EVENT_ARRAYS[name], dtype=spec.dtype)
        writer.array(spec, column)
    kinds = ["".join(table.kind(name) for name in names) for table in tables.values()]
    sidecars = [table.sidecar for table in tables.values()]
    for spec, texts in zip(TABLE_ARRAYS.values(), (kinds, sidecars), strict=True):
        writer.array(spec, np.array(texts, dtype=object))
    return writer.part(sources)


def _joined(tables: Iterable[Table], name: str) -> np.ndarray:
    """One column of all tables; whole numbers stay whole where none is missing."""
    pieces = [(table.columns.get(name), table.n_rows) for table in tables]
    kinds = {values.dtype.kind for values, _ in pieces if values is not None}
    whole = all(values is not None for values, _ in pieces)
    if kinds <= {"i", "f"}:
        filled = [np.full(n, np.nan) if values is None else values for values, n in pieces]
        return np.concatenate(filled)
    if kinds == {"b"} and whole:
        return np.concatenate([values for values, _ in pieces if values is not None])
    return np.concatenate([_as_text(values, n) for values, n in pieces])


def _as_text(values: np.ndarray | None, n_rows: int) -> np.ndarray:
    if values is None:
        return np.full(n_rows, NOT_AVAILABLE, dtype=object)
    if values.dtype.kind == "O":
        return values
    texts = [NOT_AVAILABLE if value != value else str(value) for value in values.tolist()]
    return np.array(texts, dtype=object)


# -- what the store has


def _stored_tables(stored: StoredParts) -> dict[Run, Table]:
    """Events tables in the store, with the types that the columns had in their files."""
    (attributes,) = stored.attributes(EVENTS_PART)
    arrays, found = attributes["tsv_columns"], stored.load(EVENTS_PART)
    runs = [(session, run) for session, its in attributes["runs"].items() for run in its]
    tables = {}
    for number, (session, run) in enumerate(runs):
        rows = np.flatnonzero((found["session"] == session) & (found["run"] == run))
        kinds = dict(zip(arrays, found["table_types"][number], strict=True))
        columns = {
            name: _restored(found[array][rows], kinds[name])
            for name, array in arrays.items()
            if kinds[name] != _ABSENT
        }
        tables[session, run] = Table(len(rows), columns, found["table_sidecar"][number])
    return tables


def _restored(values: np.ndarray, kind: str) -> np.ndarray | None:
    """Values of a column of one table in the type that they had in the table."""
    if kind == _ALL_MISSING:
        return None
    if values.dtype.kind != "O" or kind == "O":
        return values.astype({"i": np.int64, "f": np.float64, "b": bool, "O": object}[kind])
    if kind == "b":
        return values == "True"
    if kind == "i":
        return np.array([int(text) for text in values], dtype=np.int64)
    return np.array([np.nan if text == NOT_AVAILABLE else float(text) for text in values])


# -- the join with trials


@dataclass(frozen=True)
class Mismatch:
    """The first row of a run where events and trials disagree.

    Attributes
    ----------
    run : (str, int)
        Session and run.
    row : int
        Row of the events table, from 1.
    expected, found : str or None
        Image of the trial, and of the row; None after the last one.
    """

    run: Run
    row: int
    expected: str | None
    found: str | None


@dataclass
class Joined:
    """Trials joined with events, run by run.

    Attributes
    ----------
    rows : numpy.ndarray, (trial,) int
        Row of the events that each trial is; -1 if there is none.
    mismatches : list of Mismatch
        Runs whose events and trials disagree; none of their trials is joined.
    without_events, without_trials : list of (str, int)
        Runs that have trials alone, or events alone.
    """

    rows: np.ndarray
    mismatches: list[Mismatch]
    without_events: list[Run]
    without_trials: list[Run]


def load_events(stored: StoredParts) -> dict[str, np.ndarray]:
    """Columns of the stored events that the join and the trials need."""
    names = ("session", "run", *EVENT_COLUMNS, *schema.BEHAVIOUR_ARRAYS)
    return stored.load(EVENTS_PART, names)


def join(trials: pd.DataFrame, events: Mapping[str, np.ndarray]) -> Joined:
    """Find the event of each trial: by session, run and order, if the names of the run agree.

    Parameters
    ----------
    trials : pandas.DataFrame
        With ``session``, ``run`` and ``image_name``; volumes of a session in order.
    events : mapping of str to numpy.ndarray
        From `load_events`.
    """
    names, labels = events["stim_name"], trials["image_name"].to_numpy(dtype=object)
    shown = (names != BLANK) & (events["trial_type"] != BLANK)
    of_trials = _by_run(trials["session"], trials["run"])
    of_events = _by_run(events["session"], events["run"])
    found = Joined(np.full(len(trials), -1), [], [], sorted(set(of_events) - set(of_trials)))
    for run, positions in sorted(of_trials.items()):
        if run not in of_events:
            found.without_events.append(run)
            continue
        rows = of_events[run][shown[of_events[run]]]
        if np.array_equal(names[rows], labels[positions]):
            found.rows[positions] = rows
        else:
            first = of_events[run][0]
            found.mismatches.append(_mismatch(run, labels[positions], names[rows], rows - first))
    return found


def _by_run(sessions: Iterable[str], runs: Iterable[int]) -> dict[Run, np.ndarray]:
    """Positions of each run, ascending."""
    found: dict[Run, list[int]] = {}
    for position, run in enumerate(zip(sessions, runs, strict=True)):
        found.setdefault((run[0], int(run[1])), []).append(position)
    return {run: np.array(positions) for run, positions in found.items()}


def _mismatch(run: Run, expected: np.ndarray, found: np.ndarray, rows: np.ndarray) -> Mismatch:
    n = min(len(expected), len(found))
    differs = np.flatnonzero(expected[:n] != found[:n])
    at = int(differs[0]) if differs.size else n
    row = int(rows[at]) if at < len(rows) else int(rows[-1]) + 1 if len(rows) else 0
    name, label = (values[at] if at < len(values) else None for values in (found, expected))
    return Mismatch(run, row + 1, label, name)


def behaviour_of(joined: Joined, events: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (column, trial) and trial types (trial,) of joined trials; missing where none is."""
    there, rows = joined.rows >= 0, joined.rows
    numbers = np.full((len(schema.BEHAVIOUR_ARRAYS), len(rows)), np.nan)
    for out, name in zip(numbers, schema.BEHAVIOUR_ARRAYS, strict=True):
        if name in events:
            out[there] = events[name][rows[there]]
    types = np.full(len(rows), NOT_AVAILABLE, dtype=object)
    types[there] = events["trial_type"][rows[there]]
    return numbers, types
