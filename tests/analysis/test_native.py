"""Chunks in files go through compiled code alone, with the values and errors of the other ways."""

from __future__ import annotations

import os
import pickle

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
    held = sub._handle.stored.store._held
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
    monkeypatch.setattr(disk, "_MOST_HELD", 1)  # too few: each chunk is then read by itself
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
        own = pickle.loads(pickle.dumps(store))
        assert not own._held._files
        with store.held(["a", "missing"]) as none:
            assert none is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pread(first[0], 1, 0)
    with pytest.raises(StoreError, match=r"out is a link to .*, outside"), store.held(["a", "out"]):
        pass
    assert not store._held._files


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
