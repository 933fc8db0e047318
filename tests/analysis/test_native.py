"""Chunks in files go through compiled code alone, with the values and errors of the other ways."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import pickle
import threading
from collections.abc import Iterator

import dask
import numpy as np
import psutil
import pytest
from zarr.storage import LocalStore, WrapperStore

from laion_zarr import load_subject
from laion_zarr.analysis import noise_ceiling, split_half_reliability
from laion_zarr.analysis.streams import stream
from laion_zarr.errors import StoreError
from laion_zarr.store import disk
from laion_zarr.store.disk import DiskStore

native = stream.native_loops()
pytestmark = pytest.mark.skipif(native is None, reason="no numba, or no functions of C")


class Elsewhere(WrapperStore[LocalStore]):
    """A store that is not read as a local one."""


def statistics(sub, **selection):
    """Lazy values that add up all trials: of z-scores by session and run, and of betas."""
    betas = sub.get_betas(**selection)
    return {
        "ceiling": noise_ceiling(betas),
        "ceiling by run": noise_ceiling(betas, "run"),
        "ceiling of betas": noise_ceiling(betas, None),
        "halves": split_half_reliability(betas),
        "averages": sub.get_image_betas(**selection),
        "averages of betas": sub.get_image_betas(zscore=None, **selection),
    }


@pytest.fixture
def calls(monkeypatch):
    """Answers of the compiled call, as it is called."""
    add, answers = native.add_files, []

    def remember(*arguments):
        answers.append(add(*arguments))
        return answers[-1]

    monkeypatch.setattr(native, "add_files", remember)
    return answers


@pytest.mark.parametrize("selection", [{}, {"roi": "FFA1"}, {"mask_source": "rsquare"}], ids=str)
def test_every_way_gives_the_same_bits(store, calls, monkeypatch, selection):
    found = {
        name: of.compute()
        for name, of in statistics(load_subject("01", store), **selection).items()
    }
    assert all(calls)
    assert len(calls) >= len(found)
    n_calls = len(calls)
    elsewhere = load_subject("01", Elsewhere(LocalStore(store)))
    for name, lazy in statistics(elsewhere, **selection).items():
        np.testing.assert_array_equal(lazy, found[name], err_msg=name)
    monkeypatch.setattr(stream, "native_loops", lambda: None)
    for name, lazy in statistics(load_subject("01", store), **selection).items():
        np.testing.assert_array_equal(lazy, found[name], err_msg=name)
    assert len(calls) == n_calls


def test_a_session_of_few_voxels_and_trials(store, calls):
    """Voxels, trials and sessions that fill no group of lanes, nor any batch of sessions."""
    sub = load_subject("01", store)
    betas = sub.get_betas()
    for n in (1, 2, 3, 5):
        some = betas.isel(voxel=slice(None, n), trial=slice(3, None))
        expected = noise_ceiling(some.compute())
        np.testing.assert_allclose(noise_ceiling(some), expected, rtol=1e-4, atol=1e-3)
    assert all(calls)


def test_files_are_open_while_they_are_read_and_no_longer(store, monkeypatch):
    sub = load_subject("01", store)
    held = disk._HELD
    most = []
    add = native.add_files

    def count(*arguments):
        most.append(len(held._files))
        return add(*arguments)

    monkeypatch.setattr(native, "add_files", count)
    with dask.config.set(scheduler="threads", num_workers=4):
        expected = noise_ceiling(sub.get_betas()).compute()
    assert max(most) <= len(sub.get_sessions())  # of one shard; threads share them
    assert not held._files
    assert not [file for file in psutil.Process().open_files() if str(store) in file.path]
    monkeypatch.setattr(disk.resource, "getrlimit", lambda which: (7, 7))  # each by itself
    n = len(most)
    np.testing.assert_array_equal(noise_ceiling(sub.get_betas()), expected)
    assert len(most) == n
    assert not held._files


def test_chunks_of_both_ways_and_lost_voxels_in_one_group(store, monkeypatch):
    """What was fetched for one chunk is not overwritten while a voxel of another is done again."""
    betas = load_subject("01", store).get_betas(mask_source="rsquare")
    assert np.isnan(betas).any()
    expected = noise_ceiling(betas).compute()
    add, n = native.add_files, iter(range(10**6))
    monkeypatch.setattr(native, "add_files", lambda *those: next(n) % 2 == 1 and add(*those))
    np.testing.assert_array_equal(noise_ceiling(betas), expected)
    assert next(n) > 4


def test_held_files(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "out").symlink_to("/etc/hostname")
    store = DiskStore(tmp_path)
    with store.held(["a", "b"]) as first, store.held(["b", "a"]) as second:
        assert second == first[::-1]
        assert [os.pread(file, 9, 0) for file in first] == [b"a", b"b"]
        with store.held(["a", "missing"]) as none, store.held(["missing"]) as too:
            assert none is too is None
        with pickle.loads(pickle.dumps(store)).held(["a"]) as third:
            assert third == first[:1]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pread(first[0], 1, 0)
    with pytest.raises(StoreError, match=r"out is a link to .*, outside"), store.held(["a", "out"]):
        pass
    assert not disk._HELD._files


def test_no_more_files_are_held_than_leave_some_for_others(tmp_path, monkeypatch):
    """As many as stores there are: a process has one limit. None is kept of a list that is cut."""
    for name in "abc":
        (tmp_path / name).touch()
    one, other = DiskStore(tmp_path), DiskStore(tmp_path)
    monkeypatch.setattr(disk.resource, "getrlimit", lambda which: (11, 11))
    with one.held(["a"]) as first:
        with other.held(["b", "c"]) as none:
            assert none is None
            assert len(disk._HELD._files) == 1
        with other.held(["b", "a"]) as both:
            assert both is not None
            assert both[1:] == first
    monkeypatch.setattr(disk.resource, "getrlimit", lambda which: (-1, -1))  # no limit
    with one.held(["a", "b", "c"]) as all_:
        assert all_ is not None


def _files_of(folder, pipe):
    here = [file for file in psutil.Process().open_files() if str(folder) in file.path]
    with DiskStore(folder).held(["a"]) as own:
        pipe.send((len(here), os.pread(own[0], 9, 0)))


def test_a_forked_process_has_files_and_locks_of_its_own(tmp_path):
    (tmp_path / "a").write_bytes(b"beta")
    context = multiprocessing.get_context("fork")
    ours, its = context.Pipe(duplex=False)
    with DiskStore(tmp_path).held(["a"]) as file, disk._HELD._lock:
        child = context.Process(target=_files_of, args=(tmp_path, its))
        child.start()
        assert ours.poll(60)
        assert ours.recv() == (0, b"beta")
        child.join()
        assert os.pread(file[0], 9, 0) == b"beta"


class Meeting(Elsewhere):
    """A store whose first request of a session's betas waits for the second, of another thread."""

    met = threading.Barrier(2)
    turns: Iterator[int] = iter(())

    async def get(self, key, prototype=None, byte_range=None):
        if key.endswith("ses-01/betas/c/0/0") and next(self.turns) < 2:
            await asyncio.to_thread(self.met.wait)
        return await super().get(key, prototype, byte_range)


def test_threads_fetch_at_the_same_time(store, monkeypatch):
    monkeypatch.setattr(stream, "READ_BYTES", 1)  # a group of voxels for each chunk
    monkeypatch.setattr(Meeting, "met", threading.Barrier(2, timeout=30))
    monkeypatch.setattr(Meeting, "turns", itertools.count())
    lazy = noise_ceiling(load_subject("01", Meeting(LocalStore(store))).get_betas())
    with dask.config.set(scheduler="threads", num_workers=2):
        found = lazy.compute()
    np.testing.assert_array_equal(found, noise_ceiling(load_subject("01", store).get_betas()))
    assert next(Meeting.turns) > 2


def test_functions_are_tried():
    """What is missing, or does something else, is not used."""
    with pytest.raises(ImportError, match="the system has no function no_such_function"):
        native._function(None, "no_such_function", int)
    own = native.FUNCTIONS
    native._tried(own)
    with pytest.raises(ImportError, match="CRC-32C"):
        native._tried(own._replace(checksum=lambda data, n: 0))
    with pytest.raises(ImportError, match="c-blosc"):
        native._tried(own._replace(decompress=lambda *_: 16384))


def test_a_damaged_chunk_is_named_by_the_other_way(store, copy_of, calls):
    path = copy_of(store)
    (shard,) = (path / "sub-01" / "ses-02" / "betas" / "c").glob("*/*")
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match=r"ses-02/betas/c/0/0 cannot be decoded: checksum"):
        noise_ceiling(load_subject("01", path).get_betas()).compute()
    assert False in calls


def test_what_was_compiled_of_other_sources_is_not_used(monkeypatch):
    from laion_zarr.analysis.streams import compiled

    now = compiled._sources()
    assert compiled.add_sessions.__qualname__.endswith(now)
    assert native.add_files.__qualname__.endswith(now)
    monkeypatch.setattr(compiled, "CHUNK_VOXELS", 64)
    assert compiled._sources.__wrapped__() != now
