"""Peak memory of a fresh process, against what `--memory` and the docs promise."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from isal import igzip

from laion_zarr.conversion.budget import SessionSize, WorkPlan

SUB = "sub-01"
GLM = f"derivatives/glmsingle-tedana/{SUB}"
ANAT = f"derivatives/anatomical/{SUB}/ses-PrismaAnat/anat/{SUB}_ses-PrismaAnat_space-T1w"
SHAPE = (60, 70, 65)
FEW, ALL = 60_000, int(np.prod(SHAPE))  # voxels of the two masks
N_THREADS = 2
SESSIONS = ("ses-01", "ses-02", "ses-03")

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="only Linux tells a process's peak"
)


def write_series(path, volumes, n_volumes):
    """A NIfTI of float32 volumes, flat in file order, packed fast."""
    header = nib.Nifti1Header()
    header.set_data_dtype("<f4")
    header.set_data_shape((*SHAPE, n_volumes) if n_volumes > 1 else SHAPE)
    header.set_sform(np.diag([-3.0, 3.0, 3.0, 1.0]), 1)
    header["vox_offset"] = 352
    path.parent.mkdir(parents=True, exist_ok=True)
    with igzip.open(path, "wb", compresslevel=0) as stream:
        stream.write(header.binaryblock + bytes(4))
        for volume in volumes:
            stream.write(volume.astype("<f4").tobytes())


@pytest.fixture(scope="module")
def n_trials(rounds):
    return rounds(300, 1044)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory, n_trials):
    """Three sessions of the same betas; a small anatomical mask, and an rsquare mask of all."""
    root, rng = tmp_path_factory.mktemp("mirror"), np.random.default_rng(0)
    flat = np.arange(ALL)
    write_series(root / f"{ANAT}_res-1pt8_desc-brain_mask.nii.gz", [flat < FEW], 1)
    name = f"{SUB}_task-images_space-T1w_stat-rsquare_desc-R2mean_statmap.nii.gz"
    write_series(root / GLM / name, [np.ones(ALL)], 1)
    roi = f"derivatives/rois/{SUB}/face/{SUB}_space-T1w_res-1pt8_label-FFA1_mask.nii.gz"
    write_series(root / roi, [flat % 14 == 0], 1)
    # Noise takes long to make: a window over one strip of it, another for each volume.
    noise = rng.standard_normal(ALL + n_trials, dtype="f4")
    for session in SESSIONS:
        func = root / GLM / session / "func"
        stem = f"{SUB}_{session}_task-images"
        betas = func / f"{stem}_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
        if session == SESSIONS[0]:
            first = betas
            write_series(betas, (noise[n : n + ALL] for n in range(n_trials)), n_trials)
        else:
            func.mkdir(parents=True)
            os.link(first, betas)
        rows = {"session": session, "run": 1, "beta_index": np.arange(n_trials)}
        table = pd.DataFrame(rows | {"label": "shared_12rep_LAION_cluster_1003_i0.jpg"})
        table.to_csv(func / f"{stem}_desc-SingletrialBetas_trials.tsv", sep="\t", index=False)
    yield root
    shutil.rmtree(root)


PROGRAM = """
import json, sys
from pathlib import Path

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

{code}
print(json.dumps([before, peak(), found]))
"""


def run_alone(code):
    """Run code in an interpreter of its own -> its `found`, its peak, and that `before`."""
    command = [sys.executable, "-c", PROGRAM.format(code=code)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    before, peak, found = json.loads(result.stdout)
    return found, peak, before


def convert_alone(mirror, store, mask, memory, sessions, parts=None):
    code = f"""
import laion_zarr.conversion.run.pipeline
before = peak()
laion_zarr.convert({str(mirror)!r}, {str(store)!r}, sessions={sessions!r}, parts={parts!r},
                   mask={mask!r}, memory={memory!r}, n_workers=1, progress=False)
found = None
"""
    _, peak, before = run_alone(code)
    return before, peak


@pytest.mark.parametrize("mask", ["anatomical", "both"])
@pytest.mark.parametrize("share", [1, 0.5, 0], ids=["memory", "half and half", "scratch file"])
def test_conversion_keeps_to_its_memory(mirror, tmp_path, n_trials, tally, mask, share):
    size = SessionSize(FEW if mask == "anatomical" else ALL, n_trials, ALL * 4)
    kept = int(share * size.n_slabs)
    promised = size.memory_nbytes(kept)
    assert WorkPlan(1, promised).slabs_kept(size) == kept
    before, peak = convert_alone(mirror, tmp_path / "s.zarr", mask, promised, ["ses-01"])
    assert peak <= promised, (before, peak, promised)
    # The measure sees the betas that are in memory, and that the others are not.
    in_memory = kept * size.slab_nbytes
    if mask == "both":
        assert before + in_memory < peak < before + in_memory + size.matrix_nbytes
    shutil.rmtree(tmp_path)
    tally("peaks of memory within their promise")


def test_conversion_of_time_series_keeps_to_its_memory(mirror, tmp_path, n_trials, tally):
    """Two runs, which are links to betas, one after the other through the scratch file."""
    for run in (1, 2):
        stem = f"{SUB}_ses-01_task-images_run-{run:02d}_space-T1w_desc-optcom_bold"
        path = mirror / f"derivatives/tedana/{SUB}/ses-01/func/{stem}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(next(mirror.glob(f"{GLM}/ses-01/func/*Betas_statmap.nii.gz")), path)
        path.with_name(f"{stem}.json").write_text('{"RepetitionTime": 1.0}')
    size = SessionSize(ALL, 2 * n_trials, ALL * 4)
    promised = size.memory_nbytes(0)
    assert size.matrix_nbytes > promised
    before, peak = convert_alone(mirror, tmp_path / "s.zarr", "both", promised, ["ses-01"], "bold")
    assert before < peak <= promised, (before, peak, promised)
    shutil.rmtree(tmp_path)
    shutil.rmtree(mirror / "derivatives/tedana")
    tally("peaks of memory within their promise")


@pytest.fixture(scope="module")
def store(mirror, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "s.zarr"
    convert_alone(mirror, path, "both", "4GiB", None)
    yield path
    shutil.rmtree(path)


def read_alone(store, code):
    setup = f"""
import dask, numpy as np
from laion_zarr import load_subject
dask.config.set(num_workers={N_THREADS})
sub = load_subject({SUB!r}, {str(store)!r})
sub.dataset["voxel"].values
before = peak()
"""
    return run_alone(setup + code)


def test_region_of_many_sessions(store, n_trials, tally):
    """Four times the result: its blocks, the whole put together, and what two threads are at."""
    code = """
betas = sub.get_betas(roi="FFA1", mask_source="rsquare").load()
found = [betas.nbytes, float(betas[:, 5].mean())]
"""
    (nbytes, _), peak, before = read_alone(store, code)
    assert nbytes == len(SESSIONS) * n_trials * (ALL // 14) * 4
    assert nbytes < peak - before < 4 * nbytes
    tally("peaks of memory within their promise")


def test_statistics_out_of_core(store, n_trials, tally):
    """Some blocks of all trials × 2,048 voxels for each thread, however large the whole."""
    code = """
betas = sub.get_betas(mask_source="rsquare", chunks={"trial": -1, "voxel": 2048})
betas = betas[:, : 50 * 2048]
found = [betas.nbytes, float(betas.std("trial").mean())]
"""
    (nbytes, _), peak, before = read_alone(store, code)
    # Dask's sums of squares are float64, in several copies; chunks are fetched 32 at a time.
    block, fetched = len(SESSIONS) * n_trials * 2048 * 4, 32 * n_trials * 128 * 4
    allowed = N_THREADS * (16 * block + 4 * fetched)
    assert peak - before < allowed < nbytes
    tally("peaks of memory within their promise")
