"""Conversion as a process: resume, add, overwrite, workers, memory; nothing lost on the way."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_zarr import convert, load_subject
from laion_zarr.conversion.budget import SessionSize, parse_memory, plan_work
from laion_zarr.conversion.parts import session
from laion_zarr.conversion.run import pipeline
from laion_zarr.errors import StoreError


def tree_bytes(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def quiet(*args, **options):
    return convert(*args, progress=False, **options)


def test_rerun_skips_everything_and_writes_nothing(bids_root, store, copy_of):
    again = copy_of(store)
    before = {path: path.stat().st_mtime_ns for path in again.rglob("c/*")}
    report = quiet(bids_root, again)
    assert not report.converted
    assert len(report.unchanged) == 22
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


@given(
    n_trials=st.integers(1, 100),
    n_voxels=st.integers(1, 40),
    n_kept=st.integers(0, 3),
    at=st.data(),
)
def test_slabs_give_back_what_was_filled_in(n_trials, n_voxels, n_kept, at):
    """In memory or through the scratch file, whatever the trials that are collected for it."""
    volumes = np.random.default_rng(n_trials).standard_normal((n_trials, 50), dtype="f4")
    index = at.draw(st.permutations(range(50)).map(lambda order: np.array(order[:n_voxels])))
    with (
        mock.patch.object(session, "SLAB_VOXELS", 17),
        mock.patch.object(session, "COLLECTED_TRIALS", at.draw(st.integers(1, 40))),
        session._Scratch(None) as scratch,
    ):
        slabs = session.Slabs(index, n_trials, min(n_kept, -(-n_voxels // 17)), scratch)
        for trial, volume in enumerate(volumes):
            slabs.fill(trial, lambda places, row, volume=volume: np.take(volume, places, out=row))
        found = {number: rows.copy() for number, rows in slabs.whole()}
    whole = np.concatenate([found[number] for number in sorted(found)], axis=1)
    np.testing.assert_array_equal(whole, volumes[:, index])


def test_overwrite_gives_the_same_store(bids_root, store, copy_of):
    again = copy_of(store)
    report = quiet(bids_root, again, overwrite=True)
    assert not report.unchanged
    assert tree_bytes(again) == tree_bytes(store)


def test_changed_source_is_converted_again_alone(bids_root, store, copy_of):
    mirror, target = copy_of(bids_root), copy_of(store)
    (table,) = mirror.rglob("sub-01_ses-02*trials.tsv")
    text = table.read_text()
    table.write_text(text.replace("shared_", "unique_"))
    report = quiet(mirror, target)
    assert report.converted == ["sub-01 ses-02"]
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
    monkeypatch.setattr(pipeline.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StoreError, match=r"0\.0 GB free, and the conversion needs up to"):
        quiet(bids_root, tmp_path / "s.zarr")
    assert not list((tmp_path / "s.zarr").rglob("c"))


def test_foreign_folder_is_refused_and_untouched(bids_root, tmp_path):
    (tmp_path / "mine" / "stimuli").mkdir(parents=True)
    (tmp_path / "mine" / "stimuli" / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match="no laion_zarr store"):
        quiet(bids_root, tmp_path / "mine")
    assert tree_bytes(tmp_path / "mine") == {"stimuli/thesis.txt": b"precious"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4GiB", 4 << 30), ("1.5g", 1_500_000_000), ("500 MB", 500_000_000), (123, 123)],
)
def test_parse_memory(text, expected):
    assert parse_memory(text) == expected


@pytest.mark.parametrize("text", ["lots", "", "4XB", "-1GB"])
def test_parse_memory_refuses(text):
    with pytest.raises(ValueError, match="--memory takes a size"):
        parse_memory(text)


SESSION = SessionSize(n_voxels=275_000, n_trials=1044, volume_nbytes=143**3 * 4)


def test_plan_fits_workers_to_memory():
    work = plan_work([SESSION] * 30, 8, "4GiB")
    assert work.n_workers * SESSION.memory_nbytes(0) <= 4 << 30
    assert work.n_workers * work.memory_per_worker <= 4 << 30
    assert plan_work([SESSION] * 30, 1, None).slabs_kept(SESSION) == SESSION.n_slabs == 16
    with pytest.raises(ValueError, match=r"0\.50 GB is too little: one session needs 0\.7"):
        plan_work([SESSION], None, "500MB")
