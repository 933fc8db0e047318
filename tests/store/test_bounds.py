"""Limits of what a file of the store may say: what a store has passes, what none has does not."""

from __future__ import annotations

import json
import re
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import blosc, zstd
from strangers import zeros_frame
from trees import tree_bytes

from laion_zarr.store import schema
from laion_zarr.store.bounds import nodes, payloads, tables, text
from laion_zarr.store.bounds.manifests import check_manifest
from laion_zarr.store.bounds.text import OutOfBounds, check_keys, parse, printable
from laion_zarr.store.parts import Part
from laion_zarr.store.schema import MEAN, Chunking, spec_of

# -- text


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"[]",
            b"null",
            b"{",
            b'{"a":1}x',
            b"\xff{}",
            "{}".encode("utf-16"),
            b"\xef\xbb\xbf{}",
        ),
        *(nested(60), nested(2000), nested(200_000), b'{"a": %s}' % (b"9" * 5000)),
        *(rb'{"a": "\ud800"}', rb'{"\udc00": 1}', rb'{"a": "\ud800\u0041"}'),
        *(b'{"a": [%s1]}' % (b"1," * 1_000_001), b'{"a": "%s"}' % (b"x" * text.MOST_TEXT)),
    ],
)
def test_text_that_is_refused(data):
    with pytest.raises(OutOfBounds):
        parse(data)


@given(
    st.dictionaries(st.text(), st.recursive(st.text() | st.integers() | st.booleans(), st.lists))
)
def test_all_other_text_is_parsed(value):
    for ascii_only in (True, False):
        assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value
    assert parse(nested(40)) == json.loads(nested(40))


def leads_down(key: str) -> bool:
    steps = key.split("/")
    return all(steps) and not {".", ".."} & {*steps} and not re.search(r"[\\:%?#]", key)


@given(st.lists(st.text(st.sampled_from("ab./\\:%?#@+ -\x00\n\x1b‮é"), max_size=6), max_size=4))
def test_paths_lead_downwards_in_clean_text(keys):
    if all(leads_down(key) and key.isprintable() for key in keys):
        check_keys(keys)
    else:
        with pytest.raises(OutOfBounds, match=r"path|text") as caught:
            check_keys(keys)
        assert str(caught.value).isprintable()


@given(st.text())
def test_printable_text_is_left_and_the_rest_is_escaped(value):
    shown = printable(value)
    assert shown.replace("\n", "").replace("\t", "").isprintable()
    assert shown == value or not value.isprintable()


# -- manifests


def a_manifest(**part: object) -> dict:
    entry = {"path": "sub-01/ses-01", "files": {"x/zarr.json": [3, 4]}, "sources": {}} | part
    return {"files": {}, "parts": {"ses-01": entry}, "group": "sub-01", "crc32c": 1}


@pytest.mark.parametrize(
    "part",
    [
        *(
            {"path": path}
            for path in ("../outside", "/etc", "sub-02/ses-01", "", None, "http://x/y")
        ),
        *(
            {"path": f".staging/{path}"}
            for path in ("../x", "sub-01/ses-02", "sub-01/../sub-01/ses-01")
        ),
        *(
            {"files": {key: [3, 4]}}
            for key in ("../x", "/x", "a//b", "a/../b", "a\x00", "http://x")
        ),
        *(
            {"files": {"a": size}}
            for size in ([3], [3, -1], [-3, 1], [1.0, 1], [True, 1], 3, ["3", 1])
        ),
        *({"files": {"a": [1 << 50, 1]}}, {"files": {"a/zarr.json": [1 << 30, 1]}}, {"files": []}),
        *(
            {"sources": its}
            for its in ([], {"../x": {}}, {"/x": {}}, {"a": 3}, {"a": {"size": "3"}})
        ),
    ],
)
def test_manifests_that_lead_elsewhere_are_refused(part):
    check_manifest(a_manifest(), "sub-01")
    check_manifest(a_manifest(path=".staging/sub-01/ses-01"), "sub-01")
    with pytest.raises(OutOfBounds):
        check_manifest(a_manifest(**part), "sub-01")


@pytest.mark.parametrize("groups", [None, {}, [1], ["a/b"], [".."], [""], ["/"], ["sub-01\n"]])
def test_groups_are_names(groups):
    root = {"files": {}, "crc32c": 1}
    check_manifest(root | {"groups": ["sub-01", "stimuli"]}, "")
    with pytest.raises(OutOfBounds):
        check_manifest(root | {"groups": groups}, "")


# -- nodes


def test_every_node_of_a_store_is_within_bounds(with_splits):
    files = tree_bytes(with_splits)
    n_arrays = 0
    for listing in [key for key in files if key.endswith("/manifest.json")]:
        manifest = json.loads(files[listing])
        check_manifest(manifest, manifest["group"])
        for name, entry in manifest["parts"].items():
            part = Part.from_json(entry)
            for array in part.arrays():
                node = nodes.parse_node(files[f"{part.path}/{array}/zarr.json"])
                spec = spec_of(name, array)
                assert spec is not None, (name, array)
                assert spec.dtype in ("", node["data_type"])
                if spec.dtype:  # those of tables and surfaces are named after what they hold
                    dims = [dim.rpartition("/")[2] for dim in spec.dims]
                    assert dims == node["dimension_names"], (name, array)
                shape = nodes.check_array(node, spec, part.chunks(array))
                assert list(shape) == node["shape"]
                n_arrays += 1
    assert n_arrays > 150


def small_node(shape: list, dtype: str = "int32", **other: object) -> dict:
    plain = "vlen-utf8" if dtype == "string" else "bytes"
    codecs = [{"name": name} for name in (plain, "zstd", "crc32c")]
    return {"node_type": "array", "shape": shape, "data_type": dtype, "codecs": codecs} | other


@pytest.mark.parametrize(
    "node",
    [
        *(small_node(shape) for shape in ([-1], [1.0], [True], ["1"], [1 << 41], [1] * 5, 3, None)),
        *(small_node([3, 3]), small_node([1 << 30]), small_node([1 << 22], "string")),
        *(small_node([3], dtype) for dtype in ("object", "float32", "complex64", ["int32"], None)),
        *(small_node([3], codecs=its) for its in ([], [{"name": "gzip"}], ["bytes"], None, {})),
        small_node([3], node_type="group"),
        small_node([0]),  # has a chunk all the same
    ],
)
def test_arrays_that_the_schema_does_not_have_are_refused(node):
    spec = schema.VOXEL_INDEX
    assert nodes.check_array(small_node([3]), spec, {"0": 40}) == (3,)
    assert nodes.check_array(small_node([0]), spec, {}) == (0,)
    with pytest.raises(OutOfBounds):
        nodes.check_array(node, spec, {"0": 40})


@pytest.mark.parametrize("chunks", [{}, {"1": 40}, {"0/0": 40}, {"0": 40, "1": 40}, {"0": 1 << 20}])
def test_a_small_array_has_one_chunk_of_its_size(chunks):
    with pytest.raises(OutOfBounds):
        nodes.check_array(small_node([3]), schema.VOXEL_INDEX, chunks)


@pytest.mark.parametrize(
    "attributes",
    [
        *(
            {"shape": its}
            for its in ([1, 2], [1, 2, -3], [0, 1, 1], [1 << 10] * 3, ["1"] * 3, None)
        ),
        *(
            {"affine": its}
            for its in ([[1]], [[1] * 4] * 3, [["1"] * 4] * 4, [[float("nan")] * 4] * 4)
        ),
        *({"tsv_columns": its} for its in ([], {"a": 3}, {"a": "../x"}, {"a": "x", "b": "x"})),
        *({"repetition_time": its} for its in (0, -1, "2", True, float("inf"), None)),
        *({"runs": its} for its in (3, {"ses-01": 3}, {"ses-01": ["1"]}, [3], [{"run": 1}])),
        *(
            {"labels": its}
            for its in ([], {}, {"task": 3}, {"task": ["a"], "run": []}, {"a": [None]})
        ),
        *({"source": {"file": its}} for its in ("../x", "/etc/passwd", "", None, "a/../../b")),
        *(
            {"sources": [{"source": {"file": "/x"}}]},
            {"sources": 3},
            {"rois": {"a": 1}},
            {"mesh": -1},
        ),
    ],
)
def test_attributes_of_another_kind_are_refused(attributes):
    with pytest.raises(OutOfBounds):
        nodes.parse_node(json.dumps({"attributes": attributes}).encode())


# -- payloads


@given(st.binary(max_size=3000), st.integers(1, 19))
def test_the_size_of_one_frame_is_known(data, level):
    packed = bytes(zstd.compress(data, level))
    assert payloads.frame_size(packed) == len(data)
    payloads.check_frame(np.frombuffer(packed, np.uint8), len(data))
    with pytest.raises(OutOfBounds, match=r"inflates to|not one frame"):
        payloads.check_frame(packed, len(data) + 1)
    for wrong in (
        packed[:-1],
        packed + b"\0",
        packed * 2,
        packed + zeros_frame(1 << 31),
        b"",
        data,
    ):
        with pytest.raises(OutOfBounds):
            payloads.frame_size(wrong)


@pytest.mark.parametrize("n", [1, 200, 300, 70_000, 1 << 22])
def test_frames_of_all_sizes(n):
    assert payloads.frame_size(zstd.compress(np.random.default_rng(0).bytes(n), 3)) == n
    assert payloads.frame_size(zeros_frame(n)) == n
    assert zstd.decompress(zeros_frame(n)) == bytes(n)


@pytest.mark.parametrize(
    "values", [np.arange(1000, dtype="f4"), np.zeros(5, "f4"), np.zeros(1, "f4")]
)
def test_blosc_says_what_it_inflates_to(values):
    packed = bytearray(blosc.compress(values, b"lz4", 5, blosc.BITSHUFFLE))
    payloads.check_packed(packed, "lz4", values.nbytes)
    for place, number in ((4, 2**31 - 1), (4, 0), (8, 0), (8, 2**31), (12, 16), (12, 2**31)):
        wrong = packed.copy()
        wrong[place : place + 4] = struct.pack("<I", number)
        with pytest.raises(OutOfBounds):
            payloads.check_packed(wrong, "lz4", values.nbytes)
    for wrong in (packed[:-1], packed + b"\0", packed[:15], b""):
        with pytest.raises(OutOfBounds):
            payloads.check_packed(wrong, "lz4", values.nbytes)


def test_strings_fit_into_their_bytes_and_into_memory():
    payloads.check_strings(4 + 3 * 4, 3)
    for size, count in ((15, 3), (0, 0), (2**33, 2**32 - 1), (1 << 26, 3), (1 << 23, 1 << 21)):
        with pytest.raises(OutOfBounds):
            payloads.check_strings(size, count)


# -- tables


def a_table() -> np.ndarray:
    return np.array([[0, 10, 1], [10, 20, 2], [0, 30, 3]], "<u8")


def test_chunks_fill_their_shards():
    index = tables.index_bytes(2)
    sizes = [30 + index, 30 + index]
    tables.check_table(a_table(), 2, sizes)
    tables.check_table(np.empty((0, 3), "<u8"), 2, [])
    for place in np.ndindex(3, 2):
        for number in (0, 3, 2**31, 2**63, 2**64 - 1):
            table = a_table()
            if table[place] != number:
                table[place] = number
                with pytest.raises(OutOfBounds):
                    tables.check_table(table, 2, sizes)
    for wrong in ([30 + index], [*sizes, 10], [30 + index, 31 + index], [1 << 40, 30 + index]):
        with pytest.raises(OutOfBounds):
            tables.check_table(a_table(), 2, wrong)
    for table in (a_table()[:, :2], a_table()[:1], a_table().ravel()):
        with pytest.raises(OutOfBounds):
            tables.check_table(table, 2, sizes)


def test_chunks_fill_the_shards_of_each_block_of_columns():
    """Three images in chunks of one, two a shard; 300 voxels in blocks of at most 256."""
    chunking, shape = Chunking(1, 2, "lz4", columns=256), (3, 300)
    assert chunking.row(shape) == (256,)
    assert chunking.row((3, 200)) == (200,)
    assert [chunking.n_blocks((3, n)) for n in (0, 256, 257, 512, 513)] == [1, 1, 2, 2, 3]
    index = tables.index_bytes(2)
    sizes = {f"{shard}/{block}": 30 + index for shard in range(2) for block in range(2)}
    table = np.concatenate([a_table(), a_table()])
    found = tables.shards_of(table, chunking, shape, sizes)
    assert list(found) == ["0/0", "1/0", "0/1", "1/1"]
    np.testing.assert_array_equal(np.concatenate([*found.values()]), table)
    for wrong in (table[:3], table[:5], np.concatenate([table, a_table()])):
        with pytest.raises(OutOfBounds, match="expected 6"):
            tables.shards_of(wrong, chunking, shape, sizes)
    for key in sizes:
        for other in ({**sizes, key: 31 + index}, {k: n for k, n in sizes.items() if k != key}):
            with pytest.raises(OutOfBounds, match="do not fill shard"):
                tables.shards_of(table, chunking, shape, other)


@pytest.mark.parametrize("keys", ["0/0 1/0", "0/0 1/0 0/1 1/1 2/0", "0/0 1/0 0/1 2/1"])
def test_an_array_in_blocks_has_the_objects_of_its_shape(monkeypatch, keys):
    monkeypatch.setitem(MEAN.chunking.__dict__, "columns", 256)
    monkeypatch.setitem(MEAN.chunking.__dict__, "per_shard", 2)
    node = {"node_type": "array", "shape": [3, 300], "data_type": "float32"}
    whole = dict.fromkeys(["0/0", "1/0", "0/1", "1/1"], 90)
    assert nodes.check_array(node, MEAN, whole) == (3, 300)
    with pytest.raises(OutOfBounds, match="expected 4"):
        nodes.check_array(node, MEAN, dict.fromkeys(keys.split(), 90))
    with pytest.raises(OutOfBounds, match="its shape is of"):
        nodes.check_array(node, MEAN, {**whole, "1/1": 5000})


def test_positions():
    tables.check_positions(np.array([0, 2, 2], "u8"), 3, "an axis")
    tables.check_positions(np.empty(0, int), 0, "an axis")
    tables.check_ascending(np.array([0, 2]), 3, "an axis")
    for values in ([-1], [3], [2**63 - 1]):
        with pytest.raises(OutOfBounds, match="an axis has 3"):
            tables.check_positions(np.array(values), 3, "an axis")
    for values in ([1, 1], [2, 1]):
        with pytest.raises(OutOfBounds, match="ascend"):
            tables.check_ascending(np.array(values), 3, "an axis")
