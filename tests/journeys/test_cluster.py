"""A Dask cluster of processes: the same results, little data sent, no loss if a worker dies."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from code_blocks import run
from trees import tree
from waiting_store import WaitingStore, waiting

from laion_zarr import convert, load_subject, load_subjects
from laion_zarr.analysis import (
    average_repeats,
    noise_ceiling,
    split_half_reliability,
    zscore,
)
from laion_zarr.analysis.streams import stream
from laion_zarr.conversion.budget import ClusterRoom, SessionSize, plan_cluster
from laion_zarr.conversion.cli import main
from laion_zarr.errors import LaionZarrError, StoreError

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("default")  # of distributed and tornado

PATIENCE = 60  # seconds, for what takes less than one
SPILL_ABOVE = 4e-5  # of a worker's memory: 20 kB


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two processes of one thread, which spill nearly all that they are given to keep."""
    memory = {"target": SPILL_ABOVE, "spill": False, "pause": False, "terminate": False}
    settings = {f"distributed.worker.memory.{key}": value for key, value in memory.items()}
    # A worker that is killed again and again is the tests' doing.
    settings["distributed.scheduler.allowed-failures"] = 3
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="500MB", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def eventually(true: Callable[[], Any]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def opening(gate: Path) -> Iterator[None]:
    """Open a gate at the end, come what may: nobody waits for ever."""
    try:
        yield
    finally:
        (gate / "open").touch()


def questions(sub: Any, store: Path) -> dict[str, Any]:
    """Lazy answers of every kind, from arrays as they are read and as they are computed."""
    betas, faces = sub.get_betas(), sub.get_betas(roi="face")
    blocks = betas.chunk({"trial": 11, "voxel": 301})
    return {
        "betas": betas,
        "a region": faces,
        "z-scores": zscore(betas),
        "z-scores by run": zscore(faces, "run"),
        "averages": average_repeats(betas),
        "averages of blocks": average_repeats(blocks),
        "image betas": sub.get_image_betas(stimuli="shared"),
        "noise ceiling": noise_ceiling(betas),
        "noise ceiling of blocks": noise_ceiling(blocks),
        "reliability": split_half_reliability(betas),
        "standard deviation": betas.std("trial"),
        "embeddings": sub.embeddings.all("CLIP"),
        "averaged embeddings": average_repeats(sub.embeddings.all("CLIP")),
        "pictures": sub.images.array(session="ses-01"),
        "of two people": load_subjects("all", store).get_shared_betas(average=True)["sub-03"],
        "in the brain": sub.unmask(noise_ceiling(betas)),
    }


def sent(data: Any) -> list[int]:
    """Bytes of each task as it goes to a worker, and of all of them as they go out."""
    (data,) = dask.optimize(data)
    graph = dict(data.__dask_graph__())
    return [*(len(pickle.dumps(task)) for task in graph.values()), len(pickle.dumps(graph))]


def test_every_answer_is_the_same(client, store, monkeypatch):
    monkeypatch.setattr(stream, "READ_BYTES", 1)  # several tasks
    lazy = questions(load_subject("sub-01", store), store)
    with dask.config.set(scheduler="synchronous"):
        expected = {name: array.compute() for name, array in lazy.items()}
    with client.as_current():
        futures = {name: client.compute(array) for name, array in lazy.items()}
        for name, future in futures.items():
            xr.testing.assert_identical(future.result(PATIENCE), expected[name])


def test_a_result_is_not_what_a_cluster_keeps(store):
    """In one process with its workers: changing a result changes nothing that they keep."""
    betas = load_subject("sub-01", store).get_betas()
    with (
        distributed.LocalCluster(
            n_workers=1, processes=False, dashboard_address=None, protocol="inproc://"
        ) as cluster,
        distributed.Client(cluster),
    ):
        kept = betas.persist()
        found = betas.values
        was = found.copy()
        found[:] = 0
        np.testing.assert_array_equal(kept, was)
        np.testing.assert_array_equal(betas, was)


def test_graphs_are_small(store):
    """A task is a kilobyte; labels and positions, as long as the axes, are in one of them."""
    sub = load_subject("sub-01", store)
    sizes = sub.get_betas().sizes
    of_labels = 24 * (sizes["trial"] + sizes["voxel"]) + 8_000
    for name, array in questions(sub, store).items():
        *tasks, whole = sent(array.data)
        large = [nbytes for nbytes in tasks if nbytes > 3_000]
        assert sum(large) < 3 * of_labels, name
        assert len(large) <= 6, name
        assert whole < 3 * of_labels + 3_000 * len(tasks), name


def test_what_is_sent_is_opened_where_it_is_used(store, tmp_path):
    """Who only passes it on, as a scheduler does, need not reach the store."""
    there = Path(shutil.copytree(store, tmp_path / "s.zarr"))
    packed = pickle.dumps(load_subject("sub-01", there).get_betas().data)
    away = there.rename(tmp_path / "elsewhere")
    passed_on = pickle.loads(packed)
    away.rename(there)
    expected = load_subject("sub-01", store).get_betas()
    np.testing.assert_array_equal(passed_on.compute(scheduler="synchronous"), expected)
    (there / "sub-01" / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"manifest\.json is missing"):
        pickle.loads(packed).compute(scheduler="synchronous")


def test_no_task_keeps_betas(client, sub):
    """Workers keep the statistics of a voxel and no betas, and spill nothing to disk."""

    def spilled() -> int:
        counts = client.run(lambda dask_worker: len(dask_worker.data.slow))
        return sum(counts.values())

    betas = sub.get_betas()
    with client.as_current():
        assert np.isfinite(noise_ceiling(betas).compute()).any()
        assert np.isfinite(split_half_reliability(betas).compute()).any()
        kept = client.persist(noise_ceiling(betas))
        distributed.wait(kept, PATIENCE)
        assert not spilled()
        kept = client.persist(betas)  # which would be
        distributed.wait(kept, PATIENCE)
        assert spilled()


def test_noise_ceiling_survives_a_killed_worker(client, store, tmp_path, monkeypatch):
    """Killed amid a task, with finished ones in its memory."""
    monkeypatch.setattr(stream, "READ_BYTES", 1)
    expected = noise_ceiling(load_subject("sub-01", store).get_betas()).compute()
    # Two sessions: a worker finishes a task, and reads half of its second one.
    waits = WaitingStore(store, tmp_path, free=3)
    lazy = noise_ceiling(load_subject("sub-01", waits).get_betas())
    workers = set(client.run(os.getpid).values())
    with client.as_current():
        future = client.compute(lazy)
        with opening(tmp_path):
            eventually(lambda: waiting(tmp_path))
            os.kill(waiting(tmp_path)[0], signal.SIGKILL)
        xr.testing.assert_identical(future.result(PATIENCE), expected)
    eventually(lambda: len(client.run(os.getpid)) == 2)
    assert set(client.run(os.getpid).values()) != workers


# -- convert


@pytest.fixture
def address(client: Any) -> str:
    """Address of the scheduler."""
    return client.scheduler.address


@pytest.fixture(scope="module")
def alone(bids_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The betas of one subject, converted without a cluster."""
    path = tmp_path_factory.mktemp("alone") / "s.zarr"
    convert(bids_root, path, "01", parts="betas", progress=False)
    return path


def test_convert_writes_the_same_bytes(address, bids_root, alone, tmp_path):
    target = tmp_path / "s.zarr"
    where = ["--source", str(bids_root), "--store", str(target), "--scheduler", address]
    what = ["--subject", "01", "--parts", "betas", "--quiet"]
    assert main(["convert", *where, *what]) == 0
    assert tree(target) == tree(alone)
    options = {"parts": "betas", "scheduler": address, "progress": False}
    assert not convert(bids_root, target, "01", **options).converted
    # Other voxels and back: both times all sessions together, beside those that are there.
    convert(bids_root, target, "01", **options, overwrite=True, mask="rsquare")
    assert tree(target) != tree(alone)
    convert(bids_root, target, "01", **options, overwrite=True)
    assert tree(target) == tree(alone)


def test_convert_survives_a_killed_worker(client, address, bids_root, alone, tmp_path):
    """Killed when a session is half-written; another worker does it again."""
    gate, target = tmp_path / "gate", tmp_path / "s.zarr"
    gate.mkdir()
    options = {"parts": "betas", "scheduler": address, "progress": False}
    store = WaitingStore(target, gate)
    with ThreadPoolExecutor(1) as pool:
        with opening(gate):
            running = pool.submit(convert, bids_root, store, "01", **options)
            eventually(lambda: len(waiting(gate)) == 2)
            assert len(list(target.glob(".staging/sub-01/*/ses-*/betas/zarr.json"))) == 2
            os.kill(waiting(gate)[0], signal.SIGKILL)
            eventually(lambda: len(list(target.glob(".staging/sub-01/*/ses-*"))) == 3)
        report = running.result(PATIENCE)
    assert not report.failed
    assert tree(target) == tree(alone)


def test_a_bad_file_fails_its_session_alone(address, bids_root, copy_of, tmp_path):
    mirror = copy_of(bids_root)
    (betas,) = mirror.rglob("sub-01_ses-02*Betas*.nii.gz")
    betas.write_bytes(betas.read_bytes()[:-100])
    target = tmp_path / "s.zarr"
    with pytest.raises(LaionZarrError, match=betas.name):
        convert(mirror, target, "01", scheduler=address, progress=False)
    assert load_subject("01", target).get_sessions() == ["ses-01"]
    assert not (target / ".staging").exists()


def test_page_runs(with_splits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "laion-zarr-demo").mkdir()
    (tmp_path / "laion-zarr-demo" / "laion-fmri.zarr").symlink_to(with_splits)
    with dask.config.set({}):  # what a page sets is undone
        run("docs/cluster.md")


def test_no_scheduler(bids_root, tmp_path, capsys):
    with dask.config.set({"distributed.comm.timeouts.connect": "200ms"}):
        for wrong in ("tcp://127.0.0.1:9", "127.0.0.1", "nonsense://a:1"):
            where = ["--source", str(bids_root), "--store", str(tmp_path / "s")]
            assert main(["convert", *where, "--scheduler", wrong]) == 1
            assert f"No Dask scheduler answers at '{wrong}'" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
    with pytest.raises(ValueError, match="exclude each other"):
        convert(bids_root, tmp_path / "s", scheduler="tcp://127.0.0.1:9", n_workers=2)
    with pytest.raises(ValueError, match="in the memory of this process"):
        convert(bids_root, "memory://s", scheduler="tcp://127.0.0.1:9")


def test_memory_of_a_session():
    size = SessionSize(n_voxels=270_000, n_volumes=1044, volume_nbytes=12 << 20)
    least = size.memory_nbytes(0)
    assert plan_cluster([size], ClusterRoom(6, None), None).memory_per_worker == 2 * 10**9
    plan = plan_cluster([size], ClusterRoom(6, 2 * 10**9), "4GB")
    assert (plan.n_workers, plan.memory_per_worker) == (6, 1.6e9)
    assert size.memory_nbytes(plan.slabs_kept(size)) <= 1.6e9
    assert plan_cluster([size], ClusterRoom(0, None), "3GB").n_workers == 1  # none has joined yet
    with pytest.raises(ValueError, match=rf"0\.40 GB for a session.*needs {least / 1e9:.2f} GB"):
        plan_cluster([size], ClusterRoom(2, 5 * 10**8), None)
