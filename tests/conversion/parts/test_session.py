"""Slabs of a session give back the values that were filled in."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from laion_zarr.conversion.parts import session


@given(
    n_trials=st.integers(1, 100),
    n_voxels=st.integers(1, 40),
    n_kept=st.integers(0, 3),
    at=st.data(),
)
def test_slabs_give_back_what_was_filled_in(n_trials, n_voxels, n_kept, at):
    """In memory or through the scratch file, whatever the trials that are collected for it."""
    volumes = np.random.default_rng(n_trials).standard_normal((n_trials, 50), dtype="f4")
    index = at.draw(st.permutations(range(50)).map(lambda order: np.array(order[:n_voxels])))
    with (
        mock.patch.object(session, "SLAB_VOXELS", 17),
        mock.patch.object(session, "COLLECTED_TRIALS", at.draw(st.integers(1, 40))),
        session._Scratch(None) as scratch,
    ):
        slabs = session.Slabs(index, n_trials, min(n_kept, -(-n_voxels // 17)), scratch)
        for trial, volume in enumerate(volumes):
            slabs.fill(trial, lambda places, row, volume=volume: np.take(volume, places, out=row))
        found = {number: rows.copy() for number, rows in slabs.whole()}
    whole = np.concatenate([found[number] for number in sorted(found)], axis=1)
    np.testing.assert_array_equal(whole, volumes[:, index])
