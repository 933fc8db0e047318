"""Selecting and then loading gives the same as loading and then selecting."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from random_mirrors import (
    SUB,
    Case,
    any_chunks,
    check_blocks,
    chunk_dicts,
    examples,
    in_memory,
    label_selections,
    same,
    some_of,
    voxel_selections,
)
from random_mirrors import crowd as crowd


def indexers(size):
    positions = st.integers(-size, size - 1)
    many = st.lists(positions, max_size=9).map(lambda found: np.array(found, dtype=int))
    flags = st.integers(0, 999).map(lambda seed: np.random.default_rng(seed).random(size) < 0.4)
    # xarray cannot read an empty slice that steps backwards from any lazy source.
    slices = st.slices(size).filter(lambda found: range(size)[found] or (found.step or 1) > 0)
    return positions | many | slices | flags


@st.composite
def selections(draw, sizes):
    """Positions or labels along some dims: integers, slices, repeated integers, booleans."""
    return {dim: draw(indexers(size)) for dim, size in sizes.items() if draw(st.booleans())}


def open_somehow(case: Case, whole: xr.DataArray, data) -> xr.DataArray:
    how = data.draw(st.sampled_from(["None", "{}", "explicit", "dataset", "sel"]))
    if how in ("dataset", "sel"):
        chunks = data.draw(chunk_dicts(*whole.shape)) if how == "sel" else None
        return (case.sub.sel(chunks=chunks) if how == "sel" else case.sub.dataset)["betas"]
    chunks = {"None": None, "{}": {}, "explicit": data.draw(chunk_dicts(*whole.shape))}[how]
    return xr.open_dataset(case.store, engine="laion_zarr", group=SUB, chunks=chunks)["betas"]


def check_selection(crowd: Case, data):
    whole = in_memory(crowd.files)
    lazy = open_somehow(crowd, whole, data)
    for _ in range(data.draw(st.integers(1, 3))):
        if not whole.ndim or 0 in whole.shape:
            break
        asked = data.draw(selections(dict(whole.sizes)))
        whole, lazy = whole.isel(asked), lazy.isel(asked)
    lazy = lazy.load()
    assert lazy.dims == whole.dims
    same(lazy.values, whole.values)
    for name in ("trial", "voxel"):
        same(lazy[name], whole[name])
    assert lazy["session"].values.tolist() == whole["session"].values.tolist()


def check_pointwise(crowd: Case, data):
    """Vectorised indexing: trial and voxel in pairs."""
    whole = in_memory(crowd.files)
    lazy = open_somehow(crowd, whole, data)
    shape = data.draw(st.sampled_from([(1,), (4,), (2, 3)]))
    size = int(np.prod(shape))
    points = {
        dim: xr.DataArray(
            np.reshape(
                data.draw(st.lists(st.integers(0, n - 1), min_size=size, max_size=size)), shape
            ),
            dims=("p", "q")[: len(shape)],
        )
        for dim, n in whole.sizes.items()
    }
    same(lazy.isel(points).load(), whole.isel(points))


def check_labels(crowd: Case, data):
    """Selection by label is that of the loaded array."""
    whole = in_memory(crowd.files)
    lazy = open_somehow(crowd, whole, data)
    asked = {
        dim: found
        for dim in ("trial", "voxel")
        if (found := data.draw(label_selections(whole[dim].values))) is not None
    }
    same(lazy.sel(asked).load(), whole.sel(asked))
    sessions = data.draw(some_of(crowd.files.sessions))
    keep = np.isin(whole["session"].values, sessions)
    same(lazy[keep].load(), whole[keep])


def check_chunked(crowd: Case, data):
    """Block sizes change how values are read, never the values."""
    arguments, _ = data.draw(voxel_selections(crowd.files))
    plain = crowd.sub.get_betas(**arguments)
    for method in ("get_betas", "sel"):
        if method == "sel" and "mask" in arguments:
            continue
        chunks = data.draw(chunk_dicts(*plain.shape))
        found = getattr(crowd.sub, method)(**arguments, chunks=chunks)
        betas = found["betas"] if method == "sel" else found
        check_blocks(betas, chunks)
        same(betas.values, plain.values)
        again = betas.chunk(data.draw(chunk_dicts(*plain.shape)))
        same(again.values, plain.values)


SELECTIONS = [check_selection, check_pointwise, check_labels, check_chunked]
each_selection = pytest.mark.parametrize("check", SELECTIONS, ids=lambda check: check.__name__[6:])


@any_chunks
@each_selection
@examples(25, 500)
@given(data=st.data())
def test_selection_commutes(crowd, tally, check, data):
    check(crowd, data)
    tally("random selections that commute with loading")
