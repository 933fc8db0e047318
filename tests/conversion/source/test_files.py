"""Links, dangling links and foreign files in a mirror."""

from __future__ import annotations

import os
import shutil

import pytest
from small_mirror import (
    BARE,
    GLM,
    METADATA,
    anatomy_file,
    betas_file,
    ceiling_file,
    check,
    command,
    func_file,
    map_file,
    mask_file,
    names_and_mends,
    put,
    report_of,
    roi_file,
    sidecar_file,
    surface_file,
    teaches,
    trials_file,
)
from trees import tree_bytes

DANGLING = {
    "betas": (betas_file(), {"ses-02"}),
    "trials": (trials_file(), {"ses-02"}),
    "betas sidecar": (sidecar_file(betas_file()), {"ses-02"}),
    "roi": (roi_file("FFA1"), {"FFA1"}),
    "ceiling": (ceiling_file("Noiseceiling4rep"), {"Noiseceiling4rep"}),
    "surface": (surface_file("FFA2", "R", "func.gii"), {"FFA2 R func.gii"}),
    "map": (map_file("r2"), {"ses-02 r2"}),
    "t2w": (anatomy_file("t2w"), {"t2w"}),
    "metadata": (METADATA, set()),
}


@pytest.mark.parametrize("which", DANGLING)
def test_dangling_link(mirror, whole, new, capsys, which):
    path, lacks = DANGLING[which]
    (mirror / path).unlink()
    (mirror / path).symlink_to(mirror / "gone")
    assert command(mirror, new, "--subject", "01") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    names_and_mends(line, mirror / path, "dangling link")
    check(whole, new, lacks=lacks)
    put(mirror, path, (whole / path).read_bytes())
    assert command(mirror, new, "--subject", "01") == 0
    check(whole, new)


@pytest.mark.parametrize("source", ["anatomical", "rsquare"])
def test_dangling_mask(mirror, whole, new, source):
    (mirror / mask_file(source)).unlink()
    (mirror / mask_file(source)).symlink_to(mirror / "gone")
    report = report_of(mirror, new)
    (error,) = report.failed.values()
    teaches(error, mirror / mask_file(source), "dangling link")
    check(whole, new, subject="sub-03", lacks=BARE)


def test_linked_files_are_files(mirror, whole, new, tmp_path):
    elsewhere = tmp_path / "annex"
    for path in [path for path in mirror.rglob("*") if path.is_file()]:
        target = elsewhere / path.relative_to(mirror)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        path.symlink_to(os.path.relpath(target, path.parent))
    assert command(mirror, new) == 0
    check(whole, new)


def test_what_is_not_ours_is_ignored(mirror, whole, kept, new):
    """Sessions held out, downloads under way, models, figures."""
    source = mirror / GLM / "sub-01" / "ses-01"
    for ses in ("ses-31", "ses-34"):
        shutil.copytree(source, mirror / GLM / "sub-01" / ses)
        for path in (mirror / GLM / "sub-01" / ses).rglob("*.*"):
            path.rename(path.with_name(path.name.replace("ses-01", ses)))
    extra = [
        betas_file("sub-03", "ses-05") + ".part",
        betas_file() + ".part",
        roi_file("EBA").replace("EBA", "VWFA1") + ".part",
        ceiling_file("Noiseceiling7rep") + ".part",
        func_file("desc-GLMsingle_model.h5"),
        f"{GLM}/sub-01/figures/report.svg",
        f"{GLM}/sub-01/summary.html",
        roi_file("EBA").replace("1pt8", "2pt0"),
        roi_file("EBA").replace("EBA", "V1d").replace("1pt8", "2pt0"),
        "derivatives/rois/sub-01/body/notes.txt",
        "derivatives/rois/sub-09/body/readme.txt",
        anatomy_file("t1w").replace("T1w.nii", "FLAIR.nii"),
        "sub-01/anything.nii.gz",
        ".git/config",
    ]
    for path in extra:
        put(mirror, path, b"not ours")
    report = report_of(mirror, new)
    assert not report.failed
    lacks = ("sub-03: no ", "sub-01: no localizer maps", "sub-01: no events", "no stimulus ")
    lacks += ("sub-09: ",)  # has nothing but a note
    named = [line for line in report.missing if not line.startswith(lacks)]
    unread = [line for line in named if line.startswith("not read: ")]
    assert [line[:27] for line in named if line not in unread] == ["sub-03 ses-05 lacks its bet"]
    for path in extra:  # what looks like data, and is not on its way
        count = sum(line.count(path) for line in unread)
        assert count == (path.endswith(".nii.gz") and "V1d" not in path), path
    assert sum("V1d" in line or "and 1 like it" in line for line in unread) == 1
    check(whole, new)
    assert tree_bytes(new) == tree_bytes(kept)  # what the store holds depends on the rest alone
