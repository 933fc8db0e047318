"""What reviews of the converter found, and stays mended."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from zarr.storage import MemoryStore

from laion_zarr import convert, load_subject, verify
from laion_zarr.conversion.parts.subject import combined
from laion_zarr.errors import LaionZarrError, SourceError, StoreError
from laion_zarr.store import remote


def quiet(*args, **options):
    return convert(*args, progress=False, n_workers=1, **options)


def metadata_file(root: Path) -> Path:
    (path,) = root.glob("stimuli/*images_metadata.csv")
    return path


def test_a_label_column_of_the_stimuli_renames_no_trial(bids_root, store, copy_of, tmp_path):
    mirror = copy_of(bids_root)
    table = pd.read_csv(metadata_file(mirror))
    table["label"] = [f"cat{row}" for row in range(len(table))]
    table.to_csv(metadata_file(mirror), index=False)
    quiet(mirror, tmp_path / "s.zarr", subjects="01")
    sub = load_subject("01", tmp_path / "s.zarr")
    expected = load_subject("01", store).metadata
    assert sub.metadata["label"].tolist() == expected["label"].tolist()
    assert sub.get_stimulus_metadata()["label"].tolist() == table["label"].tolist()
    group = zarr.open_group(tmp_path / "s.zarr" / "stimuli" / "metadata", mode="r")
    assert group["image_name"][:].tolist() == table["image_name"].tolist()
    rows = dict(zip(table["image_name"], table["label"], strict=True))
    joined = sub.dataset["stim_label"].values.tolist()
    assert joined == [rows.get(name, "") for name in sub.metadata["label"]]


def break_manifest(store: Path) -> None:
    path = store / "sub-01" / "manifest.json"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("options", [{"sessions": "01"}, {"parts": "anatomy"}])
@pytest.mark.parametrize("lost", [False, True])
def test_damaged_manifest_is_not_mended_in_part(bids_root, store, copy_of, options, lost):
    broken = copy_of(store)
    if lost:
        (broken / "sub-01" / "manifest.json").unlink()
    else:
        break_manifest(broken)
    before = {path for path in broken.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match="without --ses and --parts"):
        quiet(bids_root, broken, subjects="01", overwrite=True, **options)
    with pytest.raises(LaionZarrError, match="manifest"):
        quiet(bids_root, broken, subjects="01")
    assert {path for path in broken.rglob("*") if path.is_file()} >= before
    quiet(bids_root, broken, subjects="01", overwrite=True)
    np.testing.assert_array_equal(
        load_subject("01", broken).get_betas().values, load_subject("01", store).get_betas().values
    )
    assert not verify(broken, progress=False).problems


@pytest.mark.parametrize("gone", ["*ses-02*Betas_statmap.nii.gz", "*hemi-L*EBA*func.gii", "*R2_*"])
def test_damaged_manifest_and_files_gone(bids_root, store, copy_of, gone):
    broken, mirror = copy_of(store), copy_of(bids_root)
    break_manifest(broken)
    for path in mirror.rglob(gone):
        path.unlink()
    with pytest.raises(LaionZarrError, match="could not be converted again"):
        quiet(mirror, broken, subjects="01", overwrite=True)


def test_new_voxel_order_loses_no_map(bids_root, store, copy_of):
    target, mirror = copy_of(store), copy_of(bids_root)
    for path in mirror.rglob("sub-01_ses-01*desc-R2_statmap.*"):
        path.unlink()
    with pytest.raises(LaionZarrError, match=r"maps/ses-01/r2.*could not be converted again"):
        quiet(mirror, target, subjects="01", mask="rsquare", overwrite=True)
    assert np.isfinite(load_subject("01", target).dataset["r2"].sel(session_id="ses-01")).any()


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([[1, 2], ["n/a", "n/a"]], [1.0, 2.0, np.nan, np.nan]),
        ([[1, 2], ["x", "n/a"]], ["1", "2", "x", "n/a"]),
        ([[True, False], ["n/a", ""]], ["True", "False", "n/a", ""]),
        ([[True, False], None], ["True", "False", "", ""]),
        ([["a", "b"], None], ["a", "b", "", ""]),
        ([[1, 2], None], [1.0, 2.0, np.nan, np.nan]),
        ([[1, 2], [3, 4]], [1, 2, 3, 4]),
    ],
)
def test_columns_whose_type_differs_between_sessions(columns, expected):
    tables = [
        pd.DataFrame({"label": ["a", "b"]} | ({} if values is None else {"more": values}))
        for values in columns
    ]
    found = combined(tables)["more"].to_numpy()
    np.testing.assert_array_equal(found, np.array(expected, dtype=found.dtype))


def test_one_subjects_damage_leaves_the_others_whole(bids_root, store, copy_of):
    broken = copy_of(store)
    (broken / "sub-03" / "manifest.json").write_bytes(b"{")
    with pytest.raises(StoreError, match="sub-03"):
        quiet(bids_root, broken, subjects="01", overwrite=True)
    root = json.loads((broken / "zarr.json").read_bytes())
    assert "sub-01/ses-01/betas" in root["consolidated_metadata"]["metadata"]


def test_a_session_that_fails_keeps_its_trials(bids_root, store, copy_of):
    """New trials of both sessions, new betas of one: the other's stored betas keep their labels."""
    target, mirror = copy_of(store), copy_of(bids_root)
    for path in mirror.rglob("sub-01_*trials.tsv"):
        path.write_text(path.read_text().replace("shared_", "unique_"))
    (betas,) = mirror.rglob("sub-01_ses-02*Betas_statmap.nii.gz")
    betas.write_bytes(betas.read_bytes()[:-9])
    with pytest.raises(SourceError, match="ses-02"):
        quiet(mirror, target, subjects="01")
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
    (target / "zarr.0123.partial").write_bytes(b"half")
    quiet(bids_root, target)
    assert not (target / "sub-05").exists()
    assert not verify(target, progress=False).problems


def test_ids_that_begin_alike(bids_root, tmp_path):
    """A store that lists by text must not take sub-010 for a part of sub-01."""
    memory = MemoryStore()
    quiet(bids_root, memory)
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    value = default_buffer_prototype().buffer.from_bytes(b"x")
    sync(memory.set("sub-01x", value))
    quiet(bids_root, memory, subjects="01")
    assert sync(memory.exists("sub-01x"))


@pytest.mark.parametrize(
    ("url", "given", "anonymous"),
    [
        ("s3://laion-fmri/store.zarr", {"anon": False}, True),
        ("s3://laion-fmri", {}, True),
        ("s3://laion-fmri-mylab/store.zarr", {}, None),
    ],
)
def test_only_the_releases_bucket_is_anonymous(url, given, anonymous):
    assert remote.options(url, given).get("anon") is anonymous


def test_a_store_without_sessions_shows_what_it_has(bids_root, store, tmp_path):
    quiet(bids_root, tmp_path / "s.zarr", subjects="01", parts="anatomy")
    sub = load_subject("01", tmp_path / "s.zarr")
    assert "none yet" in repr(sub)
    full = load_subject("01", store)
    np.testing.assert_array_equal(sub.get_roi_mask("laionEVC"), full.get_roi_mask("laionEVC"))
    with pytest.raises(LaionZarrError, match="no session in the store yet"):
        sub.get_betas()


def test_relative_stores_survive_a_change_of_folder(store, tmp_path, monkeypatch):
    monkeypatch.chdir(store.parent)
    lazy = load_subject("01", store.name).get_betas(roi="laionEVC")
    packed = pickle.dumps(lazy)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(pickle.loads(packed).values, lazy.values)


def test_dry_run_names_the_stimuli(bids_root, tmp_path):
    report = quiet(bids_root, tmp_path / "s.zarr", dry_run=True)
    assert any(line.startswith("stimuli metadata: ") for line in report.planned)


def test_nan_in_a_sidecar_stays_json(bids_root, copy_of, tmp_path):
    mirror = copy_of(bids_root)
    for path in mirror.rglob("sub-01_ses-01*Betas_statmap.json"):
        path.write_text('{"Threshold": NaN}')
    quiet(mirror, tmp_path / "s.zarr", subjects="01", sessions="01")
    text = (tmp_path / "s.zarr" / "sub-01" / "ses-01" / "betas" / "zarr.json").read_text()

    def refuse(constant):
        raise AssertionError(constant)

    node = json.loads(text.replace('"NaN"', '""'), parse_constant=refuse)
    assert node["attributes"]["sidecar"] == {"Threshold": None}


def test_verify_of_an_unfinished_store_says_one_thing(bids_root, store, copy_of):
    target = copy_of(store)
    os.unlink(target / "manifest.json")  # noqa: PTH108
    with pytest.raises(StoreError, match="1 problems") as caught:
        verify(target, progress=False)
    assert "did not finish" in str(caught.value)
