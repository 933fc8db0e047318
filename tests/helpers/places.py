"""Folders outside tests/: the checkout, and the data that are no part of it."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the checkout
SHARED = ROOT.parent / "shared"  # beside the checkout; tests that need it are skipped without it
SAMPLE = Path(os.environ.get("LAION_ZARR_SAMPLE", SHARED / "sample"))
EXPECTED = SAMPLE / "expected"  # answers of the sample
PUBLISHED_SPLITS = SHARED / "data" / "splits"
