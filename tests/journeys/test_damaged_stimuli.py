"""Damaged stimulus files: a clear error for their part, and all other parts right."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zlib

import h5py
import numpy as np
import pytest
from stimulus_mirror import (
    CAPTION_TABLE,
    FILE_OF,
    HTML,
    IMAGES,
    MASKS,
    METADATA,
    NAMES,
    SEGMENTATION_TABLE,
    caption_table,
    check,
    command,
    embeddings_file,
    embeddings_with,
    half,
    mask_array,
    metadata_table,
    names_and_mends,
    picture,
    put,
    renamed,
    report_of,
    segmentation_table,
    teaches,
    write_csv,
    write_masks,
    write_pictures,
)
from stimulus_mirror import kept as kept
from stimulus_mirror import mirror as mirror
from stimulus_mirror import new as new
from stimulus_mirror import whole as whole
from stimulus_mirror import whole_store as whole_store
from trees import tree_bytes

from laion_zarr import verify as verify_store
from laion_zarr.errors import SourceError

pytestmark = pytest.mark.minutes


def cut(share):
    return lambda root, path: put(root, path, (root / path).read_bytes()[: int(share * 1000)])


def content(data):
    return lambda root, path: put(root, path, data)


def last_byte_missing(root, path):
    put(root, path, (root / path).read_bytes()[:-1])


def hdf5(**datasets):
    """An HDF5 file with other datasets."""

    def write(root, path):
        with h5py.File(root / path, "w") as file:
            for name, values in datasets.items():
                file[name] = values

    return write


def group_instead(name):
    def write(root, path):
        with h5py.File(root / path, "w") as file:
            file.create_group(name)

    return write


ANY_HDF5 = {
    "empty": (content(b""), []),
    "one byte": (content(b"\x89"), []),
    "not HDF5": (content(b"x" * 3000), ["HDF5"]),
    "web page": (content(HTML), ["HDF5"]),
    "signature only": (content(b"\x89HDF\r\n\x1a\n"), ["HDF5"]),
    "cut in half": (half, ["HDF5"]),
    "cut in the header": (cut(0.05), ["HDF5"]),
    "last byte missing": (last_byte_missing, ["HDF5"]),
    "without datasets": (hdf5(), []),
    "other datasets": (hdf5(values=np.zeros(3)), ["values"]),
}


def pictures_as(make):
    def write(root, path):
        make(root, [picture(name) for name in NAMES])

    return write


def vlen_integers(root, pictures):
    with h5py.File(root / IMAGES, "w") as file:
        images = file.create_dataset("images", len(pictures), h5py.vlen_dtype(np.int32))
        for row, data in enumerate(pictures):
            images[row] = np.frombuffer(data, np.uint8).astype(np.int32)


def two_dims(root, pictures):
    with h5py.File(root / IMAGES, "w") as file:
        file.create_dataset("images", (len(pictures), 2), h5py.vlen_dtype(np.uint8))


BAD_PICTURES = {
    "a group": (group_instead("images"), ["images"]),
    "fixed uint8": (hdf5(images=np.zeros(6, np.uint8)), ["uint8"]),
    "strings": (hdf5(images=["a"] * 6), ["variable-length uint8"]),
    "integers": (pictures_as(vlen_integers), ["variable-length uint8"]),
    "decoded": (hdf5(images=np.zeros((6, 4, 4, 3), np.uint8)), ["(6, 4, 4, 3)"]),
    "2-D": (pictures_as(two_dims), ["(6, 2)"]),
    "scalar": (hdf5(images=np.uint8(3)), ["()"]),
    "one fewer": (pictures_as(lambda root, p: write_pictures(root, p[:-1])), ["5", "6"]),
    "one more": (pictures_as(lambda root, p: write_pictures(root, [*p, p[0]])), ["7", "6"]),
    "none": (pictures_as(lambda root, p: write_pictures(root, [])), ["0 pictures", "6"]),
}


BAD_EMBEDDINGS = {
    "without image_ids": (embeddings_with(lambda a: {"image_ids": None}), ["image_ids"]),
    "without valid": (embeddings_with(lambda a: {"valid": None}), ["valid"]),
    "float32": (
        embeddings_with(lambda a: {"embedding": a["embedding"].astype("f4")}),
        ["float32", "float16"],
    ),
    "integers": (
        embeddings_with(lambda a: {"embedding": a["embedding"].astype("i2")}),
        ["int16", "float16"],
    ),
    "1-D": (embeddings_with(lambda a: {"embedding": a["embedding"][0]}), ["2-D"]),
    "3-D": (embeddings_with(lambda a: {"embedding": a["embedding"][None]}), ["2-D"]),
    "2-D valid": (embeddings_with(lambda a: {"valid": a["valid"][None]}), ["valid", "1-D"]),
    "numbers as image_ids": (
        embeddings_with(lambda a: {"image_ids": np.arange(6)}),
        ["image_ids", "strings"],
    ),
    "fewer embeddings": (
        embeddings_with(lambda a: {"embedding": a["embedding"][:5]}),
        ["5 embeddings", "6 image_ids"],
    ),
    "fewer names": (
        embeddings_with(lambda a: {"image_ids": a["image_ids"][:5]}),
        ["6 embeddings", "5 image_ids"],
    ),
    "fewer valid": (embeddings_with(lambda a: {"valid": a["valid"][:5]}), ["6 image_ids", "5 "]),
    "valid of text": (embeddings_with(lambda a: {"valid": ["True"] * 6}), ["valid"]),
    "twice": (renamed(NAMES[1], NAMES[0]), [NAMES[0], "twice", "once"]),
    "not UTF-8": (
        embeddings_with(
            lambda a: {"image_ids": np.array([b"\xff\xfe%d.jpg" % n for n in range(6)])}
        ),
        ["image_ids", "UTF-8"],
    ),
}
BAD_MASKS = {
    "floats": (lambda root, _: write_masks(root, mask_array().astype("f4")), ["float32", "uint8"]),
    "booleans": (lambda root, _: write_masks(root, mask_array() > 0), ["uint8"]),
    "2-D": (lambda root, _: write_masks(root, mask_array()[0]), ["3-D"]),
    "4-D": (lambda root, _: write_masks(root, mask_array()[None]), ["3-D"]),
    "one fewer": (lambda root, _: write_masks(root, mask_array()[:3]), ["mask_row 3", "3 masks"]),
}


def table_with(path, make, **columns):
    return lambda root, _: write_csv(root, path, make().assign(**columns))


def table_without(path, make, column):
    return lambda root, _: write_csv(root, path, make().drop(columns=column))


def segments_with(**columns):
    return table_with(SEGMENTATION_TABLE, segmentation_table, **columns)


def header_lacks_its_last(root, path):
    """One name fewer than there are values: pandas would take the first column for an index."""
    head, _, rows = (root / path).read_bytes().partition(b"\n")
    put(root, path, head.rpartition(b",")[0] + b"\n" + rows)


def cut_in_the_last_row(root, path):
    """As by a broken download: the last row ends after its first value."""
    data = (root / path).read_bytes().rstrip(b"\n")
    head, newline, last = data.rpartition(b"\n")
    put(root, path, head + newline + last.partition(b",")[0])


ANY_TABLE = {
    "empty": (content(b""), []),
    "line breaks only": (content(b"\n\n"), []),
    "web page": (content(HTML), []),
    "not UTF-8": (lambda root, p: put(root, p, (root / p).read_bytes() + b"\xff\xfe,\xff\n"), []),
    "a gzip": (content(b"\x1f\x8b\x08rubbish"), []),
    "header lacks a name": (header_lacks_its_last, []),
    "last row cut": (cut_in_the_last_row, []),
    "an open quote": (lambda root, p: put(root, p, (root / p).read_bytes() + b'"a,'), []),
}
BAD_SEGMENTATION_TABLES = {
    "past the end": (segments_with(mask_row=[0, 1, 2, 4]), ["mask_row 4", "4 masks"]),
    "far past the end": (segments_with(mask_row=["99999999999999999999", 1, 2, 3]), ["mask_row"]),
    "negative": (segments_with(mask_row=[0, -1, 2, 3]), ["mask_row -1"]),
    "no number": (segments_with(mask_row=["0", "one", "2", "3"]), ["mask_row", "whole numbers"]),
    "half": (segments_with(mask_row=[0.5, 1, 2, 3]), ["mask_row", "whole numbers"]),
    "no mask_row": (segments_with(mask_row=[0, "", 2, 3]), ["mask_row", "whole numbers"]),
    "no instance": (segments_with(instance_id=["a", 0, 0, 1]), ["instance_id", "whole numbers"]),
    "localized in words": (segments_with(localized="yes"), ["localized", "whole numbers"]),
    **{
        f"without {name}": (table_without(SEGMENTATION_TABLE, segmentation_table, name), [name])
        for name in ("mask_row", "image_name", "noun", "instance_id", "localized")
    },
}
BAD_CAPTIONS = {
    **{
        f"without {name}": (table_without(CAPTION_TABLE, caption_table, name), [name])
        for name in ("image_name", "caption_idx", "source", "caption")
    },
    "rank in words": (
        table_with(CAPTION_TABLE, caption_table, caption_idx="first"),
        ["caption_idx", "whole numbers"],
    ),
    "no rank": (
        table_with(CAPTION_TABLE, caption_table, caption_idx=[1, "", 2, 3, 4, 5, 6]),
        ["caption_idx", "whole numbers"],
    ),
}
BAD_METADATA = {
    "twice": (
        table_with(METADATA, metadata_table, image_name=[*NAMES[:5], NAMES[0]]),
        [NAMES[0], "twice", "once"],
    ),
    "without image_name": (table_without(METADATA, metadata_table, "image_name"), ["image_name"]),
}

SOME_HDF5 = {
    name: ANY_HDF5[name] for name in ("empty", "web page", "cut in half", "other datasets")
}
CASES = {
    f"{what}, {case}": (part, path, damage, words)
    for what, part, path, cases in [
        ("images", "images", IMAGES, ANY_HDF5 | BAD_PICTURES),
        ("CLIP", "embeddings/CLIP", embeddings_file("CLIP"), SOME_HDF5 | BAD_EMBEDDINGS),
        ("masks", "segmentations", MASKS, SOME_HDF5 | BAD_MASKS),
        (
            "segmentation table",
            "segmentations",
            SEGMENTATION_TABLE,
            ANY_TABLE | BAD_SEGMENTATION_TABLES,
        ),
        ("captions", "captions", CAPTION_TABLE, ANY_TABLE | BAD_CAPTIONS),
        ("metadata", "metadata", METADATA, ANY_TABLE | BAD_METADATA),
    ]
    for case, (damage, words) in cases.items()
}


@pytest.mark.parametrize("case", CASES)
def test_damaged_file_fails_alone(mirror, whole, whole_store, kept, new, capsys, case, tally):
    """All else is converted; what was stored stays; mended, the same command completes it."""
    part, path, damage, words = CASES[case]
    damage(mirror, path)
    report = report_of(mirror, new)
    assert f"stimuli {part}" in report.failed
    # Which picture is which, the rows of the metadata say.
    fail = {part, "images"} if part == "metadata" else {part}
    if "one fewer" in case and path == MASKS:
        path = SEGMENTATION_TABLE  # it points past the end
    for error in report.failed.values():
        teaches(error, mirror / path, *words)
    assert set(report.failed) == {f"stimuli {name}" for name in fail}
    check(whole, new, lacks=fail)
    before = tree_bytes(kept)
    assert command(mirror, kept) == 1
    said = capsys.readouterr().err
    names_and_mends(said, mirror / path)
    assert "Traceback" not in said
    assert tree_bytes(kept) == before
    shutil.copyfile(whole / path, mirror / path)
    if path == SEGMENTATION_TABLE:
        shutil.copyfile(whole / MASKS, mirror / MASKS)
    assert command(mirror, new) == 0
    assert tree_bytes(new) == tree_bytes(whole_store)
    tally("bad stimulus files refused by name")


OVERWRITTEN = [
    *("images, cut in half", "images, one fewer", "CLIP, twice", "metadata, twice"),
    *("masks, floats", "segmentation table, past the end", "captions, without caption"),
]


@pytest.mark.parametrize("case", OVERWRITTEN)
def test_overwrite_with_a_damaged_file(mirror, whole, whole_store, kept, case):
    part, path, damage, words = CASES[case]
    damage(mirror, path)
    report = report_of(mirror, kept, overwrite=True)
    assert f"stimuli {part}" in report.failed
    for error in report.failed.values():
        teaches(error, mirror / path, *words)
    check(whole, kept)
    assert tree_bytes(kept) == tree_bytes(whole_store)
    shutil.copyfile(whole / path, mirror / path)
    assert command(mirror, kept, "--overwrite") == 0
    assert tree_bytes(kept) == tree_bytes(whole_store)


def spoil(data, rng, blank=False):
    """Somewhere, a bit is flipped or 200 bytes are blank, as where a download has a hole."""
    changed = bytearray(data)
    at = int(rng.integers(len(data)))
    if blank:
        changed[at : at + 200] = bytes(len(changed[at : at + 200]))
    else:
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


@pytest.mark.parametrize("path", sorted({*FILE_OF.values(), SEGMENTATION_TABLE} - {IMAGES}))
def test_flipped_and_blanked_bytes(mirror, whole, new, rounds, tally, path):
    """Anywhere in a file: an error that names it, or what other readers say it holds."""
    rng = np.random.default_rng(zlib.crc32(path.encode()))
    for number in range(rounds(3, 200)):
        put(mirror, path, spoil((whole / path).read_bytes(), rng, number % 2))
        shutil.rmtree(new, ignore_errors=True)
        for error in report_of(mirror, new).failed.values():
            assert isinstance(error, SourceError), error
            assert path in str(error) or IMAGES in str(error), error
        assert not verify_store(new, mirror, deep=True, progress=False).problems
        tally("stimulus files with random damage")


def test_spoilt_pictures_hang_no_converter(mirror, whole, new, rounds, tally):
    """An error that names the file, or what h5py says it holds."""
    rng = np.random.default_rng(0)
    where = ["--source", str(mirror), "--store", str(new), "--n-workers", "1", "--quiet"]
    for _ in range(rounds(1, 50)):
        put(mirror, IMAGES, spoil((whole / IMAGES).read_bytes(), rng))
        shutil.rmtree(new, ignore_errors=True)
        run = [sys.executable, "-P", "-m", "laion_zarr.conversion.cli", "convert", *where]
        try:
            done = subprocess.run(run, capture_output=True, text=True, timeout=15, check=False)
        except subprocess.TimeoutExpired:
            pytest.fail("the converter hangs")
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stderr
        if done.returncode:
            assert str(mirror / IMAGES) in done.stderr
        else:
            assert not verify_store(new, mirror, deep=True, progress=False).problems
        tally("stimulus files with random damage")
