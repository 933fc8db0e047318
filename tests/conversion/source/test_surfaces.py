"""Surface files of ROIs that are damaged or lack their volume."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from small_mirror import (
    HTML,
    check,
    command,
    gifti,
    label_text,
    put,
    remove,
    report_of,
    roi_file,
    same,
    sidecar_file,
    surface_file,
    teaches,
)

from laion_zarr import load_subject

BAD_SURFACES = {
    "other vertex count": ("func.gii", gifti(np.ones(11, bool)), ["11 vertices", "10 vertices"]),
    "gii is a web page": ("func.gii", HTML, ["GIfTI"]),
    "gii is empty": ("func.gii", b"", ["GIfTI"]),
    "label count": ("label", label_text([1, 2, 3], count=7), ["3 vertices", "7 vertices"]),
    "label in words": ("label", label_text(["one"]), ["label"]),
    "label is empty": ("label", b"", ["label"]),
}


@pytest.mark.parametrize("case", BAD_SURFACES)
def test_damaged_surface_fails_alone(mirror, whole, new, case):
    form, data, words = BAD_SURFACES[case]
    path = surface_file("FFA2", "L", form)
    put(mirror, path, data)
    report = report_of(mirror, new, subjects="01")
    assert len(report.failed) == 1
    teaches(next(iter(report.failed.values())), mirror / path, *words)
    check(whole, new, lacks={f"FFA2 L {form}"})


def test_region_on_the_surface_only(mirror, whole, new):
    remove(mirror, roi_file("FFA1"), sidecar_file(roi_file("FFA1")))
    assert command(mirror, new, "--subject", "01") == 0
    check(whole, new, lacks={"FFA1"})
    data = load_subject("01", new).get_roi_data("FFA1", "func.gii")["FFA1"]["gii"]
    for hemi in "LR":
        image = nib.load(whole / surface_file("FFA1", hemi, "func.gii"))
        same(data[f"hemi-{hemi}"]["func.gii"], image.darrays[0].data != 0)


def test_damaged_surface_loses_nothing_stored(mirror, whole, kept):
    put(mirror, surface_file("FFA2", "L", "label"), label_text([1, 2, 3], count=7))
    assert command(mirror, kept) == 1
    check(whole, kept)


def test_odd_mask_of_the_second_hemisphere_fails_alone(mirror, whole, new):
    path = surface_file("FFA2", "R", "func.gii")
    put(mirror, path, gifti(np.ones(11, bool)))
    (failed,) = report_of(mirror, new, subjects="01").failed.values()
    teaches(failed, path, "11 vertices", "12 vertices")
    check(whole, new, lacks={"FFA2 R func.gii"})
