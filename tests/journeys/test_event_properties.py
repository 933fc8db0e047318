"""Random runs, blanks, missing and contradicting tables: trials have what their events say."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from event_tables import (
    answer,
    events_file,
    events_of,
    has_behaviour,
    put_events,
    trial_tables,
)
from hypothesis import given
from hypothesis import strategies as st
from random_mirrors import SUB, Session, examples, plain_spec, write_mirror
from small_mirror import report_of

from laion_zarr import load_subject, verify


@st.composite
def experiments(draw):
    """A mirror: sessions of some trials, in any order in their tables."""
    names = draw(st.lists(st.sampled_from(["ses-01", "ses-02", "ses-11"]), min_size=1, unique=True))
    sessions = [
        Session(name, draw(st.integers(1, 9)), "<f4", "none", (), draw(st.booleans()))
        for name in sorted(names)
    ]
    return plain_spec(
        seed=draw(st.integers(0, 999)),
        sides=(3, 2, 4),
        sessions=tuple(sessions),
        rois={},
        ceilings=(),
        further_columns=draw(st.booleans()),
    )


# What becomes of the table of a run.
FATES = ("kept", "kept", "kept", "missing", "wrong", "cut")


def write_tables(data, root, seed):
    """Events of each run but some; gives the runs whose tables contradict the trials."""
    rng, wrong, there = np.random.default_rng(seed), set(), []
    for ses, table in trial_tables(root, SUB).items():
        for run, own in table.groupby("run"):
            fate = data.draw(st.sampled_from(FATES))
            n_blanks = data.draw(st.integers(0, 3))
            if fate == "missing":
                continue
            events = events_of(own["label"].tolist(), rng, n_blanks)
            if fate == "wrong":
                row = data.draw(st.sampled_from(np.flatnonzero(events["stim_name"] != "blank")))
                events.loc[row, "stim_name"] = "shared_4rep_OOD_gaudy_none.png"
            elif fate == "cut":
                last = np.flatnonzero(events["stim_name"] != "blank")[-1]
                events.loc[last, ["trial_type", "stim_name"]] = "blank"
            if fate in ("wrong", "cut"):
                wrong.add((ses, run))
            put_events(root, events, SUB, ses, run)
            there.append((ses, run))
    return wrong, there


@examples(6, 200)
@given(experiments(), st.data())
def test_trials_have_what_their_events_say(spec, data):
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder, "mirror"), Path(folder, "store.zarr")
        write_mirror(spec, root)
        wrong, there = write_tables(data, root, spec.seed)
        report = report_of(root, store, n_workers=1)
        expected = {f"{SUB} events {ses} run-{run:02d}" for ses, run in wrong}
        assert set(report.failed) == expected
        subject = load_subject(SUB, store)
        if not there:
            assert "response" not in subject.dataset.coords
            return
        if spec.further_columns:  # `onset` is a column of the trial tables, too
            renamed = subject.metadata.columns.tolist()
            assert "events_onset" in renamed
        else:
            has_behaviour(subject, answer(root, SUB, wrong))
        files = [pd.read_csv(root / events_file(SUB, *run), sep="\t") for run in sorted(there)]
        rows = pd.concat(files, ignore_index=True)
        found = subject.get_events()
        pd.testing.assert_frame_equal(found[list(rows)], rows)
        verify(store, root, deep=True, progress=False)
