"""Counts, at an S3 server, requests and bytes of downloads and of reads from a store in a bucket.

Run ``python benchmarks/s3.py [--size tiny|demo|full] [--json FILE]``; it needs moto's server, as
the tests do. First makes a synthetic subject of one session, extends it to thirty sessions by hard
links, and copies the store into a bucket.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from many_sessions import link_sessions
from measure import Figure, report

from laion_zarr import convert, discovery, download, load_stimuli, load_subject
from laion_zarr.conversion.synthetic import SIZES, write_dataset

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
import s3_proxy
import s3_server

SUBJECT, SESSION, N_SESSIONS = "sub-01", "ses-17", 30
STORE = "s3://mine/laion-fmri.zarr"
LATENCY = 0.03  # seconds that each request takes
# Parts of keys that are not copied into the bucket: of the thirty equal sessions of betas, only
# ses-17 is read.
LEFT_OUT = tuple(f"ses-{n:02d}/betas/c/" for n in range(1, N_SESSIONS + 1) if n != 17)


@contextmanager
def bucket(store: Path) -> Iterator[s3_proxy.Proxy]:
    """Serve a store from a bucket; gives the proxy that counts requests and bytes."""
    empty = store.parent / "nothing" / "stimuli"
    empty.mkdir(parents=True)
    for name in (s3_server.IMAGES, "task-images_metadata.csv"):
        (empty / name).touch()
    with s3_server.serve(empty.parent) as front, s3_proxy.proxied(front.moto) as proxy:
        where = {"LocationConstraint": "us-west-2"}
        front.s3.create_bucket(Bucket="mine", CreateBucketConfiguration=where)
        for path in filter(Path.is_file, store.rglob("*")):
            key = path.relative_to(store.parent).as_posix()
            if not any(part in key for part in LEFT_OUT):
                with path.open("rb") as file:
                    front.s3.put_object(Bucket="mine", Key=key, Body=file, ACL="public-read")
        os.environ["AWS_ENDPOINT_URL"] = proxy.url
        yield proxy


def counted(
    proxy: s3_proxy.Proxy, what: str, work: Callable[[], Any], most: float | None = None
) -> Iterator[Figure]:
    """Requests, rounds of parallel requests, and bytes of one call of `work`."""
    proxy.reset()
    proxy.latency = LATENCY
    work()
    yield Figure(f"{what}: requests", len(proxy.seen), "", most)
    yield Figure(f"{what}: rounds", proxy.rounds, "")
    yield Figure(f"{what}: bytes", proxy.nbytes() / 1e6, "MB")


def reaching(root: Path, folder: Path) -> Iterator[Figure]:
    """Requests to the bucket for listing subjects and ROIs, and for downloads of a subject."""
    data = folder / "mirror"
    data.mkdir()
    ours = {"LAION_ZARR_DATA_DIR": str(data), "XDG_CONFIG_HOME": str(folder / "config")}
    with s3_server.serve(root) as front:
        os.environ.update(ours, AWS_ENDPOINT_URL=front.url)
        download.accept_license()
        for what, work in {
            "list the subjects": discovery.get_subjects,
            "then the ROIs of one": lambda: discovery.get_rois(SUBJECT),
            "download a subject": lambda: download.run_download(SUBJECT, {}, progress=False),
            "the same again": lambda: download.run_download(SUBJECT, {}, progress=False),
        }.items():
            front.reset()
            work()
            yield Figure(f"{what}: requests", len(front.requests), "")


def figures(proxy: s3_proxy.Proxy) -> Iterator[Figure]:
    """Requests and bytes to open a subject, read an ROI of a session, and read pictures."""
    anon = {"storage_options": {"anon": True}}
    found: dict[str, Any] = {}

    def opened() -> None:
        found["betas"] = load_subject(SUBJECT, STORE, **anon).get_betas(SESSION, roi="FFA1")

    def stimuli() -> None:
        images = load_stimuli(STORE, **anon).images
        found["images"], found["names"] = images, images.names()
        images[found["names"][0]]

    yield from counted(proxy, f"open a subject with {N_SESSIONS} sessions", opened, 25)
    size = found["betas"].nbytes / 1e6
    name = f"FFA1 of one session ({size:.1f} MB)"
    yield from counted(proxy, name, lambda: found["betas"].load(), 13)
    yield from counted(proxy, "stimuli: open them and read one picture", stimuli)
    picture = found["names"][1]
    yield from counted(proxy, "one more picture", lambda: found["images"][picture], 1)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:
        root = write_dataset(Path(folder) / "data", arguments.size, [SUBJECT])
        store = Path(folder) / "laion-fmri.zarr"
        convert(root, store, SUBJECT, "ses-01", n_workers=1, progress=False)
        link_sessions(store, SUBJECT, N_SESSIONS)
        with bucket(store) as proxy:
            found = [*figures(proxy), *reaching(root, Path(folder))]
        report(found, arguments.json)


if __name__ == "__main__":
    main()
