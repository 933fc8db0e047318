"""Many readers at once, in threads, processes and clusters, with any settings: the same answers."""

from __future__ import annotations

import asyncio
import copy
import http.server
import locale
import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import dask
import numcodecs.blosc
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from reading_processes import (
    PATIENCE,
    SUB,
    answers,
    digest,
    questions,
    run_main,
)
from trees import tree_bytes
from zarr.storage import LocalStore

from laion_zarr import convert, load_subject, verify
from laion_zarr.conversion.synthetic import Size, write_dataset

TEN = tuple(f"ses-{number:02d}" for number in range(1, 11))


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """A store of one subject with ten sessions."""
    folder = tmp_path_factory.mktemp("ten")
    trials = (6, 5, 7, 4, 6, 5, 7, 4, 6, 5)
    root = write_dataset(folder, Size((11, 13, 12), 17.0, trials, 2, (17, 21, 19), 10.5, (4, 5)))
    convert(root, folder / "s.zarr", n_workers=1, progress=False)
    return folder / "s.zarr"


@pytest.fixture(scope="module")
def once(ten):
    """The answers of one reader alone."""
    return answers(load_subject(SUB, ten))


# -- threads


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_threads_share_a_subject(ten, once, rounds, tally, scheduler):
    """Also a subject that has read nothing yet: several threads fill its caches at once."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # a race that can happen should
    try:
        for _ in range(rounds(1, 15)):
            sub, together = load_subject(SUB, ten), threading.Barrier(32)

            def ask(number, sub=sub, together=together):
                together.wait()
                name = list(once)[number % len(once)]
                return name, digest(questions(sub)[name], scheduler)

            with ThreadPoolExecutor(32) as pool:
                for name, found in pool.map(ask, range(32)):
                    assert found == once[name]
                    tally("answers of threads at once")
    finally:
        sys.setswitchinterval(interval)


def test_threads_share_lazy_arrays(ten, once, rounds, tally):
    for _ in range(rounds(1, 15)):
        lazy = questions(load_subject(SUB, ten))
        with xr.open_dataset(ten, engine="laion_zarr", group=SUB) as dataset:
            before = digest(load_subject(SUB, ten).dataset)
            with ThreadPoolExecutor(32) as pool:
                whole = [pool.submit(digest, dataset.copy(), "synchronous") for _ in range(4)]
                asked = [(name, pool.submit(digest, lazy[name])) for name in [*lazy] * 4]
                for name, future in asked:
                    assert future.result(PATIENCE) == once[name]
                    tally("answers of threads at once")
                assert {future.result(PATIENCE) for future in whole} == {before}


# -- processes


@pytest.mark.minutes
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes(ten, once, rounds, tally, method):
    """Opened and read in the parent, then read in its children, as a data loader does."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    n_rounds = rounds(1, 8) if method == "spawn" else rounds(2, 20)
    tally("answers of processes", run_main(method, str(ten), n_rounds))


class RangeHandler(http.server.BaseHTTPRequestHandler):
    """Serves the files below `root`, whole or in part, as a bucket does."""

    root: Path

    def do_GET(self):
        path = self.root / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data, asked = path.read_bytes(), self.headers.get("Range")
        self.send_response(206 if asked else 200)
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            span = slice(int(first), int(last or len(data)) + 1)
            self.send_header("Content-Range", f"bytes {asked[6:]}/{len(data)}")
            data = data[span]
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def test_forked_readers_of_a_remote_store(ten, rounds, tally):
    """The parent's connections are bound to a loop that a forked child does not have."""
    pytest.importorskip("aiohttp")
    handler = type("Handler", (RangeHandler,), {"root": ten})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            tally("answers of processes", run_main("fork", url, rounds(1, 10)))
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_dask_schedulers(ten, once, tally, scheduler):
    asked = questions(load_subject(SUB, ten))
    # Starting processes takes seconds, for each array anew.
    names = ["selection"] if scheduler == "processes" else list(asked)
    with dask.config.set(scheduler=scheduler, num_workers=2):
        for name in names:
            assert digest(asked[name]) == once[name]
            tally("answers by Dask schedulers")


@pytest.mark.filterwarnings("default")  # of distributed and tornado
@pytest.mark.parametrize("processes", [True, False])
def test_distributed(ten, once, tally, processes):
    distributed = pytest.importorskip("distributed")
    options = {"processes": processes, "n_workers": 2, "threads_per_worker": 2}
    sub = load_subject(SUB, ten)
    with (
        distributed.LocalCluster(**options, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        # Computed by the cluster: it is the default while it is there.
        for name, answer in questions(sub).items():
            assert digest(answer) == once[name]
            tally("answers by Dask schedulers")
        for future in client.map(lambda n, sub=sub: n and sub.get_betas(roi="EBA").values, [1, 2]):
            np.testing.assert_array_equal(future.result(PATIENCE), sub.get_betas(roi="EBA"))
        assert client.submit(type(sub).get_sessions, sub).result(PATIENCE) == list(TEN)


# -- a running event loop, as in Jupyter


def test_inside_a_running_loop(ten, once, bids_root, tmp_path, tally):
    async def cell():
        sub = load_subject(SUB, ten)
        assert answers(sub) == once
        together = [asyncio.to_thread(answers, sub) for _ in range(8)]
        for found in await asyncio.gather(*together):
            assert found == once
            tally("answers in a running event loop", len(once))
        convert(bids_root, tmp_path / "s.zarr", SUB, "ses-01", n_workers=1, progress=False)
        assert not verify(tmp_path / "s.zarr", bids_root, deep=True, progress=False).notes

    asyncio.run(cell())


# -- what is sent


@pytest.mark.parametrize("by", [pickle, cloudpickle])
def test_pickles_of_ten_sessions_are_small(ten, once, tmp_path, monkeypatch, tally, by):
    """About as large as the labels: neither values nor masks, and no store, travel along."""
    monkeypatch.chdir(ten.parent)
    sub = load_subject(SUB, ten.name)  # a relative path, kept as what it meant
    assert answers(sub) == once  # nor does what was read
    selected = sub.get_betas(roi="face")
    with xr.open_dataset(ten.name, engine="laion_zarr", group=SUB, chunks={}) as engine:
        whole = engine["betas"]
    labels = len(pickle.dumps(selected.drop_vars("betas", errors="ignore").coords.to_dataset()))
    every = len(pickle.dumps(sub.dataset.drop_vars(["betas", "r2", "hrf_index"])))
    limits = {
        "subject": (sub, 1_000),
        "selection": (selected, labels + 5_000),
        "selected further": (selected.isel(trial=slice(None, None, 7)), labels + 5_000),
        "graph": (selected.data.dask, 5_000),
        "whole": (sub.get_betas(), every + 10_000),
        "whole graph": (whole.data.dask, 5_000),
        "dataset": (sub.dataset, every + 10_000),
    }
    monkeypatch.chdir(tmp_path)
    for name, (thing, limit) in limits.items():
        packed = by.dumps(thing)
        assert len(packed) < limit, name
        again = pickle.loads(packed)
        if name == "subject":
            assert answers(again) == once
        elif "graph" not in name:
            assert digest(again) == digest(thing), name
        tally("pickles that came back the same")


def test_a_store_of_ones_own_is_sent_along(ten, once, tmp_path, monkeypatch):
    for by in (pickle, cloudpickle):
        packed = by.dumps(load_subject(SUB, LocalStore(ten, read_only=True)))
        monkeypatch.chdir(tmp_path)
        assert answers(pickle.loads(packed)) == once


# -- the user's settings

ODD_DASK = {
    "scheduler": "synchronous",
    "array.slicing.split_large_chunks": True,
    "array.chunk-size": "1kiB",
    "optimization.fuse.active": False,
}
SETTINGS = {
    "zarr": lambda: zarr.config.set(
        {
            "async.concurrency": 1,
            "threading.max_workers": 1,
            "array.order": "F",
            "array.write_empty_chunks": True,
            "array.target_shard_size_bytes": 1,
            "default_zarr_format": 2,
            "json_indent": None,
        }
    ),
    "another pipeline": lambda: zarr.config.set(
        {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
    ),
    "GPU": lambda: zarr.config.set(
        {"buffer": "zarr.buffer.gpu.Buffer", "ndbuffer": "zarr.buffer.gpu.NDBuffer"}
    ),
    "other codecs": lambda: zarr.config.set(
        {"codecs.blosc": "mine.Blosc", "codecs.zstd": "mine.Z"}
    ),
    "dask": lambda: dask.config.set(ODD_DASK),
    "dask, fused": lambda: dask.config.set({"optimization.fuse.active": True}),
    "xarray": lambda: xr.set_options(
        keep_attrs=False, arithmetic_join="exact", use_new_combine_kwarg_defaults=True
    ),
    "xarray, kept": lambda: xr.set_options(keep_attrs=True, display_style="text"),
    "numpy": lambda: np.errstate(all="raise"),
    "pandas": lambda: pd.option_context("mode.string_storage", "python"),
}


def small_conversion(bids_root, path):
    convert(bids_root, path, SUB, n_workers=1, progress=False)
    return path


@pytest.fixture(scope="module")
def plain(bids_root, tmp_path_factory):
    """One subject, converted and read with default settings."""
    store = small_conversion(bids_root, tmp_path_factory.mktemp("plain") / "s.zarr")
    return tree_bytes(store), digests_of_two_sessions(load_subject(SUB, store))


def digests_of_two_sessions(sub):
    asked = {
        "region": sub.get_betas(roi="face", nc_threshold=5),
        "chunked": sub.get_betas(mask_source="rsquare", chunks={"trial": -1, "voxel": 50}),
        "dataset": sub.dataset,
        "regions": sub.get_roi_mask(["face", "EBA"]),
        "ceiling": sub.get_noise_ceiling(desc="NoiseceilingAllrep"),
        "coordinates": sub.get_voxel_coordinates(roi="all"),
        "brain": sub.get_brain_mask(),
        "metadata": sub.metadata,
    }
    attributes = {name: repr(getattr(answer, "attrs", None)) for name, answer in asked.items()}
    return attributes, {name: digest(answer) for name, answer in asked.items()}


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_make_no_difference(bids_root, plain, tmp_path, tally, settings):
    with SETTINGS[settings]():
        store = small_conversion(bids_root, tmp_path / "s.zarr")
        sub = load_subject(SUB, store)
        found = digests_of_two_sessions(sub)
        sub.to_nifti(sub.get_noise_ceiling(desc="NoiseceilingAllrep"), tmp_path / "x.nii.gz")
        assert not verify(store, bids_root, deep=True, progress=False).notes
    assert tree_bytes(store) == plain[0]
    assert found == plain[1]
    tally("settings that made no difference")


def settings_now():
    """Global state of the process that a library could change."""
    return {
        "zarr": copy.deepcopy(zarr.config.config),
        "dask": copy.deepcopy(dask.config.config),
        "xarray": dict(xr.get_options()),
        "pandas": [pd.get_option(n) for n in ("mode.string_storage", "display.max_rows")],
        "numpy": (np.geterr(), np.get_printoptions(), np.geterrcall()),
        "numpy random": str(np.random.get_state(legacy=True)),  # noqa: NPY002
        "random": random.getstate(),
        "blosc": (numcodecs.blosc.use_threads, numcodecs.blosc.get_nthreads()),
        "warnings": list(warnings.filters),
        "locale": locale.setlocale(locale.LC_ALL),
        "signals": {name: signal.getsignal(name) for name in signal.valid_signals()},
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "processes": multiprocessing.get_start_method(allow_none=True),
        "hooks": (sys.excepthook, sys.displayhook, threading.excepthook, sys.getswitchinterval()),
        "path": list(sys.path),
    }


@pytest.mark.parametrize("n_workers", [1, 2])
def test_nothing_of_the_users_is_changed(bids_root, tmp_path, tally, n_workers):
    before = settings_now()
    convert(bids_root, tmp_path / "s.zarr", SUB, n_workers=n_workers, progress=False)
    sub = load_subject(SUB, tmp_path / "s.zarr")
    digests_of_two_sessions(sub)
    sub.to_nifti(sub.get_noise_ceiling(session="ses-01"), tmp_path / "x.nii.gz")
    verify(tmp_path / "s.zarr", bids_root, deep=True, progress=False)
    after = settings_now()
    for name, value in before.items():
        assert after[name] == value, name
        tally("settings left alone")
