"""What the made-up people answered: whether they have seen the image of a trial before."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from laion_zarr.conversion.synthetic.model import experiment, phantom
from laion_zarr.conversion.synthetic.model.experiment import Size
from laion_zarr.store.schema import BLANK, NOT_AVAILABLE

_FIRST_ONSET, _TRIAL_SECONDS, _STIMULUS_SECONDS, _PULSE_SECONDS = 12.049, 3.0, 2.5, 1.9
_BLANKS = 1 / 12  # of all trials
# Probabilities: an image is known again after one, two, … showings; a new one is taken for old.
_HITS = (0.75, 0.85, 0.9)
_FALSE_ALARMS = 0.12
_NO_ANSWER, _CHANGED = 0.04, 0.06


def _answers(rng: np.random.Generator, occurrence: NDArray) -> pd.DataFrame:
    """Answers to images that are shown for the first, second, … time; missing for some."""
    n = len(occurrence)
    old = occurrence > 1
    hit = np.array(_HITS)[np.clip(occurrence - 2, 0, len(_HITS) - 1)]
    says_old = rng.random(n) < np.where(old, hit, _FALSE_ALARMS)
    right = says_old == old
    seconds = rng.gamma(6, np.where(right, 0.2, 0.26)) + 0.35
    answers = pd.DataFrame(
        {
            "response": says_old + 1,
            "response_correct": right.astype(int),
            "response_changed": (rng.random(n) < _CHANGED).astype(int),
            "response_time": np.minimum(seconds, 2.9).round(4),
        }
    )
    answers = answers.astype(object)
    answers[rng.random(n) < _NO_ANSWER] = NOT_AVAILABLE
    return answers


def events_tables(size: Size, subject: str, session: str) -> dict[int, pd.DataFrame]:
    """Events tables of a session by run, blank trials too; missing values are ``n/a``."""
    every = [experiment.trial_table(size, subject, one) for one in size.sessions]
    trials = pd.concat(every, ignore_index=True)
    occurrence = trials.groupby("label").cumcount() + 1
    numbers = {name: n for n, name in enumerate(sorted(set(trials["label"])), 1)}
    trials = trials.assign(
        trial_type=np.where(occurrence > 1, "old", "new"),
        stim_number=trials["label"].map(numbers),
        stim_name=trials["label"],
        stim_occurrence=occurrence,
        stim_occurrence_run=trials.groupby(["session", "run", "label"]).cumcount() + 1,
        stim_occurrence_session=trials.groupby(["session", "label"]).cumcount() + 1,
    )
    trials = trials[trials["session"] == session].reset_index(drop=True)
    rng = phantom.stream(subject, session, "behaviour")
    answers = _answers(rng, trials["stim_occurrence"].to_numpy())
    runs = trials["run"]
    shown = pd.concat([answers, trials.drop(columns=[*every[0].columns])], axis=1)
    return {int(run): _timed(_with_blanks(rng, own)) for run, own in shown.groupby(runs)}


def _with_blanks(rng: np.random.Generator, shown: pd.DataFrame) -> pd.DataFrame:
    """Put blank trials between the others, none at the start."""
    n_blanks = max(1, round(len(shown) * _BLANKS))
    places = rng.choice(np.arange(1, len(shown) + 1), n_blanks, replace=False)
    rows = np.insert(np.arange(len(shown)), np.sort(places), -1)
    table = shown.reset_index(drop=True).astype(object).reindex(rows)
    table.loc[-1] = NOT_AVAILABLE
    table.loc[-1, ["trial_type", "stim_name"]] = BLANK
    return table.reset_index(drop=True)


def _timed(table: pd.DataFrame) -> pd.DataFrame:
    """Add times, in seconds, and put the columns in the order of the release."""
    number = np.arange(1, len(table) + 1)
    onset = _FIRST_ONSET + _TRIAL_SECONDS * (number - 1)
    pulse = (onset // _PULSE_SECONDS).astype(int)
    first = pd.DataFrame({"onset": onset.round(3), "duration": _TRIAL_SECONDS})
    last = pd.DataFrame(
        {
            "stim_duration": _STIMULUS_SECONDS,
            "isi_onset": (onset + _STIMULUS_SECONDS).round(3),
            "isi_duration": _TRIAL_SECONDS - _STIMULUS_SECONDS,
            "pulse_number": pulse + 1,
            "pulse_onset": (pulse * _PULSE_SECONDS).round(3),
        }
    )
    kind = table.pop("trial_type")
    return pd.concat([first.assign(trial_number=number, trial_type=kind), table, last], axis=1)
