"""Imports go downwards: the module map, checked with `ast`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BASE = {"errors", "_schema"}
# What each module may import of ours at module level.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "_schema": set(),
    "_codec": set(),
    "_layout": {"errors"},
    "config": BASE,
    "_select": {*BASE, "_labels"},
    "_retry": {"errors"},
    "_terminal": set(),
    "_license": {"errors", "_terminal", "config"},
    "_filters": {"_layout"},
    "_mirror": {"errors"},
    "_fetch": {"errors", "_mirror", "_retry"},
    "_bucket": {"errors", "_layout", "_retry"},
    "_access": {"errors", "_retry", "_terminal", "config"},
    "discovery": {"_bucket", "_layout"},
    "_wanted": {"errors", "_access", "_bucket", "_filters", "_layout", "_mirror", "discovery"},
    "download": {
        *("errors", "_access", "_bucket", "_fetch", "_filters", "_layout", "_license", "_wanted"),
        "config",
    },
    "_optional": set(),
    "_resample": set(),
    "_recon": {"errors", "_layout"},
    "plots": {"_recon", "_schema"},
    "_remote": {"errors", "_layout", "_retry"},
    "_store": {*BASE, "_codec", "_remote"},
    "templates": {*BASE, "_recon", "_resample"},
    "_chunks": {*BASE, "_codec", "_store"},
    "_handle": {*BASE, "_store"},
    "_lazy": {*BASE, "_chunks", "_handle"},
    "_selected": {*BASE, "_lazy"},
    "_stream": {"_lazy", "_schema", "_store"},
    "_dataset": {*BASE, "_lazy", "_select", "_selected"},
    "_query": {*BASE, "_dataset", "_layout", "_lazy", "_select", "_selected"},
    "_stimulus_handle": {*BASE, "_chunks", "_handle", "_store", "config"},
    "_keys": {*BASE, "_query", "_select", "_stimulus_handle"},
    "_tables": {"_keys", "_stimulus_handle"},
    "_image_files": set(),
    "_pictures": {*BASE, "_codec", "_image_files", "_lazy", "_stimulus_handle", "_store"},
    "images": {*BASE, "_keys", "_pictures", "_query", "_stimulus_handle"},
    "embeddings": {*BASE, "_keys", "_lazy", "_query", "_select", "_stimulus_handle", "_store"},
    "segmentations": {*BASE, "_keys", "_lazy", "_stimulus_handle", "_store", "_tables"},
    "captions": {*BASE, "_keys", "_stimulus_handle", "_store", "_tables"},
    "stimuli": {
        *(*BASE, "_keys", "_pictures", "_repr", "_stimulus_handle", "_store"),
        *("captions", "embeddings", "images", "segmentations"),
    },
    "_rois": {*BASE, "_layout", "_select", "_store"},
    "_base": {*BASE, "_lazy", "_query"},
    "_anatomy": {"errors", "_base", "_layout", "config"},
    "_brain_space": {
        *(*BASE, "_anatomy", "_labels", "_layout", "_optional", "_recon", "_select", "plots"),
        "templates",
    },
    "_regions": {*BASE, "_base", "_rois", "_select"},
    "_subject_stimuli": {
        *(*BASE, "_base", "_keys", "_stimulus_handle", "_store"),
        *("captions", "embeddings", "images", "segmentations"),
    },
    "_split_rules": {"errors", "_layout"},
    "splits": {*BASE, "_layout", "_split_rules", "_store", "config"},
    "_repeats": {"_labels", "_lazy", "_schema", "_selected", "_stream"},
    "_reliability": {"_labels", "_repeats", "_schema", "_selected", "_store", "_stream"},
    "_labels": {"_schema"},
    "_geometry": {"_labels", "_schema"},
    "_encoding": {"_labels", "_optional", "_schema"},
    "_scoring": {"_labels", "_reliability", "_schema"},
    "_permutation": set(),
    "analysis": {
        *("_encoding", "_geometry", "_permutation", "_reliability", "_repeats", "_scoring"),
    },
    "group": {
        *(*BASE, "_layout", "_repr", "_select", "_store", "analysis", "config", "stimuli"),
        "subject",
    },
    "_trial_rows": set(),
    "torch_data": {
        *("_keys", "_pictures", "_schema", "_select", "_stimulus_handle", "_trial_rows"),
        "embeddings",
    },
    "_repr": {"_schema"},
    "engine": set(),
    "subject": {
        *("_brain_space", "_layout", "_lazy", "_regions", "_repr", "_schema", "_select", "_store"),
        *("_repeats", "_subject_stimuli", "config"),
    },
    # Nothing of ours imports these: they are for users alone.
    "compat._convert": {"_schema", "_store"},
    "compat._errors": {"errors"},
    "compat.config": {"config"},
    "compat.discovery": {"discovery"},
    "compat.download": {"download"},
    "compat.captions": {"_store", "captions", "compat._convert"},
    "compat.segmentations": {"_store", "compat._convert", "segmentations"},
    "compat.embeddings": {"_store", "compat._convert", "embeddings"},
    "compat.stimuli": {
        *("_pictures", "_schema", "_store", "stimuli", "compat._convert"),
        *("compat.captions", "compat.embeddings", "compat.segmentations"),
    },
    "compat.subject": {
        *("_layout", "_schema", "_store", "subject", "compat._convert"),
        *("compat.embeddings", "compat.segmentations", "compat.templates"),
    },
    "compat.templates": {"_schema", "compat._convert"},
    "compat.torch_data": {"_schema", "torch_data", "compat._convert"},
    "compat.splits": {"splits"},
    "compat.group": {"_schema", "_store", "group", "compat._convert", "compat.subject"},
    "compat.io": set(),
    "compat.brain": {"_dataset", "_schema", "templates", "compat.io"},
    "conversion.plan": {"_schema"},
    "conversion.options": {"errors", "_layout", "_select", "conversion.plan"},
    "conversion.remote": {"errors", "_layout", "_remote"},
    "conversion.sources": {"errors", "_layout", "_remote", "conversion.remote"},
    "conversion.hdf5": {"errors", "conversion.sources"},
    "conversion.metadata": {"_codec", "_schema"},
    "conversion.write": {*BASE, "_codec", "_remote", "_store", "conversion.metadata"},
    "conversion.rows": {"_codec", "_schema", "conversion.write"},
    "conversion.session": {
        *(*BASE, "_codec", "_store"),
        *("conversion.plan", "conversion.sources", "conversion.write"),
    },
    "conversion.workers": {"errors", "_store", "conversion.options", "conversion.session"},
    "conversion.subject": {
        *(*BASE, "_layout", "_store"),
        *("conversion.plan", "conversion.session", "conversion.sources", "conversion.write"),
    },
    "conversion.cluster": {
        *(*BASE, "_optional", "_store"),
        *("conversion.session", "conversion.workers"),
    },
    "conversion.stimuli": {
        *("_codec", "_image_files", "_schema", "_store", "conversion.hdf5", "conversion.rows"),
        *("conversion.session", "conversion.sources", "conversion.subject", "conversion.write"),
    },
    "conversion.pieces": {
        *("_layout", "_schema", "_store", "conversion.options", "conversion.sources"),
        *("conversion.subject", "conversion.write"),
    },
    "conversion.axis": {
        *(*BASE, "_layout", "_store", "conversion.options", "conversion.sources"),
        "conversion.subject",
    },
    "conversion.planning": {
        *(*BASE, "_layout", "_store", "conversion.axis", "conversion.options", "conversion.plan"),
        "conversion.cluster",
        *("conversion.pieces", "conversion.session", "conversion.sources"),
        *("conversion.subject", "conversion.write"),
    },
    "conversion.stimulus_run": {
        *(*BASE, "_layout", "_store", "conversion.axis", "conversion.options"),
        *("conversion.planning", "conversion.stimuli", "conversion.subject", "conversion.write"),
    },
    "conversion.pipeline": {
        *(*BASE, "_layout", "_store", "config", "conversion.cluster", "conversion.options"),
        *("conversion.pieces", "conversion.planning", "conversion.sources"),
        *("conversion.stimulus_run", "conversion.subject", "conversion.workers"),
        "conversion.write",
    },
    # By other code than converter and reader: neither sources, plan nor write.
    "conversion.checks": {*BASE, "_codec", "_store"},
    "conversion.subject_checks": {"_schema", "_store", "conversion.checks"},
    "conversion.stimulus_checks": {"_schema", "_store", "conversion.checks"},
    "conversion.verification": {
        *(*BASE, "_store", "config", "conversion.checks"),
        *("conversion.split_checks", "conversion.stimulus_checks", "conversion.subject_checks"),
    },
    "conversion.split_checks": {"_schema", "_store", "conversion.checks"},
    # Merges with what is stored, which the reader reads.
    "conversion.splits": {
        *(*BASE, "_codec", "_split_rules", "_store", "config", "splits"),
        *("conversion.sources", "conversion.write"),
    },
    "conversion._split_files": {"_split_rules", "conversion._experiment"},
    "conversion._phantom": {"_layout"},
    "conversion._experiment": {"_layout", "conversion._phantom"},
    "conversion._freesurfer": {"_layout", "conversion._phantom", "conversion._experiment"},
    "conversion._shapes": set(),
    "conversion._pictures": {"conversion._experiment", "conversion._shapes"},
    "conversion._stimulus_files": {
        *("_layout", "conversion._experiment", "conversion._phantom", "conversion._pictures"),
    },
    "conversion.synthetic": {
        *("errors", "_layout", "conversion._phantom", "conversion._experiment"),
        *("conversion._freesurfer", "conversion._stimulus_files"),
    },
    "conversion.info": {
        *(*BASE, "_layout", "_store", "config", "conversion.sources"),
        *("conversion.stimulus_run", "conversion.write"),
    },
    "conversion.demo": {
        *("_schema", "_store", "subject", "conversion.pipeline", "conversion.synthetic"),
        *("conversion._experiment", "conversion._split_files", "conversion.splits"),
        *("errors", "splits"),
    },
    "conversion.cli": {"errors", "config", "conversion.cli_download"},
    "conversion.cli_download": set(),
    "conversion": {"conversion.pipeline", "conversion.splits", "conversion.verification"},
}

# Function-level imports are for what is optional or heavy, and only here.
LOCAL_IMPORTS = {
    "engine": {"laion_zarr", "numpy"},  # xarray imports every engine for every user
    "conversion.cluster": {"distributed"},
    "conversion.cli": {"laion_zarr.conversion"},  # the command line answers --help at once
    "conversion.cli_download": {"laion_zarr"},
    "conversion.demo": {"matplotlib", "laion_zarr.plots"},
    "conversion.write": {"fcntl"},
    "plots": {"matplotlib", "nibabel", "nilearn"},
    "_recon": {"nibabel", "nilearn", "nitransforms"},
    "_resample": {"scipy"},
    "templates": {"nibabel", "scipy"},
    "_dataset": {"dask"},
    "_encoding": {"sklearn"},
    "_image_files": {"PIL"},
    "_pictures": {"PIL"},  # only who looks at pictures waits for it
    "_subject_stimuli": {"laion_zarr.torch_data"},  # which imports PyTorch
}


def module_files() -> dict[str, Path]:
    files = {path.stem: path for path in (ROOT / "laion_zarr").glob("*.py")}
    files |= {f"conversion.{path.stem}": path for path in (ROOT / "conversion").glob("*.py")}
    files["conversion"] = files.pop("conversion.__init__")
    compat = (ROOT / "laion_zarr" / "compat").glob("*.py")
    files |= {f"compat.{path.stem}": path for path in compat}
    del files["__init__"], files["compat.__init__"]
    return files


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.module is not None
        assert node.level == 0
        if node.module in ("laion_zarr", "laion_zarr.conversion"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield node.module


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@pytest.mark.parametrize(("name", "path"), sorted(module_files().items()))
def test_imports_go_down(name, path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ours = {
        module.removeprefix("laion_zarr.")
        for node in tree.body
        for module in imported(node)
        if module.startswith("laion_zarr")
    }
    assert ours <= ALLOWED[name]


@pytest.mark.parametrize(("name", "path"), sorted(module_files().items()))
def test_local_imports_are_for_optional_packages(name, path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    top |= {id(inner) for node in tree.body if is_type_checking(node) for inner in ast.walk(node)}
    local = {module for node in ast.walk(tree) if id(node) not in top for module in imported(node)}
    allowed = LOCAL_IMPORTS.get(name, set())
    assert not {m for m in local if not any(m.startswith(prefix) for prefix in allowed)}


def test_the_map_is_complete():
    assert set(ALLOWED) == set(module_files())
