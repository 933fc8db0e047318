"""Conversion as a process: resume, add, overwrite, workers; the store has the same bytes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from converting import alone, quiet
from trees import tree_bytes

from laion_zarr import load_subject, verify
from laion_zarr.errors import SourceError, StoreError


def test_a_session_that_fails_keeps_its_trials(bids_root, store, copy_of):
    """New trials of both sessions, new betas of one: the other's stored betas keep their labels."""
    target, mirror = copy_of(store), copy_of(bids_root)
    for path in mirror.rglob("sub-01_*trials.tsv"):
        path.write_text(path.read_text().replace("shared_", "unique_"))
    (betas,) = mirror.rglob("sub-01_ses-02*Betas_statmap.nii.gz")
    betas.write_bytes(betas.read_bytes()[:-9])
    with pytest.raises(SourceError, match="ses-02"):
        alone(mirror, target, subjects="01")
    sub = load_subject("01", target)
    table = sub.metadata.groupby("session")["label"].apply(list)
    for ses in sub.get_sessions():
        assert table[ses] == sub.get_trial_info(ses)["label"].tolist()
    assert not any(name.startswith("shared_") for name in table["ses-01"])


def test_what_a_killed_first_run_left_is_removed(bids_root, store, copy_of):
    target = copy_of(store)
    stray = target / "sub-05" / "ses-01" / "betas" / "c" / "0" / "0"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"half")
    (target / "zarr.0123456789abcdef0123456789abcdef.partial").write_bytes(b"half")
    alone(bids_root, target)
    assert not (target / "sub-05").exists()
    assert not verify(target, progress=False).problems


def test_dry_run_names_the_stimuli(bids_root, tmp_path):
    report = alone(bids_root, tmp_path / "s.zarr", dry_run=True)
    assert any(line.startswith("stimuli metadata: ") for line in report.planned)


def test_rerun_skips_everything_and_writes_nothing(bids_root, store, copy_of):
    again = copy_of(store)
    before = {path: path.stat().st_mtime_ns for path in again.rglob("c/*")}
    report = quiet(bids_root, again)
    assert not report.converted
    assert len(report.unchanged) == 30
    assert tree_bytes(again) == tree_bytes(store)
    assert {path: path.stat().st_mtime_ns for path in again.rglob("c/*")} == before


@pytest.mark.parametrize("order", [("ses-01", "ses-02"), ("ses-02", "ses-01")])
def test_session_by_session_gives_the_same_store(bids_root, store, tmp_path, order):
    target = tmp_path / "s.zarr"
    for ses in order:
        quiet(bids_root, target, sessions=ses)
    assert tree_bytes(target) == tree_bytes(store)


def test_workers_and_scratch_files_give_the_same_store(bids_root, store, tmp_path, monkeypatch):
    monkeypatch.setattr("laion_zarr.conversion.budget.WorkPlan.slabs_kept", lambda *_: 0)
    quiet(bids_root, tmp_path / "scratch.zarr", n_workers=1)
    assert tree_bytes(tmp_path / "scratch.zarr") == tree_bytes(store)
    quiet(bids_root, tmp_path / "workers.zarr", n_workers=2)
    assert tree_bytes(tmp_path / "workers.zarr") == tree_bytes(store)


def test_overwrite_gives_the_same_store(bids_root, store, copy_of):
    again = copy_of(store)
    report = quiet(bids_root, again, overwrite=True)
    assert not report.unchanged
    assert tree_bytes(again) == tree_bytes(store)


def test_changed_source_is_converted_again_alone(bids_root, store, copy_of):
    mirror, target = copy_of(bids_root), copy_of(store)
    (table,) = mirror.rglob("sub-01_ses-02*trials.tsv")
    for path in (table, *mirror.rglob("sub-01_ses-02*events.tsv")):
        path.write_text(path.read_text().replace("shared_", "unique_"))
    report = quiet(mirror, target)
    assert report.converted == ["sub-01 events", "sub-01 ses-02"]
    sub = load_subject("01", target)
    assert not any(name.startswith("shared_") for name in sub.get_trial_info("ses-02")["label"])
    both = sub.metadata.groupby("session")["label"].apply(list)
    assert both["ses-02"] == sub.get_trial_info("ses-02")["label"].tolist()
    np.testing.assert_array_equal(
        sub.get_betas().values, load_subject("01", store).get_betas().values
    )


def test_dry_run_writes_nothing(bids_root, tmp_path):
    report = quiet(bids_root, tmp_path / "s.zarr", dry_run=True)
    assert not (tmp_path / "s.zarr").exists()
    assert any("sub-01 ses-01: 24 trials" in line for line in report.planned)
    assert report.disk_nbytes > 0


def test_too_little_disk_is_said_first(bids_root, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StoreError, match=r"0\.0 GB free, and the conversion needs up to"):
        quiet(bids_root, tmp_path / "s.zarr")
    assert not list((tmp_path / "s.zarr").rglob("c"))


def test_foreign_folder_is_refused_and_untouched(bids_root, tmp_path):
    (tmp_path / "mine" / "stimuli").mkdir(parents=True)
    (tmp_path / "mine" / "stimuli" / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match="no laion_zarr store"):
        quiet(bids_root, tmp_path / "mine")
    assert tree_bytes(tmp_path / "mine") == {"stimuli/thesis.txt": b"precious"}
