"""Mirrors that lack files: what is there is converted, what comes later is added."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import zarr
from small_mirror import (
    ALL_MAPS,
    BARE,
    CEILINGS,
    GLM,
    IMAGES,
    MAPS_OF,
    METADATA,
    NO_SURFACES,
    ROIS,
    anatomy_file,
    answer_betas,
    betas_file,
    ceiling_file,
    check,
    command,
    map_file,
    mask_file,
    names_and_mends,
    put,
    remove,
    roi_file,
    same,
    shards,
    sidecar_file,
    storage_order,
    surface_file,
    trials_file,
)
from trees import tree_bytes

from laion_zarr import convert, load_subject
from laion_zarr.errors import DataNotDownloadedError, NotConvertedError

LACKING_MAPS = {f"{ses} {name}" for ses, names in MAPS_OF.items() for name in names}
# What is removed, what the store then lacks, what the warning must name.
PARTIAL = {
    "a session": ([f"{GLM}/sub-01/ses-02/func/*"], {"ses-02"}, ["ses-02/func/: empty"]),
    "betas": ([betas_file()], {"ses-02"}, ["sub-01 ses-02 lacks its betas"]),
    "trial table": ([trials_file()], {"ses-02"}, ["sub-01 ses-02 lacks its trial table"]),
    "ROIs": (
        ["derivatives/rois/sub-01/*/*"],
        {*ROIS, "surfaces"},
        ["sub-01: no ROIs"],
    ),
    "one ROI": (
        ["derivatives/rois/sub-01/body/*"],
        {"EBA"},
        ["rois/sub-01/body/: empty"],
    ),
    "surfaces": (NO_SURFACES, {"surfaces"}, []),
    "ceilings": (
        [f"{GLM}/sub-01/*rep_*"],
        set(CEILINGS),
        ["sub-01: no cross-session noise ceilings"],
    ),
    "one ceiling": ([f"{GLM}/sub-01/*Allrep*"], {"NoiseceilingAllrep"}, []),
    "maps": (ALL_MAPS, LACKING_MAPS, []),
    "one map": ([map_file("r2")], {"ses-02 r2"}, []),
    "anatomy but the mask": (
        [anatomy_file("t1w"), anatomy_file("t2w"), anatomy_file("brain_mask_full")],
        {"t1w", "t2w", "brain_mask_full"},
        ["sub-01: no T1w"],
    ),
    "recon": (["derivatives/freesurfer/**/*"], set(), ["sub-01: no FreeSurfer recon"]),
    "some of the recon": (
        ["derivatives/freesurfer/*/surf/lh.[pc]*"],
        set(),
        ["sub-01: its FreeSurfer recon lacks hemi-L pial"],
    ),
    "stimuli": (["stimuli/*"], set(), ["no stimulus metadata", METADATA]),
}


@pytest.mark.parametrize("case", PARTIAL)
def test_partial_mirror_then_the_rest(mirror, whole, new, kept, capsys, case):
    patterns, lacks, warned = PARTIAL[case]
    remove(mirror, *patterns)
    assert command(mirror, new, "--subject", "01") == 0
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("warning: ") for line in lines)
    for words in warned:
        assert words in "\n".join(lines)
    never_there = [
        line for line in lines if re.search("no events|no localizer|no stimulus (?!metadata)", line)
    ]
    assert bool(warned) == (len(lines) > len(never_there))
    check(whole, new, lacks=lacks)
    before, order = shards(new), storage_order(new)
    assert command(whole, new, "--subject", "01") == 0
    after = shards(new)
    assert {name: after[name] for name in before} == before
    assert storage_order(new) == order
    check(whole, new)
    if case not in ("ROIs", "one ROI"):  # those had a say in the storage order
        # The same as at once: neither the order of work nor the mirror's place is kept.
        assert tree_bytes(new, "sub-01/**/*") == tree_bytes(kept, "sub-01/**/*")


def test_sidecars_appear(mirror, whole, new):
    remove(mirror, "derivatives/**/*.json")
    assert command(mirror, new) == 0
    check(whole, new)
    before, order = tree_bytes(new, "sub-*/ses-*/betas/c/**/*"), storage_order(new)
    assert command(whole, new) == 0
    assert tree_bytes(new, "sub-*/ses-*/betas/c/**/*") == before
    assert storage_order(new) == order
    check(whole, new)
    array = zarr.open_array(f"{new}/sub-01/ses-02/betas", mode="r")
    expected = json.loads((whole / sidecar_file(betas_file())).read_text())
    assert array.attrs["sidecar"] == expected


@pytest.mark.parametrize("source", ["anatomical", "rsquare"])
def test_one_mask_only_then_the_other(mirror, whole, new, capsys, source):
    other = {"anatomical": "rsquare", "rsquare": "anatomical"}[source]
    remove(mirror, mask_file(other))
    if source == "rsquare":
        remove(mirror, "derivatives/anatomical/sub-01/*/anat/*")
    assert command(mirror, new) == 0
    lacks = {other} | (set(IMAGES) if source == "rsquare" else set())
    check(whole, new, lacks=lacks)
    words = {"rsquare": "R2mean", "anatomical": "anatomical brain mask"}[other]
    assert words in capsys.readouterr().err
    with pytest.raises(NotConvertedError) as caught:
        load_subject("01", new).get_betas(mask_source=other)
    names_and_mends(str(caught.value), f"mask_source={source!r}", "laion-zarr convert", other)
    before = shards(new)
    assert command(whole, new) == 1  # voxels not yet stored
    line = capsys.readouterr().err
    names_and_mends(line, "--overwrite", other)
    assert shards(new) == before
    check(whole, new, lacks=lacks)
    assert command(whole, new, "--mask", source) == 0
    assert shards(new) == before
    assert command(whole, new, "--overwrite") == 0
    check(whole, new)


def test_no_anatomy_at_all_default_mask_says_how(mirror, new):
    shutil.rmtree(mirror / "derivatives/anatomical")
    assert command(mirror, new) == 0
    subject = load_subject("01", new)
    for ask in (subject.get_betas, subject.get_n_voxels, subject.get_voxel_coordinates):
        with pytest.raises(NotConvertedError) as caught:
            ask()
        names_and_mends(str(caught.value), "mask_source='rsquare'", "derivatives/anatomical")
    same(
        subject.get_betas("01", mask_source="rsquare").values,
        answer_betas(mirror, "sub-01", "ses-01", "rsquare"),
    )


def test_neither_mask(mirror, whole, new, capsys):
    remove(mirror, mask_file("anatomical"), mask_file("rsquare"))
    assert command(mirror, new) == 1
    names_and_mends(capsys.readouterr().err, mask_file("anatomical"), mask_file("rsquare"))
    with pytest.raises(DataNotDownloadedError):
        convert(mirror, new, progress=False)
    with pytest.raises(NotConvertedError):
        load_subject("01", new)
    check(whole, new, subject="sub-03", lacks=BARE)
    assert command(whole, new) == 0
    check(whole, new)


@pytest.mark.parametrize("source", ["anatomical", "rsquare"])
def test_the_mask_asked_for_is_missing(lean, new, capsys, source):
    other = {"anatomical": "rsquare", "rsquare": "anatomical"}[source]
    remove(lean, mask_file(source))
    assert command(lean, new, "--mask", source) == 1
    stderr = capsys.readouterr().err
    names_and_mends(stderr, mask_file(source))
    assert mask_file(other) not in stderr  # downloading that would not help


VANISHED = {
    "betas": [f"{GLM}/sub-01/ses-*/func/*SingletrialBetas*"],
    "a session": [f"{GLM}/sub-01/ses-02/func/*"],
    "masks": [mask_file("anatomical"), mask_file("rsquare")],
    "ROIs": ["derivatives/rois/sub-01/*/*"],
    "one ROI": ["derivatives/rois/sub-01/body/*"],
    "ceilings": [f"{GLM}/sub-01/*rep_*"],
    "maps": ALL_MAPS,
    "one map": [map_file("r2")],
    "anatomy": ["derivatives/anatomical/sub-01/*/anat/*"],
    "sidecars": ["derivatives/**/*.json"],
    "stimuli": ["stimuli/*"],
    "the subject": ["derivatives/*/sub-01/**/*"],
}


@pytest.mark.parametrize("case", VANISHED)
def test_what_vanishes_from_the_mirror_stays_in_the_store(mirror, whole, kept, case):
    before = tree_bytes(kept)
    remove(mirror, *VANISHED[case])
    assert command(mirror, kept) == 0
    check(whole, kept)
    assert tree_bytes(kept) == before


NEW_BESIDE_VANISHED = {
    # stored: all but `late`; then `gone` vanishes and `late` appears
    "map": (map_file("fracridge"), [map_file("r2"), map_file("session_noise_ceiling")]),
    "t2w": (anatomy_file("t2w"), [anatomy_file("t1w"), anatomy_file("brain_mask_full")]),
    "roi": (roi_file("FFA2"), [roi_file("EBA"), roi_file("FFA1")]),
    "ceiling": (ceiling_file("Noiseceiling4rep"), [ceiling_file("NoiseceilingAllrep")]),
    "surface": (
        surface_file("FFA2", "L", "func.gii"),
        ["derivatives/rois/sub-01/*/*EBA*.label", "derivatives/rois/sub-01/*/*EBA*.func.gii"],
    ),
    "roi and masks": (roi_file("FFA2"), [mask_file("anatomical"), mask_file("rsquare")]),
}


@pytest.mark.parametrize("case", NEW_BESIDE_VANISHED)
def test_new_files_do_not_drive_out_vanished_ones(mirror, whole, new, case):
    """A user who deletes what is converted and downloads the next files."""
    late, gone = NEW_BESIDE_VANISHED[case]
    remove(mirror, late)
    assert command(mirror, new, "--subject", "01") == 0
    before = shards(new)
    put(mirror, late, (whole / late).read_bytes())
    remove(mirror, *gone)
    assert command(mirror, new, "--subject", "01") == 0
    check(whole, new)
    assert shards(new) == before
