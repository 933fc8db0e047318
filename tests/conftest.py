"""Fixtures of all tests: a small synthetic dataset, its conversion, and servers on localhost.

The dataset and its conversion are shared: no test may change them.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import s3_server
from hypothesis import HealthCheck, Phase, settings

from laion_zarr import convert, load_subject
from laion_zarr.conversion import add_splits
from laion_zarr.conversion.synthetic import SIZES, write_dataset
from laion_zarr.conversion.synthetic.split_files import write_splits
from laion_zarr.download import bucket
from laion_zarr.store import retry
from laion_zarr.store.schema import MEAN
from laion_zarr.subject import Subject

# -- campaigns: short by default, long with --long; the summary counts what they tried

_COUNTS = pytest.StashKey[Counter]()

settings.register_profile(
    "short",
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# Other examples in each run; failing examples are made small, which takes long.
settings.register_profile(
    "long",
    settings.get_profile("short"),
    derandomize=False,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="campaigns of an hour, not of seconds")


# Stores of a thousand small files, a thousand times: a disk takes twice as long over them.
_MEMORY, _ROOM = Path("/dev/shm"), 8 << 30  # at least so much of it is free


def _use_memory(config: pytest.Config) -> None:
    """Keep temporary files in memory, where there is enough, unless a place is named."""
    named = config.option.basetemp or "PYTEST_DEBUG_TEMPROOT" in os.environ
    if named or not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _ROOM:
        return
    if psutil.virtual_memory().available >= 2 * _ROOM:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(_MEMORY)


def pytest_configure(config: pytest.Config) -> None:
    _use_memory(config)
    config.stash[_COUNTS] = Counter()
    settings.load_profile("long" if config.getoption("--long") else "short")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        config.hook.pytest_deselected(items=[i for i in items if i.get_closest_marker("slow")])
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    counts = item.config.stash[_COUNTS]
    counts.clear()
    try:
        yield
    finally:  # goes with the report from a worker of pytest-xdist to the summary
        item.user_properties.append(("tally", dict(counts)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    total: Counter = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                total.update(dict(report.user_properties).get("tally", {}))
    if total:
        terminalreporter.section("campaigns")
        for what, count in sorted(total.items()):
            terminalreporter.line(f"{count:9,} {what}")


@pytest.fixture(scope="session")
def rounds(pytestconfig: pytest.Config) -> Callable[[int, int], int]:
    """How often to try: `rounds(short, long)`."""
    return lambda short, long: long if pytestconfig.getoption("--long") else short


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Callable[..., None]:
    """Counts for the summary: `tally("kills survived")`, `tally("bytes flipped", 12)`."""

    def count(what: str, number: int = 1) -> None:
        pytestconfig.stash[_COUNTS][what] += number

    return count


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees or changes the settings of the user who runs it."""
    for name in ("LAION_ZARR_STORE", "LAION_ZARR_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="session")
def bids_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects, two sessions each, on a grid whose sides all differ."""
    return write_dataset(tmp_path_factory.mktemp("bids"), "tiny", ["sub-01", "sub-03"])


@pytest.fixture(scope="session")
def store(bids_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The conversion of `bids_root`."""
    path = tmp_path_factory.mktemp("store") / "laion-fmri.zarr"
    convert(bids_root, path, progress=False)
    return path


@pytest.fixture(scope="session")
def with_bold(store: Path, bids_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`store`, and the preprocessed time series of its subjects."""
    path = Path(shutil.copytree(store, tmp_path_factory.mktemp("bold") / store.name))
    convert(bids_root, path, parts="bold", progress=False)
    return path


@pytest.fixture(scope="session")
def bare(bids_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first subject of `store`, with nothing but its betas and voxels."""
    path = tmp_path_factory.mktemp("bare") / "laion-fmri.zarr"
    convert(bids_root, path, "sub-01", parts="betas", n_workers=1, progress=False)
    return path


@pytest.fixture(scope="session")
def averaged(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bare`, and its averages."""
    path = Path(shutil.copytree(bare, tmp_path_factory.mktemp("averaged") / bare.name))
    convert(None, path, "sub-01", parts="averages", progress=False)
    return path


def _cut(patch: pytest.MonkeyPatch) -> None:
    for name, value in {"columns": 256, "per_shard": 4}.items():
        patch.setitem(MEAN.chunking.__dict__, name, value)


@pytest.fixture(scope="session")
def _in_blocks(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(shutil.copytree(bare, tmp_path_factory.mktemp("blocks") / bare.name))
    with pytest.MonkeyPatch.context() as patch:
        _cut(patch)
        convert(None, path, "sub-01", parts="averages", progress=False)
    return path


@pytest.fixture
def in_blocks(_in_blocks: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`averaged`, in blocks of 256 voxels, of which there are three, and shards of four images."""
    _cut(monkeypatch)
    return _in_blocks


@pytest.fixture(scope="session")
def own_splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Split files of the images of `bids_root`."""
    return write_splits(tmp_path_factory.mktemp("splits"), SIZES["tiny"])


@pytest.fixture(scope="session")
def with_splits(
    with_bold: Path, own_splits: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """All that a store can have: `with_bold`, and the splits of its images."""
    path = Path(shutil.copytree(with_bold, tmp_path_factory.mktemp("with") / with_bold.name))
    add_splits(own_splits, path)
    return path


@pytest.fixture(scope="session")
def sub(store: Path) -> Subject:
    """The first subject of `store`."""
    return load_subject("sub-01", store)


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """Copies a tree for a test that changes it."""

    def copy(tree: Path) -> Path:
        return Path(shutil.copytree(tree, tmp_path / "copy" / tree.name))

    return copy


# -- the bucket and the access service, on localhost


@pytest.fixture(scope="session")
def bucket_root(bids_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bucket's files: `bids_root` with some ROIs of one hemisphere, without the recon."""
    rois = {path.name for path in bids_root.glob("derivatives/rois/sub-*/*")}
    left_out = shutil.ignore_patterns(
        "freesurfer", "*hemi-R*", "*mask.json", *(rois - {"body", "face"})
    )
    return Path(
        shutil.copytree(bids_root, tmp_path_factory.mktemp("bucket") / "b", ignore=left_out)
    )


@pytest.fixture(scope="session")
def servers(bucket_root: Path) -> Iterator[s3_server.Front]:
    """An S3 server with `bucket_root` in the bucket, and the access service, behind one proxy."""
    with s3_server.serve(bucket_root) as front:
        yield front


@pytest.fixture
def front(
    servers: s3_server.Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[s3_server.Front]:
    """The servers, as this test's bucket and access service; with an empty data directory."""
    data = tmp_path / "data"
    data.mkdir()
    for name, value in {
        "AWS_ENDPOINT_URL": servers.url,
        "LAION_ZARR_ACCESS_URL": f"{servers.url}/access",
        "LAION_ZARR_DATA_DIR": str(data),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LAION_FMRI_REQUEST_ID", raising=False)
    monkeypatch.setattr(retry, "PAUSES", (0.0,) * len(retry.PAUSES))
    bucket.clear()
    servers.reset()
    yield servers
    servers.restore()
    bucket.clear()
