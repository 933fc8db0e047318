"""The benchmark runs; what it measures is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "full_session.py"


def test_small_benchmark_prints_and_writes_its_figures(tmp_path):
    out = tmp_path / "figures.json"
    command = [sys.executable, str(SCRIPT), "--size", "tiny", "--json", str(out)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    figures = json.loads(out.read_text())
    assert figures["laiongeneral: requests"] >= 1
    assert all(value > 0 for value in figures.values())
    assert "whole brain: ÷ plain zarr" in run.stdout
