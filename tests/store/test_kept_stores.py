"""Stores of earlier versions open, and answer as the files that they were made of.

`kept/` has a tiny store of each minor version, and the contents of its source files as nibabel,
h5py and pandas read them; `make_kept_store.py` made both.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import laion_zarr
from laion_zarr import load_stimuli, load_subject, verify
from laion_zarr.splits import get_train_test_ids
from laion_zarr.store.manifest import dump_manifest
from laion_zarr.store.schema import SCHEMA_VERSION
from laion_zarr.subject import Subject

KEPT = sorted((Path(__file__).parent / "kept").glob("*.tar.xz"))
FACES = ("floc", "faceVsOthers")

# Name of an answer -> the question that has it.
OF_SUBJECT: dict[str, Callable[[Subject], Any]] = {
    "averages": lambda sub: sub.get_image_betas(),
    "betas": lambda sub: sub.get_betas(),
    "image_name": lambda sub: sub.metadata["image_name"],
    "response_time": lambda sub: sub.get_events("ses-01", 1)["response_time"],
    "voxel": lambda sub: sub.get_betas()["voxel"],
    "roi": lambda sub: sub.get_roi_mask("FFA1"),
    "noise_ceiling": lambda sub: sub.get_noise_ceiling(desc="NoiseceilingAllrep"),
    "r2": lambda sub: sub.sel(mask_source="anatomical")["r2"].sel(session_id="ses-02"),
    "localizer": lambda sub: sub.get_localizer(*FACES),
    "bold": lambda sub: sub.get_bold("ses-01", 1),
    "faces": lambda sub: sub.get_surface("pial", "L")["faces"],
    "sphere": lambda sub: sub.get_surface("sphere.reg", "L")["coordinates"],
    "localizer_surface": lambda sub: sub.get_localizer_surface(*FACES, hemi="L"),
    "roi_1pt5": lambda sub: sub.get_roi_volume("FFA1", res="1pt5"),
    "roi_label": lambda sub: sub.get_roi_data("FFA1", "label", "R")["FFA1"]["gii"]["hemi-R"][
        "label"
    ],
    "brain_full": lambda sub: sub.get_brain_mask(res=None),
}
OF_STIMULI: dict[str, Callable[[Any, dict], Any]] = {
    "stimulus": lambda stim, _: stim.metadata["image_name"],
    "picture": lambda stim, kept: np.frombuffer(
        stim.images[kept["stimulus"][3].item()], dtype=np.uint8
    ),
    "embedding": lambda stim, kept: stim.embeddings.get("CLIP", kept["embedding_of"].item()),
    "mask": lambda stim, kept: stim.segmentations.get(*kept["mask_of"].tolist()),
    "captions": lambda stim, kept: stim.captions.human(kept["mask_of"][0].item()),
}
# Kinds of parts, each of which a question above reads.
PARTS = {
    *("voxels", "trials", "ses", "maps", "anatomy", "surfaces", "rois_1pt5", "localizers"),
    *("geometry", "events", "bold", "metadata", "images", "embeddings", "segmentations"),
    *("captions", "membership", "averages"),
}


MINOR = laion_zarr.__version__.rpartition(".")[0]


@pytest.fixture(scope="module", params=KEPT, ids=lambda path: path.name.removesuffix(".tar.xz"))
def kept(request, tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """A store, and what its source files hold."""
    store = tmp_path_factory.mktemp(request.param.name.removesuffix(".tar.xz")) / "store.zarr"
    with tarfile.open(request.param) as archive:
        archive.extractall(store, filter="data")
    answers = request.param.with_name(request.param.name.replace(".tar.xz", ".npz"))
    with np.load(answers, allow_pickle=False) as values:
        return store, dict(values)


def test_every_question_is_answered_as_the_sources_do(kept):
    store, answers = kept
    sub, stim = load_subject("01", store), load_stimuli(store)
    found = {name: OF_SUBJECT[name](sub) for name in OF_SUBJECT if name in answers}
    found |= {name: OF_STIMULI[name](stim, answers) for name in OF_STIMULI if name in answers}
    found["test_images"] = get_train_test_ids("tau", "sub-01", store=store)[1]
    assert set(found) == set(answers) - {"embedding_of", "mask_of"}
    for name, wanted in answers.items():
        if name in found:
            values = np.asarray(found[name])
            values = values.astype(str) if wanted.dtype.kind == "U" else values
            if name == "averages":  # of sums, whose last bits depend on the order of adding
                np.testing.assert_allclose(values, wanted, 0, 1e-5)
            else:
                np.testing.assert_array_equal(values, wanted, name)
            assert wanted.size, name
    assert np.isnan(answers["betas"]).any()
    assert np.nanstd(answers["betas"]) > 0
    assert answers["roi"].any()


def test_it_is_whole_and_each_part_has_its_question(kept):
    store, _ = kept
    assert verify(store, progress=False).problems == []
    parts = {
        name.partition("/")[0].partition("-")[0]
        for manifest in store.glob("*/manifest.json")
        for name in json.loads(manifest.read_bytes())["parts"]
    }
    assert parts <= PARTS
    if store.parent.name.startswith(f"{MINOR}."):
        assert parts == PARTS


def test_a_store_of_this_version_is_kept():
    mine = [path for path in KEPT if path.name.startswith(f"{MINOR}.")]
    assert mine, "run 'python tests/store/make_kept_store.py'"
    with tarfile.open(mine[-1]) as archive:
        root = json.load(archive.extractfile("zarr.json"))
    assert root["attributes"]["laion_zarr"]["schema_version"] == SCHEMA_VERSION
    with np.load(mine[-1].with_name(mine[-1].name.replace(".tar.xz", ".npz"))) as answers:
        assert {*OF_SUBJECT, *OF_STIMULI} <= set(answers)


def test_what_a_later_version_adds_is_read_around(kept, copy_of):
    """A part and an array that this version does not know, as docs/releasing.md says."""
    store = copy_of(kept[0])
    manifest = json.loads((store / "sub-01/manifest.json").read_bytes())
    parts = manifest["parts"]
    shutil.copytree(store / "sub-01/events", store / "sub-01/later")
    parts["later"] = parts["events"] | {"path": "sub-01/later"}
    shutil.copytree(store / "sub-01/voxels/x", store / "sub-01/voxels/later")
    files = parts["voxels"]["files"]
    files |= {f"later{name[1:]}": entry for name, entry in files.items() if name.startswith("x/")}
    (store / "sub-01/manifest.json").write_bytes(dump_manifest(manifest))
    before, after = load_subject("01", kept[0]), load_subject("01", store)
    xr.testing.assert_identical(after.dataset.load(), before.dataset.load())
    assert after.get_events().equals(before.get_events())
    assert verify(store, progress=False).problems == []
