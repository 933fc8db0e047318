"""ROIs, noise ceilings, maps, masks and sidecars that are damaged: each fails alone."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from small_mirror import (
    BARE,
    HTML,
    SHAPE,
    anatomy_file,
    betas_file,
    ceiling_file,
    check,
    command,
    map_file,
    mask_file,
    moved,
    nifti,
    pack,
    put,
    report_of,
    roi_file,
    shards,
    sidecar_file,
    storage_order,
    teaches,
    trials_file,
    with_header,
)

BAD_SMALL = {
    "roi": (roi_file("FFA1"), "FFA1"),
    "ceiling": (ceiling_file("Noiseceiling12rep"), "Noiseceiling12rep"),
    "map": (map_file("fracridge"), "ses-02 fracridge"),
    "session ceiling": (map_file("session_noise_ceiling"), "ses-02 session_noise_ceiling"),
    "t2w": (anatomy_file("t2w"), "t2w"),
}
BAD_VOLUMES = {
    "web page": HTML,
    "cut": pack(nifti(np.ones(SHAPE, np.float32)))[:-3],
    "other shape": pack(nifti(np.ones((4, 5, 3), np.float32))),
    "other affine": pack(nifti(np.ones(SHAPE, np.float32), affine=moved(0.01))),
    "4-D": pack(nifti(np.ones((*SHAPE, 2), np.float32))),
}


@pytest.mark.parametrize(
    ("which", "damage"),
    [("roi", damage) for damage in BAD_VOLUMES]
    + [("map", damage) for damage in BAD_VOLUMES]
    + [(which, "web page") for which in ("ceiling", "session ceiling", "t2w")]
    + [(which, "other affine") for which in ("ceiling", "session ceiling", "t2w")],
)
def test_damaged_small_file_fails_alone(mirror, whole, new, which, damage):
    path, name = BAD_SMALL[which]
    put(mirror, path, BAD_VOLUMES[damage])
    report = report_of(mirror, new, subjects="01")
    assert len(report.failed) == 1
    teaches(next(iter(report.failed.values())), mirror / path)
    check(whole, new, lacks={name})


@pytest.mark.parametrize("which", BAD_SMALL)
def test_damaged_small_file_is_added_when_mended(mirror, whole, new, which):
    path, _ = BAD_SMALL[which]
    put(mirror, path, HTML)
    assert command(mirror, new, "--subject", "01") == 1
    before, order = shards(new), storage_order(new)
    put(mirror, path, (whole / path).read_bytes())
    assert command(mirror, new, "--subject", "01") == 0
    check(whole, new)
    assert shards(new) == before
    assert storage_order(new) == order


@pytest.mark.parametrize("which", BAD_SMALL)
def test_damaged_small_file_loses_nothing_stored(mirror, whole, kept, which):
    path, _ = BAD_SMALL[which]
    put(mirror, path, HTML)
    assert command(mirror, kept) == 1
    check(whole, kept)


@pytest.mark.parametrize(
    ("source", "damage"),
    [
        ("anatomical", "web page"),
        ("anatomical", "cut"),
        ("anatomical", "other shape"),
        ("rsquare", "other shape"),
        ("rsquare", "other affine"),
        ("rsquare", "4-D"),
    ],
)
def test_damaged_mask_fails_its_subject(mirror, whole, new, kept, source, damage):
    path = mask_file(source)
    put(mirror, path, BAD_VOLUMES[damage])
    report = report_of(mirror, new)
    (error,) = report.failed.values()
    teaches(error, mirror / path)
    check(whole, new, subject="sub-03", lacks=BARE)
    assert command(mirror, kept) == 1
    check(whole, kept)


def test_mask_that_claims_to_be_huge(mirror, whole, new):
    path = mask_file("anatomical")
    header = with_header(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    put(mirror, path, header((whole / path).read_bytes()))
    report = report_of(mirror, new)
    (error,) = report.failed.values()
    teaches(error, mirror / path)
    check(whole, new, subject="sub-03", lacks=BARE)


@pytest.mark.parametrize("mm", [0.0005, -0.0009])
def test_small_differences_of_affines_are_fine(mirror, whole, new, mm):
    others = [path for path, _ in BAD_SMALL.values()]
    for path in [mask_file("rsquare"), betas_file(), *others]:
        values = nib.load(whole / path)
        put(mirror, path, pack(nifti(np.asanyarray(values.dataobj), affine=moved(mm))))
    assert command(mirror, new) == 0
    check(whole, new)


@pytest.mark.parametrize(
    ("path", "name", "data"),
    [
        (betas_file(), "ses-02", b"{"),
        (betas_file(), "ses-02", b""),
        (betas_file(), "ses-02", b"[1, 2]"),
        (betas_file(), "ses-02", b"\xff\xfe"),
        (trials_file(), "ses-02", HTML),
        (roi_file("FFA1"), "FFA1", b"{"),
        (ceiling_file("Noiseceiling4rep"), "Noiseceiling4rep", b"[]"),
    ],
)
def test_damaged_sidecar(mirror, whole, new, path, name, data):
    put(mirror, sidecar_file(path), data)
    report = report_of(mirror, new, subjects="01")
    assert len(report.failed) == 1
    teaches(next(iter(report.failed.values())), mirror / sidecar_file(path), "JSON")
    check(whole, new, lacks={name})


@pytest.mark.parametrize(
    ("path", "name"),
    [(map_file("r2"), "ses-02 r2"), (anatomy_file("t1w"), "t1w")],
    ids=["map", "t1w"],
)
def test_damaged_sidecar_of_a_map_takes_no_other_map(mirror, whole, new, path, name):
    put(mirror, sidecar_file(path), b"{")
    report = report_of(mirror, new, subjects="01")
    assert len(report.failed) == 1
    teaches(next(iter(report.failed.values())), mirror / sidecar_file(path), "JSON")
    check(whole, new, lacks={name})
