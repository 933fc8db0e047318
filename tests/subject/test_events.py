"""Events of a subject by session and run, and behaviour along trials as an xarray user takes it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from counting_store import CountingStore
from event_tables import BEHAVIOUR, answer, has_behaviour

from laion_zarr import compat, load_subject
from laion_zarr.errors import NotConvertedError


@pytest.fixture
def tables(bids_root):
    """Events of the first subject by (session, run), read with pandas."""
    found = {}
    for path in sorted(bids_root.glob("sub-01/ses-*/func/*_events.tsv")):
        session, run = path.parts[-3], int(path.name.split("run-")[1][:2])
        table = pd.read_csv(path, sep="\t")
        found[session, run] = table.assign(session=session, run=run)
    return found


def expected(tables, runs):
    return pd.concat([tables[run] for run in runs], ignore_index=True)


QUERIES = [
    ((), [("ses-01", 1), ("ses-01", 2), ("ses-02", 1), ("ses-02", 2)]),
    (("ses-02",), [("ses-02", 1), ("ses-02", 2)]),
    (("02", "01"), [("ses-02", 1)]),
    ((2, 1), [("ses-02", 1)]),
    (("2", "run-02"), [("ses-02", 2)]),
    ((np.int64(1), np.int64(2)), [("ses-01", 2)]),
    (([2, "ses-01"], [2]), [("ses-01", 2), ("ses-02", 2)]),
    ((None, 1), [("ses-01", 1), ("ses-02", 1)]),
    ((["01"], [2, 1]), [("ses-01", 1), ("ses-01", 2)]),
]


@pytest.mark.parametrize(("query", "runs"), QUERIES, ids=[str(query) for query, _ in QUERIES])
def test_get_events(sub, store, tables, query, runs):
    found = sub.get_events(*query)
    assert list(found)[:2] == ["session", "run"]
    wanted = expected(tables, runs)[list(found)]
    # One type for a column of all runs, whatever is asked for.
    pd.testing.assert_frame_equal(found, wanted, check_dtype=query == ())
    numpy_package = compat.load_subject("sub-01", store).get_events(*query)
    pd.testing.assert_frame_equal(numpy_package, found)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ((7,), ["ses-07", "ses-01, ses-02"]),
        ((["01", "ses-07"],), ["ses-07"]),
        ((1, 9), ["ses-01, run 9", "runs 1, 2"]),
        ((None, 9), ["run 9"]),
    ],
)
def test_what_is_not_stored(sub, query, words):
    with pytest.raises(NotConvertedError) as caught:
        sub.get_events(*query)
    commands = "laion-zarr download-raw --subject sub-01 --suffix events", "laion-zarr convert"
    for word in (*words, *commands):
        assert word in str(caught.value)


@pytest.mark.parametrize("query", [("one",), (1.5,), (True,), (1, "x"), (1, True), (1, -1)])
def test_what_is_no_session_or_run(sub, query):
    if query == ("one",):  # may be the name of a session
        with pytest.raises(NotConvertedError):
            sub.get_events(*query)
        return
    with pytest.raises(ValueError, match=r"session|run"):
        sub.get_events(*query)


def test_what_is_returned_is_the_callers(sub):
    events = sub.get_events(1)
    events["onset"] = 0
    assert (sub.get_events(1)["onset"] > 0).all()


# -- along trials


def test_behaviour_of_the_synthetic_people(sub, bids_root):
    has_behaviour(sub, answer(bids_root, "sub-01"))


def test_they_recognise_most_repeats(sub):
    trials = sub.metadata
    assert (trials["trial_type"] == "old").tolist() == (trials["repetition"] > 0).tolist()
    right = trials.groupby("trial_type")["response_correct"].mean()
    assert (right > 0.6).all()
    assert trials["response"].isna().any()
    seen = trials.groupby("label").cumcount() + 1
    assert (trials["stim_occurrence"] == seen).all()


def test_selection_by_behaviour_is_lazy(store, sub):
    counting = CountingStore(store)
    dataset = load_subject("sub-01", counting).dataset
    right = dataset.isel(trial=dataset["response_correct"] == 1)
    old = right["betas"].where(right["trial_type"] == "old", drop=True)
    assert counting.of_betas() == []
    assert old.chunks is not None
    keep = (sub.metadata["response_correct"] == 1) & (sub.metadata["trial_type"] == "old")
    every = sub.dataset["betas"].values
    np.testing.assert_array_equal(old.values, every[keep.to_numpy()])


def test_selections_keep_behaviour(sub):
    whole = sub.metadata
    late = np.flatnonzero(whole["response_time"] > 1.5)
    found = sub.sel(roi="face", session="ses-02", trial=late)
    trials = found["trial"].values
    assert set(trials) == set(late) & set(np.flatnonzero(whole["session"] == "ses-02"))
    for name in BEHAVIOUR:
        got = pd.Series(found["betas"][name].values, dtype=object)
        assert got.equals(whole[name].iloc[trials].reset_index(drop=True).astype(object))


@pytest.mark.parametrize(
    "labels",
    [
        {"response_correct": True},
        {"response_correct": 0, "trial_type": "old"},
        {"run": [1, np.int64(2)], "session": "ses-02"},
        {"response": [1, 2]},
    ],
)
def test_sel_takes_any_label_along_trials(sub, labels):
    found = sub.sel(roi="face", **labels)
    table = sub.metadata
    keep = np.ones(len(table), dtype=bool)
    for name, wanted in labels.items():
        keep &= table[name].isin(wanted if isinstance(wanted, list) else [wanted]).to_numpy()
    np.testing.assert_array_equal(found["trial"], np.flatnonzero(keep))
    assert 0 < found.sizes["trial"] < len(table)


def test_sel_names_what_there_is_along_trials(sub):
    with pytest.raises(TypeError, match=r"response_corect.*mean 'response_correct'"):
        sub.sel(response_corect=True)


def test_groups_by_answer(sub):
    betas = sub.get_betas(roi="FFA1").load()
    means = betas.groupby("trial_type").mean()
    assert means["trial_type"].values.tolist() == ["new", "old"]
    averaged = sub.get_image_betas(roi="FFA1")  # labels that differ between repeats are left out
    assert not set(BEHAVIOUR) & set(averaged.coords)


def test_engine(store, sub):
    with xr.open_dataset(store, engine="laion_zarr", group="sub-01") as dataset:
        for name in BEHAVIOUR:
            assert dataset[name].equals(sub.dataset[name])
            assert dataset[name].attrs == sub.dataset[name].attrs


def test_round_trip_by_zarr(sub, tmp_path):
    """What xarray writes is what it reads: text that is missing, too."""
    labels = sub.dataset[["trial_type", "response_time"]].reset_coords()[list(BEHAVIOUR)]
    labels["trial_type"][3] = np.nan
    labels.drop_encoding().to_zarr(tmp_path / "own.zarr", zarr_format=2)
    again = xr.open_zarr(tmp_path / "own.zarr")
    np.testing.assert_array_equal(again["response_time"], labels["response_time"])
    assert again["trial_type"].values[:3].tolist() == labels["trial_type"].values[:3].tolist()


def test_opening_reads_no_events(store):
    """Behaviour costs two arrays more: the numbers in one, the trial types."""
    counting = CountingStore(store)
    load_subject("sub-01", counting).get_betas()
    read = [key for key, _, _ in counting.reads]
    assert not [key for key in read if "/events/" in key]
    chunks = [key for key in read if "/trials/" in key and "/c/" in key]
    assert sum("/behaviour/" in key or "/trial_type/" in key for key in chunks) == 2
