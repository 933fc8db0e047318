"""Dask blocks of betas follow sessions and shards; results computed together do not mix."""

from __future__ import annotations

import dask
import numpy as np
from source_answers import SESSIONS, SLAB, SUB
from source_answers import labels as labels
from source_answers import large as large
from source_answers import masks as masks
from source_answers import rois as rois
from source_answers import source as source

from laion_zarr import load_subject


def test_blocks(sub, large, source, masks):
    n_first, n_voxels = int((sub.metadata["session"] == "ses-01").sum()), masks["anatomical"].sum()
    betas = sub.get_betas()
    # Blocks of one size, of which most are sessions, and the last one smaller: as Zarr can write.
    assert betas.chunks == ((n_first, n_first, len(source) - 2 * n_first), (n_voxels,))
    assert sub.get_betas(session="ses-02").chunks == ((len(source) - n_first,), (n_voxels,))
    betas = sub.get_betas(chunks={"trial": -1, "voxel": 7})
    assert betas.chunks[0] == (len(source),)
    assert betas.chunks[1][:-1] == (7,) * (len(betas.chunks[1]) - 1)
    assert sum(betas.chunks[1]) == n_voxels
    np.testing.assert_array_equal(betas, source[:, masks["anatomical"]])
    dataset = load_subject(SUB, large).dataset
    assert dataset["betas"].chunks == ((6, 6, 1), (SLAB, SLAB, dataset.sizes["voxel"] - 2 * SLAB))
    selected = load_subject(SUB, large).sel(roi="all", chunks={"voxel": 100})
    assert set(selected["betas"].chunks[1][:-1]) == {100}


def test_stimuli_keep_one_block_a_session(sub, labels):
    betas = sub.get_betas(stimuli="shared")
    shared = [label for label in labels if label.startswith("shared_")]
    assert betas["image_name"].values.tolist() == shared
    assert len(betas.chunks[0]) == 2


def test_answers_do_not_mix(sub, source, masks, rois):
    """Computed together in one graph, each array keeps its own values."""
    asked = [
        {"roi": roi, "session": session, "chunks": chunks, "mask_source": mask}
        for roi in ("FFA1", "OFA", "laionventral")
        for session in (None, *SESSIONS)
        for chunks in (None, {"voxel": 3})
        for mask in ("anatomical", "rsquare")
    ]
    arrays = [sub.get_betas(**options) for options in asked]
    n_first = int((sub.metadata["session"] == "ses-01").sum())
    rows = {None: slice(None), "ses-01": slice(n_first), "ses-02": slice(n_first, None)}
    for options, found in zip(asked, dask.compute(*arrays), strict=True):
        kept = rois[options["roi"]][1] & masks[options["mask_source"]]
        np.testing.assert_array_equal(found, source[rows[options["session"]]][:, kept])
    again = [sub.get_betas(**options) for options in asked]
    assert [array.data.name for array in again] == [array.data.name for array in arrays]
