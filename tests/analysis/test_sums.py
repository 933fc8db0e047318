"""Statistics while trials are added up, against plain numpy: compiled, and without a compiler."""

from __future__ import annotations

import pickle
import sys
from unittest import mock

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statistics_by_hand import ceiling_of, means_of, reliability_of, scores
from zarr.storage import LocalStore, WrapperStore

from laion_zarr import load_subject
from laion_zarr.analysis import noise_ceiling, reliability, repeats, split_half_reliability, streams
from laion_zarr.analysis.streams import stream
from laion_zarr.analysis.streams.stream import Stream
from laion_zarr.analysis.streams.trials import TrialGroups
from laion_zarr.arrays import lazy
from laion_zarr.arrays.dask_blocks import source_of
from laion_zarr.errors import StoreError
from laion_zarr.store.schema import CHUNK_VOXELS

COMPILED = stream.compiled_loops()
FINISHES = {
    "ceiling": reliability._CEILING,
    "halves": reliability._HALVES,
    "means": repeats._MEANS,
}
# Of the range of what is computed: percent, correlations, and means of the betas.
CLOSE = 5e-6


class Chunks:
    """Chunks of betas (session: (voxel, trial)) in storage order, the last one partly filled."""

    def __init__(self, sessions, ids):
        self.sessions, self.ids = sessions, ids

    def unpack(self, session, chunk, out):
        lo = self.ids[chunk] * CHUNK_VOXELS
        part = self.sessions[session][lo : lo + CHUNK_VOXELS]
        out[:] = np.nan
        out[: len(part)] = part
        return out

    def in_files(self):
        yield from [None] * len(self.ids)


class Handle:
    """Betas of a subject in memory, in place of a store."""

    def __init__(self, values, n_trials, order):
        stored = np.empty_like(values.T)
        stored[order] = values.T
        cuts = np.cumsum(list(n_trials.values()))[:-1]
        self.sessions = dict(zip(n_trials, np.split(stored, cuts, axis=1), strict=True))
        self.order = order

    def storage_order(self):
        return self.order

    def array(self, session, spec):
        return self.sessions[session]


def computed(values, n_trials, groups, finish, voxels, order, compiled):
    """What a stream computes of some voxels, given as positions."""
    betas = lazy.LazyBetas(Handle(values, n_trials, order), n_trials, values.shape[1])
    with (
        mock.patch.object(
            lazy, "PackedChunks", lambda arrays, ids, _: Chunks([own for own, _ in arrays], ids)
        ),
        mock.patch.object(stream, "compiled_loops", return_value=COMPILED if compiled else None),
    ):
        work = Stream(betas, groups, finish)
        first = work(voxels)
        np.testing.assert_array_equal(work(voxels[::-1])[..., ::-1], first)  # memory is used again
        return first


def expected(values, groups, name):
    """The same in plain numpy, on the trials that are counted."""
    if groups.scored is not None:
        known = groups.scored >= 0
        values = values.copy()
        values[known] = scores(values[known], groups.scored[known].tolist())
    counted = groups.images >= 0
    values, labels = values[counted].astype(np.float64), groups.images[counted].tolist()
    with np.errstate(invalid="ignore"):
        if name == "ceiling":
            return ceiling_of(values, labels)
        if name == "halves":
            return reliability_of(values, labels)
    return means_of(values, labels)[1]


@st.composite
def subjects(draw):
    """Betas of a few sessions of different length, of more voxels than a chunk has."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    widths = draw(st.lists(st.integers(4, 40), min_size=1, max_size=4))
    n_trials = {f"ses-{n:02}": width for n, width in enumerate(widths)}
    total, n_voxels = sum(widths), draw(st.sampled_from([1, 40, 300]))
    n_images = draw(st.integers(1, 3 * total))
    codes = np.unique(rng.integers(0, n_images, total), return_inverse=True)[1]
    signal = rng.standard_normal((codes.max() + 1, n_voxels))[codes]
    offset, scale = draw(st.sampled_from([(0, 1), (-3, 0.5), (100, 7)]))
    values = (offset + scale * (signal + rng.standard_normal((total, n_voxels)))).astype(np.float32)
    session = np.repeat(np.arange(len(widths)), widths)
    for voxel in rng.integers(0, n_voxels, 8):  # what is missing, and what does not vary
        where = draw(st.sampled_from(["a trial", "a session", "everywhere"]))
        here = {
            "a trial": np.arange(total) == rng.integers(total),
            "a session": session == rng.integers(len(widths)),
            "everywhere": np.ones(total, bool),
        }[where]
        values[here, voxel] = draw(st.sampled_from([np.nan, offset]))
    by = draw(st.sampled_from(["session", "run", "runs mixed", None]))
    part = rng.integers(0, 3, total) if by == "runs mixed" else np.arange(total) % 40 // 14
    run = 3 * session + part
    scored = {"session": session, None: None}.get(by, run)
    if draw(st.booleans()):  # some trials are z-scored and not counted, some not even that
        codes = np.where(rng.random(total) < 0.8, codes, -1)
        codes = np.unique(codes, return_inverse=True)[1] - (codes.min() < 0)
        if scored is not None:
            scored = np.where((codes >= 0) | (rng.random(total) < 0.5), scored, -1)
    some = rng.permutation(n_voxels)[: draw(st.integers(1, 25))]
    return values, n_trials, TrialGroups(codes, scored), some, rng.permutation(n_voxels)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", FINISHES)
@given(subject=subjects())
@settings(max_examples=12)
def test_any_subject(name, compiled, subject):
    if compiled and COMPILED is None:
        pytest.skip("no numba")
    values, n_trials, groups, voxels, order = subject
    used = groups
    if name == "halves":  # of images with two trials or more, as split_half_reliability asks
        often = np.bincount(groups.images[groups.images >= 0])[groups.images] > 1
        used = TrialGroups(np.where(often, groups.images, -1), groups.scored)
    found = computed(values, n_trials, used, FINISHES[name], voxels, order, compiled)
    assert found.dtype == np.float32
    wanted = expected(values[:, voxels], groups, name)
    size = {"ceiling": 100, "halves": 2}.get(name, np.nanmax(np.abs(wanted), initial=1))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=CLOSE * size)


def test_ceilings_do_not_depend_on_threads_or_on_what_is_read_together(sub, monkeypatch):
    betas = sub.get_betas()
    answer = noise_ceiling(betas).compute(scheduler="synchronous")
    monkeypatch.setattr(stream, "READ_BYTES", 1)
    for n in (1, 2, 7):
        with dask.config.set(scheduler="threads", num_workers=n):
            np.testing.assert_array_equal(noise_ceiling(betas), answer)


def test_without_a_compiler(sub, monkeypatch):
    """A numba that is missing, or too old for numpy, leaves the numpy way, which is as exact."""
    betas = sub.get_betas(roi="face")
    given = {
        "ceiling": (noise_ceiling(betas), 100),
        "reliability": (split_half_reliability(betas), 2),
        "averages": (sub.get_image_betas(roi="face"), 5),
    }
    compiled = {name: lazy.compute() for name, (lazy, _) in given.items()}
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "laion_zarr.analysis.streams.compiled", raising=False)
    monkeypatch.delattr(streams, "compiled", raising=False)
    monkeypatch.setattr(stream, "compiled_loops", stream.compiled_loops.__wrapped__)
    assert stream.compiled_loops() is None
    for name, (lazy_values, size) in given.items():
        np.testing.assert_allclose(
            lazy_values.compute(), compiled[name], rtol=0, atol=CLOSE * size, err_msg=name
        )


class Elsewhere(WrapperStore[LocalStore]):
    """A store that is not read as a local one."""


@pytest.mark.parametrize("opened", [str, lambda path: Elsewhere(LocalStore(path))])
def test_what_is_added_up_is_proven(store, copy_of, opened):
    path = copy_of(store)
    betas = load_subject("01", opened(path)).get_betas()
    expected = noise_ceiling(betas).compute()
    np.testing.assert_array_equal(expected, noise_ceiling(load_subject("01", store).get_betas()))
    shard = path / "sub-01" / "ses-02" / "betas" / "c" / "0" / "0"
    whole = shard.read_bytes()
    source = source_of(betas.data)
    table = source.betas.handle.array("ses-02", lazy.LazyBetas.spec)._table
    used = np.unique(source.betas.handle.storage_order()[source.voxels] // CHUNK_VOXELS)
    rng = np.random.default_rng(0)
    for offset, nbytes, _ in table[used[:6]].tolist():
        flipped = bytearray(whole)
        flipped[offset + int(rng.integers(nbytes - 4))] ^= 1 << int(rng.integers(8))
        shard.write_bytes(flipped)
        with pytest.raises(StoreError, match=r"ses-02/betas/c/0/0 cannot be decoded: checksum"):
            noise_ceiling(betas).compute()
    shard.write_bytes(whole[: table[0, 1] // 2])
    with pytest.raises(StoreError, match="is cut short"):
        noise_ceiling(betas).compute()
    shard.unlink()
    with pytest.raises(StoreError, match="is missing"):
        noise_ceiling(betas).compute()


def test_what_is_sent_is_small(sub):
    """Neither plans nor memory of finished tasks travel."""
    source = source_of(sub.get_betas().data)
    groups = TrialGroups(np.zeros(len(source.trials), int))
    work = Stream(source.betas, groups, FINISHES["ceiling"])
    before = len(pickle.dumps(work))
    work(np.arange(10))
    assert len(pickle.dumps(work)) == before
