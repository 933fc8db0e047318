"""Whatever reads a store takes the same two keywords: ``store`` and ``storage_options``."""

from __future__ import annotations

import importlib
import inspect
import runpy
from pathlib import Path

import pytest

names = runpy.run_path(str(Path(__file__).with_name("public_names.py")))["names"]

# Modules whose names open no store: arrays in, files of a mirror, or the bucket.
WITHOUT = {
    *("analysis", "config", "derivatives", "discovery", "download", "errors", "plots"),
    *("templates", "torch_data", "conversion.cli", "conversion.demo", "conversion.synthetic"),
    *("compat.brain", "compat.config", "compat.derivatives", "compat.discovery", "compat.download"),
    *("compat.io", "compat.templates", "compat.torch_data"),
}
# Made by functions that open a store, or asks of none.
MADE = {
    *("ImageCaptions", "ImageSegmentations", "SubjectEmbeddings", "Images", "SubjectImages"),
    *("Group", "Split", "SplitVariant", "Report", "SplitsReport", "LaionZarrBackend"),
    *("Difference", "OutdatedReport"),
    *("as_displayed_rgb", "list_ood_types", "resolve_subject_id"),
}
MADE_HERE_ONLY = {("laion_zarr.embeddings", "Embeddings"), ("laion_zarr.subject", "Subject")}


def readers():
    """Full names of the functions and classes that open a store."""
    for module, name in names():
        value = getattr(importlib.import_module(module), name)
        home = getattr(value, "__module__", module).removeprefix("laion_zarr.")
        own = module.removeprefix("laion_zarr.")
        if not callable(value) or name in MADE or (module, name) in MADE_HERE_ONLY:
            continue
        if any(one in WITHOUT or one.split(".")[0] in WITHOUT for one in (home, own)):
            continue
        if not (inspect.isclass(value) and issubclass(value, Exception)):
            yield f"{module}.{name}"


READERS = sorted(readers())


@pytest.mark.parametrize("full", READERS)
def test_takes_a_store(full):
    module, _, name = full.rpartition(".")
    taken = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    for keyword in ("store", "storage_options"):
        assert taken[keyword].default is None
        assert taken[keyword].kind is not inspect.Parameter.POSITIONAL_ONLY


def test_none_is_overlooked():
    assert {
        *("laion_zarr.load_subject", "laion_zarr.splits.list_pools", "laion_zarr.verify"),
        *("laion_zarr.compat.Captions", "laion_zarr.conversion.add_splits"),
    } <= set(READERS)
