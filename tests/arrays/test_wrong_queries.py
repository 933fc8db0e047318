"""Masks, thresholds, chunks and labels that cannot be used: a clear error."""

from __future__ import annotations

import numpy as np
import pytest
from small_mirror import LABELS, SHAPE, ceiling_file, flat, inside, map_file, wrong
from small_mirror import sub as sub
from small_mirror import whole as whole
from small_mirror import whole_store as whole_store


def foreign_mask(sub):
    mask = sub.get_roi_mask("laiongeneral", mask_source="rsquare")
    return mask.copy(data=np.ones(mask.shape, bool))


def number_mask(sub):
    return sub.get_noise_ceiling(desc="Noiseceiling4rep")


WRONG_MASKS = {
    "short": (lambda sub: np.ones(sub.get_n_voxels() - 1, bool), ["shape", "expected"]),
    "long": (lambda sub: np.ones(sub.get_n_voxels() + 1, bool), ["shape", "expected"]),
    "grid": (lambda sub: np.ones(SHAPE, bool), ["(5, 4, 3)", "get_brain_mask"]),
    "empty": (lambda sub: np.ones(0, bool), ["shape", "expected"]),
    "integers": (lambda sub: np.ones(sub.get_n_voxels(), int), ["boolean"]),
    "floats": (lambda sub: np.ones(sub.get_n_voxels()), ["boolean"]),
    "positions": (lambda sub: [0, 1, 2], ["boolean"]),
    "foreign voxels": (foreign_mask, ["mask_source"]),
    "labelled floats": (number_mask, ["boolean"]),
}


@pytest.mark.parametrize("case", WRONG_MASKS)
def test_wrong_mask(sub, case):
    make, words = WRONG_MASKS[case]
    mask = make(sub)
    for ask in (
        lambda: sub.get_betas("ses-01", mask=mask),
        lambda: sub.get_noise_ceiling(session="ses-01", mask=mask),
        lambda: sub.get_voxel_coordinates(mask=mask),
    ):
        wrong(ask, "mask", *words)


def test_roi_and_mask_exclude_each_other(sub):
    mask = np.ones(sub.get_n_voxels(), bool)
    for ask in (
        lambda: sub.get_betas(roi="EBA", mask=mask),
        lambda: sub.get_noise_ceiling(session="ses-01", roi="EBA", mask=mask),
        lambda: sub.get_voxel_coordinates(roi="EBA", mask=mask),
    ):
        wrong(ask, "roi", "mask", "one of them")


@pytest.mark.parametrize("ask", ["get_betas", "sel"])
def test_threshold_below_one_warns(sub, whole, ask):
    with pytest.warns(UserWarning, match="percent") as caught:
        found = getattr(sub, ask)(nc_threshold=0.5, mask_source="anatomical")
    assert caught[0].filename == __file__
    ceiling = flat(whole, ceiling_file("NoiseceilingAllrep"))
    expected = np.flatnonzero(inside(whole, "anatomical") & (ceiling >= 0.5))
    assert found["voxel"].values.tolist() == expected.tolist()


@pytest.mark.parametrize("threshold", [0, 1, 10, 100])
def test_other_thresholds_do_not_warn(sub, whole, threshold):
    found = sub.get_betas("ses-02", nc_threshold=threshold)
    ceiling = flat(whole, map_file("session_noise_ceiling"))
    expected = np.flatnonzero(inside(whole, "anatomical") & (ceiling >= threshold))
    assert found["voxel"].values.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "chunks",
    [
        "auto",
        5,
        (3, 4),
        [1],
        {"time": 3},
        {"voxel": 0},
        {"voxel": -2},
        {"voxel": 2.5},
        {"trial": "many"},
        {"trial": (1, 2)},
        {"trial": None, "x": 1},
    ],
)
def test_wrong_chunks(sub, chunks):
    for ask in (lambda: sub.get_betas(chunks=chunks), lambda: sub.sel(chunks=chunks)):
        wrong(ask, "chunks", "trial", "voxel")


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({"trial": 10**9}, ["trial", "1000000000", "11 labels", "0 to 10"]),
        ({"trial": [0, 11]}, ["trial", "11"]),
        ({"trial": -1}, ["trial", "-1"]),
        ({"trial": "first"}, ["trial", "first"]),
        ({"trial": [True] * 11}, ["trial", "boolean"]),
        ({"voxel": 10**9}, ["voxel", "1000000000"]),
        ({"voxel": "x"}, ["voxel", "x"]),
        ({"image_name": "nope"}, ["nope", LABELS[0]]),
        ({"image_name": [LABELS[0], "nope"]}, ["nope"]),
        ({"image_name": 3}, ["3"]),
    ],
)
def test_labels_that_are_not_there(sub, selection, words):
    wrong(lambda: sub.sel(**selection), *words)
