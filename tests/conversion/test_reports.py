"""How reports show themselves: what was done, what is missing, the next call; on one screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from laion_zarr.conversion.options import Report, VerifyReport
from laion_zarr.download.fetch import Report as DownloadReport
from laion_zarr.errors import SourceError

MANY = [f"sub-01 ses-{n:02}" for n in range(1, 31)]


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (
            Report(converted=MANY, missing=["sub-01: no <events>"] * 40),
            ["30 (sub-01 ses-01, ", "sub-01: no <events>", "and 30 more", "laion_zarr.verify()"],
        ),
        (
            Report(planned=MANY, disk_nbytes=3 * 10**9, unchanged=["sub-01 voxels"]),
            ["up to 3.00 GB", "sub-01 ses-10", "and 20 more", "1 (sub-01 voxels)", "convert()"],
        ),
        (
            Report(failed={"sub-01 ses-02": SourceError("betas are cut off")}),
            ["sub-01 ses-02", "betas are cut off", "mend what failed"],
        ),
        (
            VerifyReport(n_files=1409, n_bytes=2 * 10**9),
            ["1,409 files, 2.00 GB", "none", "verify(deep=True)"],
        ),
        (
            VerifyReport(
                problems=["x/c/0 is missing"], notes=["not in the mirror"], n_values=1000, deep=True
            ),
            ["1,000 values", "x/c/0 is missing", "not in the mirror", "verify() again"],
        ),
    ],
    ids=["converted", "planned", "failed", "whole", "damaged"],
)
def test_text_and_html_say_it(report, said):
    text, html = repr(report), report._repr_html_()
    assert len(text.splitlines()) <= 25
    assert all(len(line) <= 100 for line in text.splitlines())
    for words in said:
        assert words in text
        assert words.replace("<", "&lt;").replace(">", "&gt;") in html


def test_download():
    html = DownloadReport(Path("/data"), ("a", "b", "c", "d"), (), 5_000_000)._repr_html_()
    for words in ("4 (a, b, c, …), 5.0 MB", "none", "/data", "laion_zarr.convert()"):
        assert words in html
