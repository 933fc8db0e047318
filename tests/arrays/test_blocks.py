"""Dask blocks of betas follow sessions and shards; results computed together do not mix."""

from __future__ import annotations

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from counting_store import CountingStore
from source_answers import SESSIONS, SLAB, SUB
from source_answers import labels as labels
from source_answers import large as large
from source_answers import masks as masks
from source_answers import rois as rois
from source_answers import source as source

from laion_zarr import _whole, load_subject
from laion_zarr.analysis import noise_ceiling
from laion_zarr.arrays import dask_blocks
from laion_zarr.arrays.dask_blocks import BetasArray, source_of


@pytest.fixture
def _large(monkeypatch):
    """No selection may be in memory at once: as those of more than 1 GiB."""
    monkeypatch.setattr(_whole, "_WHOLE_BYTES", 0)


def test_blocks_hold_all_trials(sub, source, masks, monkeypatch):
    n_voxels, n_first = int(masks["anatomical"].sum()), of_first(sub)
    betas = sub.get_betas()
    assert betas.chunks == ((len(source),), (n_voxels,))
    assert betas[betas["session"] == "ses-02"].chunks == ((len(source) - n_first,), (n_voxels,))
    monkeypatch.setattr(dask_blocks, "_BLOCK_BYTES", betas.nbytes // 3)
    cut = sub.get_betas()
    assert cut.chunks[0] == (len(source),)
    assert set(cut.chunks[1][:-1]) == {-(-n_voxels // 3)}, "of one size, as Zarr can write"
    np.testing.assert_array_equal(cut, source[:, masks["anatomical"]])


@pytest.mark.usefixtures("_large")
def test_blocks_of_large_selections(sub, large, source, masks):
    n_first, n_voxels = of_first(sub), masks["anatomical"].sum()
    betas = sub.get_betas()
    # Blocks of one size, of which most are sessions, and the last one smaller: as Zarr can write.
    assert betas.chunks == ((n_first, n_first, len(source) - 2 * n_first), (n_voxels,))
    assert sub.get_betas(session="ses-02").chunks == ((len(source) - n_first,), (n_voxels,))
    np.testing.assert_array_equal(betas, source[:, masks["anatomical"]])
    dataset = load_subject(SUB, large).dataset
    assert dataset["betas"].chunks == ((6, 6, 1), (SLAB, SLAB, dataset.sizes["voxel"] - 2 * SLAB))
    assert len(sub.get_betas(stimuli="shared").chunks[0]) == 2, "one block a session"


def test_blocks_as_asked_for(sub, large, source, masks):
    betas = sub.get_betas(chunks={"trial": -1, "voxel": 7})
    assert betas.chunks[0] == (len(source),)
    assert betas.chunks[1][:-1] == (7,) * (len(betas.chunks[1]) - 1)
    assert sum(betas.chunks[1]) == masks["anatomical"].sum()
    np.testing.assert_array_equal(betas, source[:, masks["anatomical"]])
    assert betas[3:, 5:20].chunks == ((len(source) - 3,), (2, 7, 6)), "as Dask would cut them"
    selected = load_subject(SUB, large).sel(roi="all", chunks={"voxel": 100})
    assert set(selected["betas"].chunks[1][:-1]) == {100}


def of_first(sub):
    return int((sub.metadata["session"] == "ses-01").sum())


def test_shared_trials_in_order(sub, labels):
    betas = sub.get_betas(stimuli="shared")
    shared = [label for label in labels if label.startswith("shared_")]
    assert betas["image_name"].values.tolist() == shared


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
    n_first = of_first(sub)
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


# -- indexing selects anew


TAKEN = {
    "session": lambda b: b[b["session"] == "ses-02"],
    "few trials": lambda b: b.isel(trial=[3, 40, 41]),
    "one trial": lambda b: b[30],
    "backwards": lambda b: b[::-3, ::-2],
    "repeated": lambda b: b[[5, 5, 0]],
    "ten voxels": lambda b: b[:, np.arange(3, 300, 30)],
    "one voxel": lambda b: b[:, 17],
    "one value": lambda b: b[40, 17],
    "sorted": lambda b: b.sortby("image_name"),
    "masks": lambda b: b[(b["run"] == 1).values, (b["i"] > 3).values],
    "where": lambda b: b.where(b["session"] == "ses-01", drop=True),
    "none": lambda b: b[[], 4:9],
    "from before the axis": lambda b: b[:14].isel(trial=slice(-17, 3, -1)),
    "to before the axis": lambda b: b[:14, :9].isel(
        trial=slice(9, -30, -2), voxel=slice(-1, 2, -3)
    ),
    "differences of voxels": lambda b: b.diff("voxel"),
    "rolled": lambda b: b.roll(voxel=3, trial=-2),
    "most, unsorted": lambda b: b[5:, np.random.default_rng(1).permutation(300)][::2],
    "unsorted, twice": lambda b: b[::-2][:, [7, 3, 3, 200]].isel(voxel=[1, 0], trial=[2, 5, 1]),
    "steps": lambda b: b.isel(trial=slice(2, 45))[:, 9:80].isel(voxel=[4, 1], trial=slice(9, None)),
    "points": lambda b: b.isel(
        trial=xr.DataArray([0, 3], dims="p"), voxel=xr.DataArray([9, 2], dims="p")
    ),
}
ASKED = [{}, {"chunks": {"trial": 7}}, {"chunks": {"voxel": 50}}, {"stimuli": "shared"}]


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_indexing_is_as_in_memory(sub, asked, taken):
    betas = sub.get_betas(**asked)
    if taken in ("one trial", "few trials", "one value", "steps") and asked == ASKED[-1]:
        betas = sub.get_betas()[::1]
    xr.testing.assert_identical(TAKEN[taken](betas).compute(), TAKEN[taken](betas.compute()))


@pytest.mark.usefixtures("_large")
@pytest.mark.parametrize("taken", TAKEN)
def test_indexing_of_large_selections(sub, taken):
    betas = sub.get_betas()
    xr.testing.assert_identical(TAKEN[taken](betas).compute(), TAKEN[taken](betas.compute()))


def read_of(counting, lazy):
    """Keys of the betas that computing reads, in the order of their names."""
    before = len(counting.of_betas())
    lazy.compute()
    return sorted(counting.of_betas()[before:])


@pytest.mark.parametrize("whole", [1 << 30, 0], ids=["small", "large"])
def test_indexing_reads_what_selecting_reads(store, monkeypatch, whole):
    """As few requests, whether the package or xarray selects."""
    monkeypatch.setattr(_whole, "_WHOLE_BYTES", whole)
    counting = CountingStore(store)
    sub = load_subject(SUB, counting)
    betas = sub.get_betas()
    voxels = betas["voxel"].values[[200, 3, 77]]
    ways = [
        (betas[betas["session"] == "ses-02"], sub.get_betas("ses-02")),
        (betas.sel(voxel=voxels), sub.sel(voxel=voxels)["betas"]),
        (betas[:, 5], sub.sel(voxel=int(betas["voxel"][5]))["betas"]),
        (betas.sel(trial=[1, 2]), sub.sel(trial=[1, 2], mask_source="anatomical")["betas"]),
        (sub.dataset["betas"].sel(trial=[1, 2]), sub.sel(trial=[1, 2])["betas"]),
    ]
    for ours, own in ways:
        found = read_of(counting, ours)
        assert found, "nothing was read"
        assert found == read_of(counting, own)
    assert set(read_of(counting, ways[0][0])) < set(read_of(counting, betas))


def test_most_of_the_voxels_share_what_is_read(store):
    """What needs most chunks anyway reads each once, however often it is taken."""
    counting = CountingStore(store)
    betas = load_subject(SUB, counting).get_betas()
    every = read_of(counting, betas)
    for work in (lambda b: b.diff("voxel"), lambda b: b + b[:, ::-1]):
        assert read_of(counting, work(betas)) == every


def test_groups_share_what_they_read(store):
    """What is done by image reads each chunk once, not once for each image."""
    counting = CountingStore(store)
    betas = load_subject(SUB, counting).get_betas()
    every = read_of(counting, betas)
    with xr.set_options(use_flox=False):
        grouped = betas.groupby("image_name").map(lambda one: one - one.mean("trial"))
    assert read_of(counting, grouped) == every


def test_mixes_with_other_arrays(sub):
    """Xarray compares the types of lazy arrays that it computes together."""
    betas = sub.get_betas(roi="face")
    both = xr.Dataset({"betas": betas, "doubled": betas * 2}).compute()
    np.testing.assert_array_equal(both["doubled"], 2 * both["betas"])
    added = xr.apply_ufunc(np.add, betas, betas * 1, dask="parallelized", output_dtypes=["f4"])
    np.testing.assert_array_equal(added, 2 * betas)
    for one, other in ((betas, betas * 1), (betas * 1, betas)):
        np.testing.assert_array_equal((one.data + other.data).compute(), 2 * betas)
    assert type(betas.data) is BetasArray
    assert type((betas + 1).data) is da.Array


def test_results_are_not_shared(sub):
    """What is computed together may be changed in place, one without the other."""
    betas = sub.get_betas(roi="face")
    one, other = dask.compute(betas[:20].data, betas[5:].data)
    was = other.copy()
    one[:] = 0
    np.testing.assert_array_equal(other, was)


@pytest.mark.parametrize("session", [None, 1])
def test_all_by_position_is_a_result_of_its_own(sub, session):
    betas = sub.get_betas(session, roi="face")
    every = betas.isel(trial=np.arange(betas.sizes["trial"]))
    both = xr.Dataset({"a": betas, "b": every, "c": betas.sortby("trial")}).compute()
    was = both["a"].values.copy()
    both["b"][:] = 9
    np.testing.assert_array_equal(both["a"], was)
    np.testing.assert_array_equal(every, was)


def test_what_is_kept_of_a_part_is_the_part(sub):
    kept = sub.get_betas(1)[3:6].persist()
    (block,) = kept.data.dask.values()
    values = getattr(block, "value", block)
    assert values.base is None or values.base.nbytes <= 2 * values.nbytes


def test_masked_values_that_were_assigned(sub):
    data = sub.get_betas("ses-01", roi="face").data.copy()
    data[2] = np.ma.masked
    found = data.compute()
    assert found.mask[2].all()
    assert not found.mask[:2].any()


@pytest.mark.parametrize("size", [5_000, 200])
def test_all_is_read_into_one_array(sub, source, masks, monkeypatch, size):
    """Neither blocks nor the result are copied, and no two results have memory in common."""
    monkeypatch.setattr(dask_blocks, "_BLOCK_BYTES", size)
    take = (lambda b: b) if size > 1000 else (lambda b: b[:, [3, 1, 2]])
    join, joined = dask_blocks._join, []

    def remember(memory, *rest):
        joined.append((memory, join(memory, *rest)))
        return joined[-1][1]

    monkeypatch.setattr(dask_blocks, "_join", remember)
    betas = take(sub.get_betas())
    found = betas.values
    assert len(joined) == len(betas.chunks[1]) > 1
    assert all(memory.values() is found for memory, _ in joined)
    assert all(block.base is found for _, block in joined)
    again = betas.values
    assert not np.shares_memory(again, found)
    found[:] = 0
    np.testing.assert_array_equal(again, take(source[:, masks["anatomical"]]))
    np.testing.assert_array_equal(betas.persist(), again)


def test_blocks_from_several_processes(sub, source, masks, monkeypatch):
    """Where blocks are read elsewhere, they are copied."""
    monkeypatch.setattr(dask_blocks, "_BLOCK_BYTES", 20_000)
    betas = sub.get_betas()
    with dask.config.set(scheduler="processes", num_workers=2):
        np.testing.assert_array_equal(betas, source[:, masks["anatomical"]])
        np.testing.assert_array_equal(betas[::3], source[::3, masks["anatomical"]])


def test_a_result_of_other_memory():
    """Blocks that lie in some memory, but not in their places, or not in the same, are copied."""
    memory = np.arange(12.0, dtype="f4").reshape(3, 4).copy()
    left, right = memory[:, :2], memory[:, 2:]
    assert _whole._result([[left, right]]) is memory
    of_others = right.copy(), memory.copy()[:, 2:]
    for blocks in (
        [[right, left]],
        *([[left, other]] for other in of_others),
        [[left]],
        [[memory]],
    ):
        found = _whole._result(blocks)
        np.testing.assert_array_equal(found, np.block(blocks))
        assert not np.shares_memory(found, memory)


def test_a_part_that_was_assigned(sub):
    """What was assigned is kept by indexing and by copies, and the first array stays as it was."""
    betas = sub.get_betas(roi="face")
    was, changed = betas.values, betas.copy()
    changed[2] = 5.0
    assert source_of(changed.data) is None
    for each in (changed, changed.copy(), pickle.loads(pickle.dumps(changed))):
        np.testing.assert_array_equal(
            each[1:4, :3], np.stack([was[1], was[2] * 0 + 5, was[3]])[:, :3]
        )
    np.testing.assert_array_equal(betas[2], was[2])


def test_pickled_and_copied_arrays_stay_selections(sub):
    betas = sub.get_betas(roi="face")[3:40, ::2]
    for again in (pickle.loads(pickle.dumps(betas)), betas.copy(deep=True), betas.copy()):
        assert again.data.name == betas.data.name
        assert type(again.data) is BetasArray
        np.testing.assert_array_equal(again[:, 2:5], betas.values[:, 2:5])


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
