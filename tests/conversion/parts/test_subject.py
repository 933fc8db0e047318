"""Columns of trial tables and of stimulus metadata in a subject's trials; similar subject ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from converting import alone
from zarr.storage import MemoryStore

from laion_zarr import load_subject
from laion_zarr.conversion.parts.subject import combined


def metadata_file(root: Path) -> Path:
    (path,) = root.glob("stimuli/*images_metadata.csv")
    return path


def test_a_label_column_of_the_stimuli_renames_no_trial(bids_root, store, copy_of, tmp_path):
    mirror = copy_of(bids_root)
    table = pd.read_csv(metadata_file(mirror))
    table["label"] = [f"cat{row}" for row in range(len(table))]
    table.to_csv(metadata_file(mirror), index=False)
    alone(mirror, tmp_path / "s.zarr", subjects="01")
    sub = load_subject("01", tmp_path / "s.zarr")
    expected = load_subject("01", store).metadata
    assert sub.metadata["label"].tolist() == expected["label"].tolist()
    assert sub.get_stimulus_metadata()["label"].tolist() == table["label"].tolist()
    group = zarr.open_group(tmp_path / "s.zarr" / "stimuli" / "metadata", mode="r")
    assert group["image_name"][:].tolist() == table["image_name"].tolist()
    rows = dict(zip(table["image_name"], table["label"], strict=True))
    joined = sub.dataset["stim_label"].values.tolist()
    assert joined == [rows.get(name, "") for name in sub.metadata["label"]]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([[1, 2], ["n/a", "n/a"]], [1.0, 2.0, np.nan, np.nan]),
        ([[1, 2], ["x", "n/a"]], ["1", "2", "x", "n/a"]),
        ([[True, False], ["n/a", ""]], ["True", "False", "n/a", ""]),
        ([[True, False], None], ["True", "False", "", ""]),
        ([["a", "b"], None], ["a", "b", "", ""]),
        ([[1, 2], None], [1.0, 2.0, np.nan, np.nan]),
        ([[1, 2], [3, 4]], [1, 2, 3, 4]),
    ],
)
def test_columns_whose_type_differs_between_sessions(columns, expected):
    tables = [
        pd.DataFrame({"label": ["a", "b"]} | ({} if values is None else {"more": values}))
        for values in columns
    ]
    found = combined(tables)["more"].to_numpy()
    np.testing.assert_array_equal(found, np.array(expected, dtype=found.dtype))


def test_ids_that_begin_alike(bids_root, tmp_path):
    """A store that lists by text must not take sub-010 for a part of sub-01."""
    memory = MemoryStore()
    alone(bids_root, memory)
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    value = default_buffer_prototype().buffer.from_bytes(b"x")
    sync(memory.set("sub-01x", value))
    alone(bids_root, memory, subjects="01")
    assert sync(memory.exists("sub-01x"))
