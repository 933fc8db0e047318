"""What looks like data and is not used is named once, with why; the rest is converted.

And what was asked for and is missing is exit code 1. Each case spoils a mirror in one way.
"""

from __future__ import annotations

import errno
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_mirror import (
    BARE,
    GLM,
    LABELS,
    METADATA,
    ROIS,
    SHAPE,
    betas_file,
    check,
    command,
    put,
    report_of,
    roi_file,
    trial_table,
    trials_file,
    volume,
    write_table,
)

from laion_zarr import _release as release
from laion_zarr import convert, load_subject
from laion_zarr.conversion import outdated
from laion_zarr.conversion.cli import main
from laion_zarr.conversion.source import files
from laion_zarr.conversion.source.files import open_source
from laion_zarr.errors import LaionZarrError

SUB = f"{GLM}/sub-01"
REGIONS = "derivatives/rois/sub-01"
SECOND = {"ses-02", *(f"ses-02 {name}" for name in ("session_noise_ceiling", "r2", "fracridge"))}
FACES = {"FFA1", "FFA2"}
COPY = betas_file().replace(".nii.gz", " (1).nii.gz")


def rename(before, after):
    return lambda root: (root / before).rename(root / after)


def copy(path, other):
    return lambda root: shutil.copytree(root / path, root / other)


def write(path, data=b"x"):
    return lambda root: put(root, path, data)


def link(path, target):
    def spoil(root):
        shutil.rmtree(root / path, ignore_errors=True)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target)

    return spoil


def folder(path):
    return lambda root: (root / path).mkdir(parents=True)


def out_of_func(root):
    for path in list((root / f"{SUB}/ses-02/func").iterdir()):
        path.rename(path.parents[1] / path.name)
    (root / f"{SUB}/ses-02/func").rmdir()


# name: how, the path that is said, what is said of it, exit code, and what the store then lacks
SPOILED = {
    "session of another spelling": (
        rename(f"{SUB}/ses-02", f"{SUB}/ses-2"),
        *(f"{SUB}/ses-2/ (5 files)", "expected ses-01 … ses-30", 0, SECOND),
    ),
    "session in capitals": (
        rename(f"{SUB}/ses-02", f"{SUB}/SES-02"),
        *(f"{SUB}/SES-02/", "expected ses-01 … ses-30", 0, SECOND),
    ),
    "session without func": (
        out_of_func,
        *(f"{SUB}/ses-02/sub-01", "expected a folder func in it", 0, SECOND),
    ),
    "copy of a subject": (copy(SUB, f"{SUB}_old"), f"{SUB}_old/", "expected sub-XX", 0, ()),
    "copy in brackets": (copy(SUB, f"{SUB} (copy)"), f"{SUB} (copy)/", "expected sub-XX", 0, ()),
    "backup within func": (
        copy(f"{SUB}/ses-02/func", f"{SUB}/ses-02/func/bak"),
        *(f"{SUB}/ses-02/func/bak/", "expected no folder", 0, ()),
    ),
    "copy of a derivative": (
        copy("derivatives/rois", "derivatives/rois_old"),
        *("derivatives/rois_old/", "called like a folder", 0, ()),
    ),
    "backup of another name": (
        copy("derivatives/rois", "derivatives/floc_backup"),
        *("derivatives/floc_backup/", "called like a folder", 0, ()),
    ),
    "derivative in capitals": (
        rename("derivatives/freesurfer", "derivatives/FreeSurfer"),
        *("derivatives/FreeSurfer/", "called like a folder", 0, ()),
    ),
    "backup of a category": (
        copy(f"{REGIONS}/face", f"{REGIONS}/face_old"),
        *(f"{REGIONS}/face_old/", "expected a category", 0, ()),
    ),
    "link to such a backup": (
        link(f"{REGIONS}/face_old", "face"),
        *(f"{REGIONS}/face_old/", "expected a category", 0, ()),
    ),
    "two owners of ROIs": (
        copy(f"{REGIONS}/face", f"{REGIONS}/faces"),
        *(f"{REGIONS}/faces:", "face and ", 1, FACES),
    ),
    "empty session": (folder(f"{SUB}/ses-03/func"), f"{SUB}/ses-03/func/:", "empty", 0, ()),
    "empty category": (folder(f"{REGIONS}/place"), f"{REGIONS}/place/:", "empty", 0, ()),
    "empty localizers": (
        folder("derivatives/localizers/sub-01"),
        *("derivatives/localizers/sub-01/:", "empty", 0, ()),
    ),
    "folder in the place of a file": (
        folder(roi_file("FFA1").replace("FFA1", "OFA")),
        *(roi_file("FFA1").replace("FFA1", "OFA"), "empty", 0, ()),
    ),
    "unpacked beside packed": (
        write(roi_file("FFA1")[:-3]),
        *(f"{roi_file('FFA1')[:-3]}:", "the packed file beside it", 0, ()),
    ),
    "ending in capitals": (
        rename(roi_file("EBA"), roi_file("EBA").replace("nii.gz", "NII.GZ")),
        *(roi_file("EBA").replace("nii.gz", "NII.GZ"), "no file of the release", 0, {"EBA"}),
    ),
    "label of another subject": (
        write(roi_file("EBA").replace("/sub-01_", "/sub-03_")),
        *(roi_file("EBA").replace("/sub-01_", "/sub-03_"), "of another subject", 0, ()),
    ),
    "variant of a label": (
        write(roi_file("EBA").replace("_mask", "_desc-new_mask")),
        *(roi_file("EBA").replace("_mask", "_desc-new_mask"), "no file of the release", 0, ()),
    ),
    "another resolution": (
        write(roi_file("EBA").replace("1pt8", "2pt0")),
        *(roi_file("EBA").replace("1pt8", "2pt0"), "no file of the release", 0, ()),
    ),
    "second betas": (write(COPY), COPY, "no file of the release", 0, ()),
    "run of another spelling": (
        write("sub-01/ses-01/func/sub-01_ses-01_task-images_run-1_events.tsv"),
        *("sub-01/ses-01/func/sub-01_ses-01_task-images_run-1_events.tsv", "no file", 0, ()),
    ),
    "raw data kept aside": (
        write("sub-01_old/ses-01/func/sub-01_ses-01_task-images_run-01_events.tsv"),
        *("sub-01_old/", "expected sub-XX", 0, ()),
    ),
    "stimuli of another name": (
        write("stimuli/task-images_desc-CLIP_embedding.h5"),
        *("stimuli/task-images_desc-CLIP_embedding.h5", "no file of the release", 0, ()),
    ),
    "dangling session": (
        link(f"{SUB}/ses-03", "/media/disk/ses-03"),
        *(f"{SUB}/ses-03:", "dangling link, to /media/disk", 1, ()),
    ),
    "dangling derivative": (
        link("derivatives/freesurfer", "/media/disk/recon"),
        *("derivatives/freesurfer:", "dangling link, to /media/disk", 1, ()),
    ),
    "circle of links": (link(f"{SUB}/ses-03", "../sub-01"), f"{SUB}/ses-03 ", "circle", 1, ()),
    "link to itself": (link(f"{SUB}/ses-03", "ses-03"), f"{SUB}/ses-03 ", "circle", 1, ()),
    "file in the place of a folder": (
        write(f"{SUB}/ses-03"),
        *(f"{SUB}/ses-03:", "expected a folder, found a file", 1, ()),
    ),
    "one hemisphere": (
        lambda root: [path.unlink() for path in root.glob(f"{REGIONS}/body/*hemi-R*")],
        *("ROI EBA", "no hemi-R of ROI EBA, only hemi-L", 0, {"EBA R func.gii", "EBA R label"}),
    ),
}


def said(capsys):
    """Lines of warnings and errors."""
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if line.startswith(("warning: ", "error: "))]


@pytest.mark.parametrize("case", SPOILED)
def test_left_out_and_said(mirror, whole, new, capsys, case):
    spoil, path, why, code, lacks = SPOILED[case]
    spoil(mirror)
    dry = command(mirror, new, "--subject", "01", "--dry-run"), said(capsys)
    assert not new.exists()
    assert command(mirror, new, "--subject", "01") == code
    lines = said(capsys)
    assert "\n".join(lines).count(path) == 1, lines
    (line,) = [line for line in lines if path in line]
    assert why in line
    assert line.startswith("error: " if code else "warning: ")
    assert dry[0] == code
    assert line in dry[1]
    check(whole, new, lacks=lacks)


def test_a_subject_in_capitals(mirror, whole, new, capsys):
    """It is named, and the other subject converted; asked for, it is an error."""
    for path in (GLM, "derivatives/rois"):
        (mirror / path / "sub-01").rename(mirror / path / "Sub-01")
    assert command(mirror, new) == 0
    assert "\n".join(said(capsys)).count("/Sub-01/ (") == 2
    check(whole, new, subject="sub-03", lacks=BARE)
    assert command(mirror, new, "--subject", "01") == 1
    assert any(f"{GLM}/Sub-01/" in line for line in said(capsys))
    assert command(mirror, new, "--subject", "03") == 0
    assert not any("Sub-01" in line for line in said(capsys))


QUIET = {
    "figures": [f"{REGIONS}/figures/{roi_file(roi).rpartition('/')[2][:-7]}.png" for roi in ROIS],
    "remains of file managers": [
        *(f"{REGIONS}/face/._{roi_file('FFA1').rpartition('/')[2]}", f"{REGIONS}/.DS_Store"),
        *(f"{REGIONS}/face/Thumbs.db", f"{REGIONS}/face/README", f"{SUB}/.ses-03/x.nii.gz"),
    ],
    "downloads under way": [f"{roi_file('FFA1')}.part", f"{betas_file()}.tmp"],
    "what the release has, and no part is made of": [
        *(f"{SUB}/sub-01_task-images_desc-GLMsingle_model.h5", "sub-01/ses-01/dwi/x_dwi.nii.gz"),
        *("derivatives/retinotopy/sub-01/x.nii.gz", f"{SUB}/figures/x.nii.gz"),
        *("sub-01/ses-01/func/sub-01_ses-01_task-floc_run-01_events.tsv",),
        betas_file(ses="ses-31"),
        *("derivatives/freesurfer/fsaverage/surf/lh.white", "sub-01/ses-01/anat/x_T1w.nii.gz"),
    ],
    "what is no data of the dataset": ["code/sub-01/x.nii.gz", "derivatives/fmriprep/x.nii.gz"],
}


@pytest.mark.parametrize("case", QUIET)
def test_no_noise(mirror, whole, new, capsys, case):
    """Strays that are no data are not named, and hide nothing."""
    for path in QUIET[case]:
        put(mirror, path, b"x")
    assert command(mirror, new, "--subject", "01") == 0
    assert not [line for line in said(capsys) if "not read" in line]
    check(whole, new)


def test_a_synthetic_mirror_has_no_strays(bids_root):
    """Nor one whose names are all that the release has."""
    listing = open_source(bids_root).listing()
    assert release.stray_files(listing.names) == {}
    assert (listing.empty, listing.resembling, listing.unread) == ((), (), {})


PIECES = ["derivatives", "glmsingle-tedana", "rois", "stimuli", "sub-01", "sub-1_", "ses-01"]
PIECES += ["ses-2", "func", "Func", "face", "face_old", "archive", "embeddings", "v1", "x y"]


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=6).map("/".join), max_size=8))
def test_each_stray_is_counted_once(folders):
    """Whatever the path, what looks like data stands under one reason."""
    names = {f"{folder}/a_{n}.nii.gz" for n, folder in enumerate(folders) if folder}
    found = release.stray_files(names)
    assert sum(sum(its.values()) for its in found.values()) == len(names)
    for path in (path for its in found.values() for path in its):
        assert any(name.startswith(path) for name in names)


# -- links to folders


@pytest.mark.parametrize(
    "paths",
    [
        ["derivatives"],
        ["stimuli", "derivatives/rois", f"{SUB}/ses-02/func"],
        [f"{SUB}/ses-01", SUB, f"{REGIONS}/face", REGIONS],  # links in linked folders
        ["derivatives/anatomical/sub-01/ses-PrismaAnat", "derivatives/freesurfer/sub-01/surf"],
    ],
)
def test_links_to_folders_are_followed(mirror, whole, new, tmp_path, paths):
    for number, path in enumerate(paths):
        (mirror / path).rename(tmp_path / f"disk{number}")
        (mirror / path).symlink_to(tmp_path / f"disk{number}")
    report = report_of(mirror, new)
    assert not report.failed
    assert not [line for line in report.missing if "not read" in line]
    check(whole, new)
    check(whole, new, subject="sub-03", lacks=BARE)
    assert not outdated(mirror, new)


def test_links_out_of_the_layout_are_not_followed(mirror, tmp_path):
    """A link to all of a disk, in a folder of figures, is not walked."""
    link(f"{SUB}/figures", tmp_path)(mirror)
    assert not [name for name in open_source(mirror).listing().names if "figures/" in name]


# -- folders that may not be listed


def forbid(monkeypatch, path):
    """As if the permissions of a folder were taken, which root would not notice."""
    enter = files._Walk._enter

    def failing(self, folder):
        if folder == path or folder.startswith(f"{path}/"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return enter(self, folder)

    monkeypatch.setattr(files._Walk, "_enter", failing)


FORBIDDEN = {
    f"{SUB}/ses-02/func": SECOND,
    f"{REGIONS}/face": FACES,
    "derivatives/freesurfer": (),
}


@pytest.mark.parametrize("path", FORBIDDEN)
def test_a_folder_that_may_not_be_listed(mirror, whole, new, capsys, monkeypatch, path):
    forbid(monkeypatch, path)
    assert command(mirror, new, "--subject", "01") == 1
    (line,) = [line for line in said(capsys) if line.startswith("error: ")]
    assert f"{mirror / path} cannot be read: Permission denied. Mend" in line
    check(whole, new, lacks=FORBIDDEN[path])
    monkeypatch.undo()
    assert command(mirror, new, "--subject", "01") == 0
    check(whole, new)


@pytest.mark.parametrize("path", [SUB, "derivatives/anatomical/sub-01"])
def test_no_voxels_are_chosen_while_a_mask_is_out_of_reach(mirror, whole, new, monkeypatch, path):
    forbid(monkeypatch, path)
    report = report_of(mirror, new)
    (error,) = report.failed.values()
    assert str(mirror / path) in str(error)
    check(whole, new, subject="sub-03", lacks=BARE)
    with pytest.raises(LaionZarrError):
        load_subject("sub-01", new).get_sessions()


def test_nothing_can_be_listed(mirror, new, capsys, monkeypatch):
    shutil.rmtree(mirror / "stimuli")
    forbid(monkeypatch, "derivatives")
    assert command(mirror, new) == 1
    assert f"{mirror}/derivatives cannot be read" in capsys.readouterr().err


def test_outdated_and_info_name_it(mirror, kept, capsys, monkeypatch):
    forbid(monkeypatch, f"{REGIONS}/face")
    put(mirror, COPY, b"x")
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(mirror))
    assert main(["outdated", "--store", str(kept)]) == 1
    assert f"{REGIONS}/face cannot be read" in capsys.readouterr().err
    assert main(["info", "--store", str(kept)]) == 0
    shown = capsys.readouterr().out
    assert shown.count(f"{REGIONS}/face cannot be read") == shown.count(COPY) == 1


# -- ROIs


def test_a_contested_roi_is_kept_as_stored(mirror, whole, kept, new):
    copy(f"{REGIONS}/face", f"{REGIONS}/faces")(mirror)
    old = np.zeros(SHAPE, np.uint8)
    old[2] = 1
    volume(mirror, roi_file("FFA1").replace("/face/", "/faces/"), old)
    report = report_of(mirror, kept)
    (error,) = report.failed.values()
    assert f"{mirror / REGIONS}/face and {mirror / REGIONS}/faces" in str(error)
    check(whole, kept)
    assert report_of(mirror, kept, overwrite=True).failed
    check(whole, kept)
    shutil.rmtree(mirror / REGIONS / "faces")
    convert(mirror, new, subjects="01", progress=False)
    check(whole, new)


def test_a_roi_without_a_stored_voxel_is_said(mirror, new):
    volume(mirror, roi_file("EBA"), np.zeros(SHAPE, np.uint8))
    report = report_of(mirror, new)
    (line,) = [line for line in report.missing if "EBA" in line]
    assert "no voxel of ROI EBA is stored" in line
    again = report_of(mirror, new)
    assert line in again.missing


# -- labels of trials


@pytest.mark.parametrize(
    ("change", "number"),
    [
        (lambda label: f"{label} ", 6),
        (lambda label: label.replace(".jpg", ".JPG"), 6),
        (lambda label: label, 0),
    ],
)
def test_labels_that_are_no_image(mirror, new, capsys, change, number):
    table = trial_table("ses-01", 6, np.random.default_rng(1))
    write_table(mirror, trials_file(ses="ses-01"), table.assign(label=table["label"].map(change)))
    for more in (["--dry-run"], [], []):  # and where nothing is converted
        assert command(mirror, new, "--subject", "01", *more) == 0
        lines = [line for line in said(capsys) if "have a label" in line]
        assert len(lines) == bool(number)
        for line in lines:
            assert f"{number} of 11 trials (in ses-01)" in line
            assert METADATA in line
    index = load_subject("01", new).dataset["stim_idx"].values
    assert (index < 0).sum() == number


def test_metadata_without_a_row(mirror, new, capsys):
    write_table(mirror, METADATA, pd.DataFrame({"image_name": LABELS[:0]}))
    assert command(mirror, new, "--subject", "01") == 1
    (line,) = [line for line in said(capsys) if line.startswith("error: ")]
    assert METADATA in line
    assert "found no row" in line
    assert load_subject("01", new).get_sessions() == ["ses-01", "ses-02"]


# -- asked for, and absent


@pytest.mark.parametrize(
    ("options", "failed"),
    [
        (["--ses", "02"], ["ses-02"]),
        (["--parts", "betas", "metadata"], ["betas"]),
        (["--parts", "anatomy", "events", "metadata"], ["anatomy", "events"]),
        (["--parts", "betas", "metadata", "--ses", "01"], ["betas", "ses-01"]),
        (["--parts", "metadata", "--ses", "01"], []),  # no part with sessions
        ([], []),
    ],
)
def test_no_subject_at_all(mirror, new, capsys, options, failed):
    shutil.rmtree(mirror / "derivatives")
    shutil.rmtree(mirror / "sub-01", ignore_errors=True)
    assert command(mirror, new, *options) == bool(failed)
    lines = said(capsys)
    errors = [line.split(": ")[1] for line in lines if line.startswith("error: ")]
    assert errors == failed
    if not options:
        assert any("no subject in" in line for line in lines)


def test_events_of_a_session(bids_root, tmp_path, capsys):
    """A session whose events are not there is an error, also where others are."""
    root = shutil.copytree(bids_root, tmp_path / "mirror", copy_function=os.link)
    shutil.rmtree(root / "sub-01/ses-02")
    new = tmp_path / "new.zarr"
    ask = ["--subject", "01", "--parts", "events"]
    assert command(root, new, *ask, "--ses", "02") == 1
    (line,) = [line for line in said(capsys) if line.startswith("error: ")]
    assert "sub-01 events ses-02" in line
    assert command(root, new, *ask, "--ses", "01", "02") == 1
    assert set(load_subject("01", new).get_events()["session"]) == {"ses-01"}
    assert command(root, new, *ask, "--ses", "01") == 0
    assert command(root, new, *ask, "--ses", "02") == 1
    assert command(root, new, *ask) == 0
    shutil.rmtree(root / "sub-01/ses-01")
    assert command(root, new, *ask, "--ses", "01") == 0  # stored, so it needs no mirror


def test_info_of_what_is_not_there(whole, kept, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(whole))
    assert main(["info", "--store", str(tmp_path / "nowhere")]) == 1
    assert f"{tmp_path / 'nowhere'} is not there" in capsys.readouterr().err
    assert main(["info", "--store", str(kept), "--subject", "05"]) == 1
    assert "sub-05 is neither in" in capsys.readouterr().err
    assert main(["info", "--store", str(kept), "--subject", "03"]) == 0


@pytest.mark.parametrize("wrong", [".", "data/derivatives", "data/stimuli"])
def test_folder_above_or_below_the_data_gets_the_right_one(mirror, tmp_path, new, capsys, wrong):
    above = tmp_path / "above"
    above.mkdir()
    (above / "data").symlink_to(mirror)
    (above / "another").mkdir()
    (mirror / "stimuli").mkdir(exist_ok=True)
    assert command(above / wrong, new) == 1
    assert f"Did you mean {above / 'data'}?" in capsys.readouterr().err


def test_dry_run_says_the_size_of_small_parts(mirror, new, capsys):
    assert command(mirror, new, "--subject", "01", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(re.fullmatch(r"sub-01 anatomy: \d+\.\d kB of files", line) for line in lines)


@pytest.mark.parametrize("part", ["betas", "localizers", "geometry", "events", "anatomy"])
def test_what_was_not_asked_for_is_not_said_to_be_missing(bids_root, tmp_path, part):
    """All of it is in the mirror: that one part is asked for makes nothing else absent."""
    report = report_of(bids_root, tmp_path / "s.zarr", subjects="01", parts=part)
    assert not report.failed
    assert not [line for line in report.missing if ": no " in line and " in /" in line]
