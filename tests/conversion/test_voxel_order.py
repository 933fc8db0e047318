"""The order of voxels in the store: regions first, near each other in space."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from random_mirrors import examples

from laion_zarr.conversion import budget
from laion_zarr.conversion.budget import storage_order
from laion_zarr.conversion.synthetic.model import cortex, experiment, phantom

CHUNK, SLAB = 128, 17_280  # as docs/store.md has them


@pytest.fixture(scope="module")
def brain():
    """Grid, masks and ROIs of a head of real size; the rsquare mask is several times larger."""
    head, grid = phantom.Head.of("sub-01"), experiment.SIZES["full"].grid
    anatomy = phantom.scan(head, grid)
    masks = {"anatomical": anatomy.brain, "rsquare": anatomy.head}
    return grid.shape, masks, cortex.region_volumes(head, grid, anatomy)


@pytest.mark.parametrize("stored", ["anatomical", "both"])
def test_a_region_is_a_few_runs_of_chunks(brain, stored):
    """Median of ROIs of 300-700 voxels: at most twice the chunks needed, in 12 runs."""
    shape, masks, rois = brain
    anatomical = masks["anatomical"]
    voxels = np.flatnonzero(anatomical if stored == "anatomical" else anatomical | masks["rsquare"])
    members = np.array([rois[name][voxels] for name in sorted(rois)])
    within = np.stack([anatomical[voxels], masks["rsquare"][voxels]])
    order = storage_order(voxels, shape, within, members)
    position = np.empty(len(voxels), int)
    position[np.searchsorted(voxels, order)] = np.arange(len(voxels))
    found = []
    for member in members & anatomical[voxels]:
        chunks = np.unique(position[member] // CHUNK)
        runs = 1 + int((np.diff(chunks) > 1).sum())
        found.append((member.sum(), CHUNK * len(chunks) / member.sum(), runs))
    sizes, wasted, runs = np.array(found).T
    small = (sizes >= 300) & (sizes <= 700)
    assert small.sum() > 20
    assert np.median(wasted[small]) <= 2
    assert np.median(runs[small]) <= 12
    assert runs[small].max() <= 12
    large = (sizes > 15_000) & (sizes < 25_000)
    assert (wasted[large] <= 1.2).all()
    assert large.any()


# -- any voxel axis


@st.composite
def axes(draw):
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=3, max_size=3)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    voxels = np.flatnonzero(rng.random(shape) < draw(st.sampled_from([0.2, 0.7, 1])))
    assume(len(voxels))
    masks = rng.random((2, len(voxels))) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    masks[1] |= ~masks[0]  # every voxel stored is in one of them
    rois = rng.random((draw(st.integers(0, 4)), len(voxels))) < 0.3
    return voxels, shape, masks, rois


def runs(labels, group):
    """Same labels side by side; in each run both masks first, then anatomical, then rsquare."""
    cuts = np.flatnonzero((labels[1:] != labels[:-1]).any(axis=1)) + 1
    pieces = np.split(np.arange(len(labels)), cuts) if len(labels) else []
    assert len({tuple(labels[piece[0]]) for piece in pieces}) == len(pieces)
    assert all((np.diff(group[piece]) >= 0).all() for piece in pieces)


@examples(100, 2000)
@given(axis=axes(), slab=st.integers(1, 60))
def test_storage_order(tally, axis, slab):
    tally("random voxel axes ordered")
    voxels, _, masks, rois = axis
    with mock.patch.object(budget, "SLAB_VOXELS", slab):
        stored = budget.storage_order(*axis)
    np.testing.assert_array_equal(np.sort(stored), voxels)
    position = np.searchsorted(voxels, stored)
    group = np.where(masks[0] & masks[1], 0, np.where(masks[0], 1, 2))[position]
    in_roi = rois.any(axis=0)[position]
    n_front = int(in_roi.sum())
    assert in_roi[:n_front].all()
    # Of ROIs, voxels of the same ones side by side, and the smallest ROI in one piece …
    runs(rois[:, position[:n_front]].T, group[:n_front])
    if len(rois) and n_front:
        smallest = rois[rois.sum(axis=1).argmin(), position[:n_front]]
        assert np.abs(np.diff(smallest.astype(int))).sum() <= 1
    # … and of the rest, slabs of the axis, in order.
    slabs = position[n_front:] // slab
    assert (np.diff(slabs) >= 0).all()
    runs(slabs[:, None], group[n_front:])


def test_storage_order_follows_space():
    """Inside one group of voxels, each is next to the one before: a curve without jumps."""
    shape = (8, 8, 8)
    voxels = np.arange(512)
    stored = budget.storage_order(voxels, shape, np.ones((2, 512), bool), np.zeros((0, 512), bool))
    ijk = np.stack(np.unravel_index(stored, shape), axis=1)
    np.testing.assert_array_equal(np.abs(np.diff(ijk, axis=0)).sum(axis=1), np.ones(511))
