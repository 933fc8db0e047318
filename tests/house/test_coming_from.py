"""Each idiom of docs/coming-from-laion_fmri.md: both of its forms give the same result."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from places import ROOT

PAGE = ROOT / "docs" / "coming-from-laion_fmri.md"
COMPARED = (np.ndarray, xr.DataArray, pd.DataFrame, pd.Series, int, np.integer)


def pairs() -> list[tuple[str, str, str]]:
    """Section, then its blocks two by two: as it was, as it can be."""
    found = []
    section = "the beginning"
    for part in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE):
        blocks = re.findall(r"```python\n(.*?)```", part, flags=re.DOTALL)
        assert len(blocks) % 2 == 0, section
        section = part.splitlines()[0]
        found += [(section, *blocks[n : n + 2]) for n in range(0, len(blocks), 2)]
    return found


def run(code: str, names: dict[str, Any], section: str) -> set[str]:
    """Names that a block defines or changes."""
    before = dict(names)
    exec(compile(code, section, "exec"), names)
    return {name for name in names if name not in before or names[name] is not before[name]}


def check(was: Any, now: Any, what: str) -> None:
    was, now = np.asarray(was), np.asarray(now)
    assert was.shape == now.shape, what
    assert was.size, what
    if was.dtype.kind in "fiu":
        np.testing.assert_allclose(now, was, rtol=1e-4, atol=1e-5, err_msg=what)
    else:
        np.testing.assert_array_equal(now, was, err_msg=what)


def test_both_forms_agree(with_splits, bids_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAION_ZARR_STORE", str(with_splits))
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(bids_root))
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    compared: dict[str, set[str]] = {}
    for section, was, now in pairs():
        both = run(re.sub(r"\blaion_fmri\b", "laion_zarr.compat", was), old, section)
        both &= run(now, new, section)
        both = {name for name in both if isinstance(old[name], COMPARED)}
        for name in sorted(both):
            check(old[name], new[name], f"{section}: {name}")
        compared.setdefault(section, set()).update(both)
    _, *others = compared
    assert len(others) >= 10
    assert all(compared[section] for section in others), compared
    assert np.isnan(old["with_nan"]).any()
    assert (
        old["assembly"]
        .indexes["stimulus_id"]
        .equals(new["assembly"].indexes["stimulus_id"].set_names(["stimulus_id", "repetition"]))
    )
    assert old["assembly"]["region"].values.tolist() == new["assembly"]["region"].values.tolist()
    assert (tmp_path / "mean.nii.gz").exists()


def test_what_the_page_says_of_labels(sub):
    betas = sub.get_betas(roi="face")
    with pytest.raises(ValueError, match="0"):
        betas.mean(0)
    sub.metadata.insert(0, "mine", 1)
    assert "mine" not in sub.metadata
    with pytest.raises(ValueError, match="category"):
        sub.get_available_rois("none")
