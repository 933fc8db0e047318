"""Which bytes of the stimuli are read, when, how often; and reading in threads and processes."""

from __future__ import annotations

import csv
import io
import pickle
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from counting_store import CountingStore
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from slow_store import SlowStore
from zarr.storage import LocalStore

from laion_zarr import Captions, Segmentations, convert, load_stimuli, load_subject
from laion_zarr.conversion.synthetic import Size, write_dataset
from laion_zarr.stimuli import picture_files

CHUNK, CHUNKS_PER_SHARD, CRC = 1 << 17, 1024, 4  # as docs/store.md has them


@pytest.fixture
def counting(store):
    return CountingStore(store)


def noise(side, seed):
    """A PNG of about 3 × side² bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), "u1")
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", compress_level=0)
    return data.getvalue()


def write_pictures(root, pictures):
    """A mirror of pictures alone."""
    folder = root / "stimuli"
    folder.mkdir(parents=True)
    with h5py.File(folder / "task-images_stimuli.h5", "w") as file:
        images = file.create_dataset("images", len(pictures), h5py.vlen_dtype(np.uint8))
        for row, data in enumerate(pictures.values()):
            images[row] = np.frombuffer(data, np.uint8)
    with (folder / "task-images_metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image_name"], *([name] for name in pictures)])
    return root


@pytest.fixture(scope="module")
def heavy(tmp_path_factory):
    """Pictures of 7 to 500 kB, most of which cross one chunk or several; and their store."""
    sides = (300, 50, 209, 209, 410, 90, 250)
    pictures = {f"shared_{n}.png": noise(side, n) for n, side in enumerate(sides)}
    folder = tmp_path_factory.mktemp("heavy")
    convert(write_pictures(folder, pictures), folder / "s.zarr", progress=False)
    return pictures, folder / "s.zarr"


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A subject whose trials show pictures from several chunks of the embeddings."""
    folder = tmp_path_factory.mktemp("many")
    size = Size((11, 13, 12), 17.0, (190, 190), 2, (17, 21, 19), 10.5, (4, 5), 8, (16, 8, 8, 8))
    write_dataset(folder, size)
    convert(folder, folder / "s.zarr", progress=False)
    return folder / "s.zarr"


# -- what is read


def test_opening_reads_two_small_files(counting):
    stim = load_stimuli(counting)
    assert sorted(counting.small()) == ["stimuli/manifest.json", "zarr.json"]
    repr(stim), stim.images, stim.embeddings, stim.segmentations, stim.captions
    assert counting.bulk() == []


def test_lazy_arrays_read_nothing_in_bulk(counting):
    stim, sub = load_stimuli(counting), load_subject("01", counting)
    lazy = [
        stim.images.array(),
        stim.images.array([1, 2], size=(9, 9)),
        stim.dataset,
        stim.dataset.sel(image=stim.images.names()[3]),
        stim.embeddings["CLIP"],
        stim.segmentations.masks,
        sub.images.array(),
        sub.embeddings.all("CLIP", "ses-02"),
    ]
    for array in lazy:
        repr(array), array._repr_html_()
    names = stim.images.names()
    stim.segmentations.nouns(names[0]), stim.captions.list(names[0]), stim.metadata
    assert names[0] in stim.images
    assert counting.bulk() == []


def test_what_is_small_is_read_once(counting):
    stim = load_stimuli(counting)
    for _ in range(3):
        for name in stim.images.names():
            stim.images.get(name), stim.images[name], stim.embeddings.get("CLIP", name)
            stim.segmentations.nouns(name), stim.captions.list(name), stim.captions.ai(name)
            for noun in stim.segmentations.nouns(name):
                stim.segmentations.get(name, noun)
        assert len(stim.metadata) == len(stim)
        assert len(stim.segmentations.metadata) == len(stim.segmentations)
        stim.dataset.load(), stim.images.array().load(), repr(stim)
    counts = {key: counting.small().count(key) for key in counting.small()}
    assert {key for key, n in counts.items() if n > 1 + key.endswith("zarr.json")} == set()


def test_a_picture_reads_its_bytes_alone(heavy):
    pictures, store = heavy
    counting = CountingStore(store)
    stim = load_stimuli(counting)
    stim.images.get(0)
    start, crossing = 0, []
    for name, data in pictures.items():
        counting.reads.clear()
        assert stim.images[name] == data
        chunks = (start + len(data) - 1) // CHUNK - start // CHUNK
        ((key, span, nbytes),) = counting.reads
        assert key == "stimuli/images/data/c/0"
        assert nbytes == len(data) + CRC * chunks == span.end - span.start
        assert span.start == start + CRC * (start // CHUNK)
        start, crossing = start + len(data), [*crossing, chunks]
        decoded = np.asarray(stim.images.get(name))
        np.testing.assert_array_equal(decoded, np.asarray(Image.open(io.BytesIO(data))))
    assert {0, 1, 3} <= set(crossing)
    assert list(stim.images) == list(pictures.items())


def test_one_mask_is_one_request_of_its_size(counting, store):
    segmentations = Segmentations(counting)
    segmentations.get(segmentations.images()[0], segmentations.metadata["noun"].iloc[0])
    data = (store / "stimuli/segmentations/masks/c/0/0/0").read_bytes()
    index = np.frombuffer(data[-CRC - 16 * 4096 : -CRC], "<u8").reshape(-1, 2)
    for row in segmentations.metadata.itertuples():
        counting.reads.clear()
        segmentations.get(row.image_name, row.noun, row.instance_id)
        ((key, span, nbytes),) = counting.reads
        offset, size = map(int, index[row.mask_row])
        assert key == "stimuli/segmentations/masks/c/0/0/0"
        assert (span.start, span.end, nbytes) == (offset, offset + size, size)


def test_captions_read_no_other_part(counting):
    captions = Captions(counting)
    captions.list(0), captions.metadata
    parts = {key.split("/")[1] for key in counting.small() if key.count("/") > 1}
    assert parts <= {"captions", "metadata"}


def ranges(reads):
    return sorted((key, span.start, span.end) for key, span, _ in reads)


def test_embeddings_of_all_trials_read_each_chunk_once(many, monkeypatch):
    monkeypatch.setattr("laion_zarr.stimuli.embeddings._TRIALS_PER_BLOCK", 100)
    counting = CountingStore(many)
    sub = load_subject("01", counting)
    lazy = sub.embeddings.all("CLIP")
    assert lazy.data.npartitions > 2  # blocks that show the same images share what is read
    values = lazy.compute()
    expected = sub.embeddings.get("CLIP", list(range(len(lazy))))
    np.testing.assert_array_equal(values, expected)
    counting.reads.clear()
    load_subject("01", counting).embeddings.all("CLIP").compute()
    reads = ranges(counting.bulk())
    assert reads
    for (key, _, end), (other, start, _) in pairwise(reads):
        assert key != other or end <= start
    counting.reads.clear()
    again = sub.embeddings.all("CLIP").compute(scheduler="synchronous")
    assert ranges(counting.reads) == reads  # and nothing small again
    xr.testing.assert_identical(again, values)
    n_images = len(sub.get_stimulus_metadata())
    assert n_images > 3 * 64
    counting.reads.clear()
    sub.embeddings.get("CLIP", 0)
    ((_, span, _),) = counting.reads
    assert span.end - span.start < 64 * 16 * 2 + 100  # one chunk


def test_one_embedding_reads_one_chunk(many):
    counting = CountingStore(many)
    stim = load_stimuli(counting)
    stim.embeddings.get("CLIP", 0)
    for row in (0, 63, 64, 200):
        counting.reads.clear()
        stim.embeddings.get("CLIP", row)
        ((_, span, _),) = counting.reads
        assert span.end - span.start < 64 * 16 * 2 + 100


@pytest.fixture
def decoded(monkeypatch):
    """Rows of the pictures that are decoded."""
    rows, plain = [], picture_files.decode

    def decode(handle, row, data):
        rows.append(int(row))
        return plain(handle, row, data)

    monkeypatch.setattr(picture_files, "decode", decode)
    return rows


def test_a_repeated_picture_is_decoded_once_a_block(counting, decoded):
    sub = load_subject("01", counting)
    labels = sub.metadata["label"].tolist()
    assert len(set(labels)) < len(labels)
    pictures = sub.images.array()
    assert decoded == []
    blocks = np.split(np.array(labels, object), np.cumsum(pictures.chunks[0])[:-1])
    pictures.compute()
    assert len(decoded) == sum(len(set(block)) for block in blocks)
    assert len(counting.bulk()) == len(decoded)


def test_repeats_by_key_are_decoded_once(store, decoded):
    load_stimuli(store).images.array([3] * 20 + [4]).compute()
    assert sorted(decoded) == [3, 4]


def test_pictures_are_chunked_for_parallel_decoding(tmp_path):
    pictures = {f"{n}.png": noise(8, n) for n in range(150)}
    convert(write_pictures(tmp_path, pictures), tmp_path / "s.zarr", progress=False)
    images = load_stimuli(tmp_path / "s.zarr").images.array()
    assert len(images.chunks[0]) >= 2
    assert images.chunks[1:] == ((8,), (8,), (3,))
    wanted = [np.asarray(Image.open(io.BytesIO(data))) for data in pictures.values()]
    np.testing.assert_array_equal(images, wanted)


def test_stimuli_in_a_bucket_open_in_few_rounds(store):
    bucket = SlowStore(LocalStore(store, read_only=True))
    stim = load_stimuli(bucket)
    name = stim.images.names()[0]
    stim.images.get(name)
    assert bucket.rounds <= 5
    before = bucket.rounds
    stim.images.array(range(8)).compute()
    assert bucket.rounds - before == 1


# -- bytes across chunks and shards

SHARD = CHUNK * CHUNKS_PER_SHARD


def brute_force(start, end):
    """Shard, first and last stored byte, byte by byte."""
    found = {}
    for n in range(start, end):
        inside = n % SHARD
        found.setdefault(n // SHARD, []).append(inside + CRC * (inside // CHUNK))
    return [(shard, places[0], places[-1]) for shard, places in found.items()]


near_edges = st.builds(
    lambda shard, chunk, off: max(0, shard * SHARD + chunk * CHUNK + off),
    st.integers(0, 3),
    st.sampled_from([0, 1, 2, 511, 1022, 1023]),
    st.integers(-3, 3),
)


@given(near_edges, st.one_of(st.integers(0, 8), st.integers(CHUNK - 4, CHUNK + 4)))
def test_pieces(start, length):
    found = list(picture_files._pieces(start, start + length))
    assert found == brute_force(start, start + length)


@given(st.integers(0, 3 * CHUNK), st.integers(1, 3 * CHUNK + 5))
def test_checksums_are_left_out(start, length):
    chunks = np.random.default_rng(0).integers(0, 256, (7, CHUNK), "u1")
    stored = np.concatenate([np.append(chunk, [9, 9, 9, 9]) for chunk in chunks]).astype("u1")
    ((_, first, last),) = picture_files._pieces(start, start + length)
    found = picture_files._without_checksums(stored[first : last + 1], first)
    assert found == chunks.tobytes()[start : start + length]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12))
def test_pictures_in_small_chunks_and_shards(sizes):
    """Chunks of 5 and shards of 15 bytes: pictures are whole wherever they are cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture_files, "_CHUNK", 5)
        patch.setattr(picture_files, "_SHARD", 15)
        patch.setattr(picture_files, "_STORED_CHUNK", 9)
        content = bytes(range(1, 256)) * (2 + sum(sizes) // 255)
        shards = [
            b"".join(content[lo + k : lo + k + 5] + b"\0" * 4 for k in (0, 5, 10))
            for lo in range(0, len(content) - 15, 15)
        ]
        for end, size in zip(np.cumsum(sizes).tolist(), sizes, strict=True):
            parts = [
                picture_files._without_checksums(np.frombuffer(shards[s], "u1")[lo : hi + 1], lo)
                for s, lo, hi in picture_files._pieces(end - size, end)
            ]
            assert b"".join(parts) == content[end - size : end]


def test_a_picture_across_shards(tmp_path):
    """Two shards of 128 MB each would be; the second holds just the end of one picture."""
    pictures = {
        "filler": bytes(SHARD - 100_000),
        "across.png": noise(250, 1),
        "after.png": noise(20, 2),
    }
    convert(write_pictures(tmp_path, pictures), tmp_path / "s.zarr", progress=False)
    counting = CountingStore(tmp_path / "s.zarr")
    stim = load_stimuli(counting)
    assert stim.images["after.png"] == pictures["after.png"]
    counting.reads.clear()
    assert stim.images["across.png"] == pictures["across.png"]
    assert {key[-1] for key, _, _ in counting.reads} == {"0", "1"}
    assert sum(nbytes for _, _, nbytes in counting.reads) == len(pictures["across.png"])
    wanted = np.asarray(Image.open(io.BytesIO(pictures["across.png"])))
    np.testing.assert_array_equal(stim.images.array(["across.png"])[0], wanted)
    shutil.rmtree(tmp_path)


# -- sent to others

SMALL = 4_000


def namespaces(stim, sub):
    return {
        "stimuli": stim,
        "images": stim.images,
        "embeddings": stim.embeddings,
        "segmentations": stim.segmentations,
        "captions": stim.captions,
        "subject": sub,
        "its images": sub.images,
        "its embeddings": sub.embeddings,
        "its segmentations": sub.segmentations,
        "its captions": sub.captions,
    }


def pickled_sizes(stim, sub):
    return {name: len(pickle.dumps(thing)) for name, thing in namespaces(stim, sub).items()}


def test_namespaces_pickle_small(many):
    """A pickle holds the location of the store, not data."""
    sizes = pickled_sizes(load_stimuli(many), load_subject("01", many))
    assert {name: size for name, size in sizes.items() if size > SMALL} == {}


def test_what_was_read_is_not_pickled(many):
    stim, sub = load_stimuli(many), load_subject("01", many)
    before = pickled_sizes(stim, sub)
    for thing in (stim, sub):
        ask(thing)
    after = pickled_sizes(stim, sub)
    assert {name: n for name, n in after.items() if n > before[name] + 100} == {}


def ask(thing):
    """A bit of everything, the same for images and trials."""
    found = [thing.images[k] for k in (0, 5)]
    found += [np.asarray(thing.images.get(k)).tolist() for k in (1, 6)]
    found += [thing.embeddings.get("CLIP", [3, 1]).values.tobytes()]
    found += [thing.embeddings["DINOv2"].compute(scheduler="synchronous").values.tobytes()]
    found += [thing.images.array(size=(5, 5)).compute(scheduler="synchronous").values.tobytes()]
    for key in range(12):
        for noun in thing.segmentations.nouns(key, localized_only=False):
            found.append(thing.segmentations.get(key, noun).values.tobytes())
        found += [thing.captions.list(key), thing.captions.ai(key)]
    return found


def test_pickled_things_answer_the_same(store):
    stim, sub = load_stimuli(store), load_subject("01", store)
    for thing in (stim, sub):
        expected = ask(thing)
        assert ask(pickle.loads(pickle.dumps(thing))) == expected
        for name in ("images", "embeddings", "segmentations", "captions"):
            copy = type("Other", (), {})()
            for other in ("images", "embeddings", "segmentations", "captions"):
                namespace = getattr(thing, other)
                sent = pickle.loads(pickle.dumps(namespace)) if other == name else namespace
                setattr(copy, other, sent)
            assert ask(copy) == expected


def lazy_arrays(stim, sub):
    return [
        stim.images.array([4, 2, 4]),
        stim.embeddings["PEcore"],
        stim.dataset.isel(image=[3, 1])["embedding_CLIP"],
        stim.segmentations.masks,
        sub.images.array("ses-02", size=(6, 6)),
        sub.embeddings.all("SigLIP2"),
    ]


def test_in_a_process_of_its_own(store):
    """A new interpreter, as a spawned worker is, gives the same values."""
    stim, sub = load_stimuli(store), load_subject("01", store)
    lazy = lazy_arrays(stim, sub)
    expected = [array.compute() for array in lazy]
    sent = [lazy, stim, stim.images, stim.segmentations, stim.captions, sub.embeddings]
    code = """
import pickle, sys
lazy, stim, images, segmentations, captions, embeddings = pickle.load(sys.stdin.buffer)
found = [array.compute().variable for array in lazy]
found += [stim.images[3], images[3], segmentations[1].values, captions.list(2)]
found += [embeddings.get("CLIP", 4).values]
sys.stdout.buffer.write(pickle.dumps(found))
"""
    data = pickle.dumps(sent)
    assert len(data) < 200_000
    result = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True)
    assert result.returncode == 0, result.stderr.decode()
    found = pickle.loads(result.stdout)
    for variable, array in zip(found, expected, strict=False):
        xr.testing.assert_identical(variable, array.variable)
    picture, same, mask, said, row = found[len(expected) :]
    assert picture == same == stim.images[3]
    np.testing.assert_array_equal(mask, stim.segmentations[1])
    assert said == stim.captions.list(2)
    np.testing.assert_array_equal(row, sub.embeddings.get("CLIP", 4))


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_schedulers(store, scheduler):
    stim, sub = load_stimuli(store), load_subject("01", store)
    pixels = [np.asarray(stim.images.get(key)) for key in (4, 2, 4)]
    features = np.array([sub.embeddings.get("SigLIP2", trial) for trial in range(51)])
    arrays = lazy_arrays(stim, sub)
    arrays = arrays[:1] + arrays[-1:] if scheduler == "processes" else arrays
    found = [array.compute(scheduler=scheduler, num_workers=2) for array in arrays]
    np.testing.assert_array_equal(found[0], pixels)
    np.testing.assert_array_equal(found[-1], features)


@pytest.mark.filterwarnings("default")  # of distributed and tornado
def test_distributed(store):
    distributed = pytest.importorskip("distributed")
    stim, sub = load_stimuli(store), load_subject("01", store)
    expected = [array.compute() for array in lazy_arrays(stim, sub)]
    options = {"processes": False, "n_workers": 1, "threads_per_worker": 2}
    with (
        distributed.LocalCluster(**options, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        for array, values in zip(lazy_arrays(stim, sub), expected, strict=True):
            xr.testing.assert_identical(array.compute(), values)
        assert client.submit(lambda images: images[3], stim.images).result(60) == stim.images[3]
        ours = client.submit(lambda sub: sub.captions.list(2), sub).result(60)
        assert ours == sub.captions.list(2)


def test_many_threads_read_the_same(store):
    """From one object that nobody has used before, all at the same moment."""
    stim, sub = load_stimuli(store), load_subject("01", store)
    expected = [ask(load_stimuli(store)), ask(load_subject("01", store))]
    together = threading.Barrier(8)

    def run(n):
        together.wait()
        return ask((stim, sub)[n % 2])

    with ThreadPoolExecutor(8) as pool:
        for n, found in enumerate(pool.map(run, range(8))):
            assert found == expected[n % 2]


def test_a_copied_store_by_relative_path(store, copy_of, monkeypatch):
    """An object made by a relative path still works where the folder is another."""
    copy = copy_of(store)
    monkeypatch.chdir(copy.parent)
    stim = load_stimuli(Path(copy.name))
    sent = pickle.dumps([stim, stim.images.array([1])])
    monkeypatch.chdir("/")
    again, pictures = pickle.loads(sent)
    assert again.images[1] == stim.images[1]
    np.testing.assert_array_equal(pictures[0], np.asarray(stim.images.get(1)))
