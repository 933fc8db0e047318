"""Bars of long work: for people who wait, not in scripts, and not beside Dask's own."""

from __future__ import annotations

import pickle
import sys

import dask
import numpy as np
import pytest
from dask.diagnostics import ProgressBar
from encoding_by_hand import made_up

from laion_zarr._progress import Bar
from laion_zarr.analysis import fit_encoding, noise_ceiling


@pytest.fixture
def bars(monkeypatch):
    """Bars that were shown: [what, total, steps, closed]."""
    found = []

    class Shown:
        def __init__(self, total, desc, delay, unit):
            self.row = [desc, total, 0, False]
            found.append(self.row)

        def update(self):
            self.row[2] += 1

        def close(self):
            self.row[3] = True

    monkeypatch.setattr("laion_zarr._progress.tqdm", Shown)
    return found


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.delenv("LAION_ZARR_PROGRESS", raising=False)


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_each_computation_has_a_bar(sub, bars, watched, scheduler):
    ceiling = noise_ceiling(sub.get_betas(roi="face"))
    with dask.config.set(scheduler=scheduler):
        for n in (1, 2):
            ceiling.compute()
            assert len(bars) == n
            _, total, steps, closed = bars[-1]
            assert total == steps > 0
            assert closed
    features, betas = made_up()
    fit_encoding(features, betas.chunk({"voxel": 3}))["alpha"].compute(scheduler=scheduler)
    assert bars[-1] == ["fit", 1, 1, True]  # a few voxels are one block


def test_scripts_are_silent(sub, bars):
    noise_ceiling(sub.get_betas(roi="face")).compute()
    assert bars == []


def test_beside_dasks_own_bar_and_where_nobody_wants_one(sub, bars, watched, monkeypatch):
    ceiling = noise_ceiling(sub.get_betas(roi="face"))
    with ProgressBar(out=None):
        ceiling.compute()
    assert bars == []
    monkeypatch.setenv("LAION_ZARR_PROGRESS", "0")
    ceiling.compute()
    assert bars == []


def test_values_and_names_do_not_depend_on_bars(sub, bars, watched):
    ceiling = noise_ceiling(sub.get_betas(roi="face"))
    assert ceiling.data.name == noise_ceiling(sub.get_betas(roi="face")).data.name
    again = pickle.loads(pickle.dumps(Bar("it", 3)))
    assert (again.what, again.total) == ("it", 3)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ceiling)).compute(), ceiling.compute())
