"""Arrays of the events tables, and of the behaviour that trials have from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from laion_zarr.store.schema.specs import TRIAL, ArraySpec, specs_by_name

EVENT = "event"
BLANK = "blank"  # trial type and stimulus of a trial without an image
NOT_AVAILABLE = "n/a"  # BIDS' word for a missing value, which text columns keep

_PER_EVENT = (EVENT,)
_PER_TABLE = ("table",)
_SECONDS = "s"
# Known columns; a table may have others. Whole numbers without a missing value stay whole.
EVENT_ARRAYS = specs_by_name(
    ArraySpec("session", _PER_EVENT, "string", "session of the event"),
    ArraySpec("run", _PER_EVENT, "int64", "run of the event"),
    ArraySpec("onset", _PER_EVENT, "float64", "start, from the start of the run", _SECONDS),
    ArraySpec("duration", _PER_EVENT, "float64", "duration", _SECONDS),
    ArraySpec("trial_number", _PER_EVENT, "int64", "number in the run, from 1"),
    ArraySpec("trial_type", _PER_EVENT, "string", "new, old (seen before) or blank (no image)"),
    ArraySpec("response", _PER_EVENT, "float64", "answer: 1 new, 2 old"),
    ArraySpec("response_correct", _PER_EVENT, "float64", "whether the answer was right, 0 or 1"),
    ArraySpec("response_changed", _PER_EVENT, "float64", "whether the answer was changed, 0 or 1"),
    ArraySpec("response_time", _PER_EVENT, "float64", "time of the answer, from onset", _SECONDS),
    ArraySpec("stim_number", _PER_EVENT, "float64", "number of the stimulus"),
    ArraySpec("stim_name", _PER_EVENT, "string", "file name of the stimulus, or blank"),
    ArraySpec("stim_occurrence", _PER_EVENT, "float64", "how often it was shown so far, from 1"),
    ArraySpec("stim_occurrence_run", _PER_EVENT, "float64", "the same, within the run"),
    ArraySpec("stim_occurrence_session", _PER_EVENT, "float64", "the same, within the session"),
    ArraySpec("stim_duration", _PER_EVENT, "float64", "duration of the stimulus", _SECONDS),
    ArraySpec("isi_onset", _PER_EVENT, "float64", "start of the pause that follows", _SECONDS),
    ArraySpec("isi_duration", _PER_EVENT, "float64", "duration of the pause", _SECONDS),
    ArraySpec("pulse_number", _PER_EVENT, "float64", "number of the scanner pulse before onset"),
    ArraySpec("pulse_onset", _PER_EVENT, "float64", "time of that pulse", _SECONDS),
)
# One row per table, in order of session and run: what later runs of the converter need.
TABLE_ARRAYS = specs_by_name(
    ArraySpec("table_types", _PER_TABLE, "string", "type of each column: i, f, b, O, - or ."),
    ArraySpec("table_sidecar", _PER_TABLE, "string", "its sidecar (JSON), empty if none"),
)

TRIAL_TYPE = ArraySpec("trial_type", (TRIAL,), "string", "new or old (seen before); n/a if missing")
_BEHAVIOUR = (
    *("onset", "response", "response_correct", "response_changed", "response_time"),
    "stim_occurrence",
)
# Columns of events that trials have, too: numbers, in the rows of one array, so that opening a
# subject takes one request for all of them.
BEHAVIOUR_ARRAYS = specs_by_name(
    *(
        ArraySpec(name, (TRIAL,), "float64", spec.description, spec.units)
        for name in _BEHAVIOUR
        for spec in (EVENT_ARRAYS[name],)
    )
)
BEHAVIOUR = ArraySpec(
    "behaviour",
    ("column", TRIAL),
    "float64",
    "columns of the events, which the attribute `columns` names; NaN where missing",
)


def behaviour_names(taken: Collection[str]) -> Mapping[str, str]:
    """Map columns of the events to names along trials; a name that is taken gets a prefix."""
    return {
        name: f"events_{name}" if name in taken else name
        for name in (TRIAL_TYPE.name, *BEHAVIOUR_ARRAYS)
    }
