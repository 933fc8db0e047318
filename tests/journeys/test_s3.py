"""Converting from a bucket, and stores in a bucket: the same as on disk, with few requests."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import botocore.session
import numpy as np
import pytest
import s3_proxy
import xarray as xr
from places import ROOT, SAMPLE
from trees import tree_bytes
from zarr.storage import LocalStore, WrapperStore

from laion_zarr import _release as release
from laion_zarr import convert, load_embeddings, load_stimuli, load_subject, verify
from laion_zarr.conversion.cli import main
from laion_zarr.conversion.source import remote
from laion_zarr.conversion.source.files import open_source
from laion_zarr.conversion.source.hdf5 import open_hdf5
from laion_zarr.errors import (
    DataNotDownloadedError,
    LaionZarrError,
    NotConvertedError,
    SourceError,
    StoreError,
)
from laion_zarr.store import retry
from laion_zarr.store.disk import DiskStore
from laion_zarr.store.objects import open_store

BUCKET, SUB = "s3://laion-fmri", "sub-03"
MINE = "s3://mine/a store.zarr"
KEYS = {"key": "test", "secret": "test"}
SIGNED = ["--storage-option", "key=test", "--storage-option", "secret=test"]
BETAS = str(release.betas(SUB, "ses-01"))
CLIP = str(release.embeddings("CLIP"))


@pytest.fixture(scope="module")
def before(servers):
    """A proxy before the server, and the client that fills it."""
    for bucket in ("mine", "sample"):
        servers.s3.create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "us-west-2"}
        )
    with s3_proxy.proxied(servers.moto) as proxy:
        yield proxy, servers


@pytest.fixture
def proxy(before, monkeypatch):
    """The proxy as this test's S3, without a credential anywhere, and without pauses."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", before[0].url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(retry, "PAUSES", (0.0,) * len(retry.PAUSES))
    before[0].reset()
    yield before[0]
    before[1].restore()


@pytest.fixture(scope="module")
def mirror(bucket_root, tmp_path_factory):
    """A mirror of the bucket's files: everything but the pictures."""
    root = tmp_path_factory.mktemp("public") / "mirror"
    shutil.copytree(bucket_root, root, copy_function=os.link)
    (root / release.STIMULUS_IMAGES).unlink()
    return root


@pytest.fixture(scope="module")
def local(mirror, tmp_path_factory):
    """The store of one subject of the mirror, on disk."""
    path = tmp_path_factory.mktemp("local") / "s.zarr"
    convert(mirror, path, SUB, progress=False)
    return path


def upload(servers, tree, prefix, bucket="mine", wanted=lambda key: True):
    """Put a tree into a bucket file by file, as ``aws s3 sync`` would."""
    files = [p for p in tree.rglob("*") if p.is_file() and wanted(p.relative_to(tree).as_posix())]

    def put(path):
        key = f"{prefix}{path.relative_to(tree).as_posix()}"
        servers.s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes(), ACL="public-read")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, files))


@pytest.fixture(scope="module")
def whole(bucket_root, tmp_path_factory):
    """A store of one subject and all stimuli, with the pictures."""
    path = tmp_path_factory.mktemp("whole") / "s.zarr"
    convert(bucket_root, path, SUB, progress=False)
    return path


@pytest.fixture(scope="module")
def synced(before, whole):
    """The store `whole`, copied into a bucket."""
    upload(before[1], whole, "synced.zarr/")
    return "s3://mine/synced.zarr"


def objects_of(servers, prefix):
    pages = servers.s3.get_paginator("list_objects_v2").paginate(Bucket="mine", Prefix=prefix)
    keys = [one["Key"] for page in pages for one in page.get("Contents", [])]
    return {
        key.removeprefix(prefix): servers.s3.get_object(Bucket="mine", Key=key)["Body"].read()
        for key in keys
    }


@pytest.fixture
def blocks(monkeypatch):
    """Limits so small that this dataset's files count as large."""
    for name, value in {"_SMALL": 2000, "_HEAD": 4000, "_BLOCK": 20_000}.items():
        monkeypatch.setattr(remote, name, value)


# -- converting from the bucket


def test_command_line(proxy, local, tmp_path, monkeypatch, capsys):
    """The command as a user types it, with workers; writes only the store, and sends no secret."""
    places = {name: tmp_path / name for name in ("here", "tmp", "out", "home")}
    for place in places.values():
        place.mkdir()
    monkeypatch.chdir(places["here"])
    monkeypatch.setenv("HOME", str(places["home"]))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(places["home"]))
    monkeypatch.setenv("TMPDIR", str(places["tmp"]))
    monkeypatch.setattr(tempfile, "tempdir", str(places["tmp"]))
    out = places["out"] / "s.zarr"
    command = ["convert", "--source", BUCKET, "--store", str(out), "--subject", SUB, "--quiet"]
    assert main([*command, "--n-workers", "2"]) == 0
    assert "17 parts converted" in capsys.readouterr().out
    assert tree_bytes(out) == tree_bytes(local)
    assert [p for name in ("here", "tmp", "home") for p in places[name].rglob("*")] == []
    assert not any(seen.authorized for seen in proxy.seen)
    assert not proxy.matching("sub-01")
    assert "derivatives/tedana/" not in listed_folders(proxy)  # bold was not asked for
    proxy.reset()
    assert main(command) == 0
    assert "0 parts converted, 17 unchanged" in capsys.readouterr().out


@pytest.mark.minutes
def test_into_a_bucket(proxy, before, mirror, tmp_path):
    """From one bucket into another; then anew, where copies are made within the server."""
    parts = ["betas", "metadata"]
    convert(mirror, tmp_path / "s.zarr", SUB, parts=parts, progress=False)
    options = {"n_workers": 2, "storage_options": KEYS, "progress": False}
    convert(BUCKET, MINE, SUB, parts=parts, **options)
    expected = tree_bytes(tmp_path / "s.zarr")
    assert objects_of(before[1], "a store.zarr/") == expected
    assert {one.authorized for one in proxy.matching("/mine")} == {True}
    assert {one.authorized for one in proxy.matching("/laion-fmri")} == {False}
    proxy.reset()
    convert(BUCKET, MINE, SUB, parts=parts, overwrite=True, **options | {"n_workers": 1})
    assert objects_of(before[1], "a store.zarr/") == expected
    assert proxy.matching("PUT .*staging.*betas/c/0/0")
    assert not proxy.matching("GET .*betas/c/0")
    assert main(["verify", "--store", MINE, "--quiet", *SIGNED]) == 0


def test_each_betas_object_is_read_once(proxy, blocks, local, tmp_path):
    convert(BUCKET, tmp_path / "s.zarr", SUB, n_workers=1, progress=False)
    assert tree_bytes(tmp_path / "s.zarr") == tree_bytes(local)
    for session in ("ses-01", "ses-02"):
        name = release.betas(SUB, session).name
        size = open_source(BUCKET).size(str(release.betas(SUB, session)))
        assert 5 * 20_000 > size > 2000
        # Once as data, and once for the identity: below 1 MiB that takes all bytes, which without
        # the lowered limits are then kept.
        assert size < proxy.nbytes(f"GET .*{name}") <= 2 * size + 4000
        assert len(proxy.matching(f"GET .*{name}")) <= 3 + -(-size // 20_000)
    whole = proxy.matching(f"GET .*{Path(CLIP).name}")
    spans = [tuple(map(int, one.span.removeprefix("bytes=").split("-"))) for one in whole]
    assert all(a[1] + 1 == b[0] for a, b in zip(sorted(spans), sorted(spans)[1:], strict=False))
    # All else: once, and one HEAD before it counts.
    others = [one.path for one in proxy.matching("GET .*(tsv|json|gii|label)$")]
    assert len(others) == len(set(others)) > 30


def listed_folders(proxy):
    """Folders that were listed, in the order of the requests; the root is empty."""
    requests = proxy.matching("/laion-fmri.list-type")
    return [parse_qs(urlsplit(one.path).query).get("prefix", [""])[0] for one in requests]


def test_only_the_folders_of_parts_are_listed(proxy, before, tmp_path):
    """One request a folder; no raw data, recon or archived embeddings unless they are wanted."""
    axis = [f"derivatives/{name}/{SUB}/" for name in ("glmsingle-tedana", "rois", "anatomical")]
    for parts, folders in {"betas": axis, "captions": [axis[0], "stimuli/"]}.items():
        proxy.reset()
        convert(BUCKET, tmp_path / "s.zarr", SUB, "ses-01", parts, n_workers=1, progress=False)
        assert sorted(listed_folders(proxy)) == sorted(["", *folders])
    v1 = str(release.embeddings("CLIP@v1"))
    before[1].put(v1, before[1].s3.get_object(Bucket="laion-fmri", Key=CLIP)["Body"].read())
    proxy.reset()
    archived = "s3://mine/archived.zarr"
    convert(BUCKET, archived, parts="embeddings", storage_options=KEYS, progress=False)
    assert sorted(set(listed_folders(proxy))) == [*("", "archive/embeddings/", "stimuli/")]
    found = load_embeddings(["CLIP", "CLIP@v1"], archived, storage_options=KEYS)
    np.testing.assert_array_equal(found["CLIP@v1"].values, found["CLIP"].values)


def test_parts_and_sessions_say_what_is_listed(proxy, before, tmp_path):
    held_out = str(release.betas(SUB, "ses-31"))
    before[1].put(held_out, b"not for the public")
    proxy.fault("ses-31.*/", status=403, times=99)
    report = convert(
        BUCKET, tmp_path / "s.zarr", SUB, "ses-02", "betas", n_workers=1, progress=False
    )
    assert f"{SUB} ses-02" in report.converted
    assert not proxy.matching("ses-31|stimuli|sub-01")
    assert not proxy.matching("GET .*ses-01.*Betas_statmap.nii.gz")
    with pytest.raises(DataNotDownloadedError, match=r"sub-99 is not in .*there: sub-01, sub-03"):
        convert(BUCKET, tmp_path / "s.zarr", "sub-99", progress=False)


@pytest.mark.minutes
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no sample here")
def test_the_sample(proxy, before, tmp_path, monkeypatch):
    """Another bucket with the same keys, by the user's own credentials."""
    upload(before[1], SAMPLE / "data", "", "sample", lambda key: "sub-01" not in key)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    convert(SAMPLE / "data", tmp_path / "here.zarr", SUB, progress=False)
    convert("s3://sample", tmp_path / "there.zarr", SUB, n_workers=2, progress=False)
    assert tree_bytes(tmp_path / "there.zarr") == tree_bytes(tmp_path / "here.zarr")
    assert {one.authorized for one in proxy.seen} == {True}


FAULTS = {
    "500": {"status": 500},
    "503": {"status": 503},
    "429": {"status": 429},
    "cut off": {"cut_after": 100},
    "empty": {"cut_after": 0},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_source_that_fails_for_a_moment(proxy, blocks, mirror, fault):
    source = open_source(BUCKET)
    proxy.fault("list-type", **fault)
    names = source.listing([SUB]).names
    assert BETAS in names
    expected = (mirror / BETAS).read_bytes()
    proxy.reset()
    proxy.fault("Betas_statmap.nii.gz", **fault, times=2)
    with source.open(BETAS) as file:
        assert file.read(2) == b"\x1f\x8b"
        file.seek(0)
        assert b"".join(iter(lambda: file.read(7000), b"")) == expected
    # Gone on where it was cut off, not from the start.
    assert proxy.nbytes("Betas_statmap.nii.gz") <= len(expected) + 4000 + 20_000
    proxy.fault("HEAD", status=fault.get("status", 500))
    source.check_unchanged({BETAS: {}})


def test_a_slow_source(proxy, mirror, monkeypatch):
    monkeypatch.setattr("laion_zarr.store.remote._TIMEOUT", 0.3)
    proxy.fault("GET .*trials.tsv", delay=1)
    path = str(release.trials(SUB, "ses-01"))
    assert open_source(BUCKET).read(path) == (mirror / path).read_bytes()
    assert len(proxy.matching("GET .*trials.tsv")) == 2


@pytest.mark.parametrize(
    ("status", "says"),
    [(403, "refused"), (404, "not there|Not Found"), (500, "tried 5 times"), (503, "AWS_ENDPOINT")],
)
def test_a_source_that_goes_on_failing(proxy, tmp_path, status, says):
    """An object that cannot be read fails its session by name; other sessions are converted."""
    proxy.fault("GET .*ses-01.*Betas_statmap.nii.gz", status=status, times=10**6)
    with pytest.raises(SourceError, match=f"{BETAS}.*({says})"):
        convert(BUCKET, tmp_path / "s.zarr", SUB, parts="betas", n_workers=1, progress=False)
    assert load_subject(SUB, tmp_path / "s.zarr").get_sessions() == ["ses-02"]


def test_an_object_that_changes(proxy, before, mirror):
    source = open_source(BUCKET)
    source.listing([SUB], [release.GLM])
    path = str(release.trials(SUB, "ses-01"))
    identity = source.identity(path)
    source.check_unchanged({path: identity})
    before[1].put(path, (mirror / path).read_bytes()[::-1])
    with pytest.raises(SourceError, match=rf"{path}.*another one"):
        source.check_unchanged({path: identity})
    before[1].s3.delete_object(Bucket="laion-fmri", Key=path)
    with pytest.raises(SourceError, match=path):
        source.check_unchanged({path: identity})


def test_hdf5_by_way_of_an_anonymous_file(proxy, blocks, mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source, here = open_source(BUCKET), open_source(mirror)
    source.listing([], [release.STIMULI])
    assert source.identity(CLIP) == here.identity(CLIP)
    requests = len(proxy.seen)
    assert list(tmp_path.iterdir()) == []
    with open_hdf5(source, CLIP) as file, open_hdf5(here, CLIP) as expected:
        for found, right in zip(file.embeddings(), expected.embeddings(), strict=True):
            np.testing.assert_array_equal(found, right)
    assert len(proxy.seen) == requests
    assert source.look_ahead([CLIP]) is None
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    with pytest.raises(SourceError, match="TMPDIR"):
        open_source(BUCKET).identity(CLIP)


def test_no_bucket_and_no_server(proxy, tmp_path, monkeypatch):
    monkeypatch.setattr("laion_zarr.store.remote._CONNECTIONS", 62)  # connections made anew
    with pytest.raises(SourceError, match=r"s3://laion-fmri-too .*no AWS credentials"):
        convert("s3://laion-fmri-too", tmp_path / "s.zarr", progress=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with pytest.raises(LaionZarrError, match="s3://nowhere-at-all"):
        convert("s3://nowhere-at-all", tmp_path / "s.zarr", progress=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"s3://laion-fmri cannot be read.*AWS_ENDPOINT_URL"):
        convert(BUCKET, tmp_path / "s.zarr", progress=False)


def test_no_credentials_are_looked_for(proxy, tmp_path, monkeypatch):
    def look(*_):
        raise AssertionError("credentials were looked for")

    monkeypatch.setattr(botocore.session.Session, "get_credentials", look)
    monkeypatch.setattr("aiobotocore.session.AioSession.get_credentials", look)
    monkeypatch.setattr("laion_zarr.store.remote._CONNECTIONS", 63)  # connections made anew
    assert open_source(BUCKET).listing([SUB], [release.GLM]).names
    with pytest.raises(NotConvertedError):
        load_subject(SUB, f"{BUCKET}/laion-fmri.zarr")
    assert not any(one.authorized for one in proxy.seen)


# -- stores in a bucket

ANON = {"anon": True}


def test_a_copied_store_opens_and_verifies(proxy, synced, whole, capsys):
    assert verify(synced, storage_options=ANON, progress=False).n_files > 200
    ours, theirs = load_subject(SUB, synced, storage_options=ANON), load_subject(SUB, whole)
    assert ours.get_sessions() == theirs.get_sessions()
    for query in ({"roi": "face"}, {"session": "ses-02", "nc_threshold": 5}):
        xr.testing.assert_identical(
            ours.get_betas(**query).load(), theirs.get_betas(**query).load()
        )
    options = {"engine": "laion_zarr", "group": SUB}
    with (
        xr.open_dataset(synced, storage_options=ANON, **options) as dataset,
        xr.open_dataset(whole, **options) as expected,
    ):
        xr.testing.assert_identical(dataset.load(), expected.load())
    assert main(["info", "--store", synced, "--storage-option", "anon=true"]) == 0
    assert "sub-03: 2 sessions" in capsys.readouterr().out


def test_surfaces_and_templates_need_the_bucket_alone(proxy, before, store):
    """The surfaces of one hemisphere come in a few requests, after the labels."""
    upload(before[1], store, "geometry.zarr/", wanted=lambda key: "/betas/c/" not in key)
    theirs = load_subject(SUB, store)
    ours = load_subject(SUB, "s3://mine/geometry.zarr", storage_options=ANON)
    proxy.seen.clear()
    xr.testing.assert_identical(
        ours.get_surface("midthickness"), theirs.get_surface("midthickness")
    )
    asked = [one.path for one in proxy.seen]
    assert all("/geometry/" in path for path in asked)
    assert len(asked) <= 8  # with curvature; two are zarr.json, if these are not consolidated
    ceiling = theirs.get_noise_ceiling(desc="NoiseceilingAllrep")
    roi = theirs.get_roi_data("laionventral", "func.gii")["laionventral"]["gii"]
    for ask in (
        lambda sub: sub.to_template(ceiling, "fsaverage", hemi="R"),
        lambda sub: sub.volume_to_template(ceiling, "MNI305"),
        lambda sub: sub.surface_to_template(roi),
    ):
        xr.testing.assert_identical(ask(ours).compute(), ask(theirs).compute())


def test_stimuli(proxy, synced, whole):
    ours, theirs = load_stimuli(synced, storage_options=ANON), load_stimuli(whole)
    names = list(theirs.metadata["image_name"])
    assert list(ours.metadata["image_name"]) == names
    images = ours.images
    assert images[names[3]] == theirs.images[names[3]]
    proxy.reset()
    assert images[names[5]] == theirs.images[names[5]]
    assert len(proxy.seen) == 1
    assert proxy.nbytes() < 2 * len(theirs.images[names[5]])


@pytest.fixture(scope="module")
def thirty(before, mirror, tmp_path_factory):
    """A subject of thirty sessions in a bucket; of the betas, those of one."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from many_sessions import link_sessions
    finally:
        sys.path.pop(0)
    path = tmp_path_factory.mktemp("thirty") / "s.zarr"
    convert(mirror, path, SUB, "ses-01", n_workers=1, progress=False)
    link_sessions(path, SUB, 30)
    wanted = (
        "zarr.json",
        "manifest.json",
        f"{SUB}/trials",
        f"{SUB}/voxels",
        f"{SUB}/ses-17",
        f"{SUB}/maps/ses-17",
    )
    upload(
        before[1],
        path,
        "thirty.zarr/",
        wanted=lambda key: key.startswith(wanted) or key == f"{SUB}/manifest.json",
    )
    return "s3://mine/thirty.zarr"


def test_budgets(proxy, thirty):
    """Requests and rounds, counted at the server, are at most those of docs/benchmarks.md."""
    proxy.latency = 0.05
    sub = load_subject(SUB, thirty, storage_options=ANON)
    betas = sub.get_betas("ses-17", roi="face", nc_threshold=5)
    assert len(sub.get_sessions()) == 30
    assert len(proxy.seen) <= 25
    assert proxy.rounds <= 4
    assert {one.method for one in proxy.seen} == {"GET"}
    proxy.reset()
    proxy.latency = 0.05
    assert np.isfinite(betas.values).any()
    assert len(proxy.seen) <= 13
    assert proxy.rounds <= 2
    assert proxy.nbytes() < 4 * betas.nbytes + 20_000


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_store_that_fails_for_a_moment(proxy, synced, whole, fault):
    proxy.fault("/mine/synced.zarr", **fault, times=3)
    found = load_subject(SUB, synced, storage_options=ANON).get_betas(roi="face")
    proxy.fault("betas/c/", **fault, times=2)
    expected = load_subject(SUB, whole).get_betas(roi="face")
    xr.testing.assert_identical(found.load(), expected.load())


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"status": 500}, "tried 5 times"),
        ({"status": 403}, "access is refused.*anon"),
        ({"status": 404}, "is missing"),
        ({"cut_after": 9}, "tried 5 times"),
    ],
)
def test_a_store_that_goes_on_failing(proxy, synced, fault, says):
    betas = load_subject(SUB, synced, storage_options=ANON).get_betas("ses-01", roi="face")
    proxy.fault("ses-01/betas/c/", **fault, times=10**6)
    with pytest.raises(StoreError, match=rf"s3://mine/synced.zarr/{SUB}/ses-01/betas/c/.*{says}"):
        betas.load()


def test_a_store_that_is_not_there(proxy, synced, monkeypatch, capsys):
    for url in ("s3://nowhere-at-all/s.zarr", "s3://mine/nothing.zarr"):
        with pytest.raises(NotConvertedError, match=rf"no laion_zarr store at {url}"):
            load_subject(SUB, url, storage_options=ANON)
    monkeypatch.setattr("laion_zarr.store.remote._CONNECTIONS", 61)  # connections made anew
    for command in (["verify", "--quiet"], ["convert", "--source", BUCKET, "--quiet"]):
        assert main([*command, "--store", synced]) == 1
        assert "no AWS credentials are set" in capsys.readouterr().err
    proxy.fault("GET", status=403, times=99)
    with pytest.raises(StoreError, match=r"synced.zarr.*access is refused.*check the name"):
        load_subject(SUB, synced, storage_options=ANON)


def test_writing_fails_and_goes_on(proxy, before, mirror, tmp_path):
    """A refused write names the key; a write that fails for a moment is tried again."""
    options = {"parts": "metadata", "storage_options": KEYS, "progress": False}
    with pytest.raises(StoreError, match=r"s3://nowhere-at-all/s.zarr/.*cannot be written"):
        convert(mirror, "s3://nowhere-at-all/s.zarr", SUB, **options)
    proxy.fault("PUT .*image_name", status=403, times=10**6)
    with pytest.raises(StoreError, match=r"image_name.*cannot be written: access is refused"):
        convert(mirror, "s3://mine/w.zarr", SUB, **options)
    proxy.reset()
    for pattern in ("PUT", "HEAD", "list-type", "GET"):
        proxy.fault(pattern, status=503, times=2)
    convert(mirror, "s3://mine/w.zarr", SUB, **options)
    convert(mirror, tmp_path / "w.zarr", SUB, parts="metadata", progress=False)
    assert objects_of(before[1], "w.zarr/") == tree_bytes(tmp_path / "w.zarr")


def test_other_stores_are_left_as_they_are(store):
    """A store object that a user passes is used unchanged: without retries and options."""
    assert type(open_store(WrapperStore(LocalStore(store)))) is WrapperStore
    assert type(open_store(f"file://{store}")) is DiskStore
