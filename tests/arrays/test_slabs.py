"""Betas of more trials and voxels than a block, and of more voxels than a slab."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from random_mirrors import (
    GLM,
    LABELS,
    MASK_FILES,
    ROIS,
    SUB,
    Case,
    Files,
    Session,
    any_chunks,
    check_blocks,
    converted,
    in_memory,
    plain_spec,
    same,
    same_betas,
    same_dataset,
    trials_of,
    write_nifti,
    write_table,
)
from trees import tree

from laion_zarr import _whole, convert

CHUNK, SLAB = 128, 17_280  # as docs/store.md promises them


# -- more trials and voxels than a block


def test_blocks_of_many_trials():
    """More trials and voxels than any tile of a transposition."""
    days = [("ses-01", 83), ("ses-02", 71)]
    spec = plain_spec(
        sides=(11, 13, 9),
        masks={"anatomical": "all"},
        sessions=tuple(Session(*day, "<f4", "some", (), True) for day in days),
    )
    with converted(spec) as case:
        files, sub = case.files, case.sub
        assert len(files.union) > 1024
        for chunks in (None, {"trial": -1}, {"trial": 100, "voxel": 1100}):
            same(sub.get_betas(chunks=chunks).values, files.betas)
            same(sub.get_betas(session="ses-02", chunks=chunks).values, files.betas[83:])
        with xr.open_dataset(case.store, engine="laion_zarr", group=SUB) as dataset:
            same(dataset["betas"][::-1, 5:].values, files.betas[::-1, 5:])
            same(dataset["betas"][1:, ::-1].values, files.betas[1:, ::-1])


# -- more voxels than a slab


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Two masks, neither in the other, whose union of ~48,000 voxels spans three slabs."""
    folder = tmp_path_factory.mktemp("large")
    root, shape, affine = folder / "mirror", (37, 41, 47), np.diag([-4.0, 4.0, 4.0, 1.0])
    rng = np.random.default_rng(5)
    i, j, k = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    radius = i**2 + j**2 + k**2
    anatomical, rsquare = (radius < 1.15) & (i < 0.8), (radius < 1) | (rng.random(shape) < 0.1)
    write_nifti(root / MASK_FILES["anatomical"], anatomical, affine, "u1")
    write_nifti(root / MASK_FILES["rsquare"], rsquare * 7.5, affine)
    for n, session in enumerate(["ses-01", "ses-02"]):
        func = f"{root / GLM / session}/func/{SUB}_{session}_task-images_"
        values = rng.normal(0, 2, (*shape, 5 - n)).astype(np.float32)
        name = "space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
        write_nifti(Path(f"{func}{name}"), values, affine)
        rows = {"session": session, "run": 1, "beta_index": np.arange(5 - n)[::-1]}
        table = pd.DataFrame(rows | {"label": LABELS[: 5 - n]})
        write_table(Path(f"{func}desc-SingletrialBetas_trials.tsv"), table, "\t")
    rois = {"EBA": rng.random(shape) < 0.02, "FFA1": np.abs(i - 0.3) < 0.03, "hV4": i < -0.9}
    for roi, mask in rois.items():
        stem = f"derivatives/rois/{SUB}/{ROIS[roi]}/{SUB}_space-T1w_res-1pt8"
        write_nifti(root / f"{stem}_label-{roi}_mask.nii.gz", mask, affine, "u1")
    convert(root, folder / "laion-fmri.zarr", n_workers=1, progress=False)
    case = Case(Files(root), folder / "laion-fmri.zarr")
    assert 2 * SLAB < len(case.files.union) < 3 * SLAB
    return case


@pytest.mark.parametrize("mask_source", ["anatomical", "rsquare"])
@pytest.mark.parametrize("roi", [None, "EBA", "FFA1", "hV4", ["body", "hV4"]])
@pytest.mark.parametrize("session", [None, "ses-02"])
def test_betas_across_slabs(large, mask_source, roi, session):
    files = large.files
    voxels = files.axis(mask_source)
    if roi is not None:
        voxels = voxels[files.in_rois(roi)[voxels]]
        assert len(voxels)
    betas = large.sub.get_betas(session=session, roi=roi, mask_source=mask_source)
    same_betas(betas, files, trials_of(files, session), voxels)


def test_dataset_across_slabs(large, monkeypatch):
    monkeypatch.setattr(_whole, "_WHOLE_BYTES", 0)
    files, dataset = large.files, large.sub.dataset
    blocks = ((5, 4), (SLAB, SLAB, len(files.union) - 2 * SLAB))
    assert dataset["betas"].chunks == blocks
    same_dataset(dataset, files, np.arange(9), files.union)
    with xr.open_dataset(large.store, engine="laion_zarr", group=SUB, chunks={}) as opened:
        assert opened["betas"].chunks == blocks
        same(opened["betas"].values, files.betas[:, files.union])


@any_chunks
@pytest.mark.parametrize("opened", ["dataset", "engine", "chunked engine"])
@pytest.mark.parametrize(
    ("trial", "voxel"),
    [
        (slice(None), slice(SLAB - 300, SLAB + 300)),
        (slice(None, None, -1), slice(None, None, -997)),
        ([8, 0, 0, 4, 5], np.array([SLAB, SLAB - 1, 0, -1, SLAB])),
        ([3, 1, 0, 4, 2], slice(0, 700)),
        (-1, slice(None)),
        (slice(4, 6), SLAB),
        (np.arange(9) % 2 == 1, slice(10, None, CHUNK)),
    ],
    ids=["border", "backwards", "repeated", "shuffled", "one trial", "one voxel", "strided"],
)
def test_selection_across_slabs(large, opened, trial, voxel):
    dataset = large.sub.dataset
    if opened != "dataset":
        chunks = {"trial": -1, "voxel": 9001} if opened == "chunked engine" else None
        dataset = xr.open_dataset(large.store, engine="laion_zarr", group=SUB, chunks=chunks)
    whole = in_memory(large.files)
    same(dataset["betas"][trial, voxel].values, whole[trial, voxel].values)
    if isinstance(trial, list):  # the same, in two steps
        same(dataset["betas"][:, voxel][trial].values, whole[trial, voxel].values)


@pytest.mark.parametrize("chunks", [{"voxel": 9001}, {"trial": -1, "voxel": 20_000}, {"trial": 2}])
def test_chunks_across_slabs(large, chunks):
    betas = large.sub.get_betas(mask_source="rsquare", chunks=chunks)
    check_blocks(betas, chunks)
    same(betas.values, large.files.betas[:, large.files.axis("rsquare")])


def test_store_of_three_slabs_is_plain_zarr(large):
    """zarr-python alone reads the same values; ROIs first, then runs of the axis."""
    files, n_trials = large.files, {"ses-01": 5, "ses-02": 4}
    first = 0
    for session, count in n_trials.items():
        group = zarr.open_group(large.store / SUB / session, mode="r")
        stored, betas = group["voxel"][:], group["betas"]
        assert betas.metadata.dimension_names == ("voxel", "trial")
        assert (betas.chunks, betas.shards) == ((CHUNK, count), (SLAB, count))
        same(betas[:].T, files.betas[first : first + count][:, stored])
        first += count
        in_roi = files.in_rois("all")[stored]
        n_front = int(in_roi.sum())
        assert in_roi[:n_front].all()
        slabs = np.searchsorted(files.union, stored[n_front:]) // SLAB
        assert (np.diff(slabs) >= 0).all()
        assert set(slabs.tolist()) == {0, 1, 2}


def test_nifti_across_slabs(large, tmp_path):
    betas = large.sub.get_betas(session="ses-02", mask_source="rsquare")
    shuffled = betas.isel(voxel=np.random.default_rng(0).permutation(betas.sizes["voxel"]))
    path = large.sub.to_nifti(shuffled, tmp_path / "b.nii")
    expected = np.where(large.files.masks["rsquare"], large.files.betas[5:], np.float32(0))
    found = np.moveaxis(np.asarray(nib.load(path).dataobj), -1, 0)
    same(found, expected.reshape(4, *large.files.shape))


def test_manifest_lists_every_file(large):
    """Nothing lies in a store that its manifests do not account for."""
    listed = {"zarr.json", "manifest.json", f"{SUB}/manifest.json"}
    manifest = json.loads((large.store / SUB / "manifest.json").read_text())
    listed |= {f"{SUB}/{key}" for key in manifest["files"]}
    for part in manifest["parts"].values():
        listed |= {f"{part['path']}/{key}" for key in part["files"]}
    assert {key for key, data in tree(large.store).items() if data is not None} == listed
