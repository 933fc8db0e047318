"""`import laion_zarr` is fast, its names exist, and examples in docstrings run."""

from __future__ import annotations

import doctest

import pytest
from fresh_python import run_python

import laion_zarr
import laion_zarr.config
import laion_zarr.subject


@pytest.mark.parametrize("module", ["laion_zarr", "laion_zarr.config", "laion_zarr.errors"])
def test_import_is_light(module):
    heavy = ["xarray", "zarr", "dask", "pandas", "numpy", "nibabel", "fsspec"]
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    assert run_python(code) == ""


def test_top_level_names():
    code = "from laion_zarr import *; print(load_subject.__module__, convert.__module__)"
    assert run_python(code) == "laion_zarr.subject.subject laion_zarr.conversion.run.pipeline"
    for name in laion_zarr.__all__:
        assert callable(getattr(laion_zarr, name))
        assert name in dir(laion_zarr)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = laion_zarr.nonsense


@pytest.mark.parametrize("module", [laion_zarr.subject.subject, laion_zarr.config])
def test_examples_of_the_docs(module, store, monkeypatch):
    monkeypatch.setenv("LAION_ZARR_STORE", str(store))
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted
