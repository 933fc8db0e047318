"""Stores as a stranger may make them: refused in words, or harmless; nothing outside is touched.

Every checksum of such a store is right. What is changed, and what is asked of it, are in the
helpers `strangers` and `stranger_readers`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import stranger_readers
from strangers import CHANGES, Forge, decoded, encoded
from trees import tree

from laion_zarr import convert, load_subject
from laion_zarr.conversion import add_splits
from laion_zarr.conversion.cli import main

pytestmark = pytest.mark.minutes

SECONDS, MEGABYTES = 2, 300
KEPT = ("FFA1", "EBA")  # each further ROI is ten files, and all are alike


@pytest.fixture(scope="module")
def theirs(bids_root, own_splits, tmp_path_factory) -> Path:
    """A store of one subject with a few of everything, in a folder with another, `outside`."""
    folder = tmp_path_factory.mktemp("strangers")
    mirror = Path(shutil.copytree(bids_root, folder / "bids"))
    for path in mirror.glob("derivatives/rois/**/*"):
        if path.is_file() and not any(name in path.name for name in KEPT):
            path.unlink()
    for path in mirror.glob("stimuli/*embeddings.h5"):
        if "CLIP" not in path.name:
            path.unlink()
    store = folder / "s.zarr"
    for parts in (None, "bold", "averages"):
        convert(mirror, store, subjects="01", parts=parts, n_workers=1, progress=False)
    add_splits(own_splits, store)
    shutil.copytree(store, folder / "outside" / "store")
    return store


def opened(store: Path, first: int, last: int) -> list[dict[str, Any]]:
    """What came of the cases from `first` to `last`, in a process of its own."""
    outside = store.parent / "outside"
    path = os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), *sys.path])
    result = subprocess.run(
        [sys.executable, stranger_readers.__file__, store, outside, str(first), str(last)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_stores_of_strangers(theirs, rounds, tally):
    before = tree(theirs.parent / "outside"), tree(theirs)
    n_cases = rounds(6, 200) * len(CHANGES)
    cases = opened(theirs, 0, n_cases)
    assert len(cases) == n_cases
    assert (tree(theirs.parent / "outside"), tree(theirs)) == before
    for case in cases:
        assert not case["wrong"], case
        assert not case["seen"], case
        assert case["seconds"] < SECONDS, case
        assert case["megabytes"] < MEGABYTES, case
    refused = sum(case["refused"] > 0 for case in cases)
    assert refused > len(cases) / 2
    tally("stores of strangers: refused by name", refused)
    tally("stores of strangers: harmless", len(cases) - refused)


def test_names_of_a_stranger_are_shown_as_text(theirs, tmp_path, capsys):
    store = Path(shutil.copytree(theirs, tmp_path / "s.zarr"))
    forge = Forge(store, tmp_path)
    names = decoded(forge.whole, "sub-01/voxels/category")
    names[0], names[1] = "<script>alert(1)</script>", "\x1b[2J\u202e"
    node = json.loads(forge.whole["sub-01/voxels/zarr.json"])
    node["attributes"]["masks"] = ["\x1b]0;title\x07"]
    changed = json.dumps(node, indent=2).encode()
    forge.apply({"sub-01/voxels/category/c/0": encoded(names), "sub-01/voxels/zarr.json": changed})
    sub = load_subject("01", store)
    assert "<script>" not in sub._repr_html_()
    assert main(["info", "--store", str(store)]) == 0
    shown = repr(sub) + "".join(capsys.readouterr())
    assert "\\x1b" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_the_watch_sees_what_leads_outside(theirs):
    """No test could fail if it saw nothing: here, a plain Zarr library follows a link."""
    code = """
import sys, zarr
from pathlib import Path
from stranger_readers import Watch, memory
store, outside = map(Path, sys.argv[1:])
watch = Watch(store, outside)
link = store / "link"
link.symlink_to(outside / "store" / "sub-01")
watch.on = True
zarr.open_group(link, mode="r")["ses-01/betas"][:3]
watch.on = False
link.unlink()
assert watch.seen
before = memory("VmRSS")
filled = b"x" * (1 << 26)
assert memory("VmHWM") - before > 1 << 15
"""
    path = os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), *sys.path])
    subprocess.run(
        [sys.executable, "-c", code, theirs, theirs.parent / "outside"],
        env=os.environ | {"PYTHONPATH": path},
        check=True,
    )
