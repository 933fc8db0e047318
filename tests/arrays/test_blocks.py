"""Dask blocks of betas follow sessions and shards; results computed together do not mix."""

from __future__ import annotations

import dask
import numpy as np
import pytest
from counting_store import CountingStore
from source_answers import SESSIONS, SLAB, SUB
from source_answers import labels as labels
from source_answers import large as large
from source_answers import masks as masks
from source_answers import rois as rois
from source_answers import source as source

from laion_zarr import load_subject
from laion_zarr.analysis import noise_ceiling
from laion_zarr.arrays.dask_blocks import source_of


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


@pytest.mark.parametrize("chunks", [None, {"trial": 7}, {"voxel": 50}, {"trial": (20, 31)}])
def test_a_selection_of_a_selection_is_known(sub, store, chunks):
    """However a part is taken by position or label, where it comes from is known exactly."""
    betas = sub.get_betas(chunks=chunks)
    rng = np.random.default_rng(3)
    some, mask = rng.permutation(betas.sizes["voxel"])[:40], rng.random(betas.sizes["voxel"]) > 0.7
    parts = {
        "slice": betas[:, 10:90],
        "steps": betas[3:40:3, ::-2],
        "scattered": betas[:, some],
        "mask": betas[:, mask],
        "session": betas[betas["session"] == "ses-02"],
        "twice": betas[5:45][:, some][::2, 3:20],
        "isel": betas.isel(trial=slice(4, None), voxel=some),
        "sel": betas.sel(voxel=np.sort(betas["voxel"].values[some])),
        "dataset": sub.sel(chunks=chunks).isel(voxel=slice(20, 60))["betas"],
    }
    axis = sub.dataset["voxel"].values
    for name, part in parts.items():
        source = source_of(part.data)
        assert source is not None, name
        np.testing.assert_array_equal(axis[source.voxels], part["voxel"], name)
        np.testing.assert_array_equal(source.trials, part["trial"], name)
        same = (source.as_read() == part.data) | np.isnan(part.data)
        assert same.all().compute(), name
    others = [
        betas[::-1],
        betas[[3, 3, 5]],
        (betas + 1)[:, some],
        betas[:, some] * 1,
        betas.T[some],
    ]
    for other in others:
        assert source_of(other.data) is None


def test_statistics_of_a_selection_read_each_chunk_once(store):
    """A ceiling of voxels that were taken by position reads as that of the same, selected."""
    counting = CountingStore(store)
    sub = load_subject(SUB, counting)
    betas = sub.get_betas()
    some = np.random.default_rng(5).permutation(betas.sizes["voxel"])[:60]
    taken, voxels = noise_ceiling(betas[:, some]), betas["voxel"].values[some]
    selected = noise_ceiling(sub.sel(voxel=voxels, mask_source="anatomical")["betas"])
    counts = []
    for lazy in (taken, selected):
        before = len(counting.of_betas())
        counts.append((lazy.compute(), sorted(counting.of_betas()[before:])))
    assert counts[0][1] == counts[1][1]
    np.testing.assert_array_equal(counts[0][0], counts[1][0])
