"""Everything that README and docs show as Python runs, in order, on the synthetic store."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "docs/store.md"]
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_run(page, with_splits, bids_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", "")  # what a page sets is undone
    (tmp_path / "laion-zarr-demo").mkdir()
    (tmp_path / "laion-zarr-demo" / "data").symlink_to(bids_root)
    for link in (tmp_path / "laion-zarr-demo" / "laion-fmri.zarr", tmp_path / "laion-fmri.zarr"):
        link.symlink_to(with_splits)
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", *DOCS])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), target
