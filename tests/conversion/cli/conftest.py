"""The demo as its command makes it, without matplotlib: small, and made once for all tests here."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from types import SimpleNamespace

import pytest

from laion_zarr import errors
from laion_zarr.conversion.cli import main
from laion_zarr.conversion.synthetic import SIZES


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory):
    """`folder` where the example of ``laion-zarr demo`` ran, its `code` and the `lines` it said."""
    folder = tmp_path_factory.mktemp("demo")
    said = io.StringIO()
    found = errors.find_spec
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(SIZES, "demo", SIZES["tiny"])
        patch.setattr(errors, "find_spec", lambda n: None if n == "matplotlib" else found(n))
        with redirect_stdout(said):
            code = main(["demo", "--dir", "laion-zarr-demo", "--quiet"])
    return SimpleNamespace(folder=folder, code=code, lines=said.getvalue().splitlines())


@pytest.fixture
def on_demo(demo_run, monkeypatch):
    """The folder that holds the demo, as the working directory."""
    monkeypatch.chdir(demo_run.folder)
    return demo_run.folder
