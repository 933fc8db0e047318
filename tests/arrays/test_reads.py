"""Which bytes of a store are read, and when: nothing before it is needed, and nothing twice."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import xarray as xr
import zarr
from counting_store import CountingStore
from slow_store import SlowStore
from source_answers import CHUNK, CHUNKS_PER_SHARD, GLM, SESSIONS, SLAB, SUB, flat
from source_answers import counting as counting
from source_answers import large as large
from source_answers import masks as masks
from zarr.storage import LocalStore

from laion_zarr import convert, load_subject
from laion_zarr.errors import StoreError


def test_nothing_is_read_but_labels(counting):
    sub = load_subject(SUB, counting)
    lazy = [
        sub.dataset,
        sub.sel(roi="face", session="ses-01"),
        sub.sel(voxel=sub.dataset["voxel"].values[:3], nc_threshold=10),
        sub.get_betas(),
        sub.get_betas(roi="face", nc_threshold=10),
        *sub.get_betas(session=SESSIONS, stimuli="shared", chunks={"voxel": 5}).values(),
    ]
    lazy += [array.mean("trial") for array in lazy]
    _ = sub.metadata, sub.get_trial_info("ses-01"), repr(sub), sub._repr_html_()
    _ = sub.get_noise_ceiling(session="ses-01"), sub.get_roi_data("all"), sub.get_brain_mask()
    _ = pickle.dumps(lazy[1:])
    assert counting.of_betas() == []
    # And labels, masks and ROIs are in memory from then on.
    before = len(counting.reads)
    for name in ("roi_mask", "noise_ceiling", "image_name", "in_rsquare", "x"):
        assert sub.dataset[name].values.size
    sub.get_roi_mask("all").values.sum()
    assert len(counting.reads) == before
    lazy[1]["betas"].compute()
    assert counting.of_betas()


def test_sessions_cost_no_labels(counting):
    assert load_subject(SUB, counting).get_sessions() == SESSIONS
    assert not [key for key, *_ in counting.reads if "/voxels/" in key]


def test_maps_are_read_once(counting, bids_root, masks):
    sub = load_subject(SUB, counting)
    for _ in range(2):
        found = sub.dataset["r2"].sel(session_id="ses-02").values
    reads = [key for key, *_ in counting.reads if re.search("maps/ses-02/r2/c", key)]
    assert len(reads) == 1
    name = f"{SUB}_ses-02_task-images_space-T1w_stat-rsquare_desc-R2_statmap.nii.gz"
    expected = flat(bids_root / GLM / "ses-02" / "func" / name)
    np.testing.assert_array_equal(found, expected[masks["anatomical"] | masks["rsquare"]])


def shard_index(store, session, shard):
    """Offset and size of each chunk, from the end of the shard, as Zarr defines it."""
    tail = (store / SUB / session / "betas" / "c" / str(shard) / "0").read_bytes()
    tail = tail[-(CHUNKS_PER_SHARD * 16 + 4) : -4]
    return np.frombuffer(tail, "<u8").reshape(CHUNKS_PER_SHARD, 2)


def needed_bytes(store, session, voxels):
    """Bytes of the chunks that hold these voxels, by object; and into how many runs they fall."""
    stored = zarr.open_group(store / SUB / session, mode="r")["voxel"][:]
    chunks = np.unique(np.flatnonzero(np.isin(stored, voxels)) // CHUNK)
    found, runs = {}, 0
    for shard in np.unique(chunks // CHUNKS_PER_SHARD).tolist():
        own = chunks[chunks // CHUNKS_PER_SHARD == shard]
        sizes = shard_index(store, session, shard)[own % CHUNKS_PER_SHARD, 1]
        found[f"{SUB}/{session}/betas/c/{shard}/0"] = int(sizes.sum())
        runs += 1 + int((np.diff(own) > 1).sum())
    return found, runs


def by_key(reads):
    found = {}
    for key, size in reads:
        found[key] = found.get(key, 0) + size
    return found


@pytest.fixture(scope="module")
def small_roi(large):
    """A region that few chunks hold: its name and voxels."""
    group = zarr.open_group(large / SUB / "voxels", mode="r")
    members = group["roi_mask"][:] & group["in_anatomical"][:]
    sizes = np.where(members.any(axis=1), members.sum(axis=1), 10**9)
    row = int(sizes.argmin())
    return str(group["roi"][row]), np.sort(group["voxel"][:][members[row]])


@pytest.mark.parametrize("session", [*SESSIONS, None])
def test_roi_reads_only_its_chunks(large, small_roi, session):
    counting, (roi, voxels) = CountingStore(large), small_roi
    betas = load_subject(SUB, counting).get_betas(session=session, roi=roi)
    assert counting.of_betas() == []
    assert betas["voxel"].values.tolist() == voxels.tolist()
    betas.compute()
    needed, runs = {}, 0
    for each in SESSIONS if session is None else [session]:
        own, n = needed_bytes(large, each, voxels)
        needed, runs = needed | own, runs + n
    assert by_key(counting.of_betas()) == needed
    assert len(counting.of_betas()) <= runs
    on_disk = sum(path.stat().st_size for path in large.glob(f"{SUB}/*/betas/c/*/*"))
    assert sum(needed.values()) < on_disk / 10


def test_all_of_a_session_reads_each_shard_once(large):
    counting = CountingStore(large)
    load_subject(SUB, counting).sel(session="ses-02", chunks={"voxel": -1})["betas"].compute()
    shards = sorted(large.glob(f"{SUB}/ses-02/betas/c/*/0"))
    assert len(shards) == 3
    index_size = CHUNKS_PER_SHARD * 16 + 4
    expected = {
        path.relative_to(large).as_posix(): path.stat().st_size - index_size for path in shards
    }
    assert by_key(counting.of_betas()) == expected


@pytest.mark.parametrize(
    "voxel",
    [slice(100, 120), np.array([SLAB + 9, 5, SLAB - 1]), slice(SLAB - 4, SLAB + 4), 77],
    ids=["run", "scattered", "border", "one"],
)
@pytest.mark.parametrize("trial", [slice(6, 9), 0, [12, 1]], ids=["second", "one", "both"])
def test_engine_reads_only_what_is_selected(large, trial, voxel):
    counting = CountingStore(large)
    dataset = xr.open_dataset(counting, engine="laion_zarr", group=SUB)
    assert counting.of_betas() == []
    picked = dataset.isel(trial=trial).isel(voxel=voxel)["betas"]
    assert counting.of_betas() == []
    assert picked.chunks is None
    picked.load()
    needed = {}
    for session in np.unique(picked["session"]):
        needed |= needed_bytes(large, session, picked["voxel"].values)[0]
    assert by_key(counting.of_betas()) == needed
    # Loaded means loaded.
    before = len(counting.reads)
    picked.values.sum()
    assert len(counting.reads) == before


def test_sel_by_label_reads_only_what_is_selected(large):
    counting = CountingStore(large)
    sub = load_subject(SUB, counting)
    voxels = sub.dataset["voxel"].values[[3, SLAB + 50, 20_000]]
    picked = sub.sel(trial=[2, 1], voxel=voxels)["betas"]
    assert picked["trial"].values.tolist() == [2, 1]
    picked.compute()
    assert by_key(counting.of_betas()) == needed_bytes(large, "ses-01", voxels)[0]


def test_a_dask_block_reads_only_itself(large):
    counting = CountingStore(large)
    block = load_subject(SUB, counting).dataset["betas"][:6, SLAB : 2 * SLAB]
    block.compute()
    needed, _ = needed_bytes(large, "ses-01", block["voxel"].values)
    assert by_key(counting.of_betas()) == needed
    # Its own slab, and what lies in it of the regions, which are stored first.
    on_disk = sum(path.stat().st_size for path in large.glob(f"{SUB}/ses-01/betas/c/*/*"))
    assert sum(needed.values()) < 0.7 * on_disk


def test_a_subject_in_a_bucket_opens_in_few_rounds(store):
    bucket = SlowStore(LocalStore(store, read_only=True))
    betas = load_subject("01", bucket).get_betas(roi="face", nc_threshold=5)
    assert bucket.requests <= 25
    assert bucket.rounds <= 4
    before = bucket.rounds
    betas.isel(trial=[0]).load()
    assert bucket.rounds - before <= 2  # the session's chunk table, then its chunks


def test_a_reader_never_sees_a_store_rewritten_under_it(bids_root, store, copy_of, tmp_path):
    """Opened before an overwrite with other voxels: an error, never the new bytes as the old."""
    old = copy_of(store)
    lazy = load_subject("01", old).get_betas(roi="face")
    convert(bids_root, old, subjects="01", mask="anatomical", overwrite=True, progress=False)
    with pytest.raises(StoreError, match="open it again"):
        lazy.load()
    again = load_subject("01", old).get_betas(roi="face").values
    np.testing.assert_array_equal(again, load_subject("01", store).get_betas(roi="face").values)
