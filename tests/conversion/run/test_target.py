"""Folders that a store cannot be written to, and mirrors without data."""

from __future__ import annotations

import pytest
from small_mirror import check, command, names_and_mends, put, tree

from laion_zarr import convert, load_subject
from laion_zarr.errors import DataNotDownloadedError, LaionZarrError, StoreError


def test_target_below_a_file(whole, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(StoreError) as caught:
        convert(whole, file / "store.zarr", progress=False)
    names_and_mends(str(caught.value), file / "store.zarr", "--store")
    assert command(whole, file / "store.zarr") == 1
    assert str(file / "store.zarr") in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_target_is_a_file(whole, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(StoreError) as caught:
        convert(whole, file, progress=False)
    names_and_mends(str(caught.value), file, "--store")
    assert file.read_text() == "mine"
    with pytest.raises(LaionZarrError) as caught:
        load_subject("01", file)
    names_and_mends(str(caught.value), file)


FOREIGN = {
    "files": {"thesis.tex": "mine", "data/run.csv": "1"},
    "hidden file": {".keep": ""},
    "another zarr store": {
        "zarr.json": '{"zarr_format": 3, "node_type": "group", "attributes": {}}',
        "x/zarr.json": "{}",
    },
    "a mirror": {"derivatives/x": "1", "manifest.json": "{}"},
    "a web app": {"zarr.json": "not json", "manifest.json": '{"name": "app"}'},
    "folders like ours": {"sub-01/notes.txt": "mine", "stimuli/a.jpg": "mine"},
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_folder_is_refused_and_untouched(whole, tmp_path, case, overwrite):
    folder = tmp_path / "folder"
    for name, text in FOREIGN[case].items():
        put(folder, name, text)
    before = tree(folder)
    with pytest.raises(StoreError) as caught:
        convert(whole, folder, overwrite=overwrite, progress=False)
    names_and_mends(str(caught.value), folder)
    assert command(whole, folder) == 1
    assert tree(folder) == before


def test_empty_folder_is_taken(whole, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    assert command(whole, folder) == 0
    check(whole, folder)


def test_dry_run_touches_nothing(whole, new, capsys):
    assert command(whole, new, "--dry-run") == 0
    assert not new.exists()
    assert "sub-01 ses-02: 5 trials" in capsys.readouterr().out


@pytest.mark.parametrize("make", [True, False], ids=["empty", "absent"])
def test_no_data(tmp_path, new, capsys, make):
    root = tmp_path / "data"
    if make:
        root.mkdir()
    with pytest.raises(DataNotDownloadedError) as caught:
        convert(root, new, progress=False)
    names_and_mends(str(caught.value), root, "--source", "derivatives/")
    assert command(root, new) == 1
    assert str(root) in capsys.readouterr().err
    assert not new.exists()


def test_no_data_does_not_touch_a_store(tmp_path, kept):
    before = tree(kept)
    assert command(tmp_path / "nowhere", kept) == 1
    assert tree(kept) == before
