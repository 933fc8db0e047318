"""Budgets of the store that can be counted; what must be timed is in ``benchmarks``."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from zarr.storage import LocalStore, WrapperStore

from laion_zarr import load_subject
from laion_zarr.conversion.budget import storage_order
from laion_zarr.conversion.synthetic import cortex, experiment, phantom

CHUNK, SLAB = 128, 17_280  # as docs/store.md has them


class Bucket(WrapperStore):
    """A store where every request takes a while: counts them, and how often one waits."""

    requests = rounds = in_flight = 0

    async def get(self, *args, **options):
        self.requests += 1
        self.rounds += self.in_flight == 0
        self.in_flight += 1
        await asyncio.sleep(0.02)
        value = await super().get(*args, **options)
        self.in_flight -= 1
        return value


def test_a_subject_in_a_bucket_opens_in_few_rounds(store):
    bucket = Bucket(LocalStore(store, read_only=True))
    betas = load_subject("01", bucket).get_betas(roi="face", nc_threshold=5)
    assert bucket.requests <= 25
    assert bucket.rounds <= 4
    before = bucket.rounds
    betas.isel(trial=[0]).load()
    assert bucket.rounds - before <= 2  # the session's chunk table, then its chunks


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
