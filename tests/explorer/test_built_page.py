"""The built page: as the sources say, small, complete, and from public places alone."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys

from places import ROOT

from laion_zarr.conversion.cli import main
from laion_zarr.explorer import page

SOURCES = ROOT / "explorer"
MOST_BYTES = 3 << 20


def test_names_are_those_of_the_schema():
    made = subprocess.run(
        [sys.executable, SOURCES / "names.py"], capture_output=True, text=True, check=True
    )
    assert made.stdout == (SOURCES / "src" / "names.ts").read_text(encoding="utf-8")


def test_names_are_in_the_built_page():
    names = runpy.run_path(str(SOURCES / "names.py"))["names"]()
    script = (page.FOLDER / page.SCRIPT).read_text(encoding="utf-8")
    for name in (names["rootAttribute"], *names["voxels"], *names["captions"]):
        assert name in script


def test_page_is_small_and_complete():
    files = {path.name: path.stat().st_size for path in page.FOLDER.iterdir()}
    assert set(files) == set(page.FILES)
    assert sum(files.values()) <= MOST_BYTES
    for name in (page.INDEX, "start.js", page.STYLE):
        assert (page.FOLDER / name).read_bytes() == (SOURCES / name).read_bytes()


def test_page_needs_no_other_place():
    index = (page.FOLDER / page.INDEX).read_text(encoding="utf-8")
    loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", index)
    assert sorted(loaded) == ["data:,", "explorer.css", "start.js"]
    assert "url(" not in (page.FOLDER / page.STYLE).read_text(encoding="utf-8")


def test_packages_are_pinned_and_come_from_anywhere():
    wanted = json.loads((SOURCES / "package.json").read_text(encoding="utf-8"))
    versions = {**wanted["dependencies"], **wanted["devDependencies"]}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values())
    locked = json.loads((SOURCES / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for name, package in locked.items():
        if name:
            assert package["integrity"].startswith("sha512-")
            assert "resolved" not in package


def test_licences_come_with_the_page():
    text = (page.FOLDER / "licenses.txt").read_text(encoding="utf-8")
    for name in ("@niivue/niivue", "zarrita", "fzstd"):
        assert f"{name} " in text


def test_export(tmp_path, capsys):
    folder = tmp_path / "new" / "site"
    assert main(["explore", "--export", str(folder)]) == 0
    assert "index.html?store=ADDRESS" in capsys.readouterr().out
    for name in page.FILES:
        assert (folder / name).read_bytes() == (page.FOLDER / name).read_bytes()
