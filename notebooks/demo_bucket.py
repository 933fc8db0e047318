"""A bucket on this machine with the demo in it, for the notebook that reads from one."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import time

import fsspec

from laion_zarr import convert, get_data_dir
from laion_zarr.conversion.demo import use_demo

_BUCKET = "my-bucket"
_PARTS = ("betas", "anatomy", "metadata")  # without pictures: those must not be passed on
_SECONDS = 60


def demo_in_bucket() -> str:
    """Convert the demo into a bucket, served as S3 on localhost until this process ends.

    Returns
    -------
    str
        URL of the store. ``AWS_ENDPOINT_URL`` is set, so that ``s3://`` leads there.
    """
    use_demo()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    atexit.register(server.kill)
    _wait_for(port, server)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
    }
    fsspec.filesystem("s3").mkdir(_BUCKET)
    store = f"s3://{_BUCKET}/laion-fmri.zarr"
    convert(get_data_dir(), store, "sub-01", parts=_PARTS, progress=False)
    return store


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError('moto\'s server does not answer: pip install "laion-zarr[notebooks]"')
