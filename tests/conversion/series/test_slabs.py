"""Slabs of a series give back the values that were filled in."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from laion_zarr.conversion.series import slabs as module


@given(
    n_volumes=st.integers(1, 100),
    n_voxels=st.integers(1, 40),
    n_kept=st.integers(0, 3),
    at=st.data(),
)
def test_slabs_give_back_what_was_filled_in(n_volumes, n_voxels, n_kept, at):
    """In memory or through the scratch file, whatever the volumes that are collected for it."""
    volumes = np.random.default_rng(n_volumes).standard_normal((n_volumes, 50), dtype="f4")
    index = at.draw(st.permutations(range(50)).map(lambda order: np.array(order[:n_voxels])))
    with (
        mock.patch.object(module, "SLAB_VOXELS", 17),
        mock.patch.object(module, "COLLECTED_VOLUMES", at.draw(st.integers(1, 40))),
        module.Scratch(None) as scratch,
    ):
        slabs = module.Slabs(index, n_volumes, min(n_kept, -(-n_voxels // 17)), scratch)
        for number, volume in enumerate(volumes):
            slabs.fill(number, lambda places, row, volume=volume: np.take(volume, places, out=row))
        found = {number: rows.copy() for number, rows in slabs.whole()}
    whole = np.concatenate([found[number] for number in sorted(found)], axis=1)
    np.testing.assert_array_equal(whole, volumes[:, index])
