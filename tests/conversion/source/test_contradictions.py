"""What points beyond what it points into is refused where it is read, by file and row."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from small_mirror import (
    N_VERTICES,
    check,
    put,
    report_of,
    surface_file,
    teaches,
)
from stimulus_mirror import SEGMENTATION_TABLE, SIDES, segmentation_table, write_csv
from stimulus_mirror import report_of as report_of_stimuli
from stimulus_mirror import write_mirror as write_stimuli

from laion_zarr import Segmentations, load_subject
from laion_zarr.conversion.verification.store import run_verification
from laion_zarr.errors import SourceError

ROI, HEMI = "FFA2", "R"
LABEL, MASK = (surface_file(ROI, HEMI, form) for form in ("label", "func.gii"))
N = N_VERTICES[HEMI]


def label(*vertices):
    rows = "".join(f"{vertex} 0.0 0.0 0.0 1.0\n" for vertex in vertices)
    return f"#!ascii label\n{len(vertices)}\n{rows}".encode()


LABELS = {
    "negative": ((3, -1), ["-1 in line 4"]),
    "one too far": ((3, 1, N), [f"vertex {N} (row 3", f"vertices 0 … {N - 1}"]),
    "far too far": ((999_999, 3), ["vertex 999999 (row 1"]),
    "beyond 32 bits": ((3, 2**31), ["2147483648 in line 4"]),
    "beyond 64 bits": ((10**30,), ["in line 3"]),
    "twice": ((3, 4, 5, 4), ["vertex 4 in the lines 4 and 6"]),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels(mirror, whole, new, case):
    """The label is not taken, and nothing else is lost."""
    vertices, words = LABELS[case]
    put(mirror, LABEL, label(*vertices))
    report = report_of(mirror, new, subjects="01")
    (error,) = report.failed.values()
    teaches(error, mirror / LABEL, *words)
    check(whole, new, lacks={f"{ROI} {HEMI} label"})


def test_labels_to_the_last_vertex(mirror, new):
    put(mirror, LABEL, label(N - 1, 0))
    assert not report_of(mirror, new, subjects="01").failed
    found = load_subject("01", new).get_roi_data(ROI, "gii", HEMI)[ROI]["gii"]
    assert found[f"hemi-{HEMI}"]["label"].tolist() == [N - 1, 0]


def test_an_empty_label(mirror, new):
    put(mirror, LABEL, label())
    assert not report_of(mirror, new, subjects="01").failed


@pytest.mark.parametrize("shape", [(N - 1,), (N + 1,), (N, 3)])
def test_masks_of_another_mesh(mirror, whole, new, shape):
    array = nib.gifti.GiftiDataArray(np.ones(shape, np.float32), intent="NIFTI_INTENT_SHAPE")
    put(mirror, MASK, nib.gifti.GiftiImage(darrays=[array]).to_bytes())
    (error,) = report_of(mirror, new, subjects="01").failed.values()
    teaches(error, mirror / MASK, "vert")
    check(whole, new, lacks={f"{ROI} {HEMI} func.gii"})


def test_verification_names_a_label_that_was_stored(mirror, new, monkeypatch):
    """Of a store that was made before labels were checked."""
    put(mirror, LABEL, label(3, N + 4))
    monkeypatch.setattr("laion_zarr.conversion.parts.pieces.check_label", lambda *_: None)
    assert not report_of(mirror, new, subjects="01").failed
    problems = run_verification(new, None, False, None, False).problems
    assert [f"hemi-{HEMI}/{ROI}_label has vertices from 3 to {N + 4}" in p for p in problems] == [
        True
    ]


# -- segmentations

HEIGHT, WIDTH = SIDES
BOXES = {"box_x0": "1", "box_y0": "2", "box_x1": str(WIDTH), "box_y1": str(HEIGHT)}
WRONG = {
    "mask beyond": ({"mask_row": 4}, ["mask_row 4 in row 3"]),
    "mask negative": ({"mask_row": -1}, ["mask_row -1 in row 3"]),
    "mask of another row": ({"mask_row": 2}, ["mask_row 2 in the rows 1 and 3"]),
    "mask beyond 64 bits": ({"mask_row": 2**63}, ["mask_row", "whole numbers"]),
    "x beyond": ({"box_x1": WIDTH + 1}, [f"box_x1 {WIDTH + 1} in row 3", f"0 … {WIDTH}"]),
    "y beyond": ({"box_y1": HEIGHT + 1}, [f"box_y1 {HEIGHT + 1} in row 3", f"0 … {HEIGHT}"]),
    "x negative": ({"box_x0": -2}, ["box_x0 -2", "row 3"]),
    "both beyond": ({"box_x0": WIDTH + 3, "box_x1": WIDTH + 5}, ["row 3"]),
    "ends swapped": ({"box_y0": 8, "box_y1": 3}, ["box_y0 8, box_y1 3 in row 3", "in order"]),
    "one end": ({"box_x0": "", "box_x1": 1e9}, ["row 3"]),
}


@pytest.fixture
def boxed(tmp_path):
    """A mirror whose segmentations have boxes."""
    root = write_stimuli(tmp_path / "stimuli")
    write_csv(root, SEGMENTATION_TABLE, segmentation_table().assign(**BOXES))
    return root


@pytest.mark.parametrize("case", WRONG)
def test_segmentations(boxed, new, case):
    changes, words = WRONG[case]
    table = pd.read_csv(boxed / SEGMENTATION_TABLE, dtype=str, keep_default_na=False)
    for column, value in changes.items():
        table.loc[2, column] = str(value)
    write_csv(boxed, SEGMENTATION_TABLE, table)
    report = report_of_stimuli(boxed, new, parts="segmentations")
    (error,) = report.failed.values()
    assert isinstance(error, SourceError)
    for word in (boxed / SEGMENTATION_TABLE, "expected", "found", *words):
        assert str(word) in str(error)


def test_boxes_at_the_edge(boxed, new):
    """And rounded by half a pixel, and empty where nothing was located."""
    table = pd.read_csv(boxed / SEGMENTATION_TABLE, dtype=str, keep_default_na=False)
    table.loc[0, ["box_x0", "box_x1"]] = ["-0.4", f"{WIDTH}.3"]
    table.loc[2, list(BOXES)] = ""
    write_csv(boxed, SEGMENTATION_TABLE, table)
    assert not report_of_stimuli(boxed, new, parts="segmentations").failed
    assert len(Segmentations(new).metadata) == len(table)
