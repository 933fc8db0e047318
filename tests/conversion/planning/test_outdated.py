"""What a source has that a store lacks: `outdated` names it, and `convert` takes it."""

from __future__ import annotations

import gzip
import json
import os
import shutil

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from converting import quiet
from hypothesis import given
from hypothesis import strategies as st
from trees import tree_bytes

from laion_zarr import _release as release
from laion_zarr.conversion import outdated
from laion_zarr.conversion.cli import main
from laion_zarr.conversion.planning import versions
from laion_zarr.conversion.planning.small_parts import KINDS
from laion_zarr.conversion.planning.wanted import folders_of
from laion_zarr.download.mirror import Item, Mirror
from laion_zarr.errors import DataNotDownloadedError, NotConvertedError
from laion_zarr.store.objects import open_store
from laion_zarr.store.parts import StoredParts

SUB = "sub-03"
CLIP = str(release.embeddings("CLIP"))


def rows(report):
    """What differs, as (subject, part, name, state)."""
    return [(one.subject, one.part, one.name, one.state) for one in report.differences]


@pytest.fixture
def mirror(bids_root, tmp_path):
    """A mirror of links: files are replaced, never written to."""
    return shutil.copytree(bids_root, tmp_path / "mirror", copy_function=os.link)


@pytest.fixture
def own(store, copy_of):
    """The store of the whole mirror, to be changed."""
    return copy_of(store)


def replace(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def turned(path):
    """The bytes of a volume of the same size, with other values."""
    image = nib.load(path)
    values = np.asanyarray(image.dataobj)[::-1]
    return gzip.compress(nib.Nifti1Image(values, image.affine, image.header).to_bytes(), mtime=0)


def test_nothing_is_outdated(bids_root, store, monkeypatch, capsys):
    before = tree_bytes(store)
    report = outdated(bids_root, store)
    assert not report
    assert report.differences == report.not_compared == report.problems == ()
    assert tree_bytes(store) == before
    assert report.to_dataframe().empty
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(bids_root))
    monkeypatch.setenv("LAION_ZARR_STORE", str(store))
    assert main(["outdated"]) == 0
    assert "Nothing is new or changed." in capsys.readouterr().out


def test_every_kind_of_difference(mirror, own, capsys):
    """A map of other content, an ROI that is new, a session that is gone, embeddings corrected."""
    t1w = mirror / release.anatomy(SUB, "t1w", release.FUNCTIONAL_RES)
    replace(t1w, turned(t1w))
    new = mirror / release.roi_volume(SUB, "body", "NEW1")
    replace(new, (mirror / release.roi_volume(SUB, "body", "EBA")).read_bytes())
    shutil.rmtree(mirror / release.glm_dir("sub-01") / "ses-02")
    data = (mirror / CLIP).read_bytes()
    replace(mirror / CLIP, data + bytes(8))
    report = outdated(mirror, own)
    assert report
    assert rows(report) == [
        ("stimuli", "embeddings", "embeddings/CLIP", "changed"),
        ("sub-01", "betas", "maps/ses-02", "gone"),
        ("sub-01", "betas", "ses-02", "gone"),
        (SUB, "anatomy", "anatomy", "changed"),
        (SUB, "betas", "voxels", "new"),
    ]
    clip, _, gone, anatomy, roi = report.differences
    assert (clip.files, clip.nbytes, clip.reason) == ((CLIP,), len(data) + 8, versions.OTHER_SIZE)
    assert set(gone.files) >= {str(release.betas("sub-01", "ses-02"))}
    recorded = StoredParts(open_store(own), "sub-01").part("ses-02").sources
    assert gone.nbytes == sum(entry["size"] for entry in recorded.values())
    assert anatomy.files == (str(t1w.relative_to(mirror)),)
    assert roi.files == (str(new.relative_to(mirror)),)
    assert main(["outdated", "--source", str(mirror), "--store", str(own)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[4:8]] == [
        ["stimuli", "embeddings", "changed"],
        ["sub-01", "betas", "gone"],
        [SUB, "anatomy", "changed"],
        [SUB, "betas", "new"],
    ]
    quiet(mirror, own)
    left = outdated(mirror, own)
    assert not left
    assert {state for *_, state in rows(left)} == {"gone"}


def test_same_size_and_other_content(mirror, own):
    """A file that is not packed is compared by its content, too."""
    path = mirror / CLIP
    changed = shutil.copy(path, mirror / "other.h5")
    with h5py.File(changed, "r+") as file:
        file["embedding"][:] = -file["embedding"][:]
    replace(path, changed.read_bytes())
    (found,) = outdated(mirror, own).differences
    assert (found.name, found.reason) == ("embeddings/CLIP", versions.OTHER_CONTENT)
    quiet(mirror, own)
    assert not outdated(mirror, own)


def test_betas_are_compared_without_inflating_them(mirror, own):
    path = mirror / release.betas(SUB, "ses-01")
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    replace(path, bytes(data))
    (found,) = outdated(mirror, own).differences
    assert (found.subject, found.part, found.name, found.reason) == (
        *(SUB, "betas", "ses-01"),
        versions.OTHER_CONTENT,
    )


def test_what_a_store_lacks(bids_root, tmp_path, monkeypatch):
    """A store of betas alone lacks all else, by subject, with the sizes of the files."""
    quiet(bids_root, tmp_path / "s.zarr", subjects=SUB, sessions="ses-01", parts="betas")
    report = outdated(bids_root, tmp_path / "s.zarr")
    assert {state for *_, state in rows(report)} == {"new"}
    frame = report.to_dataframe()
    of_sub = set(frame[frame["subject"] == SUB]["name"])
    assert of_sub >= {"ses-02", "maps/ses-02", "anatomy", "surfaces"}
    assert not of_sub & {"ses-01", "maps/ses-01", "voxels"}
    assert set(frame[frame["subject"] == "sub-01"]["name"]) >= {"voxels", "ses-01", "ses-02"}
    assert set(frame[frame["subject"] == "stimuli"]["part"]) == {
        *("metadata", "images", "embeddings", "segmentations", "captions")
    }
    for row in frame.itertuples():
        assert row.n_files == len(row.files)
        assert row.nbytes == sum((bids_root / name).stat().st_size for name in row.files)
    quiet(bids_root, tmp_path / "s.zarr")
    assert not outdated(bids_root, tmp_path / "s.zarr")


def test_parts_that_are_made_only_when_named(bids_root, store, monkeypatch):
    """A kind that is not a default counts once the store has some of it; kinds are of one table."""
    name = next(iter(KINDS))
    every = "laion_zarr.conversion.planning.outdated.schema.DEFAULT_PARTS"
    monkeypatch.setattr(every, ("betas",))
    assert not outdated(bids_root, store).differences
    monkeypatch.setattr(every, (name,))
    assert not outdated(bids_root, store).differences
    assert release.ANATOMY in folders_of(["anatomy"])
    for option, kind in KINDS.items():  # what a bucket is listed for holds the kind's files
        assert any(kind.folder(SUB).is_relative_to(top / SUB) for top in folders_of([option]))
    assert release.TEDANA in folders_of(["bold"])


def test_a_store_of_one_mask_is_compared_with_its_files(bids_root, tmp_path):
    path = tmp_path / "s.zarr"
    quiet(bids_root, path, subjects=SUB, parts="betas", mask="anatomical")
    wanted = [row for row in rows(outdated(bids_root, path)) if row[:3] == (SUB, "betas", "voxels")]
    assert wanted == []


def test_held_out_sessions_are_nothing(mirror, own):
    for folder in (release.glm_dir(SUB), release.raw_dir(SUB), release.TEDANA / SUB):
        name = folder / "ses-31" / "func" / f"{SUB}_ses-31_task-images_of-no-kind.tsv"
        replace(mirror / name, b"x")
    assert outdated(mirror, own).differences == ()


# -- unknown kinds of files


def test_unknown_kinds_by_pattern(mirror, own, capsys):
    names = [
        "derivatives/retinotopy/dataset_description.json",
        *(f"derivatives/retinotopy/{SUB}/map{n}.nii.gz" for n in range(7)),
        *(f"{s}/ses-0{n}/dwi/{s}_ses-0{n}_dwi.bvec" for s in ("sub-01", SUB) for n in (1, 2)),
        f"derivatives/rois/{SUB}/body/notes.txt",
        f"derivatives/localizers/{SUB}/ses-31/func/{SUB}_ses-31_task-oloc_hemi-L_stat-t.func.gii",
        "stimuli/task-images_desc-depth.h5",
        *(f"derivatives/tedana/{SUB}/figures/comp_{n:03d}.png" for n in range(30)),
    ]
    for name in names:
        replace(mirror / name, b"new")
    report = outdated(mirror, own)
    assert not report, "nothing for convert to take"
    frame = report.to_dataframe()
    assert set(frame["state"]) == {"unknown kind"}
    found = {(row.subject, row.name): row.n_files for row in frame.itertuples()}
    dwi = "sub-*/ses-*/dwi/sub-*_ses-*_dwi.bvec"
    assert found == {
        ("", "derivatives/retinotopy/"): 1,
        (SUB, "derivatives/retinotopy/"): 7,
        ("sub-01", dwi): 2,
        (SUB, dwi): 2,
        (SUB, "derivatives/rois/sub-*/body/notes.txt"): 1,
        (
            SUB,
            "derivatives/localizers/sub-*/ses-*/func/sub-*_ses-*_task-oloc_hemi-*_stat-t.func.gii",
        ): 1,
        ("", "stimuli/task-images_desc-depth.h5"): 1,
        (SUB, "derivatives/tedana/sub-*/figures/comp_*.png"): 30,
    }
    assert sorted(name for some in frame["files"] for name in some) == sorted(names)
    (line,) = [line for line in str(report).splitlines() if dwi in line]
    assert line.split() == ["sub-01,", SUB, "unknown", "kind", dwi, "4", "12", "B"]


def test_known_kinds_are_no_news():
    """What the description of the dataset names is known, whether a part is made of it or not."""
    func, raw = f"{release.glm_dir(SUB)}/ses-01/func/{SUB}_ses-01_", f"{SUB}/ses-01"
    names = [
        *("README", "CHANGES", "participants.tsv", "participants.json"),
        *("derivatives/rois/dataset_description.json", "derivatives/rois/README.md"),
        *map(str, (release.betas(SUB, "ses-01"), release.events(SUB, "ses-02", 3))),
        f"{func}task-images_desc-GLMsingle_model.h5",
        f"{release.glm_dir(SUB)}/figures/report.svg",
        f"{release.freesurfer_dir(SUB)}/label/lh.aparc.annot",
        str(release.raw_bold(SUB, "ses-01", 1, 2, "phase")),
        f"{raw}/func/{SUB}_ses-01_task-floc_run-01_events.tsv",
        f"{raw}/fmap/{SUB}_ses-01_run-01_magnitude1.nii.gz",
        f"{raw}/anat/{SUB}_ses-01_T1w.nii.gz",
        *(str(path) for path in release.sbrefs(SUB, "ses-01", 1, 2)),
        *(str(release.localizer_map(SUB, "ses-31", "oloc", "c", 1, p)) for p in ("L", "1pt5")),
        str(release.bold(SUB, "ses-01", 1)),
        str(release.roi_volume(SUB, "body", "EBA", release.FINE_RES)),
        *(CLIP, str(release.embeddings("CLIP@v1"))),
    ]
    names += [release.sidecar(name) for name in names if name.endswith(("gz", "tsv", "gii", "h5"))]
    assert release.unknown_files(names) == []
    assert release.unknown_files([f"{name}.part" for name in names]) == []
    assert release.unknown_files([f"{SUB}/.cache/x"]) == []


@given(st.lists(st.from_regex(r"sub-0[1-3]/(dwi|x)/[a-z0-9_-]{1,8}\.(nii|txt)", fullmatch=True)))
def test_each_unknown_file_is_of_one_kind(names):
    names = sorted(set(names))
    kinds = release.kinds_of(names)
    assert sorted(name for some in kinds.values() for name in some) == names
    assert len(kinds) <= 2 * 4


# -- bad input


def test_no_store_and_no_source(bids_root, store, tmp_path):
    with pytest.raises(NotConvertedError, match="no laion_zarr store"):
        outdated(bids_root, tmp_path / "none.zarr")
    with pytest.raises(DataNotDownloadedError, match="is not a folder"):
        outdated(tmp_path / "none", store)


def test_a_damaged_subject_does_not_hide_the_others(mirror, own, capsys):
    (own / "sub-01" / "manifest.json").write_text("{}")
    t1w = mirror / release.anatomy(SUB, "t1w", release.FUNCTIONAL_RES)
    replace(t1w, turned(t1w))
    command = ["outdated", "--source", str(mirror), "--store", str(own)]
    assert main([*command, "--json"]) == 1
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["outdated"] is True
    assert [(one["subject"], one["state"]) for one in report["differences"]] == [(SUB, "changed")]
    assert "sub-01/manifest.json" in report["problems"][0]
    assert "sub-01/manifest.json" in err


def test_a_file_that_cannot_be_read_is_named(mirror, own):
    path = mirror / release.anatomy(SUB, "t1w", release.FUNCTIONAL_RES)
    path.unlink()
    path.symlink_to("gone")
    (found,) = outdated(mirror, own).differences
    assert (found.name, found.state) == ("anatomy", "changed")
    assert "dangling link" in found.reason


# -- the bucket: a listing alone


def test_the_bucket_by_size_and_by_etag(front, bucket_root, tmp_path, monkeypatch):
    """Sizes; with what a download recorded, ETags, too. No object is asked for."""
    mirror, store = tmp_path / "data", tmp_path / "s.zarr"
    shutil.copytree(bucket_root, mirror, copy_function=os.link, dirs_exist_ok=True)
    quiet(mirror, store)
    front.put(CLIP, data := (mirror / CLIP).read_bytes()[::-1])
    front.put(t1w := str(release.anatomy(SUB, "t1w", None)), b"longer than it was")
    front.requests.clear()
    report = outdated("s3://laion-fmri", store)
    # `t1w` at full resolution is no part of the store, and the pictures are not in the bucket.
    assert report.differences == ()
    assert len(report.not_compared) > 100
    assert CLIP in report.not_compared
    assert t1w not in report.not_compared
    assert {request.method for request in front.requests} == {"GET"}
    assert front.gets() == []
    kept = Mirror(mirror)
    for key, etag in etags(front).items():
        if key != CLIP and (mirror / key).is_file():
            kept.keep(Item(key, 0, etag, None, lambda start: iter(())))
    kept.keep(Item(CLIP, len(data), "0" * 32, None, lambda start: iter(())))
    report = outdated("s3://laion-fmri", store)
    assert report.not_compared == ()
    (found,) = report.differences
    assert (found.name, found.reason) == ("embeddings/CLIP", versions.OTHER_CONTENT)
    # Uploaded in parts, an ETag is no checksum: another one proves nothing.
    kept.keep(Item(CLIP, len(data), "0" * 32 + "-2", None, lambda start: iter(())))
    report = outdated("s3://laion-fmri", store)
    assert (report.differences, report.not_compared) == ((), (CLIP,))


def etags(front):
    pages = front.s3.get_paginator("list_objects_v2").paginate(Bucket="laion-fmri")
    found = [one for page in pages for one in page["Contents"]]
    return {one["Key"]: one["ETag"].strip('"') for one in found}


def test_the_table_fits_a_terminal(bids_root, tmp_path):
    """Thirty sessions are a line; HTML for notebooks has the same facts."""
    quiet(bids_root, tmp_path / "s.zarr", subjects=SUB, sessions="ses-01", parts="betas")
    report = outdated(bids_root, tmp_path / "s.zarr")
    many = report.differences[-1]
    betas = [
        type(many)(SUB, "betas", f"ses-{n:02d}", "new", (f"a{n}", f"b{n}"), 10**9)
        for n in range(2, 31)
    ]
    table = str(type(report)("a", "b", tuple(betas), (), ()))
    assert "ses-02 … ses-30 (29)  58     29.00 GB" in table
    html = report._repr_html_()
    assert f">{SUB} betas new</th>" in html
    assert "OutdatedReport" in repr(report)
    assert isinstance(report.to_dataframe(), pd.DataFrame)
