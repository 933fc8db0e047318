"""The benchmarks run; the numbers that they measure are not judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from explorer_page import CHROMIUM, NO_BROWSER
from places import ROOT

BENCHMARKS = ROOT / "benchmarks"


@pytest.mark.minutes
def test_small_benchmark_of_the_stimuli(tmp_path):
    out = tmp_path / "figures.json"
    command = [sys.executable, str(BENCHMARKS / "stimuli.py"), "--size", "tiny", "--json", str(out)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    figures = json.loads(out.read_text())
    assert sum(figure["budget"] is not None for figure in figures) >= 6
    assert all(figure["what"] in run.stdout for figure in figures)


def test_small_benchmark_at_scale(tmp_path):
    pytest.importorskip("distributed")
    out = tmp_path / "figures.json"
    command = [sys.executable, str(BENCHMARKS / "scale.py"), "--size", "tiny", "--sessions", "2"]
    run = subprocess.run(
        [*command, "--json", str(out)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    figures = {figure["what"]: figure["value"] for figure in json.loads(out.read_text())}
    assert all(what in run.stdout for what in figures)
    assert sum(what.endswith("spilled") for what in figures) == 5
    assert not any(value for what, value in figures.items() if what.endswith("spilled"))


def expect_budgets(tmp_path, name, n_budgets):
    """Run a benchmark at its tiny size: it prints what it writes, and so many budgets."""
    out = tmp_path / "figures.json"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--size", "tiny", "--json", str(out)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    figures = json.loads(out.read_text())
    assert sum(figure["budget"] is not None for figure in figures) == n_budgets
    assert all(figure["what"] in run.stdout for figure in figures)


def test_small_benchmark_of_data_loading(tmp_path):
    pytest.importorskip("torch")
    expect_budgets(tmp_path, "torch_loading", 8)


def test_small_benchmark_of_a_gpu(tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "figures.json"
    script = str(BENCHMARKS / "gpu.py")
    command = [sys.executable, script, "--size", "tiny", "--json", str(out)]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(out.read_text())
    assert sum(figure["budget"] is not None for figure in figures) == 2
    assert all(figure["what"] in run.stdout for figure in figures)


@pytest.mark.minutes
def test_small_benchmark_prints_writes_and_draws_its_figures(tmp_path):
    out = tmp_path / "figures.json"
    command = [sys.executable, str(BENCHMARKS / "budgets.py"), "--size", "tiny", "--sessions", "3"]
    run = subprocess.run(
        [*command, "--json", str(out)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    figures = json.loads(out.read_text())
    assert all(figure["value"] > 0 for figure in figures)
    for promised in ("convert one session", "open, 3 sessions", "import laion_zarr"):
        assert any(f["what"].startswith(promised) and f["budget"] for f in figures)
        assert promised in run.stdout
    draw = [sys.executable, str(BENCHMARKS / "figures.py"), str(out), str(tmp_path)]
    subprocess.run(draw, cwd=tmp_path, capture_output=True, check=True)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "budgets.png",
        "growth.png",
        "ways.png",
    ]


@pytest.mark.parametrize(
    ("name", "n_budgets"), [("threads", 3), ("encoding", 1), ("averages", 5), ("idioms", 12)]
)
def test_small_benchmarks_of_statistics(tmp_path, name, n_budgets):
    out = tmp_path / "figures.json"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--size", "tiny", "--json", str(out)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    figures = json.loads(out.read_text())
    assert sum(figure["budget"] is not None for figure in figures) >= n_budgets
    assert all(figure["what"] in run.stdout for figure in figures)


@pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
def test_small_benchmark_of_the_explorer(tmp_path):
    pytest.importorskip("playwright")
    expect_budgets(tmp_path, "explorer", 10)


def test_throughput_is_drawn(tmp_path):
    names = ("raw read and decode", "noise ceiling", "split half", "averages by image")
    rates = {(name, n): 2.0 * n / (1 + k) for k, name in enumerate(names) for n in (1, 2)}
    figures = [
        {
            "what": f"{name}, {n} thread{'s' * (n > 1)}",
            "value": rate,
            "unit": "GB/s",
            "budget": None,
        }
        for (name, n), rate in rates.items()
    ]
    (tmp_path / "threads.json").write_text(json.dumps(figures))
    draw = [sys.executable, str(BENCHMARKS / "figures.py"), "threads.json", str(tmp_path)]
    subprocess.run(draw, cwd=tmp_path, capture_output=True, check=True)
    assert [path.name for path in tmp_path.glob("*.png")] == ["threads.png"]
