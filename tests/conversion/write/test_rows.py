"""Arrays of the stimuli are, byte for byte, those that zarr-python writes."""

from __future__ import annotations

import json
import warnings

import h5py
import numpy as np
import pytest
import zarr
from stimulus_parts import MODELS
from stimulus_parts import files as files
from stimulus_parts import names as names
from trees import tree_bytes
from zarr.storage import LocalStore, MemoryStore

from laion_zarr import load_stimuli
from laion_zarr.conversion.write.rows import RowWriter
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.store import schema


def written_by_zarr(path, values):
    """Bytes of all chunks that zarr-python itself writes of an array with this metadata."""
    memory = MemoryStore()
    node = json.loads((path / "zarr.json").read_bytes())
    (sharding,) = node["codecs"]
    inner = sharding["configuration"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.create_array(
            memory,
            shape=values.shape,
            chunks=inner["chunk_shape"],
            shards=node["chunk_grid"]["configuration"]["chunk_shape"],
            dtype=values.dtype,
            compressors=inner["codecs"][1:],
            fill_value=np.nan if values.dtype.kind == "f" else 0,
            config={"write_empty_chunks": True},
        )
    array[:] = values
    return {
        key: value.to_bytes() for key, value in memory._store_dict.items() if key.startswith("c/")
    }


CODECS = {
    "masks": [["bytes", "zstd", "crc32c"]],
    "embedding": [["bytes", "blosc", "crc32c"], ["bytes", "crc32c"]],
    "data": [["bytes", "crc32c"]],
}


def check_written(folder, values):
    path = folder
    node = json.loads((path / "zarr.json").read_bytes())
    names = [codec["name"] for codec in node["codecs"][0]["configuration"]["codecs"]]
    assert names in CODECS[path.name]
    found = {key: data for key, data in tree_bytes(path).items() if key != "zarr.json"}
    assert found == written_by_zarr(path, values)


def test_shards_are_the_bytes_that_zarr_writes(store, bids_root, files):
    stimuli = store / "stimuli"
    with h5py.File(next(bids_root.rglob("*segmentations.h5"))) as file:
        check_written(stimuli / "segmentations" / "masks", file["masks"][:])
    for model in MODELS:
        check_written(
            stimuli / "embeddings" / model / "embedding",
            load_stimuli(store).embeddings[model].values,
        )
    check_written(stimuli / "images" / "data", np.frombuffer(b"".join(files.values()), "u1"))
    masks = json.loads((stimuli / "segmentations" / "masks" / "zarr.json").read_bytes())
    zstd = masks["codecs"][0]["configuration"]["codecs"][1]
    assert zstd["configuration"]["level"] == 3
    assert masks["codecs"][0]["configuration"]["chunk_shape"][0] == 1


SPECS = {
    "data": (schema.PICTURE_BYTES, ()),
    "embedding": (schema.EMBEDDING, (7,)),
    "masks": (schema.MASKS_2D, (5, 4)),
}


@pytest.mark.parametrize("n_rows", [1, 63, 64, 65, 4100])
@pytest.mark.parametrize("name", SPECS)
def test_rows_however_they_come_are_what_zarr_writes(tmp_path, name, n_rows):
    """Rows come in pieces of any size; some are all fill values; masks fill several shards."""
    spec, row = SPECS[name]
    rng = np.random.default_rng(n_rows)
    n_rows *= 4001 if name == "data" else 1
    if spec.dtype == "float16":
        values = rng.standard_normal((n_rows, *row)).astype(np.float16)
        values[rng.random(n_rows) < 0.3] = np.nan
        values[: n_rows // 2] = np.nan
    else:
        values = rng.integers(0, 2, (n_rows, *row)).astype(spec.dtype)
        values[: n_rows // 2] = 0
    target = tmp_path / "s.zarr"
    rows = RowWriter(PartWriter(LocalStore(target), "part"), spec, row, {})
    cuts = np.sort(rng.integers(0, n_rows + 1, 9))
    for some in np.split(values, cuts):
        rows.add(some)
    rows.finish()
    check_written(target / "part" / name, values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        array = zarr.open_array(target / "part" / name, mode="r")
        np.testing.assert_array_equal(array[:], values)
