"""Sessions, ROIs, masks and noise ceilings that do not exist: errors that say what exists."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from small_mirror import (
    ALL_MAPS,
    CEILINGS,
    GLM,
    NO_SURFACES,
    ROIS,
    flat,
    inside,
    not_converted,
    remove,
    roi_file,
    same,
    wrong,
)
from small_mirror import mirror as mirror
from small_mirror import new as new
from small_mirror import sub as sub
from small_mirror import whole as whole
from small_mirror import whole_store as whole_store

from laion_zarr import convert, load_subject
from laion_zarr.errors import NotConvertedError


def test_unknown_subject(whole_store):
    not_converted(lambda: load_subject("05", whole_store), "sub-05", whole_store)
    not_converted(
        lambda: xr.open_dataset(whole_store, engine="laion_zarr", group="sub-05"), "sub-05"
    )


@pytest.mark.parametrize(
    "ask",
    [
        lambda sub: sub.get_betas("ses-09"),
        lambda sub: sub.get_betas(["ses-01", "ses-09"]),
        lambda sub: sub.sel(session="09"),
        lambda sub: sub.get_trial_info("ses-09"),
        lambda sub: sub.get_noise_ceiling(session="ses-09"),
        lambda sub: sub.get_betas("ses-09", nc_threshold=10),
    ],
)
def test_unknown_session(sub, ask):
    not_converted(lambda: ask(sub), "ses-09", "ses-01, ses-02", "--ses")


def test_roi_in_the_place_of_a_session(sub):
    with pytest.raises(NotConvertedError, match=r"roi='EBA'"):
        sub.get_betas("EBA")


def test_noise_ceiling_of_neither_session_nor_desc(sub):
    with pytest.raises(ValueError, match="desc='NoiseceilingAllrep'"):
        sub.get_noise_ceiling()


@pytest.mark.parametrize("query", ["FFA9", "faces", "", None, 1, ["EBA", "FFA9"], "eba"])
def test_unknown_roi(sub, query):
    for ask in (
        sub.get_roi_mask,
        sub.get_roi_data,
        lambda roi: sub.get_betas(roi=roi),
        lambda roi: sub.sel(roi=roi),
        lambda roi: sub.get_voxel_coordinates(roi=roi),
        lambda roi: sub.get_noise_ceiling(desc="Noiseceiling4rep", roi=roi),
    ):
        if query is not None or ask in (sub.get_roi_mask, sub.get_roi_data):
            wrong(lambda ask=ask: ask(query), *ROIS, "body", "'all'")


def test_unknown_category(sub):
    wrong(lambda: sub.get_available_rois("faces"), "'faces'", "body", "face", "laion")


def test_no_rois(mirror, new):
    remove(mirror, "derivatives/rois/sub-01/*/*")
    convert(mirror, new, progress=False)
    subject = load_subject("01", new)
    assert subject.get_available_rois() == []
    assert subject.get_available_categories() == []
    for ask in (subject.get_roi_mask, subject.get_roi_data, lambda roi: subject.sel(roi=roi)):
        not_converted(lambda ask=ask: ask("EBA"), "derivatives/rois", "convert")


def test_no_surfaces(mirror, new):
    remove(mirror, *NO_SURFACES)
    convert(mirror, new, progress=False)
    subject = load_subject("01", new)
    not_converted(lambda: subject.get_roi_data("EBA", "gii"), "surfaces", "convert")
    found = subject.get_roi_data("EBA", "volume")["EBA"]["volume"]
    expected = (flat(mirror, roi_file("EBA")) != 0)[inside(mirror, "anatomical")]
    same(found.values, expected)


@pytest.mark.parametrize("source", ["brain", "", "both", "R2", None, 1])
def test_unknown_mask_source(sub, source):
    for ask in (
        lambda: sub.get_betas(mask_source=source),
        lambda: sub.sel(mask_source=source),
        lambda: sub.get_brain_mask(source),
        lambda: sub.get_n_voxels(source),
        lambda: sub.get_roi_mask("EBA", mask_source=source),
        lambda: sub.get_noise_ceiling(session="ses-01", mask_source=source),
    )[:: 2 if source is None else 1]:
        if source is not None:  # None keeps the union where a method has it
            wrong(ask, "anatomical", "rsquare", repr(source))


def test_unknown_resolution(sub):
    wrong(lambda: sub.get_brain_mask(res="0pt8"), "'1pt8'", "None", "'0pt8'")


@pytest.mark.parametrize("stimuli", ["both", "", "all", "Shared", 1])
def test_unknown_stimuli(sub, stimuli):
    for ask in (
        lambda: sub.get_betas(stimuli=stimuli),
        lambda: sub.sel(stimuli=stimuli),
        lambda: sub.get_n_stimuli(stimuli),
    ):
        wrong(ask, "'shared'", "'unique'", repr(stimuli))


def test_threshold_without_ceilings(mirror, new):
    remove(mirror, f"{GLM}/sub-01/*rep_*", *ALL_MAPS)
    convert(mirror, new, progress=False)
    subject = load_subject("01", new)
    not_converted(lambda: subject.get_betas(nc_threshold=10), "NoiseceilingAllrep", "none")
    not_converted(lambda: subject.get_betas("ses-01", nc_threshold=10), "ses-01")
    not_converted(lambda: subject.sel(nc_threshold=10), "NoiseceilingAllrep")
    not_converted(lambda: subject.get_noise_ceiling(session="ses-01"), "ses-01")
    not_converted(lambda: subject.get_noise_ceiling(desc="NoiseceilingAllrep"), "none")


def test_wrong_values_for_nifti(sub, tmp_path):
    path = tmp_path / "out.nii.gz"
    n = sub.get_n_voxels()
    wrong(lambda: sub.to_nifti(np.zeros(n + 1), path), f"{n}", f"({n + 1},)", "roi=")
    wrong(lambda: sub.to_nifti(np.zeros(n), path, roi="EBA"), "mask_source=")
    wrong(lambda: sub.to_nifti(3.0, path), "shape ()")
    wrong(lambda: sub.to_nifti(np.zeros((2, 2, n)), path), "(trial, voxel)")
    labelled = sub.get_noise_ceiling(session="ses-01")
    twice = xr.concat([labelled, labelled], "voxel")
    wrong(lambda: sub.to_nifti(twice, path), "twice")
    beyond = labelled.assign_coords(voxel=labelled["voxel"] + 60)
    wrong(lambda: sub.to_nifti(beyond, path), "60 voxels")
    for name in ("out.txt", "out", "out.nii.zip", "out.gz"):
        wrong(lambda name=name: sub.to_nifti(labelled, tmp_path / name), ".nii", ".nii.gz", name)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".out", "out"))]


def test_noise_ceiling_of_neither_or_both(sub):
    wrong(sub.get_noise_ceiling, "exactly one", "session", "desc")
    wrong(lambda: sub.get_noise_ceiling("ses-01", "NoiseceilingAllrep"), "exactly one")


@pytest.mark.parametrize("desc", ["Noiseceiling7rep", "", "4rep", ["Noiseceiling7rep"]])
def test_unknown_noise_ceiling(sub, desc):
    not_converted(lambda: sub.get_noise_ceiling(desc=desc), *CEILINGS)


def test_malformed_noise_ceiling(sub):
    with pytest.raises((NotConvertedError, ValueError)) as caught:
        sub.get_noise_ceiling(desc=4)
    for desc in CEILINGS:
        assert desc in str(caught.value)


@pytest.mark.parametrize("form", ["nifti", "", "gii.gz", None, 1])
def test_wrong_roi_format(sub, form):
    wrong(
        lambda: sub.get_roi_data("EBA", format=form),
        *("all", "volume", "nii.gz", "gii", "func.gii", "label", repr(form)),
    )


@pytest.mark.parametrize("hemi", ["left", "", "l", "LR", None, 1])
def test_wrong_hemisphere(sub, hemi):
    wrong(lambda: sub.get_roi_data("EBA", hemi=hemi), "'all'", "'L'", "'R'", repr(hemi))
