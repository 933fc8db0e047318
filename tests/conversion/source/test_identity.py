"""A corrected file of the same name and size is another file, however it is packed."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import zlib
from itertools import pairwise

import h5py
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_mirror import SHAPE, inside, nifti, pack, put, report_of, roi_file, surface_file, tree

from laion_zarr import load_subject
from laion_zarr.conversion.source import identity as module
from laion_zarr.conversion.source.files import open_source
from laion_zarr.conversion.source.identity import identify, same_version
from laion_zarr.conversion.verification import sources as verification
from laion_zarr.conversion.verification.store import run_verification
from laion_zarr.errors import SourceError
from laion_zarr.store.manifest import dump_manifest

ROI = "FFA1"


def bgzip(*blocks):
    """Members with their sizes in the header, and an empty last one."""
    found = b""
    for data in (*blocks, b""):
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = packer.compress(data) + packer.flush()
        head = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff\x06\0BC\x02\0"
        end = struct.pack("<II", zlib.crc32(data), len(data))
        found += head + struct.pack("<H", len(body) + 25) + body + end
    return found


def cut(data, count=3):
    """The bytes in pieces."""
    edges = np.linspace(0, len(data), count + 1).astype(int)
    return [data[lo:hi] for lo, hi in pairwise(edges)]


def stored(data):
    """A gzip whose content is not compressed: of the same size, whatever the content."""
    return gzip.compress(data, compresslevel=0, mtime=0)


PACKINGS = {
    "bgzip": lambda data: bgzip(*cut(data)),
    "members, the last one as before": lambda data: stored(data[:-20]) + stored(data[-20:]),
    "padded to blocks": lambda data: stored(data) + bytes(-len(stored(data)) % 512),
    "padded by four": lambda data: stored(data) + bytes(4),
    "one member": stored,
    "with a name and a comment": lambda data: (
        b"\x1f\x8b\x08\x18" + bytes(6) + b"a\0b\0" + stored(data)[10:]
    ),
}


def same_size(how, values):
    """A mask that differs from `values`, of the same packed size."""
    first = how(nifti(values))
    for axis, shift in ((a, s) for s in range(1, 5) for a in range(3)):
        other = np.roll(values, shift, axis)
        if not np.array_equal(other, values) and len(how(nifti(other))) == len(first):
            return other
    raise AssertionError("none")


@pytest.mark.parametrize("how", PACKINGS.values(), ids=PACKINGS)
def test_a_corrected_mask_is_taken(mirror, new, how):
    values = np.zeros(SHAPE, np.uint8)
    values[1:3, 1:3, 1] = 1
    put(mirror, roi_file(ROI), how(nifti(values)))
    assert not report_of(mirror, new, subjects="01").failed
    report = report_of(mirror, new, subjects="01")
    assert not report.converted
    assert not run_verification(new, mirror, False, None, False).problems
    other = same_size(how, values)
    put(mirror, roi_file(ROI), how(nifti(other)))
    problems = run_verification(new, mirror, False, None, False).problems
    assert len(problems) == 1
    assert "is not the file that was converted" in problems[0]
    assert report_of(mirror, new, subjects="01").converted == ["sub-01 voxels"]
    assert not run_verification(new, mirror, True, None, False).problems
    found = load_subject("01", new).get_roi_mask(ROI, mask_source="anatomical").values
    assert found.tolist() == (other.ravel() != 0)[inside(mirror, "anatomical")].tolist()


def test_a_corrected_label_is_taken(mirror, kept):
    path = mirror / surface_file(ROI, "L", "label")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], *lines[:1:-1], ""]))  # the same rows, in another order
    assert report_of(mirror, kept).converted == ["sub-01 surfaces"]


# -- any file


def plain(data):
    return lambda start, end: data[start:end]


@given(st.binary(min_size=1, max_size=3000), st.data(), st.sampled_from(["a.nii.gz", "a.h5"]))
def test_any_small_file(data, draw, name):
    at = draw.draw(st.integers(0, len(data) - 1))
    other = data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
    one, two = (identify(name, len(d), plain(d)) for d in (data, other))
    assert not same_version(one, two)
    assert same_version(one, identify(name, len(data), plain(data)))
    assert same_version(json.loads(json.dumps(one)), one)


NAMES = ("a.nii.gz", "a.tsv", "a.h5", "a.nii")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["zeros", "random", "bgzip", "padded"])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 17, 18, 4096, 5001, 20_001])
def test_verification_has_the_same_rule(tmp_path, monkeypatch, name, kind, size):
    """Also of files that are read in part; the limits are lowered for it."""
    data = np.random.default_rng(size).bytes(size)
    data = {"zeros": bytes(size), "random": data, "padded": pack(data) + bytes(9)}.get(
        kind, bgzip(*cut(data))
    )
    (tmp_path / name).write_bytes(data)
    source = open_source(tmp_path)
    assert verification.difference(tmp_path / name, source.identity(name)) is None
    spans = []
    monkeypatch.setattr(module, "SMALL", 6000)
    monkeypatch.setattr(module, "WHOLE", 12_000)
    found = identify(name, len(data), lambda a, b: spans.append((a, b)) or data[a:b])
    assert found["size"] == len(data)
    assert all(0 <= start <= end <= len(data) for start, end in spans)
    if len(data) > 12_000:
        assert spans[0][0] == 0
        assert len(data) in {end for _, end in spans}
        assert "sample" in found


def sparse(path, size, **bytes_at):
    with path.open("wb") as file:
        file.truncate(size)
        for at, data in bytes_at.items():
            file.seek(int(at.removeprefix("at_")))
            file.write(data)


@pytest.mark.parametrize(("name", "most"), [("a.nii.gz", 9), ("a.h5", 64), ("a.nii", 64)])
def test_a_huge_file_is_not_read_whole(tmp_path, name, most):
    """A 2 GB file takes some pieces of 4 kB, which lie all over it."""
    size = 2 << 30
    sparse(tmp_path / name, size, at_0=b"\x1f\x8b\x08\0" + bytes(6))
    spans = []
    with (tmp_path / name).open("rb") as file:

        def read(start, end):
            spans.append((start, end))
            file.seek(start)
            return file.read(end - start)

        found = identify(name, size, read)
    assert sum(end - start for start, end in spans) <= (most + 1) * 4096
    gaps = np.diff(sorted(start for start, _ in spans))
    assert gaps.max() <= size / (most - 2)
    assert found == open_source(tmp_path).identity(name)
    assert verification.difference(tmp_path / name, found) is None
    sparse(tmp_path / name, size, at_0=b"\x1f\x8b\x08\0" + bytes(6), **{f"at_{size - 9}": b"x"})
    assert not same_version(found, open_source(tmp_path).identity(name))


# -- stores of before


def older(recorded):
    return {key: value for key, value in recorded.items() if key != "sample"}


def without_samples(store):
    """Make a store what it was before there were samples."""
    for manifest in [*store.glob("sub-*/manifest.json"), *store.glob("stimuli/manifest.json")]:
        body = json.loads(manifest.read_text())
        for part in body["parts"].values():
            part["sources"] = {name: older(its) for name, its in part["sources"].items()}
        manifest.write_bytes(dump_manifest(body))
    return store


def test_an_older_store_is_not_converted_again(mirror, kept):
    without_samples(kept)
    before = tree(kept, "sub-*/**/*")
    report = report_of(mirror, kept)
    assert not report.converted
    assert not report.failed
    assert tree(kept, "sub-*/**/*") == before
    assert not run_verification(kept, mirror, False, None, False).problems


@pytest.mark.parametrize("how", ["bgzip", "padded to blocks"])
def test_what_an_older_store_cannot_know_is_converted_once(mirror, new, how):
    values = np.zeros(SHAPE, np.uint8)
    values[1:3, 1:3, 1] = 1
    put(mirror, roi_file(ROI), PACKINGS[how](nifti(values)))
    report_of(mirror, new, subjects="01", parts="anatomy")
    without_samples(new)
    problems = run_verification(new, mirror, False, None, False).problems
    assert ["may be another file" in problem for problem in problems] == [True]
    assert report_of(mirror, new, subjects="01", parts="anatomy").converted == ["sub-01 voxels"]
    assert not report_of(mirror, new, subjects="01", parts="anatomy").converted
    assert not run_verification(new, mirror, False, None, False).problems


@pytest.mark.parametrize(
    ("recorded", "current", "same"),
    [
        (None, {"size": 1, "crc32": 2}, False),
        ({"size": 1, "crc32": 2}, {"size": 1, "crc32": 2}, True),
        ({"size": 1, "crc32": 2}, {"size": 1, "crc32": 2, "sample": 3}, True),
        ({"size": 1, "crc32": 2}, {"size": 1, "crc32": 4, "sample": 3}, False),
        ({"size": 1, "crc32": 2}, {"size": 2, "crc32": 2, "sample": 3}, False),
        ({"size": 1, "crc32": 0}, {"size": 1, "sample": 3}, False),
        ({"size": 1, "crc32": 2, "sample": 3}, {"size": 1, "crc32": 2, "sample": 3}, True),
        ({"size": 1, "crc32": 2, "sample": 3}, {"size": 1, "crc32": 2, "sample": 4}, False),
        ({"size": 1, "sample": 3}, {"size": 1, "crc32": 2, "sample": 3}, False),
    ],
)
def test_same_version(recorded, current, same):
    assert same_version(recorded, current) is same


def test_a_file_that_changes_meanwhile(mirror):
    """It is not said to be damaged: nothing is wrong with it."""
    source, path = open_source(mirror), roi_file(ROI)
    was = source.identity(path)
    source.check_unchanged({path: was})
    put(mirror, path, pack(nifti(np.ones(SHAPE, np.uint8))))
    with pytest.raises(SourceError, match="another one") as caught:
        source.check_unchanged({path: was})
    assert "Delete" not in str(caught.value)


def test_hdf5_changed_in_place(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["embedding"] = np.zeros((700, 1024), np.float16)
    before = open_source(tmp_path).identity("a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["embedding"][403, 7] = 1
    after = open_source(tmp_path).identity("a.h5")
    assert before["size"] == after["size"]
    assert not same_version(before, after)


def test_a_copy_of_the_mirror_is_the_mirror(mirror, kept, tmp_path):
    """Other times and inodes, the same content."""
    assert nib.load(mirror / roi_file(ROI)).shape == SHAPE
    copy = shutil.copytree(mirror, tmp_path / "copy", copy_function=shutil.copyfile)
    assert not report_of(copy, kept).converted
