"""Checks of the events: against the trials that have them, and against the source's tables."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from laion_zarr import _release as release
from laion_zarr.conversion.verification.checks import Check
from laion_zarr.conversion.verification.sources import read_text_table
from laion_zarr.store.objects import location
from laion_zarr.store.parts import Part
from laion_zarr.store.schema import (
    BEHAVIOUR,
    BEHAVIOUR_ARRAYS,
    BLANK,
    EVENTS_PART,
    NOT_AVAILABLE,
    TRIAL_TYPE,
    TRIALS_PART,
    behaviour_names,
)

_KEYS = ["session", "run", "order"]
_MISSING = ("n/a", "NA", "NaN", "nan", "")


@dataclass
class EventChecks:
    """Checks of the events of one subject.

    Attributes
    ----------
    check : Check
        Verification that these checks belong to.
    group : str
        Name of the subject's group, which is the subject id.
    """

    check: Check
    group: str

    @property
    def _path(self) -> str:
        return f"{self.group}/{EVENTS_PART}"

    def _column(self, part: str, name: str) -> np.ndarray:
        return self.check.array(f"{self.group}/{part}/{name}")

    # -- contents

    def contents(self, parts: dict[str, Part]) -> None:
        """Check that columns have one length, and that trials have what their events say."""
        lengths = {
            name: array.shape[0]
            for name, array in self.check.root[self._path].arrays()
            if name.partition("_")[0] != "table"
        }
        if len(set(lengths.values())) != 1:
            self.check.problem(
                f"{location(self.check.store, self._path)} has columns of different lengths: "
                f"{lengths}. Convert it again with 'laion-zarr convert --overwrite --parts events'."
            )
        elif TRIALS_PART in parts:
            self._trials()

    def _trials(self) -> None:
        """Join trials and events with pandas, and compare with what is stored along the trials."""
        where = f"{self.group}/{TRIALS_PART}"
        names = dict(self.check.root[where].arrays())
        if BEHAVIOUR.name not in names:
            self.check.problem(
                f"{location(self.check.store, where)} has nothing of the events. Run 'laion-zarr "
                "convert' again."
            )
            return
        joined = self._joined()
        stored = self.check.array(f"{where}/{BEHAVIOUR.name}")
        columns = names[BEHAVIOUR.name].attrs["columns"]
        for row, (column, name) in enumerate(zip(BEHAVIOUR_ARRAYS, columns, strict=True)):
            wanted = joined[column] if column in joined else pd.Series(np.nan, joined.index)
            self.check.same(f"{where} {name}", stored[row], wanted.to_numpy(np.float64))
        other = behaviour_names([TRIAL_TYPE.name])[TRIAL_TYPE.name]
        name = other if other in names else TRIAL_TYPE.name
        types = joined[TRIAL_TYPE.name].fillna(NOT_AVAILABLE).to_numpy(object)
        self.check.same(f"{where} {name}", self._column(TRIALS_PART, name).astype(object), types)

    def _joined(self) -> pd.DataFrame:
        """Trials with the columns of their events; missing in runs where a name differs."""
        there = dict(self.check.root[self._path].arrays())
        columns = ["session", "run", "stim_name", TRIAL_TYPE.name, *BEHAVIOUR_ARRAYS]
        events = pd.DataFrame({c: self._column(EVENTS_PART, c) for c in columns if c in there})
        events = events[(events["stim_name"] != BLANK) & (events[TRIAL_TYPE.name] != BLANK)]
        names = ["session", "run", "image_name"]
        trials = pd.DataFrame({name: self._column(TRIALS_PART, name) for name in names})
        for table in (trials, events):
            table["order"] = table.groupby(["session", "run"]).cumcount()
        both = trials.merge(events, "outer", _KEYS, indicator="found")
        wrong = (both["found"] != "both") | (both["image_name"] != both["stim_name"])
        bad = set(zip(both["session"][wrong], both["run"][wrong], strict=True))
        pairs = zip(events["session"], events["run"], strict=True)
        right = np.array([pair not in bad for pair in pairs], dtype=bool)
        return trials.merge(events[right], "left", _KEYS)

    # -- values

    def values(self, part: Part) -> None:
        """Compare every column of every table with the source, read as text with pandas."""
        assert self.check.folder is not None
        group = self.check.root[self._path]
        arrays = {name: np.asarray(array[...]) for name, array in group.arrays()}
        runs = [(ses, run) for ses, its in group.attrs["runs"].items() for run in its]
        files = release.subject_files(self.group, part.sources).events
        if set(files) != set(runs):
            self.check.problem(f"{location(self.check.store, self._path)} has runs without files.")
        for (ses, run), file in files.items():
            path = self.check.folder / file
            if not self.check.converted(path):
                continue
            where, rows = (
                f"{self._path} {ses} run-{run:02d}",
                (arrays["session"] == ses) & (arrays["run"] == run),
            )
            for name, column in read_text_table(path, "\t").items():
                array = group.attrs["tsv_columns"].get(name)
                stored = np.empty(0) if array is None else arrays[array][rows]
                self._compare(f"{where} {name}", stored, column)
            sidecar = release.sidecar(file)
            if sidecar in part.sources and self.check.converted(self.check.folder / sidecar):
                stored = arrays["table_sidecar"][runs.index((ses, run))]
                content = json.loads((self.check.folder / sidecar).read_bytes())
                same = json.loads(stored or "null") == content
                self.check.same(f"{where} sidecar", np.array([same]), np.array([True]))

    def _compare(self, where: str, stored: np.ndarray, column: pd.Series) -> None:
        numbers = pd.to_numeric(column, errors="coerce")
        if stored.dtype.kind == "b":
            self.check.same(where, stored, (column == "True").to_numpy())
        elif stored.dtype.kind != "O" and stored.dtype.kind != "T":
            self.check.same(where, stored, numbers.to_numpy())
        else:
            texts = column.to_numpy(object)
            # Numbers of a table, in a column that is text in another one, are what Python writes.
            if (
                column.name not in ("stim_name", TRIAL_TYPE.name)
                and (numbers.notna() | column.isin(_MISSING)).all()
            ):
                typed = pd.to_numeric(column.where(~column.isin(_MISSING)))
                texts = np.array([NOT_AVAILABLE if n != n else str(n) for n in typed], object)
            self.check.same(where, stored.astype(object), texts)
