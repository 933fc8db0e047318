"""Tables of a subject: trials of a session, and events of each run, blank trials too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import pandas as pd

from laion_zarr._release import Id, Ids, run_number, session_id
from laion_zarr.arrays.select import as_list, is_one
from laion_zarr.errors import NotConvertedError
from laion_zarr.store.schema import EVENTS_PART, NOT_AVAILABLE
from laion_zarr.subject.base import SubjectBase


class Events(SubjectBase):
    """Methods of `Subject` for the tables of trials and events."""

    @overload
    def get_trial_info(self, session: Id) -> pd.DataFrame: ...  # type: ignore[overload-overlap]
    @overload
    def get_trial_info(self, session: Sequence[Id]) -> dict[str, pd.DataFrame]: ...
    def get_trial_info(self, session: Ids) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """Trial table of a session, as in the release's TSV.

        Parameters
        ----------
        session : str, int or list of them
            One session, or a list, for which a dict of tables by session id is returned.

        Returns
        -------
        pandas.DataFrame
            One row per trial in volume order (by ``beta_index``), with the TSV's columns.
        """
        if not is_one(session):
            return {ses: self.get_trial_info(ses) for ses in self._query.session_ids(session)}
        (ses,) = self._query.session_ids(session)
        stored = self._handle.stored
        (attributes,) = stored.attributes(ses, needed=["tsv_columns"])
        arrays = attributes["tsv_columns"]
        found = stored.load(ses, arrays.values(), needed=True)
        return pd.DataFrame({column: found[array] for column, array in arrays.items()})

    def get_events(self, session: Ids | None = None, run: Ids | None = None) -> pd.DataFrame:
        """Events of runs, as in the release's tables.

        What trials have of it (``response_correct``, ``response_time``, …) is along the trials of
        `dataset`, too, by the same names.

        Parameters
        ----------
        session : str, int or list of these, optional
            Sessions, such as ``"ses-01"`` or 1. If not provided, all that have events.
        run : int, str or list of these, optional
            Runs, such as 1. If not provided, all that have events.

        Returns
        -------
        pandas.DataFrame
            One row per trial, blank trials too, in order of session, run and row; ``session``,
            ``run``, and the columns of the tables. A missing value is NaN; whole numbers without a
            missing value are int64. Times are in seconds, from the start of the run.

        Raises
        ------
        NotConvertedError
            If the store lacks the events of the subject, of a session or of a run.
        ValueError
            If `session` or `run` is none.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> events = load_subject("01").get_events(session=1, run=2)
        >>> events["trial_type"].isin(["new", "old", "blank"]).all().item()
        True
        """
        stored = self._handle.stored
        if EVENTS_PART not in stored.parts:
            raise self._no_events("", "none")
        (attributes,) = stored.attributes(EVENTS_PART, needed=["runs", "tsv_columns"])
        if not isinstance(attributes["runs"], dict):
            raise stored.refused(EVENTS_PART, "", "has runs without their sessions")
        wanted = self._runs(attributes["runs"], session, run)
        arrays = attributes["tsv_columns"]
        found = stored.load(EVENTS_PART, ["session", "run", *arrays.values()], needed=True)
        own = zip(found["session"].tolist(), found["run"].tolist(), strict=True)
        keep = np.array([each in wanted for each in own], dtype=bool)
        columns = {"session": "session", "run": "run"}
        # A table's own column of such a name keeps the name that it has in the store.
        columns |= {array if name in columns else name: array for name, array in arrays.items()}
        return pd.DataFrame({name: _missing(found[array][keep]) for name, array in columns.items()})

    def _runs(self, there: dict[str, list[int]], session: Any, run: Any) -> set[tuple[str, int]]:
        """Runs that are asked for; raises if a session, or a run of it, has no events."""
        sessions = list(there) if session is None else list(map(session_id, as_list(session)))
        numbers = None if run is None else list(map(run_number, as_list(run)))
        for ses in sessions:
            if ses not in there:
                raise self._no_events(f" of {ses}", ", ".join(there))
        for number in numbers or ():
            # Without a session, a run that some session has is enough.
            having = [ses for ses in sessions if number in there[ses]]
            if not having or (session is not None and len(having) < len(sessions)):
                ses = next(ses for ses in sessions if ses not in having)
                runs = ", ".join(map(str, there[ses]))
                raise self._no_events(f" of {ses}, run {number}", f"runs {runs}")
        return {
            (ses, own)
            for ses in sessions
            for own in there[ses]
            if numbers is None or own in numbers
        }

    def _no_events(self, what: str, there: str) -> NotConvertedError:
        name = self.subject_id
        return NotConvertedError(
            f"The store has no events of {name}{what} (there: {there}). Download them with "
            f"'laion-zarr download-raw --subject {name} --suffix events', then run 'laion-zarr "
            f"convert --parts events --subject {name}'; betas are not touched."
        )


def _missing(values: np.ndarray) -> np.ndarray:
    """Replace the text that stands for a missing value by NaN."""
    if values.dtype == object:
        values = values.copy()
        values[values == NOT_AVAILABLE] = np.nan
    return values
