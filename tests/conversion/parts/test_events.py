"""The part `events`: types, the join with the trials, damage, contradictions, what comes later."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from event_tables import (
    answer,
    events_file,
    events_of,
    has_behaviour,
    put_events,
    trial_tables,
    write_events,
)
from small_mirror import (
    HTML,
    betas_file,
    command,
    names_and_mends,
    put,
    remove,
    report_of,
    shards,
    teaches,
    trials_file,
    write_table,
)
from trees import tree_bytes

from laion_zarr import convert, load_subject, verify
from laion_zarr.conversion.source.files import open_source
from laion_zarr.conversion.source.tables import read_events
from laion_zarr.errors import DataNotDownloadedError, NotConvertedError, SourceError, StoreError

SUB = "sub-01"
RUNS = [("ses-01", 1), ("ses-01", 2), ("ses-02", 1), ("ses-02", 2)]
DOWNLOAD = "laion-zarr download-raw --subject sub-01 --suffix events"


@pytest.fixture
def told(lean):
    """The lean mirror, with events of every run."""
    write_events(lean, SUB)
    return lean


@pytest.fixture(scope="module")
def told_store(whole_lean, tmp_path_factory):
    """The conversion of `told`; nothing may change it."""
    folder = tmp_path_factory.mktemp("told")
    root = Path(shutil.copytree(whole_lean, folder / "mirror"))
    write_events(root, SUB)
    report = report_of(root, folder / "store.zarr")
    assert not report.failed
    assert not [line for line in report.missing if "events" in line]
    return folder / "store.zarr"


@pytest.fixture
def known(told_store, tmp_path):
    """A copy of the store, to be written to."""
    return Path(shutil.copytree(told_store, tmp_path / "known.zarr"))


def edit(root, change, ses="ses-02", run=2, sub=SUB):
    """Change the text of an events table."""
    path = root / events_file(sub, ses, run)
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    put_events(root, change(table), sub, ses, run)


def has_events(subject, root, runs=RUNS):
    """All rows of the tables, blank ones too, in order."""
    found = subject.get_events()
    tables = [
        pd.read_csv(root / events_file(SUB, *run), sep="\t").assign(session=run[0], run=run[1])
        for run in runs
    ]
    expected = pd.concat(tables, ignore_index=True)[list(found)]
    pd.testing.assert_frame_equal(found, expected)


# -- what is converted


def test_round_trip(told, known):
    subject = load_subject(SUB, known)
    has_events(subject, told)
    has_behaviour(subject, answer(told, SUB))
    report = verify(known, told, deep=True, progress=False)
    assert not report.notes


def test_trial_info_has_the_trial_tables_columns_alone(told, known):
    for ses, table in trial_tables(told, SUB).items():
        pd.testing.assert_frame_equal(load_subject(SUB, known).get_trial_info(ses), table)


def test_units_and_descriptions(known):
    dataset = load_subject(SUB, known).dataset
    assert dataset["onset"].attrs["units"] == dataset["response_time"].attrs["units"] == "s"
    assert "units" not in dataset["response_correct"].attrs
    array = zarr.open_array(known / SUB / "events" / "onset", mode="r")
    assert array.attrs["units"] == "s"
    assert array.metadata.dimension_names == ("event",)


TYPES = {
    # texts of two runs, what the column of both is
    "whole": (["1", "2"], ["3", "4"], [1, 2, 3, 4]),
    "one missing": (["1", "n/a"], ["3", "4"], [1.0, np.nan, 3.0, 4.0]),
    "all of a run missing": (["1", "2"], ["n/a", "n/a"], [1.0, 2.0, np.nan, np.nan]),
    "whole and not": (["1", "2"], ["3.5", "4.0"], [1.0, 2.0, 3.5, 4.0]),
    "with a point": (["1.0", "2.0"], ["3.0", "4.0"], [1.0, 2.0, 3.0, 4.0]),
    "nothing": (["n/a", "n/a"], ["n/a", "n/a"], [np.nan] * 4),
    "text": (["a", "n/a"], ["b", "NA"], ["a", np.nan, "b", "NA"]),
    "text and numbers": (["a", "b"], ["1", "n/a"], ["a", "b", "1.0", np.nan]),
    "no such column": (["1", "2"], None, [1.0, 2.0, np.nan, np.nan]),
    "text, and no such column": (None, ["x", "y"], [np.nan, np.nan, "x", "y"]),
    "true and false": (["True", "False"], ["False", "True"], [True, False, False, True]),
    "true and missing": (["True", "False"], ["n/a", "True"], ["True", "False", np.nan, "True"]),
}


def typed_mirror(lean):
    """Two runs with two events each, a column for each of `TYPES`; no betas."""
    for ses in ("ses-01", "ses-02"):
        remove(lean, betas_file(ses=ses), trials_file(ses=ses))
    for n, run in enumerate([RUNS[0], RUNS[2]]):
        table = pd.DataFrame({"trial_type": "blank", "stim_name": ["blank", "blank"]})
        more = {name: texts[n] for name, texts in TYPES.items() if texts[n] is not None}
        put_events(lean, table.assign(**more), SUB, *run)
    return lean


def test_types(lean, new, tmp_path):
    typed_mirror(lean)
    assert not report_of(lean, new).failed
    found = load_subject(SUB, new).get_events()
    assert list(found) == ["session", "run", "trial_type", "stim_name", *sorted(TYPES)]
    for name, (_, _, expected) in TYPES.items():
        pd.testing.assert_series_equal(found[name], pd.Series(expected), check_names=False)
    verify(new, lean, deep=True, progress=False)
    # The same when the runs come one after the other, in either order.
    files = [lean / events_file(SUB, *run) for run in (RUNS[0], RUNS[2])]
    aside = [tmp_path / "0.tsv", tmp_path / "1.tsv"]
    for first in (0, 1):
        shutil.move(files[1 - first], aside[1 - first])
        report_of(lean, tmp_path / f"{first}.zarr")
        shutil.move(files[first], aside[first])
        shutil.move(aside[1 - first], files[1 - first])
        report_of(lean, tmp_path / f"{first}.zarr")
        assert tree_bytes(tmp_path / f"{first}.zarr") == tree_bytes(new)
        shutil.move(aside[first], files[first])


def test_columns_of_names_that_are_taken(told, new):
    edit(told, lambda table: table.assign(session="x", run="5", event="e", table_types="t"))
    assert command(told, new) == 0
    found = load_subject(SUB, new).get_events(2, 2)
    assert set(found["session"]) == {"ses-02"}
    assert set(found["run"]) == {2}
    assert set(found["tsv_session"]) == {"x"}
    assert set(found["tsv_run"]) == {5.0}
    assert set(found["event"]) == {"e"}
    assert set(found["table_types"]) == {"t"}
    verify(new, told, deep=True, progress=False)


def test_a_trial_table_with_columns_of_the_events(told, new):
    """They keep their names along trials; what is from the events gets a prefix."""
    for ses in ("ses-01", "ses-02"):
        table = pd.read_csv(told / trials_file(ses=ses), sep="\t")
        write_table(told, trials_file(ses=ses), table.assign(onset=-1.5, trial_type="mine"))
    assert command(told, new) == 0
    subject, expected = load_subject(SUB, new), answer(told, SUB)
    assert set(subject.metadata["onset"]) == {-1.5}
    assert set(subject.metadata["trial_type"]) == {"mine"}
    assert subject.metadata["events_onset"].tolist() == expected["onset"].tolist()
    assert subject.metadata["events_trial_type"].tolist() == expected["trial_type"].tolist()
    np.testing.assert_array_equal(subject.metadata["response"], expected["response"].astype(float))
    verify(new, told, deep=True, progress=False)


def test_sidecars_are_kept(told, new):
    about = {"onset": {"Description": "Beginning", "Units": "s"}}
    put(told, events_file(SUB, *RUNS[1]).replace(".tsv", ".json"), json.dumps(about))
    assert command(told, new) == 0
    texts = zarr.open_array(new / SUB / "events" / "table_sidecar", mode="r")[:]
    assert [json.loads(text or "null") for text in texts] == [None, about, None, None]
    verify(new, told, deep=True, progress=False)
    remove(told, "sub-01/*/func/*run-02_events*")
    edit(told, lambda table: table.assign(duration="4.0"), "ses-01", 1)
    assert command(told, new) == 0
    texts = zarr.open_array(new / SUB / "events" / "table_sidecar", mode="r")[:]
    assert [json.loads(text or "null") for text in texts] == [None, about, None, None]


# -- the join


def test_rows_of_the_trial_table_in_any_order(told, new):
    table = pd.read_csv(told / trials_file(), sep="\t")
    write_table(told, trials_file(), table.sample(frac=1, random_state=3))
    assert command(told, new) == 0
    has_behaviour(load_subject(SUB, new), answer(told, SUB))


def test_volumes_of_a_run_need_not_lie_side_by_side(lean, new):
    table = pd.read_csv(lean / trials_file(), sep="\t")
    write_table(lean, trials_file(), table.assign(run=[2, 1, 2, 1, 2]))
    write_events(lean, SUB)
    assert command(lean, new) == 0
    has_behaviour(load_subject(SUB, new), answer(lean, SUB))


def test_missing_runs_are_nan_and_named_once(told, new):
    remove(told, events_file(SUB, "ses-01", 2), "sub-01/ses-02/func/*")
    report = report_of(told, new)
    assert not report.failed
    (line,) = (line for line in report.missing if "events of" in line)
    assert "no events of ses-01 run-02, ses-02," in line
    assert DOWNLOAD in line
    subject = load_subject(SUB, new)
    has_behaviour(subject, answer(told, SUB))
    assert subject.metadata["trial_type"].isna().sum() == 3 + 5
    verify(new, told, deep=True, progress=False)


def test_events_without_betas_are_kept_and_named(told, new):
    rng = np.random.default_rng(5)
    put_events(told, events_of(["a.jpg"], rng), SUB, "ses-01", 3)
    put_events(told, events_of(["a.jpg", "b.jpg"], rng), SUB, "ses-04", 1)
    put_events(told, events_of(["a.jpg"], rng), SUB, "ses-31", 1)  # held out
    report = report_of(told, new)
    assert not report.failed
    (line,) = (line for line in report.missing if "events of" in line)
    assert "ses-01 run-03, ses-04 belong to no betas" in line
    names_and_mends(line, "laion-zarr download --subject sub-01")
    subject = load_subject(SUB, new)
    has_behaviour(subject, answer(told, SUB))
    has_events(subject, told, sorted([*RUNS, ("ses-01", 3), ("ses-04", 1)]))
    verify(new, told, deep=True, progress=False)


def test_only_the_sessions_that_are_asked_for(told, new):
    assert command(told, new, "--ses", "01") == 0
    assert set(load_subject(SUB, new).get_events()["session"]) == {"ses-01"}
    assert command(told, new, "--ses", "02", "--subject", "01") == 0
    has_events(load_subject(SUB, new), told)


# -- damage: only the run that it is in


def without(*columns):
    return lambda table: table.drop(columns=list(columns))


def with_cell(row, name, text):
    def change(table):
        table.loc[row, name] = text
        return table

    return change


DAMAGED = {
    "no stim_name": (without("stim_name"), ["stim_name", "lacks"]),
    "no trial_type": (without("trial_type"), ["trial_type", "lacks"]),
    "neither": (without("trial_type", "stim_name"), ["trial_type, stim_name"]),
    "no rows": (lambda table: table[:0], ["no rows"]),
    "text for a number": (with_cell(1, "response_time", "soon"), ["'soon'", "row 2", "n/a"]),
    "text for an onset": (with_cell(0, "onset", "12,5"), ["'12,5'", "row 1"]),
    "truth for a number": (lambda t: t.assign(response="True"), ["'True'", "row 1"]),
    "blank in one column": (with_cell(2, "stim_name", "blank"), ["row 3", "'blank'"]),
}
BYTES = {
    "a web page": (HTML, ["DOCTYPE"]),
    "empty": (b"", ["a table"]),
    "not text": (b"\x89HDF\r\n\x1a\n\xff\xfe", ["a table"]),
    "commas": (b"onset,trial_type,stim_name\n1,new,a.jpg\n", ["onset,trial_type,stim_name"]),
    "a short row": (b"trial_type\tstim_name\nnew\ta.jpg\nnew\n", ["1 values in row 2"]),
}


def damage(root, case):
    """Damage the last run; the words that the error must have."""
    if case in BYTES:
        put(root, events_file(SUB, "ses-02", 2), BYTES[case][0])
        return BYTES[case][1]
    change, words = DAMAGED[case]

    def rows_shown(table):
        table.loc[:, ["trial_type", "stim_name"]] = ["new", "x.jpg"]
        return change(table)

    edit(root, rows_shown)
    return words


@pytest.mark.parametrize("case", [*DAMAGED, *BYTES])
def test_what_a_damaged_table_is_said_to_be(told, case):
    words = damage(told, case)
    path = events_file(SUB, "ses-02", 2)
    with pytest.raises(SourceError) as caught:
        read_events(open_source(told), path)
    teaches(caught.value, path, *words)


@pytest.mark.parametrize("case", ["no stim_name", "a web page"])
def test_a_damaged_table_fails_its_run_alone(told, new, known, case):
    whole = answer(told, SUB)
    damage(told, case)
    for store in (new, known, new):  # the next run says so, too
        (name,) = report_of(told, store).failed
        assert name == "sub-01 events ses-02 run-02"
    has_events(load_subject(SUB, new), told, RUNS[:3])
    expected = whole.copy()
    expected.loc[9:, list(set(expected) - {"session", "index"})] = np.nan
    has_behaviour(load_subject(SUB, new), expected)
    has_behaviour(load_subject(SUB, known), whole)  # what was there is kept
    assert len(load_subject(SUB, known).get_events(2, 2)) == 4
    verify(known, progress=False)
    write_events(told, SUB)
    for store in (new, known):
        assert not report_of(told, store).failed
        has_behaviour(load_subject(SUB, store), whole)
    assert tree_bytes(new) == tree_bytes(known)


def test_an_unreadable_table(told, new):
    (told / events_file(SUB, "ses-02", 2)).unlink()
    (told / events_file(SUB, "ses-02", 2)).symlink_to("nowhere")
    report = report_of(told, new)
    ((_, error),) = report.failed.items()
    names_and_mends(str(error), events_file(SUB, "ses-02", 2))
    has_events(load_subject(SUB, new), told, RUNS[:3])


def test_a_damaged_sidecar(told, new):
    put(told, events_file(SUB, "ses-02", 2).replace(".tsv", ".json"), "{")
    report = report_of(told, new)
    ((_, error),) = report.failed.items()
    teaches(error, "run-02_events.json")
    has_events(load_subject(SUB, new), told, RUNS[:3])


# -- contradictions: an error that names both files and the row, and nothing joined


def shown(table):
    return np.flatnonzero(table["stim_name"] != "blank")


def swapped(table):
    a, b = shown(table)[:2]
    order = np.arange(len(table))
    order[[a, b]] = b, a
    return table.iloc[order]


CONTRADICTIONS = {
    "another name": (
        lambda t: with_cell(shown(t)[1], "stim_name", "x.jpg")(t),
        lambda t, own: [f"row {shown(t)[1] + 1}", repr(own[1]), "'x.jpg'"],
    ),
    "another order": (
        swapped,
        lambda t, own: [f"row {shown(t)[0] + 1}", repr(own[0]), repr(own[1])],
    ),
    "one too few": (
        lambda t: t.drop(shown(t)[-1]),
        lambda t, own: [repr(own[-1]), "the end of the table"],
    ),
    "one too many": (
        lambda t: pd.concat([t, t.iloc[shown(t)[:1]]]),
        lambda t, own: [f"row {len(t) + 1}", "no further image", repr(own[0])],
    ),
    "blanks alone": (
        lambda t: t.assign(trial_type="blank", stim_name="blank"),
        lambda t, own: [repr(own[0]), "the end of the table"],
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_events_that_contradict_the_trials(told, new, case):
    change, words = CONTRADICTIONS[case]
    session, run = "ses-01", 2
    labels = trial_tables(told, SUB)[session].query("run == @run")["label"].tolist()
    assert len(set(labels)) == 3, "else the order could not be told"
    table = pd.read_csv(told / events_file(SUB, session, run), sep="\t", keep_default_na=False)
    whole = answer(told, SUB)
    edit(told, change, session, run)
    for _ in range(2):
        report = report_of(told, new)
        ((name, error),) = report.failed.items()
        assert name == "sub-01 events ses-01 run-02"
        both = events_file(SUB, session, run), trials_file(ses=session)
        teaches(error, *both, *words(table, labels), DOWNLOAD)
    has_behaviour(load_subject(SUB, new), answer(told, SUB, [(session, run)]))
    assert len(load_subject(SUB, new).get_events(session, run))
    verify(new, told, deep=True, progress=False)
    before = shards(new)
    write_events(told, SUB)
    assert not report_of(told, new).failed
    has_behaviour(load_subject(SUB, new), whole)
    assert shards(new) == before


def test_trials_that_change_after_the_events(told, known):
    table = pd.read_csv(told / trials_file(), sep="\t")
    table.loc[4, "label"] = "shared_12rep_LAION_cluster_9_i9.jpg"
    write_table(told, trials_file(), table)
    report = report_of(told, known)
    ((_, error),) = report.failed.items()
    teaches(error, events_file(SUB, "ses-02", 2), trials_file(), "cluster_9_i9")
    has_behaviour(load_subject(SUB, known), answer(told, SUB, [("ses-02", 2)]))


# -- what comes later, and what is gone


def test_a_store_from_before_gets_events_alone(lean, new):
    assert command(lean, new) == 0
    subject = load_subject(SUB, new)
    assert "onset" not in subject.dataset
    with pytest.raises(NotConvertedError) as caught:
        subject.get_events()
    names_and_mends(str(caught.value), DOWNLOAD, "laion-zarr convert --parts events")
    before, betas = tree_bytes(new), shards(new)
    write_events(lean, SUB)
    report = report_of(lean, new)
    assert report.converted == ["sub-01 events"]
    assert shards(new) == betas
    after = tree_bytes(new)
    touched = {key for key in after if after[key] != before.get(key)}
    touched -= {"manifest.json", "zarr.json", "sub-01/manifest.json"}
    assert all(key.startswith(("sub-01/events/", "sub-01/trials/")) for key in touched)
    has_events(load_subject(SUB, new), lean)
    has_behaviour(load_subject(SUB, new), answer(lean, SUB))
    assert not report_of(lean, new).converted
    assert tree_bytes(new) == after


def test_sessions_one_after_the_other(told, known, new):
    """A user who deletes what is converted and downloads the next session."""
    write_events(told, SUB)
    later = told.parent / "later"
    shutil.move(told / SUB / "ses-02", later)
    assert command(told, new) == 0
    shutil.rmtree(told / SUB)
    shutil.copytree(later, told / SUB / "ses-02")
    report = report_of(told, new)
    assert report.converted == ["sub-01 events"]
    assert tree_bytes(new, "sub-01/**/*") == tree_bytes(known, "sub-01/**/*")


def test_events_alone_in_the_mirror(told, first_store, tmp_path, new):
    """The betas were deleted when they were whole; then the events come."""
    shutil.copytree(first_store, new)
    shutil.rmtree(told / "derivatives")
    report = report_of(told, new)
    assert report.converted == ["sub-01 events"]
    assert not report.failed
    assert load_subject(SUB, new).dataset["onset"].notnull().all()
    with pytest.raises(DataNotDownloadedError):
        report_of(told, tmp_path / "other.zarr")  # no voxels, so no subject


def test_what_vanishes_stays(told, known):
    before = tree_bytes(known)
    shutil.rmtree(told / SUB)
    assert command(told, known) == 0
    assert tree_bytes(known) == before


def test_overwrite_keeps_runs_that_are_gone(told, known):
    before = tree_bytes(known)
    remove(told, "sub-01/ses-01/func/*run-01*")
    assert command(told, known, "--overwrite") == 0
    assert tree_bytes(known) == before


def test_a_lost_manifest_and_runs_that_are_gone(told, known):
    (known / SUB / "manifest.json").unlink()
    held = told.parent / "held.tsv"
    shutil.move(told / events_file(SUB, *RUNS[0]), held)
    report = report_of(told, known, overwrite=True)
    ((_, error),) = report.failed.items()
    names_and_mends(str(error), events_file(SUB, *RUNS[0]))
    shutil.move(held, told / events_file(SUB, *RUNS[0]))
    assert not report_of(told, known, overwrite=True).failed
    has_events(load_subject(SUB, known), told)


def test_other_voxels_and_events_at_once(told, known, new):
    """--overwrite with another mask writes all parts anew; the trials are joined all the same."""
    whole = answer(told, SUB)
    assert not report_of(told, known, overwrite=True, mask="rsquare").failed
    has_behaviour(load_subject(SUB, known), whole)
    assert not report_of(told, new, mask="rsquare").failed
    assert tree_bytes(known, "sub-01/**/*") == tree_bytes(new, "sub-01/**/*")


def test_asked_for_and_not_there(lean, new, capsys):
    assert command(lean, new, "--parts", "events") == 1
    names_and_mends(capsys.readouterr().err, DOWNLOAD)


def test_dry_run(told, new, capsys):
    assert command(told, new, "--dry-run") == 0
    assert "sub-01 events" in capsys.readouterr().out
    assert not new.exists()


def test_overwrite_mends_damaged_events(told, known):
    whole = tree_bytes(known)
    (known / SUB / "events" / "stim_name" / "c" / "0").write_bytes(b"damaged")
    with pytest.raises(StoreError, match="stim_name"):
        load_subject(SUB, known).get_events()
    assert command(told, known, "--overwrite", "--parts", "events") == 0
    assert tree_bytes(known) == whole


# -- what verify finds


def test_verify_finds_other_values(told, known):
    edit(told, with_cell(0, "onset", "1.5"))
    with pytest.raises(StoreError, match=r"ses-02_task.*events\.tsv is not the file"):
        verify(known, told, deep=True, progress=False)


def test_source_error_is_raised_by_convert(told, new):
    damage(told, "no stim_name")
    with pytest.raises(SourceError, match="stim_name"):
        convert(told, new, progress=False)
