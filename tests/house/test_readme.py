"""README and docs: their Python runs, in order, on the synthetic store; their commands exist."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from code_blocks import blocks, run
from places import ROOT

from laion_zarr import convert
from laion_zarr.conversion.cli.commands import app
from laion_zarr.store import retry

DOCS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))
PAGES = ["README.md", *DOCS]

# Pages whose blocks run elsewhere.
ELSEWHERE = {
    "docs/cluster.md": "journeys/test_cluster.py, which needs dask.distributed",
    "docs/coming-from-laion_fmri.md": "test_coming_from.py, which compares both forms",
    "docs/pytorch.md": "torch_data/test_torch.py, which looks at the tensors",
    "docs/s3.md": "test_bucket_page_runs, which has a bucket",
}
# What commands may start with that are not ours: they need a network, or are the shell's.
FOREIGN = {"aws", "cd", "conda", "git", "perl", "pip", "python3", "source"}


RUN_HERE = [page for page in PAGES if page not in ELSEWHERE and blocks(page, "python", "pycon")]


@pytest.mark.parametrize("page", RUN_HERE)
def test_code_blocks_run(page, with_splits, bids_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", "")  # what a page sets is undone
    (tmp_path / "laion-zarr-demo").mkdir()
    (tmp_path / "laion-zarr-demo" / "data").symlink_to(bids_root)
    for link in (tmp_path / "laion-zarr-demo" / "laion-fmri.zarr", tmp_path / "laion-fmri.zarr"):
        link.symlink_to(with_splits)
    run(page)


def test_bucket_page_runs(servers, bids_root, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{servers.moto}")
    monkeypatch.setattr(retry, "PAUSES", (0.0,) * len(retry.PAUSES))
    monkeypatch.chdir(tmp_path)
    parts = ["betas", "metadata"]  # a small store: each of its files is a request
    convert(bids_root, "laion-fmri.zarr", "03", "ses-01", parts, progress=False)
    place = {"LocationConstraint": "us-west-2"}
    servers.s3.create_bucket(Bucket="my-bucket", CreateBucketConfiguration=place, ACL="public-read")
    run("docs/s3.md")


def test_exceptions_are_of_pages_with_code():
    assert all(blocks(page, "python", "pycon") for page in ELSEWHERE)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_of_kinds_that_are_checked(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    fences = re.findall(r"^ *```+(\S*)", text, flags=re.MULTILINE)
    assert len(fences) % 2 == 0
    assert not any(fences[1::2])
    assert set(fences[::2]) <= {"python", "pycon", "sh", "bash", "text"}


def commands(page: str) -> list[list[str]]:
    """Commands of the shell blocks, as lists of words, comments left out."""
    found = []
    for _, code in blocks(page, "sh", "bash"):
        for line in code.replace("\\\n", " ").splitlines():
            for command in line.split("&&"):
                words = shlex.split(command, comments=True)
                found += [words] if words else []
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh", "bash")])
def test_commands_exist(page):
    """Ours are understood, with all their options; extras and make's targets are there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
    for command, *arguments in commands(page):
        name = Path(command).name
        if name == "laion-zarr":
            assert exit_code(arguments) == 0, arguments
        elif name == "make":
            assert set(arguments) <= set(targets)
        elif name == "pytest":
            assert "test" in project["optional-dependencies"]
        else:
            assert name in FOREIGN, f"{page}: {name}"
        for extras in re.findall(r"\.\[(.*?)\]", " ".join(arguments)):
            assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_each_extra_is_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert set(project["optional-dependencies"]) <= set(re.findall(r"^\| `(\w+)` \|", text, re.M))


def exit_code(arguments: list[str]) -> object:
    """Exit code of parsing a command line, or of options that print and exit (--version)."""
    try:
        app.parse_args(arguments)
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.mark.parametrize("page", ["CHANGELOG.md", *PAGES])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), target
