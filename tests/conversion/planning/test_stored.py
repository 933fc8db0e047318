"""Stores of a future version, and stores with manifests that are cut short."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from crc32c import crc32c
from small_mirror import (
    BARE,
    GLM,
    METADATA,
    betas_file,
    check,
    command,
    names_and_mends,
    remove,
    tree,
)
from trees import tree_bytes

from laion_zarr import convert, load_subject
from laion_zarr.errors import StoreError


def seal(manifest):
    """A manifest as its writer would have written it, with the checksum at its end."""
    body = {key: value for key, value in manifest.items() if key != "crc32c"}
    text = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False)
    return f'{text[:-2]},\n "crc32c": {crc32c(text.encode())}\n}}\n'


def of_the_future(path):
    content = json.loads(path.read_text())
    if path.name == "zarr.json":
        content["attributes"]["laion_zarr"]["schema_version"] = 2
        path.write_text(json.dumps(content, indent=2))
    else:
        assert seal(content) == path.read_text()  # what the writer does, known here
        path.write_text(seal(content | {"schema_version": 2}))


FUTURE = {
    "root": (["zarr.json"], True),
    "root manifest": (["manifest.json"], False),
    "subject": (["sub-01/manifest.json"], True),
    "all": (
        ["zarr.json", "manifest.json", "sub-01/manifest.json", "sub-03/manifest.json"],
        True,
    ),
}


@pytest.mark.parametrize("case", FUTURE)
def test_store_of_a_future_version(mirror, whole, kept, capsys, case):
    files, read_too = FUTURE[case]
    for name in files:
        of_the_future(kept / name)
    before = tree(kept)
    if read_too:
        with pytest.raises(StoreError) as caught:
            load_subject("01", kept)
        names_and_mends(str(caught.value), "version 2", "version 1", "pip install", kept)
    remove(mirror, betas_file())  # there is something to do, and nothing
    for root in (whole, mirror):
        with pytest.raises(StoreError) as caught:
            convert(root, kept, progress=False)
        names_and_mends(str(caught.value), "version 2", "version 1", kept)
    assert command(whole, kept) == 1
    assert "version 2" in capsys.readouterr().err
    assert tree(kept) == before


def test_store_of_a_future_version_is_not_overwritten(whole, kept):
    for name in FUTURE["all"][0]:
        of_the_future(kept / name)
    before = tree(kept)
    with pytest.raises(StoreError, match="version 2"):
        convert(whole, kept, overwrite=True, progress=False)
    assert tree(kept) == before


CUTS = [0, 1, 1000, -40, -2]


@pytest.mark.parametrize("cut", CUTS)
def test_cut_manifest_of_a_subject(whole, kept, cut):
    path = kept / "sub-01" / "manifest.json"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(StoreError) as caught:
        load_subject("01", kept)
    names_and_mends(str(caught.value), path, "laion-zarr convert --overwrite")
    check(whole, kept, subject="sub-03", lacks=BARE)
    before = tree_bytes(kept, "sub-*/**/*")
    with pytest.raises(StoreError) as caught:
        convert(whole, kept, progress=False)
    names_and_mends(str(caught.value), path, "--overwrite")
    assert tree_bytes(kept, "sub-*/**/*") == before
    assert command(whole, kept, "--overwrite", "--subject", "01") == 0
    check(whole, kept)
    check(whole, kept, subject="sub-03", lacks=BARE)


def test_cut_manifest_stops_its_subject_only(mirror, whole, new):
    remove(mirror, f"{GLM}/sub-03/**/*")
    assert command(mirror, new) == 0
    path = new / "sub-01" / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])
    assert command(whole, new) == 1
    check(whole, new, subject="sub-03", lacks=BARE)


def test_cut_manifest_is_not_overwritten_where_it_would_lose(mirror, kept, capsys):
    path = kept / "sub-01" / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])
    remove(mirror, f"{GLM}/sub-01/ses-02/func/*")
    before = tree_bytes(kept, "sub-01/**/*")
    assert command(mirror, kept, "--overwrite") == 1
    names_and_mends(capsys.readouterr().err, "ses-02")
    assert tree_bytes(kept, "sub-01/**/*") == before


def test_cut_manifest_of_the_stimuli(whole, kept):
    path = kept / "stimuli" / "manifest.json"
    path.write_bytes(path.read_bytes()[:50])
    check(whole, kept)  # trials have their columns of it
    with pytest.raises(StoreError) as caught:
        load_subject("01", kept).get_stimulus_metadata()
    names_and_mends(str(caught.value), path, "--overwrite")
    with pytest.raises(StoreError) as caught:
        convert(whole, kept, progress=False)
    names_and_mends(str(caught.value), path, "--overwrite")
    assert command(whole, kept, "--overwrite") == 0
    found = load_subject("01", kept).get_stimulus_metadata()
    pd.testing.assert_frame_equal(found, pd.read_csv(whole / METADATA), check_dtype=False)


@pytest.mark.parametrize("name", ["manifest.json", "zarr.json"])
@pytest.mark.parametrize("cut", [0, 30])
def test_cut_root_is_mended_by_the_next_run(whole, whole_store, kept, name, cut):
    (kept / name).write_bytes((kept / name).read_bytes()[:cut])
    if name == "zarr.json":
        with pytest.raises(StoreError) as caught:
            load_subject("01", kept)
        names_and_mends(str(caught.value), kept / name)
    assert command(whole, kept) == 0
    check(whole, kept)
    assert tree_bytes(kept) == tree_bytes(whole_store)
