"""Sizes in bytes as text, and how many workers fit into the memory."""

from __future__ import annotations

import pytest

from laion_zarr.conversion.budget import SessionSize, parse_memory, plan_work


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4GiB", 4 << 30), ("1.5g", 1_500_000_000), ("500 MB", 500_000_000), (123, 123)],
)
def test_parse_memory(text, expected):
    assert parse_memory(text) == expected


@pytest.mark.parametrize("text", ["lots", "", "4XB", "-1GB"])
def test_parse_memory_refuses(text):
    with pytest.raises(ValueError, match="--memory takes a size"):
        parse_memory(text)


SESSION = SessionSize(n_voxels=275_000, n_volumes=1044, volume_nbytes=143**3 * 4)


def test_plan_fits_workers_to_memory():
    work = plan_work([SESSION] * 30, 8, "4GiB")
    assert work.n_workers * SESSION.memory_nbytes(0) <= 4 << 30
    assert work.n_workers * work.memory_per_worker <= 4 << 30
    assert plan_work([SESSION] * 30, 1, None).slabs_kept(SESSION) == SESSION.n_slabs == 16
    with pytest.raises(ValueError, match=r"0\.50 GB is too little: one session needs 0\.7"):
        plan_work([SESSION], None, "500MB")
